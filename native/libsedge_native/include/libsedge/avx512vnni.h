/* AVX-512 VNNI: 16 output channels a register, 64 multiply-accumulates an instruction. */
#ifndef LIBSEDGE_AVX512VNNI_H
#define LIBSEDGE_AVX512VNNI_H

#include "requantise.h"
#include "x86_cpu.h"

#if defined(SEDGE_X86_64)
#define SEDGE_HAVE_avx512vnni 1

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#if !defined(__clang__) && __GNUC__ < 13 /* gcc 12's own intrinsics (GCC bug 105593) */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#define SEDGE_QUIET 1
#endif

#include <immintrin.h>

#define SEDGE_TARGET __attribute__((target("avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni")))
#define SEDGE_INLINE SEDGE_TARGET __attribute__((always_inline)) inline
#define SEDGE_GROUPS
#define SEDGE_STEPS 4

namespace sedge {
namespace avx512vnni {

inline int runnable() { return x86::features().avx512vnni ? 1 : 0; }

using Acc = __m512i;     /* int32, one lane an output channel */
using Input = __m512i;   /* four uint8 activations, the same in every lane */
using Weights = __m512i; /* four int8 weights a lane */
using Real = __m512;
using WeightItem = int8_t;

constexpr size_t lanes = 16;
constexpr int nearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC; /* ties to even, whatever MXCSR says */

SEDGE_INLINE Input broadcast(const uint8_t* x) {
    int32_t four;
    std::memcpy(&four, x, sizeof four);
    return _mm512_set1_epi32(four);
}

SEDGE_INLINE Weights load_weights(const WeightItem* w) { return _mm512_load_si512(w); }

SEDGE_INLINE Acc load_acc(const int32_t* bias) { return _mm512_loadu_si512(bias); }

SEDGE_INLINE void store_acc(int32_t* y, Acc v) { _mm512_storeu_si512(y, v); }

SEDGE_INLINE Real load_real(const float* v) { return _mm512_loadu_ps(v); }

/* acc += the four products of every lane. Assembly, because gcc 12 copies the accumulator of the intrinsic.
 */
SEDGE_INLINE Acc dot(Acc acc, Input x, Weights w) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(x), "v"(w));
    return acc;
}

SEDGE_INLINE Acc max(Acc a, Acc b) { return _mm512_max_epi32(a, b); }

/* Accumulators that carry 0x4B000000 are the floats 2^23 + acc (docs/quant_spec.md, section 6). */
SEDGE_INLINE Acc scale_biased(Acc acc, Real multiplier, Real minus_offset) {
    return _mm512_cvt_roundps_epi32(
        _mm512_fmadd_round_ps(_mm512_castsi512_ps(acc), multiplier, minus_offset, nearest), nearest);
}

SEDGE_INLINE Acc scale_plain(Acc acc, Real multiplier) {
    const Real v = _mm512_mul_round_ps(_mm512_cvt_roundepi32_ps(acc, nearest), multiplier, nearest);
    return _mm512_cvt_roundps_epi32(_mm512_min_ps(v, _mm512_set1_ps(1024.0F)), nearest);
}

/* Four registers of int32 to uint8 clamp(v + zero, low, 255); lane l holds channels 4l to 4l+3 of a, b, c, d.
 */
template <int32_t Zero, int32_t Low>
SEDGE_INLINE Acc pack(Acc a, Acc b, Acc c, Acc d) {
    Acc ab = _mm512_packs_epi32(a, b);
    Acc cd = _mm512_packs_epi32(c, d);
    if constexpr (Zero != 0) {
        ab = _mm512_adds_epi16(ab, _mm512_set1_epi16(Zero));
        cd = _mm512_adds_epi16(cd, _mm512_set1_epi16(Zero));
    }
    Acc bytes = _mm512_packus_epi16(ab, cd);
    if constexpr (Low > 0)
        bytes = _mm512_max_epu8(bytes, _mm512_set1_epi8(static_cast<char>(Low)));
    return bytes;
}

/* Four registers that follow each other in memory. */
template <int32_t Zero, int32_t Low>
SEDGE_INLINE void store4(uint8_t* y, Acc a, Acc b, Acc c, Acc d) {
    const Acc order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    _mm512_storeu_si512(y, _mm512_permutexvar_epi32(order, pack<Zero, Low>(a, b, c, d)));
}

/* Two and two. */
template <int32_t Zero, int32_t Low>
SEDGE_INLINE void store2(uint8_t* y, uint8_t* z, Acc a, Acc b, Acc c, Acc d) {
    const Acc order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const Acc bytes = _mm512_permutexvar_epi32(order, pack<Zero, Low>(a, b, c, d));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), _mm512_castsi512_si256(bytes));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(z), _mm512_extracti64x4_epi64(bytes, 1));
}

template <int32_t Zero, int32_t Low>
SEDGE_INLINE void store1(uint8_t* y, Acc a) {
    const Acc order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const Acc bytes = _mm512_permutexvar_epi32(order, pack<Zero, Low>(a, a, a, a));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y), _mm512_castsi512_si128(bytes));
}

/* sum += clamp(v + zero, low, 255) of the first `Count` of four registers. */
template <int32_t Zero, int32_t Low, size_t Count>
SEDGE_INLINE Acc add4(Acc sum, Acc a, Acc b, Acc c, Acc d) {
    const Acc transpose =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    const Acc bytes = _mm512_shuffle_epi8(pack<Zero, Low>(a, b, c, d), transpose);
    constexpr int32_t ones = Count == 4 ? 0x01010101 : Count == 3 ? 0x00010101 : Count == 2 ? 0x00000101 : 1;
    return dot(sum, bytes, _mm512_set1_epi32(ones));
}

#include "vector_net.inc"

} // namespace avx512vnni
} // namespace sedge

#if defined(SEDGE_QUIET)
#pragma GCC diagnostic pop
#undef SEDGE_QUIET
#endif
#undef SEDGE_TARGET
#undef SEDGE_GROUPS
#undef SEDGE_STEPS
#undef SEDGE_INLINE
#endif
#endif
