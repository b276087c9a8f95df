/* float32 on AVX2 and FMA: 8 output channels a register. */
#ifndef LIBSEDGE_FLOAT_AVX2_H
#define LIBSEDGE_FLOAT_AVX2_H

#include "x86_cpu.h"

#if defined(SEDGE_X86_64)
#define SEDGE_HAVE_float_avx2 1

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <immintrin.h>
#include <utility>

#define SEDGE_TARGET __attribute__((target("avx2,fma")))
#define SEDGE_INLINE SEDGE_TARGET __attribute__((always_inline)) inline

namespace sedge {
namespace float_avx2 {

inline int runnable() { return x86::features().avx2 ? 1 : 0; }

using Vec = __m256;
constexpr size_t lanes = 8;

SEDGE_INLINE Vec load(const float* x) { return _mm256_load_ps(x); }
SEDGE_INLINE void store(float* y, Vec v) { _mm256_store_ps(y, v); }
SEDGE_INLINE Vec splat(float x) { return _mm256_set1_ps(x); }
SEDGE_INLINE Vec broadcast(const float* x) { return _mm256_set1_ps(*x); }
SEDGE_INLINE Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); } /* a * b + c */
SEDGE_INLINE Vec add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
SEDGE_INLINE Vec sub(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
SEDGE_INLINE Vec mul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
SEDGE_INLINE Vec max(Vec a, Vec b) { return _mm256_max_ps(a, b); }

#include "float_net.inc"

} // namespace float_avx2
} // namespace sedge

#undef SEDGE_TARGET
#undef SEDGE_INLINE
#endif
#endif
