/* Loaded before Vulkan's loader (LD_PRELOAD) by the tests of the Vulkan backend, it stands between the backend
 * and the driver and makes a call fail. REMASK_VK_FAULT is "KIND K", K counted from 0:
 *
 *   memory   the K-th vkAllocateMemory and all later ones are out of device memory
 *   submit   the device is lost at the K-th vkQueueSubmit
 *   wait     the K-th vkQueueSubmit goes through; the device is lost when something waits for it
 *
 * REMASK_VK_CALLS=1 has the number of calls written to stderr at the end.
 *
 * Buffers are never destroyed. Mesa's software driver (seen with 22.3.6) takes references to all buffers of
 * a descriptor set, also in bindings that the shader does not use and whose buffer is gone by then, which Vulkan
 * allows; it then frees them twice. ggml's descriptor sets have such bindings. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vulkan/vulkan.h>

static PFN_vkGetInstanceProcAddr get;
static PFN_vkAllocateMemory allocate;
static PFN_vkQueueSubmit submit;
static PFN_vkQueueWaitIdle queue_idle;
static PFN_vkDeviceWaitIdle device_idle;
static PFN_vkWaitForFences wait_for_fences;
static PFN_vkGetFenceStatus fence_status;
static PFN_vkWaitSemaphores wait_semaphores;

static char kind[16];
static long at;
static atomic_long n_memory, n_submit;
static atomic_int lost, losing;

__attribute__((constructor)) static void begin(void) {
    const char *what = getenv("REMASK_VK_FAULT");
    if (what == NULL || sscanf(what, "%15s %ld", kind, &at) != 2) {
        kind[0] = 0;
    }
}

__attribute__((destructor)) static void end(void) {
    if (getenv("REMASK_VK_CALLS") != NULL) {
        fprintf(stderr, "calls: memory %ld submit %ld\n", atomic_load(&n_memory), atomic_load(&n_submit));
    }
}

static VkResult VKAPI_CALL my_allocate(VkDevice device, const VkMemoryAllocateInfo *info,
                                       const VkAllocationCallbacks *callbacks, VkDeviceMemory *memory) {
    const long k = atomic_fetch_add(&n_memory, 1);
    if (strcmp(kind, "memory") == 0 && k >= at) {
        return VK_ERROR_OUT_OF_DEVICE_MEMORY;
    }
    return allocate(device, info, callbacks, memory);
}

static VkResult VKAPI_CALL my_submit(VkQueue queue, uint32_t n, const VkSubmitInfo *infos, VkFence fence) {
    const long k = atomic_fetch_add(&n_submit, 1);
    if (strcmp(kind, "submit") == 0 && k >= at && !atomic_exchange(&lost, 1)) {
        /* A device that is lost does not go on with what it was given before. */
        queue_idle(queue);
    }
    if (atomic_load(&lost)) {
        return VK_ERROR_DEVICE_LOST;
    }
    const VkResult result = submit(queue, n, infos, fence);
    if (strcmp(kind, "wait") == 0 && k >= at) {
        atomic_store(&losing, 1);
    }
    return result;
}

static int is_lost(VkDevice device) {
    if (atomic_load(&losing) && !atomic_exchange(&lost, 1)) {
        device_idle(device);
    }
    return atomic_load(&lost);
}

static VkResult VKAPI_CALL my_queue_idle(VkQueue queue) {
    return atomic_load(&lost) ? VK_ERROR_DEVICE_LOST : queue_idle(queue);
}

static VkResult VKAPI_CALL my_device_idle(VkDevice device) {
    return is_lost(device) ? VK_ERROR_DEVICE_LOST : device_idle(device);
}

static VkResult VKAPI_CALL my_wait(VkDevice device, uint32_t n, const VkFence *fences, VkBool32 all, uint64_t time) {
    return is_lost(device) ? VK_ERROR_DEVICE_LOST : wait_for_fences(device, n, fences, all, time);
}

static VkResult VKAPI_CALL my_status(VkDevice device, VkFence fence) {
    return is_lost(device) ? VK_ERROR_DEVICE_LOST : fence_status(device, fence);
}

static VkResult VKAPI_CALL my_semaphores(VkDevice device, const VkSemaphoreWaitInfo *info, uint64_t time) {
    return is_lost(device) ? VK_ERROR_DEVICE_LOST : wait_semaphores(device, info, time);
}

static void VKAPI_CALL my_destroy_buffer(VkDevice device, VkBuffer buffer, const VkAllocationCallbacks *callbacks) {
    (void) device, (void) buffer, (void) callbacks;
}

__attribute__((visibility("default"))) PFN_vkVoidFunction VKAPI_CALL vkGetInstanceProcAddr(VkInstance instance,
                                                                                          const char *name) {
    if (get == NULL) {
        get = (PFN_vkGetInstanceProcAddr) dlsym(RTLD_NEXT, "vkGetInstanceProcAddr");
    }
    if (get == NULL) {
        /* The backend is a file, whose libraries are not in the program's own scope. */
        void *loader = dlopen("libvulkan.so.1", RTLD_NOW);
        get = loader == NULL ? NULL : (PFN_vkGetInstanceProcAddr) dlsym(loader, "vkGetInstanceProcAddr");
    }
    PFN_vkVoidFunction real = get == NULL ? NULL : get(instance, name);
    if (real == NULL) {
        return NULL;
    }
#define MINE(called, theirs, mine)              \
    if (strcmp(name, called) == 0) {            \
        theirs = (__typeof__(theirs)) real;     \
        return (PFN_vkVoidFunction) mine;       \
    }
    MINE("vkAllocateMemory", allocate, my_allocate)
    MINE("vkQueueSubmit", submit, my_submit)
    MINE("vkQueueWaitIdle", queue_idle, my_queue_idle)
    MINE("vkDeviceWaitIdle", device_idle, my_device_idle)
    MINE("vkWaitForFences", wait_for_fences, my_wait)
    MINE("vkGetFenceStatus", fence_status, my_status)
    MINE("vkWaitSemaphores", wait_semaphores, my_semaphores)
#undef MINE
    if (strcmp(name, "vkDestroyBuffer") == 0) {
        return (PFN_vkVoidFunction) my_destroy_buffer;
    }
    return real;
}
