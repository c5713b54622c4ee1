package io.remask;

import java.io.IOException;
import java.io.RandomAccessFile;
import java.lang.ref.WeakReference;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.channels.FileChannel;
import java.util.Arrays;
import java.util.List;

/** Tests of the JNI layer, run with -Xcheck:jni: NativeTest MODEL. Prints the tokens of a run, for the caller to compare. */
final class NativeTest {
    private static final long[] LOAD = {0, 0, 0, 0, 0};
    private static int nChecks;

    private static void check(boolean holds, String what) {
        nChecks++;
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    private interface Body {
        void run() throws Exception;
    }

    private static void fails(int status, Body body) throws Exception {
        try {
            body.run();
        } catch (RemaskException e) {
            check(e.getStatus() == status, "status " + e.getStatus() + " in place of " + status + ": " + e);
            check(!e.getMessage().isEmpty(), "an error without a message");
            return;
        }
        throw new AssertionError("no failure with status " + status);
    }

    private static byte[] utf8(String text) {
        return Native.utf8(text);
    }

    private static Reader reader(RandomAccessFile file) {
        return new Reader() {
            @Override
            public long size() throws IOException {
                return file.length();
            }

            @Override
            public void readAt(long offset, ByteBuffer into) throws IOException {
                FileChannel channel = file.getChannel();
                while (into.hasRemaining()) {
                    int n = channel.read(into, offset);
                    if (n < 0) {
                        throw new IOException("the file ends early");
                    }
                    offset += n;
                }
            }
        };
    }

    private static long[] numbers(long cancel) {
        // As tests/c/generate.c: 12 steps, blocks of 8, seed 7.
        return new long[] {0, 12, 8, 0, 0, -1, -1, -1, 7, 0, cancel, 0, 0, 0, 0, 0};
    }

    private static final double[] REALS = {0, 0.8, 0.95, 0, 0};

    private static int[] generate(long model) throws Exception {
        long session = Native.sessionNew(model, 1, 0, 0);
        long canvas = Native.canvasNew(model);
        Native.canvasAppendText(canvas, utf8("Once upon a time"), 0, false);
        Native.canvasAppendMasks(canvas, 16);
        long run = Native.runNew(session, new long[] {canvas}, numbers(0), REALS, null, new byte[0], new int[0], null);
        fails(RemaskException.BUSY, () -> Native.canvasAppendMasks(canvas, 1));
        long[] facts = new long[16];
        int nFilled = 0;
        int[] last;
        do {
            last = Native.runStep(run, facts);
            int nChanged = (int) facts[14];
            int nSlots = (int) facts[15];
            check(last.length == 3 * nChanged + 2 * nSlots, "the report's length");
            for (int i = 0; i < nChanged; i++) {
                float confidence = Float.intBitsToFloat(last[3 * i + 2]);
                check(confidence >= 0 && confidence <= 1, "a confidence of " + confidence);
                check(last[3 * nChanged + last[3 * i]] == last[3 * i + 1], "a change that is not on the canvas");
                check(last[3 * nChanged + nSlots + last[3 * i]] == 2, "a change that is not filled");
            }
            nFilled += nChanged;
            check(facts[9] + nFilled == 16, "slots left and slots filled");
        } while (facts[2] == 0);
        check(facts[6] == 12 && facts[11] == 12, "12 steps, 12 passes");
        // The handles may go in any order.
        Native.sessionFree(session);
        int[] tokens = Native.canvasTokens(canvas);
        Native.canvasFree(canvas);
        check(Native.runReport(run, 0, facts).length == 2 * facts[15] + 3 * facts[14], "the report asked again");
        fails(RemaskException.NOT_FOUND, () -> Native.runReport(run, 1, new long[16]));
        Native.runFree(run);
        return tokens;
    }

    private static void textsAreRealUtf8(long model) throws Exception {
        String hard = "Z\u00fcrich \u65e5\u672c \ud83e\udd8a \0 end";
        check(new String(utf8(hard), "UTF-8").equals(hard), "UTF-8 and back");
        check(utf8("\ud83e\udd8a").length == 4, "a character outside the BMP has 4 bytes, not 6");
        check(utf8("\0").length == 1, "a NUL is one byte, not two");
        check(Arrays.equals(utf8("a\ud83eb"), "a\uFFFDb".getBytes("UTF-8")), "half a pair");
        int[] tokens = Native.encode(model, utf8(hard), 0);
        check(Native.text(Native.decode(model, tokens, 0)).equals(hard), "tokens and back");
        long decoder = Native.decoderNew(model, 0);
        StringBuilder out = new StringBuilder();
        for (int token : tokens) {
            out.append(Native.text(Native.decoderPush(decoder, new int[] {token})));
        }
        out.append(Native.text(Native.decoderPush(decoder, null)));
        Native.decoderFree(decoder);
        check(out.toString().equals(hard), "streamed: " + out);
        check(Native.encode(model, new byte[0], 0).length == 0, "no text, no tokens");
        // The message of an error comes as UTF-8 too.
        try {
            Native.modelLoad(utf8("/\u65e5\ud83e\udd8a.gguf"), LOAD, null, null, null);
            throw new AssertionError("loaded nothing");
        } catch (RemaskException e) {
            check(e instanceof RemaskException.BadFile, "a kind of its own");
            check(e.getMessage().contains("\u65e5\ud83e\udd8a"), e.getMessage());
        }
    }

    private static void allWaysOfLoadingGiveTheSame(String path, int[] expected) throws Exception {
        try (RandomAccessFile file = new RandomAccessFile(path, "r")) {
            long[] heard = new long[2];
            Reader reader = reader(file);
            long model = Native.modelLoadReader(reader, reader.size(), LOAD, null, null, (done, total) -> {
                heard[0]++;
                heard[1] = Math.max(heard[1], done);
                return true;
            });
            check(heard[0] > 0 && heard[1] > 0, "progress is heard");
            check(Arrays.equals(generate(model), expected), "through a reader");
            Native.modelFree(model);

            ByteBuffer map = file.getChannel().map(FileChannel.MapMode.READ_ONLY, 0, file.length());
            model = Native.modelLoadBuffer(map, 0, map.capacity(), LOAD, null, null, null);
            check(Arrays.equals(generate(model), expected), "in a mapped buffer");
            Native.modelFree(model);

            // A buffer is kept while a model lies in it, and no longer.
            ByteBuffer memory = ByteBuffer.allocateDirect((int) file.length() + 32);
            map.get(new byte[0]);
            memory.put(map);
            WeakReference<ByteBuffer> weak = new WeakReference<>(memory);
            model = Native.modelLoadBuffer(memory, 0, file.length(), LOAD, null, null, null);
            long used = model;
            memory = null;
            System.gc();
            check(Arrays.equals(generate(used), expected), "in a buffer that nobody else holds");
            // The last use may end on a thread that Java does not know; here it is one that it knows.
            Thread thread = new Thread(() -> Native.modelFree(used));
            thread.start();
            thread.join();
            for (int i = 0; i < 50 && weak.get() != null; i++) {
                System.gc();
                Thread.sleep(20);
            }
            check(weak.get() == null, "the buffer is let go");
        }
    }

    private static void exceptionsOfCallbacksComeOut(String path) throws Exception {
        try (RandomAccessFile file = new RandomAccessFile(path, "r")) {
            Reader broken = new Reader() {
                @Override
                public long size() {
                    return 1 << 20;
                }

                @Override
                public void readAt(long offset, ByteBuffer into) throws IOException {
                    throw new IOException("asset gone");
                }
            };
            try {
                Native.modelLoadReader(broken, broken.size(), LOAD, null, null, null);
                throw new AssertionError("loaded nothing");
            } catch (Throwable e) {
                check(e instanceof IOException && e.getMessage().equals("asset gone"), "the reader's own: " + e);
            }
            try {
                Native.modelLoadReader(reader(file), file.length(), LOAD, null, null, (done, total) -> {
                    throw new IllegalStateException("no more");
                });
                throw new AssertionError("loaded");
            } catch (IllegalStateException e) {
                check(e.getMessage().equals("no more"), "the progress callback's own");
            }
            fails(RemaskException.CANCELLED, () -> Native.modelLoadReader(
                    reader(file), file.length(), LOAD, null, null, (done, total) -> false));
            // Shares are for devices, and the processor is none.
            long[] shared = Arrays.copyOf(LOAD, LOAD.length + 2);
            shared[LOAD.length] = Double.doubleToRawLongBits(3);
            shared[LOAD.length + 1] = Double.doubleToRawLongBits(1);
            fails(RemaskException.INVALID_ARGUMENT, () -> Native.modelLoad(
                    utf8(path), shared, Native.terminated("cpu"), null, null));
            for (long mode : new long[] {1, 2}) {
                long[] split = LOAD.clone();
                split[4] = mode;
                fails(RemaskException.INVALID_ARGUMENT, () -> Native.modelLoad(
                        utf8(path), split, Native.terminated("cpu"), null, null));
            }
        }
    }

    private static void nonsenseIsRefused(long model, long session) throws Exception {
        fails(RemaskException.INVALID_ARGUMENT, () -> Native.encode(0, utf8("x"), 0));
        fails(RemaskException.INVALID_ARGUMENT, () -> Native.canvasNew(0));
        fails(RemaskException.INVALID_ARGUMENT, () -> Native.sessionNew(0, 0, 0, 0));
        fails(RemaskException.INVALID_ARGUMENT, () -> Native.modelLoadBuffer(
                ByteBuffer.allocate(64), 0, 64, LOAD, null, null, null)); // not direct
        fails(RemaskException.INVALID_ARGUMENT, () -> Native.modelLoadBuffer(
                ByteBuffer.allocateDirect(64), 32, 64, LOAD, null, null, null)); // beyond its end
        fails(RemaskException.FORMAT, () -> Native.modelLoadBuffer(
                ByteBuffer.allocateDirect(64), 0, 64, LOAD, null, null, null));
        fails(RemaskException.NOT_FOUND, () -> Native.metaKey(model, -1));
        fails(RemaskException.NOT_FOUND, () -> Native.metaValue(model, utf8("no.such.key")));
        fails(RemaskException.NOT_FOUND, () -> Native.tokenText(model, -5));
        fails(RemaskException.INVALID_ARGUMENT, () -> Native.renderChat(model, utf8("user"), new int[] {4, 9}, 0));
        long canvas = Native.canvasNew(model);
        fails(RemaskException.INVALID_ARGUMENT, () -> Native.canvasMask(canvas, 5, 2));
        fails(RemaskException.INVALID_ARGUMENT, () -> Native.runNew(
                session, new long[] {0}, numbers(0), REALS, null, null, null, null));
        try {
            Native.canvasCount(canvas, new long[1]);
            throw new AssertionError("wrote beyond an array");
        } catch (ArrayIndexOutOfBoundsException e) {
            nChecks++;
        }
        try {
            Native.runNew(session, new long[] {canvas}, new long[2], REALS, null, null, null, null);
            throw new AssertionError("read beyond an array");
        } catch (ArrayIndexOutOfBoundsException e) {
            nChecks++;
        }
        Native.canvasFree(canvas);
        Native.canvasFree(0);
        Native.runFree(0);
        Native.modelFree(0);
    }

    private static void scoresAndLogits(long model, long session) throws Exception {
        int[] tokens = Native.encode(model, utf8("The fox sleeps."), 0);
        double[] score = new double[4];
        Native.score(session, tokens, 1, -1, new long[] {1, 0, 0, 0, 0}, 0, score);
        check(score[0] < 0 && score[2] == tokens.length - 1 && score[3] == tokens.length - 1, Arrays.toString(score));
        int[] a = Native.encode(model, utf8(" a fox"), 0);
        int[] b = Native.encode(model, utf8(" of of of"), 0);
        int[] both = Arrays.copyOf(a, a.length + b.length);
        System.arraycopy(b, 0, both, a.length, b.length);
        double[] out = new double[4];
        int best = Native.choose(session, tokens, both, new int[] {a.length, b.length}, new long[] {1, 0, 0, 0, 0}, 0, out);
        check(best == (out[0] >= out[1] ? 0 : 1) && Math.abs(out[2] + out[3] - 1) < 1e-9, Arrays.toString(out));

        long[] facts = new long[15];
        String arch = Native.text(Native.modelInfo(model, facts));
        check(arch.equals("llada") && facts[2] > 0 && facts[13] > 0, "the model's facts");
        int[] rows = {0, tokens.length - 1};
        long n = Native.logits(session, tokens, rows, null);
        check(n == 2 * facts[2], "floats needed");
        FloatBuffer floats = ByteBuffer.allocateDirect((int) n * 4).order(ByteOrder.nativeOrder()).asFloatBuffer();
        check(Native.logits(session, tokens, rows, floats) == n, "floats written");
        boolean some = false;
        for (int i = 0; i < n; i++) {
            check(!Float.isNaN(floats.get(i)), "a logit that is no number");
            some |= floats.get(i) != 0;
        }
        check(some, "logits are written");
        FloatBuffer little = ByteBuffer.allocateDirect(16).order(ByteOrder.nativeOrder()).asFloatBuffer();
        fails(RemaskException.BUFFER_TOO_SMALL, () -> Native.logits(session, tokens, rows, little));
        fails(RemaskException.INVALID_ARGUMENT, () -> Native.logits(session, tokens, rows, FloatBuffer.allocate(9999)));
        check(Native.embeddings(session, tokens, 1, null) == facts[3], "a pooled state");
    }

    private static void cancelStops(long model, long session) throws Exception {
        long cancel = Native.cancelNew();
        long canvas = Native.canvasNew(model);
        Native.canvasAppendMasks(canvas, 8);
        long run = Native.runNew(session, new long[] {canvas}, numbers(cancel), REALS, null, null, null, null);
        Native.cancelSet(cancel);
        check(Native.cancelIsSet(cancel), "it is set");
        fails(RemaskException.CANCELLED, () -> Native.runStep(run, new long[16]));
        Native.cancelReset(cancel);
        Native.runStep(run, new long[16]);
        Native.cancelFree(cancel);
        Native.runFree(run);
        Native.canvasFree(canvas);
    }

    private static void chats(long model) throws Exception {
        Native.Texts texts = new Native.Texts(List.of("user", "Where is the \ud83e\udd8a?"));
        String rendered = Native.text(Native.renderChat(model, texts.all, texts.lengths, 0));
        check(rendered.contains("Where is the \ud83e\udd8a?"), rendered);
        int[] tokens = Native.encodeChat(model, texts.all, texts.lengths, 0);
        long canvas = Native.canvasNew(model);
        Native.canvasAppendChat(canvas, texts.all, texts.lengths, 0);
        check(Arrays.equals(Native.canvasTokens(canvas), tokens), "the chat's tokens on the canvas");
        Native.canvasFree(canvas);
    }

    /** A handle is freed once, and not while a call uses it. */
    private static void handlesWaitForTheirCalls() {
        int[] freed = {0};
        Handle handle = new Handle("thing", 42, address -> freed[0] += (int) address);
        check(handle.take() == 42, "the address");
        handle.take();
        handle.close();
        handle.close();
        handle.give();
        check(freed[0] == 0, "freed under a call");
        handle.give();
        check(freed[0] == 42, "freed once");
        try {
            handle.take();
            throw new AssertionError("used after close");
        } catch (IllegalStateException e) {
            nChecks++;
        }
    }

    /** Local references must not pile up in a thread that stays in one loop. */
    private static void manyCalls(long model) {
        byte[] text = utf8("Once upon a time");
        for (int i = 0; i < 20000; i++) {
            int[] tokens = Native.encode(model, text, 0);
            check(tokens.length > 0, "tokens");
        }
    }

    public static void main(String[] args) throws Exception {
        check(!Native.text(Native.version()).isEmpty(), "a version");
        check(Native.deviceCount() >= 1, "a device");
        check(Native.text(Native.device(0, new long[3])).contains("\n"), "name and description");
        fails(RemaskException.NOT_FOUND, () -> Native.device(999, new long[3]));
        // The library of these tests has its backends inside.
        fails(RemaskException.UNSUPPORTED, () -> Native.backendsLoad(utf8("/nowhere")));
        long model = Native.modelLoad(utf8(args[0]), LOAD, Native.terminated("cpu"), null, null);
        long session = Native.sessionNew(model, 1, 0, 0);
        int[] expected = generate(model);
        textsAreRealUtf8(model);
        allWaysOfLoadingGiveTheSame(args[0], expected);
        exceptionsOfCallbacksComeOut(args[0]);
        nonsenseIsRefused(model, session);
        scoresAndLogits(model, session);
        cancelStops(model, session);
        chats(model);
        handlesWaitForTheirCalls();
        manyCalls(model);
        Native.sessionFree(session);
        Native.modelFree(model);
        StringBuilder line = new StringBuilder("tokens");
        for (int token : expected) {
            line.append(' ').append(token);
        }
        System.out.println(line);
        System.out.println("checks " + nChecks);
    }
}
