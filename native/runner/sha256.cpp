#include "sha256.h"

#include <algorithm>
#include <cstring>

namespace sedge::runner {
namespace {

constexpr std::uint32_t kRound[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

std::uint32_t rotate(std::uint32_t x, int n) { return x >> n | x << (32 - n); }

std::uint32_t big32(const std::uint8_t* p) {
    return static_cast<std::uint32_t>(p[0]) << 24 | static_cast<std::uint32_t>(p[1]) << 16 |
           static_cast<std::uint32_t>(p[2]) << 8 | p[3];
}

template <typename Integer>
void put_big(Integer value, std::uint8_t* p) {
    for (std::size_t i = sizeof value; i-- > 0; value = static_cast<Integer>(value >> 8)) {
        p[i] = static_cast<std::uint8_t>(value);
    }
}

} // namespace

void Sha256::compress(const std::uint8_t* block) {
    std::uint32_t w[64];
    for (std::size_t i = 0; i < 16; ++i) {
        w[i] = big32(block + 4 * i);
    }
    for (std::size_t i = 16; i < 64; ++i) {
        const std::uint32_t a = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
        const std::uint32_t b = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + a + w[i - 7] + b;
    }
    std::uint32_t a = state_[0], b = state_[1], c = state_[2], d = state_[3];
    std::uint32_t e = state_[4], f = state_[5], g = state_[6], h = state_[7];
    for (std::size_t i = 0; i < 64; ++i) {
        const std::uint32_t choice = (e & f) ^ (~e & g);
        const std::uint32_t majority = (a & b) ^ (a & c) ^ (b & c);
        const std::uint32_t first =
            h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + choice + kRound[i] + w[i];
        const std::uint32_t second = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + majority;
        h = g, g = f, f = e, e = d + first;
        d = c, c = b, b = a, a = first + second;
    }
    const std::uint32_t step[8] = {a, b, c, d, e, f, g, h};
    for (std::size_t i = 0; i < 8; ++i) {
        state_[i] += step[i];
    }
}

void Sha256::add(const std::uint8_t* data, std::size_t size) {
    while (size > 0) {
        const std::size_t held = bytes_ % kBlockBytes;
        const std::size_t taken = std::min(size, kBlockBytes - held);
        if (taken == kBlockBytes) {
            compress(data);
        } else {
            std::memcpy(rest_ + held, data, taken);
            if (held + taken == kBlockBytes) {
                compress(rest_);
            }
        }
        bytes_ += taken;
        data += taken;
        size -= taken;
    }
}

// A one bit, zeros, and the number of bits in the last eight bytes of a block.
void Sha256::finish(std::uint8_t* digest) {
    const std::uint64_t bits = 8 * bytes_;
    std::uint8_t end[kBlockBytes + 8] = {0x80};
    const std::size_t zeros = (2 * kBlockBytes - 9 - bytes_ % kBlockBytes) % kBlockBytes;
    put_big(bits, end + 1 + zeros);
    add(end, 1 + zeros + 8);
    for (std::size_t i = 0; i < 8; ++i) {
        put_big(state_[i], digest + 4 * i);
    }
}

} // namespace sedge::runner
