/* float32 on AVX-512 F: 16 output channels a register. */
#ifndef LIBSEDGE_FLOAT_AVX512_H
#define LIBSEDGE_FLOAT_AVX512_H

#include "x86_cpu.h"

#if defined(SEDGE_X86_64)
#define SEDGE_HAVE_float_avx512 1

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <immintrin.h>
#include <utility>

#define SEDGE_TARGET __attribute__((target("avx512f")))
#define SEDGE_INLINE SEDGE_TARGET __attribute__((always_inline)) inline

namespace sedge {
namespace float_avx512 {

inline int runnable() { return x86::features().avx512 ? 1 : 0; }

using Vec = __m512;
constexpr size_t lanes = 16;

SEDGE_INLINE Vec load(const float* x) { return _mm512_load_ps(x); }
SEDGE_INLINE void store(float* y, Vec v) { _mm512_store_ps(y, v); }
SEDGE_INLINE Vec splat(float x) { return _mm512_set1_ps(x); }
SEDGE_INLINE Vec broadcast(const float* x) { return _mm512_set1_ps(*x); }
SEDGE_INLINE Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); } /* a * b + c */
SEDGE_INLINE Vec add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
SEDGE_INLINE Vec sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
SEDGE_INLINE Vec mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
SEDGE_INLINE Vec max(Vec a, Vec b) { return _mm512_max_ps(a, b); }

#include "float_net.inc"

} // namespace float_avx512
} // namespace sedge

#undef SEDGE_TARGET
#undef SEDGE_INLINE
#endif
#endif
