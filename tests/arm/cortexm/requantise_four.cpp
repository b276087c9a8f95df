/* Helium's four results at once beside the one place that rounds (requantise.h), in the clothes of a model:
 * its self-test compares them, so that main.cpp boots it. */
#include "model.h"

#include "mve.h"

namespace {

uint32_t random() { /* xorshift */
    static uint32_t state = 2463534242u;
    state ^= state << 13;
    state ^= state >> 17;
    return state ^= state << 5;
}

/* Any sign, any magnitude. */
int32_t accumulator() {
    const uint32_t bits = random() >> (random() % 31 + 1);
    return random() & 1 ? static_cast<int32_t>(bits) : -static_cast<int32_t>(bits);
}

float power(int exponent) {
    float value = 1.0F;
    for (int i = 0; i < exponent; ++i)
        value *= 2.0F;
    for (int i = 0; i > exponent; --i)
        value *= 0.5F;
    return value;
}

template <int32_t Biased, int32_t Zero, int32_t Low>
struct Shape {
    static constexpr int32_t biased = Biased, y_zero = Zero, y_low = Low;
};

/* Of four accumulators; those that carry 0x4B000000 lie in their range (docs/quant_spec.md, section 6). */
template <class S>
int32_t different(const int32_t (&plain)[4], float multiplier) {
    int32_t given[4];
    int32_t got[4];
    for (int i = 0; i < 4; ++i)
        given[i] = plain[i] + (S::biased != 0 ? 0x4B000000 : 0);
    vst1q_s32(got, sedge::mve::requantise_four<S>(vld1q_s32(given), multiplier));
    int32_t count = 0;
    for (int i = 0; i < 4; ++i)
        count += got[i] != sedge::requantise(plain[i] + SEDGE_TEST_OFF_BY, multiplier, S::y_zero, S::y_low);
    return count;
}

int32_t all_different() {
    int32_t count = 0;
    for (int round = 0; round < 20000; ++round) {
        /* powers of two give exact ties; the smallest are below the smallest normal float */
        const int exponent = static_cast<int>(random() % 150) - 140;
        const float fraction = 1.0F + static_cast<float>(random() >> 9) * power(-23);
        const float multiplier = power(exponent) * (round % 2 == 0 ? 1.0F : fraction);
        const int32_t any[4] = {accumulator(), accumulator(), accumulator(), accumulator()};
        count += different<Shape<0, -20, -128>>(any, multiplier) + different<Shape<0, 7, 7>>(any, multiplier);
        count += different<Shape<0, 127, -128>>(any, multiplier);
        const int32_t near = static_cast<int32_t>(random() % 2048) - 1024;
        const int32_t ties[4] = {near, near + 1, near + 2, near + 3};
        count += different<Shape<0, -128, -128>>(ties, power(-static_cast<int>(random() % 4)));
        count += different<Shape<1, -128, -128>>(ties, multiplier);
    }
    return count;
}

} // namespace

extern "C" {
const sedge_net* sedge_net_entry(void) { return nullptr; }
sedge_status sedge_init(sedge_model*, const sedge_net*, const char*, void*, size_t) { return SEDGE_OK; }
sedge_status sedge_self_test(sedge_model*) { return all_different() == 0 ? SEDGE_OK : SEDGE_E_SELF_TEST; }
sedge_status sedge_scrub(sedge_model*) { return SEDGE_OK; }
const char* sedge_status_text(sedge_status) { return "four results differ from one\n"; }
}
