#include "ledger.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace sedge::runner {

std::size_t IntervalSet::after(std::uint64_t x) const {
    return static_cast<std::size_t>(std::upper_bound(starts_, starts_ + size_, x) - starts_);
}

bool IntervalSet::contains(std::uint64_t x) const {
    const std::size_t i = after(x);
    return i > 0 && x <= ends_[i - 1];
}

bool IntervalSet::knows(std::uint64_t x) const {
    return !merged_ || size_ == 0 || x < starts_[0] || x > unknown_up_to_;
}

void IntervalSet::insert(std::size_t at, std::uint64_t start, std::uint64_t end) {
    std::memmove(starts_ + at + 1, starts_ + at, (size_ - at) * sizeof *starts_);
    std::memmove(ends_ + at + 1, ends_ + at, (size_ - at) * sizeof *ends_);
    starts_[at] = start;
    ends_[at] = end;
    ++size_;
}

void IntervalSet::erase(std::size_t at) {
    --size_;
    std::memmove(starts_ + at, starts_ + at + 1, (size_ - at) * sizeof *starts_);
    std::memmove(ends_ + at, ends_ + at + 1, (size_ - at) * sizeof *ends_);
}

void IntervalSet::shrink() {
    if (size_ > kLimit) {
        ends_[0] = ends_[1];
        std::memmove(starts_ + 1, starts_ + 2, (size_ - 2) * sizeof *starts_);
        std::memmove(ends_ + 1, ends_ + 2, (size_ - 2) * sizeof *ends_);
        --size_;
        merged_ = true;
        unknown_up_to_ = ends_[0];
    }
}

void IntervalSet::add(std::uint64_t x) {
    const std::size_t i = after(x);
    if (i > 0 && x <= ends_[i - 1]) {
        return;
    }
    const bool left = i > 0 && ends_[i - 1] == x - 1; // not contained, so x > ends_[i - 1] >= 0
    const bool right = i < size_ && starts_[i] == x + 1;
    if (left && right) {
        ends_[i - 1] = ends_[i];
        erase(i);
    } else if (left) {
        ends_[i - 1] = x;
    } else if (right) {
        starts_[i] = x;
    } else {
        insert(i, x, x);
    }
    shrink();
}

void IntervalSet::discard(std::uint64_t x) {
    const std::size_t i = after(x);
    if (i == 0 || x > ends_[i - 1]) {
        return;
    }
    const std::uint64_t start = starts_[i - 1];
    const std::uint64_t end = ends_[i - 1];
    if (start == end) {
        erase(i - 1);
    } else if (x == start) {
        starts_[i - 1] = x + 1;
    } else if (x == end) {
        ends_[i - 1] = x - 1;
    } else {
        ends_[i - 1] = x - 1;
        insert(i, x + 1, end);
        shrink();
    }
}

void NumberCount::clear() {
    first = last = unique = 0;
    seen.clear();
}

void NumberCount::note(std::uint64_t x) {
    first = unique > 0 ? std::min(first, x) : x;
    last = std::max(last, x);
    ++unique;
    seen.add(x);
}

EpochCount* Ledger::find(std::uint32_t stream, std::uint32_t epoch) {
    EpochCount* oldest = epochs_;
    for (EpochCount& it : epochs_) {
        if (it.used != 0 && it.stream == stream && it.epoch == epoch) {
            return &it;
        }
        if (it.used < oldest->used) { // a free place is older than any other
            oldest = &it;
        }
    }
    if (oldest->used != 0) {
        forgotten_.epochs += 1;
        forgotten_.unique += oldest->unique;
        forgotten_.gaps += oldest->gaps();
        forgotten_.duplicates += oldest->duplicates;
    }
    oldest->stream = stream;
    oldest->epoch = epoch;
    oldest->duplicates = 0;
    oldest->exact = true;
    oldest->clear();
    oldest->forfeited.clear();
    return oldest;
}

// EpochCount.arrive of the Python ledger; without a journal, what memory does not know counts as new.
bool Ledger::arrive(EpochCount* epoch, std::uint64_t x) {
    if (!epoch->seen.knows(x)) {
        epoch->exact = false;
        return false;
    }
    if (epoch->seen.contains(x)) {
        if (!epoch->forfeited.knows(x)) {
            return false;
        }
        if (epoch->forfeited.contains(x)) {
            epoch->forfeited.discard(x);
            return false;
        }
        return true;
    }
    epoch->note(x);
    return false;
}

bool Ledger::receive(std::uint32_t stream, std::uint32_t epoch, std::uint64_t sequence) {
    ++arrived_;
    ++in_flight_;
    current_ = find(stream, epoch);
    current_->used = ++clock_;
    sequence_ = sequence;
    return arrive(current_, sequence);
}

void Ledger::finish(End end) {
    --in_flight_;
    switch (end) {
    case End::reported:
        ++reported;
        break;
    case End::duplicate:
        ++duplicate;
        ++current_->duplicates;
        break;
    case End::unreported:
        ++unreported;
        current_->forfeited.add(sequence_);
        break;
    case End::wrong_length:
        ++wrong_length;
        current_->forfeited.add(sequence_);
        break;
    }
}

std::uint64_t Ledger::rejected() const { return std::accumulate(refused, refused + kReasons, wrong_length); }

std::uint64_t Ledger::received() const { return arrived_ + rejected() - wrong_length; }

std::uint64_t Ledger::unaccounted() const {
    return received() - (reported + unreported + duplicate + rejected() + in_flight_);
}

} // namespace sedge::runner
