/* The C API over the table of a generated net (libsedge.h). */
#include "api_common.h"

namespace {

bool equal(const int8_t* got, const int8_t* want, const sedge_net& net) {
    size_t i = 0;
    while (i < net.classes && got[i] == want[i])
        ++i;
    return i == net.classes;
}

} // namespace

extern "C" {

sedge_status sedge_init(sedge_model* model, const sedge_net* net, const char* isa, void* arena,
                        size_t bytes) {
    if (model != nullptr)
        model->arena_bytes = bytes;
    return sedge::init(model, net, isa, arena, bytes);
}

sedge_status sedge_run(sedge_model* model, const int8_t* input, int8_t* logits) {
    return sedge::run(model, input, logits);
}

sedge_status sedge_self_test(sedge_model* model) { return sedge::self_test<int8_t>(model, equal); }

sedge_status sedge_scrub(sedge_model* model) { return sedge::scrub(model); }

sedge_status sedge_run_steps(sedge_model* model, const int8_t* input, int8_t* logits, sedge_step_fn done,
                             void* user) {
    return sedge::run_steps(model, input, logits, done, user);
}

sedge_status sedge_trace(sedge_model* model, const int8_t* input, sedge_layer_fn fn, void* user) {
    if (model == nullptr || model->net == nullptr || input == nullptr || fn == nullptr)
        return SEDGE_E_NULL;
    if (model->net->trace == nullptr)
        return SEDGE_E_NO_TRACE;
    if (!sedge::same_name(model->kernel->isa, "scalar"))
        return SEDGE_E_NO_TRACE;
    if (model->arena_bytes < model->net->trace_bytes)
        return SEDGE_E_ARENA_SMALL;
    model->net->trace(input, model->arena, fn, user);
    return SEDGE_OK;
}

const char* sedge_status_text(sedge_status status) {
    switch (status) {
    case SEDGE_OK:
        return "ok";
    case SEDGE_E_NULL:
        return "a required pointer is NULL";
    case SEDGE_E_ABI:
        return "the net was generated for another ABI version";
    case SEDGE_E_ARENA_SMALL:
        return "the arena is smaller than SEDGE_<MODEL>_ARENA_BYTES";
    case SEDGE_E_ARENA_ALIGN:
        return "the arena is not aligned to SEDGE_<MODEL>_ARENA_ALIGN";
    case SEDGE_E_ISA_UNKNOWN:
        return "no instruction set of that name exists";
    case SEDGE_E_ISA_NOT_BUILT:
        return "the instruction set exists, but this net was built without it";
    case SEDGE_E_ISA_NOT_RUNNABLE:
        return "the instruction set was built, but this machine lacks it";
    case SEDGE_E_SELF_TEST:
        return "an embedded golden vector did not come out bit for bit";
    case SEDGE_E_WEIGHTS:
        return "the CRC-32C of the weights does not hold";
    case SEDGE_E_NO_TRACE:
        return "this kernel cannot show its layers, only the scalar one can";
    case SEDGE_E_NO_STEPS:
        return "compiled without sedge_run_steps (SEDGE_RUN_STEPS 0)";
    }
    return "unknown status";
}
}
