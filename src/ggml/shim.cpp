// The few ggml calls that may throw (they allocate with `new`, fill std::string or std::vector, or
// enter a GPU driver), each behind a catch. An exception that reached a Rust frame would end the
// process. Every function returns 0 or a value below; results go through the last pointer.
//
// Drivers also end in GGML_ABORT: the RPC backend when it cannot connect, Vulkan's when it is out of its
// own tables. On a thread that is in one of these functions the abort becomes an exception and so
// an error. Not for the CPU's backend: its other threads would wait at a barrier for ever. But for threads
// of it that cannot be made: those that are there sleep, for nobody has given them work.

#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml-cpu.h"
#ifdef REMASK_RPC
#include "ggml-rpc.h"
#endif
#ifdef REMASK_VULKAN_ARCHIVE
#include "ggml-vulkan.h"
#endif

#include <cstring>
#include <exception>
#include <new>

#if defined(__linux__)
#include <dlfcn.h>
#include <sys/auxv.h>
#elif defined(__APPLE__)
#include <dlfcn.h>
#include <mach-o/dyld.h>
#endif

namespace {

enum : int { OK = 0, NO_MEMORY = 1, THROWN = 2 };

// What the last exception of this thread said.
thread_local char said[512] = "";
thread_local int depth = 0;
thread_local bool making_threads = false;

void note(const char * text) noexcept {
    std::strncpy(said, text, sizeof said - 1);
}

struct Aborted {};

void (*on_abort)(const char *) = nullptr;

void abort_hook(const char * message) {
    if (on_abort != nullptr) {
        on_abort(message);
    }
    if (depth > 0 && (making_threads || std::strstr(message, "ggml-cpu") == nullptr)) {
        // After the path of the source file: what it is about.
        const char * text = std::strstr(message, ": ");
        note(text == nullptr ? message : text + 2);
        throw Aborted();
    }
}

// ggml.cpp puts its own handler in place of the host's when the library is loaded: it would run a debugger
// from PATH. This is the handler before, saved by the first initialiser of all.
struct Before {
    std::terminate_handler handler = std::get_terminate();
};
#if defined(__GNUC__)
__attribute__((init_priority(101)))
#endif
Before before;

#if defined(__linux__)
const void * in_main_program() {
    return reinterpret_cast<const void *>(getauxval(AT_PHDR));
}
#elif defined(__APPLE__)
const void * in_main_program() {
    return _dyld_get_image_header(0);
}
#endif

// Puts it back, if what is there now is of this library. Where library and program are one file, whose it is
// cannot be told; but then the host's own came after ggml's.
void give_back_terminate() {
#if defined(__linux__) || defined(__APPLE__)
    Dl_info main, here, there;
    const auto now = std::get_terminate();
    const bool known = now != nullptr && dladdr(in_main_program(), &main) != 0 &&
        dladdr(reinterpret_cast<void *>(&give_back_terminate), &here) != 0 &&
        dladdr(reinterpret_cast<void *>(now), &there) != 0;
    if (known && main.dli_fbase != here.dli_fbase && there.dli_fbase == here.dli_fbase) {
        std::set_terminate(before.handler);
    }
#endif
}

template <class F> int guard(F && call) noexcept {
    said[0] = 0;
    ++depth;
    int code = OK;
    try {
        call();
    } catch (const std::bad_alloc &) {
        code = NO_MEMORY;
    } catch (const std::exception & error) {
        note(error.what());
        code = THROWN;
    } catch (...) {
        code = THROWN;
    }
    --depth;
    return code;
}

// How many columns or rows of a tensor each device gets, from its header: a tensor that no operation makes has no
// use for the numbers that go with operations.
ggml_backend_meta_split_state cut_of(const ggml_tensor * tensor, void *) {
    constexpr size_t most_parts = sizeof tensor->op_params / sizeof tensor->op_params[0] - 1;
    ggml_backend_meta_split_state cut = {};
    cut.nr[0] = 1;
    cut.n_segments = 1;
    cut.axis = GGML_BACKEND_SPLIT_AXIS_MIRRORED;
    const int axis = tensor->op_params[most_parts];
    if (axis > 0) {
        cut.axis = ggml_backend_meta_split_axis(axis - 1);
        for (size_t i = 0; i < most_parts; ++i) {
            cut.ne[i] = tensor->op_params[i];
        }
    }
    return cut;
}

}  // namespace

