#include "packet_count.h"

#include <algorithm>

namespace sedge::runner {
namespace {

constexpr std::uint64_t kTurn = 1 << 14;

} // namespace

void PacketCount::restart() {
    known_ = 0;
    ambiguous_ = lost_before_ = 0;
}

// A new epoch takes the place of the one that came first.
PacketCount::Epoch* PacketCount::find(std::uint32_t epoch) {
    const std::size_t count = std::min(known_, kEpochs);
    for (std::size_t i = 0; i < count; ++i) {
        if (epochs_[i].epoch == epoch) {
            return &epochs_[i];
        }
    }
    Epoch* found = &epochs_[known_ % kEpochs];
    lost_before_ += known_ >= kEpochs ? found->places.gaps() : 0;
    ++known_;
    found->epoch = epoch;
    found->largest = 1;
    found->places.clear();
    return found;
}

void PacketCount::arrive(const Packet& packet) {
    Epoch* its = find(packet.epoch);
    its->largest = std::max<std::uint32_t>(its->largest, packet.segments);
    const bool first = its->places.unique == 0;
    const bool further = first || packet.sequence > its->sequence ||
                         (packet.sequence == its->sequence && packet.segment > its->segment);
    std::uint64_t at = kTurn + packet.count; // a turn, so that what was before the first packet fits
    if (!first && further) {
        at = its->place + ahead(*its, packet);
    } else if (!first) { // the nearest below or above the newest
        at = its->top + (packet.count - its->top + kTurn / 2) % kTurn - kTurn / 2;
    }
    if (further) {
        its->sequence = packet.sequence;
        its->segment = packet.segment;
        its->segments = packet.segments;
        its->place = at;
    }
    its->top = first ? at : std::max(its->top, at);
    if (its->places.seen.knows(at) && !its->places.seen.contains(at)) {
        its->places.note(at);
    }
}

// Packets from the furthest one to this: the smallest number with these 14 bits that the frames allow.
std::uint64_t PacketCount::ahead(const Epoch& its, const Packet& packet) {
    const std::uint64_t frames = std::min(packet.sequence - its.sequence, kMostFrames);
    std::uint64_t fewest = 0;
    std::uint64_t most = 0;
    if (frames == 0) {
        fewest = most = packet.segment - its.segment;
    } else { // what is left of one frame, and this one's
        const std::uint64_t ends = its.segments - its.segment + std::uint64_t{packet.segment};
        fewest = ends + frames - 1;
        most = ends + (frames - 1) * its.largest;
    }
    most += its.top - its.place; // frames that were sent again in between
    std::uint64_t step = (packet.count - its.place) % kTurn;
    step += fewest > step ? (fewest - step + kTurn - 1) / kTurn * kTurn : 0;
    ambiguous_ += step > most || step + kTurn <= most ? 1 : 0;
    return step;
}

std::uint64_t PacketCount::lost() const {
    std::uint64_t lost = lost_before_;
    for (std::size_t i = 0; i < std::min(known_, kEpochs); ++i) {
        lost += epochs_[i].places.gaps();
    }
    return lost;
}

} // namespace sedge::runner
