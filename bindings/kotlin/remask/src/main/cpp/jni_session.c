/* Sessions: runs, scores, logits. */
#include "jni_support.h"

#include <stdlib.h>
#include <string.h>

NATIVE(jlong, sessionNew)(JNIEnv *env, jclass native, jlong model, jint n_threads, jint flash, jint max_canvas) {
    remask_session_params params;
    remask_session_params_init(&params, sizeof params);
    params.n_threads = (uint32_t)n_threads;
    params.flash = flash;
    params.max_canvas = (uint32_t)max_canvas;
    remask_session *session = NULL;
    remask_error *error = NULL;
    remask_status status = remask_session_new(HANDLE(remask_model, model), &params, &session, &error);
    return failed(env, native, status, error) ? 0 : LONG(session);
}

NATIVE(void, sessionFree)(JNIEnv *env, jclass native, jlong session) {
    (void)env, (void)native;
    remask_session_free(HANDLE(remask_session, session));
}

/* facts: threads, bytes, runs, steps, evaluations, microseconds. */
NATIVE(void, sessionStats)(JNIEnv *env, jclass native, jlong session, jlongArray facts) {
    remask_session_stats stats;
    remask_session_stats_init(&stats, sizeof stats);
    remask_error *error = NULL;
    if (!failed(env, native, remask_session_get_stats(HANDLE(remask_session, session), &stats, &error), error)) {
        jlong values[] = {stats.n_threads,      (jlong)stats.n_bytes, (jlong)stats.n_runs,
                          (jlong)stats.n_steps, (jlong)stats.nfe,     (jlong)stats.elapsed_us};
        put_longs(env, facts, values, 6);
    }
}

/* numbers: flags, steps, block length, order, commit, end and end-of-turn token, response start, seed, top-k,
 * cancel token, speed, cache, its type, its refresh, suffix window. reals: commit value, temperature, top-p,
 * repetition penalty, guidance. */
static int params_of(JNIEnv *env, jlongArray numbers, jdoubleArray reals, remask_generate_params *out) {
    jlong n[16];
    jdouble x[5];
    remask_generate_params_init(out, sizeof *out);
    (*env)->GetLongArrayRegion(env, numbers, 0, 16, n);
    if ((*env)->ExceptionCheck(env)) {
        return 0;
    }
    (*env)->GetDoubleArrayRegion(env, reals, 0, 5, x);
    if ((*env)->ExceptionCheck(env)) {
        return 0;
    }
    out->flags = (uint32_t)n[0];
    out->n_steps = (uint32_t)n[1];
    out->block_length = (uint32_t)n[2];
    out->order = (remask_order)n[3];
    out->commit = (remask_commit)n[4];
    out->eos_token = (int32_t)n[5];
    out->eot_token = (int32_t)n[6];
    out->response_start = n[7];
    out->seed = (uint64_t)n[8];
    out->top_k = (uint64_t)n[9];
    out->cancel = HANDLE(remask_cancel, n[10]);
    out->speed = (remask_speed)n[11];
    out->cache = (remask_cache)n[12];
    out->cache_type = (remask_cache_type)n[13];
    out->cache_refresh = (uint32_t)n[14];
    out->suffix_window = (uint64_t)n[15];
    out->commit_value = x[0];
    out->temperature = x[1];
    out->top_p = x[2];
    out->repetition_penalty = x[3];
    out->guidance = x[4];
    return 1;
}

/* Copies a Java array of longs; NULL with an exception pending. */
static jlong *longs_of(JNIEnv *env, jlongArray array, size_t *len) {
    *len = array != NULL ? (size_t)(*env)->GetArrayLength(env, array) : 0;
    jlong *values = room_new(env, *len, sizeof *values);
    if (values != NULL && *len > 0) {
        (*env)->GetLongArrayRegion(env, array, 0, (jsize)*len, values);
    }
    return values;
}

