// Parts of libsedge-run by themselves, for tests/edge/test_runner_parts.py: a line of standard input is one
// call, a line of standard output its answer.
//
//     sha CHUNK HEX                              the digest of these bytes, added CHUNK at a time
//     window EPOCH SEQUENCE                      1 = taken; of one window that begins at epoch 0
//     packet EPOCH SEQUENCE SEGMENT SEGMENTS COUNT    packets lost, packets ambiguous so far
//     restart                                    of the packets' count
#include "packet_count.h"
#include "sha256.h"
#include "signed_frames.h"

#include <algorithm>
#include <iostream>
#include <sstream>
#include <string>

using namespace sedge::runner;

namespace {

std::string sha(std::istream& line) {
    std::size_t chunk = 0;
    std::string hex;
    line >> chunk >> hex;
    std::string bytes;
    for (std::size_t i = 0; i < hex.size(); i += 2) {
        bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
    }
    Sha256 hash;
    for (std::size_t at = 0; at < bytes.size(); at += chunk) {
        hash.add(reinterpret_cast<const std::uint8_t*>(bytes.data()) + at,
                 std::min(chunk, bytes.size() - at));
    }
    std::uint8_t digest[Sha256::kDigestBytes];
    hash.finish(digest);
    std::string said;
    for (const std::uint8_t byte : digest) {
        said += "0123456789abcdef"[byte >> 4];
        said += "0123456789abcdef"[byte & 15];
    }
    return said;
}

} // namespace

int main() {
    ReplayWindow window;
    PacketCount count;
    std::string text;
    while (std::getline(std::cin, text)) {
        std::istringstream line(text);
        std::string what;
        line >> what;
        if (what == "sha") {
            std::cout << sha(line);
        } else if (what == "window") {
            std::uint32_t epoch = 0;
            std::uint64_t sequence = 0;
            line >> epoch >> sequence;
            std::cout << window.take(epoch, sequence);
        } else if (what == "packet") {
            Packet packet{};
            line >> packet.epoch >> packet.sequence >> packet.segment >> packet.segments >> packet.count;
            count.arrive(packet);
            std::cout << count.lost() << ' ' << count.ambiguous();
        } else {
            count.restart();
        }
        std::cout << std::endl;
    }
}
