/* The C API over the table of a generated float32 net (libsedge.h). */
#include "api_common.h"

namespace {

float magnitude(float value) { return value < 0 ? -value : value; }

/* Whether every value is within `tolerance` times the largest wanted one; false where one is not a number. */
bool close(const float* got, const float* want, size_t count, float tolerance) {
    float largest = 0;
    for (size_t i = 0; i < count; ++i)
        largest = magnitude(want[i]) > largest ? magnitude(want[i]) : largest;
    size_t i = 0;
    while (i < count && magnitude(got[i] - want[i]) <= tolerance * largest)
        ++i;
    return i == count;
}

constexpr size_t max_classes_on_stack = 4096; /* ir.MAX_CHANNELS */

} // namespace

extern "C" {

sedge_status sedge_init_f32(sedge_model_f32* model, const sedge_net_f32* net, const char* isa, void* arena,
                            size_t bytes) {
    return sedge::init(model, net, isa, arena, bytes);
}

sedge_status sedge_run_f32(sedge_model_f32* model, const float* input, float* logits) {
    if (model == nullptr || model->kernel == nullptr || input == nullptr || logits == nullptr)
        return SEDGE_E_NULL;
    model->kernel->run(input, logits, model->arena);
    return SEDGE_OK;
}

sedge_status sedge_self_test_f32(sedge_model_f32* model) {
    if (model == nullptr || model->kernel == nullptr)
        return SEDGE_E_NULL;
    const sedge_net_f32* net = model->net;
    if (net->golden_count == 0 || net->classes > max_classes_on_stack)
        return SEDGE_E_SELF_TEST;
    float logits[max_classes_on_stack];
    for (size_t i = 0; i < net->golden_count; ++i) {
        model->kernel->run(net->golden_inputs + i * net->input_len, logits, model->arena);
        if (!close(logits, net->golden_outputs + i * net->classes, net->classes, net->golden_tolerance))
            return SEDGE_E_SELF_TEST;
    }
    return SEDGE_OK;
}

sedge_status sedge_scrub_f32(sedge_model_f32* model) {
    if (model == nullptr || model->kernel == nullptr)
        return SEDGE_E_NULL;
    return sedge::scrub(*model->kernel);
}
}