static remask_run *run_new(JNIEnv *env, jclass native, remask_session *session, jlongArray canvases,
                           remask_generate_params *params, jlongArray seeds) {
    size_t n_canvases = 0, n_seeds = 0;
    jlong *handles = longs_of(env, canvases, &n_canvases);
    jlong *seed_values = handles != NULL ? longs_of(env, seeds, &n_seeds) : NULL;
    remask_canvas **list = seed_values != NULL ? room_new(env, n_canvases, sizeof *list) : NULL;
    remask_run *run = NULL;
    if (list != NULL) {
        for (size_t i = 0; i < n_canvases; i++) {
            list[i] = HANDLE(remask_canvas, handles[i]);
        }
        params->seeds = n_seeds > 0 ? (const uint64_t *)seed_values : NULL;
        params->n_seeds = n_seeds;
        remask_error *error = NULL;
        remask_status status = remask_run_new(session, list, n_canvases, params, &run, &error);
        if (failed(env, native, status, error)) {
            run = NULL;
        }
    }
    free(list);
    free(seed_values);
    free(handles);
    return run;
}

NATIVE(jlong, runNew)(JNIEnv *env, jclass native, jlong session, jlongArray canvases, jlongArray numbers,
                      jdoubleArray reals, jintArray suppress, jbyteArray stops, jintArray stop_lengths,
                      jlongArray seeds) {
    remask_generate_params params;
    if (!params_of(env, numbers, reals, &params)) {
        return 0;
    }
    ints suppressed, lengths = {NULL, NULL, 0};
    bytes all = {NULL, NULL, 0};
    remask_text *texts = NULL;
    remask_run *run = NULL;
    if (ints_take(env, suppress, &suppressed) && bytes_take(env, stops, &all) &&
        ints_take(env, stop_lengths, &lengths) && (texts = texts_of(env, native, &all, &lengths)) != NULL) {
        params.suppress = suppressed.len > 0 ? suppressed.data : NULL;
        params.n_suppress = suppressed.len;
        params.stop = lengths.len > 0 ? texts : NULL;
        params.n_stop = lengths.len;
        run = run_new(env, native, HANDLE(remask_session, session), canvases, &params, seeds);
    }
    free(texts);
    ints_give(env, &lengths);
    bytes_give(env, &all);
    ints_give(env, &suppressed);
    return LONG(run);
}

/* One array of ints: slot, token and confidence bits of each change, then the tokens, then the states. facts: in
 * the order of the C struct, from `i_canvas` to `elapsed_us`, then changes and slots. */
static jintArray step_out(JNIEnv *env, const remask_step *step, jlongArray facts) {
    jlong values[] = {step->i_canvas,     step->n_canvases,        step->done,      step->canvas_done,
                      step->ended,        step->i_step,            step->n_steps,   step->block_begin,
                      step->block_end,    step->n_masked,          step->end,       (jlong)step->nfe,
                      (jlong)step->step_us, (jlong)step->elapsed_us, (jlong)step->n_changed, (jlong)step->n_slots};
    put_longs(env, facts, values, sizeof values / sizeof *values);
    if ((*env)->ExceptionCheck(env)) {
        return NULL;
    }
    size_t len = 3 * step->n_changed + 2 * step->n_slots;
    jint *list = room_new(env, len, sizeof *list);
    if (list == NULL) {
        return NULL;
    }
    jint *at = list;
    for (size_t i = 0; i < step->n_changed; i++) {
        const remask_change *change = &step->changed[i];
        *at++ = (jint)change->slot;
        *at++ = change->token;
        memcpy(at++, &change->confidence, sizeof change->confidence);
    }
    for (size_t i = 0; i < step->n_slots; i++) {
        *at++ = step->tokens[i];
    }
    for (size_t i = 0; i < step->n_slots; i++) {
        *at++ = step->slots[i];
    }
    room room = {list, len, len};
    jintArray out = room_ints(env, &room);
    free(list);
    return out;
}

