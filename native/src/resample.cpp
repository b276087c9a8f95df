#include "resample.h"

#include "pixel_loops.h"

#include <algorithm>
#include <array>

namespace sedge {
namespace {

// The mean of the two middle values where their number is even, as usual. Reorders.
double median(double* first, std::size_t size) {
    double* middle = first + size / 2;
    std::nth_element(first, middle, first + size);
    return size % 2 != 0 ? *middle : (*std::max_element(first, middle) + *middle) / 2;
}

std::vector<std::uint8_t> find_gaps(const std::vector<double>& wavelength) {
    const std::size_t spacings = wavelength.size() - 1;
    std::vector<std::uint8_t> gap(spacings);
    std::array<double, 2 * kGapWindow + 1> window;
    for (std::size_t j = 0; j < spacings; ++j) {
        const std::size_t from = j < kGapWindow ? 0 : j - kGapWindow;
        const std::size_t to = std::min(spacings, j + kGapWindow + 1);
        for (std::size_t k = from; k < to; ++k) {
            window[k - from] = wavelength[k + 1] - wavelength[k];
        }
        gap[j] = wavelength[j + 1] - wavelength[j] > kGapFactor * median(window.data(), to - from);
    }
    return gap;
}

} // namespace

Resampler::Resampler(std::vector<double> wavelength, std::vector<double> grid)
    : wavelength_(std::move(wavelength)), grid_(std::move(grid)), gap_(find_gaps(wavelength_)),
      left_(wavelength_.size() <= 65536 ? grid_.size() : 0), left_wide_(grid_.size() - left_.size()),
      fraction_(grid_.size()), inside_(grid_.size()) {
    plan();
}

bool Resampler::set_shift(double shift_nm) {
    if (shift_nm == shift_nm_) {
        return false;
    }
    shift_nm_ = shift_nm;
    plan();
    return true;
}

void Resampler::plan() {
    const std::size_t last = wavelength_.size() - 1;
    const auto position = [this](std::size_t pixel) { return wavelength_[pixel] + shift_nm_; };
    std::size_t j = 0; // the largest pixel but the last at or before the grid point; both axes increase
    for (std::size_t g = 0; g < grid_.size(); ++g) {
        while (j + 1 < last && position(j + 1) <= grid_[g]) {
            ++j;
        }
        const double left = position(j);
        const double right = position(j + 1);
        const bool inside = left <= grid_[g] && grid_[g] <= right && left < right && gap_[j] == 0;
        if (left_wide_.empty()) {
            left_[g] = static_cast<std::uint16_t>(j);
        } else {
            left_wide_[g] = static_cast<std::uint32_t>(j);
        }
        inside_[g] = inside ? 1 : 0;
        fraction_[g] = inside ? static_cast<float>((grid_[g] - left) / (right - left)) : 0.0f;
    }
    all_inside_ = std::find(inside_.begin(), inside_.end(), std::uint8_t{0}) == inside_.end();
    first_pixel_ = 0;
    while (first_pixel_ <= last && position(first_pixel_) < grid_.front()) {
        ++first_pixel_;
    }
    last_pixel_ = last + 1;
    while (last_pixel_ > first_pixel_ && position(last_pixel_ - 1) > grid_.back()) {
        --last_pixel_;
    }
}

void Resampler::run(const float* values, const std::uint8_t* valid, float* out,
                    std::uint8_t* out_valid) const {
    for (std::size_t g = 0; g < grid_.size(); ++g) {
        const std::size_t j = left_wide_.empty() ? left_[g] : left_wide_[g];
        const bool use = inside_[g] != 0 && valid[j] != 0 && valid[j + 1] != 0;
        out[g] = use ? values[j] + fraction_[g] * (values[j + 1] - values[j]) : 0.0f;
        out_valid[g] = use;
    }
}

void Resampler::run_all(const float* values, float* out) const {
    const PixelLoops& loops = pixel_loops();
    if (left_wide_.empty()) {
        loops.interpolate(values, channels(), left_.data(), fraction_.data(), points(), out);
    } else {
        loops.interpolate_wide(values, channels(), left_wide_.data(), fraction_.data(), points(), out);
    }
    if (!all_inside_) {
        for (std::size_t g = 0; g < points(); ++g) {
            out[g] = inside_[g] != 0 ? out[g] : 0.0f;
        }
    }
}

} // namespace sedge
