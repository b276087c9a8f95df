// From the bytes of a transport to frames. One reader a connection; all memory is taken when it is made.
#ifndef LIBSEDGE_RUNNER_FRAME_READER_H
#define LIBSEDGE_RUNNER_FRAME_READER_H

#include "counts.h"
#include "stream_decoder.h"

#include <memory>

namespace sedge::runner {

struct Authentication;

class FrameReader {
public:
    virtual ~FrameReader() = default;

    // Takes bytes and returns their number; next() until it is false, then the others. Where the transport
    // keeps messages apart this is one message, taken whole.
    virtual std::size_t push(const std::uint8_t* data, std::size_t size) = 0;

    // The next frame, valid until the next call of anything; false: more bytes are needed.
    virtual bool next(FrameView* frame) = 0;

    // No more bytes will come; next() gives what stood behind damage.
    virtual void finish() = 0;

    // A new peer: nothing is held, every count is 0.
    virtual void restart() = 0;

    // Give up frames whose first part came before this time of the monotonic clock, s.
    virtual void expire(double) {}

    // Bytes held back: the beginning of what may become a frame.
    virtual std::size_t pending_bytes() const = 0;

    virtual Counts counts() const = 0;
};

enum class Carrier { stream, blocks, datagrams, packets, datagrams_of_packets };

// A reader of frames of at most `max_channels`: back to back, in COBS blocks, one a datagram, in space
// packets back to back, in datagrams of space packets. Frames are signed where their carrier can have a key.
std::unique_ptr<FrameReader> make_reader(Carrier carrier, std::uint32_t max_channels, std::uint16_t apid,
                                         const Authentication& with);

// The frame that a message is, exactly: kDecoded, or the reason why it is none.
Count decode_message(const std::uint8_t* data, std::size_t size, std::uint32_t max_channels,
                     FrameView* frame);

} // namespace sedge::runner

#endif
