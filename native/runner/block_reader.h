// Frames in COBS blocks with a zero before and behind each, as edge/libsedge/sources/serial.py has them:
// every block that is not empty is one frame or one refusal.
#ifndef LIBSEDGE_RUNNER_BLOCK_READER_H
#define LIBSEDGE_RUNNER_BLOCK_READER_H

#include "messages.h"

namespace sedge::runner {

class BlockReader : public FrameReader {
public:
    BlockReader(std::uint32_t max_channels, const Authentication& with);

    std::size_t push(const std::uint8_t* data, std::size_t size) override; // up to the end of a block
    bool next(FrameView* frame) override;
    void finish() override; // what stands without an end is truncated
    void restart() override;
    std::size_t pending_bytes() const override { return ended_ ? 0 : size_; }
    Counts counts() const override { return counts_; }

private:
    MessageDecoder decoder_;
    std::size_t limit_;
    std::unique_ptr<std::uint8_t[]> block_; // [limit]
    std::size_t size_ = 0;
    bool ended_ = false;    // a whole block stands in block_
    bool dropping_ = false; // this block is too long
    Counts counts_{};
};

} // namespace sedge::runner

#endif
