// What a source counts: frames that came and could not be decoded, by reason, and numbers for the account.
// The names are those of the Python runtime's sources.
#ifndef LIBSEDGE_RUNNER_COUNTS_H
#define LIBSEDGE_RUNNER_COUNTS_H

#include <array>
#include <cstddef>
#include <cstdint>

namespace sedge::runner {

enum Count : std::size_t {
    kBadTag,
    kCrc,
    kGarbage,
    kHeader,
    kIncomplete,
    kReplayed,
    kStuffing,
    kTooLong,
    kTruncated,
    kWrongStream,
    kReasons, // those above are reasons of a refusal
    kDecoded = kReasons,
    kGarbageBytes,
    kTruncatedBytes,
    kTooLongBytes,
    kMessages,
    kMessageBytes,
    kPackets,
    kPacketsDamaged,
    kPacketsOther,
    kPacketsLost, // may shrink: a packet that was late
    kPacketsAmbiguous,
    kSegmentsAgain,
    kCounts
};

constexpr const char* kCountNames[kCounts] = {
    "bad_tag",           "crc",           "garbage",         "header",         "incomplete",
    "replayed",          "stuffing",      "too_long",        "truncated",      "wrong_stream",
    "decoded",           "garbage_bytes", "truncated_bytes", "too_long_bytes", "messages",
    "message_bytes",     "packets",       "packets_damaged", "packets_other",  "packets_lost",
    "packets_ambiguous", "segments_again"};

using Counts = std::array<std::uint64_t, kCounts>;

} // namespace sedge::runner

#endif
