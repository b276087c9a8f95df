// The 14-bit count of space packets made one without an end, by epoch: PacketCount of
// edge/libsedge/sources/space_packets.py, in fixed memory. One jump of more than kMostFrames frames, which no
// instrument makes, counts as one of kMostFrames.
#ifndef LIBSEDGE_RUNNER_PACKET_COUNT_H
#define LIBSEDGE_RUNNER_PACKET_COUNT_H

#include "space_packets.h"

namespace sedge::runner {

class PacketCount {
public:
    static constexpr std::size_t kEpochs = 16;
    static constexpr std::uint64_t kMostFrames = std::uint64_t{1} << 32;

    // The memory is not set, so that epochs that never come cost address space only.
    PacketCount() : epochs_(new Epoch[kEpochs]) {}

    void restart();
    void arrive(const Packet& packet);

    std::uint64_t lost() const;
    // Jumps over so many frames that the count may have gone round once more; `lost` is then a lower bound.
    std::uint64_t ambiguous() const { return ambiguous_; }

private:
    struct Epoch {
        std::uint32_t epoch;
        std::uint64_t top;      // place of the newest packet
        std::uint64_t sequence; // of the furthest packet: its frame, segment, segments and place
        std::uint32_t segment, segments;
        std::uint64_t place;
        std::uint32_t largest; // segments of the largest frame
        NumberCount places;
    };

    Epoch* find(std::uint32_t epoch);
    std::uint64_t ahead(const Epoch& epoch, const Packet& packet);

    std::size_t known_ = 0; // epochs that ever came; each has its place in turn
    std::uint64_t ambiguous_ = 0, lost_before_ = 0;
    std::unique_ptr<Epoch[]> epochs_;
};

} // namespace sedge::runner

#endif
