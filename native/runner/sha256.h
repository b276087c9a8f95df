// SHA-256 (FIPS 180-4). Why it is our own: docs/architecture.md, "differs from the design".
#ifndef LIBSEDGE_RUNNER_SHA256_H
#define LIBSEDGE_RUNNER_SHA256_H

#include <cstddef>
#include <cstdint>

namespace sedge::runner {

class Sha256 {
public:
    static constexpr std::size_t kBlockBytes = 64;
    static constexpr std::size_t kDigestBytes = 32;

    void add(const std::uint8_t* data, std::size_t size);

    // The digest of all that was added; nothing is added afterwards.
    void finish(std::uint8_t* digest);

private:
    void compress(const std::uint8_t* block);

    std::uint32_t state_[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                               0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    std::uint64_t bytes_ = 0;
    std::uint8_t rest_[kBlockBytes] = {}; // the bytes_ % kBlockBytes last ones
};

} // namespace sedge::runner

#endif
