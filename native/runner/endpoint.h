// What can be read from: a server, or a serial device. Each call gives null, or what is wrong.
#ifndef LIBSEDGE_RUNNER_ENDPOINT_H
#define LIBSEDGE_RUNNER_ENDPOINT_H

#include <cstddef>

namespace sedge::runner {

struct Socket {
    int fd = -1;
    char address[64] = ""; // "127.0.0.1:5600"
};

// `where` is PORT, ADDRESS:PORT or [IPV6]:PORT; `type` SOCK_STREAM (it listens) or SOCK_DGRAM. Nothing but a
// loopback address is bound, unless what comes is `authenticated`.
const char* open_server(const char* where, int type, int backlog, bool authenticated, Socket* socket);

struct SerialLine {
    char device[200] = "";
    unsigned baud = 115200;
    bool rtscts = false;
};

// DEVICE[,baud=N][,rtscts], as `serial:` of the Python runtime.
const char* parse_serial(const char* spec, SerialLine* line);

// Raw, 8N1, exclusive, emptied, not blocking.
const char* open_serial(const SerialLine& line, int* fd);

} // namespace sedge::runner

#endif
