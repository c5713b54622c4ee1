package io.remask;

/**
 * An object of the library. It is freed when it is closed and no call uses it any more, so that closing it on
 * one thread never pulls it from under another.
 */
final class Handle implements AutoCloseable {
    interface Free {
        void free(long address);
    }

    private final String name;
    private final Free free;
    private long address;
    private int nUses;
    private boolean closed;

    Handle(String name, long address, Free free) {
        this.name = name;
        this.address = address;
        this.free = free;
    }

    /** The address, good until {@link #give}. */
    synchronized long take() {
        if (closed) {
            throw new IllegalStateException("the " + name + " is closed");
        }
        nUses++;
        return address;
    }

    void give() {
        long last = 0;
        synchronized (this) {
            nUses--;
            if (closed && nUses == 0) {
                last = address;
                address = 0;
            }
        }
        if (last != 0) {
            free.free(last);
        }
    }

    @Override
    public void close() {
        long last = 0;
        synchronized (this) {
            if (closed) {
                return;
            }
            closed = true;
            if (nUses == 0) {
                last = address;
                address = 0;
            }
        }
        if (last != 0) {
            free.free(last);
        }
    }
}
