// Included once per instruction set, inside a namespace of its own; SEDGE_LOOP carries the target attribute.

SEDGE_LOOP void add_lanes(const float* values, std::size_t size, double* lanes) {
    std::size_t i = 0;
    for (; i + kLanes <= size; i += kLanes) {
        for (std::size_t k = 0; k < kLanes; ++k) {
            lanes[k] += static_cast<double>(values[i + k]);
        }
    }
    for (std::size_t k = 0; i < size; ++i, ++k) {
        lanes[k] += static_cast<double>(values[i]);
    }
}

SEDGE_LOOP double total(const double* lanes) {
    double total = 0.0;
    for (std::size_t k = 0; k < kLanes; ++k) {
        total += lanes[k];
    }
    return total;
}

SEDGE_LOOP double sum(const float* values, std::size_t size) {
    double lanes[kLanes] = {};
    add_lanes(values, size, lanes);
    return total(lanes);
}

template <class Count, bool has_dark>
SEDGE_LOOP void subtract_block(const Count* counts, const float* dark, std::size_t size, float largest,
                               float saturation, float* __restrict values, std::uint32_t* unusable,
                               std::uint32_t* saturated) {
    std::uint32_t too_large = 0;
    std::uint32_t full = 0;
    for (std::size_t i = 0; i < size; ++i) {
        const float count = static_cast<float>(counts[i]);
        const float value = has_dark ? count - dark[i] : count;
        values[i] = value;
        too_large += std::fabs(value) <= largest ? 0u : 1u; // counts NaN
        full += count >= saturation ? 1u : 0u;
    }
    *unusable = too_large;
    *saturated = full;
}

// valid says which are wanted: 0 or 1; becomes 0 where the value cannot be used.
template <class Count>
SEDGE_LOOP void leave_out(const Count* counts, std::size_t size, float largest, float saturation,
                          float* __restrict values, std::uint8_t* __restrict valid, std::uint32_t* unusable,
                          std::uint32_t* saturated) {
    std::uint32_t used = 0;
    std::uint32_t full = 0;
    for (std::size_t i = 0; i < size; ++i) {
        const std::uint32_t wanted = valid[i] != 0 ? 1u : 0u;
        const std::uint32_t use = wanted & (std::fabs(values[i]) <= largest ? 1u : 0u);
        full += wanted & (static_cast<float>(counts[i]) >= saturation ? 1u : 0u);
        values[i] = use != 0 ? values[i] : 0.0f;
        valid[i] = static_cast<std::uint8_t>(use);
        used += use;
    }
    *unusable = static_cast<std::uint32_t>(size) - used;
    *saturated = full;
}

template <class Count>
SEDGE_LOOP Subtracted subtract_any(const Count* counts, const float* dark, const std::uint8_t* mask,
                                   std::size_t size, float largest, float saturation, float* values,
                                   std::uint8_t* valid) {
    double lanes[kLanes] = {};
    Subtracted found = {0, 0, 0.0};
    bool all = mask == nullptr; // so far every pixel is valid, and `valid` is not written
    for (std::size_t from = 0; from < size;
         from += kBlock) { // what a loop leaves in the cache serves the next
        const std::size_t some = size - from < kBlock ? size - from : kBlock;
        const Count* in = counts + from;
        float* out = values + from;
        std::uint32_t unusable;
        std::uint32_t saturated;
        if (dark == nullptr) {
            subtract_block<Count, false>(in, nullptr, some, largest, saturation, out, &unusable, &saturated);
        } else {
            subtract_block<Count, true>(in, dark + from, some, largest, saturation, out, &unusable,
                                        &saturated);
        }
        if (all && unusable != 0) {
            std::memset(valid, 1, from);
            all = false;
        }
        if (!all) {
            if (mask == nullptr) {
                std::memset(valid + from, 1, some);
            } else {
                std::memcpy(valid + from, mask + from, some);
            }
            leave_out<Count>(in, some, largest, saturation, out, valid + from, &unusable, &saturated);
        }
        found.valid += some - unusable;
        found.saturated += saturated;
        add_lanes(out, some, lanes);
    }
    found.sum = total(lanes);
    return found;
}

