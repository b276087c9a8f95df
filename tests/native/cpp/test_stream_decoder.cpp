// The stream decoder without Python: every chunking, damage, resynchronisation, and not one allocation.
#include "check.h"
#include "crc32c.h"
#include "stream_decoder.h"

#include <algorithm>
#include <cstring>
#include <vector>

SEDGE_COUNT_ALLOCATIONS

namespace {

using Bytes = std::vector<std::uint8_t>;

void put(Bytes& to, std::uint64_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) {
        to.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
    }
}

// From the table in docs/architecture.md.
Bytes encode(std::uint64_t sequence, std::uint32_t channels, std::uint8_t dtype) {
    Bytes frame = {'S', 'E', 'D', 'G'};
    put(frame, 1, 2);
    put(frame, sequence % 8, 2);
    put(frame, 0x01020304, 4);
    put(frame, 7, 4);
    put(frame, sequence, 8);
    put(frame, 1700000000123456789u, 8);
    put(frame, 5000, 4);
    put(frame, 2500, 4);
    put(frame, channels, 4);
    put(frame, dtype, 1);
    put(frame, 0, 7);
    Bytes payload;
    for (std::uint32_t i = 0; i < channels; ++i) {
        put(payload, sequence * 31 + i * 7, dtype == 1 ? 2 : 4);
    }
    const std::uint32_t crc =
        sedge::crc32c(payload.data(), payload.size(), sedge::crc32c(frame.data(), frame.size()));
    put(frame, crc, 4);
    frame.insert(frame.end(), payload.begin(), payload.end());
    return frame;
}

struct Decoded {
    std::vector<std::uint64_t> sequences;
    sedge::DecoderCounters counters;
    std::uint64_t frame_bytes = 0;
    bool before_finish = false; // everything came out before finish()
};

Decoded decode(const Bytes& stream, std::size_t chunk, std::uint32_t max_channels, bool verify_crc = true) {
    Decoded result;
    result.sequences.reserve(stream.size() / sedge::kFrameHeaderBytes + 1);
    Bytes buffer(sedge::StreamDecoder::buffer_bytes(max_channels));
    sedge::StreamDecoder decoder(buffer.data(), max_channels, verify_crc);
    const std::size_t allocated = allocations;
    sedge::FrameView frame;
    const auto drain = [&] {
        while (decoder.next(&frame)) {
            result.sequences.push_back(frame.sequence);
            result.frame_bytes += sedge::kFrameHeaderBytes + frame.payload_bytes;
        }
    };
    for (std::size_t at = 0; at < stream.size();) {
        const std::size_t end = std::min(stream.size(), at + chunk);
        while (at < end) {
            at += decoder.push(stream.data() + at, end - at);
            drain();
        }
    }
    const std::size_t before = result.sequences.size();
    decoder.finish();
    drain();
    CHECK(allocations == allocated);
    CHECK(decoder.push(stream.data(), 1) == 0);
    result.before_finish = before == result.sequences.size();
    result.counters = decoder.counters();
    CHECK(result.frame_bytes + result.counters.garbage_bytes + result.counters.truncated_bytes ==
          stream.size());
    CHECK(result.counters.frames == result.sequences.size());
    return result;
}

void append(Bytes& to, const Bytes& more) { to.insert(to.end(), more.begin(), more.end()); }

void check_fields() {
    const Bytes bytes = encode(0x1122334455667788u, 3, 2);
    Bytes buffer(sedge::StreamDecoder::buffer_bytes(3));
    sedge::StreamDecoder decoder(buffer.data(), 3);
    sedge::FrameView frame;
    CHECK(decoder.push(bytes.data(), bytes.size()) == bytes.size());
    CHECK(decoder.next(&frame));
    CHECK(frame.flags == 0 && frame.stream_id == 0x01020304 && frame.epoch == 7);
    CHECK(frame.sequence == 0x1122334455667788u && frame.time_ns == 1700000000123456789u);
    CHECK(frame.integration_us == 5000 && frame.distance_mm == 2500 && frame.channels == 3);
    CHECK(frame.dtype == sedge::FrameDtype::float32 && frame.payload_bytes == 12);
    CHECK(std::memcmp(frame.payload, bytes.data() + sedge::kFrameHeaderBytes, 12) == 0);
    CHECK(!decoder.next(&frame));
}

void check_chunkings() {
    Bytes stream;
    for (std::uint64_t i = 0; i < 20; ++i) {
        append(stream, Bytes(i % 5, static_cast<std::uint8_t>('S')));
        append(stream, encode(i, static_cast<std::uint32_t>(1 + i * 3), i % 2 == 0 ? 1 : 2));
    }
    for (const std::size_t chunk : {1, 2, 3, 7, 55, 56, 57, 1000, 100000}) {
        const Decoded decoded = decode(stream, chunk, 64);
        CHECK(decoded.sequences.size() == 20 && decoded.before_finish);
        CHECK(std::is_sorted(decoded.sequences.begin(), decoded.sequences.end()));
        CHECK(decoded.counters.garbage_bytes == 40 && decoded.counters.truncated_bytes == 0);
    }
}

