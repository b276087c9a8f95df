/* NEON with the matrix product of ARMv8.6 (smmla): two positions by two output channels, 32
 * multiply-accumulates an instruction; the dot product where windows do not slide. */
#ifndef LIBSEDGE_I8MM_H
#define LIBSEDGE_I8MM_H

#include "arm_cpu.h"
#include "requantise.h"

#if defined(SEDGE_AARCH64)
#define SEDGE_HAVE_i8mm 1

#include <arm_neon.h>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#define SEDGE_TARGET __attribute__((target("arch=armv8.2-a+dotprod+i8mm")))
#define SEDGE_INLINE SEDGE_TARGET __attribute__((always_inline)) inline
#define SEDGE_SIGNED_BYTES 1

namespace sedge {
namespace i8mm {

inline int runnable() { return arm::has(arm::hwcap_asimddp) && arm::has2(arm::hwcap2_i8mm) ? 1 : 0; }

#include "neon_common.inc"

#include "neon_dot.inc"

#define SEDGE_OWN_TILE "neon_pairs.inc"
#include "vector_net.inc"
#undef SEDGE_OWN_TILE

} // namespace i8mm
} // namespace sedge

#undef SEDGE_TARGET
#undef SEDGE_INLINE
#undef SEDGE_SIGNED_BYTES
#endif
#endif
