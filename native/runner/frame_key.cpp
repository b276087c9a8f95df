#include "frame_key.h"

#include "stream_decoder.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace sedge::runner {
namespace {

constexpr char kPrefix[] = "hmac-sha256 ";
constexpr std::size_t kPrefixBytes = sizeof kPrefix - 1;
constexpr std::size_t kLineBytes = kPrefixBytes + 2 * Sha256::kDigestBytes;

// The value of a lower-case hexadecimal digit; -1: it is none.
int digit(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; }

bool parse(const char* line, std::size_t size, std::uint8_t* secret) {
    const bool whole = size == kLineBytes || (size == kLineBytes + 1 && line[kLineBytes] == '\n');
    if (!whole || std::memcmp(line, kPrefix, kPrefixBytes) != 0) {
        return false;
    }
    for (std::size_t i = 0; i < Sha256::kDigestBytes; ++i) {
        const int high = digit(line[kPrefixBytes + 2 * i]);
        const int low = digit(line[kPrefixBytes + 2 * i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        secret[i] = static_cast<std::uint8_t>(high << 4 | low);
    }
    return true;
}

} // namespace

const char* FrameKey::read(const char* file) {
    const int fd = open(file, O_RDONLY | O_NONBLOCK | O_CLOEXEC); // a pipe is not waited for
    if (fd < 0) {
        return std::strerror(errno);
    }
    struct stat about{};
    char line[256];
    std::uint8_t secret[Sha256::kDigestBytes];
    const char* wrong = nullptr;
    ssize_t size = 0;
    if (fstat(fd, &about) != 0) {
        wrong = std::strerror(errno);
    } else if (!S_ISREG(about.st_mode)) {
        wrong = "must be a regular file";
    } else if ((about.st_mode & 077) != 0) {
        wrong = "others can read this secret; run chmod 600";
    } else if ((size = ::read(fd, line, sizeof line)) < 0) {
        wrong = std::strerror(errno);
    } else if (!parse(line, static_cast<std::size_t>(size), secret)) {
        wrong = "must be one line, `hmac-sha256 <64 hex digits>`; `libsedge keygen --hmac FILE` makes one";
    } else {
        set(secret);
    }
    explicit_bzero(line, sizeof line);
    explicit_bzero(secret, sizeof secret);
    close(fd);
    return wrong;
}

void FrameKey::set(const std::uint8_t* secret) {
    std::uint8_t inner[Sha256::kBlockBytes];
    std::uint8_t outer[Sha256::kBlockBytes];
    for (std::size_t i = 0; i < Sha256::kBlockBytes; ++i) {
        const unsigned byte = i < Sha256::kDigestBytes ? secret[i] : 0;
        inner[i] = static_cast<std::uint8_t>(byte ^ 0x36);
        outer[i] = static_cast<std::uint8_t>(byte ^ 0x5c);
    }
    inner_ = outer_ = Sha256();
    inner_.add(inner, sizeof inner);
    outer_.add(outer, sizeof outer);
    explicit_bzero(inner, sizeof inner);
    explicit_bzero(outer, sizeof outer);
}

bool FrameKey::holds(const std::uint8_t* frame, std::size_t size, const std::uint8_t* tag) const {
    std::uint8_t digest[Sha256::kDigestBytes];
    Sha256 inner = inner_;
    Sha256 outer = outer_;
    inner.add(frame, size);
    inner.finish(digest);
    outer.add(digest, sizeof digest);
    outer.finish(digest);
    volatile std::uint8_t differs = 0; // volatile: no compiler ends the loop early
    for (std::size_t i = 0; i < kFrameTagBytes; ++i) {
        differs = static_cast<std::uint8_t>(differs | (digest[i] ^ tag[i]));
    }
    return differs == 0;
}

} // namespace sedge::runner
