/* The M-profile vector extension (Helium) of Cortex-M55 and M85: sixteen products of int8 and their sum an
 * instruction (vmladava), four results requantised together. Not for parts whose Helium has no floats. */
#ifndef LIBSEDGE_MVE_H
#define LIBSEDGE_MVE_H

#include <cstddef>
#include <cstdint>

#include "requantise.h"

#if defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 2)
#define SEDGE_HAVE_mve 1

#include <arm_acle.h>
#include <arm_mve.h>
#include <cstring>
#include <utility>

#define SEDGE_TARGET
#define SEDGE_INLINE __attribute__((always_inline)) inline
#define SEDGE_SIGNED_BYTES 1
#define SEDGE_KEEP_LOOP
#define SEDGE_KEEP_ORDER

namespace sedge {
namespace mve {

inline int runnable() { return 1; } /* part of every CPU that this is compiled for */

#include "dsp_common.inc"

#define SEDGE_OWN_TILE "mve_tile.inc"
#include "vector_net.inc"
#undef SEDGE_OWN_TILE

} // namespace mve
} // namespace sedge

#undef SEDGE_TARGET
#undef SEDGE_INLINE
#undef SEDGE_SIGNED_BYTES
#undef SEDGE_KEEP_LOOP
#undef SEDGE_KEEP_ORDER
#endif
#endif
