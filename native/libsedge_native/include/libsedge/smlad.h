/* The DSP extension of Cortex-M4, M7 and their like: two products of 16 bits an instruction (smlad). One
 * output channel an accumulator; four activations and four weights become two words of two halves each
 * (sxtb16). */
#ifndef LIBSEDGE_SMLAD_H
#define LIBSEDGE_SMLAD_H

#include <cstddef>
#include <cstdint>

#include "requantise.h"

#if defined(__ARM_FEATURE_DSP) && defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 'M'
#define SEDGE_HAVE_smlad 1

#include <arm_acle.h>
#include <cstring>
#include <utility>

#define SEDGE_TARGET
#define SEDGE_INLINE __attribute__((always_inline)) inline
#define SEDGE_SIGNED_BYTES 1
#define SEDGE_KEEP_LOOP
#define SEDGE_KEEP_ORDER

namespace sedge {
namespace smlad {

inline int runnable() { return 1; } /* part of every CPU that this is compiled for */

using Acc = int32_t;
using Real = float;

constexpr size_t lanes = 1;

struct Halves { /* bytes 0 and 2, bytes 1 and 3, as signed 16 bits */
    int16x2_t even;
    int16x2_t odd;
};
using Input = Halves;
using Weights = Halves;
using WeightItem = int8_t;

SEDGE_INLINE Halves four_bytes(const void* from) {
    int8x4_t four;
    int16x2_t odd;
    std::memcpy(&four, from, sizeof four);
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(odd) : "r"(four));
    return {__sxtb16(four), odd};
}

SEDGE_INLINE Input broadcast(const uint8_t* x) { return four_bytes(x); }

SEDGE_INLINE Weights load_weights(const WeightItem* w) { return four_bytes(w); }

/* acc += the four products. */
SEDGE_INLINE Acc dot(Acc acc, const Input& x, const Weights& w) {
    return __smlad(x.odd, w.odd, __smlad(x.even, w.even, acc));
}

SEDGE_INLINE Acc load_acc(const int32_t* v) { return *v; }

SEDGE_INLINE void store_acc(int32_t* y, Acc v) { *y = v; }

SEDGE_INLINE Real load_real(const float* v) { return *v; }

SEDGE_INLINE Acc max(Acc a, Acc b) { return a > b ? a : b; }

/* Within [-1024, 1024], nearest, ties to even. */
SEDGE_INLINE Acc scale_plain(Acc acc, Real multiplier) {
    float v = static_cast<float>(acc) * multiplier;
    v = v < -1024.0F ? -1024.0F : v;
    v = v > 1024.0F ? 1024.0F : v;
    return rint_half_even(v);
}

/* Accumulators that carry 0x4B000000 (docs/quant_spec.md, section 6): it comes off again as an integer. */
SEDGE_INLINE Acc scale_biased(Acc acc, Real multiplier, Real /*minus_offset*/) {
    return scale_plain(acc - 0x4B000000, multiplier);
}

template <int32_t Zero, int32_t Low>
SEDGE_INLINE int8_t clamp(Acc v) {
    const int32_t q = v + Zero < Low ? Low : v + Zero;
    return static_cast<int8_t>(q > 127 ? 127 : q);
}

template <int32_t Zero, int32_t Low>
SEDGE_INLINE void store1(uint8_t* y, Acc a) {
    *y = static_cast<uint8_t>(clamp<Zero, Low>(a));
}

template <int32_t Zero, int32_t Low>
SEDGE_INLINE void store2(uint8_t* y, uint8_t* z, Acc a, Acc b, Acc c, Acc d) {
    store1<Zero, Low>(y, a);
    store1<Zero, Low>(y + 1, b);
    store1<Zero, Low>(z, c);
    store1<Zero, Low>(z + 1, d);
}

template <int32_t Zero, int32_t Low>
SEDGE_INLINE void store4(uint8_t* y, Acc a, Acc b, Acc c, Acc d) {
    store2<Zero, Low>(y, y + 2, a, b, c, d);
}

/* sum += clamp(v + zero, low, 127) of the first Count of four. */
template <int32_t Zero, int32_t Low, size_t Count>
SEDGE_INLINE Acc add4(Acc sum, Acc a, Acc b, Acc c, Acc d) {
    sum += clamp<Zero, Low>(a);
    sum += Count > 1 ? clamp<Zero, Low>(b) : 0;
    sum += Count > 2 ? clamp<Zero, Low>(c) : 0;
    return sum + (Count > 3 ? clamp<Zero, Low>(d) : 0);
}

#include "vector_net.inc"

} // namespace smlad
} // namespace sedge

#undef SEDGE_TARGET
#undef SEDGE_INLINE
#undef SEDGE_SIGNED_BYTES
#undef SEDGE_KEEP_LOOP
#undef SEDGE_KEEP_ORDER
#endif
#endif
