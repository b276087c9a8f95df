#include "decide.h"

#include "clock.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace sedge::runner {
namespace {

PreprocessSpec spec_of(const Constants& c) {
    PreprocessSpec spec;
    spec.wavelength_nm.assign(c.wavelength_nm, c.wavelength_nm + c.channels);
    spec.mask.assign(c.mask, c.mask + c.channels);
    spec.grid_nm.assign(c.grid_nm, c.grid_nm + c.points);
    spec.segment_points.assign(c.segment_points, c.segment_points + c.segments);
    spec.compress_sqrt = c.compress_sqrt;
    spec.smooth_window = c.smooth_window;
    spec.smooth_order = c.smooth_order;
    spec.snip_half_window = c.snip_half_window;
    return spec;
}

// The payload where it stands, as an array of `Value`; null where this machine cannot read it so.
template <typename Value>
const Value* in_place(const FrameView& frame) {
    const std::uint16_t one = 1;
    std::uint8_t first;
    std::memcpy(&first, &one, 1);
    const bool little_endian = first == 1;
    const bool aligned = reinterpret_cast<std::uintptr_t>(frame.payload) % alignof(Value) == 0;
    return little_endian && aligned ? reinterpret_cast<const Value*>(frame.payload) : nullptr;
}

// The payload's values as float32, whatever this machine's byte order; exact for uint16.
void to_float(const FrameView& frame, float* out) {
    const std::uint8_t* p = frame.payload;
    if (frame.dtype == FrameDtype::uint16) {
        for (std::size_t i = 0; i < frame.channels; ++i, p += 2) {
            out[i] = static_cast<float>(static_cast<std::uint16_t>(p[0] | p[1] << 8));
        }
        return;
    }
    for (std::size_t i = 0; i < frame.channels; ++i, p += 4) {
        const std::uint32_t bits = static_cast<std::uint32_t>(p[0]) | static_cast<std::uint32_t>(p[1]) << 8 |
                                   static_cast<std::uint32_t>(p[2]) << 16 |
                                   static_cast<std::uint32_t>(p[3]) << 24;
        std::memcpy(out + i, &bits, sizeof bits);
    }
}

} // namespace

Decider::Decider(const Constants& c, const char* isa, const Corrections& corrections)
    : constants_(c), network_(c, isa), preprocessor_(spec_of(c)), corrections_(corrections),
      drift_(c.wavelength_nm, c.channels), finder_(c.channels), used_(c.mask, c.mask + c.channels),
      wanted_(c.channels), dark_(c.channels), counts_(c.channels), probabilities_(c.classes) {
    const auto valid = std::count(c.mask, c.mask + c.channels, std::uint8_t{1});
    limits_ = {c.min_contrast,
               c.max_saturated_fraction * static_cast<double>(std::max<std::ptrdiff_t>(valid, 1))};
}

std::uint32_t Decider::constants_crc() const {
    ValueCrc crc;
    const auto add = [&crc](double value) { crc.add(value); };
    const Constants& c = constants_;
    std::for_each(c.wavelength_nm, c.wavelength_nm + c.channels, add);
    std::for_each(c.mask, c.mask + c.channels, add);
    std::for_each(c.grid_nm, c.grid_nm + c.points, add);
    std::for_each(c.segment_points, c.segment_points + c.segments,
                  [&add](std::size_t it) { add(static_cast<double>(it)); });
    add(std::isnan(c.saturation) ? -1.0 : static_cast<double>(c.saturation));
    add(c.compress_sqrt ? 1.0 : 0.0);
    add(static_cast<double>(c.smooth_window));
    add(static_cast<double>(c.smooth_order));
    add(static_cast<double>(c.snip_half_window));
    add(c.min_confidence);
    add(c.min_contrast);
    add(c.max_saturated_fraction);
    network_.add_constants(&crc);
    std::for_each(c.labels, c.labels + c.classes, [&crc](const char* it) { crc.add_text(it); });
    return crc.value();
}

const char* Decider::check_start() {
    if (constants_crc() != constants_.crc) {
        return "the CRC-32C of the constants does not hold";
    }
    const sedge_status self_test = network_.self_test();
    return self_test != SEDGE_OK ? sedge_status_text(self_test) : check_running();
}

