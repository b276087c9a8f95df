// Every CRC-32C implementation against a bitwise one written here, at every length, alignment and split.
#include "check.h"
#include "crc32c.h"

#include <cstring>
#include <vector>

namespace {

std::uint32_t bitwise(const std::uint8_t* data, std::size_t size, std::uint32_t polynomial) {
    std::uint32_t crc = 0xFFFFFFFFu;
    for (std::size_t i = 0; i < size; ++i) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; ++bit) {
            crc = (crc >> 1) ^ ((crc & 1u) != 0 ? polynomial : 0u);
        }
    }
    return ~crc;
}

} // namespace

int main() {
    constexpr std::uint32_t castagnoli = 0x82F63B78u;
    std::vector<std::uint8_t> data(600);
    Random random{7};
    for (auto& byte : data) {
        byte = static_cast<std::uint8_t>(random.next() >> 56);
    }
    const std::vector<std::uint8_t> zeros(32);

    CHECK(sedge::crc32c("123456789", 9) == 0xE3069283u); // RFC 3720, B.4 and the catalogue's check value
    CHECK(sedge::crc32c(zeros.data(), zeros.size()) == 0x8A9136AAu);
    CHECK(sedge::crc32c(nullptr, 0) == 0);

    std::size_t count = 0;
    const sedge::Crc32cImplementation* all = sedge::crc32c_implementations(&count);
    CHECK(count >= 1 && std::strcmp(all[count - 1].name, "slicing8") == 0 && all[count - 1].runnable());
    for (std::size_t i = 0; i < count; ++i) {
        if (!all[i].runnable()) {
            std::printf("%s: not runnable here, not tested\n", all[i].name);
            continue;
        }
        std::printf("%s\n", all[i].name);
        for (std::size_t offset = 0; offset < 9; ++offset) {
            for (std::size_t size = 0; size < 300; ++size) {
                CHECK(all[i].update(0, data.data() + offset, size) ==
                      bitwise(data.data() + offset, size, castagnoli));
            }
        }
        const std::uint32_t whole = bitwise(data.data(), 100, castagnoli);
        for (std::size_t split = 0; split <= 100; ++split) {
            const std::uint32_t first = all[i].update(0, data.data(), split);
            CHECK(all[i].update(first, data.data() + split, 100 - split) == whole);
        }
        // Negative control: the comparison sees another polynomial (CRC-32 of zip).
        CHECK(all[i].update(0, data.data(), 100) != bitwise(data.data(), 100, 0xEDB88320u));
    }
    return check_failures != 0;
}
