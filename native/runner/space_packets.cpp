#include "space_packets.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

namespace sedge::runner {
namespace {

constexpr std::size_t kSecondaryHeaderBytes = 16;
constexpr std::size_t kOverhead = kPrimaryHeaderBytes + kSecondaryHeaderBytes + 2;
constexpr std::size_t kMaxSegments = 65535;
constexpr std::size_t kPieceHeader = 4;

constexpr std::array<std::uint16_t, 256> crc16_table() {
    std::array<std::uint16_t, 256> table{};
    for (unsigned i = 0; i < 256; ++i) {
        unsigned crc = i << 8;
        for (int bit = 0; bit < 8; ++bit) {
            crc = (crc << 1 ^ ((crc & 0x8000U) != 0 ? 0x1021U : 0U)) & 0xFFFFU;
        }
        table[i] = static_cast<std::uint16_t>(crc);
    }
    return table;
}

constexpr std::array<std::uint16_t, 256> kCrc16 = crc16_table();

// CRC-16-CCITT as ECSS and CCSDS use it for packet error control.
unsigned crc16(const std::uint8_t* p, std::size_t size) {
    unsigned crc = 0xFFFF;
    for (std::size_t i = 0; i < size; ++i) {
        crc = (crc << 8 & 0xFFFFU) ^ kCrc16[(crc >> 8 ^ p[i]) & 0xFFU];
    }
    return crc;
}

std::uint16_t big16(const std::uint8_t* p) { return static_cast<std::uint16_t>(p[0] << 8 | p[1]); }

std::uint32_t big32(const std::uint8_t* p) {
    return static_cast<std::uint32_t>(big16(p)) << 16 | big16(p + 2);
}

std::uint64_t big64(const std::uint8_t* p) {
    return static_cast<std::uint64_t>(big32(p)) << 32 | big32(p + 4);
}

} // namespace

bool parse_packet(const std::uint8_t* p, std::size_t size, Packet* packet) {
    if (size <= kOverhead || packet_bytes(p) != size || crc16(p, size - 2) != big16(p + size - 2)) {
        return false;
    }
    const std::uint8_t* secondary = p + kPrimaryHeaderBytes;
    packet->count = big16(p + 2) & 0x3FFFU;
    packet->sequence = big64(secondary);
    packet->epoch = big32(secondary + 8);
    packet->segment = big16(secondary + 12);
    packet->segments = big16(secondary + 14);
    packet->data = secondary + kSecondaryHeaderBytes;
    packet->size = size - kOverhead;
    const unsigned flags =
        (packet->segment == 0 ? 1U : 0U) | (packet->segment + 1 == packet->segments ? 2U : 0U);
    return (big16(p) & ~0x7FFU) == first_word(0) && packet->segment < packet->segments &&
           static_cast<unsigned>(big16(p + 2)) >> 14 == flags;
}

// Memory that is not needed is not touched: few large blocks, not set.
Assembler::Assembler(std::uint32_t max_channels, const Authentication& with)
    : decoder_(max_channels, with),
      largest_(kFrameHeaderBytes + 4 * static_cast<std::size_t>(max_channels) + kFrameTagBytes),
      sequences_(new IntervalSet[kEpochs]), whole_(new std::uint8_t[largest_]),
      places_(new std::uint32_t[kMaxSegments]) {
    const std::size_t bytes = largest_ + kPieceHeader * std::min(largest_, kMaxSegments);
    const std::size_t came = kMaxSegments / 8 + 1;
    pieces_.reset(new std::uint8_t[kWindow * (bytes + came)]);
    for (std::size_t i = 0; i < kWindow; ++i) {
        partial_[i].bytes = pieces_.get() + i * (bytes + came);
        partial_[i].came = partial_[i].bytes + bytes;
    }
    for (std::size_t i = 0; i < kEpochs; ++i) {
        known_[i].sequences = &sequences_[i];
    }
}

void Assembler::restart() {
    for (Partial& part : partial_) {
        part.used = false;
    }
    for (Known& it : known_) {
        it.used = false;
    }
}

Assembler::Partial* Assembler::find(const Packet& packet) {
    for (Partial& part : partial_) {
        if (part.used && part.epoch == packet.epoch && part.sequence == packet.sequence) {
            return &part;
        }
    }
    return nullptr;
}

Assembler::Partial* Assembler::oldest() {
    Partial* found = nullptr;
    for (Partial& part : partial_) {
        if (part.used && (found == nullptr || part.order < found->order)) {
            found = &part;
        }
    }
    return found;
}

Assembler::Partial* Assembler::begin(const Packet& packet, double now, Counts* counts) {
    const auto free = [](const Partial& part) { return !part.used; };
    Partial* part = std::find_if(partial_, partial_ + kWindow, free);
    if (part == partial_ + kWindow) {
        part = oldest();
        give_up(part, counts);
    }
    part->used = true;
    part->epoch = packet.epoch;
    part->sequence = packet.sequence;
    part->order = ++clock_;
    part->since = now;
    part->segments = packet.segments;
    part->pieces = 0;
    part->size = part->filled = 0;
    std::memset(part->came, 0, packet.segments / 8U + 1U);
    return part;
}

bool Assembler::add(const Packet& packet, double now, Counts* counts, FrameView* frame) {
    Partial* part = find(packet);
    if (part != nullptr && part->segments != packet.segments) { // sent again, cut differently
        give_up(part, counts);
        part = nullptr;
    }
    if (part == nullptr) {
        part = begin(packet, now, counts);
    }
    std::uint8_t& bits = part->came[packet.segment / 8U];
    const std::uint8_t bit = static_cast<std::uint8_t>(1U << packet.segment % 8U);
    if ((bits & bit) != 0) {
        ++(*counts)[kSegmentsAgain];
        return false;
    }
    bits |= bit;
    ++part->pieces;
    part->size += packet.size;
    if (part->size > largest_) {
        refuse(part, kHeader, counts);
        return false;
    }
    std::uint8_t* to = part->bytes + part->filled;
    const std::uint16_t size = static_cast<std::uint16_t>(packet.size);
    std::memcpy(to, &packet.segment, 2);
    std::memcpy(to + 2, &size, 2);
    std::memcpy(to + kPieceHeader, packet.data, packet.size);
    part->filled += kPieceHeader + packet.size;
    if (part->pieces < part->segments) {
        return false;
    }
    join(*part);
    const Count what = decoder_.decode(whole_.get(), part->size, frame);
    if (what != kDecoded) {
        refuse(part, what, counts);
    } else if (frame->epoch != packet.epoch || frame->sequence != packet.sequence) {
        refuse(part, kHeader, counts);
    } else {
        part->used = false;
        know(packet.epoch, packet.sequence);
        ++(*counts)[kDecoded];
        return true;
    }
    return false;
}

// Every segment came: their bytes in order, in whole_.
void Assembler::join(const Partial& part) {
    std::uint16_t number = 0;
    std::uint16_t size = 0;
    for (std::size_t at = 0; at < part.filled; at += kPieceHeader + size) {
        std::memcpy(&number, part.bytes + at, 2);
        std::memcpy(&size, part.bytes + at + 2, 2);
        places_[number] = static_cast<std::uint32_t>(at);
    }
    std::uint8_t* to = whole_.get();
    for (std::uint32_t segment = 0; segment < part.segments; ++segment) {
        const std::uint8_t* piece = part.bytes + places_[segment];
        std::memcpy(&size, piece + 2, 2);
        std::memcpy(to, piece + kPieceHeader, size);
        to += size;
    }
}

void Assembler::expire(double before, Counts* counts) {
    for (;;) {
        Partial* first = nullptr;
        for (Partial& part : partial_) {
            if (part.used && part.since < before && (first == nullptr || part.order < first->order)) {
                first = &part;
            }
        }
        if (first == nullptr) {
            return;
        }
        give_up(first, counts);
    }
}

void Assembler::refuse(Partial* part, Count reason, Counts* counts) {
    part->used = false;
    ++(*counts)[reason];
    know(part->epoch, part->sequence);
}

// A frame that is already told about came again in part; any other one is incomplete.
void Assembler::give_up(Partial* part, Counts* counts) {
    const Known* its = known(part->epoch);
    if (its != nullptr && its->sequences->contains(part->sequence)) {
        part->used = false;
        (*counts)[kSegmentsAgain] += part->pieces;
    } else {
        refuse(part, kIncomplete, counts);
    }
}

Assembler::Known* Assembler::known(std::uint32_t epoch) {
    const auto has = [epoch](const Known& it) { return it.used && it.epoch == epoch; };
    Known* found = std::find_if(known_, known_ + kEpochs, has);
    return found == known_ + kEpochs ? nullptr : found;
}

void Assembler::know(std::uint32_t epoch, std::uint64_t sequence) {
    Known* its = known(epoch);
    if (its == nullptr) { // a free place, or that of the epoch that was noted first
        its = std::min_element(known_, known_ + kEpochs, [](const Known& a, const Known& b) {
            return (a.used ? a.order : 0) < (b.used ? b.order : 0);
        });
        its->used = true;
        its->epoch = epoch;
        its->order = ++clock_;
        its->sequences->clear();
    }
    its->sequences->add(sequence);
}

} // namespace sedge::runner
