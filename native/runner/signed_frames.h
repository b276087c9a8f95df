// Signed frames taken apart, each at most once: edge/libsedge/sources/signed.py, in fixed memory.
#ifndef LIBSEDGE_RUNNER_SIGNED_FRAMES_H
#define LIBSEDGE_RUNNER_SIGNED_FRAMES_H

#include "counts.h"
#include "frame_key.h"
#include "stream_decoder.h"

#include <bitset>

namespace sedge::runner {

// What makes an input one of signed frames; without a key they are not.
struct Authentication {
    const FrameKey* key = nullptr;
    std::uint32_t min_epoch = 0; // what is of an earlier one is refused as replayed
};

// What is known of one stream: its newest epoch, the highest sequence number there, and which of the kNumbers
// up to it have come.
class ReplayWindow {
public:
    static constexpr std::uint64_t kNumbers = 1024;

    void begin(std::uint32_t epoch);

    // Notes an authentic frame; false where it came before or is too old to tell.
    bool take(std::uint32_t epoch, std::uint64_t sequence);

private:
    std::uint32_t epoch_ = 0;
    bool any_ = false;           // a frame of this epoch has come
    std::uint64_t top_ = 0;      // its highest sequence number
    std::bitset<kNumbers> came_; // at sequence % kNumbers
};

class Verifier {
public:
    static constexpr std::size_t kMaxStreams = 16;

    explicit Verifier(const Authentication& with) : with_(with) {}

    // The frame of a signed message: kDecoded, or the reason why there is none.
    Count decode(const std::uint8_t* message, std::size_t size, std::uint32_t max_channels, FrameView* frame);

private:
    struct Stream {
        std::uint32_t id;
        ReplayWindow window;
    };

    Authentication with_;
    std::size_t count_ = 0;
    Stream streams_[kMaxStreams] = {};
};

} // namespace sedge::runner

#endif
