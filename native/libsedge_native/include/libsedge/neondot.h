/* NEON with the dot product of ARMv8.2: 4 output channels a register, 16 multiply-accumulates an instruction.
 */
#ifndef LIBSEDGE_NEONDOT_H
#define LIBSEDGE_NEONDOT_H

#include "arm_cpu.h"
#include "requantise.h"

#if defined(SEDGE_AARCH64)
#define SEDGE_HAVE_neondot 1

#include <arm_neon.h>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#define SEDGE_TARGET __attribute__((target("arch=armv8.2-a+dotprod")))
#define SEDGE_INLINE SEDGE_TARGET __attribute__((always_inline)) inline
#define SEDGE_SIGNED_BYTES 1

namespace sedge {
namespace neondot {

inline int runnable() { return arm::has(arm::hwcap_asimddp) ? 1 : 0; }

#include "neon_common.inc"

#include "neon_dot.inc"

#define SEDGE_OWN_TILE "neon_lanes.inc"
#include "vector_net.inc"
#undef SEDGE_OWN_TILE

} // namespace neondot
} // namespace sedge

#undef SEDGE_TARGET
#undef SEDGE_INLINE
#undef SEDGE_SIGNED_BYTES
#endif
#endif
