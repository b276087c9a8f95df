#include "smooth.h"

#include "pixel_loops.h"

#include <algorithm>
#include <cmath>

namespace sedge {
namespace {

// Polynomials that are orthonormal on the places of the window, by modified Gram-Schmidt; [order +
// 1][window].
std::vector<std::vector<double>> orthonormal(std::size_t window, std::size_t order) {
    std::vector<std::vector<double>> basis;
    for (std::size_t degree = 0; degree <= order; ++degree) {
        std::vector<double> next(window);
        for (std::size_t i = 0; i < window; ++i) {
            const double x = 2.0 * static_cast<double>(i) / static_cast<double>(window - 1) - 1.0;
            next[i] = std::pow(x, static_cast<double>(degree));
        }
        for (int twice = 0; twice < 2; ++twice) {
            for (const std::vector<double>& other : basis) {
                double dot = 0.0;
                for (std::size_t i = 0; i < window; ++i) {
                    dot += next[i] * other[i];
                }
                for (std::size_t i = 0; i < window; ++i) {
                    next[i] -= dot * other[i];
                }
            }
        }
        double square = 0.0;
        for (const double value : next) {
            square += value * value;
        }
        for (double& value : next) {
            value /= std::sqrt(square);
        }
        basis.push_back(std::move(next));
    }
    return basis;
}

} // namespace

Smoother::Smoother(std::size_t window, std::size_t order, std::size_t channels)
    : window_(window), weights_(window * window), before_(channels) {
    const auto basis = orthonormal(window, order);
    for (std::size_t row = 0; row < window; ++row) {
        for (std::size_t i = 0; i < window; ++i) {
            double weight = 0.0; // of the projection onto the polynomials
            for (const std::vector<double>& polynomial : basis) {
                weight += polynomial[row] * polynomial[i];
            }
            weights_[row * window + i] = static_cast<float>(weight);
        }
    }
}

void Smoother::run(float* values, const std::uint8_t* valid, std::size_t channels) {
    std::size_t i = 0;
    while (i < channels) {
        std::size_t end = i;
        while (end < channels && valid[end] != 0) {
            ++end;
        }
        if (end - i >= window_) {
            smooth(values + i, end - i);
        }
        i = end + 1;
    }
}

void Smoother::smooth(float* values, std::size_t size) {
    std::copy(values, values + size, before_.begin());
    const std::size_t half = window_ / 2;
    const auto at = [this](std::size_t row, const float* from) {
        float sum = 0.0f;
        for (std::size_t k = 0; k < window_; ++k) {
            sum += weights_[row * window_ + k] * from[k];
        }
        return sum;
    };
    for (std::size_t i = 0; i < half; ++i) {
        values[i] = at(i, before_.data());
        values[size - 1 - i] = at(window_ - 1 - i, before_.data() + size - window_);
    }
    pixel_loops().convolve(before_.data(), weights_.data() + half * window_, window_, size - window_ + 1,
                           values + half);
}

} // namespace sedge
