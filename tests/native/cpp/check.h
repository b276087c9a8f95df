// The few lines of a test framework that the C++ tests need.
#ifndef LIBSEDGE_TEST_CHECK_H
#define LIBSEDGE_TEST_CHECK_H

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <new>

inline int check_failures = 0;

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                             \
            ++check_failures;                                                                                \
        }                                                                                                    \
    } while (false)

// Every allocation of the program is counted, so that a test can say "none from here to there".
inline std::size_t allocations = 0;

#define SEDGE_COUNT_ALLOCATIONS                                                                              \
    void* operator new(std::size_t size) {                                                                   \
        ++allocations;                                                                                       \
        if (void* memory = std::malloc(size)) {                                                              \
            return memory;                                                                                   \
        }                                                                                                    \
        throw std::bad_alloc();                                                                              \
    }                                                                                                        \
    void operator delete(void* memory) noexcept { std::free(memory); }                                       \
    void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

// xorshift64*: the same numbers on every machine.
struct Random {
    std::uint64_t state;
    std::uint64_t next() {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        return state * 2685821657736338717u;
    }
    std::size_t below(std::size_t bound) { return static_cast<std::size_t>(next() >> 11) % bound; }
};

#endif
