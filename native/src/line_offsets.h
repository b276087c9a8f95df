// Where known lines really stand on an instrument's axis.
#ifndef LIBSEDGE_LINE_OFFSETS_H
#define LIBSEDGE_LINE_OFFSETS_H

#include <cstddef>

namespace sedge {

// For every line: the highest pixel within half_window_nm of it, refined by the parabola through that pixel
// and its two neighbours, minus the line's wavelength, nm. NaN where no line is seen: the window is not
// wholly on the axis or has fewer than 5 pixels, its highest pixel stands at its edge, or does not rise above
// the lower quartile of seven windows around by more than `rise` times (that quartile - their minimum + 1).
// wavelength [channels], nm, increasing; scratch [channels].
void line_offsets(const float* values, const double* wavelength, std::size_t channels, const double* lines,
                  std::size_t count, double half_window_nm, float rise, float* scratch, double* offsets);

} // namespace sedge

#endif