extern "C" {

// Of ggml's headers that are not installed.
size_t ggml_backend_meta_n_backends(ggml_backend_t backend);
ggml_backend_t ggml_backend_meta_simple_backend(ggml_backend_t backend, size_t index);

const char * remask_shim_said() {
    return said;
}

void remask_shim_hook_aborts(void (*hear)(const char *)) {
    on_abort = hear;
    ggml_set_abort_callback(abort_hook);
    give_back_terminate();
}

int remask_shim_load(const char * path, bool * loaded, size_t * n_devices) {
    return guard([&] {
        ggml_backend_reg_t reg = ggml_backend_load(path);
        *loaded = reg != nullptr;
        *n_devices = reg == nullptr ? 0 : ggml_backend_reg_dev_count(reg);
    });
}

int remask_shim_dev_count(size_t * out) {
    return guard([&] { *out = ggml_backend_dev_count(); });
}

int remask_shim_dev_get(size_t index, ggml_backend_dev_t * out) {
    return guard([&] { *out = ggml_backend_dev_get(index); });
}

int remask_shim_dev_props(ggml_backend_dev_t device, ggml_backend_dev_props * out) {
    return guard([&] { ggml_backend_dev_get_props(device, out); });
}

int remask_shim_dev_init(ggml_backend_dev_t device, ggml_backend_t * out) {
    return guard([&] {
        ggml_backend_t made = ggml_backend_dev_init(device, nullptr);
        if (made != nullptr && ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_META) {
            for (size_t i = 0; i < ggml_backend_meta_n_backends(made); ++i) {
                // One of the devices does not start: nothing could be computed, nor the others be stopped.
                if (ggml_backend_meta_simple_backend(made, i) == nullptr) {
                    return;
                }
            }
        }
        *out = made;
    });
}

// `parts` as one device. How a tensor is cut is in its own header (`WeightSetBuilder::cut`): a joined device then
// serves every model, and nothing has to outlive it.
int remask_shim_joined_device(ggml_backend_dev_t * parts, size_t n_parts, ggml_backend_dev_t * out) {
    return guard([&] { *out = ggml_backend_meta_device(parts, n_parts, cut_of, nullptr); });
}

// ggml asserts that it got the memory, and by then has marked the tensors and holds what it got before.
int remask_shim_parts_alloc(ggml_backend_buffer_type_t type, ggml_tensor ** tensors, size_t n_tensors,
                            ggml_backend_buffer_t * out) {
    const int code = guard([&] { *out = ggml_backend_buft_alloc_buffer_n(type, tensors, int(n_tensors)); });
    if (code == OK || n_tensors == 0) {
        return code;
    }
    const bool memory = std::strstr(said, "bufs[i]") != nullptr;
    ggml_backend_buffer_t half = tensors[0]->buffer;
    for (size_t i = 0; i < n_tensors; ++i) {
        tensors[i]->buffer = nullptr;
        tensors[i]->data = nullptr;
    }
    if (half != nullptr) {
        guard([&] { ggml_backend_buffer_free(half); });
    }
    return memory ? int(NO_MEMORY) : code;
}

// Takes memory and gives it back.
int remask_shim_memory_is_there(ggml_backend_buffer_type_t type, size_t size, bool * there) {
    return guard([&] {
        ggml_backend_buffer_t buffer = ggml_backend_buft_alloc_buffer(type, size);
        *there = buffer != nullptr;
        ggml_backend_buffer_free(buffer);
    });
}

int remask_shim_dev_buffer_type(ggml_backend_dev_t device, ggml_backend_buffer_type_t * out) {
    return guard([&] { *out = ggml_backend_dev_buffer_type(device); });
}

int remask_shim_dev_host_buffer_type(ggml_backend_dev_t device, ggml_backend_buffer_type_t * out) {
    return guard([&] { *out = ggml_backend_dev_host_buffer_type(device); });
}

int remask_shim_backend_wait(ggml_backend_t backend) {
    return guard([&] { ggml_backend_synchronize(backend); });
}

// A joined device's are freed in a destructor, which a driver may not throw out of: where one does not answer any more,
// they are left as they are.
int remask_shim_backend_free(ggml_backend_t backend) {
    if (ggml_backend_dev_type(ggml_backend_get_device(backend)) == GGML_BACKEND_DEVICE_TYPE_META) {
        const int code = guard([&] { ggml_backend_synchronize(backend); });
        if (code != OK) {
            return code;
        }
    }
    return guard([&] { ggml_backend_free(backend); });
}

int remask_shim_buffer_free(ggml_backend_buffer_t buffer) {
    return guard([&] { ggml_backend_buffer_free(buffer); });
}

int remask_shim_buffer_from_ptr(void * data, size_t size, ggml_backend_buffer_t * out) {
    return guard([&] { *out = ggml_backend_cpu_buffer_from_ptr(data, size); });
}

int remask_shim_max_size(ggml_backend_buffer_type_t type, size_t * out) {
    return guard([&] { *out = ggml_backend_buft_get_max_size(type); });
}

int remask_shim_alloc_size(ggml_backend_buffer_type_t type, const ggml_tensor * tensor, size_t * out) {
    return guard([&] { *out = ggml_backend_buft_get_alloc_size(type, tensor); });
}

int remask_shim_buffer_base(ggml_backend_buffer_t buffer, void ** out) {
    return guard([&] { *out = ggml_backend_buffer_get_base(buffer); });
}

int remask_shim_buffer_alloc(ggml_backend_buffer_type_t type, size_t size, ggml_backend_buffer_t * out) {
    return guard([&] { *out = ggml_backend_buft_alloc_buffer(type, size); });
}

int remask_shim_tensor_alloc(ggml_backend_buffer_t buffer, ggml_tensor * tensor, void * address, int * status) {
    return guard([&] { *status = ggml_backend_tensor_alloc(buffer, tensor, address); });
}

int remask_shim_tensor_set(ggml_tensor * tensor, const void * data, size_t offset, size_t size) {
    return guard([&] { ggml_backend_tensor_set(tensor, data, offset, size); });
}

int remask_shim_tensor_set_async(ggml_backend_t backend, ggml_tensor * tensor, const void * data, size_t offset,
                                 size_t size) {
    return guard([&] { ggml_backend_tensor_set_async(backend, tensor, data, offset, size); });
}

int remask_shim_tensor_get(const ggml_tensor * tensor, void * data, size_t offset, size_t size) {
    return guard([&] { ggml_backend_tensor_get(tensor, data, offset, size); });
}

int remask_shim_gallocr_alloc(ggml_gallocr_t allocator, ggml_cgraph * graph, bool * done) {
    return guard([&] { *done = ggml_gallocr_alloc_graph(allocator, graph); });
}

// ggml_threadpool_new aborts where a thread cannot be made (GGML_ASSERT(rc == 0)). What it had made by then
// is lost: threads that sleep and a few kilobytes.
int remask_shim_threadpool_new(ggml_threadpool * (*make)(ggml_threadpool_params *),
                               ggml_threadpool_params * params, ggml_threadpool ** out) {
    making_threads = true;
    const int code = guard([&] { *out = make(params); });
    making_threads = false;
    return code;
}

int remask_shim_cpu_compute(ggml_status (*compute)(ggml_cgraph *, ggml_cplan *), ggml_cgraph * graph,
                            ggml_cplan * plan, int * status) {
    return guard([&] { *status = compute(graph, plan); });
}

// No products of host weights on a device: weights stay where they were placed.
int remask_shim_sched_new(ggml_backend_t * backends, int n_backends, size_t graph_size, ggml_backend_sched_t * out) {
    return guard([&] { *out = ggml_backend_sched_new(backends, nullptr, n_backends, graph_size, false, false); });
}

int remask_shim_sched_free(ggml_backend_sched_t sched) {
    return guard([&] { ggml_backend_sched_free(sched); });
}

// What `graph` takes on each backend, and into how many pieces it falls. Its edges are changed.
int remask_shim_sched_measure(ggml_backend_sched_t sched, ggml_cgraph * graph, size_t * sizes, int * n_pieces) {
    return guard([&] {
        ggml_backend_sched_reserve_size(sched, graph, sizes);
        *n_pieces = ggml_backend_sched_get_n_splits(sched);
    });
}

// Takes the memory that `graph` computes in. Its edges are changed. Of a joined device ggml asserts that it got it.
int remask_shim_sched_reserve(ggml_backend_sched_t sched, ggml_cgraph * graph, bool * done) {
    const int code = guard([&] {
        ggml_backend_sched_reset(sched);
        *done = ggml_backend_sched_reserve(sched, graph);
    });
    return code == THROWN && std::strstr(said, "bufs.back()") != nullptr ? int(NO_MEMORY) : code;
}

int remask_shim_sched_alloc(ggml_backend_sched_t sched, ggml_cgraph * graph, bool * done) {
    return guard([&] {
        ggml_backend_sched_reset(sched);
        *done = ggml_backend_sched_alloc_graph(sched, graph);
    });
}

int remask_shim_sched_compute(ggml_backend_sched_t sched, ggml_cgraph * graph, int * status) {
    return guard([&] { *status = ggml_backend_sched_graph_compute(sched, graph); });
}

// As above, without a wait for what devices were given.
int remask_shim_sched_start(ggml_backend_sched_t sched, ggml_cgraph * graph, int * status) {
    return guard([&] { *status = ggml_backend_sched_graph_compute_async(sched, graph); });
}

int remask_shim_sched_wait(ggml_backend_sched_t sched) {
    return guard([&] { ggml_backend_sched_synchronize(sched); });
}

#ifdef REMASK_VULKAN_ARCHIVE
// ggml's own list does not have it.
int remask_shim_add_vulkan() {
    return guard([] { ggml_backend_register(ggml_backend_vk_reg()); });
}
#endif

#ifdef REMASK_RPC
int remask_shim_rpc_add(const char * endpoint, ggml_backend_reg_t * out) {
    return guard([&] { *out = ggml_backend_rpc_add_server(endpoint); });
}

int remask_shim_rpc_serve(const char * endpoint, size_t n_threads, size_t n_devices, ggml_backend_dev_t * devices) {
    return guard([&] { ggml_backend_rpc_start_server(endpoint, nullptr, n_threads, n_devices, devices); });
}
#endif

}  // extern "C"
