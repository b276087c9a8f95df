// CRC-32C (Castagnoli, reflected polynomial 0x82F63B78), as in RFC 3720 and as the CPUs' instructions compute
// it.
#ifndef LIBSEDGE_CRC32C_H
#define LIBSEDGE_CRC32C_H

#include <cstddef>
#include <cstdint>

namespace sedge {

// One way to compute it. Every runnable one gives the same value; the tests prove it against a bitwise
// oracle.
struct Crc32cImplementation {
    const char* name;
    bool (*runnable)();
    // Takes and returns the finished CRC (0 for an empty run), so that calls can be chained.
    std::uint32_t (*update)(std::uint32_t crc, const std::uint8_t* data, std::size_t size);
};

// Fastest first; the last one, "slicing8", runs everywhere.
const Crc32cImplementation* crc32c_implementations(std::size_t* count);

// The CRC of `data` appended to a run whose CRC is `crc`, by the fastest implementation this CPU runs.
std::uint32_t crc32c(const void* data, std::size_t size, std::uint32_t crc = 0);

} // namespace sedge

#endif
