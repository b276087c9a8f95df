/* NEON of ARMv8.0: 4 output channels a register; 16 products in three instructions (smull, smlal2, sadalp).
 * Two products of int8 by an int8 weight that is never -128 fit 16 bits: 2 * 127 * 128 < 2^15. */
#ifndef LIBSEDGE_NEON_H
#define LIBSEDGE_NEON_H

#include "arm_cpu.h"
#include "requantise.h"

#if defined(SEDGE_AARCH64)
#define SEDGE_HAVE_neon 1

#include <arm_neon.h>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#define SEDGE_TARGET
#define SEDGE_INLINE __attribute__((always_inline)) inline
#define SEDGE_SIGNED_BYTES 1

namespace sedge {
namespace neon {

inline int runnable() { return 1; } /* part of every AArch64 */

#include "neon_common.inc"

using Input = int8x16_t;   /* activations 0, 1 four times, then 2, 3 four times */
using Weights = int8x16_t; /* weights 0, 1 of every lane, then 2, 3 of every lane */
using WeightItem = int8_t;

SEDGE_INLINE Input broadcast(const uint8_t* x) {
    const uint8x16_t order = {0, 1, 0, 1, 0, 1, 0, 1, 2, 3, 2, 3, 2, 3, 2, 3};
    int32x4_t four;
    SEDGE_KEEP_ORDER;
    __asm__("ldr %s0, %1" : "=w"(four) : "m"(*reinterpret_cast<const uint8_t (*)[4]>(x)));
    return vqtbl1q_s8(vreinterpretq_s8_s32(four), order);
}

SEDGE_INLINE Weights load_weights(const WeightItem* w) { return vld1q_s8(w); }

/* acc += the four products of every lane. */
SEDGE_INLINE Acc dot(Acc acc, Input x, Weights w) {
    const int16x8_t pairs = vmlal_high_s8(vmull_s8(vget_low_s8(w), vget_low_s8(x)), w, x);
    return vpadalq_s16(acc, pairs);
}

using Quad = int8x16_t; /* sixteen activations: four steps of one row */

SEDGE_INLINE Quad load_quad(const uint8_t* x) { return vld1q_s8(reinterpret_cast<const int8_t*>(x)); }

/* Activations 4 * Step to 4 * Step + 3. */
template <size_t Step>
SEDGE_INLINE Input quarter(Quad x) {
    constexpr uint8_t f = 4 * Step;
    const uint8x16_t order = {f,     f + 1, f,     f + 1, f,     f + 1, f,     f + 1,
                              f + 2, f + 3, f + 2, f + 3, f + 2, f + 3, f + 2, f + 3};
    SEDGE_KEEP_ORDER;
    return vqtbl1q_s8(x, order);
}

#define SEDGE_QUADS 1
#define SEDGE_OWN_TILE "neon_quads.inc"
#include "vector_net.inc"
#undef SEDGE_OWN_TILE
#undef SEDGE_QUADS

} // namespace neon
} // namespace sedge

#undef SEDGE_TARGET
#undef SEDGE_INLINE
#undef SEDGE_SIGNED_BYTES
#endif
#endif
