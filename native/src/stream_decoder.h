// Frames out of a byte stream: push bytes, pull frames. The wire format is the table "Frame" in
// docs/architecture.md.
//
// Damage costs the damaged frame and nothing else. A magic whose header or CRC does not hold is taken for one
// byte of garbage, and the search goes on at the next byte, so a whole frame inside a false one still comes
// out. A damaged length can delay what follows by one frame of the largest size at most.
//
// Every false header that fits costs one CRC over the length it claims. A stream of nothing else is searched
// at about 2 MB/s with 65,536 channels, 14 MB/s with 5,400 (one x86 core): keep max_channels near what the
// instrument sends.
#ifndef LIBSEDGE_STREAM_DECODER_H
#define LIBSEDGE_STREAM_DECODER_H

#include <cstddef>
#include <cstdint>

namespace sedge {

constexpr std::size_t kFrameHeaderBytes = 56;
constexpr std::uint32_t kFrameMaxChannels = 65536;
constexpr std::size_t kFrameTagBytes = 16; // behind a signed frame

enum class FrameDtype : std::uint8_t { uint16 = 1, float32 = 2 };

struct FrameView {
    std::uint16_t flags;
    std::uint32_t stream_id;
    std::uint32_t epoch;
    std::uint64_t sequence;
    std::uint64_t time_ns;
    std::uint32_t integration_us;
    std::uint32_t distance_mm;
    std::uint32_t channels;
    FrameDtype dtype;
    const std::uint8_t* payload; // little-endian values; valid until the next push(), next() or finish()
    std::size_t payload_bytes;
};

// What keeps bytes that stand apart (a datagram, a block) from being a frame; edge/libsedge/frame.py has the
// same order.
enum class FrameFault : std::uint8_t { none, truncated, garbage, header, crc };

// The one frame that these bytes are, exactly. `frame` is set where there is none of these faults; its
// payload points into `data`.
FrameFault decode_frame(const std::uint8_t* data, std::size_t size, std::uint32_t max_channels,
                        FrameView* frame);

// After finish() and the last next(): bytes pushed = bytes of frames + garbage_bytes + truncated_bytes.
struct DecoderCounters {
    std::uint64_t frames;
    std::uint64_t garbage_bytes;   // bytes outside every frame that came out
    std::uint64_t crc_errors;      // magic and header hold, the CRC does not
    std::uint64_t header_errors;   // the magic holds, a field is out of its range
    std::uint64_t truncated_bytes; // after finish(): the beginning of a frame whose end never came
    std::uint64_t incomplete; // found by finish(): the magic stands, the end its header asks for never came
};

class StreamDecoder {
public:
    // What the caller has to provide: two frames of the largest size, so that moving the rest to the front is
    // rare.
    static constexpr std::size_t buffer_bytes(std::uint32_t max_channels) {
        return 2 * (kFrameHeaderBytes + 4 * static_cast<std::size_t>(max_channels));
    }

    // `buffer` holds buffer_bytes(max_channels) bytes and outlives the decoder; 1 <= max_channels <= 65536. A
    // frame of more channels counts as a header error. `verify_crc` false exists for negative controls in
    // tests only.
    StreamDecoder(std::uint8_t* buffer, std::uint32_t max_channels, bool verify_crc = true);

    // Takes as many bytes as there is room for and returns their number (0 after finish()); call next() until
    // it is false in between: then there is room again.
    std::size_t push(const std::uint8_t* data, std::size_t size);

    // The next whole frame, or false: more bytes are needed.
    bool next(FrameView* frame);

    // No more bytes will come. Call next() until it is false: whole frames behind a false header still come
    // out.
    void finish() { finished_ = true; }

    const DecoderCounters& counters() const { return counters_; }

    // Bytes held back: the beginning of what may become a frame.
    std::size_t pending_bytes() const { return end_ - begin_; }

private:
    enum class Candidate { frame, incomplete, garbage };
    Candidate examine(FrameView* frame);
    void skip_to_magic();
    void drop(std::size_t bytes);

    std::uint8_t* buffer_;
    std::size_t capacity_;
    std::uint32_t max_channels_;
    bool verify_crc_;
    bool finished_ = false;
    std::size_t begin_ = 0;
    std::size_t end_ = 0;
    std::uint64_t tail_bytes_ = 0; // after finish(): bytes since the first candidate cut short
    DecoderCounters counters_{};
};

} // namespace sedge

#endif