SEDGE_LOOP Subtracted subtract(const float* counts, const float* dark, const std::uint8_t* mask,
                               std::size_t size, float largest, float saturation, float* values,
                               std::uint8_t* valid) {
    return subtract_any(counts, dark, mask, size, largest, saturation, values, valid);
}

SEDGE_LOOP Subtracted subtract_u16(const std::uint16_t* counts, const float* dark, const std::uint8_t* mask,
                                   std::size_t size, float largest, float saturation, float* values,
                                   std::uint8_t* valid) {
    return subtract_any(counts, dark, mask, size, largest, saturation, values, valid);
}

SEDGE_LOOP void scale(float* values, std::size_t size, float divisor, bool root) {
    if (root) {
        for (std::size_t i = 0; i < size; ++i) {
            const float x = values[i] / divisor;
            values[i] = std::sqrt(x > 0.0f ? x : 0.0f);
        }
    } else {
        for (std::size_t i = 0; i < size; ++i) {
            values[i] = values[i] / divisor;
        }
    }
}

SEDGE_LOOP void quantise(const float* values, std::size_t size, float scale, std::int32_t zero_point,
                         std::int8_t* __restrict out) {
    for (std::size_t i = 0; i < size; ++i) {
        float x = values[i] / scale;
        x = x < -512.0f ? -512.0f : x; // outside of it the result is clamped anyway
        x = x > 512.0f ? 512.0f : x;
        const std::int32_t whole = static_cast<std::int32_t>(x); // towards zero
        const float rest = x - static_cast<float>(whole);        // exact
        const std::int32_t odd = whole & 1;
        const std::int32_t up = (rest > 0.5f ? 1 : 0) | ((rest == 0.5f ? 1 : 0) & odd);
        const std::int32_t down = (rest < -0.5f ? 1 : 0) | ((rest == -0.5f ? 1 : 0) & odd);
        std::int32_t moved = whole + up - down + zero_point;
        moved = moved < -128 ? -128 : moved;
        moved = moved > 127 ? 127 : moved;
        out[i] = static_cast<std::int8_t>(moved);
    }
}

SEDGE_LOOP void exact_block(const float* values, std::size_t size, float divisor, bool root, float step,
                            std::int32_t zero_point, std::int8_t* out) {
    float some[kSmallBlock];
    std::memcpy(some, values, size * sizeof(float));
    scale(some, size, divisor, root);
    quantise(some, size, step, zero_point, out);
}

// The value is values[i] * factor up to a relative error of 4.5 * 2^-24: the divisions, the product and
// (halved) what is under the root, one rounding each. The result can only differ from that of the exact steps
// where it is nearer to a tie than kDoubt, and there the exact steps decide. Results that are not clamped are
// below 384, so the error is below 1.1e-4; adding 512.5 rounds by another 6.2e-5 at most, 1.3e-4 in a
// directed rounding mode.
template <bool root>
SEDGE_LOOP void fused(const float* values, std::size_t size, float divisor, float factor, float step,
                      std::int32_t zero_point, std::int8_t* __restrict out) {
    for (std::size_t from = 0; from < size; from += kSmallBlock) {
        const std::size_t to = from + kSmallBlock < size ? from + kSmallBlock : size;
        std::uint32_t doubtful = 0;
        for (std::size_t i = from; i < to; ++i) {
            float x = values[i] * factor;
            if (root) {
                x = std::sqrt(x > 0.0f ? x : 0.0f);
            }
            if (!root) {
                x = x < -512.0f ? -512.0f : x; // outside of it the result is clamped anyway
            }
            x = x > 512.0f ? 512.0f : x;
            const float above = x + 512.5f;
            const std::int32_t whole = static_cast<std::int32_t>(above);
            const float rest = above - static_cast<float>(whole); // exact
            doubtful |= (rest < kDoubt ? 1u : 0u) | (rest > 1.0f - kDoubt ? 1u : 0u);
            std::int32_t moved = whole - 512 + zero_point;
            moved = moved < -128 ? -128 : moved;
            moved = moved > 127 ? 127 : moved;
            out[i] = static_cast<std::int8_t>(moved);
        }
        if (doubtful != 0) {
            exact_block(values + from, to - from, divisor, root, step, zero_point, out + from);
        }
    }
}

