/* What the JNI layer's files share. Every function that may throw says so by its result; a caller that sees
 * it returns at once, as JNI demands. Nothing is kept between calls. */
#ifndef REMASK_JNI_SUPPORT_H
#define REMASK_JNI_SUPPORT_H

#include <jni.h>
#include <stddef.h>
#include <stdint.h>

#include "remask.h"

#define NATIVE(type, name) JNIEXPORT type JNICALL Java_io_remask_Native_##name

/* Handles travel as `long`. */
#define HANDLE(type, value) ((type *)(uintptr_t)(value))
#define LONG(pointer) ((jlong)(uintptr_t)(pointer))

/* The elements of a Java array for the time of a call; NULL and 0 for null. */
typedef struct bytes {
    jbyteArray array;
    jbyte *data;
    size_t len;
} bytes;
typedef struct ints {
    jintArray array;
    jint *data;
    size_t len;
} ints;

/* 1, or 0 with an exception pending. `give` may follow in both cases. */
int bytes_take(JNIEnv *env, jbyteArray array, bytes *out);
void bytes_give(JNIEnv *env, bytes *taken);
int ints_take(JNIEnv *env, jintArray array, ints *out);
void ints_give(JNIEnv *env, ints *taken);

/* Memory; NULL with an exception pending where there is none. Never NULL for 0. */
void *room_new(JNIEnv *env, size_t count, size_t size);

/* A buffer that grows to what a call asks for:
 *     do status = remask_...(..., room.data, room.capacity, &room.len, &error);
 *     while (room_grow(env, &room, status, sizeof(item), &error));
 * To be freed with free(room.data). */
typedef struct room {
    void *data;
    size_t capacity;
    size_t len;
} room;
int room_grow(JNIEnv *env, room *room, remask_status status, size_t size, remask_error **error);
/* The room as an array; NULL with an exception pending. */
jbyteArray room_bytes(JNIEnv *env, const room *room);
jintArray room_ints(JNIEnv *env, const room *room);

/* 1 if the call failed: an exception is pending then, the callback's own where there is one. Frees `error`. */
int failed(JNIEnv *env, jclass native, remask_status status, remask_error *error);

/* End of a call that filled a room, which is freed. */
jbyteArray bytes_out(JNIEnv *env, jclass native, remask_status status, remask_error *error, room *room);
jintArray ints_out(JNIEnv *env, jclass native, remask_status status, remask_error *error, room *room);

/* Negative numbers stand for "to the end" and "too many": the library refuses what is no number. */
size_t size_of(jlong value);

/* `count` texts that lie one after the other in `all`; NULL with an exception pending. */
remask_text *texts_of(JNIEnv *env, jclass native, const bytes *all, const ints *lengths);

/* Fills an array that the caller made; the caller sees an exception where it is too short. */
void put_longs(JNIEnv *env, jlongArray out, const jlong *values, size_t n);

#endif
