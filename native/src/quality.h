// Whether a spectrum can be decided about: the checks of both runtimes.
#ifndef LIBSEDGE_QUALITY_H
#define LIBSEDGE_QUALITY_H

#include "preprocess.h"

namespace sedge {

struct Limits {
    double min_contrast;
    double max_saturated; // pixels
};

// Null: it can; else the first reason why not, one of REASONS in edge/libsedge/classifier.py.
inline const char* unusable(const PreprocessReport& report, const Limits& limits) {
    if (report.non_finite > 0) {
        return "non_finite";
    }
    if (report.valid_fraction <= 0.0) {
        return "all_masked";
    }
    if (static_cast<double>(report.saturated) > limits.max_saturated) {
        return "saturated";
    }
    // "not >=" and not "<": a contrast that is not a number is no contrast.
    return !(report.contrast >= limits.min_contrast) ? "too_dim" : nullptr;
}

} // namespace sedge

#endif