SEDGE_LOOP void scale_and_quantise(const float* values, std::size_t size, float divisor, bool root,
                                   float step, std::int32_t zero_point, std::int8_t* out) {
    // Within these bounds every product is within float32's normal range, or far beyond a clamp.
    if (!(step >= 1e-6f && step <= 1e6f)) {
        for (std::size_t from = 0; from < size; from += kSmallBlock) {
            const std::size_t some = size - from < kSmallBlock ? size - from : kSmallBlock;
            exact_block(values + from, some, divisor, root, step, zero_point, out + from);
        }
        return;
    }
    const double factor = 1.0 / (static_cast<double>(divisor) * static_cast<double>(step));
    if (root) {
        fused<true>(values, size, divisor, static_cast<float>(factor / static_cast<double>(step)), step,
                    zero_point, out);
    } else {
        fused<false>(values, size, divisor, static_cast<float>(factor), step, zero_point, out);
    }
}

SEDGE_LOOP std::size_t pick(const float* values, std::size_t size, float* __restrict out) {
    const std::size_t count = (size + kEvery - 1) / kEvery;
    for (std::size_t i = 0; i < count; ++i) {
        out[i] = values[kEvery * i];
    }
    return count;
}

SEDGE_LOOP std::size_t pick_steps(const float* values, std::size_t size, float* __restrict out) {
    const std::size_t count = (size + kEvery - 2) / kEvery; // kEvery * (count - 1) + 1 < size
    for (std::size_t i = 0; i < count; ++i) {
        out[i] = std::fabs(values[kEvery * i + 1] - values[kEvery * i]);
    }
    return count;
}

SEDGE_LOOP void keys(const float* values, std::size_t size, std::int16_t* __restrict out) {
    for (std::size_t i = 0; i < size; ++i) {
        const float value = values[i] + 0.0f; // no negative zero
        std::int32_t bits;
        std::memcpy(&bits, &value, 4);
        out[i] = static_cast<std::int16_t>((bits ^ ((bits >> 31) & 0x7fffffff)) >> 16);
    }
}

SEDGE_LOOP std::size_t below(const std::int16_t* keys, std::size_t size, std::int16_t key) {
    std::size_t count = 0;
    for (std::size_t from = 0; from < size; from += kMostInInt16) {
        const std::size_t to = from + kMostInInt16 < size ? from + kMostInInt16 : size;
        std::int16_t some = 0;
        for (std::size_t i = from; i < to; ++i) {
            some = static_cast<std::int16_t>(some + (keys[i] < key ? 1 : 0));
        }
        count += static_cast<std::size_t>(some);
    }
    return count;
}

#ifdef SEDGE_AVX512
SEDGE_LOOP std::size_t collect(const float* values, std::size_t size, float low, float high, float* out) {
    const __m512 from = _mm512_set1_ps(low);
    const __m512 to = _mm512_set1_ps(high);
    std::size_t count = 0;
    for (std::size_t i = 0; i < size; i += 16) {
        const __mmask16 there =
            size - i < 16 ? static_cast<__mmask16>((1u << (size - i)) - 1u) : __mmask16{0xffff};
        const __m512 some = _mm512_maskz_loadu_ps(there, values + i);
        const __mmask16 hits = _mm512_mask_cmp_ps_mask(_mm512_mask_cmp_ps_mask(there, some, from, _CMP_GE_OQ),
                                                       some, to, _CMP_LE_OQ);
        if (hits != 0) {
            _mm512_mask_compressstoreu_ps(out + count, hits, some);
            count += static_cast<std::size_t>(__builtin_popcount(hits));
        }
    }
    return count;
}
#else
SEDGE_LOOP std::size_t collect(const float* values, std::size_t size, float low, float high,
                               float* __restrict out) {
    std::size_t count = 0;
    for (std::size_t from = 0; from < size; from += kLanes) { // most blocks hold none
        const std::size_t to = from + kLanes < size ? from + kLanes : size;
        std::uint32_t hits = 0;
        for (std::size_t i = from; i < to; ++i) {
            hits += (values[i] >= low ? 1u : 0u) & (values[i] <= high ? 1u : 0u);
        }
        for (std::size_t i = from; hits != 0 && i < to; ++i) {
            out[count] = values[i];
            count += values[i] >= low && values[i] <= high ? 1 : 0;
        }
    }
    return count;
}
#endif

