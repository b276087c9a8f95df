/* NEON of ARMv7-A: 4 output channels a register; 16 products in three instructions (vmull, vmlal, vpadal).
 * Two products of int8 by an int8 weight that is never -128 fit 16 bits: 2 * 127 * 128 < 2^15. */
#ifndef LIBSEDGE_ARMV7NEON_H
#define LIBSEDGE_ARMV7NEON_H

#include "arm_cpu.h"
#include "requantise.h"

#if defined(SEDGE_ARMV7A)
#define SEDGE_HAVE_armv7neon 1

#include <arm_neon.h>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#define SEDGE_TARGET __attribute__((target("fpu=neon")))
#define SEDGE_INLINE SEDGE_TARGET __attribute__((always_inline)) inline
#define SEDGE_SIGNED_BYTES 1

namespace sedge {
namespace armv7neon {

inline int runnable() { return arm::has(arm::hwcap_neon) ? 1 : 0; }

#include "neon_common.inc"

struct Input { /* activations 0, 1 four times; 2, 3 four times */
    int8x8_t first;
    int8x8_t second;
};
using Weights = int8x16_t; /* weights 0, 1 of every lane, then 2, 3 of every lane */
using WeightItem = int8_t;

SEDGE_INLINE int8x8_t two_bytes(const uint8_t* x) {
    int16_t two;
    std::memcpy(&two, x, sizeof two);
    return vreinterpret_s8_s16(vdup_n_s16(two));
}

SEDGE_INLINE Input broadcast(const uint8_t* x) {
    SEDGE_KEEP_ORDER;
    return {two_bytes(x), two_bytes(x + 2)};
}

SEDGE_INLINE Weights load_weights(const WeightItem* w) { return vld1q_s8(w); }

/* acc += the four products of every lane. */
SEDGE_INLINE Acc dot(Acc acc, const Input& x, Weights w) {
    const int16x8_t pairs = vmlal_s8(vmull_s8(vget_low_s8(w), x.first), vget_high_s8(w), x.second);
    return vpadalq_s16(acc, pairs);
}

#include "vector_net.inc"

} // namespace armv7neon
} // namespace sedge

#undef SEDGE_TARGET
#undef SEDGE_INLINE
#undef SEDGE_SIGNED_BYTES
#endif
#endif
