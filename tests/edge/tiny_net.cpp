// A net small enough to be written by hand, with every fault the loader has to see as a macro.
// One "layer": logit k = the sum over i of input[i] * weight[k][i], through the arena, cut to int8.
#include "libsedge.h"

#include <sched.h>
#include <time.h>

#ifndef ABI
#define ABI SEDGE_ABI_VERSION
#endif
#ifndef NAME
#define NAME "tiny"
#endif
#ifndef ALIGN
#define ALIGN 64
#endif
#ifndef GOLDEN_OFFSET
#define GOLDEN_OFFSET 0
#endif
#ifndef KERNELS
#define KERNELS 2
#endif
#ifndef AVX2_RUNS
#define AVX2_RUNS 0
#endif

namespace {

const int8_t weights[8] = {1, 2, 3, 4, -1, 0, 0, 1};

void run(const int8_t* input, int8_t* logits, void* arena) {
    volatile int8_t* scratch = static_cast<volatile int8_t*>(arena);
    for (int i = 0; i < 4; ++i)
        scratch[i] = input[i];
    sched_yield(); // another thread in the same arena would show
#ifdef SLEEP_MS
    timespec time = {0, SLEEP_MS * 1000000L};
    nanosleep(&time, nullptr);
#endif
#ifdef WRITE_AT
    scratch[WRITE_AT] = 0;
#endif
    for (int k = 0; k < 2; ++k) {
        int sum = 0;
        for (int i = 0; i < 4; ++i)
            sum += scratch[i] * weights[4 * k + i];
        logits[k] = static_cast<int8_t>(sum < -128 ? -128 : sum > 127 ? 127 : sum);
    }
}

void trace(const int8_t* input, void* arena, sedge_layer_fn fn, void* user) {
    int8_t logits[2];
    fn(user, "copy", input, 2, 2);
    run(input, logits, arena);
    fn(user, "dense", logits, 2, 1);
}

int never() { return AVX2_RUNS; }
int always() { return 1; }

const int8_t golden_inputs[4] = {1, 2, 3, 4};
const int8_t golden_outputs[2] = {30 + GOLDEN_OFFSET, 3};
const sedge_kernel kernels[2] = {{"avx2", never, run, weights, sizeof weights, WEIGHTS_CRC},
                                 {"scalar", always, run, weights, sizeof weights, WEIGHTS_CRC}};
#ifdef NO_TRACE
#define TRACE nullptr
#else
#define TRACE trace
#endif
const sedge_net net = {ABI,     NAME,          "0123abcd",     32, ALIGN, 4, 2, kernels,
                       KERNELS, golden_inputs, golden_outputs, 1,  TRACE, 32};

} // namespace

#ifndef NO_ENTRY
extern "C" const sedge_net* sedge_net_entry(void) {
#ifdef NULL_ENTRY
    return nullptr;
#else
    return &net;
#endif
}
#endif

#ifdef FORCED_STATUS // a C API of its own, to see every status arrive
extern "C" {
sedge_status sedge_init(sedge_model* model, const sedge_net* n, const char*, void* arena, size_t) {
    *model = {n, &kernels[1], arena};
    return FORCED_IN == 0 ? FORCED_STATUS : SEDGE_OK;
}
sedge_status sedge_run(sedge_model*, const int8_t*, int8_t*) { return FORCED_STATUS; }
sedge_status sedge_self_test(sedge_model*) { return FORCED_STATUS; }
sedge_status sedge_scrub(sedge_model*) { return FORCED_STATUS; }
sedge_status sedge_trace(sedge_model*, const int8_t*, sedge_layer_fn, void*) { return FORCED_STATUS; }
const char* sedge_status_text(sedge_status) { return "forced"; }
}
#endif
