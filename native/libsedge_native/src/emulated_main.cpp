/* Runs a compiled model on the machine it was compiled for; emulate.py drives it, usually under qemu-user.
 *
 *     emulated_main model.so isas             writes "name runnable" lines
 *     emulated_main model.so run ISA [TIMES]  int8 inputs on stdin, int8 logits on stdout; TIMES runs of each
 *     emulated_main model.so trace            int8 inputs on stdin, every layer of the scalar kernel on
 * stdout
 *
 * Exit status: 0; 2 usage or input; 3 the model cannot be loaded; 16 + sedge_status where the model refuses;
 * 4 a canary around the arena was overwritten. */
#include "libsedge.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <vector>

namespace {

constexpr size_t margin = 256; /* bytes of canary on both sides of the arena */
constexpr uint8_t canary = 0xA5;

struct Api {
    const sedge_net* net;
    decltype(&sedge_init) init;
    decltype(&sedge_run) run;
    decltype(&sedge_self_test) self_test;
    decltype(&sedge_scrub) scrub;
    decltype(&sedge_trace) trace;
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

Api load(const char* path) {
    void* object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (object == nullptr) {
        std::fprintf(stderr, "%s\n", dlerror());
        std::exit(3);
    }
    return {function<decltype(&sedge_net_entry)>(object, "sedge_net_entry")(),
            function<decltype(&sedge_init)>(object, "sedge_init"),
            function<decltype(&sedge_run)>(object, "sedge_run"),
            function<decltype(&sedge_self_test)>(object, "sedge_self_test"),
            function<decltype(&sedge_scrub)>(object, "sedge_scrub"),
            function<decltype(&sedge_trace)>(object, "sedge_trace"),
            function<decltype(&sedge_status_text)>(object, "sedge_status_text")};
}

/* The net's arena with canaries on both sides. */
class Arena {
public:
    Arena(const sedge_net& net, size_t bytes)
        : bytes_(bytes), memory_(bytes + net.arena_align + 2 * margin, canary) {
        const auto first = reinterpret_cast<uintptr_t>(memory_.data()) + margin;
        offset_ = margin + (net.arena_align - first % net.arena_align) % net.arena_align;
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

void check(const Api& api, sedge_status status, const char* doing) {
    if (status == SEDGE_OK)
        return;
    std::fprintf(stderr, "%s: %s\n", doing, api.text(status));
    std::exit(16 + static_cast<int>(status));
}

void write_layer(void* /*user*/, const char* /*layer*/, const int8_t* data, size_t channels, size_t length) {
    std::fwrite(data, 1, channels * length, stdout);
}

int usage() {
    std::fputs("usage: emulated_main model.so isas | run ISA [TIMES] | trace\n", stderr);
    return 2;
}

} // namespace

int main(int argc, char** argv) {
    if (argc < 3)
        return usage();
    const Api api = load(argv[1]);
    if (std::strcmp(argv[2], "isas") == 0) {
        for (size_t i = 0; i < api.net->kernel_count; ++i)
            std::printf("%s %d\n", api.net->kernels[i].isa, api.net->kernels[i].runnable());
        return 0;
    }
    const bool trace = std::strcmp(argv[2], "trace") == 0;
    if (!trace && (argc < 4 || std::strcmp(argv[2], "run") != 0))
        return usage();
    const long times = argc > 4 ? std::strtol(argv[4], nullptr, 10) : 1;
    Arena arena(*api.net, trace ? api.net->trace_bytes : api.net->arena_bytes);
    sedge_model model;
    check(api, api.init(&model, api.net, trace ? "scalar" : argv[3], arena.data(), arena.bytes()), "init");
    check(api, api.self_test(&model), "self-test");
    check(api, api.scrub(&model), "scrub");
    std::vector<int8_t> input(api.net->input_len);
    std::vector<int8_t> logits(api.net->classes);
    for (;;) {
        const size_t got = std::fread(input.data(), 1, input.size(), stdin);
        if (got == 0)
            break;
        if (got != input.size())
            return usage();
        if (trace) {
            check(api, api.trace(&model, input.data(), write_layer, nullptr), "trace");
            continue;
        }
        for (long i = 0; i < times; ++i)
            check(api, api.run(&model, input.data(), logits.data()), "run");
        std::fwrite(logits.data(), 1, logits.size(), stdout);
    }
    if (!arena.intact()) {
        std::fputs("the model wrote outside its arena\n", stderr);
        return 4;
    }
    return std::fflush(stdout) == 0 ? 0 : 2;
}
