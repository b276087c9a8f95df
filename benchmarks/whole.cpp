/* A compiled model and the loop that bounds it, in turn, called from C: what benchmarks/whole.py measures. */
#include "libsedge.h"

#include <cstdlib>
#include <ctime>
#include <dlfcn.h>

namespace {

uint64_t now() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<uint64_t>(t.tv_sec) * 1000000000u + static_cast<uint64_t>(t.tv_nsec);
}

/* Nanoseconds of `calls` calls, after one that is not timed. */
template <class Call>
double time(size_t calls, Call call) {
    call();
    const uint64_t start = now();
    for (size_t n = 0; n < calls; ++n)
        call();
    return static_cast<double>(now() - start);
}

} // namespace

/* `rounds` rows of two: nanoseconds of `calls` times limit(count), then of `calls` times sedge_run, every
 * call of which takes the next of `spectra` inputs. Returns a sedge_status, or -1 where the file is no
 * compiled model. */
extern "C" int in_turn(const char* model_so, const char* isa, void (*limit)(uint64_t), uint64_t count,
                       const int8_t* inputs, size_t spectra, size_t calls, size_t rounds, double* rows) {
    void* object = dlopen(model_so, RTLD_NOW | RTLD_LOCAL);
    if (object == nullptr)
        return -1;
    const auto* net = reinterpret_cast<decltype(&sedge_net_entry)>(dlsym(object, "sedge_net_entry"))();
    const auto init = reinterpret_cast<decltype(&sedge_init)>(dlsym(object, "sedge_init"));
    const auto run = reinterpret_cast<decltype(&sedge_run)>(dlsym(object, "sedge_run"));
    const size_t bytes = (net->arena_bytes + net->arena_align) / net->arena_align * net->arena_align;
    void* arena = std::aligned_alloc(net->arena_align, bytes);
    auto* logits = static_cast<int8_t*>(std::malloc(net->classes));
    sedge_model model;
    const sedge_status status = init(&model, net, isa, arena, bytes);
    size_t spectrum = 0;
    for (size_t n = 0; status == SEDGE_OK && n < rounds; ++n) {
        *rows++ = time(calls, [&] { limit(count); });
        *rows++ = time(calls, [&] { run(&model, inputs + spectrum++ % spectra * net->input_len, logits); });
    }
    std::free(logits);
    std::free(arena);
    dlclose(object);
    return status;
}
