/* Is the dense head of M_fc in float32 as fast as this core reads its 10.8 MB of weights? Loads in order, the
 * kernel's loop (float_net.inc, `dense`) in one and in four streams, and with prefetches, in 4 KB and in 2 MB
 * pages; in random order, so that no row always runs behind the same one. With `nta` also past the caches
 * (which slows the others too).
 *
 *     g++ -O2 -std=c++17 benchmarks/dense_head.cpp -o dense_head && taskset -c 1 ./dense_head 400
 */
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <immintrin.h>
#include <random>
#include <string>
#include <sys/mman.h>
#include <vector>

namespace {

constexpr size_t inputs = 21184, wide = 64, panels = 2, registers = 4, block = 256;
constexpr size_t bytes = inputs * wide * panels * sizeof(float);

#define AVX512 __attribute__((target("avx512f"), noinline))

AVX512 void read(const float*, const float* weight, float*) {
    for (size_t i = 0; i < bytes / sizeof(float); i += 64) {
        const float* p = weight + i;
        __asm__ volatile("vmovups (%0), %%zmm0\n\tvmovups 64(%0), %%zmm1\n\tvmovups 128(%0), %%zmm2\n\t"
                         "vmovups 192(%0), %%zmm3" ::"r"(p)
                         : "xmm0", "xmm1", "xmm2", "xmm3", "memory");
    }
}

/* Ahead : bytes, 0 for no prefetch. */
template <size_t Streams, size_t Ahead, int Hint>
AVX512 void dense(const float* x, const float* weight, float* y) {
    constexpr size_t part = inputs / Streams;
    for (size_t panel = 0; panel < panels; ++panel, weight += inputs * wide) {
        __m512 total[registers] = {};
        for (size_t first = 0; first < part; first += block) {
            __m512 acc[Streams * registers] = {};
            for (size_t i = first; i < std::min(first + block, part); ++i) {
#pragma GCC unroll 4
                for (size_t s = 0; s < Streams; ++s) {
                    const float* w = weight + (s * part + i) * wide;
                    const __m512 one = _mm512_set1_ps(x[s * part + i]);
#pragma GCC unroll 4
                    for (size_t v = 0; v < registers; ++v) {
                        if constexpr (Ahead > 0)
                            _mm_prefetch(reinterpret_cast<const char*>(w + v * 16) + Ahead,
                                         static_cast<_mm_hint>(Hint));
                        acc[s * registers + v] =
                            _mm512_fmadd_ps(one, _mm512_load_ps(w + v * 16), acc[s * registers + v]);
                    }
                }
            }
            for (size_t i = 0; i < Streams * registers; ++i)
                total[i % registers] = _mm512_add_ps(total[i % registers], acc[i]);
        }
        for (size_t v = 0; v < registers; ++v)
            _mm512_store_ps(y + panel * wide + v * 16, total[v]);
    }
}

float* weights(int advice) {
    constexpr size_t page = 2 << 20, size = (bytes + page - 1) / page * page;
    void* memory = std::aligned_alloc(page, size);
    madvise(memory, size, advice);
    float* values = static_cast<float*>(memory);
    std::fill(values, values + size / sizeof(float), 0.5F);
    return values;
}

struct Row {
    std::string name;
    void (*run)(const float*, const float*, float*);
    const float* weight;
    std::vector<double> us;
};

} // namespace

int main(int argc, char** argv) {
    const float* small = weights(MADV_NOHUGEPAGE);
    const float* large = weights(MADV_HUGEPAGE);
    std::vector<Row> rows;
    const auto add = [&](const char* name, decltype(Row::run) run) {
        rows.push_back({std::string(name) + ", 4 KB pages", run, small, {}});
        rows.push_back({std::string(name) + ", 2 MB pages", run, large, {}});
    };
    add("loads in order", read);
    add("dense, 1 stream", dense<1, 0, 0>);
    add("dense, 4 streams", dense<4, 0, 0>);
    add("dense, 4 streams, prefetch 512 B ahead", dense<4, 512, _MM_HINT_T0>);
    add("dense, 4 streams, prefetch 2 KB ahead", dense<4, 2048, _MM_HINT_T0>);
    add("dense, 4 streams, prefetch 8 KB ahead", dense<4, 8192, _MM_HINT_T0>);
    if (argc > 2 && std::string(argv[2]) == "nta")
        add("dense, 4 streams, prefetchnta 2 KB ahead", dense<4, 2048, _MM_HINT_NTA>);
    alignas(64) static float x[inputs], y[wide * panels];
    std::fill(x, x + inputs, 0.5F);
    std::mt19937 random(1);
    std::vector<size_t> order(rows.size());
    for (size_t i = 0; i < order.size(); ++i)
        order[i] = i;
    for (int round = argc > 1 ? std::atoi(argv[1]) : 400; round > 0; --round) {
        std::shuffle(order.begin(), order.end(), random);
        for (const size_t i : order) {
            const auto begin = std::chrono::steady_clock::now();
            rows[i].run(x, rows[i].weight, y);
            const std::chrono::duration<double, std::micro> us = std::chrono::steady_clock::now() - begin;
            rows[i].us.push_back(us.count());
        }
    }
    for (Row& row : rows) {
        std::sort(row.us.begin(), row.us.end());
        std::printf("%-54s median %6.1f us, minimum %6.1f us, %4.1f GB/s\n", row.name.c_str(),
                    row.us[row.us.size() / 2], row.us[0], bytes / row.us[0] / 1e3);
    }
}
