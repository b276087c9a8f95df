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

    // The value at `rank` (0 = smallest) of values [size] when they are sorted; finite, rank < size. Halving
    // the range of the upper 16 bits finds the few that can be it.
    float at(const float* values, std::size_t size, std::size_t rank);

    // The same of values [size], fast where few values stand above it and those that at() saw last are a
    // sample of them: it gives a threshold that most of the others fail.
    float near_top(const float* values, std::size_t size, std::size_t rank);

private:
    struct Place {
        std::int16_t key;   // of the value at the rank
        std::size_t before; // how many keys are below it
    };
    Place find(std::size_t rank) const; // in the keys that at() made last

    std::vector<std::int16_t> keys_;
    std::size_t size_ = 0; // of keys_, as many as at() saw last
    std::vector<float> found_;
};

} // namespace sedge

#endif
