// Exact order statistics of many floats in a few passes.
#ifndef LIBSEDGE_ORDER_STATISTICS_H
#define LIBSEDGE_ORDER_STATISTICS_H

#include <cstddef>
#include <cstdint>
#include <vector>

namespace sedge {

class OrderStatistics {
public:
    explicit OrderStatistics(std::size_t most); // takes all memory, for up to this many values

    // The value at `rank` (0 = smallest) of values [size] when they are sorted; finite, rank < size. A
    // histogram of the upper bits finds the few that can be it.
    float at(const float* values, std::size_t size, std::size_t rank);

    // The same, fast where few values stand above it: a sample gives a threshold that most of the others
    // fail.
    float near_top(const float* values, std::size_t size, std::size_t rank);

private:
    std::vector<std::uint16_t> keys_;
    std::vector<std::uint16_t> tables_;
    std::vector<float> found_;
};

} // namespace sedge

#endif
