/* NULL and nonsense everywhere: a status each, and the process goes on. Structs of older and newer
 * callers. Scores, logits, texts. */
#include "check.h"

#include <math.h>

#define BAD(call) FAILS(REMASK_STATUS_INVALID_ARGUMENT, call)

static void texts(const remask_model *model) {
    int32_t ids[64];
    char text[256];
    size_t len = 0;
    BAD(remask_model_encode(NULL, "a", NT, 0, ids, 64, &len, &error));
    BAD(remask_model_encode(model, NULL, NT, 0, ids, 64, &len, &error));
    BAD(remask_model_encode(model, NULL, 3, 0, ids, 64, &len, &error));
    BAD(remask_model_encode(model, "a", NT, 0, ids, 64, NULL, &error));
    BAD(remask_model_encode(model, "a", NT, 0, NULL, 64, &len, &error));
    BAD(remask_model_encode(model, "a", NT, 1u << 31, ids, 64, &len, &error));
    BAD(remask_model_encode(model, "\xff", NT, 0, ids, 64, &len, &error));
    BAD(remask_model_encode(model, "a", SIZE_MAX - 1, 0, ids, 64, &len, &error));
    OK(remask_model_encode(model, NULL, 0, 0, NULL, 0, &len, &error));
    CHECK(len == 0);
    FAILS(REMASK_STATUS_BUFFER_TOO_SMALL, remask_model_encode(model, "hello", NT, 0, NULL, 0, &len, &error));
    size_t needed = len;
    CHECK(needed > 0);
    OK(remask_model_encode(model, "hello, rest", 5, 0, ids, 64, &len, &error));
    CHECK(len == needed);
    BAD(remask_model_decode(model, NULL, 3, 0, text, 256, &len, &error));
    const int32_t negative = -1;
    BAD(remask_model_decode(model, &negative, 1, 0, text, 256, &len, &error));
    OK(remask_model_decode(model, ids, needed, 0, text, 256, &len, &error));
    CHECK(len == 5 && memcmp(text, "hello", 5) == 0);
    const int32_t beyond = INT32_MAX;
    OK(remask_model_decode(model, &beyond, 1, 0, text, 256, &len, &error));
    CHECK(len == 0);
    FAILS(REMASK_STATUS_NOT_FOUND, remask_model_token_text(model, -7, text, 256, &len, &error));
    FAILS(REMASK_STATUS_NOT_FOUND, remask_model_token_text(model, INT32_MAX, text, 256, &len, &error));
    CHECK(remask_model_token_attr(model, -1) == 0 && remask_model_token_attr(NULL, 0) == 0);
    remask_model_info info;
    remask_model_info_init(&info, sizeof info);
    OK(remask_model_get_info(model, &info, &error));
    CHECK(remask_model_token_attr(model, info.mask_token) == REMASK_TOKEN_CONTROL);
    OK(remask_model_encode(model, "a", NT, REMASK_ENCODE_BOS, ids, 64, &len, &error));
    CHECK(remask_model_token_find(model, "no such token", NT) == -1);
    CHECK(remask_model_token_find(NULL, "a", NT) == -1 && remask_model_token_find(model, NULL, NT) == -1);

    /* A character in two pieces comes when it is whole; too small a buffer takes nothing. */
    remask_decoder *decoder = NULL;
    OK(remask_decoder_new(model, 0, &decoder, &error));
    OK(remask_model_encode(model, "\xc3\xa4", NT, 0, ids, 64, &len, &error));
    size_t n_ids = len, total = 0;
    for (size_t i = 0; i < n_ids; i++) {
        remask_status status = remask_decoder_push(decoder, ids + i, 1, NULL, 0, &len, NULL);
        CHECK(status == REMASK_STATUS_OK || status == REMASK_STATUS_BUFFER_TOO_SMALL);
        if (status == REMASK_STATUS_BUFFER_TOO_SMALL) {
            OK(remask_decoder_push(decoder, ids + i, 1, text + total, 256 - total, &len, &error));
            total += len;
        }
    }
    OK(remask_decoder_finish(decoder, text + total, 256 - total, &len, &error));
    CHECK(total + len == 2 && memcmp(text, "\xc3\xa4", 2) == 0);
    BAD(remask_decoder_push(NULL, ids, 1, text, 256, &len, &error));
    remask_decoder_free(decoder);

    remask_message messages[1] = {{{"user", NT}, {"hi", 2}}};
    BAD(remask_model_render_chat(NULL, messages, 1, 0, text, 256, &len, &error));
    BAD(remask_model_render_chat(model, NULL, 1, 0, text, 256, &len, &error));
    messages[0].content.data = NULL;
    BAD(remask_model_encode_chat(model, messages, 1, 0, ids, 64, &len, &error));

    CHECK(remask_model_meta_count(NULL) == 0);
    FAILS(REMASK_STATUS_NOT_FOUND,
          remask_model_meta_key(model, remask_model_meta_count(model), text, 256, &len, &error));
    FAILS(REMASK_STATUS_NOT_FOUND, remask_model_meta_value(model, "x", NT, text, 256, &len, &error));
    OK(remask_model_meta_value(model, "general.architecture", NT, text, 256, &len, &error));
    CHECK(len == 5 && memcmp(text, "llada", 5) == 0);
}

