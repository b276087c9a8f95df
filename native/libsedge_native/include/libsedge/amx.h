/* AMX int8: 16 positions times 16 output channels a tile, 16,384 multiply-accumulates an instruction. Layers
 * too small for whole tiles, and everything that is no convolution, run on the AVX-512 VNNI kernel, with the
 * same activations in memory. */
#ifndef LIBSEDGE_AMX_H
#define LIBSEDGE_AMX_H

#include "avx512vnni.h"

#if defined(SEDGE_HAVE_avx512vnni) && defined(__linux__)
#define SEDGE_HAVE_amx 1

#if !defined(__clang__) && __GNUC__ < 13 /* as in avx512vnni.h */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#define SEDGE_QUIET 1
#endif

#define SEDGE_TARGET __attribute__((target("avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni")))
#define SEDGE_INLINE SEDGE_TARGET __attribute__((always_inline)) inline

namespace sedge {
namespace amx {

using namespace avx512vnni; /* registers and how they are requantised and stored */
using avx512vnni::average;
using avx512vnni::conv1d;
using avx512vnni::max_pool;
using avx512vnni::sum;

/* The system hands out the 8 KiB of tile registers on demand (Linux: arch_prctl(ARCH_REQ_XCOMP_PERM, 18), for
 * the whole process and for good). A system call and nothing else: no library, no memory. */
inline bool request_tiles() {
    long result = 158; /* arch_prctl */
    __asm__ volatile("syscall" : "+a"(result) : "D"(0x1023L), "S"(18L) : "rcx", "r11", "memory");
    return result == 0;
}

inline int runnable() {
    const x86::Features found = x86::features();
    return found.avx512vnni && found.amx && request_tiles() ? 1 : 0;
}

/* What ldtilecfg reads: eight tiles of 16 rows times 64 bytes. */
struct alignas(64) TileConfig {
    uint8_t palette;
    uint8_t start_row;
    uint8_t reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

constexpr TileConfig tile_config = {
    1, 0, {}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};

/* Assembly, because the intrinsics need a newer compiler than the instructions need an assembler. */
#define SEDGE_TILE_ZERO(tile) __asm__ volatile("tilezero %%tmm" #tile::)
#define SEDGE_TILE_LOAD(tile, base, stride)                                                                  \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #tile::"r"(base), "r"(stride) : "memory")
#define SEDGE_TILE_STORE(tile, base, stride)                                                                 \
    __asm__ volatile("tilestored %%tmm" #tile ", (%0,%1,1)" ::"r"(base), "r"(stride) : "memory")
/* to += a (unsigned bytes) times b (signed bytes) */
#define SEDGE_TILE_DOT(to, a, b) __asm__ volatile("tdpbusd %%tmm" #b ", %%tmm" #a ", %%tmm" #to::)

constexpr size_t tile_rows = 16;
constexpr size_t block_rows = 2 * tile_rows; /* positions at a time */

/* Tiles are configured for one run of the net: the first step does it, the last one gives them back. */
template <class S>
SEDGE_TARGET void input(const int8_t* x, uint8_t* y) {
    __asm__ volatile("ldtilecfg %0" ::"m"(tile_config));
    avx512vnni::input<S>(x, y);
}

template <class S>
SEDGE_TARGET void output(const uint8_t* x, int8_t* y) {
    __asm__ volatile("tilerelease" ::);
    avx512vnni::output<S>(x, y);
}

/* Accumulators of 32 positions times Vectors registers of channels into tiles 0 to 3. A window is read as
 * whole rows of 64 bytes; behind its end the weights are zero. */
template <class S, size_t Vectors>
SEDGE_INLINE void multiply(const uint8_t* x, const WeightItem* weight) {
    constexpr size_t steps = static_cast<size_t>(S::run_steps) / 16;
    constexpr size_t next = static_cast<size_t>(S::runs) * S::run_steps * lanes * 4; /* panel */
    constexpr size_t line = 64;
    constexpr size_t stride = S::x_stride;
    SEDGE_TILE_ZERO(0);
    SEDGE_TILE_ZERO(2);
    if constexpr (Vectors == 2) {
        SEDGE_TILE_ZERO(1);
        SEDGE_TILE_ZERO(3);
    }
    for (size_t run = 0; run < S::runs; ++run) {
        for (size_t i = 0; i < steps; ++i) {
            const uint8_t* a = x + run * S::run_stride + i * line;
            SEDGE_TILE_LOAD(6, weight, line);
            SEDGE_TILE_LOAD(4, a, stride);
            SEDGE_TILE_DOT(0, 4, 6);
            SEDGE_TILE_LOAD(5, a + tile_rows * stride, stride);
            SEDGE_TILE_DOT(2, 5, 6);
            if constexpr (Vectors == 2) {
                SEDGE_TILE_LOAD(7, weight + next, line);
                SEDGE_TILE_DOT(1, 4, 7);
                SEDGE_TILE_DOT(3, 5, 7);
            }
            weight += tile_rows * line;
        }
    }
}

/* Tiles 0 to 3 to int32 [32 positions][Vectors * 16 channels]. */
template <size_t Vectors>
SEDGE_INLINE void store_tiles(int32_t* acc) {
    constexpr size_t stride = Vectors * lanes * sizeof(int32_t);
    SEDGE_TILE_STORE(0, acc, stride);
    SEDGE_TILE_STORE(2, acc + tile_rows * Vectors * lanes, stride);
    if constexpr (Vectors == 2) {
        SEDGE_TILE_STORE(1, acc + lanes, stride);
        SEDGE_TILE_STORE(3, acc + (tile_rows * Vectors + 1) * lanes, stride);
    }
}

/* The constants of one register of channels. */
struct Scale {
    Acc bias;
    Real multiplier;
    Real offset;
};

SEDGE_INLINE Scale load_scale(const int32_t* bias, const float* multiplier, const float* offset) {
    return {load_acc(bias), load_real(multiplier), load_real(offset)};
}

/* One pooled position of one register of channels: the largest accumulator, scaled and rounded. */
template <class S, size_t Vectors>
SEDGE_INLINE Acc settle(const int32_t* acc, const Scale& scale) {
    Acc best = load_acc(acc);
    for (size_t j = 1; j < S::pool; ++j)
        best = max(best, load_acc(acc + j * Vectors * lanes));
    best = _mm512_add_epi32(best, scale.bias);
    if constexpr (S::biased != 0) {
        return scale_biased(best, scale.multiplier, scale.offset);
    } else {
        return scale_plain(best, scale.multiplier);
    }
}

/* 32 positions from `acc` to y, channels in order. */
template <class S>
SEDGE_INLINE void write_pair(const int32_t* acc, uint8_t* y, const Scale& first, const Scale& second) {
    constexpr size_t row = static_cast<size_t>(S::pool) * 2 * lanes; /* accumulators of a pooled position */
    for (size_t j = 0; j < block_rows / S::pool; j += 2) {
        const Acc a = settle<S, 2>(acc + j * row, first);
        const Acc b = settle<S, 2>(acc + j * row + lanes, second);
        const Acc c = settle<S, 2>(acc + (j + 1) * row, first);
        const Acc d = settle<S, 2>(acc + (j + 1) * row + lanes, second);
        if constexpr (S::channels == 2 * lanes) {
            store4<S::y_zero, S::y_low>(y + j * S::channels, a, b, c, d);
        } else {
            store2<S::y_zero, S::y_low>(y + j * S::channels, y + (j + 1) * S::channels, a, b, c, d);
        }
    }
}

template <class S>
SEDGE_INLINE void write_one(const int32_t* acc, uint8_t* y, const Scale& scale) {
    constexpr size_t row = static_cast<size_t>(S::pool) * lanes;
    for (size_t j = 0; j < block_rows / S::pool; j += 4) {
        const Acc a = settle<S, 1>(acc + j * row, scale);
        const Acc b = settle<S, 1>(acc + (j + 1) * row, scale);
        const Acc c = settle<S, 1>(acc + (j + 2) * row, scale);
        const Acc d = settle<S, 1>(acc + (j + 3) * row, scale);
        if constexpr (S::channels == lanes) {
            store4<S::y_zero, S::y_low>(y + j * S::channels, a, b, c, d);
        } else {
            store1<S::y_zero, S::y_low>(y + j * S::channels, a);
            store1<S::y_zero, S::y_low>(y + (j + 1) * S::channels, b);
            store1<S::y_zero, S::y_low>(y + (j + 2) * S::channels, c);
            store1<S::y_zero, S::y_low>(y + (j + 3) * S::channels, d);
        }
    }
}

/* Adds the pooled positions from `skip` on, of register V of Vectors, to its sums. */
template <class S, size_t Vectors>
SEDGE_INLINE void add_positions(const int32_t* acc, int32_t* sums, const Scale& scale, size_t skip) {
    constexpr size_t row = static_cast<size_t>(S::pool) * Vectors * lanes;
    constexpr size_t positions = block_rows / S::pool;
    Acc total = load_acc(sums);
    size_t j = skip;
    for (; j % 4 != 0; ++j) {
        const Acc a = settle<S, Vectors>(acc + j * row, scale);
        total = add4<S::y_zero, S::y_low, 1>(total, a, a, a, a);
    }
    for (; j < positions; j += 4) {
        const Acc a = settle<S, Vectors>(acc + j * row, scale);
        const Acc b = settle<S, Vectors>(acc + (j + 1) * row, scale);
        const Acc c = settle<S, Vectors>(acc + (j + 2) * row, scale);
        const Acc d = settle<S, Vectors>(acc + (j + 3) * row, scale);
        total = add4<S::y_zero, S::y_low, 4>(total, a, b, c, d);
    }
    store_acc(sums, total);
}

/* All positions of Vectors registers of channels. Blocks of 32 positions: while the tiles of one are
 * multiplied, the accumulators of the one before are requantised. The last block ends at the last position
 * and may overlap the one before: the same values are written twice, or not added twice. */
template <class S, size_t Vectors>
SEDGE_TARGET void tile_panel(const uint8_t* x, uint8_t* y, const WeightItem* weight, const int32_t* bias,
                             const float* multiplier, const float* offset) {
    constexpr size_t total = static_cast<size_t>(S::out_length) * S::pool;
    constexpr size_t blocks = (total + block_rows - 1) / block_rows;
    static_assert(total >= block_rows && block_rows % S::pool == 0 && S::pool <= 8, "chosen by the passes");
    alignas(64) int32_t acc[block_rows * Vectors * lanes];
    const Scale first = load_scale(bias, multiplier, offset);
    const Scale second = Vectors == 2 ? load_scale(bias + lanes, multiplier + lanes, offset + lanes) : first;
    for (size_t i = 0; i <= blocks; ++i) {
        const size_t start = i + 1 < blocks ? i * block_rows : total - block_rows;
        if (i < blocks)
            multiply<S, Vectors>(x + start * S::x_stride, weight);
        if (i > 0) {
            const size_t before = i < blocks ? (i - 1) * block_rows : total - block_rows;
            if constexpr (S::sum != 0) {
                const size_t skip = ((i - 1) * block_rows - before) / S::pool;
                auto* sums = reinterpret_cast<int32_t*>(y);
                add_positions<S, Vectors>(acc, sums, first, skip);
                if constexpr (Vectors == 2)
                    add_positions<S, Vectors>(acc + lanes, sums + lanes, second, skip);
            } else if constexpr (Vectors == 2) {
                write_pair<S>(acc, y + before / S::pool * S::channels, first, second);
            } else {
                write_one<S>(acc, y + before / S::pool * S::channels, first);
            }
        }
        if (i < blocks)
            store_tiles<Vectors>(acc);
    }
}

/* As avx512vnni::conv1d. Weights [register of channels][step of 64 bytes][16][lane][4]. */
template <class S, class Y>
SEDGE_TARGET void conv1d_tiles(const uint8_t* x, Y* target, const WeightItem* weight, const int32_t* bias,
                               const float* multiplier, const float* offset) {
    constexpr size_t registers = S::channels / lanes;
    constexpr size_t next = static_cast<size_t>(S::runs) * S::run_steps * lanes * 4;
    constexpr size_t item = S::sum != 0 ? sizeof(int32_t) : 1;
    auto* y = reinterpret_cast<uint8_t*>(target);
    if constexpr (S::sum != 0) {
        std::memset(y, 0, S::channels * sizeof(int32_t));
    } else {
        if constexpr (S::y_left > 0)
            std::memset(y, S::y_zero, S::y_left * S::channels);
        y += S::y_left * S::channels;
        constexpr size_t after = S::y_right * S::channels + S::y_slack;
        if constexpr (after > 0)
            std::memset(y + S::out_length * S::channels, S::y_zero, after);
    }
    size_t v = 0;
    for (; v + 2 <= registers; v += 2) {
        tile_panel<S, 2>(x, y + v * lanes * item, weight + v * next, bias + v * lanes, multiplier + v * lanes,
                         offset + v * lanes);
    }
    if constexpr (registers % 2 != 0) {
        tile_panel<S, 1>(x, y + v * lanes * item, weight + v * next, bias + v * lanes, multiplier + v * lanes,
                         offset + v * lanes);
    }
}

} // namespace amx
} // namespace sedge

#undef SEDGE_TILE_ZERO
#undef SEDGE_TILE_LOAD
#undef SEDGE_TILE_STORE
#undef SEDGE_TILE_DOT
#if defined(SEDGE_QUIET)
#pragma GCC diagnostic pop
#undef SEDGE_QUIET
#endif
#undef SEDGE_TARGET
#undef SEDGE_INLINE
#endif
#endif
