/* For programs that are run whole: loaded before the system's library (LD_PRELOAD), it makes one call fail.
 * REMASK_FAULT is "KIND K AGAIN": the K-th call of the kind (memory, thread, write, short, sync, rename), and
 * with AGAIN 1 all that follow. REMASK_FAULT_MET names a file that is made when the call was met.
 * REMASK_CLOCK is a number of seconds that the wall clock jumps by at every look, to and fro. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { LEAST = 64 * 1024 };
static char kind[16];
static int forever;
static _Atomic long left = -1;
static _Atomic int armed;

__attribute__((constructor)) static void read_environment(void) {
    const char *what = getenv("REMASK_FAULT");
    long k = 0;
    if (what != NULL && sscanf(what, "%15s %ld %d", kind, &k, &forever) == 3) {
        atomic_store(&left, k);
        atomic_store(&armed, 1);
    }
}

static int strikes(const char *what) {
    if (!atomic_load(&armed) || strcmp(what, kind) != 0) {
        return 0;
    }
    long before = atomic_fetch_sub(&left, 1);
    if (before != 0 && !(before < 0 && forever)) {
        return 0;
    }
    const char *met = getenv("REMASK_FAULT_MET");
    if (met != NULL) {
        long fd = syscall(SYS_openat, AT_FDCWD, met, O_CREAT | O_WRONLY, 0600);
        syscall(SYS_close, fd);
    }
    return 1;
}

extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *old, size_t n);
extern void *__libc_memalign(size_t alignment, size_t n);

static int refused(size_t n) {
    if (n < LEAST || !strikes("memory")) {
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

#define NEXT(type, name) ((type)(uintptr_t)dlsym(RTLD_NEXT, name))

int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*body)(void *), void *argument) {
    typedef int (*create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    return strikes("thread") ? EAGAIN : NEXT(create, "pthread_create")(thread, attr, body, argument);
}

static int is_file(int fd) {
    struct stat about;
    return fstat(fd, &about) == 0 && S_ISREG(about.st_mode);
}

static ssize_t refuse(int error) {
    errno = error;
    return -1;
}

ssize_t write(int fd, const void *bytes, size_t n) {
    typedef ssize_t (*put)(int, const void *, size_t);
    if (is_file(fd) && strikes("write")) {
        return refuse(ENOSPC);
    }
    if (n > 1 && is_file(fd) && strikes("short")) {
        n /= 2;
    }
    return NEXT(put, "write")(fd, bytes, n);
}

/* How files are copied. */
ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t n, unsigned flags) {
    typedef ssize_t (*copy)(int, off64_t *, int, off64_t *, size_t, unsigned);
    return strikes("write") ? refuse(ENOSPC) : NEXT(copy, "copy_file_range")(from, from_at, to, to_at, n, flags);
}

int fsync(int fd) {
    typedef int (*sync_)(int);
    return strikes("sync") ? (int)refuse(EIO) : NEXT(sync_, "fsync")(fd);
}

int rename(const char *from, const char *to) {
    typedef int (*move)(const char *, const char *);
    return strikes("rename") ? (int)refuse(EROFS) : NEXT(move, "rename")(from, to);
}

/* The wall clock; the monotonic one goes on as it does. */
static long jump(void) {
    static _Atomic long n;
    const char *by = getenv("REMASK_CLOCK");
    return by == NULL ? 0 : (atomic_fetch_add(&n, 1) % 2 == 0 ? 1 : -1) * atol(by);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    long code = syscall(SYS_clock_gettime, clock, now);
    if (code == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        now->tv_sec += jump();
    }
    return (int)code;
}

time_t time(time_t *out) {
    struct timespec now = {0, 0};
    clock_gettime(CLOCK_REALTIME, &now);
    if (out != NULL) {
        *out = now.tv_sec;
    }
    return now.tv_sec;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone) {
    (void)zone;
    struct timespec now = {0, 0};
    clock_gettime(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec;
    out->tv_usec = now.tv_nsec / 1000;
    return 0;
}
