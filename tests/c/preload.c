/* For programs that are run whole: loaded before the system's library (LD_PRELOAD), it makes one call fail.
 * REMASK_FAULT is "KIND K AGAIN": the K-th call of the kind (memory, thread, write, short, sync, rename), and
 * with AGAIN 1 all that follow. REMASK_FAULT_MET names a file that is made when the call was met.
 * REMASK_CLOCK is a number of seconds that the wall clock jumps by at every look, to and fro. */
#define _GNU_SOURCE
#include "fail.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

__attribute__((constructor)) static void read_environment(void) {
    static const char *const names[] = {"none", "memory", "thread", "write", "short", "sync", "rename"};
    const char *what = getenv("REMASK_FAULT");
    char name[16];
    long k = 0;
    if (what == NULL || sscanf(what, "%15s %ld %d", name, &k, &forever) != 3) {
        return;
    }
    for (int kind = MEMORY; kind < N_FAULTS; kind++) {
        if (strcmp(name, names[kind]) == 0) {
            atomic_store(&left, k);
            atomic_store(&armed, kind);
        }
    }
}

static void struck(void) {
    const char *met = getenv("REMASK_FAULT_MET");
    if (met != NULL) {
        long fd = syscall(SYS_openat, AT_FDCWD, met, O_CREAT | O_WRONLY, 0600);
        syscall(SYS_close, fd);
    }
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
