/* libsedge C API: one quantised (or float32, the functions named _f32) 1-D network, run from caller-owned
 * memory.
 *
 * No heap, no mutable static state, no dependency but memcpy/memset. A generated model provides one
 * `sedge_net` constant; its sizes are macros of the generated header (SEDGE_<MODEL>_ARENA_BYTES and so on),
 * known before anything is compiled.
 *
 *     sedge_model m;
 *     alignas(SEDGE_M_ARENA_ALIGN) static uint8_t arena[SEDGE_M_ARENA_BYTES];
 *     if (sedge_init(&m, &sedge_net_m, NULL, arena, sizeof arena) != SEDGE_OK) ...;
 *     if (sedge_self_test(&m) != SEDGE_OK) ...;
 *     sedge_run(&m, input, logits);
 */
#ifndef LIBSEDGE_LIBSEDGE_H
#define LIBSEDGE_LIBSEDGE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SEDGE_ABI_VERSION 2u

#if defined(__GNUC__)
#define SEDGE_API __attribute__((visibility("default"))) /* compiled models hide everything else */
#else
#define SEDGE_API
#endif

/* Whether sedge_run_steps is there. Not on Cortex-M: it takes flash, and beside it g++ 12 compiles sedge_run
 * to a third more instructions (smlad); -DSEDGE_RUN_STEPS=1 asks for it. */
#if !defined(SEDGE_RUN_STEPS)
#if defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 'M'
#define SEDGE_RUN_STEPS 0
#else
#define SEDGE_RUN_STEPS 1
#endif
#endif

typedef enum sedge_status {
    SEDGE_OK = 0,
    SEDGE_E_NULL = 1,             /* a required pointer is NULL */
    SEDGE_E_ABI = 2,              /* the net was generated for another ABI version */
    SEDGE_E_ARENA_SMALL = 3,      /* fewer bytes than SEDGE_<MODEL>_ARENA_BYTES (to trace: _TRACE_BYTES) */
    SEDGE_E_ARENA_ALIGN = 4,      /* the arena is not aligned to SEDGE_<MODEL>_ARENA_ALIGN */
    SEDGE_E_ISA_UNKNOWN = 5,      /* no instruction set of that name exists */
    SEDGE_E_ISA_NOT_BUILT = 6,    /* it exists, but this net was built without it */
    SEDGE_E_ISA_NOT_RUNNABLE = 7, /* it was built, but this machine lacks it */
    SEDGE_E_SELF_TEST = 8,        /* an embedded golden vector did not come out bit for bit */
    SEDGE_E_WEIGHTS = 9,          /* the weights' CRC-32C does not hold */
    SEDGE_E_NO_TRACE = 10,        /* this kernel cannot show its layers (only the scalar one can) */
    SEDGE_E_NO_STEPS = 11         /* compiled with SEDGE_RUN_STEPS 0, without the code of sedge_run_steps */
} sedge_status;

/* Called by sedge_trace after each layer of the scalar kernel, with the layer's int8 output in
 * [channel][position] order. */
typedef void (*sedge_layer_fn)(void* user, const char* layer, const int8_t* data, size_t channels,
                               size_t length);

/* Called by sedge_run_steps after each step of a kernel. Steps bear the name of their last layer; a streamed
 * one is called in every round, a few rows at a time. */
typedef void (*sedge_step_fn)(void* user, const char* step);
typedef void (*sedge_run_steps_fn)(const int8_t* input, int8_t* logits, void* arena, sedge_step_fn done,
                                   void* user);
typedef void (*sedge_run_steps_fn_f32)(const float* input, float* logits, void* arena, sedge_step_fn done,
                                       void* user);

/* One way to run the net. `runnable` asks the CPU; `run` never fails. */
typedef struct sedge_kernel {
    const char* isa;
    int (*runnable)(void);
    void (*run)(const int8_t* input, int8_t* logits, void* arena);
    const void* weights; /* every constant this kernel reads: packed weights, biases, scales */
    size_t weights_bytes;
    uint32_t weights_crc; /* CRC-32C of those bytes */
} sedge_kernel;

