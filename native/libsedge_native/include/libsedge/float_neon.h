/* float32 on NEON of ARMv8.0: 4 output channels a register. */
#ifndef LIBSEDGE_FLOAT_NEON_H
#define LIBSEDGE_FLOAT_NEON_H

#include "arm_cpu.h"

#if defined(SEDGE_AARCH64)
#define SEDGE_HAVE_float_neon 1

#include <arm_neon.h>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#define SEDGE_TARGET
#define SEDGE_INLINE __attribute__((always_inline)) inline

namespace sedge {
namespace float_neon {

inline int runnable() { return 1; } /* part of every AArch64 */

using Vec = float32x4_t;
constexpr size_t lanes = 4;

SEDGE_INLINE Vec load(const float* x) { return vld1q_f32(x); }
SEDGE_INLINE void store(float* y, Vec v) { vst1q_f32(y, v); }
SEDGE_INLINE Vec splat(float x) { return vdupq_n_f32(x); }
SEDGE_INLINE Vec broadcast(const float* x) { return vld1q_dup_f32(x); }
SEDGE_INLINE Vec fma(Vec a, Vec b, Vec c) { return vfmaq_f32(c, a, b); } /* a * b + c */
SEDGE_INLINE Vec add(Vec a, Vec b) { return vaddq_f32(a, b); }
SEDGE_INLINE Vec sub(Vec a, Vec b) { return vsubq_f32(a, b); }
SEDGE_INLINE Vec mul(Vec a, Vec b) { return vmulq_f32(a, b); }
SEDGE_INLINE Vec max(Vec a, Vec b) { return vmaxq_f32(a, b); }

#include "float_net.inc"

} // namespace float_neon
} // namespace sedge

#undef SEDGE_TARGET
#undef SEDGE_INLINE
#endif
#endif
