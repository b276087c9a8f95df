/* The C API over the table of a generated float32 net (libsedge.h). */
#include "api_common.h"

namespace {

float magnitude(float value) { return value < 0 ? -value : value; }

/* Whether every logit is within the tolerance of the largest wanted one; false where one is not a number. */
bool close(const float* got, const float* want, const sedge_net_f32& net) {
    float largest = 0;
    for (size_t i = 0; i < net.classes; ++i)
        largest = magnitude(want[i]) > largest ? magnitude(want[i]) : largest;
    size_t i = 0;
    while (i < net.classes && magnitude(got[i] - want[i]) <= net.golden_tolerance * largest)
        ++i;
    return i == net.classes;
}

} // namespace

extern "C" {

sedge_status sedge_init_f32(sedge_model_f32* model, const sedge_net_f32* net, const char* isa, void* arena,
                            size_t bytes) {
    return sedge::init(model, net, isa, arena, bytes);
}

sedge_status sedge_run_f32(sedge_model_f32* model, const float* input, float* logits) {
    return sedge::run(model, input, logits);
}

sedge_status sedge_self_test_f32(sedge_model_f32* model) { return sedge::self_test<float>(model, close); }

sedge_status sedge_scrub_f32(sedge_model_f32* model) { return sedge::scrub(model); }

sedge_status sedge_run_steps_f32(sedge_model_f32* model, const float* input, float* logits,
                                 sedge_step_fn done, void* user) {
    return sedge::run_steps(model, input, logits, done, user);
}
}
