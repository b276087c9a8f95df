// What libsedge-run prints: a line of JSON a frame, and the account at the end.
#ifndef LIBSEDGE_RUNNER_LINES_H
#define LIBSEDGE_RUNNER_LINES_H

#include "decide.h"
#include "input.h"
#include "json_line.h"
#include "ledger.h"

namespace sedge::runner {

// Of a frame, ns of the monotonic clock: when the wait ended that found its last bytes, when it was decoded,
// when it was decided.
struct Times {
    std::uint64_t readable, arrived, decided;
};

// Each call fills one line; it is to be written before the next one.
class Lines {
public:
    explicit Lines(const Constants& constants);

    // `decision` null: none is made about a dark or passive frame; `bad_dark`: a dark that cannot be used.
    // `times` null: not asked for.
    JsonLine& frame(const FrameView& frame, const char* role, const Decision* decision, bool bad_dark,
                    const Times* times);

    JsonLine& account(const Ledger& ledger, const Input& input, const Decider& decider);

private:
    void verdict(const Decision* decision, bool bad_dark);
    void ledger(const Ledger& ledger);
    void epoch(const EpochCount& it);
    void source(const Input& input);
    void instrument(const Decider& decider);

    const Constants& constants_;
    JsonLine line_;
};

} // namespace sedge::runner

#endif
