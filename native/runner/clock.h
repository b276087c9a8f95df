// The monotonic clock.
#ifndef LIBSEDGE_RUNNER_CLOCK_H
#define LIBSEDGE_RUNNER_CLOCK_H

#include <cstdint>
#include <ctime>

namespace sedge::runner {

inline std::uint64_t now_ns() {
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<std::uint64_t>(t.tv_sec) * 1000000000U + static_cast<std::uint64_t>(t.tv_nsec);
}

inline double now_s() { return 1e-9 * static_cast<double>(now_ns()); }

} // namespace sedge::runner

#endif
