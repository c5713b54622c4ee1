package io.remask;

/** Hears how far a loading is. */
public interface Progress {
    /** {@code done} of {@code total} bytes are there. Returns false to cancel. */
    boolean onProgress(long done, long total);
}
