/* Every allocation of 64 KiB and more fails in turn, once and from then on; so do every thread that is to be
 * made, every write, sync and rename. The call gives its status or succeeds, and the same calls without the
 * fault work afterwards, in the same process. Each point is a child, so that a crash is counted and not the end.
 * Linux with glibc: the program's own malloc, pthread_create, write, fsync and rename come before the system's. */
#define _GNU_SOURCE
#include "check.h"
#include "fail.h"

#include <dirent.h>
#include <sys/resource.h>
#include <sys/wait.h>

static const char *const NAMES[] = {"none", "memory", "thread", "write", "short write", "sync", "rename"};
static _Atomic long hits;

static void struck(void) { atomic_fetch_add(&hits, 1); }

static const char *model_path, *checkpoint, *folder;
static char output[4096];

static int n_files(void) {
    DIR *dir = opendir(folder);
    CHECK(dir != NULL);
    int n = 0;
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        n += entry->d_name[0] != '.' || strlen(entry->d_name) > 2;
    }
    closedir(dir);
    return n;
}

/* What a child that failed left, so that the next one begins clean. */
static void sweep_out(void) {
    DIR *dir = opendir(folder);
    CHECK(dir != NULL);
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        unlinkat(dirfd(dir), entry->d_name, 0);
    }
    closedir(dir);
}

/* A fault of the kind is the only reason for a call to fail. */
static int passes(remask_status status, remask_error *error) {
    if (status != REMASK_STATUS_OK && status != REMASK_STATUS_RESOURCE && status != REMASK_STATUS_IO) {
        fprintf(stderr, "status %d: %s\n", status, remask_error_message(error));
        exit(1);
    }
    if (status != REMASK_STATUS_OK && atomic_load(&hits) == 0) {
        fprintf(stderr, "no fault and status %d: %s\n", status, remask_error_message(error));
        exit(1);
    }
    remask_error_free(error);
    return status == REMASK_STATUS_OK;
}

/* Load, session with two threads, a few tokens. */
static int generates(void) {
    remask_model *model = NULL;
    remask_session *session = NULL;
    remask_canvas *canvas = NULL;
    remask_error *error = NULL;
    remask_session_params how;
    remask_session_params_init(&how, sizeof how);
    how.n_threads = 2;
    remask_load_params load_how;
    remask_load_params_init(&load_how, sizeof load_how);
    load_how.flags = REMASK_LOAD_READ;
    int good = passes(remask_model_load(model_path, NT, &load_how, &model, &error), error);
    good = good && (error = NULL, passes(remask_session_new(model, &how, &session, &error), error));
    good = good && (error = NULL, passes(remask_canvas_new(model, &canvas, &error), error));
    good = good && (error = NULL, passes(remask_canvas_append_text(canvas, "Once upon a time", NT, 0, &error), error));
    good = good && (error = NULL, passes(remask_canvas_append_masks(canvas, 24, &error), error));
    remask_generate_params params;
    remask_generate_params_init(&params, sizeof params);
    params.n_steps = 4;
    good = good && (error = NULL,
                    passes(remask_session_generate(session, &canvas, 1, &params, NULL, NULL, &error), error));
    remask_canvas_free(canvas);
    remask_session_free(session);
    remask_model_free(model);
    return good;
}

static int written(int good) {
    /* A file that is whole or none, and nothing beside it. */
    int n = n_files();
    CHECK(n == (good ? 1 : 0));
    if (good) {
        remask_model_free(load(output));
        CHECK(unlink(output) == 0);
    }
    return good;
}

static int quantizes(void) {
    remask_error *error = NULL;
    int good = passes(remask_quantize(model_path, NT, output, NT, NULL, &error), error);
    atomic_store(&armed, NONE);
    return written(good);
}

static int converts(void) {
    remask_error *error = NULL;
    int good = passes(remask_convert(checkpoint, NT, output, NT, NULL, &error), error);
    atomic_store(&armed, NONE);
    return written(good);
}

typedef int (*work)(void);

/* In a child: the work with the fault at the k-th call, then without. Exits 0 for a point that was met, 3 when
 * the work ended before it. */
static void point(work what, enum fault kind, long k, int again) {
    /* No core files of those that fall. */
    const struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    alarm(60);
    forever = again;
    atomic_store(&left, k);
    atomic_store(&armed, (int)kind);
    what();
    atomic_store(&armed, NONE);
    long met = atomic_exchange(&hits, 0);
    CHECK(what());
    _exit(met > 0 ? 0 : 3);
}

/* Address space at so much above what is in use. */
static void narrow(work what, size_t above) {
    const struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    alarm(60);
    FILE *statm = fopen("/proc/self/statm", "r");
    unsigned long pages = 0;
    CHECK(statm != NULL && fscanf(statm, "%lu", &pages) == 1);
    fclose(statm);
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_AS, &limit) == 0);
    const struct rlimit before = limit;
    limit.rlim_cur = pages * (unsigned long)sysconf(_SC_PAGESIZE) + above;
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    atomic_store(&hits, 1);
    what();
    CHECK(setrlimit(RLIMIT_AS, &before) == 0);
    atomic_store(&hits, 0);
    CHECK(what());
    _exit(0);
}

static int ended(pid_t child) {
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    if (WIFEXITED(status)) {
        return WEXITSTATUS(status);
    }
    return 128 + WTERMSIG(status);
}

static int n_failed;

static void sweep(const char *name, work what, enum fault kind, int again) {
    long k = 0;
    n_failed = 0;
    for (;; k++) {
        CHECK(k < 3000 && n_failed < 500);
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            point(what, kind, k, again);
        }
        int code = ended(child);
        if (code == 3) {
            break;
        }
        if (code != 0) {
            n_failed++;
            fprintf(stderr, "%s: %s %ld%s: ended with %d\n", name, NAMES[kind], k, again ? " and on" : "", code);
            sweep_out();
        }
    }
    printf("%s, %s%s: %ld points, %d fell\n", name, NAMES[kind], again ? " from then on" : "", k, n_failed);
    fflush(stdout);
}

int main(int argc, char **argv) {
    CHECK(argc == 4 || argc == 5);
    model_path = argv[1];
    checkpoint = argv[2];
    folder = argv[3];
    snprintf(output, sizeof output, "%s/out.gguf", folder);
    /* A fifth word asks for the faults that stay, too. */
    for (int again = 0; again < argc - 3; again++) {
        sweep("generate", generates, MEMORY, again);
        sweep("generate", generates, THREAD, again);
        for (int kind = MEMORY; kind < N_FAULTS; kind++) {
            sweep("quantize", quantizes, (enum fault)kind, again);
            sweep("convert", converts, (enum fault)kind, again);
        }
    }
    const work all[] = {generates, quantizes};
    int n = 0;
    n_failed = 0;
    for (size_t w = 0; w < 2; w++) {
        for (size_t above = 0; above <= (size_t)64 << 20; above = above == 0 ? 64 * 1024 : above * 2, n++) {
            pid_t child = fork();
            CHECK(child >= 0);
            if (child == 0) {
                narrow(all[w], above);
            }
            int code = ended(child);
            if (code != 0) {
                n_failed++;
                fprintf(stderr, "address space %zu KiB above: ended with %d\n", above / 1024, code);
                sweep_out();
            }
        }
    }
    printf("address space: %d points, %d fell\n", n, n_failed);
    return 0;
}
