// The loops over pixels that take the time, compiled for the baseline of the machine and, on x86-64, for AVX2
// and AVX-512 too.
//
// All give the same bits: float32 operations are rounded one by one, and sums run in kLanes interleaved
// partial sums, which are then added in the order of the lanes.
#ifndef LIBSEDGE_PIXEL_LOOPS_H
#define LIBSEDGE_PIXEL_LOOPS_H

#include <cstddef>
#include <cstdint>

namespace sedge {

// Partial sums: element i belongs to lane i % kLanes.
constexpr std::size_t kLanes = 16;

// The contrast takes its median and its noise from every so many-th pixel.
constexpr std::size_t kEvery = 4;

// What subtracting the dark finds out on the way.
struct Subtracted {
    std::size_t valid;     // pixels that are unmasked, finite and not too large
    std::size_t saturated; // mask[i] != 0 and counts[i] >= saturation; none for a NaN saturation
    double sum;            // of values
};

struct PixelLoops {
    const char* name;
    // values[i] = counts[i] - dark[i] (dark may be null, and so may a mask that is all ones); 0 and not valid
    // where mask[i] is 0 or |value| > largest or NaN. `valid` is written where not every pixel is.
    Subtracted (*subtract)(const float* counts, const float* dark, const std::uint8_t* mask, std::size_t size,
                           float largest, float saturation, float* values, std::uint8_t* valid);
    // The same of integers.
    Subtracted (*subtract_u16)(const std::uint16_t* counts, const float* dark, const std::uint8_t* mask,
                               std::size_t size, float largest, float saturation, float* values,
                               std::uint8_t* valid);
    double (*sum)(const float* values, std::size_t size);
    // values[i] /= divisor, then the square root of what is above 0 where `root`.
    void (*scale)(float* values, std::size_t size, float divisor, bool root);
    // out[i] = clamp(round_half_even(values[i] / scale) + zero_point)
    void (*quantise)(const float* values, std::size_t size, float scale, std::int32_t zero_point,
                     std::int8_t* out);
    // What scale and then quantise (by `step`) give, in one pass and without their divisions where that
    // cannot change the result.
    void (*scale_and_quantise)(const float* values, std::size_t size, float divisor, bool root, float step,
                               std::int32_t zero_point, std::int8_t* out);
    // out[i] = values[kEvery * i], and the |values[kEvery * i + 1] - values[kEvery * i]|, as many as there
    // are; returns how many.
    std::size_t (*pick)(const float* values, std::size_t size, float* out);
    std::size_t (*pick_steps)(const float* values, std::size_t size, float* out);
    // Sortable keys of finite floats: a < b as floats gives key(a) <= key(b). The upper 16 bits.
    void (*keys)(const float* values, std::size_t size, std::int16_t* out);
    // How many keys are below one.
    std::size_t (*below)(const std::int16_t* keys, std::size_t size, std::int16_t key);
    // The values from low to high, in their order; returns how many. out has room for size + 1.
    std::size_t (*collect)(const float* values, std::size_t size, float low, float high, float* out);
    // out[i] = sum over k of weights[k] * values[i + k], added in the order of k
    void (*convolve)(const float* values, const float* weights, std::size_t window, std::size_t size,
                     float* out);
    // out[i] = min(values[i], (values[i - p] + values[i + p]) / 2) for p <= i < size - p, else values[i]
    void (*clip)(const float* values, std::size_t size, std::size_t p, float* out);
    // values[i] -= other[i]
    void (*subtract_from)(float* values, const float* other, std::size_t size);
    // out[i] = values[left[i]] + fraction[i] * (values[left[i] + 1] - values[left[i]]); left does not
    // decrease, and left[i] + 1 < channels
    void (*interpolate)(const float* values, std::size_t channels, const std::uint16_t* left,
                        const float* fraction, std::size_t size, float* out);
    void (*interpolate_wide)(const float* values, std::size_t channels, const std::uint32_t* left,
                             const float* fraction, std::size_t size, float* out);
};

// Those in use: the fastest that this machine runs.
const PixelLoops& pixel_loops();
// For tests: use those of this name ("baseline", "avx2", "avx512") from now on; the name of the former ones,
// or null, and nothing changed, where this machine lacks them.
const char* use_pixel_loops(const char* name);
// Names of those that this machine runs, null at the end.
const char* const* pixel_loop_names();

} // namespace sedge

#endif
