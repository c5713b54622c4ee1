/* Library, cancel tokens, models, tokenizer. */
#include "jni_support.h"

#include <stdlib.h>
#include <string.h>

static jbyteArray static_text(JNIEnv *env, const char *text) {
    jsize len = (jsize)strlen(text);
    jbyteArray array = (*env)->NewByteArray(env, len);
    if (array != NULL) {
        (*env)->SetByteArrayRegion(env, array, 0, len, (const jbyte *)text);
    }
    return array;
}

NATIVE(jbyteArray, version)(JNIEnv *env, jclass native) {
    (void)native;
    return static_text(env, remask_version());
}

NATIVE(jint, abiVersion)(JNIEnv *env, jclass native) {
    (void)env, (void)native;
    return (jint)remask_abi_version();
}

/* The ABI that this layer was compiled for. */
NATIVE(jint, abiExpected)(JNIEnv *env, jclass native) {
    (void)env, (void)native;
    return REMASK_ABI_VERSION;
}

NATIVE(jint, deviceCount)(JNIEnv *env, jclass native) {
    (void)env, (void)native;
    return (jint)remask_device_count();
}

/* Name and description, a newline between; facts: kind, free and total memory. */
NATIVE(jbyteArray, device)(JNIEnv *env, jclass native, jint index, jlongArray facts) {
    remask_device device;
    remask_device_init(&device, sizeof device);
    remask_error *error = NULL;
    if (failed(env, native, remask_device_get(size_of(index), &device, &error), error)) {
        return NULL;
    }
    jlong values[] = {device.kind, (jlong)device.memory_free, (jlong)device.memory_total};
    put_longs(env, facts, values, 3);
    if ((*env)->ExceptionCheck(env)) {
        return NULL;
    }
    char text[sizeof device.name + sizeof device.description + 1];
    size_t n = strlen(device.name);
    memcpy(text, device.name, n);
    text[n++] = '\n';
    memcpy(text + n, device.description, strlen(device.description) + 1);
    return static_text(env, text);
}

NATIVE(jlong, backendsLoad)(JNIEnv *env, jclass native, jbyteArray folder) {
    bytes name;
    size_t loaded = 0;
    remask_error *error = NULL;
    remask_status status = REMASK_STATUS_OK;
    if (bytes_take(env, folder, &name)) {
        status = remask_backends_load((const char *)name.data, name.len, &loaded, &error);
    }
    bytes_give(env, &name);
    return failed(env, native, status, error) ? 0 : (jlong)loaded;
}

NATIVE(jlong, cancelNew)(JNIEnv *env, jclass native) {
    (void)env, (void)native;
    return LONG(remask_cancel_new());
}

NATIVE(void, cancelSet)(JNIEnv *env, jclass native, jlong cancel) {
    (void)env, (void)native;
    remask_cancel_set(HANDLE(remask_cancel, cancel));
}

NATIVE(void, cancelReset)(JNIEnv *env, jclass native, jlong cancel) {
    (void)env, (void)native;
    remask_cancel_reset(HANDLE(remask_cancel, cancel));
}

NATIVE(jboolean, cancelIsSet)(JNIEnv *env, jclass native, jlong cancel) {
    (void)env, (void)native;
    return remask_cancel_is_set(HANDLE(remask_cancel, cancel)) ? JNI_TRUE : JNI_FALSE;
}

NATIVE(void, cancelFree)(JNIEnv *env, jclass native, jlong cancel) {
    (void)env, (void)native;
    remask_cancel_free(HANDLE(remask_cancel, cancel));
}

/* More shares than devices are refused; ggml takes fewer devices. */
enum { LOAD_NUMBERS = 5, MOST_SHARES = 64 };

/* What callbacks of a load need; lives for the call. */
typedef struct load {
    JNIEnv *env;
    jobject reader, progress;
    jmethodID read_at, on_progress;
    bytes device, tokenizer;
    double split[MOST_SHARES];
    remask_load_params params;
} load;

static int32_t on_progress(uint64_t done, uint64_t total, void *user_data) {
    load *load = user_data;
    JNIEnv *env = load->env;
    if ((*env)->ExceptionCheck(env)) {
        return REMASK_STOP;
    }
    jboolean more = (*env)->CallBooleanMethod(env, load->progress, load->on_progress, (jlong)done, (jlong)total);
    return (*env)->ExceptionCheck(env) || !more ? REMASK_STOP : REMASK_CONTINUE;
}

/* A buffer of Java's holds at most 2 GiB. */
#define READ_BYTES ((size_t)16 << 20)

