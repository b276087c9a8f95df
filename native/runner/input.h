// Where frames come from: standard input, a port, a serial line. One thread, nothing
// queued: a peer that is faster than the runner waits, where the transport has a way to make it wait.
#ifndef LIBSEDGE_RUNNER_INPUT_H
#define LIBSEDGE_RUNNER_INPUT_H

#include "clock.h"
#include "endpoint.h"
#include "frame_reader.h"
#include "ledger.h"
#include "signed_frames.h"

#include <memory>
#include <vector>

namespace sedge::runner {

class Input {
public:
    static constexpr std::size_t kMaxConnections = 8;

    // What `libsedge-run --source` takes.
    enum class Kind { stdin_stream, tcp, udp, ccsds_tcp, ccsds_udp, serial };

    struct Numbers {
        std::uint64_t connections, connections_refused, cut_off, reopened;
    };

    // `idle_s`: a peer that stopped in the middle of a frame is cut off after it, a frame whose segments stop
    // coming is given up.
    // With a key nothing but signed frames is taken.
    Input(std::uint32_t max_channels, double idle_s, const Authentication& with, Ledger* ledger);
    ~Input();
    Input(const Input&) = delete;
    Input& operator=(const Input&) = delete;

    // Null, or what is wrong with `source`. All memory is taken here.
    const char* open(const char* source);
    const char* address() const { return socket_.address; } // "127.0.0.1:5600"; empty where nothing listens
    Kind kind() const { return kind_; }

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

    // The run ends now: what was cut off in the middle of a frame is refused.
    void cut_off();

    double turned_at() const { return turned_at_; } // when the last wait ended
    int broken() const { return broken_; }          // errno, where standard input could not be read on

    const Numbers& numbers() const { return numbers_; }
    const Counts& counts() const { return counts_; } // of all streams so far

    // Datagrams that the kernel dropped because they were not read in time; ~0 where it does not tell.
    std::uint64_t dropped_by_kernel() const;

private:
    static constexpr int kDatagramsATurn = 64;

    struct Stream {
        int fd = -1;
        bool ready = false;
        bool finished = false;
        double partial_since = -1.0; // seconds of the monotonic clock; negative: no frame is half here
        std::unique_ptr<FrameReader> reader;
        Counts counted{};
    };

    // Reads what is there; frames of one chunk are taken before the next chunk is read.
    template <typename Take>
    bool drain(Stream& stream, Take&& take) {
        if (stream.fd < 0 || !(stream.ready || stream.finished)) {
            return true;
        }
        bool go_on = true;
        bool any = false;
        std::size_t left = 0;
        for (int n = datagrams() ? kDatagramsATurn : 1; go_on && n > 0 && read_some(stream, &left); --n) {
            const std::uint8_t* bytes = bytes_.get();
            do {
                const std::size_t taken = stream.reader->push(bytes, left);
                bytes += taken;
                left -= taken;
                FrameView frame;
                while (go_on && stream.reader->next(&frame)) {
                    any = true;
                    go_on = take(frame);
                }
            } while (go_on && left > 0);
        }
        settle(stream, any);
        return go_on;
    }

    const char* open_serial_line(const char* spec);
    const char* open_packets(const char* spec);
    const char* open_port(const char* where);
    void make_streams(std::size_t count, Carrier carrier, std::uint16_t apid);
    bool wait(int timeout_ms);
    void reopen();
    void accept_one();
    bool read_some(Stream& stream, std::size_t* bytes);
    void settle(Stream& stream, bool any);
    bool listens() const { return kind_ == Kind::tcp || kind_ == Kind::ccsds_tcp; }
    bool datagrams() const { return kind_ == Kind::udp || kind_ == Kind::ccsds_udp; }
    bool can_have_a_key() const { return datagrams() || kind_ == Kind::serial; }

    std::uint32_t max_channels_;
    double idle_s_;
    Authentication with_;
    Ledger* ledger_;
    Kind kind_ = Kind::stdin_stream;
    Socket socket_; // that listens, or whose datagrams are read
    SerialLine line_;
    double try_at_ = 0.0; // when a device that is away is opened again
    bool ended_ = false;
    int broken_ = 0;
    double turned_at_;
    Numbers numbers_{};
    Counts counts_{};
    std::unique_ptr<std::uint8_t[]> bytes_;
    std::vector<Stream> streams_;
};

} // namespace sedge::runner

#endif
