/* Chats and canvases. */
#include "jni_support.h"

#include <stdlib.h>

/* Messages from texts that alternate: role, content, role, content. */
typedef struct chat {
    bytes all;
    ints lengths;
    remask_text *texts;
    remask_message *messages;
    size_t n;
} chat;

static int chat_take(JNIEnv *env, jclass native, jbyteArray all, jintArray lengths, chat *out) {
    *out = (chat){{NULL, NULL, 0}, {NULL, NULL, 0}, NULL, NULL, 0};
    if (!bytes_take(env, all, &out->all) || !ints_take(env, lengths, &out->lengths)) {
        return 0;
    }
    out->n = out->lengths.len / 2;
    out->texts = texts_of(env, native, &out->all, &out->lengths);
    out->messages = out->texts != NULL ? room_new(env, out->n, sizeof *out->messages) : NULL;
    if (out->messages == NULL) {
        return 0;
    }
    for (size_t i = 0; i < out->n; i++) {
        out->messages[i].role = out->texts[2 * i];
        out->messages[i].content = out->texts[2 * i + 1];
    }
    return 1;
}

static void chat_give(JNIEnv *env, chat *taken) {
    bytes_give(env, &taken->all);
    ints_give(env, &taken->lengths);
    free(taken->texts);
    free(taken->messages);
}

NATIVE(jbyteArray, renderChat)(JNIEnv *env, jclass native, jlong model, jbyteArray texts, jintArray lengths,
                               jint flags) {
    room room = {NULL, 0, 0};
    remask_error *error = NULL;
    remask_status status = REMASK_STATUS_OK;
    chat chat;
    if (chat_take(env, native, texts, lengths, &chat)) {
        do {
            status = remask_model_render_chat(HANDLE(remask_model, model), chat.messages, chat.n, (uint32_t)flags,
                                              room.data, room.capacity, &room.len, &error);
        } while (room_grow(env, &room, status, 1, &error));
    }
    chat_give(env, &chat);
    return bytes_out(env, native, status, error, &room);
}

NATIVE(jintArray, encodeChat)(JNIEnv *env, jclass native, jlong model, jbyteArray texts, jintArray lengths,
                              jint flags) {
    room room = {NULL, 0, 0};
    remask_error *error = NULL;
    remask_status status = REMASK_STATUS_OK;
    chat chat;
    if (chat_take(env, native, texts, lengths, &chat)) {
        do {
            status = remask_model_encode_chat(HANDLE(remask_model, model), chat.messages, chat.n, (uint32_t)flags,
                                              room.data, room.capacity, &room.len, &error);
        } while (room_grow(env, &room, status, sizeof(int32_t), &error));
    }
    chat_give(env, &chat);
    return ints_out(env, native, status, error, &room);
}

NATIVE(jlong, canvasNew)(JNIEnv *env, jclass native, jlong model) {
    remask_canvas *canvas = NULL;
    remask_error *error = NULL;
    remask_status status = remask_canvas_new(HANDLE(remask_model, model), &canvas, &error);
    return failed(env, native, status, error) ? 0 : LONG(canvas);
}

NATIVE(jlong, canvasCopy)(JNIEnv *env, jclass native, jlong canvas) {
    remask_canvas *copy = NULL;
    remask_error *error = NULL;
    remask_status status = remask_canvas_copy(HANDLE(remask_canvas, canvas), &copy, &error);
    return failed(env, native, status, error) ? 0 : LONG(copy);
}

NATIVE(void, canvasFree)(JNIEnv *env, jclass native, jlong canvas) {
    (void)env, (void)native;
    remask_canvas_free(HANDLE(remask_canvas, canvas));
}

/* `holes` is 1 for text with holes. */
NATIVE(void, canvasAppendText)(JNIEnv *env, jclass native, jlong canvas, jbyteArray text, jint flags,
                               jboolean holes) {
    remask_error *error = NULL;
    remask_status status = REMASK_STATUS_OK;
    bytes in;
    if (bytes_take(env, text, &in)) {
        remask_canvas *at = HANDLE(remask_canvas, canvas);
        const char *data = (const char *)in.data;
        status = holes ? remask_canvas_append_holes(at, data, in.len, (uint32_t)flags, &error)
                       : remask_canvas_append_text(at, data, in.len, (uint32_t)flags, &error);
    }
    bytes_give(env, &in);
    (void)failed(env, native, status, error);
}

NATIVE(void, canvasAppendTokens)(JNIEnv *env, jclass native, jlong canvas, jintArray tokens) {
    remask_error *error = NULL;
    remask_status status = REMASK_STATUS_OK;
    ints in;
    if (ints_take(env, tokens, &in)) {
        status = remask_canvas_append_tokens(HANDLE(remask_canvas, canvas), in.data, in.len, &error);
    }
    ints_give(env, &in);
    (void)failed(env, native, status, error);
}

NATIVE(void, canvasAppendMasks)(JNIEnv *env, jclass native, jlong canvas, jlong n) {
    remask_error *error = NULL;
    remask_status status = remask_canvas_append_masks(HANDLE(remask_canvas, canvas), size_of(n), &error);
    (void)failed(env, native, status, error);
}

