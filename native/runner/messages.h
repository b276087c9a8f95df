// Transports that keep messages apart: one message holds one frame, so one damaged message is one refused
// frame and nothing else. edge/libsedge/sources/messages.py.
#ifndef LIBSEDGE_RUNNER_MESSAGES_H
#define LIBSEDGE_RUNNER_MESSAGES_H

#include "frame_reader.h"
#include "signed_frames.h"

namespace sedge::runner {

// One source's messages, signed or not: the frame that one is, exactly: kDecoded, or the reason why it is
// none.
class MessageDecoder {
public:
    MessageDecoder(std::uint32_t max_channels, const Authentication& with)
        : max_channels_(max_channels), is_signed_(with.key != nullptr), verifier_(with) {}

    Count decode(const std::uint8_t* data, std::size_t size, FrameView* frame) {
        return is_signed_ ? verifier_.decode(data, size, max_channels_, frame)
                          : decode_message(data, size, max_channels_, frame);
    }

private:
    std::uint32_t max_channels_;
    bool is_signed_;
    Verifier verifier_;
};

// One frame a datagram.
class DatagramReader : public FrameReader {
public:
    DatagramReader(std::uint32_t max_channels, const Authentication& with) : decoder_(max_channels, with) {}

    std::size_t push(const std::uint8_t* data, std::size_t size) override; // `data` outlives next()
    bool next(FrameView* frame) override;
    void finish() override {}
    void restart() override { waiting_ = false, counts_ = {}; }
    std::size_t pending_bytes() const override { return 0; }
    Counts counts() const override { return counts_; }

private:
    MessageDecoder decoder_;
    const std::uint8_t* data_ = nullptr;
    std::size_t size_ = 0;
    bool waiting_ = false; // the datagram is not looked at yet
    Counts counts_{};
};

} // namespace sedge::runner

#endif
