#include "order_statistics.h"

#include "pixel_loops.h"

#include <algorithm>

namespace sedge {
namespace {

constexpr unsigned kShift = 5;                 // of a 16-bit key
constexpr std::size_t kBins = 65536 >> kShift; // eight an octave
constexpr std::size_t kTables = 2;  // element i counts in table i % 2: neighbours often share a bin
constexpr std::size_t kBlock = 64;  // bins are looked through by blocks first
constexpr std::size_t kSample = 16; // every so many-th value is in the sample of near_top

float nth(std::vector<float>& values, std::size_t size, std::size_t rank) {
    const auto at = values.begin() + static_cast<std::ptrdiff_t>(rank);
    std::nth_element(values.begin(), at, values.begin() + static_cast<std::ptrdiff_t>(size));
    return *at;
}

} // namespace

OrderStatistics::OrderStatistics(std::size_t most)
    : keys_(most), tables_(kTables * kBins), found_(most + 1) {}

float OrderStatistics::at(const float* values, std::size_t size, std::size_t rank) {
    pixel_loops().keys(values, size, keys_.data());
    std::fill(tables_.begin(), tables_.end(), std::uint16_t{0});
    std::uint16_t* table = tables_.data();
    for (std::size_t i = 0; i < size; ++i) {
        ++table[(i % kTables) * kBins + (keys_[i] >> kShift)];
    }
    const auto members = [table](std::size_t bin) { return std::size_t{table[bin]} + table[kBins + bin]; };
    std::size_t before = 0;
    std::size_t bin = 0;
    for (;; bin += kBlock) {
        std::size_t block = 0;
        for (std::size_t k = 0; k < kBlock; ++k) {
            block += members(bin + k);
        }
        if (before + block > rank) {
            break;
        }
        before += block;
    }
    while (before + members(bin) <= rank) {
        before += members(bin++);
    }
    std::size_t count = 0;
    const std::size_t wanted = members(bin);
    for (std::size_t i = 0; count < wanted; ++i) {
        found_[count] = values[i];
        count += (static_cast<std::size_t>(keys_[i]) >> kShift) == bin ? 1 : 0;
    }
    return nth(found_, count, rank - before);
}

float OrderStatistics::near_top(const float* values, std::size_t size, std::size_t rank) {
    const std::size_t above = size - 1 - rank;
    const std::size_t sample = size / kSample;
    // Four times as many as wanted and a few more are expected above the threshold.
    const std::size_t keep = (4 * above) / kSample + 4;
    if (keep >= sample) {
        return at(values, size, rank);
    }
    for (std::size_t i = 0; i < sample; ++i) {
        found_[i] = values[i * kSample];
    }
    const float threshold = nth(found_, sample, sample - 1 - keep);
    const std::size_t count = pixel_loops().collect(values, size, threshold, found_.data());
    if (count <= above) { // the sample was not like the rest
        return at(values, size, rank);
    }
    return nth(found_, count, count - 1 - above);
}

} // namespace sedge
