// Included once per instruction set, inside a namespace of its own; SEDGE_LOOP carries the target attribute.

SEDGE_LOOP std::size_t subtract(const float* counts, const float* dark, const std::uint8_t* mask,
                                std::size_t size, float largest, float* __restrict values,
                                std::uint8_t* __restrict valid) {
    if (dark == nullptr) {
        for (std::size_t i = 0; i < size; ++i) {
            values[i] = counts[i];
        }
    } else {
        for (std::size_t i = 0; i < size; ++i) {
            values[i] = counts[i] - dark[i];
        }
    }
    std::uint32_t bad = 0;
    for (std::size_t i = 0; i < size; ++i) {
        bad += std::fabs(values[i]) <= largest ? 0u : 1u; // counts NaN
    }
    std::uint32_t masked = 0;
    for (std::size_t i = 0; i < size; ++i) {
        valid[i] = mask[i] != 0 ? 1 : 0;
        masked += mask[i] != 0 ? 0u : 1u;
    }
    if (bad == 0 && masked == 0) {
        return size;
    }
    std::size_t count = 0;
    for (std::size_t i = 0; i < size; ++i) {
        const bool use = valid[i] != 0 && std::fabs(values[i]) <= largest;
        values[i] = use ? values[i] : 0.0f;
        valid[i] = use ? 1 : 0;
        count += use ? 1 : 0;
    }
    return count;
}

SEDGE_LOOP double sum(const float* values, std::size_t size) {
    double lanes[kLanes] = {};
    std::size_t i = 0;
    for (; i + kLanes <= size; i += kLanes) {
        for (std::size_t k = 0; k < kLanes; ++k) {
            lanes[k] += static_cast<double>(values[i + k]);
        }
    }
    for (std::size_t k = 0; i < size; ++i, ++k) {
        lanes[k] += static_cast<double>(values[i]);
    }
    double total = 0.0;
    for (const double lane : lanes) {
        total += lane;
    }
    return total;
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

SEDGE_LOOP void differences(const float* values, std::size_t size, float* __restrict out) {
    for (std::size_t i = 0; i + 1 < size; ++i) {
        out[i] = std::fabs(values[i + 1] - values[i]);
    }
}

SEDGE_LOOP void keys(const float* values, std::size_t size, std::uint16_t* __restrict out) {
    for (std::size_t i = 0; i < size; ++i) {
        std::uint32_t bits;
        std::memcpy(&bits, values + i, 4);
        const std::uint32_t flip =
            static_cast<std::uint32_t>(static_cast<std::int32_t>(bits) >> 31) | 0x80000000u;
        out[i] = static_cast<std::uint16_t>((bits ^ flip) >> 16);
    }
}

SEDGE_LOOP std::size_t collect(const float* values, std::size_t size, float threshold,
                               float* __restrict out) {
    std::size_t count = 0;
    std::size_t i = 0;
    for (; i + kLanes <= size; i += kLanes) { // most blocks hold none
        std::uint32_t hits = 0;
        for (std::size_t k = 0; k < kLanes; ++k) {
            hits += values[i + k] >= threshold ? 1u : 0u;
        }
        if (hits != 0) {
            for (std::size_t k = 0; k < kLanes; ++k) {
                out[count] = values[i + k];
                count += values[i + k] >= threshold ? 1 : 0;
            }
        }
    }
    for (; i < size; ++i) {
        out[count] = values[i];
        count += values[i] >= threshold ? 1 : 0;
    }
    return count;
}

SEDGE_LOOP std::size_t at_least(const float* counts, const std::uint8_t* mask, std::size_t size,
                                float level) {
    std::uint32_t count = 0;
    for (std::size_t i = 0; i < size; ++i) {
        count += (counts[i] >= level ? 1u : 0u) & (mask[i] != 0 ? 1u : 0u);
    }
    return count;
}

SEDGE_LOOP void interpolate(const float* values, const std::uint32_t* left, const float* fraction,
                            std::size_t size, float* __restrict out) {
    for (std::size_t i = 0; i < size; ++i) {
        const float a = values[left[i]];
        const float b = values[left[i] + 1];
        out[i] = a + fraction[i] * (b - a);
    }
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

constexpr PixelLoops kLoops = {SEDGE_NAME, subtract, sum,  scale,         quantise, differences, keys,
                               collect,    convolve, clip, subtract_from, at_least, interpolate};
