/* What a compiled model exports, by precision: for programs that load one (dlopen). */
#ifndef LIBSEDGE_EXPORTS_H
#define LIBSEDGE_EXPORTS_H

#include "libsedge.h"

namespace sedge {

struct Int8 {
    using Value = int8_t;
    using Net = sedge_net;
    using Model = sedge_model;
    static constexpr const char* entry = "sedge_net_entry";
    static constexpr const char* init = "sedge_init";
    static constexpr const char* run = "sedge_run";
    static constexpr const char* self_test = "sedge_self_test";
    static constexpr const char* scrub = "sedge_scrub";
    static constexpr const char* run_steps = "sedge_run_steps";
};

struct Float32 {
    using Value = float;
    using Net = sedge_net_f32;
    using Model = sedge_model_f32;
    static constexpr const char* entry = "sedge_net_f32_entry";
    static constexpr const char* init = "sedge_init_f32";
    static constexpr const char* run = "sedge_run_f32";
    static constexpr const char* self_test = "sedge_self_test_f32";
    static constexpr const char* scrub = "sedge_scrub_f32";
    static constexpr const char* run_steps = "sedge_run_steps_f32";
};

} // namespace sedge

#endif
