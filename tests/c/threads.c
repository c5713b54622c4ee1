/* Many threads, many sessions, one model: identical results. Then cancel from another thread and from a
 * signal handler. POSIX. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <pthread.h>
#include <signal.h>
#include <time.h>

static remask_model *model;
static int n_sessions;
static int32_t *expected;
static size_t n_expected;

static int32_t *filled(size_t *len) {
    remask_session *session = session_on(model, 1);
    remask_canvas *canvas = canvas_on(model, "hello", 8);
    remask_generate_params params;
    remask_generate_params_init(&params, sizeof params);
    params.temperature = 1.0;
    params.n_steps = 4;
    params.seed = 3;
    OK(remask_session_generate(session, &canvas, 1, &params, NULL, NULL, &error));
    int32_t *tokens = tokens_of(canvas, len);
    remask_canvas_free(canvas);
    remask_session_free(session);
    return tokens;
}

static void *work(void *unused) {
    (void)unused;
    for (int i = 0; i < n_sessions; i++) {
        size_t n = 0;
        int32_t *tokens = filled(&n);
        CHECK(n == n_expected && memcmp(tokens, expected, n * sizeof *tokens) == 0);
        free(tokens);
    }
    return NULL;
}

static remask_cancel *cancel;

static void on_signal(int number) {
    (void)number;
    remask_cancel_set(cancel);
}

static int32_t raise_at_third(const remask_step *step, void *by_signal) {
    if (step->i_step == 3) {
        if (by_signal != NULL) {
            raise(SIGUSR1);
        } else {
            remask_cancel_set(cancel);
        }
        CHECK(remask_cancel_is_set(cancel));
    }
    return REMASK_CONTINUE;
}

static void *set_later(void *unused) {
    (void)unused;
    const struct timespec wait = {0, 20 * 1000 * 1000};
    nanosleep(&wait, NULL);
    remask_cancel_set(cancel);
    return NULL;
}

int main(int argc, char **argv) {
    CHECK(argc == 4);
    model = load(argv[1]);
    int n_threads = atoi(argv[2]);
    n_sessions = atoi(argv[3]);
    expected = filled(&n_expected);
    pthread_t threads[64];
    CHECK(n_threads <= 64);
    for (int i = 0; i < n_threads; i++) {
        CHECK(pthread_create(&threads[i], NULL, work, NULL) == 0);
    }
    for (int i = 0; i < n_threads; i++) {
        pthread_join(threads[i], NULL);
    }

    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    remask_session *session = session_on(model, 1);
    remask_generate_params params;
    remask_generate_params_init(&params, sizeof params);
    cancel = remask_cancel_new();
    params.cancel = cancel;
    for (int by_signal = 0; by_signal < 2; by_signal++) {
        remask_canvas *canvas = canvas_on(model, "hello", 8);
        FAILS(REMASK_STATUS_CANCELLED,
              remask_session_generate(session, &canvas, 1, &params, raise_at_third, by_signal ? &params : NULL,
                                      &error));
        /* What was filled stays. */
        size_t n_masked = 0;
        OK(remask_canvas_count(canvas, NULL, &n_masked, &error));
        CHECK(n_masked == 5);
        remask_cancel_reset(cancel);
        OK(remask_session_generate(session, &canvas, 1, &params, NULL, NULL, &error));
        remask_canvas_free(canvas);
    }
    /* From another thread, while a long score is at work. */
    remask_canvas *canvas = canvas_on(model, "some words to score, more than a few of them", 1);
    size_t n = 0;
    int32_t *tokens = tokens_of(canvas, &n);
    remask_score_params how;
    remask_score_params_init(&how, sizeof how);
    how.n_samples = 1 << 20;
    how.cancel = cancel;
    remask_score score;
    remask_score_init(&score, sizeof score);
    pthread_t setter;
    CHECK(pthread_create(&setter, NULL, set_later, NULL) == 0);
    FAILS(REMASK_STATUS_CANCELLED,
          remask_session_score(session, tokens, n - 1, 0, SIZE_MAX, &how, &score, &error));
    pthread_join(setter, NULL);
    free(tokens);
    free(expected);
    remask_canvas_free(canvas);
    remask_cancel_free(cancel);
    remask_session_free(session);
    remask_model_free(model);
    return 0;
}
