#include "stream_decoder.h"

#include "crc32c.h"

#include <algorithm>
#include <cstring>

namespace sedge {
namespace {

constexpr std::uint8_t kMagic[4] = {'S', 'E', 'D', 'G'};
constexpr std::uint16_t kVersion = 1;
constexpr std::uint16_t kKnownFlags = 1 | 2 | 4; // dark, passive, trigger
constexpr std::size_t kCrcOffset = 52;

std::uint16_t load_u16(const std::uint8_t* p) { return static_cast<std::uint16_t>(p[0] | p[1] << 8); }

std::uint32_t load_u32(const std::uint8_t* p) {
    return static_cast<std::uint32_t>(load_u16(p)) | static_cast<std::uint32_t>(load_u16(p + 2)) << 16;
}

std::uint64_t load_u64(const std::uint8_t* p) {
    return static_cast<std::uint64_t>(load_u32(p)) | static_cast<std::uint64_t>(load_u32(p + 4)) << 32;
}

// Fills everything but the payload; false: a field is out of its range.
bool parse_header(const std::uint8_t* p, std::uint32_t max_channels, FrameView* frame) {
    frame->flags = load_u16(p + 6);
    frame->stream_id = load_u32(p + 8);
    frame->epoch = load_u32(p + 12);
    frame->sequence = load_u64(p + 16);
    frame->time_ns = load_u64(p + 24);
    frame->integration_us = load_u32(p + 32);
    frame->distance_mm = load_u32(p + 36);
    frame->channels = load_u32(p + 40);
    const std::uint8_t dtype = p[44];
    static constexpr std::uint8_t kReserved[7] = {};
    if (load_u16(p + 4) != kVersion || (frame->flags & ~kKnownFlags) != 0 || frame->channels < 1 ||
        frame->channels > max_channels || (dtype != 1 && dtype != 2) ||
        std::memcmp(p + 45, kReserved, sizeof kReserved) != 0) {
        return false;
    }
    frame->dtype = static_cast<FrameDtype>(dtype);
    frame->payload_bytes = static_cast<std::size_t>(frame->channels) * (dtype == 1 ? 2 : 4);
    return true;
}

// The CRC over the header's other fields and the payload, where a whole frame stands.
bool crc_holds(const std::uint8_t* frame, std::size_t payload_bytes) {
    const std::uint32_t computed =
        crc32c(frame + kFrameHeaderBytes, payload_bytes, crc32c(frame, kCrcOffset));
    return computed == load_u32(frame + kCrcOffset);
}

} // namespace

FrameFault decode_frame(const std::uint8_t* data, std::size_t size, std::uint32_t max_channels,
                        FrameView* frame) {
    if (size < kFrameHeaderBytes) {
        return FrameFault::truncated;
    }
    if (std::memcmp(data, kMagic, sizeof kMagic) != 0) {
        return FrameFault::garbage;
    }
    if (!parse_header(data, max_channels, frame)) {
        return FrameFault::header;
    }
    if (size != kFrameHeaderBytes + frame->payload_bytes) {
        return FrameFault::truncated;
    }
    frame->payload = data + kFrameHeaderBytes;
    return crc_holds(data, frame->payload_bytes) ? FrameFault::none : FrameFault::crc;
}

StreamDecoder::StreamDecoder(std::uint8_t* buffer, std::uint32_t max_channels, bool verify_crc)
    : buffer_(buffer), capacity_(buffer_bytes(max_channels)), max_channels_(max_channels),
      verify_crc_(verify_crc) {}

std::size_t StreamDecoder::push(const std::uint8_t* data, std::size_t size) {
    if (finished_) {
        return 0;
    }
    if (begin_ == end_) { // nothing is held back: the same memory again, which is in the cache
        begin_ = end_ = 0;
    }
    if (size > capacity_ - end_ && begin_ > 0) {
        std::memmove(buffer_, buffer_ + begin_, end_ - begin_);
        end_ -= begin_;
        begin_ = 0;
    }
    const std::size_t taken = std::min(size, capacity_ - end_);
    if (taken > 0) {
        std::memcpy(buffer_ + end_, data, taken);
        end_ += taken;
    }
    return taken;
}

bool StreamDecoder::next(FrameView* frame) {
    for (;;) {
        skip_to_magic();
        if (begin_ == end_) {
            counters_.truncated_bytes = tail_bytes_;
            return false;
        }
        switch (examine(frame)) {
        case Candidate::frame:
            begin_ += kFrameHeaderBytes + frame->payload_bytes;
            ++counters_.frames;
            counters_.garbage_bytes += tail_bytes_;
            tail_bytes_ = 0;
            return true;
        case Candidate::garbage:
            drop(1);
            break;
        case Candidate::incomplete:
            if (!finished_) {
                return false;
            }
            counters_.incomplete += end_ - begin_ >= sizeof kMagic ? 1U : 0U;
            ++begin_;
            ++tail_bytes_;
            break;
        }
    }
}

// Stops at the first place where a magic, or the beginning of one at the end of the bytes, stands.
void StreamDecoder::skip_to_magic() {
    std::size_t at = begin_;
    while (at < end_) {
        const void* found = std::memchr(buffer_ + at, kMagic[0], end_ - at);
        if (found == nullptr) {
            at = end_;
            break;
        }
        at = static_cast<std::size_t>(static_cast<const std::uint8_t*>(found) - buffer_);
        if (std::memcmp(buffer_ + at, kMagic, std::min(sizeof kMagic, end_ - at)) == 0) {
            break;
        }
        ++at;
    }
    drop(at - begin_);
}

void StreamDecoder::drop(std::size_t bytes) {
    begin_ += bytes;
    (tail_bytes_ > 0 ? tail_bytes_ : counters_.garbage_bytes) += bytes;
}

// What stands at begin_, where at least the beginning of a magic was seen.
StreamDecoder::Candidate StreamDecoder::examine(FrameView* frame) {
    const std::uint8_t* start = buffer_ + begin_;
    const std::size_t size = end_ - begin_;
    if (size < kFrameHeaderBytes) {
        return Candidate::incomplete;
    }
    if (!parse_header(start, max_channels_, frame)) {
        ++counters_.header_errors;
        return Candidate::garbage;
    }
    if (size < kFrameHeaderBytes + frame->payload_bytes) {
        return Candidate::incomplete;
    }
    frame->payload = start + kFrameHeaderBytes;
    if (verify_crc_ && !crc_holds(start, frame->payload_bytes)) {
        ++counters_.crc_errors;
        return Candidate::garbage;
    }
    return Candidate::frame;
}

} // namespace sedge
