// The bundle is float32.
#include "clock.h"
#include "crc32c.h"
#include "network.h"
#include "softmax.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace sedge::runner {

struct Network::State {
    State(const Constants& c, const char* isa)
        : status(sedge_init_f32(&model, float32_constants.net, isa, c.arena, c.arena_bytes)), input(c.points),
          logits(c.classes) {
        const sedge_net_f32& net = *float32_constants.net;
        if (status == SEDGE_OK && (net.input_len != c.points || net.classes != c.classes)) {
            status = SEDGE_E_ABI;
        }
    }

    std::size_t decide(const float* from, double* probabilities) const {
        softmax(from, logits.size(), float32_constants.temperature, probabilities);
        return static_cast<std::size_t>(std::max_element(from, from + logits.size()) - from);
    }

    sedge_model_f32 model{};
    sedge_status status;
    std::vector<float> input, logits;
};

Network::Network(const Constants& c, const char* isa) : state_(std::make_unique<State>(c, isa)) {}
Network::~Network() = default;

sedge_status Network::status() const { return state_->status; }
const char* Network::isa() const { return state_->model.kernel->isa; }
const char* Network::digest() const { return state_->model.net->digest; }
sedge_status Network::self_test() { return sedge_self_test_f32(&state_->model); }
sedge_status Network::scrub() { return sedge_scrub_f32(&state_->model); }

void Network::add_constants(ValueCrc* crc) const { crc->add(float32_constants.temperature); }

std::size_t Network::decide(const Preprocessor& preprocessor, double* probabilities) {
    State& its = *state_;
    preprocessor.reals(its.input.data());
    prepared_ns_ = now_ns();
    sedge_run_f32(&its.model, its.input.data(), its.logits.data());
    inferred_ns_ = now_ns();
    return its.decide(its.logits.data(), probabilities);
}

bool Network::input_was(std::uint32_t crc) const {
    std::uint32_t sum = 0;
    for (const float value : state_->input) {
        std::uint32_t bits;
        std::memcpy(&bits, &value, sizeof bits);
        const std::uint8_t bytes[4] = {static_cast<std::uint8_t>(bits), static_cast<std::uint8_t>(bits >> 8),
                                       static_cast<std::uint8_t>(bits >> 16),
                                       static_cast<std::uint8_t>(bits >> 24)};
        sum = crc32c(bytes, sizeof bytes, sum);
    }
    return sum == crc;
}

bool Network::logits_are_the_canarys() const {
    const float* stored = float32_constants.canary_logits;
    float largest = 0.0f;
    float furthest = 0.0f;
    for (std::size_t i = 0; i < state_->logits.size(); ++i) {
        largest = std::max(largest, std::abs(stored[i]));
        furthest = std::max(furthest, std::abs(state_->logits[i] - stored[i]));
        if (std::isnan(state_->logits[i])) {
            return false;
        }
    }
    return furthest <= float32_constants.net->golden_tolerance * largest;
}

std::size_t Network::decide_stored(double* probabilities) const {
    return state_->decide(float32_constants.canary_logits, probabilities);
}

} // namespace sedge::runner
