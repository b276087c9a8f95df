// Calibrated probabilities of int8 logits, the same bits on every machine.
#ifndef LIBSEDGE_SOFTMAX_H
#define LIBSEDGE_SOFTMAX_H

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace sedge {

// probabilities[i] = table[largest - logits[i]] / sum; table [256] holds the exponentials of a logit so many
// steps below the largest, the sum runs in the order of the classes.
inline void softmax(const std::int8_t* logits, std::size_t classes, const double* table,
                    double* probabilities) {
    const std::int8_t largest = *std::max_element(logits, logits + classes);
    double total = 0.0;
    for (std::size_t i = 0; i < classes; ++i) {
        probabilities[i] = table[largest - logits[i]];
        total += probabilities[i];
    }
    for (std::size_t i = 0; i < classes; ++i) {
        probabilities[i] /= total;
    }
}

} // namespace sedge

#endif
