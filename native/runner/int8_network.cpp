// The bundle is int8.
#include "clock.h"
#include "crc32c.h"
#include "network.h"
#include "softmax.h"

#include <algorithm>
#include <vector>

namespace sedge::runner {

struct Network::State {
    State(const Constants& c, const char* isa)
        : status(sedge_init(&model, int8_constants.net, isa, c.arena, c.arena_bytes)), input(c.points),
          logits(c.classes) {
        const sedge_net& net = *int8_constants.net;
        if (status == SEDGE_OK && (net.input_len != c.points || net.classes != c.classes)) {
            status = SEDGE_E_ABI;
        }
    }

    std::size_t decide(const std::int8_t* from, double* probabilities) const {
        softmax(from, logits.size(), int8_constants.exp_table, probabilities);
        return static_cast<std::size_t>(std::max_element(from, from + logits.size()) - from);
    }

    sedge_model model{};
    sedge_status status;
    std::vector<std::int8_t> input, logits;
};

Network::Network(const Constants& c, const char* isa) : state_(std::make_unique<State>(c, isa)) {}
Network::~Network() = default;

sedge_status Network::status() const { return state_->status; }
const char* Network::isa() const { return state_->model.kernel->isa; }
const char* Network::digest() const { return state_->model.net->digest; }
sedge_status Network::self_test() { return sedge_self_test(&state_->model); }
sedge_status Network::scrub() { return sedge_scrub(&state_->model); }

void Network::add_constants(ValueCrc* crc) const {
    std::for_each(int8_constants.exp_table, int8_constants.exp_table + 256,
                  [crc](double it) { crc->add(it); });
    crc->add(static_cast<double>(int8_constants.scale));
    crc->add(int8_constants.zero_point);
}

std::size_t Network::decide(const Preprocessor& preprocessor, double* probabilities) {
    State& its = *state_;
    preprocessor.integers(int8_constants.scale, int8_constants.zero_point, its.input.data());
    prepared_ns_ = now_ns();
    sedge_run(&its.model, its.input.data(), its.logits.data());
    inferred_ns_ = now_ns();
    return its.decide(its.logits.data(), probabilities);
}

bool Network::input_was(std::uint32_t crc) const {
    return crc32c(state_->input.data(), state_->input.size()) == crc;
}

bool Network::logits_are_the_canarys() const {
    return std::equal(state_->logits.begin(), state_->logits.end(), int8_constants.canary_logits);
}

std::size_t Network::decide_stored(double* probabilities) const {
    return state_->decide(int8_constants.canary_logits, probabilities);
}

} // namespace sedge::runner
