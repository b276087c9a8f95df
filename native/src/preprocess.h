// From raw counts to the network's input: dark, mask, smooth, continuum, resample, normalise, compress,
// quantise, in this order; smooth and continuum only where the model asks for them.
//
// The same code runs in training and on the board. Values are float32, one rounding per written operation;
// axis positions and sums are double, summed in interleaved partial sums (pixel_loops.h). Nothing depends on
// the rounding mode but the basic operations themselves, and no operation is fused (-ffp-contract=off).
#ifndef LIBSEDGE_PREPROCESS_H
#define LIBSEDGE_PREPROCESS_H

#include "continuum.h"
#include "order_statistics.h"
#include "pixel_loops.h"
#include "resample.h"
#include "smooth.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace sedge {

// Counts of a larger magnitude are taken for non-finite: below it no step can overflow float32.
constexpr float kLargestCount = 1e20f;
// A segment's mean below this is taken for this: a dark segment gives large values, never a division by zero.
constexpr float kSmallestMean = 1e-12f;
// The contrast of a spectrum without any noise.
constexpr double kLargestContrast = 1e6;

struct PreprocessSpec {
    std::vector<double> wavelength_nm;       // [channels], strictly increasing, at least 2
    std::vector<std::uint8_t> mask;          // [channels], 1 = valid
    std::vector<double> grid_nm;             // [points], strictly increasing
    std::vector<std::size_t> segment_points; // per segment; their sum is the number of grid points
    bool compress_sqrt = true;
    std::size_t smooth_window = 0; // 0 = none
    std::size_t smooth_order = 0;
    std::size_t snip_half_window = 0; // 0 = the continuum stays
};

// Pixels count where the mask holds. See Preprocessor in edge/libsedge/preprocess.py.
struct PreprocessReport {
    std::uint64_t non_finite;
    std::uint64_t saturated;
    double valid_fraction;
    double signal;
    double contrast;
};

class Preprocessor {
public:
    explicit Preprocessor(PreprocessSpec spec); // takes all memory; nothing is allocated afterwards

    void set_mask(const std::uint8_t* mask); // the same size: no allocation
    void set_shift(double shift_nm) {
        if (resampler_.set_shift(shift_nm)) {
            count_inside();
        }
    }

    // One spectrum: every step up to `resample`. counts [channels]; dark [channels] or null. A NaN
    // `saturation` is an unknown one: nothing counts as saturated.
    void take(const float* counts, const float* dark, float saturation);
    void take(const std::uint16_t* counts, const float* dark, float saturation);

    // The steps that are left, of the spectrum taken last, any number of times: `normalise` and `compress`,
    // then `quantise`. Masked points are 0, and the zero point. out [points].
    void reals(float* out) const;
    void integers(float scale, std::int32_t zero_point, std::int8_t* out) const;

    // Of the spectrum taken last.
    PreprocessReport report();

    std::size_t channels() const { return resampler_.channels(); }
    std::size_t points() const { return resampler_.points(); }
    // [points], of the spectrum taken last.
    const std::uint8_t* grid_valid() const {
        return subtracted_.valid == channels() ? resampler_.inside() : grid_valid_.data();
    }

private:
    const std::uint8_t* mask() const { return wanted_ == channels() ? nullptr : mask_.data(); }
    void count_inside();
    void finish_taking();
    double contrast();

    std::vector<std::uint8_t> mask_;
    std::size_t wanted_ = 0; // pixels that the mask leaves
    std::vector<std::size_t> segment_points_;
    bool compress_sqrt_;
    Resampler resampler_;
    std::vector<std::size_t> inside_; // a segment: its grid points that the axis gives a value
    std::vector<float> divisors_;     // a segment: its mean over the valid points
    std::vector<float> values_; // [channels]: counts - dark, smoothed, without continuum; 0 where not valid
    std::vector<std::uint8_t> valid_;      // [channels], where not every pixel is valid
    std::vector<float> resampled_;         // [points]
    std::vector<std::uint8_t> grid_valid_; // [points], where not every pixel is valid
    // counts - dark of the spectrum taken last
    const float* measured() const { return measured_.empty() ? values_.data() : measured_.data(); }

    std::vector<float> measured_; // empty where nothing changes values_ afterwards
    std::optional<Smoother> smoother_;
    std::optional<Continuum> continuum_;
    Subtracted subtracted_ = {0, 0, 0.0};
    std::size_t valid_points_ = 0;
    std::vector<float> pixels_; // scratch of contrast()
    std::vector<float> picked_; // scratch of contrast()
    OrderStatistics statistics_;
};

// The nearest integer, the even one of two equally near, whatever the rounding mode. |x| < 2^23.
inline std::int32_t round_half_even(float x) {
    const std::int32_t whole = static_cast<std::int32_t>(x); // towards zero
    const float rest = x - static_cast<float>(whole);        // exact
    const bool odd = (whole & 1) != 0;
    return whole + static_cast<std::int32_t>(rest > 0.5f || (rest == 0.5f && odd)) -
           static_cast<std::int32_t>(rest < -0.5f || (rest == -0.5f && odd));
}

// out[i] = clamp(round_half_even(x[i] / scale) + zero_point, -128, 127); x is never NaN here.
void quantise(const float* x, std::size_t size, float scale, std::int32_t zero_point, std::int8_t* out);

} // namespace sedge

#endif
