/* Portable float32 kernels over [channels][length]; all shapes are compile-time constants of a generated
 * struct. */
#ifndef LIBSEDGE_FLOAT_SCALAR_H
#define LIBSEDGE_FLOAT_SCALAR_H

#include <cstddef>
#include <cstdint>

#define SEDGE_HAVE_float_scalar 1

namespace sedge {
namespace float_scalar {

inline int runnable() { return 1; }

inline float larger(float a, float b) { return a < b ? b : a; }

/* Adds the taps of one output channel to `acc` for `count` positions from `first` on; padded taps are left
 * out. */
template <class S>
inline void add_taps(const float* x, const float* w, size_t first, size_t count, float* acc) {
    for (size_t c = 0; c < S::in_channels / S::groups; ++c) {
        const float* row = x + c * S::in_length;
        for (size_t k = 0; k < S::taps; ++k) {
            /* tap k of position p reads row[p * stride + shift - pad_left] */
            const size_t shift = k * S::dilation;
            size_t begin = 0;
            while (begin < count && (first + begin) * S::stride + shift < S::pad_left)
                ++begin;
            size_t end = count;
            while (end > begin && (first + end - 1) * S::stride + shift >= S::pad_left + S::in_length)
                --end;
            for (size_t p = begin; p < end; ++p)
                acc[p] += w[c * S::taps + k] * row[(first + p) * S::stride + shift - S::pad_left];
        }
    }
}

/* Dot product of one window that needs no padding, in sums of 256: the dense layers. */
template <class S>
inline float dot(const float* x, const float* w) {
    constexpr size_t count = S::in_channels * S::taps;
    float total = 0;
    for (size_t first = 0; first < count; first += 256) {
        const size_t end = first + 256 < count ? first + 256 : count;
        float sum = 0;
        for (size_t i = first; i < end; ++i)
            sum += w[i] * x[i];
        total += sum;
    }
    return total;
}

/* Convolution, max pool of width S::pool, ReLU. x [in_channels][in_length], y [out_channels][out_length], w
 * [out_channels][in_channels/groups][taps]. */
template <class S>
inline void conv1d(const float* x, float* y, const float* w, const float* bias) {
    constexpr size_t block = S::pool < 64 ? 64 / S::pool * S::pool : S::pool; /* outputs at a time */
    constexpr size_t total = S::out_length * S::pool;
    constexpr size_t per_group = S::in_channels / S::groups;
    float acc[block];
    for (size_t o = 0; o < S::out_channels; ++o) {
        const float* wo = w + o * per_group * S::taps;
        const float* xg = x + o / (S::out_channels / S::groups) * per_group * S::in_length;
        for (size_t first = 0; first < total; first += block) {
            const size_t count = total - first < block ? total - first : block;
            for (size_t p = 0; p < count; ++p)
                acc[p] = 0;
            if constexpr (total == 1 && S::taps == S::in_length && S::pad_left == 0 && S::groups == 1) {
                acc[0] = dot<S>(x, wo);
            } else {
                add_taps<S>(xg, wo, first, count, acc);
            }
            for (size_t p = 0; p < count; p += S::pool) {
                float best = acc[p];
                for (size_t j = 1; j < S::pool; ++j)
                    best = larger(best, acc[p + j]);
                best += bias[o];
                y[o * S::out_length + (first + p) / S::pool] = S::relu != 0 ? larger(best, 0.0F) : best;
            }
        }
    }
}

#include "windows.inc"

template <class S>
inline void max_pool(const float* x, float* y) {
    for (size_t c = 0; c < S::channels; ++c) {
        const float* row = x + c * S::in_length;
        for (size_t p = 0; p < S::out_length; ++p) {
            float best = row[window_begin<S>(p)];
            for (size_t i = window_begin<S>(p) + 1; i < window_end<S>(p); ++i)
                best = larger(best, row[i]);
            y[c * S::out_length + p] = best;
        }
    }
}

/* Mean of a window; with S::counted its divisor is the number of values it sees, else S::kernel. */
template <class S>
inline void average_pool(const float* x, float* y) {
    for (size_t c = 0; c < S::channels; ++c) {
        const float* row = x + c * S::in_length;
        for (size_t p = 0; p < S::out_length; ++p) {
            const size_t begin = window_begin<S>(p);
            const size_t end = window_end<S>(p);
            float sum = 0;
            for (size_t i = begin; i < end; ++i)
                sum += row[i];
            y[c * S::out_length + p] = sum / static_cast<float>(S::counted != 0 ? end - begin : S::kernel);
        }
    }
}

/* Mean over all positions, in sums of 64. */
template <class S>
inline void average(const float* x, float* y) {
    for (size_t c = 0; c < S::channels; ++c) {
        float total = 0;
        for (size_t first = 0; first < S::in_length; first += 64) {
            const size_t end = first + 64 < S::in_length ? first + 64 : S::in_length;
            float sum = 0;
            for (size_t p = first; p < end; ++p)
                sum += x[c * S::in_length + p];
            total += sum;
        }
        y[c] = total / static_cast<float>(S::in_length);
    }
}

template <class S>
inline void sum_of_two(const float* a, const float* b, float* y) {
    for (size_t i = 0; i < S::count; ++i)
        y[i] = S::relu != 0 ? larger(a[i] + b[i], 0.0F) : a[i] + b[i];
}

/* One input of a Concat into its place. */
template <class S>
inline void copy(const float* x, float* y) {
    for (size_t i = 0; i < S::count; ++i)
        y[S::first + i] = x[i];
}

} // namespace float_scalar
} // namespace sedge

#endif
