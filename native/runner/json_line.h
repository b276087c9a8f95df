// JSON lines in one buffer taken at the start; one write(2) a line.
#ifndef LIBSEDGE_RUNNER_JSON_LINE_H
#define LIBSEDGE_RUNNER_JSON_LINE_H

#include <csignal>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace sedge::runner {

class JsonLine {
public:
    explicit JsonLine(std::size_t capacity) : buffer_(capacity) {}

    void text(const char* raw); // as it is
    void key(const char* name); // `, "name": `, without the comma where it is the first
    void integer(const char* name, std::uint64_t value);
    void real(const char* name, double value); // 17 significant digits: reads back as the same double
    void reals(const char* name, const double* values, std::size_t count);
    void boolean(const char* name, bool value);
    void null(const char* name);
    void string(const char* name, const char* plain); // nothing that JSON would escape
    void open(const char* name, char bracket);        // name null: no key
    void close(char bracket);

    // The line and its end to `fd`; false when the system did not take it whole. A torn line is ended before
    // the next one. A reader that is slow is waited for; once `*stop` is set, for two seconds at most.
    bool write_to(int fd, const volatile std::sig_atomic_t* stop);
    void drop() { size_ = 0, first_ = true; }

private:
    static bool wait(int fd, const volatile std::sig_atomic_t* stop, int* tries);
    void put(char letter);
    void number(double value);

    std::vector<char> buffer_;
    std::size_t size_ = 0;
    bool first_ = true;
    bool torn_ = false;
};

} // namespace sedge::runner

#endif