static void canvases(const remask_model *model, const remask_model_info *info) {
    remask_canvas *canvas = NULL;
    BAD(remask_canvas_new(NULL, &canvas, &error));
    BAD(remask_canvas_new(model, NULL, &error));
    OK(remask_canvas_new(model, &canvas, &error));
    BAD(remask_canvas_append_text(NULL, "a", NT, 0, &error));
    BAD(remask_canvas_append_tokens(canvas, NULL, 1, &error));
    const int32_t odd[2] = {0, (int32_t)info->n_vocab};
    BAD(remask_canvas_append_tokens(canvas, odd, 2, &error));
    FAILS(REMASK_STATUS_LIMIT, remask_canvas_append_masks(canvas, SIZE_MAX, &error));
    FAILS(REMASK_STATUS_LIMIT, remask_canvas_append_masks(canvas, (size_t)1 << 31, &error));
    BAD(remask_canvas_append_holes(canvas, "no hole", NT, 0, &error));
    BAD(remask_canvas_append_holes(canvas, "a [[3]] b [[...]]", NT, 0, &error));
    BAD(remask_canvas_append_holes(canvas, "a [[x]]", NT, 0, &error));
    size_t n = 1, n_masked = 1;
    OK(remask_canvas_count(canvas, &n, &n_masked, &error));
    CHECK(n == 0 && n_masked == 0);
    OK(remask_canvas_append_holes(canvas, "The [[4]] sat on the [[3]].", NT, 0, &error));
    OK(remask_canvas_count(canvas, &n, &n_masked, &error));
    CHECK(n_masked == 7);
    BAD(remask_canvas_mask(canvas, 2, 1, &error));
    BAD(remask_canvas_mask(canvas, 0, n + 1, &error));
    BAD(remask_canvas_fix(canvas, n + 1, SIZE_MAX, &error));
    BAD(remask_canvas_set(canvas, n, odd, 1, &error));
    BAD(remask_canvas_set(canvas, SIZE_MAX, odd, 1, &error));
    BAD(remask_canvas_forbid(canvas, 0, n, odd, 2, &error));
    BAD(remask_canvas_forbid(canvas, n, 0, odd, 1, &error));
    uint8_t states[64];
    size_t len = 0;
    FAILS(REMASK_STATUS_BUFFER_TOO_SMALL, remask_canvas_slots(canvas, states, 1, &len, &error));
    CHECK(len == n);
    OK(remask_canvas_slots(canvas, states, 64, &len, &error));
    CHECK(states[n - 1] == REMASK_SLOT_FIXED);
    BAD(remask_canvas_text(canvas, 3, 2, 0, NULL, 0, &len, &error));
    remask_canvas *copy = NULL;
    BAD(remask_canvas_copy(NULL, &copy, &error));
    OK(remask_canvas_copy(canvas, &copy, &error));

    /* Forbidden tokens are not put anywhere; without them one of them is. */
    remask_session *session = session_on(model, 1);
    OK(remask_session_generate(session, &copy, 1, NULL, NULL, NULL, &error));
    int32_t *first = tokens_of(copy, &len);
    size_t hole = 0;
    while (states[hole] != REMASK_SLOT_MASKED) {
        hole++;
    }
    OK(remask_canvas_forbid(canvas, hole, hole + 1, &first[hole], 1, &error));
    OK(remask_session_generate(session, &canvas, 1, NULL, NULL, NULL, &error));
    int32_t *second = tokens_of(canvas, &len);
    CHECK(first[hole] != second[hole]);
    OK(remask_canvas_fix(canvas, 0, SIZE_MAX, &error));
    OK(remask_canvas_slots(canvas, states, 64, &len, &error));
    CHECK(states[hole] == REMASK_SLOT_FIXED);
    free(first);
    free(second);
    remask_session_free(session);
    remask_canvas_free(copy);
    remask_canvas_free(canvas);
}

