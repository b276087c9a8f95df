/* The C API over the table of a generated net (libsedge.h). */
#include "libsedge.h"

namespace {

/* CRC-32C (Castagnoli, reflected), four bits at a time: 64 bytes of table; scrubbing is not a hot path. */
uint32_t crc32c(const void* data, size_t size) {
    static const uint32_t table[16] = {0x00000000u, 0x105EC76Fu, 0x20BD8EDEu, 0x30E349B1u,
                                       0x417B1DBCu, 0x5125DAD3u, 0x61C69362u, 0x7198540Du,
                                       0x82F63B78u, 0x92A8FC17u, 0xA24BB5A6u, 0xB21572C9u,
                                       0xC38D26C4u, 0xD3D3E1ABu, 0xE330A81Au, 0xF36E6F75u};
    const unsigned char* bytes = static_cast<const unsigned char*>(data);
    uint32_t crc = 0xFFFFFFFFu;
    for (size_t i = 0; i < size; ++i) {
        crc ^= bytes[i];
        crc = (crc >> 4) ^ table[crc & 15u];
        crc = (crc >> 4) ^ table[crc & 15u];
    }
    return crc ^ 0xFFFFFFFFu;
}

bool same(const char* a, const char* b) {
    while (*a != '\0' && *a == *b)
        ++a, ++b;
    return *a == *b;
}

/* Every instruction set that exists, built here or not: tells a typing error from a missing build. */
const char* const known_isas[] = {"avx512vnni", "avxvnni", "avx2", "sse41",     "amx",
                                  "i8mm",       "neondot", "neon", "armv7neon", "scalar"};

bool known(const char* isa) {
    for (const char* name : known_isas) {
        if (same(name, isa))
            return true;
    }
    return false;
}

bool equal(const int8_t* a, const int8_t* b, size_t count) {
    size_t i = 0;
    while (i < count && a[i] == b[i])
        ++i;
    return i == count;
}

constexpr size_t max_classes_on_stack = 4096; /* ir.MAX_CHANNELS */

} // namespace

extern "C" {

sedge_status sedge_init(sedge_model* model, const sedge_net* net, const char* isa, void* arena,
                        size_t bytes) {
    if (model == nullptr || net == nullptr || arena == nullptr)
        return SEDGE_E_NULL;
    model->net = nullptr;
    model->kernel = nullptr;
    model->arena = nullptr;
    if (net->abi != SEDGE_ABI_VERSION)
        return SEDGE_E_ABI;
    if (bytes < net->arena_bytes)
        return SEDGE_E_ARENA_SMALL;
    if ((reinterpret_cast<uintptr_t>(arena) & (net->arena_align - 1)) != 0) /* a power of two */
        return SEDGE_E_ARENA_ALIGN;
    const sedge_kernel* chosen = nullptr;
    for (size_t i = 0; i < net->kernel_count && chosen == nullptr; ++i) {
        const sedge_kernel* kernel = &net->kernels[i];
        if (isa == nullptr ? kernel->runnable() != 0 : same(kernel->isa, isa))
            chosen = kernel;
    }
    if (chosen == nullptr) {
        if (isa == nullptr)
            return SEDGE_E_ISA_NOT_RUNNABLE;
        return known(isa) ? SEDGE_E_ISA_NOT_BUILT : SEDGE_E_ISA_UNKNOWN;
    }
    if (chosen->runnable() == 0)
        return SEDGE_E_ISA_NOT_RUNNABLE;
    model->net = net;
    model->kernel = chosen;
    model->arena = arena;
    return SEDGE_OK;
}

sedge_status sedge_run(sedge_model* model, const int8_t* input, int8_t* logits) {
    if (model == nullptr || model->kernel == nullptr || input == nullptr || logits == nullptr)
        return SEDGE_E_NULL;
    model->kernel->run(input, logits, model->arena);
    return SEDGE_OK;
}

sedge_status sedge_self_test(sedge_model* model) {
    if (model == nullptr || model->kernel == nullptr)
        return SEDGE_E_NULL;
    const sedge_net* net = model->net;
    if (net->golden_count == 0 || net->classes > max_classes_on_stack)
        return SEDGE_E_SELF_TEST;
    int8_t logits[max_classes_on_stack];
    for (size_t i = 0; i < net->golden_count; ++i) {
        model->kernel->run(net->golden_inputs + i * net->input_len, logits, model->arena);
        if (!equal(logits, net->golden_outputs + i * net->classes, net->classes))
            return SEDGE_E_SELF_TEST;
    }
    return SEDGE_OK;
}

sedge_status sedge_scrub(sedge_model* model) {
    if (model == nullptr || model->kernel == nullptr)
        return SEDGE_E_NULL;
    const sedge_kernel* kernel = model->kernel;
    return crc32c(kernel->weights, kernel->weights_bytes) == kernel->weights_crc ? SEDGE_OK : SEDGE_E_WEIGHTS;
}

sedge_status sedge_trace(sedge_model* model, const int8_t* input, sedge_layer_fn fn, void* user) {
    if (model == nullptr || model->net == nullptr || input == nullptr || fn == nullptr)
        return SEDGE_E_NULL;
    if (model->net->trace == nullptr)
        return SEDGE_E_NO_TRACE;
    if (!same(model->kernel->isa, "scalar"))
        return SEDGE_E_NO_TRACE;
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
    }
    return "unknown status";
}
}
