/* AVX2 and FMA: 8 output channels a register; bytes widened to 16 bits, so that no pair sum can saturate. */
#ifndef LIBSEDGE_AVX2_H
#define LIBSEDGE_AVX2_H

#include "requantise.h"
#include "x86_cpu.h"

#if defined(SEDGE_X86_64)
#define SEDGE_HAVE_avx2 1

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <immintrin.h>
#include <utility>

#define SEDGE_TARGET __attribute__((target("avx2,fma")))
#define SEDGE_INLINE SEDGE_TARGET __attribute__((always_inline)) inline
#define SEDGE_GROUPS
#define SEDGE_OWN_TILE "wide_tile.inc"

namespace sedge {
namespace avx2 {

inline int runnable() { return x86::features().avx2 ? 1 : 0; }

#include "ymm.inc"

struct Input { /* activations 0, 2 and 1, 3 of four as uint16, the same in every lane */
    __m256i even;
    __m256i odd;
};
struct Weights { /* weights 0, 2 and 1, 3 of every lane as int16 */
    __m256i even;
    __m256i odd;
};
using WeightItem = int8_t; /* of layers whose weights are read once; the others have int16_t */
using Pair = __m256i;      /* of 16-bit activations, the same in every lane; or of weights, of every lane */

SEDGE_INLINE Input broadcast(const uint8_t* x) {
    const __m256i four = _mm256_set1_epi32(four_bytes(x));
    return {_mm256_and_si256(four, _mm256_set1_epi16(0x00FF)), _mm256_srli_epi16(four, 8)};
}

SEDGE_INLINE Weights load_weights(const WeightItem* w) {
    const __m256i four = _mm256_load_si256(reinterpret_cast<const __m256i*>(w));
    return {_mm256_srai_epi16(_mm256_slli_epi16(four, 8), 8), _mm256_srai_epi16(four, 8)};
}

/* acc += the four products of every lane: pmaddwd of 16-bit values; pmaddubsw would saturate. */
SEDGE_INLINE Acc dot(Acc acc, const Input& x, const Weights& w) {
    acc = _mm256_add_epi32(acc, _mm256_madd_epi16(x.even, w.even));
    return _mm256_add_epi32(acc, _mm256_madd_epi16(x.odd, w.odd));
}

SEDGE_INLINE void widen16(uint16_t* to, const uint8_t* x) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_cvtepu8_epi16(bytes));
}

SEDGE_INLINE Pair broadcast_pair(const uint16_t* x) {
    int32_t two;
    std::memcpy(&two, x, sizeof two);
    return _mm256_set1_epi32(two);
}

SEDGE_INLINE Pair load_pairs(const int16_t* w) {
    return _mm256_load_si256(reinterpret_cast<const __m256i*>(w));
}

/* acc += the two products of every lane. Assembly, because gcc adds products to each other first and then has
 * not enough registers. */
SEDGE_INLINE Acc dot_pair(Acc acc, Pair x, Pair w) {
    __asm__("vpaddd %1, %0, %0" : "+x"(acc) : "x"(_mm256_madd_epi16(x, w)));
    return acc;
}

#include "vector_net.inc"

} // namespace avx2
} // namespace sedge

#undef SEDGE_TARGET
#undef SEDGE_GROUPS
#undef SEDGE_OWN_TILE
#undef SEDGE_INLINE
#endif
#endif