static void runs(const remask_model *model, const remask_model_info *info) {
    remask_session *session = session_on(model, 1000000);
    remask_canvas *canvas = canvas_on(model, "hello", 6);
    remask_run *run = NULL;
    remask_generate_params p;
#define WITH(set)                                                                               \
    do {                                                                                        \
        remask_generate_params_init(&p, sizeof p);                                              \
        set;                                                                                    \
        remask_error *error = NULL;                                                             \
        remask_status status_ = remask_run_new(session, &canvas, 1, &p, &run, &error);          \
        if (status_ == REMASK_STATUS_OK || status_ == REMASK_STATUS_INTERNAL || run != NULL) {  \
            fprintf(stderr, "%s:%d: %s gave %d\n", __FILE__, __LINE__, #set, status_);          \
            exit(1);                                                                            \
        }                                                                                       \
        remask_error_free(error);                                                               \
    } while (0)
    for (int32_t order = 0; order <= REMASK_ORDER_ORIGIN; order++) {
        remask_generate_params_init(&p, sizeof p);
        p.order = order;
        OK(remask_run_new(session, &canvas, 1, &p, &run, &error));
        remask_run_free(run);
    }
    run = NULL;
    WITH(p.n_steps = 1u << 31);
    WITH(p.n_steps = UINT32_MAX);
    WITH(p.temperature = (double)NAN);
    WITH(p.temperature = -1);
    WITH(p.temperature = (double)INFINITY);
    WITH(p.top_p = 1.5);
    WITH(p.top_p = -0.5);
    WITH(p.repetition_penalty = -1);
    WITH(p.guidance = (double)NAN);
    WITH(p.guidance = -1);
    WITH(p.order = 6);
    WITH(p.order = -1);
    WITH(p.commit = 5);
    WITH(p.speed = 3);
    WITH(p.cache = 4);
    WITH(p.cache_type = 3);
    WITH(p.fast_dllm = 3);
    WITH((p.cache = REMASK_CACHE_FEATURE, p.cache_update = 2));
    WITH((p.flags = REMASK_GENERATE_EARLY_COMMIT, p.early_commit[0] = (double)NAN));
    WITH(p.commit_value = 0.5);
    WITH((p.commit = REMASK_COMMIT_THRESHOLD, p.commit_value = 2));
    WITH((p.commit = REMASK_COMMIT_FACTOR, p.commit_value = 0));
    WITH(p.flags = 1u << 30);
    WITH(p.eos_token = -2);
    WITH(p.eos_token = (int32_t)info->n_vocab);
    WITH(p.response_start = -2);
    WITH(p.response_start = INT64_MAX);
    WITH(p.n_suppress = 3);
    WITH(p.n_stop = 3);
    WITH(p.n_seeds = 3);
    const uint64_t seeds[3] = {1, 2, 3};
    WITH((p.seeds = seeds, p.n_seeds = 3));
    const remask_text empty = {NULL, 0};
    WITH((p.stop = &empty, p.n_stop = 1));
    WITH(p.struct_size = 0);
    WITH(p.struct_size = 7);
    WITH(p.struct_size = 1u << 20);
    WITH((p.block_length = 5, p.n_steps = 1));
    BAD(remask_run_new(NULL, &canvas, 1, NULL, &run, &error));
    BAD(remask_run_new(session, NULL, 1, NULL, &run, &error));
    BAD(remask_run_new(session, &canvas, 0, NULL, &run, &error));
    BAD(remask_run_new(session, &canvas, 1, NULL, NULL, &error));
    remask_canvas *twice[2] = {canvas, canvas}, *none[1] = {NULL};
    FAILS(REMASK_STATUS_BUSY, remask_run_new(session, twice, 2, NULL, &run, &error));
    BAD(remask_run_new(session, none, 1, NULL, &run, &error));
    BAD(remask_run_step(NULL, NULL, &error));
    remask_canvas *blank = NULL;
    OK(remask_canvas_new(model, &blank, &error));
    BAD(remask_run_new(session, &blank, 1, NULL, &run, &error));
    OK(remask_canvas_append_masks(blank, info->n_ctx + 1, &error));
    BAD(remask_run_new(session, &blank, 1, NULL, &run, &error));
    remask_canvas_free(blank);

    /* After all of that everything is free again. */
    OK(remask_run_new(session, &canvas, 1, NULL, &run, &error));
    remask_run *second = NULL;
    remask_canvas *other = canvas_on(model, "hello", 1);
    FAILS(REMASK_STATUS_BUSY, remask_run_new(session, &other, 1, NULL, &second, &error));
    CHECK(second == NULL);
    size_t n_slots = 0;
    int32_t *here = tokens_of(canvas, &n_slots);
    BAD(remask_run_replace(NULL, 0, here, n_slots, &error));
    BAD(remask_run_replace(run, 0, here, n_slots - 1, &error));
    BAD(remask_run_replace(run, 1, here, n_slots, &error));
    OK(remask_run_replace(run, 0, here, n_slots, &error));
    here[n_slots - 1] = (int32_t)info->n_vocab;
    BAD(remask_run_replace(run, 0, here, n_slots, &error));
    free(here);
    OK(remask_run_step(run, NULL, &error));
    remask_step step;
    memset(&step, 0, sizeof step);
    BAD(remask_run_step(run, &step, &error));
    remask_step_init(&step, sizeof step);
    FAILS(REMASK_STATUS_NOT_FOUND, remask_run_report(run, 1, &step, &error));
    OK(remask_run_report(run, 0, &step, &error));
    CHECK(step.i_step >= 1 && step.struct_size == sizeof step);
    BAD(remask_run_replace(run, 0, step.tokens, step.n_slots - 1, &error));
    BAD(remask_run_replace(run, 9, step.tokens, step.n_slots, &error));
    OK(remask_run_replace(run, 0, step.tokens, step.n_slots, &error));
    /* What was begun cannot be edited before it is done. */
    BAD(remask_run_begin_step(NULL, &error));
    OK(remask_run_begin_step(run, &error));
    OK(remask_run_begin_step(run, &error));
    FAILS(REMASK_STATUS_BUSY, remask_run_replace(run, 0, step.tokens, step.n_slots, &error));
    OK(remask_run_step(run, &step, &error));
    OK(remask_run_replace(run, 0, step.tokens, step.n_slots, &error));
    OK(remask_run_begin_step(run, &error));

    /* An older caller's report stops where its struct stops; a newer one's options must be unset. */
    union {
        remask_step step;
        unsigned char bytes[sizeof(remask_step) + 16];
    } room;
    memset(&room, 0xAB, sizeof room);
    remask_step_init(&room.step, 32);
    OK(remask_run_report(run, 0, &room.step, &error));
    CHECK(room.step.struct_size == 32 && room.step.i_step == step.i_step);
    for (size_t i = 32; i < sizeof room; i++) {
        CHECK(room.bytes[i] == 0xAB);
    }
    remask_step_init(&room.step, sizeof room);
    OK(remask_run_report(run, 0, &room.step, &error));
    CHECK(room.step.n_slots == step.n_slots && room.bytes[sizeof room - 1] == 0);
    remask_run_free(run);
    union {
        remask_generate_params p;
        unsigned char bytes[sizeof(remask_generate_params) + 8];
    } grown;
    remask_generate_params_init(&grown.p, sizeof grown);
    CHECK(grown.p.eos_token == -1);
    OK(remask_run_new(session, &canvas, 1, &grown.p, &run, &error));
    remask_run_free(run);
    grown.bytes[sizeof grown - 1] = 1;
    FAILS(REMASK_STATUS_UNSUPPORTED, remask_run_new(session, &canvas, 1, &grown.p, &run, &error));
    remask_generate_params_init(&grown.p, 24);
    OK(remask_run_new(session, &canvas, 1, &grown.p, &run, &error));
    remask_run_free(run);
    remask_canvas_free(other);
    remask_canvas_free(canvas);
    remask_session_free(session);
}

static void scores(const remask_model *model, const remask_model_info *info) {
    remask_session_params how;
    remask_session_params_init(&how, sizeof how);
    remask_session *session = NULL;
    how.max_canvas = info->n_ctx + 1;
    BAD(remask_session_new(model, &how, &session, &error));
    remask_session_params_init(&how, sizeof how);
    how.flash = 3;
    BAD(remask_session_new(model, &how, &session, &error));
    BAD(remask_session_new(NULL, NULL, &session, &error));
    BAD(remask_session_new(model, NULL, NULL, &error));
    session = session_on(model, 1);
    remask_canvas *canvas = canvas_on(model, "the cat and the dog", 1);
    size_t n = 0;
    int32_t *ids = tokens_of(canvas, &n);
    n -= 1;
    remask_score_params p;
    remask_score score;
    remask_score_params_init(&p, sizeof p);
    remask_score_init(&score, sizeof score);
    BAD(remask_session_score(NULL, ids, n, 0, n, &p, &score, &error));
    BAD(remask_session_score(session, NULL, n, 0, n, &p, &score, &error));
    BAD(remask_session_score(session, ids, n, 0, n + 1, &p, &score, &error));
    BAD(remask_session_score(session, ids, n, n, n, &p, &score, &error));
    p.method = 2;
    BAD(remask_session_score(session, ids, n, 0, n, &p, &score, &error));
    p.method = REMASK_SCORE_PSEUDO;
    OK(remask_session_score(session, ids, n, 1, SIZE_MAX, &p, &score, &error));
    CHECK(score.n_tokens == n - 1 && score.log_likelihood < 0 && score.standard_error == 0.0);
    p.guidance = (double)NAN;
    BAD(remask_session_score(session, ids, n, 0, n, &p, &score, &error));
    remask_tokens choices[2] = {{ids, 2}, {ids + 2, 1}};
    double logs[2], probabilities[2];
    size_t best = 9;
    p.guidance = 0;
    OK(remask_session_choose(session, ids, 2, choices, 2, &p, logs, probabilities, &best, &error));
    CHECK(best < 2 && logs[best] >= logs[1 - best] && fabs(probabilities[0] + probabilities[1] - 1) < 1e-9);
    OK(remask_session_choose(session, ids, 2, choices, 2, NULL, NULL, NULL, &best, &error));
    choices[1].len = 0;
    BAD(remask_session_choose(session, ids, 2, choices, 2, &p, logs, probabilities, &best, &error));
    BAD(remask_session_choose(session, ids, 2, NULL, 2, &p, logs, probabilities, &best, &error));

    size_t len = 0;
    const uint32_t rows[2] = {0, (uint32_t)n};
    float *floats = (float *)malloc(n * info->n_vocab * sizeof *floats);
    CHECK(floats != NULL);
    FAILS(REMASK_STATUS_BUFFER_TOO_SMALL,
          remask_session_logits(session, ids, n, NULL, 0, floats, 3, &len, &error));
    CHECK(len == n * info->n_vocab);
    BAD(remask_session_logits(session, ids, n, rows, 2, floats, len, &len, &error));
    OK(remask_session_logits(session, ids, n, NULL, 0, floats, n * info->n_vocab, &len, &error));
    OK(remask_session_embeddings(session, ids, n, REMASK_POOLING_NONE, floats, n * info->n_embd, &len, &error));
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (double)floats[i * info->n_embd];
    }
    float last = floats[(n - 1) * info->n_embd];
    OK(remask_session_embeddings(session, ids, n, REMASK_POOLING_MEAN, floats, info->n_embd, &len, &error));
    CHECK(len == info->n_embd && fabs((double)floats[0] - sum / (double)n) < 1e-5);
    OK(remask_session_embeddings(session, ids, n, REMASK_POOLING_LAST, floats, info->n_embd, &len, &error));
    CHECK(fabs((double)floats[0] - (double)last) < 1e-5);
    BAD(remask_session_embeddings(session, ids, n, 7, floats, info->n_embd, &len, &error));
    const int32_t beyond[1] = {(int32_t)info->n_vocab};
    BAD(remask_session_logits(session, beyond, 1, NULL, 0, floats, n * info->n_vocab, &len, &error));
    free(floats);
    free(ids);
    remask_canvas_free(canvas);
    remask_session_free(session);
}

