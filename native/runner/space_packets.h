// Frames out of CCSDS space packets (CCSDS 133.0-B): one packet parsed, segments put together. The packet's
// table and every rule are those of edge/libsedge/sources/space_packets.py.
#ifndef LIBSEDGE_RUNNER_SPACE_PACKETS_H
#define LIBSEDGE_RUNNER_SPACE_PACKETS_H

#include "ledger.h"
#include "messages.h"

#include <vector>

namespace sedge::runner {

constexpr std::size_t kPrimaryHeaderBytes = 6;
constexpr std::size_t kMaxPacketBytes = 65542;
constexpr std::uint16_t kDefaultApid = 0x1ED;

// Bytes of the packet whose primary header stands here.
inline std::size_t packet_bytes(const std::uint8_t* p) {
    return kPrimaryHeaderBytes + 1 + (static_cast<std::size_t>(p[4]) << 8 | p[5]);
}

// The two bytes at which a packet of ours begins: version 0, telemetry, secondary header present, APID.
inline std::uint16_t first_word(std::uint16_t apid) { return static_cast<std::uint16_t>(1 << 11 | apid); }

struct Packet {
    std::uint32_t count; // the 14-bit sequence count
    std::uint32_t epoch;
    std::uint64_t sequence;
    std::uint16_t segment, segments;
    const std::uint8_t* data;
    std::size_t size; // at least 1
};

// The packet that these bytes are, exactly; false where its length, its CRC or a field does not hold. The
// APID is the caller's matter.
bool parse_packet(const std::uint8_t* p, std::size_t size, Packet* packet);

// Frames whose segments come in any order; at most kWindow are in progress, the oldest is given up for a new
// one.
class Assembler {
public:
    static constexpr std::size_t kWindow = 16;

    Assembler(std::uint32_t max_channels, const Authentication& with);

    // Take a packet; true where it completes a frame, valid until the next call. What is refused or comes
    // again goes to `counts`.
    bool add(const Packet& packet, double now, Counts* counts, FrameView* frame);

    // Give up frames that began before the time `before`.
    void expire(double before, Counts* counts);

    void restart();

private:
    // Segments in the order in which they came, each behind its number and length (u16 each).
    struct Partial {
        bool used = false;
        std::uint32_t epoch;
        std::uint64_t sequence;
        std::uint64_t order; // of its first segment
        double since;
        std::uint32_t segments, pieces;
        std::size_t size;   // of the segments' data
        std::size_t filled; // of `bytes`
        std::uint8_t* bytes;
        std::uint8_t* came; // a bit a segment
    };
    struct Known { // an epoch of which frames were told about
        bool used = false;
        std::uint32_t epoch;
        std::uint64_t order; // in which they were first heard of
        IntervalSet* sequences;
    };
    static constexpr std::size_t kEpochs = 16;

    Partial* find(const Packet& packet);
    Partial* begin(const Packet& packet, double now, Counts* counts);
    Partial* oldest();
    void join(const Partial& part);
    void refuse(Partial* part, Count reason, Counts* counts);
    void give_up(Partial* part, Counts* counts);
    Known* known(std::uint32_t epoch);
    void know(std::uint32_t epoch, std::uint64_t sequence);

    MessageDecoder decoder_;
    std::size_t largest_; // bytes of a frame
    std::uint64_t clock_ = 0;
    Partial partial_[kWindow];
    Known known_[kEpochs];
    std::unique_ptr<std::uint8_t[]> pieces_; // the partial frames' memory
    std::unique_ptr<IntervalSet[]> sequences_;
    std::unique_ptr<std::uint8_t[]> whole_;   // [largest_]
    std::unique_ptr<std::uint32_t[]> places_; // of the segments in Partial::bytes, while joining
};

} // namespace sedge::runner

#endif
