// Runs one model, compiled with sanitizers, on every instruction set of this machine: self-test (the goldens
// embedded in it), every layer, and each golden again with input, logits and arena in memory of exactly their
// size: once from the sanitizer's heap, once with an unreadable page right behind them and once right before
// them, which also catches the masked and tile instructions that the sanitizer does not see.
#include "libsedge.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <sys/mman.h>
#include <unistd.h>

// Negative controls: the arena is smaller than the model was promised; more goldens are read than there are.
#ifndef SEDGE_TEST_STOLEN_BYTES
#define SEDGE_TEST_STOLEN_BYTES 0
#endif
#ifndef SEDGE_TEST_EXTRA_GOLDENS
#define SEDGE_TEST_EXTRA_GOLDENS 0
#endif

namespace {

enum class Place { heap, before_a_page, behind_a_page };

struct Block {
    unsigned char* data;
    void* whole;
    size_t mapped; /* 0: from the heap */
};

Block take(size_t bytes, size_t align, Place place) {
    if (place == Place::heap) {
        void* data = nullptr;
        if (posix_memalign(&data, align < sizeof(void*) ? sizeof(void*) : align, bytes) != 0) {
            std::abort();
        }
        return {static_cast<unsigned char*>(data), data, 0};
    }
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t body = (bytes + page - 1) / page * page, mapped = body + 2 * page;
    void* whole = mmap(nullptr, mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (whole == MAP_FAILED) {
        std::abort();
    }
    unsigned char* first = static_cast<unsigned char*>(whole) + page;
    if (mprotect(first, body, PROT_READ | PROT_WRITE) != 0) {
        std::abort();
    }
    const size_t skip = place == Place::before_a_page ? (body - bytes) / align * align : 0;
    return {first + skip, whole, mapped};
}

void give(const Block& block) {
    if (block.mapped == 0) {
        std::free(block.whole);
    } else {
        munmap(block.whole, block.mapped);
    }
}

int check(const sedge_net* net, const char* isa, Place place) {
    const Block arena = take(net->arena_bytes - SEDGE_TEST_STOLEN_BYTES, net->arena_align, place);
    const Block input = take(net->input_len, 1, place), logits = take(net->classes, 1, place);
    sedge_model model;
    int wrong = sedge_init(&model, net, isa, arena.data, net->arena_bytes) != SEDGE_OK;
    wrong += !wrong && (sedge_self_test(&model) != SEDGE_OK || sedge_scrub(&model) != SEDGE_OK);
    for (size_t i = 0; !wrong && i < net->golden_count + SEDGE_TEST_EXTRA_GOLDENS; ++i) {
        std::memcpy(input.data, net->golden_inputs + i * net->input_len, net->input_len);
        wrong += sedge_run(&model, reinterpret_cast<int8_t*>(input.data),
                           reinterpret_cast<int8_t*>(logits.data)) != SEDGE_OK;
        wrong += std::memcmp(logits.data, net->golden_outputs + i * net->classes, net->classes) != 0;
    }
    if (!wrong && std::strcmp(isa, "scalar") == 0) {
        size_t values = 0;
        const auto count = [](void* user, const char*, const int8_t* data, size_t channels, size_t length) {
            for (size_t i = 0; i < channels * length; ++i) {
                *static_cast<size_t*>(user) += data[i] != 0;
            }
        };
        wrong += sedge_trace(&model, net->golden_inputs, count, &values) != SEDGE_OK;
    }
    give(arena);
    give(input);
    give(logits);
    return wrong;
}

} // namespace

int main() {
    const sedge_net* net = sedge_net_entry();
#if defined(SEDGE_TEST_OVERFLOW)
    volatile int most = 0x7FFFFFFF;
    most = most + 1;
#endif
    for (size_t k = 0; k < net->kernel_count; ++k) {
        if (!net->kernels[k].runnable()) {
            continue;
        }
        for (const Place place : {Place::heap, Place::before_a_page, Place::behind_a_page}) {
            if (check(net, net->kernels[k].isa, place) != 0) {
                std::fprintf(stderr, "%s: wrong result\n", net->kernels[k].isa);
                return 1;
            }
        }
        std::printf("%s ", net->kernels[k].isa);
    }
    std::printf("\n");
    return 0;
}