static int32_t refuses(uint64_t offset, void *buffer, size_t n, void *user_data) {
    (void)offset;
    (void)buffer;
    (void)n;
    (void)user_data;
    return 7;
}

static int32_t stops(uint64_t done, uint64_t total, void *user_data) {
    CHECK(user_data == NULL && done <= total);
    return REMASK_STOP;
}

/* Ways of loading, and what a model would take. */
static void loads(const remask_model *model, const char *path) {
    remask_model *other = NULL;
    remask_reader reader;
    remask_reader_init(&reader, sizeof reader);
    BAD(remask_model_load_reader(NULL, NULL, &other, &error));
    BAD(remask_model_load_reader(&reader, NULL, NULL, &error));
    BAD(remask_model_load_reader(&reader, NULL, &other, &error));
    reader.read_at = refuses;
    reader.n_bytes = 100;
    FAILS(REMASK_STATUS_IO, remask_model_load_reader(&reader, NULL, &other, &error));
    reader.flags = 1;
    BAD(remask_model_load_reader(&reader, NULL, &other, &error));
    BAD(remask_model_load_memory("x", SIZE_MAX, NULL, NULL, NULL, &other, &error));
    BAD(remask_model_load_memory(NULL, 8, NULL, NULL, NULL, &other, &error));
    FAILS(REMASK_STATUS_FORMAT, remask_model_load_memory(NULL, 0, NULL, NULL, NULL, &other, &error));

    remask_load_params how;
    remask_load_params_init(&how, sizeof how);
    how.flags = 1u << 31;
    BAD(remask_model_load(path, NT, &how, &other, &error));
    remask_load_params_init(&how, sizeof how);
    how.device = "\xff";
    BAD(remask_model_load(path, NT, &how, &other, &error));
    const double shares[65] = {1};
    how.device = NULL;
    how.split = shares;
    how.n_split = 65;
    BAD(remask_model_load(path, NT, &how, &other, &error));
    remask_load_params_init(&how, sizeof how);
    how.tokenizer_path = "/nowhere/tokenizer.json";
    FAILS(REMASK_STATUS_IO, remask_model_load(path, NT, &how, &other, &error));
    remask_load_params_init(&how, sizeof how);
    how.verify = REMASK_VERIFY_NEVER;
    how.flags = REMASK_LOAD_READ;
    how.on_progress = stops;
    FAILS(REMASK_STATUS_CANCELLED, remask_model_load(path, NT, &how, &other, &error));
    how.on_progress = NULL;
    remask_cancel *cancel = remask_cancel_new();
    how.cancel = cancel;
    remask_cancel_set(cancel);
    FAILS(REMASK_STATUS_CANCELLED, remask_model_load(path, NT, &how, &other, &error));
    CHECK(other == NULL);
    remask_cancel_reset(cancel);
    OK(remask_model_load(path, NT, &how, &other, &error));
    remask_model_free(other);
    remask_cancel_free(cancel);

    remask_estimate estimate;
    remask_estimate_init(&estimate, sizeof estimate);
    BAD(remask_estimate_file(path, NT, 8, 8, NULL, &error));
    BAD(remask_estimate_file(NULL, NT, 8, 8, &estimate, &error));
    FAILS(REMASK_STATUS_IO, remask_estimate_file("/nowhere", NT, 8, 8, &estimate, &error));
    BAD(remask_estimate_memory(NULL, 8, 8, 8, &estimate, &error));
    FAILS(REMASK_STATUS_FORMAT, remask_estimate_memory("GARBAGE", 7, 8, 8, &estimate, &error));
    BAD(remask_estimate_model(NULL, 8, 8, &estimate, &error));
    OK(remask_estimate_model(model, 8, 8, &estimate, &error));
    CHECK(estimate.weights > 0 && estimate.session > 0);
}

