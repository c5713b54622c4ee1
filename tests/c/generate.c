/* Prints the tokens of a run, for the test to compare with the library's own: pulled, by callback, from
 * memory, through a reader, in a batch. Handles are freed in every order. */
#include "check.h"

static const char *const PROMPT = "Once upon a time";

static remask_generate_params policies(void) {
    remask_generate_params params;
    remask_generate_params_init(&params, sizeof params);
    params.temperature = 0.8;
    params.top_p = 0.95;
    params.block_length = 8;
    params.n_steps = 12;
    params.seed = 7;
    return params;
}

static int32_t *pulled(remask_model *model, size_t *len, int order) {
    remask_session *session = session_on(model, 1);
    remask_canvas *canvas = canvas_on(model, PROMPT, 16);
    remask_generate_params params = policies();
    remask_cancel *cancel = remask_cancel_new();
    params.cancel = cancel;
    remask_run *run = NULL;
    OK(remask_run_new(session, &canvas, 1, &params, &run, &error));
    remask_cancel_free(cancel);
    /* What a run was made from may go while it is at work. */
    if (order & 1) {
        remask_session_free(session);
    }
    remask_step step;
    remask_step_init(&step, sizeof step);
    uint32_t n_filled = 0;
    do {
        OK(remask_run_step(run, &step, &error));
        for (size_t i = 0; i < step.n_changed; i++) {
            CHECK(step.tokens[step.changed[i].slot] == step.changed[i].token);
            CHECK(step.slots[step.changed[i].slot] == REMASK_SLOT_FILLED);
            CHECK(step.changed[i].confidence >= 0.0f && step.changed[i].confidence <= 1.0f);
        }
        n_filled += (uint32_t)step.n_changed;
        CHECK(step.n_masked + n_filled == 16);
        /* The canvas shows what the report says, and cannot be changed. */
        size_t n_slots = 0, n_masked = 0;
        OK(remask_canvas_count(canvas, &n_slots, &n_masked, &error));
        CHECK(n_slots == step.n_slots && n_masked == step.n_masked);
        FAILS(REMASK_STATUS_BUSY, remask_canvas_append_masks(canvas, 1, &error));
    } while (!step.done);
    CHECK(step.nfe == 12 && step.n_steps == 12 && step.canvas_done && step.end == step.n_slots);
    OK(remask_run_step(run, &step, &error));
    CHECK(step.n_changed == 0 && step.done);
    int32_t *tokens = tokens_of(canvas, len);
    if (order & 2) {
        remask_canvas_free(canvas);
        remask_run_free(run);
    } else {
        remask_run_free(run);
        OK(remask_canvas_append_masks(canvas, 1, &error));
        remask_canvas_free(canvas);
    }
    if (!(order & 1)) {
        remask_session_stats stats;
        remask_session_stats_init(&stats, sizeof stats);
        OK(remask_session_get_stats(session, &stats, &error));
        CHECK(stats.n_runs == 1 && stats.n_steps == 12 && stats.nfe == 12 && stats.n_threads == 1);
        CHECK(stats.n_bytes > 0);
        remask_session_free(session);
    }
    return tokens;
}

struct seen {
    remask_session *session;
    remask_canvas *canvas;
    int n_calls;
};

static int32_t on_step(const remask_step *step, void *user_data) {
    struct seen *seen = (struct seen *)user_data;
    seen->n_calls++;
    CHECK(step->n_canvases == 1 && step->i_canvas == 0);
    /* Everything at work is busy, also from in here. */
    float x;
    size_t len = 0;
    FAILS(REMASK_STATUS_BUSY, remask_session_embeddings(seen->session, step->tokens, step->n_slots,
                                                         REMASK_POOLING_MEAN, &x, 1, &len, &error));
    FAILS(REMASK_STATUS_BUSY,
          remask_session_generate(seen->session, &seen->canvas, 1, NULL, NULL, NULL, &error));
    FAILS(REMASK_STATUS_BUSY, remask_canvas_truncate(seen->canvas, 0, &error));
    size_t n = 0;
    OK(remask_canvas_count(seen->canvas, &n, NULL, &error));
    CHECK(n == step->n_slots);
    return REMASK_CONTINUE;
}

static int32_t *driven(remask_model *model, size_t *len) {
    struct seen seen = {session_on(model, 2), canvas_on(model, PROMPT, 16), 0};
    remask_generate_params params = policies();
    OK(remask_session_generate(seen.session, &seen.canvas, 1, &params, on_step, &seen, &error));
    CHECK(seen.n_calls == 12);
    int32_t *tokens = tokens_of(seen.canvas, len);
    remask_session_free(seen.session);
    remask_canvas_free(seen.canvas);
    return tokens;
}

/* Frees the session and the canvas from inside the callback. */
static int32_t on_step_free(const remask_step *step, void *user_data) {
    struct seen *seen = (struct seen *)user_data;
    if (seen->n_calls++ == 0) {
        remask_session_free(seen->session);
        remask_canvas_free(seen->canvas);
    }
    return step->i_step < 3 ? REMASK_CONTINUE : REMASK_STOP;
}

static int32_t *batched(remask_model *model, size_t *len) {
    remask_session *session = session_on(model, 1);
    remask_canvas *canvases[3] = {canvas_on(model, "hello", 5), canvas_on(model, PROMPT, 16),
                                  canvas_on(model, "a longer prompt", 9)};
    const uint64_t seeds[3] = {1, 7, 2};
    remask_generate_params params = policies();
    params.seeds = seeds;
    params.n_seeds = 3;
    OK(remask_session_generate(session, canvases, 3, &params, NULL, NULL, &error));
    int32_t *tokens = tokens_of(canvases[1], len);
    for (int i = 0; i < 3; i++) {
        size_t n_masked = 1;
        OK(remask_canvas_count(canvases[i], NULL, &n_masked, &error));
        CHECK(n_masked == 0);
        remask_canvas_free(canvases[i]);
    }
    remask_session_free(session);
    return tokens;
}

