// One spectrum in, one decision out: the arithmetic of edge/libsedge/classifier.py, bit for bit.
#ifndef LIBSEDGE_RUNNER_DECIDE_H
#define LIBSEDGE_RUNNER_DECIDE_H

#include "constants.h"
#include "instrument.h"
#include "network.h"
#include "preprocess.h"
#include "quality.h"
#include "stream_decoder.h"

#include <vector>

namespace sedge::runner {

// Of a decision, ns; 0 for what was not needed.
struct Spent {
    std::uint64_t preprocess, inference;
};

struct Decision {
    const char* reason;          // null: accepted
    bool ran;                    // false: the quality checks refused it, nothing below is set
    std::size_t index;           // the first of the largest logits
    double confidence;           // its probability
    const double* probabilities; // [classes]; valid until the next decision
    Spent spent;
};

// All off by default.
struct Corrections {
    bool follow_drift = false;
    double bad_sigma = 0.0; // 0: no pixel is left out
};

class Decider {
public:
    // Takes all memory; `isa` as of Network, whose `status()` tells whether it can run.
    Decider(const Constants& constants, const char* isa, const Corrections& corrections);

    const Network& network() const { return network_; }

    // Null: the corrections that were asked for are possible on this axis; else why not.
    const char* check_corrections() const;
    const Corrections& corrections() const { return corrections_; }
    double shift_nm() const { return drift_.shift_nm(); }
    std::size_t bad_pixels() const { return bad_pixels_; }

    // CRC-32C of the constants, goldens bit for bit, and check_running(). Null: all hold; else what does not.
    const char* check_start();

    // The weights' CRC-32C, and the canary spectrum through every step.
    const char* check_running();

    // A dark frame of the axis' length: true, and from now on it is subtracted, when it is finite.
    bool take_dark(const FrameView& frame);

    Decision decide(const FrameView& frame); // frame.channels == constants.channels

private:
    std::uint32_t constants_crc() const;
    void leave_out();

    const Constants& constants_;
    Network network_;
    Preprocessor preprocessor_;
    Corrections corrections_;
    DriftTracker drift_;
    BadPixels finder_;
    std::vector<std::uint8_t> used_; // pixels: the mask without those left out
    std::vector<std::uint8_t> wanted_;
    std::size_t bad_pixels_ = 0;
    Limits limits_;
    bool has_dark_ = false;
    std::vector<float> dark_;
    std::vector<float> counts_;
    std::vector<double> probabilities_;
};

} // namespace sedge::runner

#endif
