// Several shots of one target become one spectrum, without the pixels that cosmic rays hit in one of them.
#ifndef LIBSEDGE_COMBINE_H
#define LIBSEDGE_COMBINE_H

#include <cstddef>

namespace sedge {

// out[i] = mean over the shots of those values[shot][i] that are not above median + kCosmicSigma * noise: a
// ray only adds. Median and noise = 1.4826 * median|value - median| + sqrt(max(median, 1)) are taken over the
// shots of that pixel, medians are the lower ones. With fewer than kCosmicShots shots nothing is left out.
// scratch has room for 2 * shots values, which are finite. Returns the number of values left out.
constexpr float kCosmicSigma = 8.0f;
constexpr std::size_t kCosmicShots = 3;
std::size_t combine_shots(const float* const* values, std::size_t shots, std::size_t channels, float* scratch,
                          float* out);

} // namespace sedge

#endif
