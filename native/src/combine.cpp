#include "combine.h"

#include <algorithm>
#include <cmath>

namespace sedge {
namespace {

// The lower one of the two middle values where their number is even. Reorders.
float lower_median(float* values, std::size_t size) {
    float* middle = values + (size - 1) / 2;
    std::nth_element(values, middle, values + size);
    return *middle;
}

} // namespace

std::size_t combine_shots(const float* const* values, std::size_t shots, std::size_t channels, float* scratch,
                          float* out) {
    std::size_t left_out = 0;
    float* distances = scratch + shots;
    for (std::size_t i = 0; i < channels; ++i) {
        float limit = INFINITY;
        if (shots >= kCosmicShots) {
            for (std::size_t shot = 0; shot < shots; ++shot) {
                scratch[shot] = values[shot][i];
            }
            const float median = lower_median(scratch, shots);
            for (std::size_t shot = 0; shot < shots; ++shot) {
                distances[shot] = std::fabs(values[shot][i] - median);
            }
            const float noise =
                1.4826f * lower_median(distances, shots) + std::sqrt(median > 1.0f ? median : 1.0f);
            limit = median + kCosmicSigma * noise;
        }
        double sum = 0.0;
        std::size_t count = 0;
        for (std::size_t shot = 0; shot < shots; ++shot) {
            if (values[shot][i] <= limit) {
                sum += static_cast<double>(values[shot][i]);
                ++count;
            }
        }
        out[i] = static_cast<float>(sum / static_cast<double>(count)); // the median itself is never left out
        left_out += shots - count;
    }
    return left_out;
}

} // namespace sedge