static int32_t read_at(uint64_t offset, void *buffer, size_t n, void *user_data) {
    load *load = user_data;
    JNIEnv *env = load->env;
    for (size_t done = 0; done < n;) {
        size_t part = n - done < READ_BYTES ? n - done : READ_BYTES;
        if ((*env)->ExceptionCheck(env)) {
            return 1;
        }
        jobject view = (*env)->NewDirectByteBuffer(env, (char *)buffer + done, (jlong)part);
        if (view == NULL) {
            return 1;
        }
        (*env)->CallVoidMethod(env, load->reader, load->read_at, (jlong)(offset + done), view);
        (*env)->DeleteLocalRef(env, view);
        if ((*env)->ExceptionCheck(env)) {
            return 1;
        }
        done += part;
    }
    return 0;
}

static int method(JNIEnv *env, jobject object, const char *name, const char *signature, jmethodID *out) {
    jclass type = (*env)->GetObjectClass(env, object);
    *out = (*env)->GetMethodID(env, type, name, signature);
    (*env)->DeleteLocalRef(env, type);
    return *out != NULL;
}

/* `numbers`: flags, verify, layers, cancel token, split mode, then the bits of each share. `device` and `tokenizer` end with a NUL. */
static int load_begin(JNIEnv *env, load *load, jlongArray numbers, jbyteArray device, jbyteArray tokenizer,
                      jobject progress) {
    *load = (struct load){.env = env, .progress = progress};
    remask_load_params_init(&load->params, sizeof load->params);
    jlong n[LOAD_NUMBERS + MOST_SHARES];
    jsize count = (*env)->GetArrayLength(env, numbers);
    if (count < LOAD_NUMBERS) {
        count = LOAD_NUMBERS; /* Reading them throws. */
    }
    if (count > LOAD_NUMBERS + MOST_SHARES) {
        count = LOAD_NUMBERS + MOST_SHARES;
    }
    (*env)->GetLongArrayRegion(env, numbers, 0, count, n);
    if ((*env)->ExceptionCheck(env) || !bytes_take(env, device, &load->device) ||
        !bytes_take(env, tokenizer, &load->tokenizer)) {
        return 0;
    }
    load->params.flags = (uint32_t)n[0];
    load->params.verify = (remask_verify)n[1];
    load->params.n_gpu_layers = (uint32_t)n[2];
    load->params.cancel = HANDLE(remask_cancel, n[3]);
    load->params.split_mode = (remask_split_mode)n[4];
    load->params.n_split = (size_t)(count - LOAD_NUMBERS);
    memcpy(load->split, n + LOAD_NUMBERS, load->params.n_split * sizeof *load->split);
    load->params.split = load->split;
    load->params.device = (const char *)load->device.data;
    load->params.tokenizer_path = (const char *)load->tokenizer.data;
    load->params.user_data = load;
    if (progress != NULL) {
        if (!method(env, progress, "onProgress", "(JJ)Z", &load->on_progress)) {
            return 0;
        }
        load->params.on_progress = on_progress;
    }
    return 1;
}

/* The model, or 0 with an exception pending. */
static jlong load_end(jclass native, load *load, remask_status status, remask_model *model, remask_error *error) {
    JNIEnv *env = load->env;
    bytes_give(env, &load->device);
    bytes_give(env, &load->tokenizer);
    if (failed(env, native, status, error)) {
        remask_model_free(model);
        return 0;
    }
    return LONG(model);
}

NATIVE(jlong, modelLoad)(JNIEnv *env, jclass native, jbyteArray path, jlongArray numbers, jbyteArray device,
                         jbyteArray tokenizer, jobject progress) {
    load load;
    bytes name = {NULL, NULL, 0};
    remask_status status = REMASK_STATUS_OK;
    remask_model *model = NULL;
    remask_error *error = NULL;
    if (load_begin(env, &load, numbers, device, tokenizer, progress) && bytes_take(env, path, &name)) {
        status = remask_model_load((const char *)name.data, name.len, &load.params, &model, &error);
    }
    bytes_give(env, &name);
    return load_end(native, &load, status, model, error);
}

/* Keeps a buffer while a model lies in it. */
typedef struct kept {
    JavaVM *vm;
    jobject buffer;
} kept;

static void drop_kept(void *user_data) {
    kept *kept = user_data;
    JNIEnv *env = NULL;
    int attached = (*kept->vm)->GetEnv(kept->vm, (void **)&env, JNI_VERSION_1_6) == JNI_OK;
    if (!attached) {
        /* Android's header has another type here. */
#if defined(__ANDROID__)
        jint result = (*kept->vm)->AttachCurrentThread(kept->vm, &env, NULL);
#else
        jint result = (*kept->vm)->AttachCurrentThread(kept->vm, (void **)&env, NULL);
#endif
        if (result != JNI_OK) {
            return; /* The machine is going down, and the buffer with it. */
        }
    }
    (*env)->DeleteGlobalRef(env, kept->buffer);
    if (!attached) {
        (*kept->vm)->DetachCurrentThread(kept->vm);
    }
    free(kept);
}

