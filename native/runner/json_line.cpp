#include "json_line.h"

#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <poll.h>
#include <unistd.h>

namespace sedge::runner {

void JsonLine::put(char letter) {
    if (size_ < buffer_.size()) {
        buffer_[size_++] = letter;
    }
}

void JsonLine::text(const char* raw) {
    for (; *raw != '\0'; ++raw) {
        put(*raw);
    }
}

void JsonLine::key(const char* name) {
    text(first_ ? "\"" : ", \"");
    text(name);
    text("\": ");
    first_ = false;
}

void JsonLine::integer(const char* name, std::uint64_t value) {
    char digits[24];
    std::snprintf(digits, sizeof digits, "%" PRIu64, value);
    key(name);
    text(digits);
}

void JsonLine::number(double value) {
    char digits[40];
    std::snprintf(digits, sizeof digits, "%.17g", value);
    text(digits);
}

void JsonLine::real(const char* name, double value) {
    key(name);
    number(value);
}

void JsonLine::reals(const char* name, const double* values, std::size_t count) {
    key(name);
    for (std::size_t i = 0; i < count; ++i) {
        text(i == 0 ? "[" : ", ");
        number(values[i]);
    }
    put(']');
}

void JsonLine::boolean(const char* name, bool value) {
    key(name);
    text(value ? "true" : "false");
}

void JsonLine::null(const char* name) {
    key(name);
    text("null");
}

void JsonLine::string(const char* name, const char* plain) {
    key(name);
    put('"');
    text(plain);
    put('"');
}

void JsonLine::open(const char* name, char bracket) {
    if (name != nullptr) {
        key(name);
    } else if (!first_) {
        text(", ");
    }
    put(bracket);
    first_ = true;
}

void JsonLine::close(char bracket) {
    put(bracket);
    first_ = false;
}

// After a write that failed: true when it is worth another try.
bool JsonLine::wait(int fd, const volatile std::sig_atomic_t* stop, int* tries) {
    if (errno != EINTR && errno != EAGAIN) {
        return false;
    }
    pollfd out{fd, POLLOUT, 0};
    poll(&out, 1, 100);
    return *stop == 0 || ++*tries < 20;
}

bool JsonLine::write_to(int fd, const volatile std::sig_atomic_t* stop) {
    put('\n');
    bool fine = size_ < buffer_.size(); // a full buffer would have cut the line: never, by its capacity
    int tries = 0;
    while (fine && torn_) {
        torn_ = write(fd, "\n", 1) != 1;
        fine = !torn_ || wait(fd, stop, &tries);
    }
    std::size_t done = 0;
    while (fine && done < size_) {
        const ssize_t n = write(fd, buffer_.data() + done, size_ - done);
        done += n > 0 ? static_cast<std::size_t>(n) : 0;
        fine = n >= 0 || wait(fd, stop, &tries);
    }
    torn_ = torn_ || (done > 0 && done < size_);
    drop();
    return fine;
}

} // namespace sedge::runner
