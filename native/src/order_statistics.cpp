#include "order_statistics.h"

#include "pixel_loops.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace sedge {
namespace {

float nth(std::vector<float>& values, std::size_t size, std::size_t rank) {
    const auto at = values.begin() + static_cast<std::ptrdiff_t>(rank);
    std::nth_element(values.begin(), at, values.begin() + static_cast<std::ptrdiff_t>(size));
    return *at;
}

// The smallest (lower = 0) or the largest (0xffff) float of a key of PixelLoops::keys.
float float_of(std::int16_t key, std::int32_t lower) {
    const std::int32_t sortable = static_cast<std::int32_t>(key) * 65536 + lower;
    const std::int32_t bits = sortable ^ ((sortable >> 31) & 0x7fffffff);
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

} // namespace

OrderStatistics::OrderStatistics(std::size_t most) : keys_(most), found_(most + 1) {}

OrderStatistics::Place OrderStatistics::find(std::size_t rank) const {
    const auto below = pixel_loops().below;
    std::int32_t key = -32768;
    std::size_t before = 0;
    for (std::int32_t step = 32768; step > 0; step /= 2) {
        const std::size_t count = below(keys_.data(), size_, static_cast<std::int16_t>(key + step));
        const bool reached = count <= rank;
        key += reached ? step : 0;
        before = reached ? count : before;
    }
    return {static_cast<std::int16_t>(key), before};
}

float OrderStatistics::at(const float* values, std::size_t size, std::size_t rank) {
    size_ = size;
    pixel_loops().keys(values, size, keys_.data());
    const Place place = find(rank);
    const float low = float_of(place.key, 0);
    const float high = float_of(place.key, 0xffff);
    const std::size_t count = pixel_loops().collect(values, size, low, high, found_.data());
    return nth(found_, count, rank - place.before);
}

float OrderStatistics::near_top(const float* values, std::size_t size, std::size_t rank) {
    const std::size_t above = size - 1 - rank;
    // Twice as many as wanted and a few more are expected above the threshold.
    const std::size_t keep = 2 * above * size_ / size + 8;
    if (keep >= size_) {
        return at(values, size, rank);
    }
    const float threshold = float_of(find(size_ - 1 - keep).key, 0);
    const float most = std::numeric_limits<float>::max();
    const std::size_t count = pixel_loops().collect(values, size, threshold, most, found_.data());
    if (count <= above) { // the sample was not like the rest
        return at(values, size, rank);
    }
    return nth(found_, count, count - 1 - above);
}

} // namespace sedge
