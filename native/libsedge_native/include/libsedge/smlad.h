/* The DSP extension of Cortex-M4, M7 and their like: two products of 16 bits an instruction. */
#ifndef LIBSEDGE_SMLAD_H
#define LIBSEDGE_SMLAD_H

#include <cstddef>
#include <cstdint>

#include "requantise.h"

#if defined(__ARM_FEATURE_DSP) && defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 'M'
#define SEDGE_HAVE_smlad 1

#include <arm_acle.h>
#include <cstring>
#include <utility>

#define SEDGE_TARGET
#define SEDGE_INLINE __attribute__((always_inline)) inline
#define SEDGE_SIGNED_BYTES 1
#define SEDGE_KEEP_LOOP
#define SEDGE_KEEP_ORDER

namespace sedge {
namespace smlad {

inline int runnable() { return 1; } /* part of every CPU that this is compiled for */

#include "dsp_common.inc"

#include "vector_net.inc"

} // namespace smlad
} // namespace sedge

#undef SEDGE_TARGET
#undef SEDGE_INLINE
#undef SEDGE_SIGNED_BYTES
#undef SEDGE_KEEP_LOOP
#undef SEDGE_KEEP_ORDER
#endif
#endif