typedef struct sedge_net {
    uint32_t abi;
    const char* name;
    const char* digest; /* sha256 of the model.onnx it was generated from, hex */
    size_t arena_bytes;
    size_t arena_align;
    size_t input_len;
    size_t classes;
    const sedge_kernel* kernels; /* fastest proven first; the last one is "scalar" */
    size_t kernel_count;
    const int8_t* golden_inputs;  /* [golden_count][input_len] */
    const int8_t* golden_outputs; /* [golden_count][classes] */
    size_t golden_count;
    void (*trace)(const int8_t* input, void* arena, sedge_layer_fn fn,
                  void* user); /* scalar kernel, or NULL */
    size_t trace_bytes;        /* arena that trace needs: it holds whole layers, which run may not */
    const sedge_run_steps_fn* run_steps; /* [kernel_count], or NULL */
} sedge_net;

typedef struct sedge_model {
    const sedge_net* net;
    const sedge_kernel* kernel;
    void* arena;
    size_t arena_bytes; /* as given to sedge_init */
} sedge_model;

/* isa NULL takes the first runnable kernel of the table; a name is a demand. */
SEDGE_API sedge_status sedge_init(sedge_model* model, const sedge_net* net, const char* isa, void* arena,
                                  size_t bytes);
SEDGE_API sedge_status sedge_run(sedge_model* model, const int8_t* input, int8_t* logits);
SEDGE_API sedge_status sedge_self_test(sedge_model* model);
SEDGE_API sedge_status sedge_scrub(sedge_model* model);
SEDGE_API sedge_status sedge_trace(sedge_model* model, const int8_t* input, sedge_layer_fn fn, void* user);
/* As sedge_run, the same bits in the same arena, with a place between the steps where a clock can be read.
 * A program that loads models (dlopen) looks for the function first: earlier ones of this ABI lack it. */
SEDGE_API sedge_status sedge_run_steps(sedge_model* model, const int8_t* input, int8_t* logits,
                                       sedge_step_fn done, void* user);
SEDGE_API const char* sedge_status_text(sedge_status status);

/* The same for a float32 net. Two instruction sets may differ in the last bits, so the golden vectors hold
 * within golden_tolerance times the largest golden logit. */
typedef struct sedge_kernel_f32 {
    const char* isa;
    int (*runnable)(void);
    void (*run)(const float* input, float* logits, void* arena);
    const void* weights;
    size_t weights_bytes;
    uint32_t weights_crc;
} sedge_kernel_f32;

typedef struct sedge_net_f32 {
    uint32_t abi;
    const char* name;
    const char* digest;
    size_t arena_bytes;
    size_t arena_align;
    size_t input_len;
    size_t classes;
    const sedge_kernel_f32* kernels;
    size_t kernel_count;
    const float* golden_inputs;
    const float* golden_outputs;
    size_t golden_count;
    float golden_tolerance;
    const sedge_run_steps_fn_f32* run_steps; /* [kernel_count], or NULL */
} sedge_net_f32;

typedef struct sedge_model_f32 {
    const sedge_net_f32* net;
    const sedge_kernel_f32* kernel;
    void* arena;
} sedge_model_f32;

SEDGE_API sedge_status sedge_init_f32(sedge_model_f32* model, const sedge_net_f32* net, const char* isa,
                                      void* arena, size_t bytes);
SEDGE_API sedge_status sedge_run_f32(sedge_model_f32* model, const float* input, float* logits);
SEDGE_API sedge_status sedge_self_test_f32(sedge_model_f32* model);
SEDGE_API sedge_status sedge_scrub_f32(sedge_model_f32* model);
SEDGE_API sedge_status sedge_run_steps_f32(sedge_model_f32* model, const float* input, float* logits,
                                           sedge_step_fn done, void* user);

/* A model compiled as a shared object exports this, and the functions above. */
SEDGE_API const sedge_net* sedge_net_entry(void);
SEDGE_API const sedge_net_f32* sedge_net_f32_entry(void);

#ifdef __cplusplus
}
#endif
#endif