const char* Decider::check_running() {
    if (network_.scrub() != SEDGE_OK) {
        return sedge_status_text(SEDGE_E_WEIGHTS);
    }
    std::copy(constants_.canary_counts, constants_.canary_counts + constants_.channels, counts_.begin());
    preprocessor_.set_mask(constants_.mask);
    preprocessor_.set_shift(0.0);
    preprocessor_.take(counts_.data(), nullptr, constants_.saturation);
    preprocessor_.set_mask(used_.data());
    network_.decide(preprocessor_, probabilities_.data());
    if (!network_.input_was(constants_.canary_input_crc)) {
        return "the canary's preprocessing did not come out bit for bit";
    }
    if (!network_.logits_are_the_canarys()) {
        return "the canary's logits did not come out";
    }
    const std::size_t index = network_.decide_stored(probabilities_.data());
    if (index != constants_.canary_index ||
        std::memcmp(&probabilities_[index], &constants_.canary_confidence, sizeof(double)) != 0) {
        return "the canary's decision did not come out bit for bit";
    }
    return nullptr;
}

bool Decider::take_dark(const FrameView& frame) {
    to_float(frame, counts_.data());
    if (!std::all_of(counts_.begin(), counts_.end(), [](float x) { return std::isfinite(x); })) {
        return false;
    }
    dark_.swap(counts_);
    has_dark_ = true;
    if (corrections_.bad_sigma > 0.0) {
        leave_out();
    }
    return true;
}

// The pixels that the dark shows to be bad; where that would leave no grid point, it is not believed.
void Decider::leave_out() {
    const std::size_t bad = finder_.find(dark_.data(), corrections_.bad_sigma);
    for (std::size_t i = 0; i < wanted_.size(); ++i) {
        wanted_[i] = constants_.mask[i] != 0 && finder_.bad()[i] == 0 ? 1 : 0;
    }
    preprocessor_.set_mask(wanted_.data());
    preprocessor_.set_shift(0.0);
    std::fill(counts_.begin(), counts_.end(), 0.0f);
    preprocessor_.take(counts_.data(), nullptr, NAN);
    const std::uint8_t* grid = preprocessor_.grid_valid();
    if (std::any_of(grid, grid + constants_.points, [](std::uint8_t it) { return it != 0; })) {
        used_.swap(wanted_);
        bad_pixels_ = bad;
    } else {
        preprocessor_.set_mask(used_.data());
    }
}

const char* Decider::check_corrections() const {
    return corrections_.follow_drift && !drift_.usable()
               ? "needs 3 of the lines at 279.6, 285.3, 393.5, 397.0, 422.8 and 589.2 nm on the axis"
               : nullptr;
}

Decision Decider::decide(const FrameView& frame) {
    const std::uint64_t start = now_ns();
    const auto* integers = frame.dtype == FrameDtype::uint16 ? in_place<std::uint16_t>(frame) : nullptr;
    const float* dark = has_dark_ ? dark_.data() : nullptr;
    if (corrections_.follow_drift || integers == nullptr) {
        to_float(frame, counts_.data());
    }
    if (corrections_.follow_drift) {
        drift_.look(counts_.data());
    }
    preprocessor_.set_shift(drift_.shift_nm());
    if (integers != nullptr) {
        preprocessor_.take(integers, dark, constants_.saturation);
    } else {
        preprocessor_.take(counts_.data(), dark, constants_.saturation);
    }
    Decision decision{};
    decision.reason = unusable(preprocessor_.report(), limits_);
    if (decision.reason != nullptr) {
        decision.spent.preprocess = now_ns() - start;
    } else {
        decision.ran = true;
        decision.index = network_.decide(preprocessor_, probabilities_.data());
        decision.confidence = probabilities_[decision.index];
        decision.probabilities = probabilities_.data();
        decision.spent = {network_.prepared_ns() - start, network_.inferred_ns() - network_.prepared_ns()};
        decision.reason = decision.confidence >= constants_.min_confidence ? nullptr : "low_confidence";
    }
    return decision;
}

} // namespace sedge::runner