NATIVE(jintArray, runStep)(JNIEnv *env, jclass native, jlong run, jlongArray facts) {
    remask_step step;
    remask_step_init(&step, sizeof step);
    remask_error *error = NULL;
    remask_status status = remask_run_step(HANDLE(remask_run, run), &step, &error);
    return failed(env, native, status, error) ? NULL : step_out(env, &step, facts);
}

NATIVE(void, runBeginStep)(JNIEnv *env, jclass native, jlong run) {
    remask_error *error = NULL;
    remask_status status = remask_run_begin_step(HANDLE(remask_run, run), &error);
    (void)failed(env, native, status, error);
}

NATIVE(jintArray, runReport)(JNIEnv *env, jclass native, jlong run, jint i_canvas, jlongArray facts) {
    remask_step step;
    remask_step_init(&step, sizeof step);
    remask_error *error = NULL;
    remask_status status = remask_run_report(HANDLE(remask_run, run), size_of(i_canvas), &step, &error);
    return failed(env, native, status, error) ? NULL : step_out(env, &step, facts);
}

NATIVE(void, runReplace)(JNIEnv *env, jclass native, jlong run, jint i_canvas, jintArray tokens) {
    remask_error *error = NULL;
    remask_status status = REMASK_STATUS_OK;
    ints in;
    if (ints_take(env, tokens, &in)) {
        status = remask_run_replace(HANDLE(remask_run, run), size_of(i_canvas), in.data, in.len, &error);
    }
    ints_give(env, &in);
    (void)failed(env, native, status, error);
}

NATIVE(void, runFree)(JNIEnv *env, jclass native, jlong run) {
    (void)env, (void)native;
    remask_run_free(HANDLE(remask_run, run));
}

/* numbers: method, samples, batch, seed, cancel token. */
static int score_params_of(JNIEnv *env, jlongArray numbers, jdouble guidance, remask_score_params *out) {
    jlong n[5];
    remask_score_params_init(out, sizeof *out);
    (*env)->GetLongArrayRegion(env, numbers, 0, 5, n);
    if ((*env)->ExceptionCheck(env)) {
        return 0;
    }
    out->method = (remask_score_method)n[0];
    out->n_samples = (uint32_t)n[1];
    out->n_batch = (uint32_t)n[2];
    out->seed = (uint64_t)n[3];
    out->cancel = HANDLE(remask_cancel, n[4]);
    out->guidance = guidance;
    return 1;
}

/* facts: log-likelihood, standard error, tokens, evaluations. */
NATIVE(void, score)(JNIEnv *env, jclass native, jlong session, jintArray tokens, jlong begin, jlong end,
                    jlongArray numbers, jdouble guidance, jdoubleArray facts) {
    remask_score_params params;
    if (!score_params_of(env, numbers, guidance, &params)) {
        return;
    }
    remask_score score;
    remask_score_init(&score, sizeof score);
    remask_error *error = NULL;
    remask_status status = REMASK_STATUS_OK;
    ints in;
    if (ints_take(env, tokens, &in)) {
        status = remask_session_score(HANDLE(remask_session, session), in.data, in.len, size_of(begin), size_of(end),
                                      &params, &score, &error);
    }
    ints_give(env, &in);
    if (!failed(env, native, status, error)) {
        jdouble values[] = {score.log_likelihood, score.standard_error, score.n_tokens, (jdouble)score.nfe};
        (*env)->SetDoubleArrayRegion(env, facts, 0, 4, values);
    }
}

