#include "endpoint.h"

#include <arpa/inet.h>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

namespace sedge::runner {
namespace {

constexpr int kReceiveBuffer = 1 << 23; // asked of the kernel for datagrams that wait; it may grant less

const char* bind_to(const char* address, int port, int type, int backlog, bool authenticated, Socket* out) {
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
    if (!is_v4 && !is_v6) {
        return "must be an IP address";
    }
    if (!loopback && !authenticated) {
        return "without an authentication (signed frames: --hmac-key; for udp and ccsds:udp) only a loopback "
               "address such as 127.0.0.1 is bound";
    }
    sockaddr* where = is_v4 ? reinterpret_cast<sockaddr*>(&v4) : reinterpret_cast<sockaddr*>(&v6);
    socklen_t size = is_v4 ? sizeof v4 : sizeof v6;
    out->fd = socket(is_v4 ? AF_INET : AF_INET6, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    const bool stream = type == SOCK_STREAM;
    const int option = stream ? 1 : kReceiveBuffer;
    if (out->fd < 0 ||
        setsockopt(out->fd, SOL_SOCKET, stream ? SO_REUSEADDR : SO_RCVBUF, &option, sizeof option) != 0 ||
        bind(out->fd, where, size) != 0 || (stream && listen(out->fd, backlog) != 0) ||
        getsockname(out->fd, where, &size) != 0) {
        return std::strerror(errno);
    }
    const unsigned bound = ntohs(is_v4 ? v4.sin_port : v6.sin6_port);
    std::snprintf(out->address, sizeof out->address, is_v4 ? "%s:%u" : "[%s]:%u", address, bound);
    return nullptr;
}

constexpr struct {
    unsigned baud;
    speed_t code;
} kSpeeds[] = {{1200, B1200},       {2400, B2400},       {4800, B4800},       {9600, B9600},
               {19200, B19200},     {38400, B38400},     {57600, B57600},     {115200, B115200},
               {230400, B230400},   {460800, B460800},   {500000, B500000},   {576000, B576000},
               {921600, B921600},   {1000000, B1000000}, {1500000, B1500000}, {2000000, B2000000},
               {3000000, B3000000}, {4000000, B4000000}};

const speed_t* speed_of(unsigned baud) {
    for (const auto& it : kSpeeds) {
        if (it.baud == baud) {
            return &it.code;
        }
    }
    return nullptr;
}

} // namespace

const char* open_server(const char* where, int type, int backlog, bool authenticated, Socket* out) {
    const char* colon = std::strrchr(where, ':');
    const char* digits = colon != nullptr ? colon + 1 : where;
    char host[INET6_ADDRSTRLEN + 2] = "127.0.0.1";
    if (colon != nullptr) {
        const bool brackets = where[0] == '[' && colon[-1] == ']';
        const std::size_t length = static_cast<std::size_t>(colon - where) - (brackets ? 2 : 0);
        if (colon == where || length >= sizeof host) {
            return "the address is malformed";
        }
        std::memcpy(host, where + (brackets ? 1 : 0), length);
        host[length] = '\0';
    }
    char* end = nullptr;
    const long port = std::strtol(digits, &end, 10);
    if (digits[0] < '0' || digits[0] > '9' || *end != '\0' || port > 65535) {
        return "the port must be 0 to 65535";
    }
    const char* address = std::strcmp(host, "localhost") == 0 ? "127.0.0.1" : host;
    return bind_to(address, static_cast<int>(port), type, backlog, authenticated, out);
}

const char* parse_serial(const char* spec, SerialLine* line) {
    const std::size_t device = std::strcspn(spec, ",");
    if (device == 0 || device >= sizeof line->device) {
        return "must be serial:DEVICE, and ,baud=N and ,rtscts behind it";
    }
    std::memcpy(line->device, spec, device);
    for (const char* at = spec + device; *at == ',';) {
        const char* setting = at + 1;
        const std::size_t length = std::strcspn(setting, ",");
        char* end = nullptr;
        if (length == 6 && std::strncmp(setting, "rtscts", length) == 0) {
            line->rtscts = true;
        } else if (std::strncmp(setting, "baud=", 5) == 0 && setting[5] >= '0' && setting[5] <= '9' &&
                   std::strtoul(setting + 5, &end, 10) < 100000000 && end == setting + length) {
            line->baud = static_cast<unsigned>(std::strtoul(setting + 5, nullptr, 10));
        } else {
            return "a serial option must be baud=N or rtscts";
        }
        at = setting + length;
    }
    return speed_of(line->baud) != nullptr ? nullptr : "baud must be a standard rate of 1200 to 4000000";
}

const char* open_serial(const SerialLine& line, int* fd) {
    *fd = open(line.device, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    termios mode{};
    if (*fd < 0) {
        return std::strerror(errno);
    }
    const char* wrong = nullptr;
    if (flock(*fd, LOCK_EX | LOCK_NB) != 0) {
        wrong = "another program uses it";
    } else if (tcgetattr(*fd, &mode) != 0) {
        wrong = "is no serial device";
    } else {
        cfmakeraw(&mode);
        mode.c_cflag |= CLOCAL | CREAD;
        mode.c_cflag &= ~static_cast<tcflag_t>(CSTOPB | CRTSCTS);
        mode.c_cflag |= line.rtscts ? CRTSCTS : 0;
        mode.c_cc[VMIN] = 1; // a read without bytes is "none yet", and 0 the end
        mode.c_cc[VTIME] = 0;
        const speed_t speed = *speed_of(line.baud);
        if (cfsetispeed(&mode, speed) != 0 || cfsetospeed(&mode, speed) != 0 ||
            tcsetattr(*fd, TCSANOW, &mode) != 0 || tcflush(*fd, TCIFLUSH) != 0) {
            wrong = std::strerror(errno);
        }
    }
    if (wrong != nullptr) {
        close(*fd);
        *fd = -1;
    }
    return wrong;
}

} // namespace sedge::runner
