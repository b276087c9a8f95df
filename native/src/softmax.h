// Calibrated probabilities of int8 and of float32 logits: the same logits give the same bits on every
// machine.
#ifndef LIBSEDGE_SOFTMAX_H
#define LIBSEDGE_SOFTMAX_H

#include <algorithm>
#include <cmath>
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

// exp(x) for x <= 0 within 1 ulp, 0 below -708; not libm's, whose last bit differs from one C library to
// another.
inline double exp_below(double x) {
    if (!(x >= -708.0)) {
        return x < 0.0 ? 0.0 : x; // what is not a number stays so
    }
    constexpr double kLog2E = 1.4426950408889634;
    constexpr double kLn2High = 6.93147180369123816490e-01, kLn2Low = 1.90821492927058770002e-10;
    const double k = std::floor(x * kLog2E + 0.5);
    const double r = (x - k * kLn2High) - k * kLn2Low; // |r| <= ln(2) / 2
    double sum = 1.0;
    for (int n = 13; n > 0; --n) { // Taylor; the first term left out is below 2^-57
        sum = 1.0 + r * sum / n;
    }
    return std::ldexp(sum, static_cast<int>(k));
}

// probabilities[i] = exp((logits[i] - largest) / temperature) / sum, which runs in the order of the classes.
inline void softmax(const float* logits, std::size_t classes, double temperature, double* probabilities) {
    const double largest = *std::max_element(logits, logits + classes);
    double total = 0.0;
    for (std::size_t i = 0; i < classes; ++i) {
        probabilities[i] = exp_below((logits[i] - largest) / temperature);
        total += probabilities[i];
    }
    for (std::size_t i = 0; i < classes; ++i) {
        probabilities[i] /= total;
    }
}

} // namespace sedge

#endif
