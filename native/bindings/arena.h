// The memory a compiled model runs in.
#ifndef LIBSEDGE_ARENA_H
#define LIBSEDGE_ARENA_H

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

namespace sedge {

// The arena between two runs of canary bytes that a kernel has no business to touch.
class Arena {
public:
    Arena(std::size_t bytes, std::size_t align) : bytes_(bytes), lead_(round_up(kCanaryBytes, align)) {
        void* memory = nullptr;
        if (posix_memalign(&memory, std::max(align, sizeof(void*)), lead_ + bytes + kCanaryBytes) != 0) {
            throw std::bad_alloc();
        }
        memory_.reset(static_cast<unsigned char*>(memory));
        std::memset(memory_.get(), kCanary, lead_);
        std::memset(data(), 0, bytes_);
        std::memset(data() + bytes_, kCanary, kCanaryBytes);
    }

    unsigned char* data() const { return memory_.get() + lead_; }
    std::size_t size() const { return bytes_; }
    bool intact() const {
        return all_canary(memory_.get(), lead_) && all_canary(data() + bytes_, kCanaryBytes);
    }

private:
    static constexpr std::size_t kCanaryBytes = 64;
    static constexpr unsigned char kCanary = 0xA5;

    static std::size_t round_up(std::size_t value, std::size_t align) {
        return (value + align - 1) / align * align;
    }
    static bool all_canary(const unsigned char* p, std::size_t size) {
        bool all = true;
        for (std::size_t i = 0; i < size; ++i) {
            all = all && p[i] == kCanary;
        }
        return all;
    }
    struct Free {
        void operator()(unsigned char* memory) const { std::free(memory); }
    };

    std::size_t bytes_;
    std::size_t lead_;
    std::unique_ptr<unsigned char, Free> memory_;
};

} // namespace sedge

#endif
