#include "input.h"

#include <arpa/inet.h>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace sedge::runner {
namespace {

constexpr std::size_t kChunk = 1 << 16;

double now_s() {
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

} // namespace

// The memory of decoders is not cleared, so that a connection that never comes costs address space only.
Input::Input(std::uint32_t max_channels, double idle_s, Ledger* ledger)
    : max_channels_(max_channels), idle_s_(idle_s), ledger_(ledger), turned_at_(now_s()),
      bytes_(new std::uint8_t[kChunk]), streams_(kMaxConnections) {
    for (Stream& stream : streams_) {
        stream.buffer.reset(new std::uint8_t[StreamDecoder::buffer_bytes(max_channels)]);
        stream.decoder = std::make_unique<StreamDecoder>(stream.buffer.get(), max_channels);
    }
}

Input::~Input() {
    for (const Stream& stream : streams_) {
        if (stream.fd > 0) {
            close(stream.fd);
        }
    }
    if (listener_ >= 0) {
        close(listener_);
    }
}

const char* Input::open(const char* source) {
    if (std::strcmp(source, "stdin") == 0) {
        streams_[0].fd = STDIN_FILENO;
        return nullptr;
    }
    if (std::strncmp(source, "tcp:", 4) != 0) {
        return "must be stdin, tcp:PORT or tcp:ADDRESS:PORT";
    }
    const char* address = source + 4;
    const char* colon = std::strrchr(address, ':');
    const char* digits = colon != nullptr ? colon + 1 : address;
    char host[INET6_ADDRSTRLEN + 2] = "127.0.0.1";
    if (colon != nullptr) {
        const bool brackets = address[0] == '[' && colon[-1] == ']';
        const std::size_t length = static_cast<std::size_t>(colon - address) - (brackets ? 2 : 0);
        if (colon == address || length >= sizeof host) {
            return "the address is malformed";
        }
        std::memcpy(host, address + (brackets ? 1 : 0), length);
        host[length] = '\0';
    }
    char* end = nullptr;
    const long port = std::strtol(digits, &end, 10);
    if (digits[0] < '0' || digits[0] > '9' || *end != '\0' || port > 65535) {
        return "the port must be 0 to 65535";
    }
    return listen_on(std::strcmp(host, "localhost") == 0 ? "127.0.0.1" : host, static_cast<int>(port));
}

const char* Input::listen_on(const char* address, int port) {
    sockaddr_in v4{};
    sockaddr_in6 v6{};
    v4.sin_family = AF_INET;
    v4.sin_port = htons(static_cast<std::uint16_t>(port));
    v6.sin6_family = AF_INET6;
    v6.sin6_port = v4.sin_port;
    const bool is_v4 = inet_pton(AF_INET, address, &v4.sin_addr) == 1;
    const bool is_v6 = !is_v4 && inet_pton(AF_INET6, address, &v6.sin6_addr) == 1;
    const bool loopback =
        is_v4 ? ntohl(v4.sin_addr.s_addr) >> 24 == 127
              : is_v6 && std::memcmp(&v6.sin6_addr, &in6addr_loopback, sizeof in6addr_loopback) == 0;
    if (!loopback) {
        return "frames carry no authentication yet, so only a loopback address such as 127.0.0.1 is bound";
    }
    sockaddr* where = is_v4 ? reinterpret_cast<sockaddr*>(&v4) : reinterpret_cast<sockaddr*>(&v6);
    socklen_t size = is_v4 ? sizeof v4 : sizeof v6;
    listener_ = socket(is_v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    const int yes = 1;
    if (listener_ < 0 || setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) != 0 ||
        bind(listener_, where, size) != 0 || listen(listener_, static_cast<int>(kMaxConnections)) != 0 ||
        getsockname(listener_, where, &size) != 0) {
        return std::strerror(errno);
    }
    const unsigned bound = ntohs(is_v4 ? v4.sin_port : v6.sin6_port);
    std::snprintf(address_, sizeof address_, is_v4 ? "%s:%u" : "[%s]:%u", address, bound);
    return nullptr;
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
    if (listener_ >= 0) {
        fds[count] = {listener_, POLLIN, 0};
    }
    const int ready = poll(fds, count + (listener_ >= 0 ? 1 : 0), timeout_ms);
    turned_at_ = now_s();
    if (ready < 0) {
        return errno == EINTR;
    }
    for (nfds_t i = 0; i < count; ++i) {
        owners[i]->ready = fds[i].revents != 0;
        const double since = owners[i]->partial_since;
        if (!owners[i]->ready && listener_ >= 0 && since >= 0.0 && turned_at_ - since > idle_s_) {
            ++numbers_.cut_off;
            owners[i]->finished = true;
            owners[i]->decoder->finish();
        }
    }
    if (listener_ >= 0 && fds[count].revents != 0) {
        accept_one();
    }
    return true;
}

void Input::accept_one() {
    const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) { // the peer left before it was accepted
        return;
    }
    for (Stream& stream : streams_) {
        if (stream.fd < 0) {
            const int yes = 1;
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
            ++numbers_.connections;
            *stream.decoder = StreamDecoder(stream.buffer.get(), max_channels_);
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

// Bytes read into bytes_; 0 when there are none now, or no more will come.
std::size_t Input::read_some(Stream& stream) {
    const ssize_t n = read(stream.fd, bytes_.get(), kChunk);
    if (n > 0) {
        return static_cast<std::size_t>(n);
    }
    if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        stream.finished = true;
        stream.decoder->finish();
    }
    return 0;
}

// After the frames of a chunk were taken: what was refused goes to the ledger; a finished stream is closed.
void Input::settle(Stream& stream, bool any) {
    const DecoderCounters& now = stream.decoder->counters();
    ledger_->crc += now.crc_errors - stream.counted.crc_errors;
    ledger_->header += now.header_errors - stream.counted.header_errors;
    ledger_->truncated += now.incomplete - stream.counted.incomplete;
    numbers_.decoded += now.frames - stream.counted.frames;
    numbers_.garbage_bytes += now.garbage_bytes - stream.counted.garbage_bytes;
    numbers_.truncated_bytes += now.truncated_bytes - stream.counted.truncated_bytes;
    stream.counted = now;
    if (stream.decoder->pending_bytes() == 0) {
        stream.partial_since = -1.0;
    } else if (any || stream.partial_since < 0.0) {
        stream.partial_since = now_s();
    }
    if (stream.finished) {
        if (listener_ >= 0) {
            close(stream.fd);
        }
        ended_ = listener_ < 0;
        stream.fd = -1;
    }
}

void Input::cut_off() {
    for (Stream& stream : streams_) {
        if (stream.fd >= 0) {
            FrameView frame;
            stream.decoder->finish();
            while (stream.decoder->next(&frame)) { // whole frames behind a false header: they come too late
            }
            settle(stream, false);
        }
    }
}

Input::Numbers Input::numbers() const { return numbers_; }

} // namespace sedge::runner
