/* What an x86 CPU and its operating system can run; CPUID and XGETBV, no library. */
#ifndef LIBSEDGE_X86_CPU_H
#define LIBSEDGE_X86_CPU_H

#if defined(__x86_64__) && defined(__GNUC__)
#define SEDGE_X86_64 1

#if defined(__clang__)
#define SEDGE_KEEP_LOOP
#else /* gcc 12 unrolls short loops over the taps completely and loses a quarter of the first layer's speed  \
       */
#define SEDGE_KEEP_LOOP _Pragma("GCC unroll 1")
#endif

/* Loads do not move across this. */
#define SEDGE_KEEP_ORDER __asm__ volatile("" ::: "memory")

#include <cpuid.h>
#include <cstdint>

namespace sedge {
namespace x86 {

struct Features {
    bool sse41 = false;
    bool avx2 = false;       /* with FMA, and the registers enabled by the system */
    bool avxvnni = false;    /* VNNI on 256-bit registers, VEX encoding */
    bool avx512 = false;     /* AVX-512 F */
    bool avx512dq = false;   /* AVX-512 F, BW, DQ and VL */
    bool avx512vnni = false; /* AVX-512 F, BW, VL and VNNI */
    bool amx = false;        /* AMX tiles and int8, and their registers enabled by the system */
};

inline Features features() {
    Features found;
    unsigned a = 0;
    unsigned b = 0;
    unsigned c = 0;
    unsigned d = 0;
    if (__get_cpuid(1, &a, &b, &c, &d) == 0)
        return found;
    found.sse41 = (c >> 19 & 1U) != 0;
    const bool osxsave = (c >> 27 & 1U) != 0;
    const bool fma = (c >> 12 & 1U) != 0;
    if (!osxsave)
        return found;
    uint32_t low = 0;
    uint32_t high = 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    const bool ymm = (low & 0x06U) == 0x06U;
    const bool zmm = (low & 0xE6U) == 0xE6U;
    const bool tiles = (low & 0x60000U) == 0x60000U;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0)
        return found;
    const unsigned subleaves = a;
    found.avx2 = ymm && fma && (b >> 5 & 1U) != 0;
    const bool f = (b >> 16 & 1U) != 0;
    found.avx512 = found.avx2 && zmm && f;
    const bool bw = (b >> 30 & 1U) != 0;
    const bool vl = (b >> 31 & 1U) != 0;
    found.avx512dq = found.avx512 && bw && vl && (b >> 17 & 1U) != 0;
    found.amx = tiles && (d >> 24 & 1U) != 0 && (d >> 25 & 1U) != 0;
    found.avx512vnni = found.avx2 && zmm && f && bw && vl && (c >> 11 & 1U) != 0;
    if (subleaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0) {
        found.avxvnni = found.avx2 && (a >> 4 & 1U) != 0;
    }
    return found;
}

} // namespace x86
} // namespace sedge

#endif
#endif
