/* What the C API does alike for int8 and for float32 nets. Internal: only model_api.cpp and float_api.cpp
 * include it.
 */
#ifndef LIBSEDGE_API_COMMON_H
#define LIBSEDGE_API_COMMON_H

#include "libsedge.h"

namespace sedge {

/* CRC-32C (Castagnoli, reflected), four bits at a time: 64 bytes of table; scrubbing is not a hot path. */
inline uint32_t crc32c(const void* data, size_t size) {
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

inline bool same_name(const char* a, const char* b) {
    while (*a != '\0' && *a == *b)
        ++a, ++b;
    return *a == *b;
}

/* Every instruction set that exists, built here or not: tells a typing error from a missing build. */
const char* const known_isas[] = {"avx512vnni", "avxvnni",   "avx2", "sse41", "amx",    "i8mm",  "neondot",
                                  "neon",       "armv7neon", "mve",  "smlad", "avx512", "scalar"};

inline bool known(const char* isa) {
    for (const char* name : known_isas) {
        if (same_name(name, isa))
            return true;
    }
    return false;
}

/* Model and Net are the structs of one precision. */
template <class Model, class Net>
inline sedge_status init(Model* model, const Net* net, const char* isa, void* arena, size_t bytes) {
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
    decltype(net->kernels) chosen = nullptr;
    for (size_t i = 0; i < net->kernel_count && chosen == nullptr; ++i) {
        decltype(net->kernels) kernel = &net->kernels[i];
        if (isa == nullptr ? kernel->runnable() != 0 : same_name(kernel->isa, isa))
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

template <class Model, class Value>
inline sedge_status run(Model* model, const Value* input, Value* logits) {
    if (model == nullptr || model->kernel == nullptr || input == nullptr || logits == nullptr)
        return SEDGE_E_NULL;
    model->kernel->run(input, logits, model->arena);
    return SEDGE_OK;
}

template <class Model, class Value>
inline sedge_status run_steps(Model* model, const Value* input, Value* logits, sedge_step_fn done,
                              void* user) {
    if (model == nullptr || model->kernel == nullptr || input == nullptr || logits == nullptr ||
        done == nullptr)
        return SEDGE_E_NULL;
    const auto* net = model->net;
    if (net->run_steps == nullptr)
        return SEDGE_E_NO_STEPS;
    net->run_steps[model->kernel - net->kernels](input, logits, model->arena, done, user);
    return SEDGE_OK;
}

constexpr size_t max_classes_on_stack = 4096; /* ir.MAX_CHANNELS */

/* Runs the embedded golden vectors; same(got, wanted, net) compares the logits of one. */
template <class Value, class Model, class Same>
inline sedge_status self_test(Model* model, Same same) {
    if (model == nullptr || model->kernel == nullptr)
        return SEDGE_E_NULL;
    const auto* net = model->net;
    if (net->golden_count == 0 || net->classes > max_classes_on_stack)
        return SEDGE_E_SELF_TEST;
    Value logits[max_classes_on_stack];
    for (size_t i = 0; i < net->golden_count; ++i) {
        model->kernel->run(net->golden_inputs + i * net->input_len, logits, model->arena);
        if (!same(logits, net->golden_outputs + i * net->classes, *net))
            return SEDGE_E_SELF_TEST;
    }
    return SEDGE_OK;
}

template <class Model>
inline sedge_status scrub(const Model* model) {
    if (model == nullptr || model->kernel == nullptr)
        return SEDGE_E_NULL;
    const auto& kernel = *model->kernel;
    return crc32c(kernel.weights, kernel.weights_bytes) == kernel.weights_crc ? SEDGE_OK : SEDGE_E_WEIGHTS;
}

} // namespace sedge

#endif
