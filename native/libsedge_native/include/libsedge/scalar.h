/* Portable kernels over int8 [channels][length]; all shapes are compile-time constants of a generated struct.
 */
#ifndef LIBSEDGE_SCALAR_H
#define LIBSEDGE_SCALAR_H

#include <cstddef>
#include <cstdint>

#include "requantise.h"

#define SEDGE_HAVE_scalar 1

namespace sedge {
namespace scalar {

inline int runnable() { return 1; }

/* Adds the taps of one output channel to `acc` for `count` positions from `first` on. `S` as in conv1d. */
template <class S>
inline void add_taps(const int8_t* x, const int8_t* w, size_t first, size_t count, int32_t* acc) {
    constexpr size_t per_group = S::in_channels / S::groups;
    for (size_t c = 0; c < per_group; ++c) {
        const int8_t* row = x + c * S::in_length;
        for (size_t k = 0; k < S::taps; ++k) {
            const int32_t weight = w[c * S::taps + k];
            const size_t shift =
                k * S::dilation; /* tap k of position p reads row[p * stride + shift - pad_left] */
            size_t begin = 0;
            while (begin < count && (first + begin) * S::stride + shift < S::pad_left)
                ++begin;
            size_t end = count;
            while (end > begin && (first + end - 1) * S::stride + shift >= S::pad_left + S::in_length)
                --end;
            for (size_t p = begin; p < end; ++p) {
                acc[p] += weight * (row[(first + p) * S::stride + shift - S::pad_left] - S::x_zero);
            }
        }
    }
}

/* Dot product of one window that needs no padding: the dense layers. */
template <class S>
inline int32_t dot(const int8_t* x, const int8_t* w) {
    int32_t acc = 0;
    for (size_t i = 0; i < S::in_channels * S::taps; ++i)
        acc += w[i] * (x[i] - S::x_zero);
    return acc;
}

/* Convolution, max pool of width S::pool in front of the requantisation, requantisation.
 * x int8 [in_channels][in_length], y int8 [out_channels][out_length], w int8
 * [out_channels][in_channels/groups][taps]. Padded taps are skipped: they hold the zero point, that is, real
 * zero. */
template <class S>
inline void conv1d(const int8_t* x, int8_t* y, const int8_t* w, const int32_t* bias,
                   const float* multiplier) {
    constexpr size_t block =
        S::pool < 64 ? 64 / S::pool * S::pool : S::pool; /* convolution outputs at a time */
    constexpr size_t total = S::out_length * S::pool;
    constexpr size_t per_group = S::in_channels / S::groups;
    int32_t acc[block];
    for (size_t o = 0; o < S::out_channels; ++o) {
        const int8_t* wo = w + o * per_group * S::taps;
        const int8_t* xg = x + o / (S::out_channels / S::groups) * per_group * S::in_length;
        for (size_t first = 0; first < total; first += block) {
            const size_t count = total - first < block ? total - first : block;
            for (size_t p = 0; p < count; ++p)
                acc[p] = bias[o];
            if constexpr (total == 1 && S::taps == S::in_length && S::pad_left == 0 && S::groups == 1) {
                acc[0] += dot<S>(x, wo);
            } else {
                add_taps<S>(xg, wo, first, count, acc);
            }
            for (size_t p = 0; p < count; p += S::pool) {
                int32_t best = acc[p];
                for (size_t j = 1; j < S::pool; ++j)
                    best = acc[p + j] > best ? acc[p + j] : best;
                y[o * S::out_length + (first + p) / S::pool] =
                    requantise(best, multiplier[o], S::y_zero, S::y_low);
            }
        }
    }
}

/* The part [begin, end) of the input that window p of a pool sees; never empty. */
template <class S>
inline size_t window_begin(size_t p) {
    return p * S::stride > S::pad_left ? p * S::stride - S::pad_left : 0;
}

template <class S>
inline size_t window_end(size_t p) {
    const size_t end = p * S::stride + S::kernel - S::pad_left;
    return end < S::in_length ? end : S::in_length;
}

/* Maximum over S::kernel positions every S::stride, padding left out; x int8 [channels][in_length], y int8
 * [channels][out_length]. */
template <class S>
inline void max_pool(const int8_t* x, int8_t* y) {
    for (size_t c = 0; c < S::channels; ++c) {
        const int8_t* row = x + c * S::in_length;
        for (size_t p = 0; p < S::out_length; ++p) {
            int8_t best = row[window_begin<S>(p)];
            for (size_t i = window_begin<S>(p) + 1; i < window_end<S>(p); ++i)
                best = row[i] > best ? row[i] : best;
            y[c * S::out_length + p] = best;
        }
    }
}

/* Mean over S::kernel positions every S::stride. `multiplier` holds one value, or with S::counted one for
 * every number of values that a window may see. */
template <class S>
inline void average_pool(const int8_t* x, int8_t* y, const float* multiplier) {
    for (size_t c = 0; c < S::channels; ++c) {
        const int8_t* row = x + c * S::in_length;
        for (size_t p = 0; p < S::out_length; ++p) {
            const size_t begin = window_begin<S>(p);
            const size_t end = window_end<S>(p);
            int32_t sum = 0;
            for (size_t i = begin; i < end; ++i)
                sum += row[i] - S::x_zero;
            y[c * S::out_length + p] =
                requantise_inside(sum, multiplier[S::counted ? end - begin - 1 : 0], S::y_zero);
        }
    }
}

/* Sum of two tensors in integers (docs/quant_spec.md, section 3.5). */
template <class S>
inline void add(const int8_t* a, const int8_t* b, int8_t* y) {
    for (size_t i = 0; i < S::count; ++i) {
        const int32_t acc = S::a_factor * (a[i] - S::a_zero) + S::b_factor * (b[i] - S::b_zero);
        y[i] = shift_half_even<S::shift>(acc + S::y_zero * (1 << S::shift), S::y_low);
    }
}

/* One input of a Concat into its place. */
template <class S>
inline void copy(const int8_t* x, int8_t* y) {
    for (size_t i = 0; i < S::count; ++i)
        y[S::first + i] = x[i];
}

/* The same, requantised by a table of 256 values. */
template <class S>
inline void rescale(const int8_t* x, int8_t* y, const int8_t* table) {
    for (size_t i = 0; i < S::count; ++i)
        y[S::first + i] = table[static_cast<uint8_t>(x[i])];
}

/* Mean over all positions: requantise(sum of (q - zero)); x int8 [channels][in_length], y int8 [channels]. */
template <class S>
inline void average(const int8_t* x, int8_t* y, const float* multiplier) {
    for (size_t c = 0; c < S::channels; ++c) {
        int32_t sum = 0;
        for (size_t p = 0; p < S::in_length; ++p)
            sum += x[c * S::in_length + p] - S::x_zero;
        y[c] = requantise(sum, multiplier[0], S::y_zero, -128);
    }
}

} // namespace scalar
} // namespace sedge

#endif
