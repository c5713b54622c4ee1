#include "jni_support.h"

#include <stdlib.h>
#include <string.h>

int bytes_take(JNIEnv *env, jbyteArray array, bytes *out) {
    *out = (bytes){array, NULL, 0};
    if (array == NULL) {
        return 1;
    }
    out->len = (size_t)(*env)->GetArrayLength(env, array);
    out->data = (*env)->GetByteArrayElements(env, array, NULL);
    return out->data != NULL;
}

void bytes_give(JNIEnv *env, bytes *taken) {
    if (taken->data != NULL) {
        (*env)->ReleaseByteArrayElements(env, taken->array, taken->data, JNI_ABORT);
        taken->data = NULL;
    }
}

int ints_take(JNIEnv *env, jintArray array, ints *out) {
    *out = (ints){array, NULL, 0};
    if (array == NULL) {
        return 1;
    }
    out->len = (size_t)(*env)->GetArrayLength(env, array);
    out->data = (*env)->GetIntArrayElements(env, array, NULL);
    return out->data != NULL;
}

void ints_give(JNIEnv *env, ints *taken) {
    if (taken->data != NULL) {
        (*env)->ReleaseIntArrayElements(env, taken->array, taken->data, JNI_ABORT);
        taken->data = NULL;
    }
}

static void throw_named(JNIEnv *env, const char *name, const char *message) {
    jclass type = (*env)->FindClass(env, name);
    if (type != NULL) {
        (*env)->ThrowNew(env, type, message);
        (*env)->DeleteLocalRef(env, type);
    }
}

void *room_new(JNIEnv *env, size_t count, size_t size) {
    void *memory = calloc(count > 0 ? count : 1, size);
    if (memory == NULL) {
        throw_named(env, "java/lang/OutOfMemoryError", "no memory for a text or list");
    }
    return memory;
}

int room_grow(JNIEnv *env, room *room, remask_status status, size_t size, remask_error **error) {
    if (status != REMASK_STATUS_BUFFER_TOO_SMALL) {
        return 0;
    }
    remask_error_free(*error);
    *error = NULL;
    free(room->data);
    room->capacity = room->len;
    room->data = room_new(env, room->capacity, size);
    return room->data != NULL;
}

jbyteArray room_bytes(JNIEnv *env, const room *room) {
    if (room->len > INT32_MAX) {
        throw_named(env, "java/lang/OutOfMemoryError", "a text is longer than an array can be");
        return NULL;
    }
    jbyteArray array = (*env)->NewByteArray(env, (jsize)room->len);
    if (array != NULL && room->len > 0) {
        (*env)->SetByteArrayRegion(env, array, 0, (jsize)room->len, room->data);
    }
    return array;
}

jintArray room_ints(JNIEnv *env, const room *room) {
    if (room->len > INT32_MAX) {
        throw_named(env, "java/lang/OutOfMemoryError", "a list is longer than an array can be");
        return NULL;
    }
    jintArray array = (*env)->NewIntArray(env, (jsize)room->len);
    if (array != NULL && room->len > 0) {
        (*env)->SetIntArrayRegion(env, array, 0, (jsize)room->len, room->data);
    }
    return array;
}

/* Native.failure(status, message) makes the exception, so that the message's UTF-8 is Java's to read. */
static void throw_status(JNIEnv *env, jclass native, remask_status status, const char *message) {
    size_t len = strlen(message);
    jmethodID make =
        (*env)->GetStaticMethodID(env, native, "failure", "(I[B)Lio/remask/RemaskException;");
    if (make == NULL) {
        return;
    }
    room text = {NULL, 0, len};
    union {
        const char *in;
        void *out;
    } cast = {message};
    text.data = cast.out;
    jbyteArray array = room_bytes(env, &text);
    if (array == NULL) {
        return;
    }
    jobject exception = (*env)->CallStaticObjectMethod(env, native, make, (jint)status, array);
    (*env)->DeleteLocalRef(env, array);
    if (!(*env)->ExceptionCheck(env) && exception != NULL) {
        (*env)->Throw(env, exception);
    }
}

int failed(JNIEnv *env, jclass native, remask_status status, remask_error *error) {
    if ((*env)->ExceptionCheck(env)) {
        remask_error_free(error);
        return 1;
    }
    if (status == REMASK_STATUS_OK) {
        return 0;
    }
    const char *message = error != NULL ? remask_error_message(error) : remask_status_name(status);
    throw_status(env, native, status, message);
    remask_error_free(error);
    return 1;
}

jbyteArray bytes_out(JNIEnv *env, jclass native, remask_status status, remask_error *error, room *room) {
    jbyteArray out = failed(env, native, status, error) ? NULL : room_bytes(env, room);
    free(room->data);
    return out;
}

jintArray ints_out(JNIEnv *env, jclass native, remask_status status, remask_error *error, room *room) {
    jintArray out = failed(env, native, status, error) ? NULL : room_ints(env, room);
    free(room->data);
    return out;
}

size_t size_of(jlong value) {
    return value < 0 || (uint64_t)value > SIZE_MAX ? SIZE_MAX : (size_t)value;
}

remask_text *texts_of(JNIEnv *env, jclass native, const bytes *all, const ints *lengths) {
    remask_text *texts = room_new(env, lengths->len, sizeof *texts);
    if (texts == NULL) {
        return NULL;
    }
    size_t begin = 0;
    for (size_t i = 0; i < lengths->len; i++) {
        jint len = lengths->data[i];
        if (len < 0 || (size_t)len > all->len - begin) {
            throw_status(env, native, REMASK_STATUS_INVALID_ARGUMENT, "texts are shorter than their lengths say");
            free(texts);
            return NULL;
        }
        texts[i].data = len > 0 ? (const char *)all->data + begin : NULL;
        texts[i].len = (size_t)len;
        begin += (size_t)len;
    }
    return texts;
}

void put_longs(JNIEnv *env, jlongArray out, const jlong *values, size_t n) {
    (*env)->SetLongArrayRegion(env, out, 0, (jsize)n, values);
}
