#include "pixel_loops.h"

#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#if defined(__x86_64__)
#include "x86_cpu.h" // not __builtin_cpu_supports: in a shared object of zig's it always says no
#include <immintrin.h>
#endif

#ifdef __FAST_MATH__
#error "the steps are defined bit for bit: build without -ffast-math"
#endif

namespace sedge {
namespace {

constexpr std::size_t kBlock = 512;         // pixels that stay in the first cache from loop to loop
constexpr std::size_t kSmallBlock = 64;     // is computed again where one result of it is in doubt
constexpr float kDoubt = 0x1p-12f;          // distance from a tie
constexpr std::size_t kMostInInt16 = 32767; // counted before int16 overflows

namespace baseline {
#define SEDGE_LOOP
#define SEDGE_NAME "baseline"
#include "pixel_loops_body.h"
#undef SEDGE_LOOP
#undef SEDGE_NAME
} // namespace baseline

#if defined(__x86_64__)
namespace avx2 {
#define SEDGE_LOOP __attribute__((target("avx2")))
#define SEDGE_NAME "avx2"
#include "pixel_loops_body.h"
#undef SEDGE_LOOP
#undef SEDGE_NAME
} // namespace avx2

namespace avx512 {
#if defined(__clang__)
#define SEDGE_LOOP __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
#else
#define SEDGE_LOOP __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")))
#endif
#define SEDGE_NAME "avx512"
#define SEDGE_AVX512
#include "pixel_loops_body.h"
#undef SEDGE_LOOP
#undef SEDGE_NAME
#undef SEDGE_AVX512
} // namespace avx512
#endif

// Those that this machine runs, slowest first, and null at the end.
struct Runnable {
    const PixelLoops* loops[4] = {&baseline::kLoops};
    const char* names[4] = {};

    Runnable() {
        std::size_t count = 1;
#if defined(__x86_64__)
        const x86::Features cpu = x86::features();
        if (cpu.avx2) {
            loops[count++] = &avx2::kLoops;
        }
        if (cpu.avx512dq) {
            loops[count++] = &avx512::kLoops;
        }
#endif
        for (std::size_t i = 0; i < count; ++i) {
            names[i] = loops[i]->name;
        }
        fastest = loops[count - 1];
    }

    const PixelLoops* fastest = nullptr;
};

const Runnable runnable;

// Set before main; a test may change it.
std::atomic<const PixelLoops*> in_use{runnable.fastest};

} // namespace

const PixelLoops& pixel_loops() { return *in_use.load(std::memory_order_relaxed); }

const char* use_pixel_loops(const char* name) {
    for (const PixelLoops* const* loops = runnable.loops; *loops != nullptr; ++loops) {
        if (std::strcmp(name, (*loops)->name) == 0) {
            return in_use.exchange(*loops)->name;
        }
    }
    return nullptr;
}

const char* const* pixel_loop_names() { return runnable.names; }

} // namespace sedge
