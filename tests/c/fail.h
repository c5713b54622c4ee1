/* Calls of the system's library that fail when they are told to: memory of 64 KiB and more, threads, writes to
 * files, short writes, syncs, renames. They come before the system's own, in a program or in a library that is
 * loaded first. Linux with glibc; include it after `#define _GNU_SOURCE`. */
#ifndef FAIL_H
#define FAIL_H

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LEAST = 64 * 1024 };
enum fault { NONE, MEMORY, THREAD, WRITE, SHORT_WRITE, SYNC, RENAME, N_FAULTS };

static _Atomic int armed;   /* an enum fault */
static _Atomic long left;   /* calls that still go well */
static int forever;         /* whether the calls after it fail too */

/* What is to be noted of a call that fails: the including file's. */
static void struck(void);

static int strikes(enum fault kind) {
    if (atomic_load(&armed) != (int)kind) {
        return 0;
    }
    long before = atomic_fetch_sub(&left, 1);
    if (before == 0 || (before < 0 && forever)) {
        struck();
        return 1;
    }
    return 0;
}

extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *old, size_t n);
extern void *__libc_memalign(size_t alignment, size_t n);

static int refused(size_t n) {
    if (n < LEAST || !strikes(MEMORY)) {
        return 0;
    }
    errno = ENOMEM;
    return 1;
}

void *malloc(size_t n) { return refused(n) ? NULL : __libc_malloc(n); }
void *calloc(size_t n, size_t size) { return refused(n * size) ? NULL : __libc_calloc(n, size); }
void *realloc(void *old, size_t n) { return refused(n) ? NULL : __libc_realloc(old, n); }
void *aligned_alloc(size_t alignment, size_t n) { return refused(n) ? NULL : __libc_memalign(alignment, n); }
int posix_memalign(void **out, size_t alignment, size_t n) {
    void *found = refused(n) ? NULL : __libc_memalign(alignment, n);
    if (found == NULL) {
        return ENOMEM;
    }
    *out = found;
    return 0;
}

/* What comes next after this one, by name. */
#define NEXT(type, name) ((type)(uintptr_t)dlsym(RTLD_NEXT, name))

int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*body)(void *), void *argument) {
    typedef int (*create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    return strikes(THREAD) ? EAGAIN : NEXT(create, "pthread_create")(thread, attr, body, argument);
}

static int is_file(int fd) {
    struct stat about;
    return atomic_load(&armed) != NONE && fstat(fd, &about) == 0 && S_ISREG(about.st_mode);
}

static ssize_t refuse(int error) {
    errno = error;
    return -1;
}

ssize_t write(int fd, const void *bytes, size_t n) {
    typedef ssize_t (*put)(int, const void *, size_t);
    int file = is_file(fd);
    if (file && strikes(WRITE)) {
        return refuse(ENOSPC);
    }
    if (file && n > 1 && strikes(SHORT_WRITE)) {
        n /= 2;
    }
    return NEXT(put, "write")(fd, bytes, n);
}

/* How files are copied. */
ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t n, unsigned flags) {
    typedef ssize_t (*copy)(int, off64_t *, int, off64_t *, size_t, unsigned);
    return strikes(WRITE) ? refuse(ENOSPC) : NEXT(copy, "copy_file_range")(from, from_at, to, to_at, n, flags);
}

int fsync(int fd) {
    typedef int (*sync_)(int);
    return strikes(SYNC) ? (int)refuse(EIO) : NEXT(sync_, "fsync")(fd);
}

int rename(const char *from, const char *to) {
    typedef int (*move)(const char *, const char *);
    return strikes(RENAME) ? (int)refuse(EROFS) : NEXT(move, "rename")(from, to);
}

#endif