/* Files that are to be written: nothing is, whatever is wrong. */
static void writes(const char *path) {
    static const char *const none = "/nowhere/out.gguf";
    remask_write_params how;
#define WRITE(status, set)                                                  \
    do {                                                                    \
        remask_write_params_init(&how, sizeof how);                         \
        set;                                                                \
        FAILS(status, remask_quantize(path, NT, none, NT, &how, &error));   \
    } while (0)
    WRITE(REMASK_STATUS_INVALID_ARGUMENT, how.flags = 1u << 20);
    WRITE(REMASK_STATUS_INVALID_ARGUMENT, how.reserved = 1);
    WRITE(REMASK_STATUS_INVALID_ARGUMENT, how.struct_size = 4);
    WRITE(REMASK_STATUS_INVALID_ARGUMENT, how.type_name = "\xff");
    WRITE(REMASK_STATUS_INVALID_ARGUMENT, how.n_overrides = 2);
    const remask_text bad[] = {{"(=f16", NT}, {"no type", NT}, {NULL, NT}, {"x=nothing", NT}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        WRITE(REMASK_STATUS_INVALID_ARGUMENT, (how.overrides = &bad[i], how.n_overrides = 1));
    }
    WRITE(REMASK_STATUS_INVALID_ARGUMENT, how.name = "x");
    WRITE(REMASK_STATUS_IO, how.imatrix_path = "/nowhere/imatrix.gguf");
    WRITE(REMASK_STATUS_IO, how.imatrix_path = "/dev/null");
    WRITE(REMASK_STATUS_IO, how.type_name = "q8_0");
    remask_write_params_init(&how, sizeof how);
    how.flags = REMASK_WRITE_REQUANTIZE;
    BAD(remask_convert("x", NT, "x", NT, &how, &error));
    how.flags = 0;
    BAD(remask_convert("x", NT, NULL, 3, &how, &error));
    /* Some of the progress is heard, and the file is gone. */
    char out[4096];
    snprintf(out, sizeof out, "%s.args-out", path);
    how.on_progress = stops;
    how.flags = REMASK_WRITE_OVERWRITE;
    FAILS(REMASK_STATUS_CANCELLED, remask_quantize(path, NT, out, NT, &how, &error));
    CHECK(fopen(out, "rb") == NULL);
}

