#include "continuum.h"

#include "pixel_loops.h"

#include <algorithm>

namespace sedge {

Continuum::Continuum(std::size_t half_window, std::size_t channels)
    : half_window_(half_window), now_(channels + 2 * half_window), next_(channels + 2 * half_window) {}

void Continuum::run(float* values, const std::uint8_t* valid, std::size_t channels) {
    std::size_t i = 0;
    while (i < channels) {
        std::size_t end = i;
        while (end < channels && valid[end] != 0) {
            ++end;
        }
        if (end > i) {
            const std::size_t padded = end - i + 2 * half_window_;
            const auto inside = now_.begin() + static_cast<std::ptrdiff_t>(half_window_);
            const auto stop = now_.begin() + static_cast<std::ptrdiff_t>(padded);
            std::fill(now_.begin(), inside, values[i]);
            std::fill(std::copy(values + i, values + end, inside), stop, values[end - 1]);
            std::copy(now_.begin(), stop, next_.begin());
            for (std::size_t p = half_window_; p > 0; --p) {
                pixel_loops().clip(now_.data(), padded, p, next_.data());
                now_.swap(next_);
            }
            pixel_loops().subtract_from(values + i, now_.data() + half_window_, end - i);
        }
        i = end + 1;
    }
}

} // namespace sedge
