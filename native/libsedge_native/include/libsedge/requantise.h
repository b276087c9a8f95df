/* int32 accumulator to int8: the one place that rounds (docs/quant_spec.md, section 3). */
#ifndef LIBSEDGE_REQUANTISE_H
#define LIBSEDGE_REQUANTISE_H

#include <cfloat>
#include <cstdint>

#if defined(__FAST_MATH__)
#error "libsedge kernels are exact; do not compile them with -ffast-math or -Ofast"
#endif
#if defined(FLT_EVAL_METHOD) && FLT_EVAL_METHOD != 0
#error                                                                                                       \
    "libsedge kernels need float32 arithmetic that is float32 (FLT_EVAL_METHOD == 0; on 32-bit x86: -mfpmath=sse)"
#endif

namespace sedge {

/* Nearest integer, ties to even, of a float in [-1024, 1024]. The product in front of it only meets
 * comparisons and a truncation, never an addition, so no compiler can contract it into a fused multiply-add.
 */
inline int32_t rint_half_even(float v) {
    int32_t below = static_cast<int32_t>(v);
    below -= static_cast<int32_t>(v < static_cast<float>(below));
    const float half = static_cast<float>(below) + 0.5F;
#if defined(SEDGE_TEST_ROUND_HALF_AWAY) /* negative control of the tests: a wrong rounding must be noticed   \
                                         */
    return below + static_cast<int32_t>(v > half || (v == half && below >= 0));
#else
    return below + static_cast<int32_t>(v > half || (v == half && (below & 1) != 0));
#endif
}

/* clamp(rint_half_even(float32(acc) * multiplier) + zero, low, 127) */
inline int8_t requantise(int32_t acc, float multiplier, int32_t zero, int32_t low) {
    float v = static_cast<float>(acc) * multiplier;
    v = v < -1024.0F ? -1024.0F : v;
    v = v > 1024.0F ? 1024.0F : v;
    int32_t q = rint_half_even(v) + zero;
    q = q < low ? low : q;
    q = q > 127 ? 127 : q;
    return static_cast<int8_t>(q);
}

/* clamp(rint_half_even(float32(acc) * multiplier + zero), -128, 127), the sum exact: of two neighbours
 * equally near, the one that is even with the zero point added. No float is added, so nothing can be
 * contracted. */
inline int8_t requantise_inside(int32_t acc, float multiplier, int32_t zero) {
    float v = static_cast<float>(acc) * multiplier;
    v = v < -1024.0F ? -1024.0F : v;
    v = v > 1024.0F ? 1024.0F : v;
    int32_t below = static_cast<int32_t>(v);
    below -= static_cast<int32_t>(v < static_cast<float>(below));
    const float half = static_cast<float>(below) + 0.5F;
    int32_t q = below + zero;
    q += static_cast<int32_t>(v > half || (v == half && (q & 1) != 0));
    q = q < -128 ? -128 : q;
    q = q > 127 ? 127 : q;
    return static_cast<int8_t>(q);
}

/* clamp(rint_half_even(acc / 2^Shift), low, 127) in integers; >> of a negative number is arithmetic in every
 * compiler that this header meets (and by the standard since C++20). */
template <int32_t Shift>
inline int8_t shift_half_even(int32_t acc, int32_t low) {
    int32_t q = (acc + ((1 << (Shift - 1)) - 1) + ((acc >> Shift) & 1)) >> Shift;
    q = q < low ? low : q;
    q = q > 127 ? 127 : q;
    return static_cast<int8_t>(q);
}

} // namespace sedge

#endif
