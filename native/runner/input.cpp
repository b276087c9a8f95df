#include "input.h"

#include "space_packets.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace sedge::runner {
namespace {

constexpr std::size_t kChunk = 1 << 16; // no datagram is larger
constexpr double kReopenS = 0.5;

// What follows `prefix` in `text`; null where it does not begin so.
const char* behind(const char* text, const char* prefix) {
    const std::size_t length = std::strlen(prefix);
    return std::strncmp(text, prefix, length) == 0 ? text + length : nullptr;
}

} // namespace

Input::Input(std::uint32_t max_channels, double idle_s, const Authentication& with, Ledger* ledger)
    : max_channels_(max_channels), idle_s_(idle_s), with_(with), ledger_(ledger), turned_at_(now_s()),
      bytes_(new std::uint8_t[kChunk]) {}

Input::~Input() {
    for (const Stream& stream : streams_) {
        if (stream.fd > 0 && stream.fd != socket_.fd) {
            close(stream.fd);
        }
    }
    if (socket_.fd >= 0) {
        close(socket_.fd);
    }
}

void Input::make_streams(std::size_t count, Carrier carrier, std::uint16_t apid) {
    streams_ = std::vector<Stream>(count);
    for (Stream& stream : streams_) {
        stream.reader = make_reader(carrier, max_channels_, apid, with_);
    }
}

const char* Input::open(const char* source) {
    const char* wrong = nullptr;
    if (std::strcmp(source, "stdin") == 0) {
        make_streams(1, Carrier::stream, 0);
        streams_[0].fd = STDIN_FILENO;
    } else if (const char* of_tcp = behind(source, "tcp:")) {
        kind_ = Kind::tcp;
        make_streams(kMaxConnections, Carrier::stream, 0);
        wrong = open_port(of_tcp);
    } else if (const char* of_udp = behind(source, "udp:")) {
        kind_ = Kind::udp;
        make_streams(1, Carrier::datagrams, 0);
        wrong = open_port(of_udp);
    } else if (const char* of_packets = behind(source, "ccsds:")) {
        wrong = open_packets(of_packets);
    } else if (const char* of_line = behind(source, "serial:")) {
        wrong = open_serial_line(of_line);
    } else {
        return "must be stdin, tcp:, udp:, ccsds:udp:, ccsds:tcp: or serial:, and where";
    }
    const bool in_vain = with_.key != nullptr && !can_have_a_key();
    return wrong == nullptr && in_vain ? "--hmac-key is for udp, ccsds:udp and serial" : wrong;
}

const char* Input::open_port(const char* where) {
    const char* wrong =
        open_server(where, datagrams() ? SOCK_DGRAM : SOCK_STREAM, static_cast<int>(kMaxConnections),
                    with_.key != nullptr && can_have_a_key(), &socket_);
    if (datagrams()) {
        streams_[0].fd = socket_.fd;
    }
    return wrong;
}

// udp:[ADDRESS:]PORT or tcp:[ADDRESS:]PORT, and ,apid=N.
const char* Input::open_packets(const char* spec) {
    const char* udp = behind(spec, "udp:");
    const char* where = udp != nullptr ? udp : behind(spec, "tcp:");
    if (where == nullptr) {
        return "must be ccsds:udp:PORT or ccsds:tcp:PORT";
    }
    char address[64];
    const std::size_t length = std::strcspn(where, ",");
    if (length >= sizeof address) {
        return "the address is malformed";
    }
    std::memcpy(address, where, length);
    address[length] = '\0';
    unsigned long apid = kDefaultApid;
    if (where[length] == ',') {
        const char* number = behind(where + length, ",apid=");
        char* end = nullptr;
        apid =
            number != nullptr && number[0] >= '0' && number[0] <= '9' ? std::strtoul(number, &end, 10) : 2047;
        if (apid >= 2047 || *end != '\0') {
            return "the option must be apid=N, 0 to 2046";
        }
    }
    kind_ = udp != nullptr ? Kind::ccsds_udp : Kind::ccsds_tcp;
    make_streams(datagrams() ? 1 : kMaxConnections,
                 datagrams() ? Carrier::datagrams_of_packets : Carrier::packets,
                 static_cast<std::uint16_t>(apid));
    return open_port(address);
}

const char* Input::open_serial_line(const char* spec) {
    kind_ = Kind::serial;
    make_streams(1, Carrier::blocks, 0);
    const char* wrong = parse_serial(spec, &line_);
    return wrong != nullptr ? wrong : open_serial(line_, &streams_[0].fd);
}

