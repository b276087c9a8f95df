// The loops over pixels that take the time, compiled for the baseline of the machine and, on x86-64, for AVX2
// too.
//
// Both give the same bits: float32 operations are rounded one by one, and sums run in kLanes interleaved
// partial sums, which are then added in the order of the lanes.
#ifndef LIBSEDGE_PIXEL_LOOPS_H
#define LIBSEDGE_PIXEL_LOOPS_H

#include <cstddef>
#include <cstdint>

namespace sedge {

// Partial sums: element i belongs to lane i % kLanes.
constexpr std::size_t kLanes = 16;

struct PixelLoops {
    const char* name;
    // values[i] = counts[i] - dark[i] (dark may be null); 0 and not valid where mask[i] is 0 or |value| >
    // largest or NaN. Returns the number of valid pixels.
    std::size_t (*subtract)(const float* counts, const float* dark, const std::uint8_t* mask,
                            std::size_t size, float largest, float* values, std::uint8_t* valid);
    double (*sum)(const float* values, std::size_t size);
    // values[i] /= divisor, then the square root of what is above 0 where `root`.
    void (*scale)(float* values, std::size_t size, float divisor, bool root);
    // out[i] = clamp(round_half_even(values[i] / scale) + zero_point)
    void (*quantise)(const float* values, std::size_t size, float scale, std::int32_t zero_point,
                     std::int8_t* out);
    // out[i] = |values[i + 1] - values[i]|, size - 1 of them
    void (*differences)(const float* values, std::size_t size, float* out);
    // Sortable keys of finite floats: a < b as floats gives key(a) <= key(b) in the upper 16 bits.
    void (*keys)(const float* values, std::size_t size, std::uint16_t* out);
    // The values >= threshold, in their order; returns how many. out has room for size.
    std::size_t (*collect)(const float* values, std::size_t size, float threshold, float* out);
    // out[i] = sum over k of weights[k] * values[i + k], added in the order of k
    void (*convolve)(const float* values, const float* weights, std::size_t window, std::size_t size,
                     float* out);
    // out[i] = min(values[i], (values[i - p] + values[i + p]) / 2) for p <= i < size - p, else values[i]
    void (*clip)(const float* values, std::size_t size, std::size_t p, float* out);
    // values[i] -= other[i]
    void (*subtract_from)(float* values, const float* other, std::size_t size);
    // Number of mask[i] != 0 with counts[i] >= level; none for a NaN level.
    std::size_t (*at_least)(const float* counts, const std::uint8_t* mask, std::size_t size, float level);
    // out[i] = values[left[i]] + fraction[i] * (values[left[i] + 1] - values[left[i]])
    void (*interpolate)(const float* values, const std::uint32_t* left, const float* fraction,
                        std::size_t size, float* out);
};

// Those in use: the fastest that this machine runs.
const PixelLoops& pixel_loops();
// For tests: use those of this name ("baseline", "avx2") from now on; the name of the former ones, or null,
// and nothing changed, where this machine lacks them.
const char* use_pixel_loops(const char* name);
// Names of those that this machine runs, null at the end.
const char* const* pixel_loop_names();

} // namespace sedge

#endif
