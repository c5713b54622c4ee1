/* Sixteen threads open a model, make a session, generate and free: the model first, or last, in any order,
 * while others do the same, and cancel one another. POSIX. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <pthread.h>
#include <stdatomic.h>

enum { N_THREADS = 16 };
static const char *path;
static int n_rounds;
static int32_t expected[64];
static size_t n_expected;
static remask_cancel *cancels[N_THREADS];
static _Atomic long n_cancelled;

/* Tokens of one run; 0 where another thread cancelled it. */
static size_t opened(int order, remask_cancel *cancel, int32_t *tokens) {
    remask_load_params how;
    remask_load_params_init(&how, sizeof how);
    how.flags = order % 2 ? REMASK_LOAD_READ : 0;
    remask_model *model = NULL;
    OK(remask_model_load(path, NT, &how, &model, &error));
    remask_session *session = session_on(model, 1);
    remask_canvas *canvas = canvas_on(model, "hello", 8);
    if (order % 3 == 0) {
        remask_model_free(model);
    }
    remask_generate_params params;
    remask_generate_params_init(&params, sizeof params);
    params.n_steps = 4;
    params.cancel = cancel;
    remask_status status = remask_session_generate(session, &canvas, 1, &params, NULL, NULL, NULL);
    CHECK(status == REMASK_STATUS_OK || (status == REMASK_STATUS_CANCELLED && cancel != NULL));
    if (order % 3 == 1) {
        remask_session_free(session);
    }
    size_t n = 0;
    OK(remask_canvas_tokens(canvas, tokens, 64, &n, &error));
    if (order % 3 == 2) {
        remask_session_free(session);
        remask_model_free(model);
    }
    remask_canvas_free(canvas);
    if (order % 3 == 0) {
        remask_session_free(session);
    } else if (order % 3 == 1) {
        remask_model_free(model);
    }
    return status == REMASK_STATUS_OK ? n : 0;
}

static void *work(void *number) {
    int me = *(int *)number;
    for (int i = 0; i < n_rounds; i++) {
        int32_t tokens[64];
        int with = (me + i) % 4 == 0;
        size_t n = opened(me + i, with ? cancels[me] : NULL, tokens);
        if (n > 0) {
            CHECK(n == n_expected && memcmp(tokens, expected, n * sizeof *tokens) == 0);
        } else {
            atomic_fetch_add(&n_cancelled, 1);
        }
        remask_cancel_reset(cancels[me]);
        remask_cancel_set(cancels[(me + i) % N_THREADS]);
    }
    return NULL;
}

int main(int argc, char **argv) {
    CHECK(argc == 3);
    path = argv[1];
    n_rounds = atoi(argv[2]);
    n_expected = opened(1, NULL, expected);
    CHECK(n_expected > 8);
    pthread_t threads[N_THREADS];
    int numbers[N_THREADS];
    for (int i = 0; i < N_THREADS; i++) {
        numbers[i] = i;
        cancels[i] = remask_cancel_new();
    }
    for (int i = 0; i < N_THREADS; i++) {
        CHECK(pthread_create(&threads[i], NULL, work, &numbers[i]) == 0);
    }
    for (int i = 0; i < N_THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    for (int i = 0; i < N_THREADS; i++) {
        remask_cancel_free(cancels[i]);
    }
    CHECK(atomic_load(&n_cancelled) <= (long)N_THREADS * n_rounds);
    printf("%d threads opened and closed %d models each: 0 differ\n", N_THREADS, n_rounds);
    return 0;
}