NATIVE(jlong, modelLoadBuffer)(JNIEnv *env, jclass native, jobject buffer, jlong begin, jlong n_bytes,
                               jlongArray numbers, jbyteArray device, jbyteArray tokenizer, jobject progress) {
    load load;
    remask_status status = REMASK_STATUS_OK;
    remask_model *model = NULL;
    remask_error *error = NULL;
    if (load_begin(env, &load, numbers, device, tokenizer, progress)) {
        const char *memory = (*env)->GetDirectBufferAddress(env, buffer);
        jlong capacity = (*env)->GetDirectBufferCapacity(env, buffer);
        kept *kept = room_new(env, 1, sizeof *kept);
        if (kept != NULL && (memory == NULL || begin < 0 || n_bytes < 0 || begin > capacity - n_bytes)) {
            free(kept);
            status = REMASK_STATUS_INVALID_ARGUMENT;
        } else if (kept != NULL) {
            kept->buffer = (*env)->NewGlobalRef(env, buffer);
            if (kept->buffer == NULL || (*env)->GetJavaVM(env, &kept->vm) != JNI_OK) {
                (*env)->DeleteGlobalRef(env, kept->buffer);
                free(kept);
                status = REMASK_STATUS_RESOURCE;
            } else {
                status = remask_model_load_memory(memory + begin, (size_t)n_bytes, drop_kept, kept, &load.params,
                                                  &model, &error);
            }
        }
    }
    return load_end(native, &load, status, model, error);
}

NATIVE(jlong, modelLoadReader)(JNIEnv *env, jclass native, jobject reader, jlong n_bytes, jlongArray numbers,
                               jbyteArray device, jbyteArray tokenizer, jobject progress) {
    load load;
    remask_status status = REMASK_STATUS_OK;
    remask_model *model = NULL;
    remask_error *error = NULL;
    if (load_begin(env, &load, numbers, device, tokenizer, progress) &&
        method(env, reader, "readAt", "(JLjava/nio/ByteBuffer;)V", &load.read_at)) {
        load.reader = reader;
        remask_reader source;
        remask_reader_init(&source, sizeof source);
        source.n_bytes = n_bytes < 0 ? 0 : (uint64_t)n_bytes;
        source.read_at = read_at;
        source.user_data = &load;
        status = remask_model_load_reader(&source, &load.params, &model, &error);
    }
    return load_end(native, &load, status, model, error);
}

NATIVE(void, modelFree)(JNIEnv *env, jclass native, jlong model) {
    (void)env, (void)native;
    remask_model_free(HANDLE(remask_model, model));
}

/* The architecture; facts in the order of the C struct. */
NATIVE(jbyteArray, modelInfo)(JNIEnv *env, jclass native, jlong model, jlongArray facts) {
    remask_model_info info;
    remask_model_info_init(&info, sizeof info);
    remask_error *error = NULL;
    if (failed(env, native, remask_model_get_info(HANDLE(remask_model, model), &info, &error), error)) {
        return NULL;
    }
    jlong values[] = {info.has_chat_template, info.n_ctx,      info.n_vocab,   info.n_embd,    info.n_layer,
                      info.n_head,            info.n_head_kv,  info.n_ff,      info.mask_token, info.bos_token,
                      info.eos_token,         info.eot_token,  info.pad_token, (jlong)info.n_params,
                      (jlong)info.n_bytes};
    put_longs(env, facts, values, sizeof values / sizeof *values);
    return (*env)->ExceptionCheck(env) ? NULL : static_text(env, info.arch);
}

NATIVE(jint, metaCount)(JNIEnv *env, jclass native, jlong model) {
    (void)env, (void)native;
    return (jint)remask_model_meta_count(HANDLE(remask_model, model));
}

NATIVE(jbyteArray, metaKey)(JNIEnv *env, jclass native, jlong model, jint index) {
    room room = {NULL, 0, 0};
    remask_error *error = NULL;
    remask_status status;
    do {
        status = remask_model_meta_key(HANDLE(remask_model, model), size_of(index), room.data, room.capacity,
                                       &room.len, &error);
    } while (room_grow(env, &room, status, 1, &error));
    return bytes_out(env, native, status, error, &room);
}

NATIVE(jbyteArray, metaValue)(JNIEnv *env, jclass native, jlong model, jbyteArray name) {
    room room = {NULL, 0, 0};
    remask_error *error = NULL;
    remask_status status = REMASK_STATUS_OK;
    bytes key;
    if (bytes_take(env, name, &key)) {
        do {
            status = remask_model_meta_value(HANDLE(remask_model, model), (const char *)key.data, key.len, room.data,
                                             room.capacity, &room.len, &error);
        } while (room_grow(env, &room, status, 1, &error));
    }
    bytes_give(env, &key);
    return bytes_out(env, native, status, error, &room);
}

