package io.remask;

import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import java.nio.charset.StandardCharsets;
import java.util.List;

/**
 * The functions of remask_jni, one for one over remask.h. Texts cross as UTF-8 bytes, never as JNI's modified
 * UTF-8; lists of texts as one array and the lengths; handles as addresses, which {@link Handle} guards.
 */
final class Native {
    private Native() {}

    static {
        System.loadLibrary("remask_jni");
        // One ABI number is one set of declarations; a newer library of the same number serves as well.
        if (abiVersion() != abiExpected()) {
            throw new UnsatisfiedLinkError(
                    "libremask has ABI " + abiVersion() + "; remask_jni was built for " + abiExpected());
        }
    }

    // Called by the C side.
    static RemaskException failure(int status, byte[] message) {
        return RemaskException.of(status, text(message));
    }

    static String text(byte[] utf8) {
        return new String(utf8, StandardCharsets.UTF_8);
    }

    /** Half a surrogate pair is no character: U+FFFD stands for it. */
    static byte[] utf8(String text) {
        StringBuilder whole = null;
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (!Character.isSurrogate(c)) {
                continue;
            }
            if (Character.isHighSurrogate(c)
                    && i + 1 < text.length()
                    && Character.isLowSurrogate(text.charAt(i + 1))) {
                i++;
                continue;
            }
            if (whole == null) {
                whole = new StringBuilder(text);
            }
            whole.setCharAt(i, '\uFFFD');
        }
        return (whole == null ? text : whole.toString()).getBytes(StandardCharsets.UTF_8);
    }

    /** With the NUL that some arguments end with; null for null. */
    static byte[] terminated(String text) {
        if (text == null) {
            return null;
        }
        if (text.indexOf('\0') >= 0) {
            throw RemaskException.of(RemaskException.INVALID_ARGUMENT, "a name or path contains a NUL");
        }
        return utf8(text + '\0');
    }

    /** Texts as one array; {@link #lengths} has where each ends. */
    static final class Texts {
        final byte[] all;
        final int[] lengths;

        Texts(List<String> texts) {
            byte[][] parts = new byte[texts.size()][];
            lengths = new int[parts.length];
            int total = 0;
            for (int i = 0; i < parts.length; i++) {
                parts[i] = utf8(texts.get(i));
                lengths[i] = parts[i].length;
                total = Math.addExact(total, lengths[i]);
            }
            all = new byte[total];
            int at = 0;
            for (byte[] part : parts) {
                System.arraycopy(part, 0, all, at, part.length);
                at += part.length;
            }
        }
    }

    static native byte[] version();
    static native int abiVersion();
    static native int abiExpected();
    static native int deviceCount();
    static native byte[] device(int index, long[] facts);
    static native long backendsLoad(byte[] folder);

    static native long cancelNew();
    static native void cancelSet(long cancel);
    static native void cancelReset(long cancel);
    static native boolean cancelIsSet(long cancel);
    static native void cancelFree(long cancel);

    // numbers: flags, verify, layers on the device, cancel token, split mode. device, tokenizer: terminated or null.
    static native long modelLoad(byte[] path, long[] numbers, byte[] device, byte[] tokenizer, Progress progress);
    static native long modelLoadBuffer(ByteBuffer buffer, long begin, long nBytes, long[] numbers, byte[] device,
            byte[] tokenizer, Progress progress);
    static native long modelLoadReader(Reader reader, long nBytes, long[] numbers, byte[] device, byte[] tokenizer,
            Progress progress);
    static native void modelFree(long model);
    static native byte[] modelInfo(long model, long[] facts);
    static native int metaCount(long model);
    static native byte[] metaKey(long model, int index);
    static native byte[] metaValue(long model, byte[] key);
    static native void estimate(long model, byte[] path, long nSlots, long nMasked, long[] facts);

    static native int[] encode(long model, byte[] text, int flags);
    static native byte[] decode(long model, int[] tokens, int flags);
    static native byte[] tokenText(long model, int token);
    static native int tokenAttr(long model, int token);
    static native int tokenFind(long model, byte[] text);
    static native long decoderNew(long model, int flags);
    static native byte[] decoderPush(long decoder, int[] tokens);
    static native void decoderFree(long decoder);
    static native byte[] renderChat(long model, byte[] texts, int[] lengths, int flags);
    static native int[] encodeChat(long model, byte[] texts, int[] lengths, int flags);

    static native long canvasNew(long model);
    static native long canvasCopy(long canvas);
    static native void canvasFree(long canvas);
    static native void canvasAppendText(long canvas, byte[] text, int flags, boolean holes);
    static native void canvasAppendTokens(long canvas, int[] tokens);
    static native void canvasAppendMasks(long canvas, long n);
    static native void canvasAppendChat(long canvas, byte[] texts, int[] lengths, int flags);
    static native void canvasMask(long canvas, long begin, long end);
    static native void canvasFix(long canvas, long begin, long end);
    static native void canvasSet(long canvas, long begin, int[] tokens);
    static native void canvasForbid(long canvas, long begin, long end, int[] tokens);
    static native void canvasTruncate(long canvas, long nSlots);
    static native void canvasCount(long canvas, long[] facts);
    static native int[] canvasTokens(long canvas);
    static native byte[] canvasSlots(long canvas);
    static native byte[] canvasText(long canvas, long begin, long end, int flags);
    static native byte[] canvasResponse(long canvas, int flags);

    static native long sessionNew(long model, int nThreads, int flash, int maxCanvas);
    static native void sessionFree(long session);
    static native void sessionStats(long session, long[] facts);

    static native long runNew(long session, long[] canvases, long[] numbers, double[] reals, int[] suppress,
            byte[] stops, int[] stopLengths, long[] seeds);
    static native int[] runStep(long run, long[] facts);
    static native int[] runReport(long run, int iCanvas, long[] facts);
    static native void runBeginStep(long run);
    static native void runReplace(long run, int iCanvas, int[] tokens);
    static native void runFree(long run);

    static native void score(long session, int[] tokens, long begin, long end, long[] numbers, double guidance,
            double[] facts);
    static native int choose(long session, int[] prompt, int[] choices, int[] lengths, long[] numbers,
            double guidance, double[] out);
    static native long logits(long session, int[] tokens, int[] rows, FloatBuffer into);
    static native long embeddings(long session, int[] tokens, int pooling, FloatBuffer into);
}
