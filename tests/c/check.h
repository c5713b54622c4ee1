/* What the C tests share: checks that name the line, and small wrappers. */
#ifndef CHECK_H
#define CHECK_H

#include "remask.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(what)                                                           \
    do {                                                                      \
        if (!(what)) {                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what);        \
            exit(1);                                                          \
        }                                                                     \
    } while (0)

/* A call that must succeed. */
#define OK(call)                                                              \
    do {                                                                      \
        remask_error *error = NULL;                                           \
        remask_status status_ = (call);                                       \
        if (status_ != REMASK_STATUS_OK) {                                    \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__,            \
                    remask_status_name(status_), remask_error_message(error)); \
            exit(1);                                                          \
        }                                                                     \
        CHECK(error == NULL);                                                 \
    } while (0)

/* A call that must fail with this status and a message. */
#define FAILS(status, call)                                                   \
    do {                                                                      \
        remask_error *error = NULL;                                           \
        remask_status status_ = (call);                                       \
        if (status_ != (status)) {                                            \
            fprintf(stderr, "%s:%d: status is %d (%s), not %d: %s\n", __FILE__, \
                    __LINE__, status_, remask_error_message(error), (status), #call); \
            exit(1);                                                          \
        }                                                                     \
        CHECK(remask_error_status(error) == (status));                        \
        CHECK(remask_error_message(error)[0] != '\0');                        \
        remask_error_free(error);                                             \
    } while (0)

#define NT REMASK_NUL_TERMINATED

static inline remask_model *load(const char *path) {
    remask_model *model = NULL;
    OK(remask_model_load(path, NT, NULL, &model, &error));
    CHECK(model != NULL);
    return model;
}

static inline remask_session *session_on(const remask_model *model, uint32_t n_threads) {
    remask_session_params params;
    remask_session_params_init(&params, sizeof params);
    params.n_threads = n_threads;
    remask_session *session = NULL;
    OK(remask_session_new(model, &params, &session, &error));
    return session;
}

/* A canvas with a prompt and slots to fill. */
static inline remask_canvas *canvas_on(const remask_model *model, const char *prompt, size_t n) {
    remask_canvas *canvas = NULL;
    OK(remask_canvas_new(model, &canvas, &error));
    OK(remask_canvas_append_text(canvas, prompt, NT, 0, &error));
    OK(remask_canvas_append_masks(canvas, n, &error));
    return canvas;
}

/* All tokens of a canvas; the caller frees them. */
static inline int32_t *tokens_of(const remask_canvas *canvas, size_t *len) {
    remask_status status = remask_canvas_tokens(canvas, NULL, 0, len, NULL);
    CHECK(status == REMASK_STATUS_OK || status == REMASK_STATUS_BUFFER_TOO_SMALL);
    int32_t *tokens = (int32_t *)malloc((*len + 1) * sizeof *tokens);
    CHECK(tokens != NULL);
    OK(remask_canvas_tokens(canvas, tokens, *len, len, &error));
    return tokens;
}

#endif
