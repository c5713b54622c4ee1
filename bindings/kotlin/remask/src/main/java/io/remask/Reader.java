package io.remask;

import java.io.IOException;
import java.nio.ByteBuffer;

/** A model file behind a callback: an asset of a package, a part of a larger file. */
public interface Reader {
    /** Size of the file in bytes. */
    long size() throws IOException;

    /**
     * Fills {@code into} with the bytes at {@code offset}. Called from the loading thread, in rising order.
     * {@code into} is native memory: it must not be kept. An exception ends the loading and comes out of it.
     */
    void readAt(long offset, ByteBuffer into) throws IOException;
}
