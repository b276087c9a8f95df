/* Runs a compiled model on the machine it was compiled for; emulate.py drives it, usually under qemu-user.
 *
 *     emulated_main model.so isas             writes "name runnable" lines
 *     emulated_main model.so run ISA [TIMES]  inputs on stdin, logits on stdout, int8 or little-endian
 * float32 as the model is; TIMES runs of each emulated_main model.so trace            int8 inputs on stdin,
 * every layer of the scalar kernel on stdout
 *
 * Exit status: 0; 2 usage or input; 3 the model cannot be loaded; 16 + sedge_status where the model refuses;
 * 4 a canary around the arena was overwritten. */
#include "exports.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

constexpr size_t margin = 256; /* bytes of canary on both sides of the arena */
constexpr uint8_t canary = 0xA5;

using sedge::Float32;
using sedge::Int8;

/* The C API of one precision. */
template <class P>
struct Api {
    const typename P::Net* net;
    sedge_status (*init)(typename P::Model*, const typename P::Net*, const char*, void*, size_t);
    sedge_status (*run)(typename P::Model*, const typename P::Value*, typename P::Value*);
    sedge_status (*self_test)(typename P::Model*);
    sedge_status (*scrub)(typename P::Model*);
    decltype(&sedge_trace) trace; /* int8 only */
    decltype(&sedge_status_text) text;
};

template <class F>
F function(void* object, const char* name) {
    void* found = dlsym(object, name);
    if (found == nullptr) {
        std::fprintf(stderr, "%s\n", dlerror());
        std::exit(3);
    }
    return reinterpret_cast<F>(found);
}

template <class P>
Api<P> load(void* object) {
    Api<P> api{};
    api.net = function<const typename P::Net* (*)()>(object, P::entry)();
    api.init = function<decltype(api.init)>(object, P::init);
    api.run = function<decltype(api.run)>(object, P::run);
    api.self_test = function<decltype(api.self_test)>(object, P::self_test);
    api.scrub = function<decltype(api.scrub)>(object, P::scrub);
    if constexpr (std::is_same_v<P, Int8>)
        api.trace = function<decltype(api.trace)>(object, "sedge_trace");
    api.text = function<decltype(api.text)>(object, "sedge_status_text");
    return api;
}

/* The net's arena with canaries on both sides. */
class Arena {
public:
    Arena(size_t bytes, size_t align) : bytes_(bytes), memory_(bytes + align + 2 * margin, canary) {
        const auto first = reinterpret_cast<uintptr_t>(memory_.data()) + margin;
        offset_ = margin + (align - first % align) % align;
    }
    uint8_t* data() { return memory_.data() + offset_; }
    size_t bytes() const { return bytes_; }
    bool intact() const {
        for (size_t i = 0; i < memory_.size(); ++i) {
            if ((i < offset_ || i >= offset_ + bytes_) && memory_[i] != canary)
                return false;
        }
        return true;
    }

private:
    size_t bytes_;
    size_t offset_ = 0;
    std::vector<uint8_t> memory_;
};

void check(decltype(&sedge_status_text) text, sedge_status status, const char* doing) {
    if (status == SEDGE_OK)
        return;
    std::fprintf(stderr, "%s: %s\n", doing, text(status));
    std::exit(16 + static_cast<int>(status));
}

void write_layer(void* /*user*/, const char* /*layer*/, const int8_t* data, size_t channels, size_t length) {
    std::fwrite(data, 1, channels * length, stdout);
}

int usage() {
    std::fputs("usage: emulated_main model.so isas | run ISA [TIMES] | trace\n", stderr);
    return 2;
}

/* Between the bytes of a stream, little-endian, and this machine's. */
template <class Value>
void swap_if_big_endian(std::vector<Value>& values) {
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    for (Value& value : values) {
        auto* const bytes = reinterpret_cast<unsigned char*>(&value);
        for (size_t i = 0; i < sizeof value / 2; ++i)
            std::swap(bytes[i], bytes[sizeof value - 1 - i]);
    }
#else
    (void)values;
#endif
}

template <class P>
int work(const Api<P>& api, int argc, char** argv) {
    if (std::strcmp(argv[2], "isas") == 0) {
        for (size_t i = 0; i < api.net->kernel_count; ++i)
            std::printf("%s %d\n", api.net->kernels[i].isa, api.net->kernels[i].runnable());
        return 0;
    }
    const bool trace = std::strcmp(argv[2], "trace") == 0 && api.trace != nullptr;
    if (!trace && (argc < 4 || std::strcmp(argv[2], "run") != 0))
        return usage();
    const long times = argc > 4 ? std::strtol(argv[4], nullptr, 10) : 1;
    size_t bytes = api.net->arena_bytes;
    if constexpr (std::is_same_v<P, Int8>)
        bytes = trace ? api.net->trace_bytes : bytes;
    Arena arena(bytes, api.net->arena_align);
    typename P::Model model;
    const char* isa = trace ? "scalar" : argv[3];
    check(api.text, api.init(&model, api.net, isa, arena.data(), arena.bytes()), "init");
    check(api.text, api.self_test(&model), "self-test");
    check(api.text, api.scrub(&model), "scrub");
    std::vector<typename P::Value> input(api.net->input_len);
    std::vector<typename P::Value> logits(api.net->classes);
    for (;;) {
        const size_t got = std::fread(input.data(), 1, input.size() * sizeof input[0], stdin);
        if (got == 0)
            break;
        if (got != input.size() * sizeof input[0])
            return usage();
        swap_if_big_endian(input);
        if constexpr (std::is_same_v<P, Int8>) {
            if (trace) {
                check(api.text, api.trace(&model, input.data(), write_layer, nullptr), "trace");
                continue;
            }
        }
        for (long i = 0; i < times; ++i)
            check(api.text, api.run(&model, input.data(), logits.data()), "run");
        swap_if_big_endian(logits);
        std::fwrite(logits.data(), sizeof logits[0], logits.size(), stdout);
    }
    if (!arena.intact()) {
        std::fputs("the model wrote outside its arena\n", stderr);
        return 4;
    }
    return std::fflush(stdout) == 0 ? 0 : 2;
}

} // namespace

int main(int argc, char** argv) {
    if (argc < 3)
        return usage();
    void* const object = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (object == nullptr) {
        std::fprintf(stderr, "%s\n", dlerror());
        return 3;
    }
    if (dlsym(object, Float32::entry) != nullptr)
        return work(load<Float32>(object), argc, argv);
    return work(load<Int8>(object), argc, argv);
}