/* facts: trained length, bytes of weights and of a session. `path` null asks about `model`. */
NATIVE(void, estimate)(JNIEnv *env, jclass native, jlong model, jbyteArray path, jlong n_slots, jlong n_masked,
                       jlongArray facts) {
    remask_estimate estimate;
    remask_estimate_init(&estimate, sizeof estimate);
    remask_error *error = NULL;
    remask_status status = REMASK_STATUS_OK;
    bytes name;
    if (bytes_take(env, path, &name)) {
        status = path == NULL
                     ? remask_estimate_model(HANDLE(remask_model, model), size_of(n_slots), size_of(n_masked),
                                             &estimate, &error)
                     : remask_estimate_file((const char *)name.data, name.len, size_of(n_slots), size_of(n_masked),
                                            &estimate, &error);
    }
    bytes_give(env, &name);
    if (!failed(env, native, status, error)) {
        jlong values[] = {estimate.n_ctx, (jlong)estimate.weights, (jlong)estimate.session};
        put_longs(env, facts, values, 3);
    }
}

NATIVE(jintArray, encode)(JNIEnv *env, jclass native, jlong model, jbyteArray text, jint flags) {
    room room = {NULL, 0, 0};
    remask_error *error = NULL;
    remask_status status = REMASK_STATUS_OK;
    bytes in;
    if (bytes_take(env, text, &in)) {
        do {
            status = remask_model_encode(HANDLE(remask_model, model), (const char *)in.data, in.len, (uint32_t)flags,
                                         room.data, room.capacity, &room.len, &error);
        } while (room_grow(env, &room, status, sizeof(int32_t), &error));
    }
    bytes_give(env, &in);
    return ints_out(env, native, status, error, &room);
}

NATIVE(jbyteArray, decode)(JNIEnv *env, jclass native, jlong model, jintArray tokens, jint flags) {
    room room = {NULL, 0, 0};
    remask_error *error = NULL;
    remask_status status = REMASK_STATUS_OK;
    ints in;
    if (ints_take(env, tokens, &in)) {
        do {
            status = remask_model_decode(HANDLE(remask_model, model), in.data, in.len, (uint32_t)flags, room.data,
                                         room.capacity, &room.len, &error);
        } while (room_grow(env, &room, status, 1, &error));
    }
    ints_give(env, &in);
    return bytes_out(env, native, status, error, &room);
}

NATIVE(jbyteArray, tokenText)(JNIEnv *env, jclass native, jlong model, jint token) {
    room room = {NULL, 0, 0};
    remask_error *error = NULL;
    remask_status status;
    do {
        status = remask_model_token_text(HANDLE(remask_model, model), token, room.data, room.capacity, &room.len,
                                         &error);
    } while (room_grow(env, &room, status, 1, &error));
    return bytes_out(env, native, status, error, &room);
}

NATIVE(jint, tokenAttr)(JNIEnv *env, jclass native, jlong model, jint token) {
    (void)env, (void)native;
    return (jint)remask_model_token_attr(HANDLE(remask_model, model), token);
}

NATIVE(jint, tokenFind)(JNIEnv *env, jclass native, jlong model, jbyteArray text) {
    (void)native;
    bytes in;
    jint found = bytes_take(env, text, &in)
                     ? remask_model_token_find(HANDLE(remask_model, model), (const char *)in.data, in.len)
                     : -1;
    bytes_give(env, &in);
    return found;
}

NATIVE(jlong, decoderNew)(JNIEnv *env, jclass native, jlong model, jint flags) {
    remask_decoder *decoder = NULL;
    remask_error *error = NULL;
    remask_status status = remask_decoder_new(HANDLE(remask_model, model), (uint32_t)flags, &decoder, &error);
    return failed(env, native, status, error) ? 0 : LONG(decoder);
}

/* `tokens` null finishes the decoder. */
NATIVE(jbyteArray, decoderPush)(JNIEnv *env, jclass native, jlong decoder, jintArray tokens) {
    room room = {NULL, 0, 0};
    remask_error *error = NULL;
    remask_status status = REMASK_STATUS_OK;
    ints in;
    if (ints_take(env, tokens, &in)) {
        do {
            status = tokens == NULL ? remask_decoder_finish(HANDLE(remask_decoder, decoder), room.data, room.capacity,
                                                            &room.len, &error)
                                    : remask_decoder_push(HANDLE(remask_decoder, decoder), in.data, in.len, room.data,
                                                          room.capacity, &room.len, &error);
        } while (room_grow(env, &room, status, 1, &error));
    }
    ints_give(env, &in);
    return bytes_out(env, native, status, error, &room);
}

NATIVE(void, decoderFree)(JNIEnv *env, jclass native, jlong decoder) {
    (void)env, (void)native;
    remask_decoder_free(HANDLE(remask_decoder, decoder));
}
