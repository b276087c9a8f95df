/* Portable kernels over int8 [channels][length]; all shapes are compile-time constants of a generated struct.
 */
#ifndef LIBSEDGE_SCALAR_H
#define LIBSEDGE_SCALAR_H

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "requantise.h"

#define SEDGE_HAVE_scalar 1

namespace sedge {
namespace scalar {

inline int runnable() { return 1; }

/* Some positions of a layer in memory: position p of channel c is data[c * pitch + p - first]. */
struct View {
    const int8_t* data;
    size_t pitch;
    size_t first;
};

/* Adds the taps of one output channel to `acc` for `count` positions from `first` on. `S` as in conv1d. */
template <class S>
inline void add_taps(const View& x, const int8_t* w, size_t first, size_t count, int32_t* acc) {
    constexpr size_t per_group = S::in_channels / S::groups;
    constexpr size_t reach = (S::taps - 1) * S::dilation;
    const bool inside = first * S::stride >= S::pad_left &&
                        (first + count - 1) * S::stride + reach < S::pad_left + S::in_length;
    for (size_t c = 0; c < per_group; ++c) {
        const int8_t* row = x.data + c * x.pitch;
        for (size_t k = 0; k < S::taps; ++k) {
            const int32_t weight = w[c * S::taps + k];
            const size_t shift =
                k * S::dilation; /* tap k of position p reads position p * stride + shift - pad_left */
            size_t begin = 0;
            while (!inside && begin < count && (first + begin) * S::stride + shift < S::pad_left)
                ++begin;
            size_t end = count;
            while (!inside && end > begin &&
                   (first + end - 1) * S::stride + shift >= S::pad_left + S::in_length)
                --end;
            for (size_t p = begin; p < end; ++p) {
                acc[p] += weight * (row[(first + p) * S::stride + shift - S::pad_left - x.first] - S::x_zero);
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

/* Positions `from` to `to` of a convolution: max pool of width S::pool in front of the requantisation,
 * requantisation; the first goes to y[0], channels y_pitch apart. */
template <class S>
inline void conv1d_part(const View& x, int8_t* y, size_t y_pitch, size_t from, size_t to, const int8_t* w,
                        const int32_t* bias, const float* multiplier) {
    constexpr size_t block =
        S::pool < 64 ? 64 / S::pool * S::pool : S::pool; /* convolution outputs at a time */
    constexpr size_t per_group = S::in_channels / S::groups;
    int32_t acc[block];
    for (size_t o = 0; o < S::out_channels; ++o) {
        const int8_t* wo = w + o * per_group * S::taps;
        const View group = {x.data + o / (S::out_channels / S::groups) * per_group * x.pitch, x.pitch,
                            x.first};
        for (size_t first = from * S::pool; first < to * S::pool; first += block) {
            const size_t count = to * S::pool - first < block ? to * S::pool - first : block;
            for (size_t p = 0; p < count; ++p)
                acc[p] = bias[o];
            add_taps<S>(group, wo, first, count, acc);
            for (size_t p = 0; p < count; p += S::pool) {
                int32_t best = acc[p];
                for (size_t j = 1; j < S::pool; ++j)
                    best = acc[p + j] > best ? acc[p + j] : best;
                y[o * y_pitch + (first + p) / S::pool - from] =
                    requantise(best, multiplier[o], S::y_zero, S::y_low);
            }
        }
    }
}

/* x int8 [in_channels][in_length], y int8 [out_channels][out_length], w int8
 * [out_channels][in_channels/groups][taps]. Padded taps are skipped: they hold the zero point, that is, real
 * zero. */
template <class S>
inline void conv1d(const int8_t* x, int8_t* y, const int8_t* w, const int32_t* bias,
                   const float* multiplier) {
    if constexpr (S::out_length * S::pool == 1 && S::taps == S::in_length && S::pad_left == 0 &&
                  S::groups == 1) {
        for (size_t o = 0; o < S::out_channels; ++o) {
            const int32_t acc = bias[o] + dot<S>(x, w + o * S::in_channels * S::taps);
            y[o] = requantise(acc, multiplier[o], S::y_zero, S::y_low);
        }
    } else {
        conv1d_part<S>({x, S::in_length, 0}, y, S::out_length, 0, S::out_length, w, bias, multiplier);
    }
}

#include "windows.inc"

/* Maximum over S::kernel positions every S::stride, padding left out; positions `from` to `to` as in
 * conv1d_part. */
template <class S>
inline void max_pool_part(const View& x, int8_t* y, size_t y_pitch, size_t from, size_t to) {
    for (size_t c = 0; c < S::channels; ++c) {
        const int8_t* row = x.data + c * x.pitch;
        for (size_t p = from; p < to; ++p) {
            int8_t best = row[window_begin<S>(p) - x.first];
            for (size_t i = window_begin<S>(p) + 1; i < window_end<S>(p); ++i)
                best = row[i - x.first] > best ? row[i - x.first] : best;
            y[c * y_pitch + p - from] = best;
        }
    }
}

/* x int8 [channels][in_length], y int8 [channels][out_length]. */
template <class S>
inline void max_pool(const int8_t* x, int8_t* y) {
    max_pool_part<S>({x, S::in_length, 0}, y, S::out_length, 0, S::out_length);
}

/* The same of a mean. `multiplier` holds one value, or with S::counted one for every number of values that a
 * window may see. */
template <class S>
inline void average_pool_part(const View& x, int8_t* y, size_t y_pitch, size_t from, size_t to,
                              const float* multiplier) {
    for (size_t c = 0; c < S::channels; ++c) {
        const int8_t* row = x.data + c * x.pitch;
        for (size_t p = from; p < to; ++p) {
            const size_t begin = window_begin<S>(p);
            const size_t end = window_end<S>(p);
            int32_t sum = 0;
            for (size_t i = begin; i < end; ++i)
                sum += row[i - x.first] - S::x_zero;
            y[c * y_pitch + p - from] =
                requantise_inside(sum, multiplier[S::counted ? end - begin - 1 : 0], S::y_zero);
        }
    }
}

template <class S>
inline void average_pool(const int8_t* x, int8_t* y, const float* multiplier) {
    average_pool_part<S>({x, S::in_length, 0}, y, S::out_length, 0, S::out_length, multiplier);
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

/* Adds `count` positions of every channel, pitch apart, to its sum. */
template <class S>
inline void add_positions(const int8_t* x, size_t pitch, size_t count, int32_t* y) {
    for (size_t c = 0; c < S::channels; ++c) {
        for (size_t p = 0; p < count; ++p)
            y[c] += x[c * pitch + p] - S::x_zero;
    }
}

/* Sums of (q - zero) over all positions; x int8 [channels][in_length], y int32 [channels]. */
template <class S>
inline void sum(const int8_t* x, int32_t* y) {
    for (size_t c = 0; c < S::channels; ++c)
        y[c] = 0;
    add_positions<S>(x, S::in_length, S::in_length, y);
}

/* Mean over all positions from these sums; y int8 [channels]. */
template <class S>
inline void average(const int32_t* x, int8_t* y, const float* multiplier) {
    for (size_t c = 0; c < S::channels; ++c)
        y[c] = requantise(x[c], multiplier[0], S::y_zero, -128);
}

/* Layers made some positions at a time (docs/performance.md, "Memory"): a line holds the positions that its
 * reader still needs, and behind them those of the current round. passes/stream.py decides how many each
 * layer makes in each round; it makes sure that they are there, that a line has room for them, and that
 * whatever is moved does not overlap. */
struct Line {
    int8_t* start; /* [channels][pitch] */
    size_t pitch;
    size_t held; /* positions of every channel */
    size_t made; /* positions of the layer so far */

    int8_t* end() const { return start + held; }
    View view() const { return {start, pitch, made - held}; }
};

#if defined(__GNUC__)
#define SEDGE_NOINLINE __attribute__((noinline)) inline /* one copy for run and trace */
#else
#define SEDGE_NOINLINE inline
#endif

inline Line begin(void* bytes, size_t pitch) { return {static_cast<int8_t*>(bytes), pitch, 0, 0}; }

/* Sums over all positions. */
template <class S>
inline Line begin_sums(void* bytes) {
    auto* const sums = static_cast<int32_t*>(bytes);
    for (size_t c = 0; c < S::channels; ++c)
        sums[c] = 0;
    return {static_cast<int8_t*>(bytes), 0, 0, 0};
}

/* `rows` more are there, and of the source those in front of position `needed` are needed no more. */
inline void advance(Line& x, size_t channels, size_t needed, Line& y, size_t rows) {
    y.held += rows;
    y.made += rows;
    const size_t first = x.made - x.held;
    const size_t gone = needed < first ? 0 : needed - first < x.held ? needed - first : x.held;
    if (gone == 0)
        return;
    x.held -= gone;
    for (size_t c = 0; x.held > 0 && c < channels; ++c)
        std::memcpy(x.start + c * x.pitch, x.start + c * x.pitch + gone, x.held);
}

/* Where the next window begins, padding left out. */
template <class S>
inline size_t next_window(size_t made, size_t stride) {
    return made * stride > S::pad_left ? made * stride - S::pad_left : 0;
}

template <class S>
SEDGE_NOINLINE void conv1d_rows(const int8_t* x, Line& y, size_t rows, const int8_t* w, const int32_t* bias,
                                const float* multiplier) {
    conv1d_part<S>({x, S::in_length, 0}, y.end(), y.pitch, y.made, y.made + rows, w, bias, multiplier);
    y.held += rows;
    y.made += rows;
}

template <class S>
SEDGE_NOINLINE void conv1d_rows(Line& x, Line& y, size_t rows, const int8_t* w, const int32_t* bias,
                                const float* multiplier) {
    conv1d_part<S>(x.view(), y.end(), y.pitch, y.made, y.made + rows, w, bias, multiplier);
    advance(x, S::in_channels, next_window<S>(y.made + rows, S::stride * S::pool), y, rows);
}

template <class S>
inline void max_pool_rows(Line& x, Line& y, size_t rows) {
    max_pool_part<S>(x.view(), y.end(), y.pitch, y.made, y.made + rows);
    advance(x, S::channels, next_window<S>(y.made + rows, S::stride), y, rows);
}

template <class S>
inline void average_pool_rows(Line& x, Line& y, size_t rows, const float* multiplier) {
    average_pool_part<S>(x.view(), y.end(), y.pitch, y.made, y.made + rows, multiplier);
    advance(x, S::channels, next_window<S>(y.made + rows, S::stride), y, rows);
}

template <class S>
inline void sum_rows(Line& x, Line& y, size_t rows) {
    add_positions<S>(x.start, x.pitch, rows, reinterpret_cast<int32_t*>(y.start));
    x.held = 0;
}

} // namespace scalar
} // namespace sedge

#endif
