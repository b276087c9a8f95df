/* AVX-VNNI: 8 output channels a register, 32 multiply-accumulates an instruction. */
#ifndef LIBSEDGE_AVXVNNI_H
#define LIBSEDGE_AVXVNNI_H

#include "requantise.h"
#include "x86_cpu.h"

#if defined(SEDGE_X86_64)
#define SEDGE_HAVE_avxvnni 1

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <immintrin.h>
#include <utility>

#define SEDGE_TARGET __attribute__((target("avx2,fma")))
#define SEDGE_INLINE SEDGE_TARGET __attribute__((always_inline)) inline
#define SEDGE_GROUPS
#define SEDGE_STEPS 8

namespace sedge {
namespace avxvnni {

inline int runnable() { return x86::features().avxvnni ? 1 : 0; }

#include "ymm.inc"

using Input = __m256i;   /* four uint8 activations, the same in every lane */
using Weights = __m256i; /* four int8 weights a lane */
using WeightItem = int8_t;

SEDGE_INLINE Input broadcast(const uint8_t* x) { return _mm256_set1_epi32(four_bytes(x)); }

SEDGE_INLINE Weights load_weights(const WeightItem* w) {
    return _mm256_load_si256(reinterpret_cast<const __m256i*>(w));
}

/* acc += the four products of every lane. Assembly: the intrinsic needs a newer compiler flag than -mavx2. */
SEDGE_INLINE Acc dot(Acc acc, Input x, Weights w) {
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc) : "x"(x), "x"(w));
    return acc;
}

#include "vector_net.inc"

} // namespace avxvnni
} // namespace sedge

#undef SEDGE_TARGET
#undef SEDGE_GROUPS
#undef SEDGE_STEPS
#undef SEDGE_INLINE
#endif
#endif
