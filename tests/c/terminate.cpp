// The host's handler for exceptions that nobody catches stays the host's, although ggml sets one of its own
// when the library is loaded.
#include <dlfcn.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <exception>

[[noreturn]] static void mine() { std::abort(); }

int main(int argc, char **argv) {
    std::set_terminate(mine);
    void *library = argc == 2 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : nullptr;
    if (library == nullptr) {
        std::fprintf(stderr, "%s\n", dlerror());
        return 2;
    }
    using count = std::size_t (*)();
    auto devices = reinterpret_cast<count>(dlsym(library, "remask_device_count"));
    if (devices == nullptr || devices() == 0) {
        return 3;
    }
    if (std::get_terminate() != mine) {
        std::fprintf(stderr, "the handler is another\n");
        return 4;
    }
    // Nor is one that the host sets later touched.
    std::set_terminate(std::abort);
    devices();
    return std::get_terminate() == static_cast<std::terminate_handler>(std::abort) ? 0 : 5;
}
