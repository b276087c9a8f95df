// What is put right about an instrument while it runs: the arithmetic of edge/libsedge/drift.py and
// pixels.py, bit for bit.
#ifndef LIBSEDGE_RUNNER_INSTRUMENT_H
#define LIBSEDGE_RUNNER_INSTRUMENT_H

#include <cstddef>
#include <cstdint>
#include <vector>

namespace sedge::runner {

// The wavelength axis followed while it drifts, by strong lines of magnesium, calcium and sodium.
class DriftTracker {
public:
    // Takes all memory; wavelength_nm [channels] outlives it.
    DriftTracker(const double* wavelength_nm, std::size_t channels);

    // Enough of the lines lie on the axis.
    bool usable() const;

    // Take one spectrum [channels], dark or not.
    void look(const float* counts);

    // To be added to the axis.
    double shift_nm() const { return shift_nm_; }

private:
    static constexpr std::size_t kLines = 6;
    static constexpr std::size_t kMemory = 25;

    const double* wavelength_nm_;
    std::size_t channels_;
    double lines_nm_[kLines]; // those on the axis
    std::size_t lines_ = 0;
    double offsets_[kMemory]; // the last so many, in a ring
    std::size_t looks_ = 0;
    double shift_nm_ = 0.0;
    std::vector<float> scratch_;
};

// Pixels that stand off the median of their neighbours in a dark frame.
class BadPixels {
public:
    explicit BadPixels(std::size_t channels); // takes all memory

    // How many of dark [channels] do so by more than `sigma` times its noise; bad()[i] = 1 where pixel i
    // does.
    std::size_t find(const float* dark, double sigma);

    const std::uint8_t* bad() const { return bad_.data(); }

private:
    std::vector<double> distance_;
    std::vector<double> sorted_;
    std::vector<std::uint8_t> bad_;
};

} // namespace sedge::runner

#endif
