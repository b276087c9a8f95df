// Preprocessing without Python: rounding in every rounding mode, gaps, bad input, and not one allocation.
#include "check.h"
#include "preprocess.h"

#include <cfenv>
#include <cmath>
#include <limits>

SEDGE_COUNT_ALLOCATIONS

namespace {

// Integer arithmetic on quarters: the meaning of "half to even" without any floating point.
std::int32_t quarters_half_even(std::int32_t quarters) {
    const std::int32_t floor = quarters >= 0 ? quarters / 4 : -((-quarters + 3) / 4);
    const std::int32_t rest = quarters - 4 * floor;
    return floor + (rest > 2 || (rest == 2 && floor % 2 != 0) ? 1 : 0);
}

void check_rounding() {
    for (const int mode : {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO}) {
        CHECK(std::fesetround(mode) == 0);
        int truncation_differs = 0;
        for (std::int32_t quarters = -2400; quarters <= 2400; ++quarters) {
            volatile float x = static_cast<float>(quarters) / 4.0f;
            CHECK(sedge::round_half_even(x) == quarters_half_even(quarters));
            truncation_differs += static_cast<std::int32_t>(x) != quarters_half_even(quarters);
        }
        CHECK(truncation_differs > 1000); // negative control: this comparison sees truncation
    }
    std::fesetround(FE_TONEAREST);
    CHECK(sedge::round_half_even(std::nextafter(0.5f, 1.0f)) == 1);
    CHECK(sedge::round_half_even(std::nextafter(2.5f, 0.0f)) == 2);
    CHECK(sedge::round_half_even(std::nextafter(-1.5f, 0.0f)) == -1);
}

void check_quantise() {
    const float x[] = {0.0f, 0.25f, 0.75f, -0.25f, 1e30f, -1e30f, 63.5f, -64.5f};
    const std::int8_t expected[] = {3, 3, 5, 3, 127, -128, 127, -126};
    std::int8_t out[8];
    sedge::quantise(x, 8, 0.5f, 3, out);
    for (std::size_t i = 0; i < 8; ++i) {
        CHECK(out[i] == expected[i]);
    }
}

sedge::Preprocessor make(std::size_t channels) {
    sedge::PreprocessSpec spec;
    for (std::size_t i = 0; i < channels; ++i) {
        spec.wavelength_nm.push_back(300.0 + 0.1 * static_cast<double>(i) + (i >= channels / 2 ? 2.0 : 0.0));
    }
    spec.mask.assign(channels, 1);
    spec.mask[3] = 0;
    for (std::size_t i = 0; i < 400; ++i) {
        spec.grid_nm.push_back(299.0 + 0.06 * (static_cast<double>(i) + 0.5));
    }
    spec.segment_points = {150, 250};
    return sedge::Preprocessor(std::move(spec));
}

void check_bad_input() {
    constexpr std::size_t channels = 200;
    auto core = make(channels);
    std::vector<float> counts(channels, 100.0f);
    std::vector<float> out(core.points());
    std::vector<std::int8_t> bytes(core.points());
    counts[10] = std::numeric_limits<float>::quiet_NaN();
    counts[11] = std::numeric_limits<float>::infinity();
    counts[12] = -3e38f;
    counts[13] = 60000.0f;
    counts[3] = std::numeric_limits<float>::quiet_NaN(); // under the mask: does not count
    const std::size_t allocated = allocations;
    core.take(counts.data(), nullptr, 60000.0f);
    core.reals(out.data());
    const sedge::PreprocessReport report = core.report();
    core.set_shift(0.03);
    core.take(counts.data(), counts.data(), NAN);
    core.integers(0.02f, -128, bytes.data());
    CHECK(core.report().saturated == 0);
    CHECK(allocations == allocated);
    CHECK(report.non_finite == 3 && report.saturated == 2); // the infinite one is saturated, too
    core.set_shift(0.0);
    core.take(counts.data(), nullptr, NAN);
    core.reals(out.data());
    for (std::size_t g = 0; g < core.points(); ++g) {
        const double nm = 299.0 + 0.06 * (static_cast<double>(g) + 0.5);
        const bool outside = nm < 300.0 || nm > 300.0 + 0.1 * 199 + 2.0;
        const bool in_gap = nm > 300.0 + 0.1 * 99 && nm < 300.0 + 0.1 * 100 + 2.0;
        const bool near_bad = (nm > 300.2 && nm < 300.4) || (nm > 300.9 && nm < 301.3);
        CHECK(std::isfinite(out[g]));
        CHECK((core.grid_valid()[g] == 0) == (outside || in_gap || near_bad));
        CHECK(core.grid_valid()[g] != 0 ? out[g] > 0.0f : out[g] == 0.0f);
    }
}

} // namespace

int main() {
    check_rounding();
    check_quantise();
    check_bad_input();
    return check_failures != 0;
}