static int n_dropped;

static void on_drop(void *user_data) {
    ++*(int *)user_data;
}

static int n_logged;

static void on_log(int32_t level, const char *message, void *user_data) {
    CHECK(user_data == &n_dropped && level >= 1 && message[0] != '\0');
    n_logged++;
}

#ifdef REMASK_TEST_PANIC
extern remask_status remask_test_panic(remask_error **error);
#endif

int main(int argc, char **argv) {
    CHECK(argc == 2);
    CHECK(remask_abi_version() == REMASK_ABI_VERSION && strchr(remask_version(), '.') != NULL);
    CHECK(strcmp(remask_status_name(99), "unknown") == 0);
    for (remask_status status = REMASK_STATUS_OK; status <= REMASK_STATUS_NOT_FOUND; status++) {
        CHECK(strcmp(remask_status_name(status), "unknown") != 0);
    }
    CHECK(remask_error_status(NULL) == REMASK_STATUS_OK && remask_error_message(NULL)[0] == '\0');
    remask_log_set(on_log, 0, &n_dropped, on_drop);
    remask_model_free(NULL);
    remask_canvas_free(NULL);
    remask_session_free(NULL);
    remask_run_free(NULL);
    remask_decoder_free(NULL);
    remask_cancel_free(NULL);
    remask_cancel_set(NULL);
    remask_error_free(NULL);
    remask_generate_params_init(NULL, 100);

    CHECK(remask_device_count() >= 1);
    size_t n_loaded = 7;
    BAD(remask_backends_load(NULL, NT, &n_loaded, &error));
    BAD(remask_backends_load("\xff", NT, NULL, &error));
    /* With backends inside the library there is nothing to load, else no such folder. */
    remask_status loaded = remask_backends_load("/nowhere", NT, &n_loaded, NULL);
    CHECK(loaded == REMASK_STATUS_UNSUPPORTED || loaded == REMASK_STATUS_IO);
    CHECK(n_loaded == 7);
    remask_device device;
    remask_device_init(&device, sizeof device);
    OK(remask_device_get(0, &device, &error));
    CHECK(device.name[0] != '\0');
    FAILS(REMASK_STATUS_NOT_FOUND, remask_device_get(1000, &device, &error));
    BAD(remask_device_get(0, NULL, &error));

    remask_model *model = NULL;
    BAD(remask_model_load(NULL, NT, NULL, &model, &error));
    BAD(remask_model_load("x", NT, NULL, NULL, &error));
    FAILS(REMASK_STATUS_IO, remask_model_load("/nowhere", NT, NULL, &model, &error));
    CHECK(remask_model_load("/nowhere", NT, NULL, &model, NULL) == REMASK_STATUS_IO);
    remask_load_params how;
    remask_load_params_init(&how, sizeof how);
    how.device = "no such device";
    FAILS(REMASK_STATUS_DEVICE, remask_model_load(argv[1], NT, &how, &model, &error));
    CHECK(model == NULL);
    how.device = "cpu";
    how.verify = 9;
    BAD(remask_model_load(argv[1], NT, &how, &model, &error));
    how.verify = REMASK_VERIFY_LOAD;
    /* The processor alone takes no shares. */
    const double shares[] = {3, 1};
    how.split = shares;
    how.n_split = 2;
    BAD(remask_model_load(argv[1], NT, &how, &model, &error));
    how.split = NULL;
    BAD(remask_model_load(argv[1], NT, &how, &model, &error));
    how.n_split = 0;
    /* Nor does it split tensors. */
    how.split_mode = REMASK_SPLIT_TENSORS;
    BAD(remask_model_load(argv[1], NT, &how, &model, &error));
    how.split_mode = 2;
    BAD(remask_model_load(argv[1], NT, &how, &model, &error));
    how.split_mode = REMASK_SPLIT_LAYERS;
    how.reserved = 1;
    BAD(remask_model_load(argv[1], NT, &how, &model, &error));
    how.reserved = 0;
    how.flags = REMASK_LOAD_READ;
    OK(remask_model_load(argv[1], NT, &how, &model, &error));
    remask_model_info info;
    memset(&info, 0, sizeof info);
    BAD(remask_model_get_info(model, &info, &error));
    remask_model_info_init(&info, sizeof info);
    OK(remask_model_get_info(model, &info, &error));
    CHECK(strcmp(info.arch, "llada") == 0 && info.n_vocab > 0 && info.mask_token >= 0);

    texts(model);
    canvases(model, &info);
    runs(model, &info);
    scores(model, &info);
    loads(model, argv[1]);
    writes(argv[1]);

    BAD(remask_quantize(NULL, NT, "x", NT, NULL, &error));
    BAD(remask_convert("x", NT, NULL, NT, NULL, &error));
    FAILS(REMASK_STATUS_IO, remask_convert("/nowhere", NT, "/nowhere2", NT, NULL, &error));
    remask_write_params write;
    remask_write_params_init(&write, sizeof write);
    write.type_name = "no type";
    BAD(remask_quantize(argv[1], NT, "x", NT, &write, &error));

#ifdef REMASK_TEST_PANIC
    /* A panic is a status and a log line, and the next call works. */
    int before = n_logged;
    FAILS(REMASK_STATUS_INTERNAL, remask_test_panic(&error));
    CHECK(n_logged > before);
    OK(remask_model_get_info(model, &info, &error));
#endif
    CHECK(n_dropped == 0);
    remask_log_set(NULL, 0, NULL, NULL);
    CHECK(n_dropped == 1);
    remask_model_free(model);
    return 0;
}
