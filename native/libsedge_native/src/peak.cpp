/* Register-only loops: the most multiply-accumulates a second that one core gives. Each function runs `count`
 * rounds of independent accumulations and returns a value that keeps them alive. */
#include <cstdint>
#include <cstring>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ZMM_DOT(n) __asm__ volatile("vpdpbusd %%zmm30, %%zmm31, %%zmm" #n::: "xmm" #n)
#define YMM_DOT(n) __asm__ volatile("%{vex%} vpdpbusd %%ymm14, %%ymm15, %%ymm" #n::: "xmm" #n)
#define ZMM_FMA(n) __asm__ volatile("vfmadd231ps %%zmm30, %%zmm31, %%zmm" #n::: "xmm" #n)
#define YMM_FMA(n) __asm__ volatile("vfmadd231ps %%ymm14, %%ymm15, %%ymm" #n::: "xmm" #n)
#define TEN(op)                                                                                              \
    op(0);                                                                                                   \
    op(1);                                                                                                   \
    op(2);                                                                                                   \
    op(3);                                                                                                   \
    op(4);                                                                                                   \
    op(5);                                                                                                   \
    op(6);                                                                                                   \
    op(7);                                                                                                   \
    op(8);                                                                                                   \
    op(9)

extern "C" {

/* 10 x 64 multiply-accumulates a round. */
__attribute__((target("avx512f"))) void peak_vnni_zmm(uint64_t count) {
    __asm__ volatile("vpxord %%zmm30, %%zmm30, %%zmm30\n\tvpxord %%zmm31, %%zmm31, %%zmm31" ::
                         : "xmm30", "xmm31");
    for (uint64_t i = 0; i < count; ++i) {
        TEN(ZMM_DOT);
    }
}

/* 10 x 32. */
__attribute__((target("avx2"))) void peak_vnni_ymm(uint64_t count) {
    __asm__ volatile("vpxor %%ymm14, %%ymm14, %%ymm14\n\tvpxor %%ymm15, %%ymm15, %%ymm15" ::
                         : "xmm14", "xmm15");
    for (uint64_t i = 0; i < count; ++i) {
        TEN(YMM_DOT);
    }
}

/* 10 x 16: vpmaddwd and vpaddd, the exact 8-bit product without VNNI. */
__attribute__((target("avx2"))) void peak_madd_ymm(uint64_t count) {
    __asm__ volatile("vpxor %%ymm14, %%ymm14, %%ymm14\n\tvpxor %%ymm15, %%ymm15, %%ymm15" ::
                         : "xmm14", "xmm15");
#define MADD(n)                                                                                              \
    __asm__ volatile("vpmaddwd %%ymm14, %%ymm15, %%ymm13\n\tvpaddd %%ymm13, %%ymm" #n ", %%ymm" #n::         \
                         : "xmm13", "xmm" #n)
    for (uint64_t i = 0; i < count; ++i) {
        TEN(MADD);
    }
}

/* 10 x 16 and 10 x 8 float32. */
__attribute__((target("avx512f"))) void peak_fma_zmm(uint64_t count) {
    __asm__ volatile("vpxord %%zmm30, %%zmm30, %%zmm30\n\tvpxord %%zmm31, %%zmm31, %%zmm31" ::
                         : "xmm30", "xmm31");
    for (uint64_t i = 0; i < count; ++i) {
        TEN(ZMM_FMA);
    }
}

__attribute__((target("avx2,fma"))) void peak_fma_ymm(uint64_t count) {
    __asm__ volatile("vpxor %%ymm14, %%ymm14, %%ymm14\n\tvpxor %%ymm15, %%ymm15, %%ymm15" ::
                         : "xmm14", "xmm15");
    for (uint64_t i = 0; i < count; ++i) {
        TEN(YMM_FMA);
    }
}

/* 4 x 16 x 16 x 64: tdpbssd on four independent tiles. */
__attribute__((target("amx-tile,amx-int8"))) void peak_amx(uint64_t count) {
    struct alignas(64) {
        uint8_t palette, start, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config;
    std::memset(&config, 0, sizeof config);
    config.palette = 1;
    for (int i = 0; i < 8; ++i) {
        config.row_bytes[i] = 64;
        config.rows[i] = 16;
    }
    /* Not the intrinsic: gcc 12's names only the first eight bytes as read. */
    __asm__ volatile("ldtilecfg %0" ::"m"(config));
    _tile_zero(4);
    _tile_zero(5);
    _tile_zero(6);
    _tile_zero(7);
    for (uint64_t i = 0; i < count; ++i) {
        _tile_dpbssd(0, 4, 6);
        _tile_dpbssd(1, 4, 7);
        _tile_dpbssd(2, 5, 6);
        _tile_dpbssd(3, 5, 7);
    }
    _tile_release();
}

/* Reads `bytes` (a multiple of 512) once, in order: what a layer that is all weights can do at most. */
__attribute__((target("avx512f"))) void peak_read(const uint8_t* data, uint64_t bytes) {
    for (uint64_t i = 0; i < bytes; i += 512) {
        const uint8_t* p = data + i;
        __asm__ volatile(
            "vmovdqu64 (%0), %%zmm0\n\tvmovdqu64 64(%0), %%zmm1\n\tvmovdqu64 128(%0), %%zmm2\n\t"
            "vmovdqu64 192(%0), %%zmm3\n\tvmovdqu64 256(%0), %%zmm4\n\tvmovdqu64 320(%0), %%zmm5\n\t"
            "vmovdqu64 384(%0), %%zmm6\n\tvmovdqu64 448(%0), %%zmm7" ::"r"(p)
            : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "memory");
    }
}

/* Whether AMX tile data may be used by this process (Linux: ARCH_REQ_XCOMP_PERM). */
int allow_amx(void) { return syscall(SYS_arch_prctl, 0x1023, 18) == 0; }
}
