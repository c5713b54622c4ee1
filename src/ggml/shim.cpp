// The few ggml calls that may throw (they allocate with `new`, fill std::string or std::vector, or
// enter a GPU driver), each behind a catch. An exception that reached a Rust frame would end the
// process. Every function returns 0 or a value below; results go through the last pointer.

#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml-cpu.h"

#include <exception>
#include <new>

namespace {

enum : int { OK = 0, NO_MEMORY = 1, THROWN = 2 };

template <class F> int guard(F && call) noexcept {
    try {
        call();
        return OK;
    } catch (const std::bad_alloc &) {
        return NO_MEMORY;
    } catch (...) {
        return THROWN;
    }
}

}  // namespace

extern "C" {

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
    return guard([&] { *out = ggml_backend_dev_init(device, nullptr); });
}

int remask_shim_buffer_from_ptr(void * data, size_t size, ggml_backend_buffer_t * out) {
    return guard([&] { *out = ggml_backend_cpu_buffer_from_ptr(data, size); });
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

int remask_shim_tensor_get(const ggml_tensor * tensor, void * data, size_t offset, size_t size) {
    return guard([&] { ggml_backend_tensor_get(tensor, data, offset, size); });
}

int remask_shim_gallocr_alloc(ggml_gallocr_t allocator, ggml_cgraph * graph, bool * done) {
    return guard([&] { *done = ggml_gallocr_alloc_graph(allocator, graph); });
}

int remask_shim_cpu_compute(ggml_cgraph * graph, ggml_cplan * plan, int * status) {
    return guard([&] { *status = ggml_graph_compute(graph, plan); });
}

int remask_shim_sched_new(ggml_backend_t * backends, int n_backends, size_t graph_size, ggml_backend_sched_t * out) {
    return guard([&] { *out = ggml_backend_sched_new(backends, nullptr, n_backends, graph_size, false, true); });
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

}  // extern "C"
