// Where frames come from: standard input, or a TCP server on a loopback address (no authentication yet, so
// nothing else is bound). Every byte stream has a decoder of its own; one thread, nothing queued: a peer that
// is faster than the runner waits.
#ifndef LIBSEDGE_RUNNER_INPUT_H
#define LIBSEDGE_RUNNER_INPUT_H

#include "ledger.h"
#include "stream_decoder.h"

#include <memory>
#include <vector>

namespace sedge::runner {

class Input {
public:
    static constexpr std::size_t kMaxConnections = 8;

    struct Numbers {
        std::uint64_t connections, connections_refused, cut_off, decoded, garbage_bytes, truncated_bytes;
    };

    // All memory is taken here. `idle_s`: a peer that stopped in the middle of a frame is cut off after it.
    Input(std::uint32_t max_channels, double idle_s, Ledger* ledger);
    ~Input();
    Input(const Input&) = delete;
    Input& operator=(const Input&) = delete;

    // "stdin", "tcp:PORT" or "tcp:ADDRESS:PORT"; null, or what is wrong with it.
    const char* open(const char* source);
    const char* address() const { return address_; } // "127.0.0.1:5600"; empty for stdin

    // One turn of at most `timeout_ms`: hands every frame that came to `take(frame)`, which returns false to
    // stop. False when the run is to end: standard input ended, or `take` said so.
    template <typename Take>
    bool turn(int timeout_ms, Take&& take) {
        bool go_on = wait(timeout_ms);
        for (Stream& stream : streams_) {
            go_on = drain(stream, take) && go_on;
        }
        return go_on && !ended_;
    }

    // The run ends now: what was cut off in the middle of a frame is refused as truncated.
    void cut_off();

    Numbers numbers() const;

private:
    struct Stream {
        int fd = -1;
        bool ready = false;
        bool finished = false;
        double partial_since = -1.0; // seconds of the monotonic clock; negative: no frame is half here
        std::unique_ptr<std::uint8_t[]> buffer;
        std::unique_ptr<StreamDecoder> decoder;
        DecoderCounters counted{};
        std::size_t filled = 0; // of bytes_, still to be pushed
    };

    // Reads what is there; frames of one chunk are taken before the next chunk is read.
    template <typename Take>
    bool drain(Stream& stream, Take&& take) {
        if (stream.fd < 0 || !(stream.ready || stream.finished)) {
            return true;
        }
        const std::uint8_t* bytes = bytes_.get();
        std::size_t left = stream.finished ? 0 : read_some(stream);
        bool go_on = true;
        bool any = false;
        do {
            const std::size_t taken = stream.decoder->push(bytes, left);
            bytes += taken;
            left -= taken;
            FrameView frame;
            while (go_on && stream.decoder->next(&frame)) {
                any = true;
                go_on = take(frame);
            }
        } while (go_on && left > 0);
        settle(stream, any);
        return go_on;
    }

    const char* listen_on(const char* address, int port);
    bool wait(int timeout_ms);
    void accept_one();
    std::size_t read_some(Stream& stream);
    void settle(Stream& stream, bool any);

    std::uint32_t max_channels_;
    double idle_s_;
    Ledger* ledger_;
    int listener_ = -1;
    bool ended_ = false;
    double turned_at_ = 0.0;
    char address_[64] = "";
    Numbers numbers_{};
    std::unique_ptr<std::uint8_t[]> bytes_;
    std::vector<Stream> streams_;
};

} // namespace sedge::runner

#endif
