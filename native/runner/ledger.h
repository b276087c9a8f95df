// Every frame that came in is in exactly one place: the counts of edge/libsedge/ledger.py in fixed memory.
//
//     received = reported + unreported + duplicate + rejected + in_flight
//
// `reported` stands where the Python runtime has `journaled`: the frame's line was taken by the operating
// system; the runner has no journal and acknowledges nothing. Frames are handled one at a time, so nothing is
// ever shed. Per (stream, epoch): expected = last - first + 1 = unique + gaps.
#ifndef LIBSEDGE_RUNNER_LEDGER_H
#define LIBSEDGE_RUNNER_LEDGER_H

#include "counts.h"

#include <cstddef>
#include <cstdint>

namespace sedge::runner {

// Integers as sorted, disjoint, closed intervals. Over the limit the two lowest become one; membership
// between their ends is then unknown. Empty after clear(), or where its memory is 0; nothing else sets its
// members, so that pages that are never needed are never touched.
class IntervalSet {
public:
    static constexpr std::size_t kLimit = 4096;

    bool contains(std::uint64_t x) const;
    bool knows(std::uint64_t x) const;
    void add(std::uint64_t x);
    void discard(std::uint64_t x);
    void clear() { size_ = 0, merged_ = false; }

private:
    std::size_t after(std::uint64_t x) const; // index of the first interval that starts above x
    void insert(std::size_t at, std::uint64_t start, std::uint64_t end);
    void erase(std::size_t at);
    void shrink();

    std::size_t size_;
    bool merged_;
    std::uint64_t unknown_up_to_;
    std::uint64_t starts_[kLimit + 2];
    std::uint64_t ends_[kLimit + 2];
};

// Numbers without an end that should come without a gap.
struct NumberCount {
    std::uint64_t first, last, unique;
    IntervalSet seen;

    void clear();
    void note(std::uint64_t x); // that is not in `seen`
    std::uint64_t gaps() const { return unique > 0 ? last - first - (unique - 1) : 0; }
};

struct EpochCount : NumberCount {
    std::uint32_t stream, epoch;
    std::uint64_t used; // the ledger's clock when a frame of it came last; 0 = a free place
    std::uint64_t duplicates;
    bool exact;
    IntervalSet forfeited; // seen, but neither reported nor a duplicate: may come again and count
};

enum class End { reported, unreported, duplicate, wrong_length };

class Ledger {
public:
    static constexpr std::size_t kMaxEpochs = 16;

    // A frame of this run's stream came: true when it is known for a duplicate. `finish` ends it.
    bool receive(std::uint32_t stream, std::uint32_t epoch, std::uint64_t sequence);
    void finish(End end);

    std::uint64_t received() const;
    std::uint64_t in_flight() const { return in_flight_; }
    std::uint64_t rejected() const; // for any reason
    std::uint64_t unaccounted() const;

    // What was refused before it became a frame of this run.
    std::uint64_t refused[kReasons] = {};
    std::uint64_t reported = 0, unreported = 0, duplicate = 0, wrong_length = 0;

    struct Forgotten {
        std::uint64_t epochs, gaps, unique, duplicates;
    };
    const Forgotten& forgotten() const { return forgotten_; }
    const EpochCount* epochs() const { return epochs_; } // [kMaxEpochs]; `used` 0 = free

private:
    EpochCount* find(std::uint32_t stream, std::uint32_t epoch);
    bool arrive(EpochCount* epoch, std::uint64_t sequence);

    std::uint64_t arrived_ = 0;
    std::uint64_t in_flight_ = 0;
    std::uint64_t clock_ = 0;
    std::uint64_t sequence_ = 0;
    EpochCount* current_ = nullptr;
    Forgotten forgotten_{};
    EpochCount epochs_[kMaxEpochs];
};

} // namespace sedge::runner

#endif