NATIVE(void, canvasAppendChat)(JNIEnv *env, jclass native, jlong canvas, jbyteArray texts, jintArray lengths,
                               jint flags) {
    remask_error *error = NULL;
    remask_status status = REMASK_STATUS_OK;
    chat chat;
    if (chat_take(env, native, texts, lengths, &chat)) {
        status = remask_canvas_append_chat(HANDLE(remask_canvas, canvas), chat.messages, chat.n, (uint32_t)flags,
                                           &error);
    }
    chat_give(env, &chat);
    (void)failed(env, native, status, error);
}

NATIVE(void, canvasMask)(JNIEnv *env, jclass native, jlong canvas, jlong begin, jlong end) {
    remask_error *error = NULL;
    remask_status status = remask_canvas_mask(HANDLE(remask_canvas, canvas), size_of(begin), size_of(end), &error);
    (void)failed(env, native, status, error);
}

NATIVE(void, canvasFix)(JNIEnv *env, jclass native, jlong canvas, jlong begin, jlong end) {
    remask_error *error = NULL;
    remask_status status = remask_canvas_fix(HANDLE(remask_canvas, canvas), size_of(begin), size_of(end), &error);
    (void)failed(env, native, status, error);
}

NATIVE(void, canvasSet)(JNIEnv *env, jclass native, jlong canvas, jlong begin, jintArray tokens) {
    remask_error *error = NULL;
    remask_status status = REMASK_STATUS_OK;
    ints in;
    if (ints_take(env, tokens, &in)) {
        status = remask_canvas_set(HANDLE(remask_canvas, canvas), size_of(begin), in.data, in.len, &error);
    }
    ints_give(env, &in);
    (void)failed(env, native, status, error);
}

NATIVE(void, canvasForbid)(JNIEnv *env, jclass native, jlong canvas, jlong begin, jlong end, jintArray tokens) {
    remask_error *error = NULL;
    remask_status status = REMASK_STATUS_OK;
    ints in;
    if (ints_take(env, tokens, &in)) {
        status = remask_canvas_forbid(HANDLE(remask_canvas, canvas), size_of(begin), size_of(end), in.data, in.len,
                                      &error);
    }
    ints_give(env, &in);
    (void)failed(env, native, status, error);
}

NATIVE(void, canvasTruncate)(JNIEnv *env, jclass native, jlong canvas, jlong n_slots) {
    remask_error *error = NULL;
    remask_status status = remask_canvas_truncate(HANDLE(remask_canvas, canvas), size_of(n_slots), &error);
    (void)failed(env, native, status, error);
}

/* facts: slots, masked slots. */
NATIVE(void, canvasCount)(JNIEnv *env, jclass native, jlong canvas, jlongArray facts) {
    size_t n_slots = 0, n_masked = 0;
    remask_error *error = NULL;
    remask_status status = remask_canvas_count(HANDLE(remask_canvas, canvas), &n_slots, &n_masked, &error);
    if (!failed(env, native, status, error)) {
        jlong values[] = {(jlong)n_slots, (jlong)n_masked};
        put_longs(env, facts, values, 2);
    }
}

NATIVE(jintArray, canvasTokens)(JNIEnv *env, jclass native, jlong canvas) {
    room room = {NULL, 0, 0};
    remask_error *error = NULL;
    remask_status status;
    do {
        status = remask_canvas_tokens(HANDLE(remask_canvas, canvas), room.data, room.capacity, &room.len, &error);
    } while (room_grow(env, &room, status, sizeof(int32_t), &error));
    return ints_out(env, native, status, error, &room);
}

NATIVE(jbyteArray, canvasSlots)(JNIEnv *env, jclass native, jlong canvas) {
    room room = {NULL, 0, 0};
    remask_error *error = NULL;
    remask_status status;
    do {
        status = remask_canvas_slots(HANDLE(remask_canvas, canvas), room.data, room.capacity, &room.len, &error);
    } while (room_grow(env, &room, status, 1, &error));
    return bytes_out(env, native, status, error, &room);
}

NATIVE(jbyteArray, canvasText)(JNIEnv *env, jclass native, jlong canvas, jlong begin, jlong end, jint flags) {
    room room = {NULL, 0, 0};
    remask_error *error = NULL;
    remask_status status;
    do {
        status = remask_canvas_text(HANDLE(remask_canvas, canvas), size_of(begin), size_of(end), (uint32_t)flags,
                                    room.data, room.capacity, &room.len, &error);
    } while (room_grow(env, &room, status, 1, &error));
    return bytes_out(env, native, status, error, &room);
}

NATIVE(jbyteArray, canvasResponse)(JNIEnv *env, jclass native, jlong canvas, jint flags) {
    room room = {NULL, 0, 0};
    remask_error *error = NULL;
    remask_status status;
    do {
        status = remask_canvas_response(HANDLE(remask_canvas, canvas), (uint32_t)flags, room.data, room.capacity,
                                        &room.len, &error);
    } while (room_grow(env, &room, status, 1, &error));
    return bytes_out(env, native, status, error, &room);
}
