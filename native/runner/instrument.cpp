#include "instrument.h"

#include "line_offsets.h"

#include <algorithm>
#include <cmath>

namespace sedge::runner {
namespace {

// Mg II, Mg I, Ca II, Ca II, Ca I, Na I; nm in vacuum.
constexpr double kLinesNm[] = {279.6352, 285.2963, 393.4777, 396.9591, 422.7918, 589.1583};
constexpr double kHalfWindowNm = 0.45;
constexpr float kRise = 5.0f;
constexpr std::size_t kLeast = 3;
constexpr double kStepNm = 0.01;
constexpr double kLargestNm = 1.0; // a larger one is no drift but another axis
constexpr std::size_t kReach = 8;  // neighbours on either side that a pixel is compared with

// Of values [size], which it reorders; the mean of the two in the middle where there are two, as numpy has
// it.
double median(double* values, std::size_t size) {
    double* middle = values + size / 2;
    std::nth_element(values, middle, values + size);
    return size % 2 == 1 ? *middle : (*std::max_element(values, middle) + *middle) / 2.0;
}

} // namespace

DriftTracker::DriftTracker(const double* wavelength_nm, std::size_t channels)
    : wavelength_nm_(wavelength_nm), channels_(channels), scratch_(channels) {
    for (const double line : kLinesNm) {
        if (line > wavelength_nm[0] + 1.0 && line < wavelength_nm[channels - 1] - 1.0) {
            lines_nm_[lines_++] = line;
        }
    }
}

bool DriftTracker::usable() const { return lines_ >= kLeast; }

void DriftTracker::look(const float* counts) {
    if (!std::all_of(counts, counts + channels_, [](float x) { return std::isfinite(x); })) {
        return;
    }
    double expected[kLines];
    double found[kLines];
    for (std::size_t i = 0; i < lines_; ++i) {
        expected[i] = lines_nm_[i] - shift_nm_;
    }
    line_offsets(counts, wavelength_nm_, channels_, expected, lines_, kHalfWindowNm, kRise, scratch_.data(),
                 found);
    double* end = std::remove_if(found, found + lines_, [](double x) { return !std::isfinite(x); });
    const std::size_t seen = static_cast<std::size_t>(end - found);
    if (seen < kLeast) {
        return;
    }
    offsets_[looks_++ % kMemory] = shift_nm_ - median(found, seen);
    const std::size_t known = std::min(looks_, kMemory);
    double sorted[kMemory];
    std::copy(offsets_, offsets_ + known, sorted);
    const double shift = median(sorted, known);
    if (std::fabs(shift) <= kLargestNm) {
        shift_nm_ = std::nearbyint(shift / kStepNm) * kStepNm; // half to even, as Python's round
    }
}

BadPixels::BadPixels(std::size_t channels) : distance_(channels), sorted_(channels), bad_(channels) {}

std::size_t BadPixels::find(const float* dark, double sigma) {
    const auto channels = static_cast<std::ptrdiff_t>(bad_.size());
    const auto reach = static_cast<std::ptrdiff_t>(kReach);
    const bool reflects = channels > reach;
    double around[2 * kReach + 1];
    for (std::ptrdiff_t i = 0; i < channels; ++i) {
        for (std::ptrdiff_t k = -reach; k <= reach; ++k) {
            std::ptrdiff_t at = i + k;
            if (at < 0) {
                at = reflects ? -at : 0;
            } else if (at >= channels) {
                at = reflects ? 2 * (channels - 1) - at : channels - 1;
            }
            around[k + reach] = static_cast<double>(dark[at]);
        }
        const auto pixel = static_cast<std::size_t>(i);
        distance_[pixel] = std::fabs(static_cast<double>(dark[i]) - median(around, 2 * kReach + 1));
    }
    sorted_ = distance_; // the same size: no allocation
    const double noise = std::max(1.4826 * median(sorted_.data(), sorted_.size()), 1.0);
    std::size_t count = 0;
    for (std::size_t i = 0; i < bad_.size(); ++i) {
        bad_[i] = distance_[i] > sigma * noise ? 1 : 0;
        count += bad_[i];
    }
    return count;
}

} // namespace sedge::runner