// True; false on an error that ends the run.
bool Input::wait(int timeout_ms) {
    const double held = now_s() - turned_at_; // frames were being decided: no peer's fault
    pollfd fds[kMaxConnections + 1];
    Stream* owners[kMaxConnections + 1];
    nfds_t count = 0;
    for (Stream& stream : streams_) {
        stream.ready = false;
        if (stream.fd >= 0) {
            stream.partial_since += stream.partial_since >= 0.0 ? held : 0.0;
            owners[count] = &stream;
            fds[count++] = {stream.fd, POLLIN, 0};
        }
    }
    if (listens()) {
        fds[count] = {socket_.fd, POLLIN, 0};
    }
    const int ready = poll(fds, count + (listens() ? 1 : 0), timeout_ms);
    turned_at_ = now_s();
    if (ready < 0) {
        return errno == EINTR;
    }
    for (nfds_t i = 0; i < count; ++i) {
        owners[i]->ready = fds[i].revents != 0;
        const double since = owners[i]->partial_since;
        if (!owners[i]->ready && listens() && since >= 0.0 && turned_at_ - since > idle_s_) {
            ++numbers_.cut_off;
            owners[i]->finished = true;
            owners[i]->reader->finish();
        }
    }
    if (listens() && fds[count].revents != 0) {
        accept_one();
    }
    if (datagrams() && ready == 0) {
        streams_[0].reader->expire(turned_at_ - idle_s_);
        settle(streams_[0], false);
    }
    if (kind_ == Kind::serial && streams_[0].fd < 0) {
        reopen();
    }
    return true;
}

// A device that went away, tried twice a second.
void Input::reopen() {
    if (turned_at_ >= try_at_) {
        try_at_ = turned_at_ + kReopenS;
        numbers_.reopened += open_serial(line_, &streams_[0].fd) == nullptr ? 1 : 0;
    }
}

void Input::accept_one() {
    const int fd = accept4(socket_.fd, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) { // the peer left before it was accepted
        return;
    }
    for (Stream& stream : streams_) {
        if (stream.fd < 0) {
            const int yes = 1;
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
            ++numbers_.connections;
            stream.reader->restart();
            stream.fd = fd;
            stream.finished = false;
            stream.partial_since = -1.0;
            stream.counted = {};
            return;
        }
    }
    ++numbers_.connections_refused;
    close(fd);
}

// Bytes into bytes_, or none where the stream is finished; false when there are none now.
bool Input::read_some(Stream& stream, std::size_t* bytes) {
    *bytes = 0;
    if (stream.finished) {
        return true;
    }
    const ssize_t n = read(stream.fd, bytes_.get(), kChunk);
    if (n > 0 || (n == 0 && datagrams())) {
        *bytes = static_cast<std::size_t>(n);
        return true;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR || datagrams())) {
        return false;
    }
    if (kind_ == Kind::serial) { // the device is gone: what stands without an end has ended
        close(stream.fd);
        stream.fd = -1;
        bytes_[0] = 0;
        *bytes = 1;
        return true;
    }
    if (n < 0 && !listens()) {
        broken_ = errno;
    }
    stream.finished = true;
    stream.reader->finish();
    return true;
}

// After the frames of a chunk were taken: what was refused goes to the ledger; a finished stream is closed.
void Input::settle(Stream& stream, bool any) {
    const Counts now = stream.reader->counts();
    for (std::size_t i = 0; i < kCounts; ++i) {
        const std::uint64_t growth = now[i] - stream.counted[i];
        counts_[i] += growth;
        if (i < kReasons) {
            ledger_->refused[i] += growth;
        }
    }
    stream.counted = now;
    if (stream.reader->pending_bytes() == 0) {
        stream.partial_since = -1.0;
    } else if (any || stream.partial_since < 0.0) {
        stream.partial_since = now_s();
    }
    if (stream.finished) {
        if (listens()) {
            close(stream.fd);
        }
        ended_ = !listens();
        stream.fd = -1;
    }
}

void Input::cut_off() {
    for (Stream& stream : streams_) {
        if (stream.fd >= 0 || kind_ == Kind::serial) {
            FrameView frame;
            stream.reader->finish();
            while (stream.reader->next(&frame)) { // whole frames behind a false header: they come too late
            }
            settle(stream, false);
        }
    }
}

std::uint64_t Input::dropped_by_kernel() const {
    constexpr int kMemInfo = 55;      // SO_MEMINFO, linux/asm-generic/socket.h
    constexpr std::size_t kDrops = 8; // SK_MEMINFO_DROPS, linux/sock_diag.h
    std::uint32_t told[9] = {};
    socklen_t size = sizeof told;
    const bool tells = socket_.fd >= 0 && getsockopt(socket_.fd, SOL_SOCKET, kMemInfo, told, &size) == 0;
    return tells && size > kDrops * sizeof *told ? told[kDrops] : ~std::uint64_t{0};
}

} // namespace sedge::runner
