// What tch does not reach of PyTorch: the fused AdamW, and process groups.
//
// Every function returns null, or a message that `remask_torch_free` frees. No exception leaves.

#include <ATen/ATen.h>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <string>

#ifdef REMASK_GLOO
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#endif
#ifdef REMASK_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif

namespace {

char *copy(const std::string &text) {
    char *out = static_cast<char *>(std::malloc(text.size() + 1));
    if (out != nullptr) std::memcpy(out, text.c_str(), text.size() + 1);
    return out;
}

template <typename F> char *guarded(F f) {
    try {
        at::NoGradGuard no_grad;
        f();
        return nullptr;
    } catch (const c10::Error &e) {
        return copy(e.what_without_backtrace());
    } catch (const std::exception &e) {
        return copy(e.what());
    } catch (...) {
        return copy("an unknown exception");
    }
}

}  // namespace

extern "C" {

void remask_torch_free(char *message) { std::free(message); }

// One update of `weights`, in place. `step` counts from 1.
char *remask_torch_adamw(at::Tensor *weights, at::Tensor *gradient, at::Tensor *first, at::Tensor *second,
                         double step, double lr, double beta1, double beta2, double weight_decay, double eps) {
    return guarded([&] {
        at::Tensor count = at::full({}, step, at::TensorOptions().dtype(at::kFloat).device(weights->device()));
        std::vector<at::Tensor> w{*weights}, g{*gradient}, m{*first}, v{*second}, none, steps{count};
        at::_fused_adamw_(w, g, m, v, none, steps, lr, beta1, beta2, weight_decay, eps, false, false);
    });
}

#ifdef REMASK_GLOO

struct RemaskGroup {
    c10::intrusive_ptr<c10d::Store> store;
    c10::intrusive_ptr<c10d::Backend> backend;
};

// `serve` is nonzero in the process that holds the store where processes meet.
char *remask_torch_group_open(const char *host, uint16_t port, int rank, int world, int serve, int nccl,
                              int timeout_s, RemaskGroup **out) {
    return guarded([&] {
        c10d::TCPStoreOptions options;
        options.port = port;
        options.isServer = serve != 0;
        options.numWorkers = world;
        options.waitWorkers = false;
        options.timeout = std::chrono::seconds(timeout_s);
        auto tcp = c10::make_intrusive<c10d::TCPStore>(host, options);
        c10::intrusive_ptr<c10d::Store> store = c10::make_intrusive<c10d::PrefixStore>("remask", tcp);
        c10::intrusive_ptr<c10d::Backend> backend;
        if (nccl != 0) {
#ifdef REMASK_NCCL
            auto o = c10d::ProcessGroupNCCL::Options::create();
            o->timeout = std::chrono::seconds(timeout_s);
            backend = c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank, world, o);
#else
            throw std::runtime_error("was built without NCCL");
#endif
        } else {
            auto o = c10d::ProcessGroupGloo::Options::create(std::chrono::seconds(timeout_s));
            o->devices.push_back(c10d::ProcessGroupGloo::createDefaultDevice());
            backend = c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, world, o);
        }
        *out = new RemaskGroup{store, backend};
    });
}

void remask_torch_group_close(RemaskGroup *group) {
    // Destructors may wait for others and complain; the process ends in any case.
    try {
        delete group;
    } catch (...) {
    }
}

// Adds up over all processes, in place.
char *remask_torch_all_reduce(RemaskGroup *group, at::Tensor *tensor) {
    return guarded([&] {
        std::vector<at::Tensor> tensors{*tensor};
        group->backend->allreduce(tensors)->wait();
    });
}

// `shard` becomes this process's part of the sum of `whole` over all processes.
char *remask_torch_reduce_scatter(RemaskGroup *group, at::Tensor *shard, at::Tensor *whole) {
    return guarded([&] { group->backend->_reduce_scatter_base(*shard, *whole)->wait(); });
}

// `whole` becomes the parts of all processes, in their order.
char *remask_torch_all_gather(RemaskGroup *group, at::Tensor *whole, at::Tensor *shard) {
    return guarded([&] { group->backend->_allgather_base(*whole, *shard)->wait(); });
}

// `tensor` becomes that of process 0.
char *remask_torch_broadcast(RemaskGroup *group, at::Tensor *tensor) {
    return guarded([&] {
        std::vector<at::Tensor> tensors{*tensor};
        group->backend->broadcast(tensors)->wait();
    });
}

#endif

}  // extern "C"
