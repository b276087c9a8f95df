#include "crc32c.h"
#include "network.h"

#include <cstring>

namespace sedge::runner {

void ValueCrc::add(double value) {
    std::uint64_t bits;
    std::uint8_t bytes[8];
    std::memcpy(&bits, &value, sizeof bits);
    for (int i = 0; i < 8; ++i) {
        bytes[i] = static_cast<std::uint8_t>(bits >> 8 * i);
    }
    crc_ = crc32c(bytes, sizeof bytes, crc_);
}

void ValueCrc::add_text(const char* text) { crc_ = crc32c(text, std::strlen(text), crc_); }

} // namespace sedge::runner
