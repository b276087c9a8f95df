#include "pixel_loops.h"

#include <atomic>
#include <cmath>
#include <cstring>

#ifdef __FAST_MATH__
#error "the steps are defined bit for bit: build without -ffast-math"
#endif

namespace sedge {
namespace {

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
bool has_avx2() { return __builtin_cpu_supports("avx2") != 0; }
#endif

const PixelLoops* best() {
#if defined(__x86_64__)
    if (has_avx2()) {
        return &avx2::kLoops;
    }
#endif
    return &baseline::kLoops;
}

// Set before main; a test may change it.
std::atomic<const PixelLoops*> in_use{best()};

} // namespace

const PixelLoops& pixel_loops() { return *in_use.load(std::memory_order_relaxed); }

const char* use_pixel_loops(const char* name) {
    const PixelLoops* wanted = nullptr;
#if defined(__x86_64__)
    if (has_avx2() && std::strcmp(name, avx2::kLoops.name) == 0) {
        wanted = &avx2::kLoops;
    }
#endif
    if (std::strcmp(name, baseline::kLoops.name) == 0) {
        wanted = &baseline::kLoops;
    }
    return wanted == nullptr ? nullptr : in_use.exchange(wanted)->name;
}

const char* const* pixel_loop_names() {
    static const char* const names[] = {baseline::kLoops.name,
#if defined(__x86_64__)
                                        has_avx2() ? avx2::kLoops.name : nullptr,
#endif
                                        nullptr};
    return names;
}

} // namespace sedge
