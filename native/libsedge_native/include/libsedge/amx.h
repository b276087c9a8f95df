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
SEDGE_TARGET void input_rows(const int8_t* x, Line& y, size_t rows) {
    if (y.made == 0)
        __asm__ volatile("ldtilecfg %0" ::"m"(tile_config));
    avx512vnni::input_rows<S>(x, y, rows);
}

template <class S>
SEDGE_TARGET void output(const uint8_t* x, int8_t* y) {
    __asm__ volatile("tilerelease" ::);
    avx512vnni::output<S>(x, y);
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

/* A block of 32 positions whose accumulators wait to be requantised. */
struct Pending {
    const int32_t* acc;
    uint8_t* y; /* its first position */
    Scale first;
    Scale second; /* of the second register of channels, if there is one */
    Acc first_sum;
    Acc second_sum;
};

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

/* Pooled positions of a block, and how many of them are settled at a time: four registers, to be packed. */
template <class S>
constexpr size_t block_positions = block_rows / S::pool;
template <class S, size_t Vectors>
constexpr size_t group_positions = S::sum == 0 && Vectors == 2 ? 2 : 4;

/* The pooled positions from j on: to y, or added to the sums. */
template <class S, size_t Vectors>
SEDGE_INLINE void settle_group(Pending& block, size_t j) {
    constexpr size_t row = static_cast<size_t>(S::pool) * Vectors * lanes; /* of a pooled position */
    const int32_t* const acc = block.acc + j * row;
    uint8_t* const y = block.y + j * S::channels;
    const Acc a = settle<S, Vectors>(acc, block.first);
    const Acc b = settle<S, Vectors>(acc + row, block.first);
    if constexpr (group_positions<S, Vectors> == 2) {
        const Acc c = settle<S, Vectors>(acc + lanes, block.second);
        const Acc d = settle<S, Vectors>(acc + row + lanes, block.second);
        if constexpr (S::channels == 2 * lanes) {
            store4<S::y_zero, S::y_low>(y, a, c, b, d);
        } else {
            store2<S::y_zero, S::y_low>(y, y + S::channels, a, c, b, d);
        }
        return;
    }
    const Acc c = settle<S, Vectors>(acc + 2 * row, block.first);
    const Acc d = settle<S, Vectors>(acc + 3 * row, block.first);
    if constexpr (S::sum != 0) {
        block.first_sum = add4<S::y_zero, S::y_low, 4>(block.first_sum, a, b, c, d);
        if constexpr (Vectors == 2) {
            block.second_sum =
                add4<S::y_zero, S::y_low, 4>(block.second_sum, settle<S, Vectors>(acc + lanes, block.second),
                                             settle<S, Vectors>(acc + row + lanes, block.second),
                                             settle<S, Vectors>(acc + 2 * row + lanes, block.second),
                                             settle<S, Vectors>(acc + 3 * row + lanes, block.second));
        }
    } else if constexpr (S::channels == lanes) {
        store4<S::y_zero, S::y_low>(y, a, b, c, d);
    } else {
        store1<S::y_zero, S::y_low>(y, a);
        store1<S::y_zero, S::y_low>(y + S::channels, b);
        store1<S::y_zero, S::y_low>(y + 2 * S::channels, c);
        store1<S::y_zero, S::y_low>(y + 3 * S::channels, d);
    }
}

/* Everything from pooled position j on. A sum may begin inside a group. */
template <class S, size_t Vectors>
SEDGE_INLINE void settle_rest(Pending& block, size_t j) {
    constexpr size_t row = static_cast<size_t>(S::pool) * Vectors * lanes;
    if constexpr (S::sum != 0) {
        for (; j % group_positions<S, Vectors> != 0; ++j) {
            const Acc a = settle<S, Vectors>(block.acc + j * row, block.first);
            block.first_sum = add4<S::y_zero, S::y_low, 1>(block.first_sum, a, a, a, a);
            if constexpr (Vectors == 2) {
                const Acc b = settle<S, Vectors>(block.acc + j * row + lanes, block.second);
                block.second_sum = add4<S::y_zero, S::y_low, 1>(block.second_sum, b, b, b, b);
            }
        }
    }
    for (; j < block_positions<S>; j += group_positions<S, Vectors>)
        settle_group<S, Vectors>(block, j);
}

/* Accumulators of 32 positions times Vectors registers of channels into tiles 0 to 3. A window is read as
 * whole rows of 64 bytes; behind its end the weights are zero. Between the products, which take 16 cycles
 * each, the block before is settled. */
template <class S, size_t Vectors, bool Settle>
SEDGE_INLINE void multiply(const uint8_t* x, const WeightItem* weight, Pending& before) {
    constexpr size_t steps = static_cast<size_t>(S::run_steps) / 16;
    constexpr size_t next = static_cast<size_t>(S::runs) * S::run_steps * lanes * 4; /* panel */
    constexpr size_t line = 64;
    constexpr size_t stride = S::x_stride;
    constexpr size_t group = group_positions<S, Vectors>;
    constexpr size_t products = steps * S::runs * 2 * Vectors;
    constexpr size_t between = (block_positions<S> / group + products - 1) / products; /* groups a product */
    size_t settled = 0;
#define SEDGE_SETTLE                                                                                         \
    if constexpr (Settle) {                                                                                  \
        for (size_t g = 0; g < between; ++g) {                                                               \
            if (settled < block_positions<S>)                                                                \
                settle_group<S, Vectors>(before, settled);                                                   \
            settled += group;                                                                                \
        }                                                                                                    \
    }
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
            SEDGE_SETTLE
            SEDGE_TILE_LOAD(5, a + tile_rows * stride, stride);
            SEDGE_TILE_DOT(2, 5, 6);
            SEDGE_SETTLE
            if constexpr (Vectors == 2) {
                SEDGE_TILE_LOAD(7, weight + next, line);
                SEDGE_TILE_DOT(1, 4, 7);
                SEDGE_SETTLE
                SEDGE_TILE_DOT(3, 5, 7);
                SEDGE_SETTLE
            }
            weight += tile_rows * line;
        }
    }
