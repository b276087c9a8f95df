// The compiled net: from a preprocessed spectrum to probabilities. int8_network.cpp or float32_network.cpp is
// linked in, as the bundle's precision is; everything else of the runner is the same for both.
#ifndef LIBSEDGE_RUNNER_NETWORK_H
#define LIBSEDGE_RUNNER_NETWORK_H

#include "constants.h"
#include "preprocess.h"

#include <memory>

namespace sedge::runner {

// CRC-32C over little-endian doubles, on any machine.
class ValueCrc {
public:
    void add(double value);
    void add_text(const char* text);
    std::uint32_t value() const { return crc_; }

private:
    std::uint32_t crc_ = 0;
};

class Network {
public:
    // Takes all memory; `isa` null takes the fastest proven kernel. `status()` tells whether it can run.
    Network(const Constants& constants, const char* isa);
    ~Network();

    sedge_status status() const;
    const char* isa() const;
    const char* digest() const; // SHA-256 of the model.onnx, hex
    sedge_status self_test();
    sedge_status scrub();
    void add_constants(ValueCrc* crc) const;

    // Of the spectrum that was taken last: probabilities [classes]; the class of the first of the largest
    // logits.
    std::size_t decide(const Preprocessor& preprocessor, double* probabilities);

    // When the last decide() had the net's input, and its output: now_ns().
    std::uint64_t prepared_ns() const { return prepared_ns_; }
    std::uint64_t inferred_ns() const { return inferred_ns_; }

    // Whether the last decide() was about this input, CRC-32C of its bytes, little-endian.
    bool input_was(std::uint32_t crc) const;

    // Whether the logits are those that the Python runtime computed of the canary: bit for bit, or of float32
    // within the goldens' tolerance. Then its decision comes out of the stored ones, bit for bit.
    bool logits_are_the_canarys() const;
    std::size_t decide_stored(double* probabilities) const;

private:
    struct State;
    std::unique_ptr<State> state_;
    std::uint64_t prepared_ns_ = 0;
    std::uint64_t inferred_ns_ = 0;
};

} // namespace sedge::runner

#endif