// Each bit of a frame flipped: it never comes out, its neighbours always do.
void check_every_flipped_bit() {
    const Bytes first = encode(1, 4, 1);
    const Bytes middle = encode(2, 4, 1);
    const Bytes last = encode(3, 4, 1);
    std::size_t let_through = 0;
    for (std::size_t bit = 0; bit < 8 * middle.size(); ++bit) {
        Bytes stream = first;
        append(stream, middle);
        append(stream, last);
        stream[first.size() + bit / 8] ^= static_cast<std::uint8_t>(1u << (bit % 8));
        const Decoded decoded = decode(stream, 50, 300);
        CHECK((decoded.sequences == std::vector<std::uint64_t>{1, 3}));
        CHECK(decoded.counters.garbage_bytes == middle.size());
        // Negative control: with the CRC check off, damage in the payload comes out.
        let_through += decode(stream, 50, 300, false).sequences.size() == 3;
    }
    CHECK(let_through > 8 * 4 * 2);
}

// A damaged length holds the frames behind it back by one frame of the largest size at most.
void check_resync_bound() {
    constexpr std::uint32_t max_channels = 100;
    const std::size_t largest = sedge::kFrameHeaderBytes + 4 * max_channels;
    Bytes stream = encode(0, 2, 2);
    stream[40] = max_channels; // claims 100 channels
    std::size_t after = 0;
    Bytes buffer(sedge::StreamDecoder::buffer_bytes(max_channels));
    sedge::StreamDecoder decoder(buffer.data(), max_channels);
    sedge::FrameView frame;
    CHECK(decoder.push(stream.data(), stream.size()) == stream.size() && !decoder.next(&frame));
    std::uint64_t expected = 1;
    for (std::uint64_t i = 1; i < 40; ++i) {
        const Bytes good = encode(i, 2, 1);
        CHECK(decoder.push(good.data(), good.size()) == good.size());
        after += good.size();
        while (decoder.next(&frame)) {
            CHECK(frame.sequence == expected++);
        }
        CHECK(after + stream.size() < largest || expected == i + 1);
    }
    CHECK(expected == 40 && decoder.counters().crc_errors == 1);
}

void check_false_header_at_the_end() {
    Bytes stream = encode(0, 90, 2);
    stream.resize(60); // cut short: claims 416 bytes
    append(stream, encode(1, 2, 1));
    append(stream, encode(2, 2, 1));
    append(stream, {'S', 'E', 'D'});
    const Decoded decoded = decode(stream, 64, 100);
    CHECK((decoded.sequences == std::vector<std::uint64_t>{1, 2}) && !decoded.before_finish);
    CHECK(decoded.counters.garbage_bytes == 60 && decoded.counters.truncated_bytes == 3);
}

void check_ranges() {
    struct Case {
        std::size_t offset;
        std::uint8_t value;
    };
    for (const Case bad : {Case{4, 2}, Case{5, 1}, Case{6, 8}, Case{7, 1}, Case{40, 0}, Case{40, 17},
                           Case{43, 1}, Case{44, 0}, Case{44, 3}, Case{45, 1}, Case{51, 1}}) {
        Bytes stream = encode(0, 16, 1);
        stream[bad.offset] = bad.value;
        const std::uint32_t header = sedge::crc32c(stream.data(), 52);
        const std::uint32_t crc = sedge::crc32c(stream.data() + 56, stream.size() - 56, header);
        for (std::size_t i = 0; i < 4; ++i) {
            stream[52 + i] =
                static_cast<std::uint8_t>(crc >> (8 * i)); // the CRC holds: only the range is wrong
        }
        const Decoded decoded = decode(stream, 1000, 16);
        CHECK(decoded.sequences.empty() && decoded.counters.header_errors == 1 &&
              decoded.counters.crc_errors == 0);
    }
    CHECK(decode(encode(0, 16, 1), 1000, 16).sequences.size() == 1);
}

void check_random_garbage() {
    Random random{11};
    for (int round = 0; round < 300; ++round) {
        Bytes stream;
        std::vector<std::uint64_t> expected;
        for (std::uint64_t i = 0; i < 12; ++i) {
            Bytes piece;
            if (random.below(3) == 0) {
                piece = encode(1000 + i, static_cast<std::uint32_t>(1 + random.below(16)), 1);
                piece.resize(random.below(piece.size())); // cut short
            } else {
                piece = encode(i, static_cast<std::uint32_t>(1 + random.below(16)), 1);
                expected.push_back(i);
            }
            append(stream, piece);
            for (std::size_t n = random.below(6); n > 0; --n) {
                stream.push_back(static_cast<std::uint8_t>("SEDG\x01"[random.below(5)]));
            }
        }
        CHECK(decode(stream, 1 + random.below(200), 16).sequences == expected);
    }
}

} // namespace

int main() {
    check_fields();
    check_chunkings();
    check_every_flipped_bit();
    check_resync_bound();
    check_false_header_at_the_end();
    check_ranges();
    check_random_garbage();
    return check_failures != 0;
}
