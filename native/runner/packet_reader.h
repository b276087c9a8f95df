// Frames in space packets: back to back in a byte stream, or whole ones in datagrams. What is counted where
// is as in edge/libsedge/sources/ccsds.py.
#ifndef LIBSEDGE_RUNNER_PACKET_READER_H
#define LIBSEDGE_RUNNER_PACKET_READER_H

#include "packet_count.h"
#include "space_packets.h"

namespace sedge::runner {

class PacketReader : public FrameReader {
public:
    PacketReader(std::uint32_t max_channels, std::uint16_t apid, const Authentication& with,
                 std::size_t buffer_bytes)
        : first_word_(first_word(apid)), buffer_(new std::uint8_t[buffer_bytes]), capacity_(buffer_bytes),
          assembler_(max_channels, with) {}

    void restart() override;
    void expire(double before) override { assembler_.expire(before, &counts_); }
    std::size_t pending_bytes() const override { return end_ - begin_; }
    Counts counts() const override;

protected:
    bool take(const Packet& packet, FrameView* frame);

    std::uint16_t first_word_;
    std::unique_ptr<std::uint8_t[]> buffer_;
    std::size_t capacity_;
    std::size_t begin_ = 0, end_ = 0; // of what stands in buffer_
    bool finished_ = false;
    Assembler assembler_;
    PacketCount packet_count_;
    Counts counts_{};
};

// After damage the search goes on at the next byte that could begin a packet of ours.
class PacketStreamReader : public PacketReader {
public:
    PacketStreamReader(std::uint32_t max_channels, std::uint16_t apid)
        : PacketReader(max_channels, apid, {}, 2 * kMaxPacketBytes) {}

    std::size_t push(const std::uint8_t* data, std::size_t size) override;
    bool next(FrameView* frame) override;
    void finish() override { finished_ = true; }

private:
    void skip_to_packet();
};

class PacketDatagramReader : public PacketReader {
public:
    PacketDatagramReader(std::uint32_t max_channels, std::uint16_t apid, const Authentication& with)
        : PacketReader(max_channels, apid, with, kMaxPacketBytes) {}

    std::size_t push(const std::uint8_t* data, std::size_t size) override;
    bool next(FrameView* frame) override;
    void finish() override;
};

} // namespace sedge::runner

#endif
