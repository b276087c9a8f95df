#include "packet_reader.h"

#include "clock.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace sedge::runner {

void PacketReader::restart() {
    begin_ = end_ = 0;
    finished_ = false;
    assembler_.restart();
    packet_count_.restart();
    counts_ = {};
}

Counts PacketReader::counts() const {
    Counts counts = counts_;
    counts[kPacketsLost] = packet_count_.lost();
    counts[kPacketsAmbiguous] = packet_count_.ambiguous();
    return counts;
}

bool PacketReader::take(const Packet& packet, FrameView* frame) {
    ++counts_[kPackets];
    packet_count_.arrive(packet);
    return assembler_.add(packet, now_s(), &counts_, frame);
}

std::size_t PacketStreamReader::push(const std::uint8_t* data, std::size_t size) {
    if (size > capacity_ - end_ && begin_ > 0) {
        std::memmove(buffer_.get(), buffer_.get() + begin_, end_ - begin_);
        end_ -= begin_;
        begin_ = 0;
    }
    const std::size_t taken = std::min(size, capacity_ - end_);
    if (taken > 0) {
        std::memcpy(buffer_.get() + end_, data, taken);
        end_ += taken;
    }
    return taken;
}

// Stops where a packet of ours may begin, or at the last byte where that is half of such a beginning.
void PacketStreamReader::skip_to_packet() {
    const std::uint8_t high = static_cast<std::uint8_t>(first_word_ >> 8);
    const std::uint8_t low = static_cast<std::uint8_t>(first_word_ & 0xFF);
    const std::uint8_t* p = buffer_.get();
    std::size_t at = begin_;
    while (at < end_ && !(p[at] == high && (at + 1 < end_ ? p[at + 1] == low : !finished_))) {
        ++at;
    }
    counts_[kGarbageBytes] += at - begin_;
    begin_ = at;
}

bool PacketStreamReader::next(FrameView* frame) {
    for (;;) {
        skip_to_packet();
        const std::uint8_t* p = buffer_.get() + begin_;
        const std::size_t left = end_ - begin_;
        const bool whole = left >= kPrimaryHeaderBytes && packet_bytes(p) <= left;
        if (left == 0 || (!whole && !finished_)) {
            break;
        }
        Packet packet;
        if (!whole || !parse_packet(p, packet_bytes(p), &packet)) {
            ++counts_[kGarbageBytes];
            ++begin_;
            continue;
        }
        begin_ += packet_bytes(p);
        if (take(packet, frame)) {
            return true;
        }
    }
    if (finished_) {
        expire(std::numeric_limits<double>::infinity());
    }
    return false;
}

std::size_t PacketDatagramReader::push(const std::uint8_t* data, std::size_t size) {
    begin_ = 0;
    end_ = std::min(size, capacity_);
    if (end_ > 0) {
        std::memcpy(buffer_.get(), data, end_);
    }
    ++counts_[kMessages];
    counts_[kMessageBytes] += size;
    return size;
}

bool PacketDatagramReader::next(FrameView* frame) {
    while (begin_ < end_) {
        const std::uint8_t* p = buffer_.get() + begin_;
        const std::size_t left = end_ - begin_;
        const std::size_t size = left >= kPrimaryHeaderBytes ? packet_bytes(p) : kMaxPacketBytes;
        if (size > left) {
            ++counts_[kPacketsDamaged];
            begin_ = end_;
            break;
        }
        begin_ += size;
        Packet packet;
        if (((p[0] << 8 | p[1]) & 0x7FF) != (first_word_ & 0x7FF)) {
            ++counts_[kPacketsOther];
        } else if (!parse_packet(p, size, &packet)) {
            ++counts_[kPacketsDamaged];
        } else if (take(packet, frame)) {
            return true;
        }
    }
    return false;
}

void PacketDatagramReader::finish() { expire(std::numeric_limits<double>::infinity()); }

} // namespace sedge::runner
