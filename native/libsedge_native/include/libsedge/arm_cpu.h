/* What an ARM CPU under Linux can run: the auxiliary vector, where there is one. */
#ifndef LIBSEDGE_ARM_CPU_H
#define LIBSEDGE_ARM_CPU_H

/* The vector kernels are written for little-endian lanes; a big-endian ARM runs the scalar kernel. */
#if defined(__GNUC__) && defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#if defined(__aarch64__)
#define SEDGE_AARCH64 1
#elif defined(__arm__) && __ARM_ARCH >= 7 && __ARM_ARCH_PROFILE == 'A' && defined(__ARM_PCS_VFP)
#define SEDGE_ARMV7A 1
#endif
#endif

#if defined(SEDGE_AARCH64) || defined(SEDGE_ARMV7A)

#if defined(__clang__)
#define SEDGE_KEEP_LOOP
#else /* gcc unrolls short loops over the taps completely and then loads every constant by its own address   \
       */
#define SEDGE_KEEP_LOOP _Pragma("GCC unroll 1")
#endif

/* Between two steps: gcc would load the weights of all steps first and run out of registers. */
#define SEDGE_KEEP_ORDER __asm__ volatile("" ::: "memory")

/* In every Linux C library; without one there is no such function and nothing beyond the baseline runs. */
extern "C" unsigned long getauxval(unsigned long type) __attribute__((weak));

namespace sedge {
namespace arm {

constexpr unsigned long at_hwcap = 16;
constexpr unsigned long at_hwcap2 = 26;
constexpr unsigned long hwcap_neon = 1UL << 12;    /* 32-bit ARM */
constexpr unsigned long hwcap_asimddp = 1UL << 20; /* AArch64 */
constexpr unsigned long hwcap2_i8mm = 1UL << 13;   /* AArch64 */

inline bool has(unsigned long bit) { return getauxval != nullptr && (getauxval(at_hwcap) & bit) != 0; }

inline bool has2(unsigned long bit) { return getauxval != nullptr && (getauxval(at_hwcap2) & bit) != 0; }

} // namespace arm
} // namespace sedge

#endif
#endif
