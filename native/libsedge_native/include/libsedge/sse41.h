/* SSE4.1: 4 output channels a register; bytes widened to 16 bits, so that no pair sum can saturate. */
#ifndef LIBSEDGE_SSE41_H
#define LIBSEDGE_SSE41_H

#include "requantise.h"
#include "x86_cpu.h"

#if defined(SEDGE_X86_64)
#define SEDGE_HAVE_sse41 1

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <immintrin.h>
#include <utility>

#define SEDGE_TARGET __attribute__((target("sse4.1")))
#define SEDGE_INLINE SEDGE_TARGET __attribute__((always_inline)) inline
#define SEDGE_GROUPS
#define SEDGE_OWN_TILE "wide_tile.inc"

namespace sedge {
namespace sse41 {

inline int runnable() { return x86::features().sse41 ? 1 : 0; }

using Acc = __m128i; /* int32, one lane an output channel */
using Real = __m128;
struct Input { /* activations 0, 2 and 1, 3 of four as uint16, the same in every lane */
    __m128i even;
    __m128i odd;
};
struct Weights { /* weights 0, 2 and 1, 3 of every lane as int16 */
    __m128i even;
    __m128i odd;
};
using WeightItem = int8_t; /* of layers whose weights are read once; the others have int16_t */
using Pair = __m128i;      /* of 16-bit activations, the same in every lane; or of weights, of every lane */

constexpr size_t lanes = 4;

SEDGE_INLINE Input broadcast(const uint8_t* x) {
    int32_t bytes;
    std::memcpy(&bytes, x, sizeof bytes);
    const __m128i four = _mm_set1_epi32(bytes);
    return {_mm_and_si128(four, _mm_set1_epi16(0x00FF)), _mm_srli_epi16(four, 8)};
}

SEDGE_INLINE Weights load_weights(const WeightItem* w) {
    const __m128i four = _mm_load_si128(reinterpret_cast<const __m128i*>(w));
    return {_mm_srai_epi16(_mm_slli_epi16(four, 8), 8), _mm_srai_epi16(four, 8)};
}

SEDGE_INLINE Acc load_acc(const int32_t* v) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(v)); }

SEDGE_INLINE void store_acc(int32_t* y, Acc v) { _mm_storeu_si128(reinterpret_cast<__m128i*>(y), v); }

SEDGE_INLINE Real load_real(const float* v) { return _mm_loadu_ps(v); }

/* acc += the four products of every lane: pmaddwd of 16-bit values; pmaddubsw would saturate. */
SEDGE_INLINE Acc dot(Acc acc, const Input& x, const Weights& w) {
    acc = _mm_add_epi32(acc, _mm_madd_epi16(x.even, w.even));
    return _mm_add_epi32(acc, _mm_madd_epi16(x.odd, w.odd));
}

SEDGE_INLINE Acc max(Acc a, Acc b) { return _mm_max_epi32(a, b); }

SEDGE_INLINE Acc scale_plain(Acc acc, Real multiplier) {
    const Real v = _mm_mul_ps(_mm_cvtepi32_ps(acc), multiplier);
    return _mm_cvtps_epi32(_mm_min_ps(v, _mm_set1_ps(1024.0F)));
}

/* There is no fused multiply-add, and 2^23 + acc, scaled and shifted back in two roundings, is not exact: the
 * bias comes off again first, as an integer. */
SEDGE_INLINE Acc scale_biased(Acc acc, Real multiplier, Real /*minus_offset*/) {
    return scale_plain(_mm_sub_epi32(acc, _mm_set1_epi32(0x4B000000)), multiplier);
}

/* Four registers of int32 to uint8 clamp(v + zero, low, 255), in order. */
template <int32_t Zero, int32_t Low>
SEDGE_INLINE Acc pack(Acc a, Acc b, Acc c, Acc d) {
    Acc ab = _mm_packs_epi32(a, b);
    Acc cd = _mm_packs_epi32(c, d);
    if constexpr (Zero != 0) {
        ab = _mm_adds_epi16(ab, _mm_set1_epi16(Zero));
        cd = _mm_adds_epi16(cd, _mm_set1_epi16(Zero));
    }
    Acc bytes = _mm_packus_epi16(ab, cd);
    if constexpr (Low > 0)
        bytes = _mm_max_epu8(bytes, _mm_set1_epi8(static_cast<char>(Low)));
    return bytes;
}

/* Four registers that follow each other in memory. */
template <int32_t Zero, int32_t Low>
SEDGE_INLINE void store4(uint8_t* y, Acc a, Acc b, Acc c, Acc d) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y), pack<Zero, Low>(a, b, c, d));
}

/* Two and two. */
template <int32_t Zero, int32_t Low>
SEDGE_INLINE void store2(uint8_t* y, uint8_t* z, Acc a, Acc b, Acc c, Acc d) {
    const Acc bytes = pack<Zero, Low>(a, b, c, d);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(y), bytes);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(z), _mm_unpackhi_epi64(bytes, bytes));
}

template <int32_t Zero, int32_t Low>
SEDGE_INLINE void store1(uint8_t* y, Acc a) {
    const int32_t four = _mm_cvtsi128_si32(pack<Zero, Low>(a, a, a, a));
    std::memcpy(y, &four, sizeof four);
}

/* sum += clamp(v + zero, low, 255) of the first Count of four registers; pairs of bytes cannot saturate 16
 * bits. */
template <int32_t Zero, int32_t Low, size_t Count>
SEDGE_INLINE Acc add4(Acc sum, Acc a, Acc b, Acc c, Acc d) {
    const Acc transpose = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    constexpr int32_t ones = Count == 4 ? 0x01010101 : Count == 3 ? 0x00010101 : Count == 2 ? 0x00000101 : 1;
    const Acc bytes = _mm_shuffle_epi8(pack<Zero, Low>(a, b, c, d), transpose);
    const Acc pairs = _mm_maddubs_epi16(bytes, _mm_set1_epi32(ones));
    return _mm_add_epi32(sum, _mm_madd_epi16(pairs, _mm_set1_epi16(1)));
}

SEDGE_INLINE void widen16(uint16_t* to, const uint8_t* x) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x));
    auto* const wide = reinterpret_cast<__m128i*>(to);
    _mm_storeu_si128(wide, _mm_cvtepu8_epi16(bytes));
    _mm_storeu_si128(wide + 1, _mm_unpackhi_epi8(bytes, _mm_setzero_si128()));
}

SEDGE_INLINE Pair broadcast_pair(const uint16_t* x) {
    int32_t two;
    std::memcpy(&two, x, sizeof two);
    return _mm_set1_epi32(two);
}

SEDGE_INLINE Pair load_pairs(const int16_t* w) { return _mm_load_si128(reinterpret_cast<const __m128i*>(w)); }

/* acc += the two products of every lane. Assembly, because gcc adds products to each other first and then has
 * not enough registers. */
SEDGE_INLINE Acc dot_pair(Acc acc, Pair x, Pair w) {
    __asm__("paddd %1, %0" : "+x"(acc) : "x"(_mm_madd_epi16(x, w)));
    return acc;
}

#include "vector_net.inc"

} // namespace sse41
} // namespace sedge

#undef SEDGE_TARGET
#undef SEDGE_GROUPS
#undef SEDGE_OWN_TILE
#undef SEDGE_INLINE
#endif
#endif
