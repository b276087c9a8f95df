#include "line_offsets.h"

#include <algorithm>
#include <cmath>

namespace sedge {
namespace {

constexpr std::size_t kAround = 3; // windows on either side

} // namespace

void line_offsets(const float* values, const double* wavelength, std::size_t channels, const double* lines,
                  std::size_t count, double half_window_nm, float rise, float* scratch, double* offsets) {
    for (std::size_t n = 0; n < count; ++n) {
        offsets[n] = NAN;
        const double low = lines[n] - half_window_nm;
        const double high = lines[n] + half_window_nm;
        if (low < wavelength[0] || high > wavelength[channels - 1]) {
            continue;
        }
        const auto first =
            static_cast<std::size_t>(std::lower_bound(wavelength, wavelength + channels, low) - wavelength);
        const auto last =
            static_cast<std::size_t>(std::upper_bound(wavelength, wavelength + channels, high) - wavelength);
        const std::size_t size = last - first;
        if (size < 5) {
            continue;
        }
        const auto peak = static_cast<std::size_t>(std::max_element(values + first, values + last) - values);
        if (peak == first || peak + 1 == last) {
            continue;
        }
        // What is no line, from a wider range around.
        const std::size_t from = first - std::min(first, kAround * size);
        const std::size_t around = std::min(channels, last + kAround * size) - from;
        std::copy(values + from, values + from + around, scratch);
        std::nth_element(scratch, scratch + around / 4, scratch + around);
        const float quartile = scratch[around / 4];
        const float lowest = *std::min_element(scratch, scratch + around / 4 + 1);
        if (!(values[peak] - quartile > rise * (quartile - lowest + 1.0f))) {
            continue;
        }
        const double left = static_cast<double>(values[peak - 1]);
        const double middle = static_cast<double>(values[peak]);
        const double right = static_cast<double>(values[peak + 1]);
        const double bend = left - 2.0 * middle + right; // below 0: the middle is the highest
        const double step = bend < 0.0 ? 0.5 * (left - right) / bend : 0.0;
        const double spacing = 0.5 * (wavelength[peak + 1] - wavelength[peak - 1]);
        offsets[n] = wavelength[peak] + step * spacing - lines[n];
    }
}

} // namespace sedge