struct file {
    unsigned char *bytes;
    size_t n_bytes;
    int dropped;
    int n_reads;
};

static void on_drop(void *user_data) {
    ((struct file *)user_data)->dropped++;
}

static int32_t read_at(uint64_t offset, void *buffer, size_t n, void *user_data) {
    struct file *file = (struct file *)user_data;
    if (offset + n > file->n_bytes) {
        return 5;
    }
    memcpy(buffer, file->bytes + offset, n);
    file->n_reads++;
    return 0;
}

static int32_t on_progress(uint64_t done, uint64_t total, void *user_data) {
    CHECK(done <= total);
    ++*(int *)user_data;
    return REMASK_CONTINUE;
}

static int32_t on_progress_stop(uint64_t done, uint64_t total, void *user_data) {
    (void)done;
    (void)total;
    (void)user_data;
    return REMASK_STOP;
}

/* The tokens of `b`, which are freed, are those of `a`. */
#define same(a, n_a, b, n_b)                                                  \
    do {                                                                      \
        int32_t *b_ = (b);                                                    \
        CHECK(n_a == n_b && memcmp(a, b_, n_a * sizeof *b_) == 0);            \
        free(b_);                                                             \
    } while (0)

int main(int argc, char **argv) {
    CHECK(argc == 2);
    remask_model *model = load(argv[1]);
    size_t n = 0, m = 0;
    int32_t *tokens = pulled(model, &n, 0);
    for (int order = 1; order < 4; order++) {
        same(tokens, n, pulled(model, &m, order), m);
    }
    same(tokens, n, driven(model, &m), m);
    same(tokens, n, batched(model, &m), m);
    struct seen seen = {session_on(model, 1), canvas_on(model, PROMPT, 16), 0};
    remask_generate_params params = policies();
    FAILS(REMASK_STATUS_CANCELLED,
          remask_session_generate(seen.session, &seen.canvas, 1, &params, on_step_free, &seen, &error));
    CHECK(seen.n_calls == 3);

    /* The same from memory: lent at an aligned and an odd address, and copied. */
    FILE *f = fopen(argv[1], "rb");
    CHECK(f != NULL && fseek(f, 0, SEEK_END) == 0);
    struct file file = {NULL, (size_t)ftell(f), 0, 0};
    unsigned char *memory = (unsigned char *)malloc(file.n_bytes + 96);
    CHECK(memory != NULL);
    rewind(f);
    unsigned char *aligned = memory + (64 - ((uintptr_t)memory & 63));
    for (int shift = 0; shift < 2; shift++) {
        file.bytes = aligned + shift;
        rewind(f);
        CHECK(fread(file.bytes, 1, file.n_bytes, f) == file.n_bytes);
        for (int lend = 0; lend < 2; lend++) {
            remask_model *other = NULL;
            int before = file.dropped;
            OK(remask_model_load_memory(file.bytes, file.n_bytes, lend ? on_drop : NULL, &file, NULL, &other,
                                        &error));
            same(tokens, n, pulled(other, &m, 0), m);
            CHECK(file.dropped == before + (lend && shift));
            remask_session *session = session_on(other, 1);
            remask_model_free(other);
            CHECK(file.dropped == before + (lend && shift));
            remask_session_free(session);
            CHECK(file.dropped == before + lend);
        }
    }
    int before = file.dropped;
    remask_model *other = NULL;
    FAILS(REMASK_STATUS_FORMAT, remask_model_load_memory("GARBAGE", 7, on_drop, &file, NULL, &other, &error));
    CHECK(file.dropped == before + 1 && other == NULL);
    FAILS(REMASK_STATUS_INVALID_ARGUMENT,
          remask_model_load_memory(NULL, 7, on_drop, &file, NULL, &other, &error));
    CHECK(file.dropped == before + 2);

    remask_reader reader;
    remask_reader_init(&reader, sizeof reader);
    reader.n_bytes = file.n_bytes;
    reader.read_at = read_at;
    reader.user_data = &file;
    int n_told = 0;
    remask_load_params how;
    remask_load_params_init(&how, sizeof how);
    how.on_progress = on_progress;
    how.user_data = &n_told;
    how.verify = REMASK_VERIFY_LOAD;
    OK(remask_model_load_reader(&reader, &how, &other, &error));
    CHECK(n_told > 0 && file.n_reads > 0);
    same(tokens, n, pulled(other, &m, 0), m);
    remask_estimate here, there;
    remask_estimate_init(&here, sizeof here);
    remask_estimate_init(&there, sizeof there);
    OK(remask_estimate_model(other, 100, 50, &here, &error));
    OK(remask_estimate_file(argv[1], NT, 100, 50, &there, &error));
    CHECK(here.session == there.session && here.weights == there.weights && here.weights > 0);
    OK(remask_estimate_memory(file.bytes, file.n_bytes, 100, 50, &there, &error));
    CHECK(here.session == there.session);
    remask_model_free(other);
    reader.n_bytes += 1;
    FAILS(REMASK_STATUS_IO, remask_model_load_reader(&reader, NULL, &other, &error));
    reader.n_bytes -= 1;
    how.on_progress = on_progress_stop;
    FAILS(REMASK_STATUS_CANCELLED, remask_model_load_reader(&reader, &how, &other, &error));
    CHECK(other == NULL);

    for (size_t i = 0; i < n; i++) {
        printf("%d ", tokens[i]);
    }
    printf("\n");
    free(tokens);
    free(memory);
    fclose(f);
    remask_model_free(model);
    return 0;
}
