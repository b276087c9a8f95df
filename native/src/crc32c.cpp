#include "crc32c.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#define SEDGE_CRC_SSE42 1
#elif defined(__aarch64__) && defined(__linux__) && !defined(__AARCH64EB__)
#include <arm_acle.h>
#include <asm/hwcap.h>
#include <sys/auxv.h>
#define SEDGE_CRC_ARMV8 1
#endif

namespace sedge {
namespace {

constexpr std::uint32_t kPolynomial = 0x82F63B78u;

using Tables = std::array<std::array<std::uint32_t, 256>, 8>;

// tables[k][b] is the CRC register after byte b and k zero bytes.
constexpr Tables make_tables() {
    Tables tables{};
    for (std::uint32_t byte = 0; byte < 256; ++byte) {
        std::uint32_t value = byte;
        for (int bit = 0; bit < 8; ++bit) {
            value = (value >> 1) ^ ((value & 1u) != 0 ? kPolynomial : 0u);
        }
        tables[0][byte] = value;
    }
    for (std::size_t k = 1; k < 8; ++k) {
        for (std::size_t byte = 0; byte < 256; ++byte) {
            const std::uint32_t previous = tables[k - 1][byte];
            tables[k][byte] = (previous >> 8) ^ tables[0][previous & 0xFFu];
        }
    }
    return tables;
}

constexpr Tables kTables = make_tables();

// Little-endian whatever the machine; compilers turn it into one load.
std::uint32_t load_u32(const std::uint8_t* p) {
    return static_cast<std::uint32_t>(p[0]) | static_cast<std::uint32_t>(p[1]) << 8 |
           static_cast<std::uint32_t>(p[2]) << 16 | static_cast<std::uint32_t>(p[3]) << 24;
}

bool always() { return true; }

std::uint32_t update_slicing8(std::uint32_t crc, const std::uint8_t* data, std::size_t size) {
    crc = ~crc;
    for (; size >= 8; data += 8, size -= 8) {
        const std::uint32_t low = crc ^ load_u32(data);
        const std::uint32_t high = load_u32(data + 4);
        crc = kTables[7][low & 0xFFu] ^ kTables[6][(low >> 8) & 0xFFu] ^ kTables[5][(low >> 16) & 0xFFu] ^
              kTables[4][low >> 24] ^ kTables[3][high & 0xFFu] ^ kTables[2][(high >> 8) & 0xFFu] ^
              kTables[1][(high >> 16) & 0xFFu] ^ kTables[0][high >> 24];
    }
    for (; size > 0; ++data, --size) {
        crc = (crc >> 8) ^ kTables[0][(crc ^ *data) & 0xFFu];
    }
    return ~crc;
}

#if defined(SEDGE_CRC_SSE42)
bool has_sse42() { return __builtin_cpu_supports("sse4.2") != 0; }

__attribute__((target("sse4.2,crc32"))) std::uint32_t
update_sse42(std::uint32_t crc, const std::uint8_t* data, std::size_t size) {
    std::uint64_t wide = ~crc;
    for (; size >= 8; data += 8, size -= 8) {
        std::uint64_t word;
        std::memcpy(&word, data, 8);
        wide = _mm_crc32_u64(wide, word);
    }
    std::uint32_t narrow = static_cast<std::uint32_t>(wide);
    for (; size > 0; ++data, --size) {
        narrow = _mm_crc32_u8(narrow, *data);
    }
    return ~narrow;
}
#endif

#if defined(SEDGE_CRC_ARMV8)
bool has_armv8_crc() { return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0; }

__attribute__((target("+crc"))) std::uint32_t update_armv8(std::uint32_t crc, const std::uint8_t* data,
                                                           std::size_t size) {
    crc = ~crc;
    for (; size >= 8; data += 8, size -= 8) {
        std::uint64_t word;
        std::memcpy(&word, data, 8);
        crc = __crc32cd(crc, word);
    }
    for (; size > 0; ++data, --size) {
        crc = __crc32cb(crc, *data);
    }
    return ~crc;
}
#endif

constexpr Crc32cImplementation kImplementations[] = {
#if defined(SEDGE_CRC_SSE42)
    {"sse42", has_sse42, update_sse42},
#endif
#if defined(SEDGE_CRC_ARMV8)
    {"armv8", has_armv8_crc, update_armv8},
#endif
    {"slicing8", always, update_slicing8},
};

} // namespace

const Crc32cImplementation* crc32c_implementations(std::size_t* count) {
    *count = sizeof kImplementations / sizeof kImplementations[0];
    return kImplementations;
}

std::uint32_t crc32c(const void* data, std::size_t size, std::uint32_t crc) {
    static const auto fastest = [] {
        const Crc32cImplementation* candidate = kImplementations;
        while (!candidate->runnable()) {
            ++candidate;
        }
        return candidate->update;
    }();
    return fastest(crc, static_cast<const std::uint8_t*>(data), size);
}

} // namespace sedge
