// What the runner knows about its model, beside the compiled net: generated from a verified bundle by
// `libsedge build-runner` (native/libsedge_native/templates/runner_constants.cpp.j2).
#ifndef LIBSEDGE_RUNNER_CONSTANTS_H
#define LIBSEDGE_RUNNER_CONSTANTS_H

#include "libsedge.h"

#include <cstddef>
#include <cstdint>

namespace sedge::runner {

struct Constants {
    const char* version; // of libsedge
    const char* bundle;  // name and version
    const char* digest;  // SHA-256 of the bundle, hex
    void* arena;         // of the net
    std::size_t arena_bytes;

    std::size_t channels;              // of the instrument's axis
    const double* wavelength_nm;       // [channels]
    const std::uint8_t* mask;          // [channels], 1 = valid
    float saturation;                  // NaN = unknown
    std::size_t points;                // of the model's grid
    const double* grid_nm;             // [points]
    std::size_t segments;              //
    const std::size_t* segment_points; // [segments]
    bool compress_sqrt;
    std::size_t smooth_window; // 0 = none
    std::size_t smooth_order;
    std::size_t snip_half_window; // 0 = the continuum stays

    std::size_t classes;
    const char* const* labels; // [classes], as JSON strings with their quotes
    double min_confidence;
    double min_contrast;
    double max_saturated_fraction;

    // One made-up spectrum whose way to the confidence was computed by the Python runtime.
    const std::uint16_t* canary_counts; // [channels]
    std::uint32_t canary_input_crc;     // CRC-32C of the net's input, little-endian
    std::size_t canary_index;
    double canary_confidence;

    std::uint32_t crc; // of all the numbers above the canary and the net's, see Decider::constants_crc
};

extern const Constants constants;

// Of a bundle's net, in its precision; one of the two is defined.
struct Int8Constants {
    const sedge_net* net;
    float scale; // of the input
    std::int32_t zero_point;
    const double* exp_table;          // [256]: exp(-d * logit scale / temperature)
    const std::int8_t* canary_logits; // [classes]
};

struct Float32Constants {
    const sedge_net_f32* net;
    double temperature;
    const float* canary_logits; // [classes]
};

extern const Int8Constants int8_constants;
extern const Float32Constants float32_constants;

} // namespace sedge::runner

#endif
