#include "lines.h"

#include <algorithm>
#include <cstring>

namespace sedge::runner {
namespace {

std::size_t line_bytes(const Constants& c) {
    std::size_t longest = 0;
    for (std::size_t i = 0; i < c.classes; ++i) {
        longest = std::max(longest, std::strlen(c.labels[i]));
    }
    const std::size_t decision = 1024 + longest + 32 * c.classes;
    const std::size_t account = 4096 + 512 * Ledger::kMaxEpochs;
    return std::max(decision, account);
}

std::uint32_t wire_crc(const FrameView& frame) {
    const std::uint8_t* p = frame.payload - 4; // the header's last field
    return static_cast<std::uint32_t>(p[0]) | static_cast<std::uint32_t>(p[1]) << 8 |
           static_cast<std::uint32_t>(p[2]) << 16 | static_cast<std::uint32_t>(p[3]) << 24;
}

// What a source of this kind counts, as the Python runtime's does.
bool has(Input::Kind kind, std::size_t count) {
    const bool messages = kind == Input::Kind::udp || kind == Input::Kind::serial;
    switch (count) {
    case kDecoded:
        return true;
    case kGarbageBytes:
        return !messages && kind != Input::Kind::ccsds_udp;
    case kTruncatedBytes:
        return kind == Input::Kind::stdin_stream || kind == Input::Kind::tcp;
    case kTooLongBytes:
        return kind == Input::Kind::serial;
    case kMessages:
    case kMessageBytes:
        return messages || kind == Input::Kind::ccsds_udp;
    case kPackets:
    case kPacketsLost:
    case kPacketsAmbiguous:
    case kSegmentsAgain:
        return kind == Input::Kind::ccsds_udp || kind == Input::Kind::ccsds_tcp;
    default:
        return kind == Input::Kind::ccsds_udp;
    }
}

} // namespace

Lines::Lines(const Constants& constants) : constants_(constants), line_(line_bytes(constants)) {}

JsonLine& Lines::frame(const FrameView& frame, const char* role, const Decision* decision, bool bad_dark,
                       const Times* times) {
    line_.open(nullptr, '{');
    line_.integer("stream", frame.stream_id);
    line_.integer("epoch", frame.epoch);
    line_.integer("sequence", frame.sequence);
    line_.integer("time_ns", frame.time_ns);
    if (frame.distance_mm != 0) {
        line_.integer("distance_mm", frame.distance_mm);
    } else {
        line_.null("distance_mm");
    }
    line_.string("role", role);
    verdict(decision, bad_dark);
    line_.string("model", constants_.digest);
    line_.integer("frame_crc", wire_crc(frame));
    if (times != nullptr) {
        line_.open("times_ns", '{');
        line_.integer("readable", times->readable);
        line_.integer("arrived", times->arrived);
        line_.integer("preprocess", decision->spent.preprocess);
        line_.integer("inference", decision->spent.inference);
        line_.integer("decided", times->decided);
        line_.close('}');
    }
    line_.close('}');
    return line_;
}

void Lines::verdict(const Decision* decision, bool bad_dark) {
    const bool ran = decision != nullptr && decision->ran;
    const char* reason = bad_dark ? "non_finite" : decision != nullptr ? decision->reason : nullptr;
    if (ran) {
        line_.key("label");
        line_.text(constants_.labels[decision->index]);
        line_.real("confidence", decision->confidence);
    } else {
        line_.null("label");
        line_.null("confidence");
    }
    if (decision != nullptr || bad_dark) {
        line_.boolean("accepted", reason == nullptr);
    } else {
        line_.null("accepted");
    }
    if (reason != nullptr) {
        line_.string("reason", reason);
    } else {
        line_.null("reason");
    }
    if (ran) {
        line_.reals("probabilities", decision->probabilities, constants_.classes);
    } else {
        line_.null("probabilities");
    }
}

JsonLine& Lines::account(const Ledger& counts, const Input& input, const Decider& decider) {
    line_.open(nullptr, '{');
    ledger(counts);
    source(input);
    instrument(decider);
    line_.string("model", constants_.digest);
    line_.string("isa", decider.network().isa());
    line_.close('}');
    return line_;
}

void Lines::ledger(const Ledger& l) {
    line_.open("account", '{');
    line_.integer("received", l.received());
    line_.integer("reported", l.reported);
    line_.integer("unreported", l.unreported);
    line_.integer("duplicate", l.duplicate);
    line_.open("rejected", '{');
    const auto rejected = [this](const char* reason, std::uint64_t count) {
        if (count > 0) {
            line_.integer(reason, count);
        }
    };
    for (std::size_t i = 0; i < kReasons; ++i) {
        rejected(kCountNames[i], l.refused[i]);
    }
    rejected("wrong_length", l.wrong_length);
    line_.close('}');
    line_.integer("in_flight", l.in_flight());
    line_.integer("unaccounted", l.unaccounted());
    line_.open("streams", '[');
    for (std::size_t i = 0; i < Ledger::kMaxEpochs; ++i) {
        if (l.epochs()[i].used != 0) {
            epoch(l.epochs()[i]);
        }
    }
    line_.close(']');
    const Ledger::Forgotten& old = l.forgotten();
    line_.open("forgotten_epochs", '{');
    line_.integer("epochs", old.epochs);
    line_.integer("unique", old.unique);
    line_.integer("gaps", old.gaps);
    line_.integer("duplicates", old.duplicates);
    line_.close('}');
    line_.close('}');
}

void Lines::epoch(const EpochCount& it) {
    const std::uint64_t span = it.unique > 0 ? it.last - it.first : 0;
    line_.open(nullptr, '{');
    line_.integer("stream", it.stream);
    line_.integer("epoch", it.epoch);
    line_.integer("first", it.first);
    line_.integer("last", it.last);
    if (span == ~std::uint64_t{0}) { // 2^64 numbers are expected, one more than fits
        line_.key("expected");
        line_.text("18446744073709551616");
    } else {
        line_.integer("expected", it.unique > 0 ? span + 1 : 0);
    }
    line_.integer("unique", it.unique);
    line_.integer("gaps", it.gaps());
    line_.integer("duplicates", it.duplicates);
    line_.boolean("exact", it.exact);
    line_.close('}');
}

void Lines::instrument(const Decider& decider) {
    line_.open("instrument", '{');
    if (decider.corrections().follow_drift) {
        line_.real("shift_nm", decider.shift_nm());
    }
    if (decider.corrections().bad_sigma > 0.0) {
        line_.integer("bad_pixels", decider.bad_pixels());
    }
    line_.close('}');
}

void Lines::source(const Input& input) {
    const Input::Numbers& n = input.numbers();
    line_.open("source", '{');
    switch (input.kind()) {
    case Input::Kind::tcp:
    case Input::Kind::ccsds_tcp:
        line_.integer("connections", n.connections);
        line_.integer("connections_refused", n.connections_refused);
        line_.integer("cut_off", n.cut_off);
        break;
    case Input::Kind::udp:
    case Input::Kind::ccsds_udp:
        if (input.dropped_by_kernel() != ~std::uint64_t{0}) {
            line_.integer("dropped_by_kernel", input.dropped_by_kernel());
        }
        break;
    case Input::Kind::serial:
        line_.integer("reopened", n.reopened);
        break;
    case Input::Kind::stdin_stream:
        break;
    }
    for (std::size_t i = kReasons; i < kCounts; ++i) {
        if (has(input.kind(), i)) {
            line_.integer(kCountNames[i], input.counts()[i]);
        }
    }
    line_.close('}');
}

} // namespace sedge::runner