#undef SEDGE_SETTLE
}

/* `rows` positions, at least one block, of Vectors registers of channels, in blocks of 32. The last block
 * ends at the last position and may overlap the one before: the same values are written twice, or not added
 * twice. */
template <class S, size_t Vectors>
SEDGE_TARGET void tile_panel(const uint8_t* x, uint8_t* y, size_t rows, const WeightItem* weight,
                             const int32_t* bias, const float* multiplier, const float* offset) {
    static_assert(block_rows % S::pool == 0 && S::pool <= 8, "chosen by the passes");
    const size_t total = rows * S::pool;
    const size_t blocks = (total + block_rows - 1) / block_rows;
    const size_t last = total - block_rows; /* where the last block begins */
    constexpr size_t second = Vectors == 2 ? lanes : 0;
    alignas(64) int32_t acc[block_rows * Vectors * lanes];
    Pending before = {acc,
                      y,
                      load_scale(bias, multiplier, offset),
                      load_scale(bias + second, multiplier + second, offset + second),
                      _mm512_setzero_si512(),
                      _mm512_setzero_si512()};
    auto* const sums = reinterpret_cast<int32_t*>(y);
    if constexpr (S::sum != 0) {
        before.first_sum = load_acc(sums);
        before.second_sum = load_acc(sums + second);
    }
    constexpr size_t y_block = S::sum != 0 ? 0 : block_positions<S> * S::channels;
    multiply<S, Vectors, false>(x + (blocks > 1 ? 0 : last) * S::x_stride, weight, before);
    store_tiles<Vectors>(acc);
    for (size_t i = 1; i < blocks; ++i) {
        const size_t start = i + 1 < blocks ? i * block_rows : last;
        multiply<S, Vectors, true>(x + start * S::x_stride, weight, before);
        store_tiles<Vectors>(acc);
        before.y += y_block;
    }
    if constexpr (S::sum != 0) {
        settle_rest<S, Vectors>(before, ((blocks - 1) * block_rows - last) / S::pool);
        store_acc(sums, before.first_sum);
        if constexpr (Vectors == 2)
            store_acc(sums + lanes, before.second_sum);
    } else {
        before.y = y + last / S::pool * S::channels;
        settle_rest<S, Vectors>(before, 0);
    }
}

/* As avx512vnni::panels. Weights [register of channels][step of 64 bytes][16][lane][4]. */
template <class S>
SEDGE_TARGET void tile_panels(const uint8_t* x, uint8_t* y, size_t rows, const WeightItem* weight,
                              const int32_t* bias, const float* multiplier, const float* offset) {
    constexpr size_t registers = S::channels / lanes;
    constexpr size_t next = static_cast<size_t>(S::runs) * S::run_steps * lanes * 4;
    constexpr size_t item = S::sum != 0 ? sizeof(int32_t) : 1;
    size_t v = 0;
    for (; v + 2 <= registers; v += 2) {
        tile_panel<S, 2>(x, y + v * lanes * item, rows, weight + v * next, bias + v * lanes,
                         multiplier + v * lanes, offset + v * lanes);
    }
    if constexpr (registers % 2 != 0) {
        tile_panel<S, 1>(x, y + v * lanes * item, rows, weight + v * next, bias + v * lanes,
                         multiplier + v * lanes, offset + v * lanes);
    }
}

template <class S, class Y>
SEDGE_TARGET void conv1d_tiles(const uint8_t* x, Y* target, const WeightItem* weight, const int32_t* bias,
                               const float* multiplier, const float* offset) {
    auto* y = begin_conv<S>(reinterpret_cast<uint8_t*>(target));
    tile_panels<S>(x, y, S::out_length, weight, bias, multiplier, offset);
}

template <class S>
SEDGE_TARGET void conv1d_tiles_rows(Line& x, Line& y, size_t rows, const WeightItem* weight,
                                    const int32_t* bias, const float* multiplier, const float* offset) {
    if (rows == 0)
        return;
    tile_panels<S>(x.start, y.end(), rows, weight, bias, multiplier, offset);
    if constexpr (S::sum == 0)
        extend<S>(y, rows, S::out_length);
    x.drop(rows * S::pool * S::x_stride);
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
