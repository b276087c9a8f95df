/* NEON with the dot product of ARMv8.2: 4 output channels a register, 16 multiply-accumulates an instruction.
 */
#ifndef LIBSEDGE_NEONDOT_H
#define LIBSEDGE_NEONDOT_H

#include "arm_cpu.h"
#include "requantise.h"

#if defined(SEDGE_AARCH64)
#define SEDGE_HAVE_neondot 1

#include <arm_neon.h>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#define SEDGE_TARGET __attribute__((target("arch=armv8.2-a+dotprod")))
#define SEDGE_INLINE SEDGE_TARGET __attribute__((always_inline)) inline
#define SEDGE_SIGNED_BYTES 1

namespace sedge {
namespace neondot {

inline int runnable() { return arm::has(arm::hwcap_asimddp) ? 1 : 0; }

#include "neon_common.inc"

using Input = int8x16_t;   /* four activations in the lowest lane */
using Weights = int8x16_t; /* four weights a lane */
using WeightItem = int8_t;

SEDGE_INLINE Input broadcast(const uint8_t* x) {
    Input four;
    __asm__("ldr %s0, %1" : "=w"(four) : "m"(*reinterpret_cast<const uint8_t (*)[4]>(x)));
    return four;
}

SEDGE_INLINE Weights load_weights(const WeightItem* w) { return vld1q_s8(w); }

/* acc += the four products of every lane. */
SEDGE_INLINE Acc dot(Acc acc, Input x, Weights w) { return vdotq_laneq_s32(acc, w, x, 0); }

using Quad = int8x16_t; /* sixteen activations: four steps of one row */

SEDGE_INLINE Quad load_quad(const uint8_t* x) { return vld1q_s8(reinterpret_cast<const int8_t*>(x)); }

#define SEDGE_OWN_TILE "neon_lanes.inc"
#include "vector_net.inc"
#undef SEDGE_OWN_TILE

} // namespace neondot
} // namespace sedge

#undef SEDGE_TARGET
#undef SEDGE_INLINE
#undef SEDGE_SIGNED_BYTES
#endif
#endif