template <typename Index>
SEDGE_LOOP void interpolate_some(const float* values, const Index* left, const float* fraction,
                                 std::size_t size, float* __restrict out) {
    for (std::size_t i = 0; i < size; ++i) {
        const float a = values[left[i]];
        const float b = values[left[i] + 1];
        out[i] = a + fraction[i] * (b - a);
    }
}

#ifdef SEDGE_AVX512
// Sixteen grid points lie within 32 pixels as a rule: these are loaded as they stand and permuted, not
// gathered.
SEDGE_LOOP __m512i load_indices(const std::uint16_t* left) {
    // Masked, by all: the unmasked one warns of an uninitialised value (GCC 12).
    const __m256i some = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(left));
    return _mm512_maskz_cvtepu16_epi32(__mmask16{0xffff}, some);
}

SEDGE_LOOP __m512i load_indices(const std::uint32_t* left) { return _mm512_loadu_si512(left); }

template <typename Index>
SEDGE_LOOP void interpolate_any(const float* values, std::size_t channels, const Index* left,
                                const float* fraction, std::size_t size, float* __restrict out) {
    const __m512i one = _mm512_set1_epi32(1);
    std::size_t i = 0;
    for (; i + 16 <= size; i += 16) {
        const std::size_t first = left[i];
        if (left[i + 15] - first > 30 || first + 32 > channels) {
            interpolate_some(values, left + i, fraction + i, 16, out + i);
            continue;
        }
        const __m512 low = _mm512_loadu_ps(values + first);
        const __m512 high = _mm512_loadu_ps(values + first + 16);
        const __m512i at =
            _mm512_sub_epi32(load_indices(left + i), _mm512_set1_epi32(static_cast<std::int32_t>(first)));
        const __m512 a = _mm512_permutex2var_ps(low, at, high);
        const __m512 b = _mm512_permutex2var_ps(low, _mm512_add_epi32(at, one), high);
        const __m512 part = _mm512_mul_ps(_mm512_loadu_ps(fraction + i), _mm512_sub_ps(b, a));
        _mm512_storeu_ps(out + i, _mm512_add_ps(a, part));
    }
    interpolate_some(values, left + i, fraction + i, size - i, out + i);
}
#else
template <typename Index>
SEDGE_LOOP void interpolate_any(const float* values, std::size_t, const Index* left, const float* fraction,
                                std::size_t size, float* __restrict out) {
    interpolate_some(values, left, fraction, size, out);
}
#endif

SEDGE_LOOP void interpolate(const float* values, std::size_t channels, const std::uint16_t* left,
                            const float* fraction, std::size_t size, float* out) {
    interpolate_any(values, channels, left, fraction, size, out);
}

SEDGE_LOOP void interpolate_wide(const float* values, std::size_t channels, const std::uint32_t* left,
                                 const float* fraction, std::size_t size, float* out) {
    interpolate_any(values, channels, left, fraction, size, out);
}

SEDGE_LOOP void convolve(const float* values, const float* weights, std::size_t window, std::size_t size,
                         float* __restrict out) {
    for (std::size_t i = 0; i < size; ++i) {
        out[i] = weights[0] * values[i];
    }
    for (std::size_t k = 1; k < window; ++k) {
        const float weight = weights[k];
        for (std::size_t i = 0; i < size; ++i) {
            out[i] += weight * values[i + k];
        }
    }
}

SEDGE_LOOP void clip(const float* values, std::size_t size, std::size_t p, float* __restrict out) {
    for (std::size_t i = 0; i < p; ++i) {
        out[i] = values[i];
        out[size - 1 - i] = values[size - 1 - i];
    }
    for (std::size_t i = p; i < size - p; ++i) {
        const float between = (values[i - p] + values[i + p]) * 0.5f;
        out[i] = values[i] > between ? between : values[i];
    }
}

SEDGE_LOOP void subtract_from(float* values, const float* other, std::size_t size) {
    for (std::size_t i = 0; i < size; ++i) {
        values[i] -= other[i];
    }
}

constexpr PixelLoops kLoops = {
    SEDGE_NAME,         subtract, subtract_u16,  sum,         scale,           quantise,
    scale_and_quantise, pick,     pick_steps,    keys,        below,           collect,
    convolve,           clip,     subtract_from, interpolate, interpolate_wide};