/* The choices lie one after the other in `choices`. out: log-likelihoods, then probabilities. */
NATIVE(jint, choose)(JNIEnv *env, jclass native, jlong session, jintArray prompt, jintArray choices,
                     jintArray lengths, jlongArray numbers, jdouble guidance, jdoubleArray out) {
    remask_score_params params;
    if (!score_params_of(env, numbers, guidance, &params)) {
        return -1;
    }
    ints start, all = {NULL, NULL, 0}, counts = {NULL, NULL, 0};
    remask_tokens *list = NULL;
    double *values = NULL;
    size_t best = 0;
    remask_error *error = NULL;
    remask_status status = REMASK_STATUS_OK;
    if (ints_take(env, prompt, &start) && ints_take(env, choices, &all) && ints_take(env, lengths, &counts) &&
        (list = room_new(env, counts.len, sizeof *list)) != NULL &&
        (values = room_new(env, counts.len, 2 * sizeof *values)) != NULL) {
        size_t at = 0;
        for (size_t i = 0; i < counts.len && status == REMASK_STATUS_OK; i++) {
            size_t len = (size_t)counts.data[i];
            if (counts.data[i] < 0 || len > all.len - at) {
                status = REMASK_STATUS_INVALID_ARGUMENT;
                break;
            }
            list[i].data = len > 0 ? all.data + at : NULL;
            list[i].len = len;
            at += len;
        }
        if (status == REMASK_STATUS_OK) {
            status = remask_session_choose(HANDLE(remask_session, session), start.data, start.len, list, counts.len,
                                           &params, values, values + counts.len, &best, &error);
        }
    }
    if (!failed(env, native, status, error)) {
        (*env)->SetDoubleArrayRegion(env, out, 0, (jsize)(2 * counts.len), values);
    }
    free(values);
    free(list);
    ints_give(env, &counts);
    ints_give(env, &all);
    ints_give(env, &start);
    return (jint)best;
}

/* A direct FloatBuffer from its start to its capacity; NULL and 0 for null. 0 with an exception pending. */
static int floats_of(JNIEnv *env, jclass native, jobject buffer, float **out, size_t *capacity) {
    *out = NULL;
    *capacity = 0;
    if (buffer == NULL) {
        return 1;
    }
    jlong count = (*env)->GetDirectBufferCapacity(env, buffer);
    *out = (*env)->GetDirectBufferAddress(env, buffer);
    if (*out == NULL || count < 0) {
        (void)failed(env, native, REMASK_STATUS_INVALID_ARGUMENT, NULL);
        return 0;
    }
    *capacity = (size_t)count;
    return 1;
}

/* The number of floats written or, where `into` is null, needed. */
static jlong floats_out(JNIEnv *env, jclass native, jobject into, remask_status status, remask_error *error,
                        size_t len) {
    if (into == NULL && status == REMASK_STATUS_BUFFER_TOO_SMALL) {
        remask_error_free(error);
        return (jlong)len;
    }
    return failed(env, native, status, error) ? -1 : (jlong)len;
}

NATIVE(jlong, logits)(JNIEnv *env, jclass native, jlong session, jintArray tokens, jintArray rows, jobject into) {
    float *floats;
    size_t capacity, len = 0;
    if (!floats_of(env, native, into, &floats, &capacity)) {
        return -1;
    }
    remask_error *error = NULL;
    remask_status status = REMASK_STATUS_OK;
    ints in, wanted = {NULL, NULL, 0};
    if (ints_take(env, tokens, &in) && ints_take(env, rows, &wanted)) {
        status = remask_session_logits(HANDLE(remask_session, session), in.data, in.len,
                                       (const uint32_t *)wanted.data, wanted.len, floats, capacity, &len, &error);
    }
    ints_give(env, &wanted);
    ints_give(env, &in);
    return floats_out(env, native, into, status, error, len);
}

NATIVE(jlong, embeddings)(JNIEnv *env, jclass native, jlong session, jintArray tokens, jint pooling, jobject into) {
    float *floats;
    size_t capacity, len = 0;
    if (!floats_of(env, native, into, &floats, &capacity)) {
        return -1;
    }
    remask_error *error = NULL;
    remask_status status = REMASK_STATUS_OK;
    ints in;
    if (ints_take(env, tokens, &in)) {
        status = remask_session_embeddings(HANDLE(remask_session, session), in.data, in.len, pooling, floats,
                                           capacity, &len, &error);
    }
    ints_give(env, &in);
    return floats_out(env, native, into, status, error, len);
}
