// Savitzky-Golay smoothing (Anal. Chem. 36, 1627, 1964): a polynomial is fitted to the pixels around each
// pixel.
#ifndef LIBSEDGE_SMOOTH_H
#define LIBSEDGE_SMOOTH_H

#include <cstddef>
#include <cstdint>
#include <vector>

namespace sedge {

constexpr std::size_t kLargestSmoothWindow = 101;
constexpr std::size_t kLargestSmoothOrder = 5;

class Smoother {
public:
    // window: odd, above order; the weights are computed here, in double, and rounded to float32 once.
    Smoother(std::size_t window, std::size_t order, std::size_t channels);

    // In place. Every run of valid pixels by itself: near its ends the polynomial of the outermost window is
    // evaluated off its middle; a run shorter than the window stays as it is.
    void run(float* values, const std::uint8_t* valid, std::size_t channels);

private:
    void smooth(float* values, std::size_t size);

    std::size_t window_;
    std::vector<float> weights_; // [window][window]: row r gives the value at place r of a window
    std::vector<float> before_;
};

} // namespace sedge

#endif
