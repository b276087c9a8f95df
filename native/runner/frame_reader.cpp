#include "frame_reader.h"

#include "block_reader.h"
#include "messages.h"
#include "packet_reader.h"

namespace sedge::runner {
namespace {

// Frames back to back.
class StreamReader : public FrameReader {
public:
    // The memory is not cleared, so that a connection that never comes costs address space only.
    explicit StreamReader(std::uint32_t max_channels)
        : max_channels_(max_channels), buffer_(new std::uint8_t[StreamDecoder::buffer_bytes(max_channels)]),
          decoder_(buffer_.get(), max_channels) {}

    std::size_t push(const std::uint8_t* data, std::size_t size) override {
        return decoder_.push(data, size);
    }
    bool next(FrameView* frame) override { return decoder_.next(frame); }
    void finish() override { decoder_.finish(); }
    void restart() override { decoder_ = StreamDecoder(buffer_.get(), max_channels_); }
    std::size_t pending_bytes() const override { return decoder_.pending_bytes(); }

    Counts counts() const override {
        const DecoderCounters& its = decoder_.counters();
        Counts counts{};
        counts[kCrc] = its.crc_errors;
        counts[kHeader] = its.header_errors;
        counts[kTruncated] = its.incomplete;
        counts[kDecoded] = its.frames;
        counts[kGarbageBytes] = its.garbage_bytes;
        counts[kTruncatedBytes] = its.truncated_bytes;
        return counts;
    }

private:
    std::uint32_t max_channels_;
    std::unique_ptr<std::uint8_t[]> buffer_;
    StreamDecoder decoder_;
};

} // namespace

std::unique_ptr<FrameReader> make_reader(Carrier carrier, std::uint32_t max_channels, std::uint16_t apid,
                                         const Authentication& with) {
    switch (carrier) {
    case Carrier::blocks:
        return std::make_unique<BlockReader>(max_channels, with);
    case Carrier::datagrams:
        return std::make_unique<DatagramReader>(max_channels, with);
    case Carrier::packets:
        return std::make_unique<PacketStreamReader>(max_channels, apid);
    case Carrier::datagrams_of_packets:
        return std::make_unique<PacketDatagramReader>(max_channels, apid, with);
    case Carrier::stream:
        break;
    }
    return std::make_unique<StreamReader>(max_channels);
}

Count decode_message(const std::uint8_t* data, std::size_t size, std::uint32_t max_channels,
                     FrameView* frame) {
    switch (decode_frame(data, size, max_channels, frame)) {
    case FrameFault::none:
        return kDecoded;
    case FrameFault::crc:
        return kCrc;
    case FrameFault::garbage:
        return kGarbage;
    case FrameFault::truncated:
        return kTruncated;
    case FrameFault::header:
        break;
    }
    return kHeader;
}

} // namespace sedge::runner
