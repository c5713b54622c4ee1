/* Remask from C: generate with live steps, fill in holes, score.
 *
 *   remask_example generate MODEL "prompt"
 *   remask_example infill   MODEL "The [[4]] sat on the [[3]]."
 *   remask_example score    MODEL "prompt" " continuation" " another" ... */
#include "remask.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Ends the program with the error's message. A real host would pass it on. */
static void check(remask_status status, remask_error *error) {
    if (status != REMASK_STATUS_OK) {
        fprintf(stderr, "%s: %s\n", remask_status_name(status), remask_error_message(error));
        remask_error_free(error);
        exit(1);
    }
}

/* Prints the text of a canvas. The first call asks how long it is. */
static void print_text(const remask_canvas *canvas) {
    remask_error *error = NULL;
    size_t len = 0;
    remask_status status = remask_canvas_text(canvas, 0, SIZE_MAX, 0, NULL, 0, &len, NULL);
    if (status != REMASK_STATUS_OK && status != REMASK_STATUS_BUFFER_TOO_SMALL) {
        return;
    }
    char *text = malloc(len + 1);
    if (text == NULL) {
        return;
    }
    check(remask_canvas_text(canvas, 0, SIZE_MAX, 0, text, len, &len, &error), error);
    printf("%.*s\n", (int)len, text);
    free(text);
}

/* Shows each step: how many slots are left, and what was filled. */
static int32_t on_step(const remask_step *step, void *user_data) {
    const remask_model *model = user_data;
    fprintf(stderr, "step %u of %u, %u left:", step->i_step, step->n_steps, step->n_masked);
    for (size_t i = 0; i < step->n_changed; i++) {
        char text[64];
        size_t len = 0;
        if (remask_model_token_text(model, step->changed[i].token, text, sizeof text, &len, NULL) ==
            REMASK_STATUS_OK) {
            fprintf(stderr, " [%u]%.*s (%.2f)", step->changed[i].slot, (int)len, text,
                    (double)step->changed[i].confidence);
        }
    }
    fputc('\n', stderr);
    return REMASK_CONTINUE;
}

static int fill(const remask_model *model, remask_session *session, const char *text, int holes) {
    remask_error *error = NULL;
    remask_canvas *canvas = NULL;
    check(remask_canvas_new(model, &canvas, &error), error);
    if (holes) {
        check(remask_canvas_append_holes(canvas, text, REMASK_NUL_TERMINATED, REMASK_ENCODE_BOS, &error), error);
    } else {
        check(remask_canvas_append_text(canvas, text, REMASK_NUL_TERMINATED, REMASK_ENCODE_BOS, &error), error);
        check(remask_canvas_append_masks(canvas, 16, &error), error);
    }
    remask_generate_params params;
    remask_generate_params_init(&params, sizeof params);
    check(remask_session_generate(session, &canvas, 1, &params, on_step, (void *)model, &error), error);
    print_text(canvas);
    remask_canvas_free(canvas);
    return 0;
}

/* Tokens of a text; the caller frees them. */
static remask_tokens encode(const remask_model *model, const char *text) {
    remask_error *error = NULL;
    size_t len = 0;
    (void)!remask_model_encode(model, text, REMASK_NUL_TERMINATED, 0, NULL, 0, &len, NULL);
    int32_t *ids = malloc((len + 1) * sizeof *ids);
    if (ids == NULL) {
        exit(1);
    }
    check(remask_model_encode(model, text, REMASK_NUL_TERMINATED, 0, ids, len, &len, &error), error);
    remask_tokens tokens = {ids, len};
    return tokens;
}

static int score(const remask_model *model, remask_session *session, char **texts, size_t n) {
    enum { MOST = 16 };
    remask_tokens choices[MOST];
    double logs[MOST], probabilities[MOST];
    if (n < 2 || n > MOST + 1) {
        fprintf(stderr, "a prompt and 1 to %d continuations\n", MOST);
        return 2;
    }
    remask_tokens prompt = encode(model, texts[0]);
    for (size_t i = 1; i < n; i++) {
        choices[i - 1] = encode(model, texts[i]);
    }
    remask_score_params params;
    remask_score_params_init(&params, sizeof params);
    params.method = REMASK_SCORE_PSEUDO;
    remask_error *error = NULL;
    size_t best = 0;
    check(remask_session_choose(session, prompt.data, prompt.len, choices, n - 1, &params, logs, probabilities,
                                &best, &error),
          error);
    for (size_t i = 0; i + 1 < n; i++) {
        printf("%c %8.3f nats, %5.1f %%:%s\n", i == best ? '*' : ' ', logs[i], 100 * probabilities[i], texts[i + 1]);
        free((void *)choices[i].data);
    }
    free((void *)prompt.data);
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 4) {
        fprintf(stderr, "%s generate|infill|score MODEL TEXT...\n", argv[0]);
        return 2;
    }
    remask_error *error = NULL;
    remask_model *model = NULL;
    check(remask_model_load(argv[2], REMASK_NUL_TERMINATED, NULL, &model, &error), error);
    remask_session *session = NULL;
    check(remask_session_new(model, NULL, &session, &error), error);
    int code = strcmp(argv[1], "score") == 0 ? score(model, session, argv + 3, (size_t)argc - 3)
                                             : fill(model, session, argv[3], strcmp(argv[1], "infill") == 0);
    remask_session_free(session);
    remask_model_free(model);
    return code;
}
