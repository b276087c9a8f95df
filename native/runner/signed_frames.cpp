#include "signed_frames.h"

#include "frame_reader.h"

#include <algorithm>

namespace sedge::runner {

void ReplayWindow::begin(std::uint32_t epoch) {
    epoch_ = epoch;
    any_ = false;
    came_.reset();
}

bool ReplayWindow::take(std::uint32_t epoch, std::uint64_t sequence) {
    if (epoch < epoch_) {
        return false;
    }
    if (epoch > epoch_) {
        begin(epoch);
    }
    if (!any_ || sequence > top_) {
        if (!any_ || sequence - top_ >= kNumbers) {
            came_.reset();
        } else {
            for (std::uint64_t skipped = top_ + 1; skipped < sequence; ++skipped) {
                came_.reset(skipped % kNumbers);
            }
        }
        any_ = true;
        top_ = sequence;
    } else if (top_ - sequence >= kNumbers || came_.test(sequence % kNumbers)) {
        return false;
    }
    came_.set(sequence % kNumbers);
    return true;
}

// The tag first: nothing in a message that is not authentic is believed.
Count Verifier::decode(const std::uint8_t* message, std::size_t size, std::uint32_t max_channels,
                       FrameView* frame) {
    if (size < kFrameTagBytes ||
        !with_.key->holds(message, size - kFrameTagBytes, message + size - kFrameTagBytes)) {
        return kBadTag;
    }
    const Count what = decode_message(message, size - kFrameTagBytes, max_channels, frame);
    if (what != kDecoded) {
        return what;
    }
    const std::uint32_t id = frame->stream_id;
    Stream* stream =
        std::find_if(streams_, streams_ + count_, [id](const Stream& it) { return it.id == id; });
    if (stream == streams_ + count_) {
        if (count_ == kMaxStreams) {
            return kWrongStream;
        }
        ++count_;
        stream->id = id;
        stream->window.begin(std::max(frame->epoch, with_.min_epoch));
    }
    return stream->window.take(frame->epoch, frame->sequence) ? kDecoded : kReplayed;
}

} // namespace sedge::runner
