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

// The mean of values [points], of which `count` are valid and the others 0. Not below kSmallestMean.
float divisor_of(const float* values, std::size_t points, std::size_t count) {
    const double sum = pixel_loops().sum(values, points);
    const float mean = count > 0 ? static_cast<float>(sum / static_cast<double>(count)) : 0.0f;
    return mean > kSmallestMean ? mean : kSmallestMean;
}

std::size_t count_set(const std::uint8_t* flags, std::size_t size) { // each 0 or 1
    std::uint32_t count = 0;
    for (std::size_t i = 0; i < size; ++i) {
        count += flags[i];
    }
    return count;
}

} // namespace

Preprocessor::Preprocessor(PreprocessSpec spec)
    : mask_(std::move(spec.mask)), segment_points_(std::move(spec.segment_points)),
      compress_sqrt_(spec.compress_sqrt), resampler_(std::move(spec.wavelength_nm), std::move(spec.grid_nm)),
      inside_(segment_points_.size()), divisors_(segment_points_.size()), values_(channels()),
      valid_(channels()), resampled_(points()), grid_valid_(points()), pixels_(channels()),
      picked_(channels()), statistics_(channels()) {
    wanted_ = count_set(mask_.data(), mask_.size());
    if (spec.smooth_window > 0 || spec.snip_half_window > 0) {
        measured_.resize(channels());
    }
    if (spec.smooth_window > 0) {
        smoother_.emplace(spec.smooth_window, spec.smooth_order, channels());
    }
    if (spec.snip_half_window > 0) {
        continuum_.emplace(spec.snip_half_window, channels());
    }
    count_inside();
}

void Preprocessor::count_inside() {
    const std::uint8_t* inside = resampler_.inside();
    for (std::size_t segment = 0; segment < segment_points_.size(); ++segment) {
        inside_[segment] = count_set(inside, segment_points_[segment]);
        inside += segment_points_[segment];
    }
}

void Preprocessor::set_mask(const std::uint8_t* mask) {
    mask_.assign(mask, mask + channels());
    wanted_ = count_set(mask_.data(), mask_.size());
}

void Preprocessor::take(const float* counts, const float* dark, float saturation) {
    subtracted_ = pixel_loops().subtract(counts, dark, mask(), channels(), kLargestCount, saturation,
                                         values_.data(), valid_.data());
    finish_taking();
}

void Preprocessor::take(const std::uint16_t* counts, const float* dark, float saturation) {
    subtracted_ = pixel_loops().subtract_u16(counts, dark, mask(), channels(), kLargestCount, saturation,
                                             values_.data(), valid_.data());
    finish_taking();
}

void Preprocessor::finish_taking() {
    const bool all_valid = subtracted_.valid == channels();
    if (smoother_ || continuum_) {
        if (all_valid) {
            std::fill(valid_.begin(), valid_.end(), std::uint8_t{1});
        }
        // The quality of a spectrum is that of what was measured.
        std::copy(values_.begin(), values_.end(), measured_.begin());
    }
    if (smoother_) {
        smoother_->run(values_.data(), valid_.data(), channels());
    }
    if (continuum_) {
        continuum_->run(values_.data(), valid_.data(), channels());
    }
    if (all_valid) {
        resampler_.run_all(values_.data(), resampled_.data());
    } else {
        resampler_.run(values_.data(), valid_.data(), resampled_.data(), grid_valid_.data());
    }
    valid_points_ = 0;
    std::size_t at = 0;
    for (std::size_t segment = 0; segment < segment_points_.size(); ++segment) {
        const std::size_t size = segment_points_[segment];
        const std::size_t count = all_valid ? inside_[segment] : count_set(grid_valid_.data() + at, size);
        divisors_[segment] = divisor_of(resampled_.data() + at, size, count);
        valid_points_ += count;
        at += size;
    }
}

void Preprocessor::reals(float* out) const {
    std::copy(resampled_.begin(), resampled_.end(), out);
    for (std::size_t segment = 0; segment < segment_points_.size(); ++segment) {
        pixel_loops().scale(out, segment_points_[segment], divisors_[segment], compress_sqrt_);
        out += segment_points_[segment];
    }
}

void Preprocessor::integers(float scale, std::int32_t zero_point, std::int8_t* out) const {
    const float* values = resampled_.data();
    for (std::size_t segment = 0; segment < segment_points_.size(); ++segment) {
        const std::size_t size = segment_points_[segment];
        pixel_loops().scale_and_quantise(values, size, divisors_[segment], compress_sqrt_, scale, zero_point,
                                         out);
        values += size;
        out += size;
    }
}

PreprocessReport Preprocessor::report() {
    PreprocessReport report{};
    const std::size_t valid = subtracted_.valid;
    report.non_finite = wanted_ - valid;
    report.saturated = subtracted_.saturated;
    report.valid_fraction = static_cast<double>(valid_points_) / static_cast<double>(points());
    report.signal = valid > 0 ? subtracted_.sum / static_cast<double>(valid) : 0.0;
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
    if (subtracted_.valid == channels()) {
        size = last - first;
        pairs = pixel_loops().pick_steps(pixels, size, picked_.data());
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
    const std::size_t some = pixel_loops().pick(pixels, size, picked_.data());
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
