// The continuum under the lines by SNIP, sensitive nonlinear iterative peak clipping (Ryan et al., Nucl.
// Instrum. Methods B 34, 396, 1988; windows from wide to narrow: Morhac et al., Nucl. Instrum. Methods A 401,
// 113, 1997), and its subtraction.
#ifndef LIBSEDGE_CONTINUUM_H
#define LIBSEDGE_CONTINUUM_H

#include <cstddef>
#include <cstdint>
#include <vector>

namespace sedge {

constexpr std::size_t kLargestSnipWindow = 1000;

class Continuum {
public:
    // half_window: pixels; lines up to about twice as wide are kept out of the continuum.
    Continuum(std::size_t half_window, std::size_t channels);

    // In place: values minus their continuum, in every run of valid pixels by itself. Beyond its ends a run
    // goes on with its last value. For p = half_window ... 1: c[i] = min(c[i], (c[i - p] + c[i + p]) / 2),
    // all i at once.
    void run(float* values, const std::uint8_t* valid, std::size_t channels);

private:
    std::size_t half_window_;
    std::vector<float> now_; // with half_window_ on either side
    std::vector<float> next_;
};

} // namespace sedge

#endif
