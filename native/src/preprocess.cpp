#include "preprocess.h"

#include "pixel_loops.h"

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

// The mean over the valid points of one segment; masked points are 0. Not below kSmallestMean.
float divisor_of(const float* values, const std::uint8_t* valid, std::size_t points) {
    std::uint32_t count = 0;
    for (std::size_t i = 0; i < points; ++i) {
        count += valid[i];
    }
    const double sum = pixel_loops().sum(values, points);
    const float mean = count > 0 ? static_cast<float>(sum / static_cast<double>(count)) : 0.0f;
    return mean > kSmallestMean ? mean : kSmallestMean;
}

} // namespace

Preprocessor::Preprocessor(PreprocessSpec spec)
    : mask_(std::move(spec.mask)), segment_points_(std::move(spec.segment_points)),
      compress_sqrt_(spec.compress_sqrt), resampler_(std::move(spec.wavelength_nm), std::move(spec.grid_nm)),
      values_(channels()), valid_(channels()), grid_valid_(points()), pixels_(channels()),
      picked_(channels()), statistics_(channels()) {
    if (spec.smooth_window > 0 || spec.snip_half_window > 0) {
        measured_.resize(channels());
    }
    if (spec.smooth_window > 0) {
        smoother_.emplace(spec.smooth_window, spec.smooth_order, channels());
    }
    if (spec.snip_half_window > 0) {
        continuum_.emplace(spec.snip_half_window, channels());
    }
}

void Preprocessor::run(const float* counts, const float* dark, float* out) {
    valid_pixels_ = pixel_loops().subtract(counts, dark, mask_.data(), channels(), kLargestCount,
                                           values_.data(), valid_.data());
    if (smoother_ || continuum_) {
        // The quality of a spectrum is that of what was measured.
        std::copy(values_.begin(), values_.end(), measured_.begin());
    }
    if (smoother_) {
        smoother_->run(values_.data(), valid_.data(), channels());
    }
    if (continuum_) {
        continuum_->run(values_.data(), valid_.data(), channels());
    }
    if (valid_pixels_ == channels()) {
        resampler_.run_all(values_.data(), out, grid_valid_.data());
    } else {
        resampler_.run(values_.data(), valid_.data(), out, grid_valid_.data());
    }
    std::size_t at = 0;
    for (const std::size_t size : segment_points_) {
        const float divisor = divisor_of(out + at, grid_valid_.data() + at, size);
        pixel_loops().scale(out + at, size, divisor, compress_sqrt_);
        at += size;
    }
}

PreprocessReport Preprocessor::report(const float* counts, float saturation) {
    PreprocessReport report{};
    std::uint32_t wanted = 0;
    for (std::size_t i = 0; i < channels(); ++i) {
        wanted += mask_[i] != 0 ? 1u : 0u;
    }
    std::uint32_t valid_points = 0;
    for (std::size_t i = 0; i < points(); ++i) {
        valid_points += grid_valid_[i];
    }
    report.non_finite = wanted - valid_pixels_;
    report.saturated = pixel_loops().at_least(counts, mask_.data(), channels(), saturation);
    report.valid_fraction = static_cast<double>(valid_points) / static_cast<double>(points());
    const double sum = pixel_loops().sum(measured(), channels());
    report.signal = valid_pixels_ > 0 ? sum / static_cast<double>(valid_pixels_) : 0.0;
    report.contrast = contrast();
    return report;
}

// (99.5th percentile - median) / noise of the valid pixels within the grid. The median is that of every
// kEvery-th of these pixels; noise = 1.4826 * median|d| / sqrt(2) over the differences d of every kEvery-th
// pair of neighbours.
double Preprocessor::contrast() {
    const std::size_t first = resampler_.first_pixel();
    const std::size_t last = resampler_.last_pixel();
    std::size_t size = 0;
    std::size_t pairs = 0;
    const float* values = measured();
    const float* pixels = values + first;
    if (valid_pixels_ == channels()) {
        size = last - first;
        for (std::size_t i = 0; i + 1 < size; i += kEvery) {
            picked_[pairs++] = std::fabs(pixels[i + 1] - pixels[i]);
        }
    } else {
        std::size_t neighbours = 0;
        for (std::size_t i = first; i < last; ++i) {
            if (valid_[i] != 0) {
                pixels_[size++] = values[i];
                if (i > first && valid_[i - 1] != 0 && neighbours++ % kEvery == 0) {
                    picked_[pairs++] = std::fabs(values[i] - values[i - 1]);
                }
            }
        }
        pixels = pixels_.data();
    }
    if (pairs == 0) {
        return 0.0;
    }
    const float middle = statistics_.at(picked_.data(), pairs, (pairs - 1) / 2);
    const double noise = 1.4826 * static_cast<double>(middle) / std::sqrt(2.0);
    std::size_t some = 0;
    for (std::size_t i = 0; i < size; i += kEvery) {
        picked_[some++] = pixels[i];
    }
    const double median = static_cast<double>(statistics_.at(picked_.data(), some, (some - 1) / 2));
    const double high = static_cast<double>(statistics_.near_top(pixels, size, (size - 1) * 995 / 1000));
    const double height = high - median;
    if (height <= 0.0) {
        return 0.0;
    }
    return height < kLargestContrast * noise ? height / noise : kLargestContrast;
}

void quantise(const float* x, std::size_t size, float scale, std::int32_t zero_point, std::int8_t* out) {
    pixel_loops().quantise(x, size, scale, zero_point, out);
}

} // namespace sedge
