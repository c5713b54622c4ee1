package io.remask;

/** A failed call: the library's status and message. Subclasses are what a caller acts differently on. */
public class RemaskException extends RuntimeException {
    private static final long serialVersionUID = 1;

    /** An argument or option is out of range, or options contradict each other. */
    public static final int INVALID_ARGUMENT = 1;
    /** A file cannot be opened, read or mapped. */
    public static final int IO = 2;
    /** A file is not what its format demands. */
    public static final int FORMAT = 3;
    /** A size in a file or call is over a stated limit. */
    public static final int LIMIT = 4;
    /** Well-formed, but of a kind that this build cannot serve. */
    public static final int UNSUPPORTED = 5;
    /** The file's parts do not make a model. */
    public static final int MODEL = 6;
    /** The vocabulary does not hold together, or cannot spell a text. */
    public static final int TOKENIZER = 7;
    /** No chat template, or it refuses the messages. */
    public static final int TEMPLATE = 8;
    /** A weight or a result is not a finite number. */
    public static final int NUMERIC = 9;
    /** Memory or threads ran out. */
    public static final int RESOURCE = 10;
    /** A device is missing or at fault. */
    public static final int DEVICE = 11;
    /** A cancel token or a callback stopped the call. */
    public static final int CANCELLED = 12;
    /** Another call is at work on the same object. */
    public static final int BUSY = 13;
    /** Evaluation text is not as it should be. */
    public static final int DATA = 14;
    /** A fault in the library. */
    public static final int INTERNAL = 15;
    /** A buffer is too small. */
    public static final int BUFFER_TOO_SMALL = 16;
    /** There is no entry of that name or index. */
    public static final int NOT_FOUND = 17;

    private final int status;

    RemaskException(int status, String message) {
        super(message);
        this.status = status;
    }

    /** One of the numbers above, or another from a newer library. */
    public int getStatus() {
        return status;
    }

    /** A cancel token or a callback stopped the call. What was filled stays on the canvases. */
    public static final class Cancelled extends RemaskException {
        private static final long serialVersionUID = 1;

        Cancelled(String message) {
            super(CANCELLED, message);
        }
    }

    /** Another call or run is at work on the same object. Nothing was changed. */
    public static final class Busy extends RemaskException {
        private static final long serialVersionUID = 1;

        Busy(String message) {
            super(BUSY, message);
        }
    }

    /** The file is no model that this library can run, or cannot be read. */
    public static final class BadFile extends RemaskException {
        private static final long serialVersionUID = 1;

        BadFile(int status, String message) {
            super(status, message);
        }
    }

    static RemaskException of(int status, String message) {
        switch (status) {
            case CANCELLED:
                return new Cancelled(message);
            case BUSY:
                return new Busy(message);
            case IO:
            case FORMAT:
            case UNSUPPORTED:
            case MODEL:
                return new BadFile(status, message);
            default:
                return new RemaskException(status, message);
        }
    }
}
