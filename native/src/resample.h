// Linear interpolation of a spectrum from its own wavelength axis onto a model's grid, gaps left as gaps.
#ifndef LIBSEDGE_RESAMPLE_H
#define LIBSEDGE_RESAMPLE_H

#include <cstddef>
#include <cstdint>
#include <vector>

namespace sedge {

// Two neighbouring pixels further apart than this many times the local median spacing have a detector gap in
// between.
constexpr double kGapFactor = 5.0;
// "Local": up to this many spacings on either side.
constexpr std::size_t kGapWindow = 7;

class Resampler {
public:
    // Both axes in nm, strictly increasing and finite; at least two pixels. Memory is taken here and never
    // again.
    Resampler(std::vector<double> wavelength, std::vector<double> grid);

    // Moves the wavelength axis by `shift_nm` (positions in double); false, and nothing is computed, when it
    // did not change.
    bool set_shift(double shift_nm);

    // out[g] = values[j] + t * (values[j + 1] - values[j]) between the two pixels that bracket grid point g.
    // out_valid[g] is 0, and out[g] is 0, where g lies outside the axis or in a gap, or either pixel is not
    // valid.
    void run(const float* values, const std::uint8_t* valid, float* out, std::uint8_t* out_valid) const;

    // The same where every pixel is valid; out_valid is then inside().
    void run_all(const float* values, float* out) const;

    // [points]: 1 = the grid point is neither off the axis nor in a gap.
    const std::uint8_t* inside() const { return inside_.data(); }

    std::size_t channels() const { return wavelength_.size(); }
    std::size_t points() const { return grid_.size(); }

    // The pixels [first, last) whose moved positions lie within the grid's first and last point.
    std::size_t first_pixel() const { return first_pixel_; }
    std::size_t last_pixel() const { return last_pixel_; }

private:
    void plan();

    std::vector<double> wavelength_;
    std::vector<double> grid_;
    std::vector<std::uint8_t> gap_; // [channels - 1]: 1 = a gap between pixel j and j + 1
    double shift_nm_ = 0.0;
    // [points]: j, not decreasing; the nearest where outside. One of the two: bytes that are read cold cost
    // more than what is computed from them.
    std::vector<std::uint16_t> left_;
    std::vector<std::uint32_t> left_wide_; // of an axis of more than 65,536 pixels
    std::vector<float> fraction_;          // [points]: t; 0 where outside
    std::vector<std::uint8_t> inside_;     // [points]: 1 = neither off the axis nor in a gap
    bool all_inside_ = false;
    std::size_t first_pixel_ = 0;
    std::size_t last_pixel_ = 0;
};

} // namespace sedge

#endif
