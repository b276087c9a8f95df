#include "preprocess.h"

#include <algorithm>
#include <cfloat>
#include <cmath>

#ifdef __FAST_MATH__
#error "the steps are defined bit for bit: build without -ffast-math"
#endif
// 16: float16 has a precision of its own, float32 is as it should be.
static_assert(FLT_EVAL_METHOD == 0 || FLT_EVAL_METHOD == 16, "float32 has to be rounded to float32");

namespace sedge {
namespace {

// Subtracts the dark spectrum where there is one; negative values stay. A pixel that is masked or not finite
// is 0.
void subtract_dark(const float* counts, const float* dark, const std::uint8_t* mask, std::size_t channels,
                   float* values, std::uint8_t* valid) {
    for (std::size_t i = 0; i < channels; ++i) {
        const float value = dark == nullptr ? counts[i] : counts[i] - dark[i];
        const bool use = mask[i] != 0 && std::fabs(value) <= kLargestCount; // false for NaN
        values[i] = use ? value : 0.0f;
        valid[i] = use;
    }
}

// Divides one segment by the mean over its valid points; masked points are 0 and stay 0.
void normalise(float* values, const std::uint8_t* valid, std::size_t points) {
    double sum = 0.0;
    std::size_t count = 0;
    for (std::size_t i = 0; i < points; ++i) {
        sum += static_cast<double>(values[i]);
        count += valid[i];
    }
    const float mean = count > 0 ? static_cast<float>(sum / static_cast<double>(count)) : 0.0f;
    const float divisor = mean > kSmallestMean ? mean : kSmallestMean;
    for (std::size_t i = 0; i < points; ++i) {
        values[i] = values[i] / divisor;
    }
}

void compress_sqrt(float* values, std::size_t points) {
    for (std::size_t i = 0; i < points; ++i) {
        values[i] = values[i] > 0.0f ? std::sqrt(values[i]) : 0.0f;
    }
}

// The value at this rank (0 = smallest). Reorders.
float value_at(std::vector<float>& values, std::size_t size, std::size_t rank) {
    const auto first = values.begin();
    const auto at = first + static_cast<std::ptrdiff_t>(rank);
    std::nth_element(first, at, first + static_cast<std::ptrdiff_t>(size));
    return *at;
}

float lower_median(std::vector<float>& values, std::size_t size) {
    return value_at(values, size, (size - 1) / 2);
}

} // namespace

Preprocessor::Preprocessor(PreprocessSpec spec)
    : mask_(std::move(spec.mask)), segment_points_(std::move(spec.segment_points)),
      compress_sqrt_(spec.compress_sqrt), resampler_(std::move(spec.wavelength_nm), std::move(spec.grid_nm)),
      values_(channels()), valid_(channels()), grid_valid_(points()), pixels_(channels()),
      differences_(channels()) {}

void Preprocessor::run(const float* counts, const float* dark, float* out) {
    subtract_dark(counts, dark, mask_.data(), channels(), values_.data(), valid_.data());
    resampler_.run(values_.data(), valid_.data(), out, grid_valid_.data());
    std::size_t at = 0;
    for (const std::size_t size : segment_points_) {
        normalise(out + at, grid_valid_.data() + at, size);
        at += size;
    }
    if (compress_sqrt_) {
        compress_sqrt(out, points());
    }
}

PreprocessReport Preprocessor::report(const float* counts, float saturation) {
    PreprocessReport report{};
    double sum = 0.0;
    std::size_t pixels = 0;
    for (std::size_t i = 0; i < channels(); ++i) {
        report.non_finite += mask_[i] != 0 && valid_[i] == 0;
        report.saturated += mask_[i] != 0 && counts[i] >= saturation; // false for NaN
        sum += static_cast<double>(values_[i]);
        pixels += valid_[i];
    }
    const auto valid_points = std::count(grid_valid_.begin(), grid_valid_.end(), std::uint8_t{1});
    report.valid_fraction = static_cast<double>(valid_points) / static_cast<double>(points());
    report.signal = pixels > 0 ? sum / static_cast<double>(pixels) : 0.0;
    report.contrast = contrast();
    return report;
}

// (99.5th percentile - median) / noise of the valid pixels within the grid, with
// noise = 1.4826 * median|d - median(d)| / sqrt(2) over the differences d of neighbouring valid pixels.
double Preprocessor::contrast() {
    std::size_t size = 0;
    std::size_t pairs = 0;
    for (std::size_t i = resampler_.first_pixel(); i < resampler_.last_pixel(); ++i) {
        if (valid_[i] != 0) {
            pixels_[size++] = values_[i];
            if (i > resampler_.first_pixel() && valid_[i - 1] != 0) {
                differences_[pairs++] = values_[i] - values_[i - 1];
            }
        }
    }
    if (pairs == 0) {
        return 0.0;
    }
    const double median = static_cast<double>(lower_median(pixels_, size));
    const double height = static_cast<double>(value_at(pixels_, size, (size - 1) * 995 / 1000)) - median;
    const float centre = lower_median(differences_, pairs);
    for (std::size_t i = 0; i < pairs; ++i) {
        differences_[i] = std::fabs(differences_[i] - centre);
    }
    const double noise = 1.4826 * static_cast<double>(lower_median(differences_, pairs)) / std::sqrt(2.0);
    if (height <= 0.0) {
        return 0.0;
    }
    return height < kLargestContrast * noise ? height / noise : kLargestContrast;
}

void quantise(const float* x, std::size_t size, float scale, std::int32_t zero_point, std::int8_t* out) {
    for (std::size_t i = 0; i < size; ++i) {
        float value = x[i] / scale;
        value = value < -512.0f ? -512.0f : value; // outside of it the result is clamped anyway
        value = value > 512.0f ? 512.0f : value;
        const std::int32_t moved = round_half_even(value) + zero_point;
        out[i] = static_cast<std::int8_t>(moved < -128 ? -128 : moved > 127 ? 127 : moved);
    }
}

} // namespace sedge
