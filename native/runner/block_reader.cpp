#include "block_reader.h"

#include <algorithm>
#include <cstring>

namespace sedge::runner {
namespace {

// What `block` encodes, written over it; false where it is not what an encoder gives. It holds no zero.
// Cheshire and Baker, IEEE/ACM Trans. Networking 7(2), 1999; edge/libsedge/sources/cobs.py.
bool unstuff(std::uint8_t* block, std::size_t size, std::size_t* decoded) {
    std::size_t at = 0;
    std::size_t out = 0;
    for (;;) {
        const std::size_t code = block[at];
        if (code > size - at) {
            return false;
        }
        std::memmove(block + out, block + at + 1, code - 1);
        out += code - 1;
        at += code;
        if (at == size) {
            *decoded = out;
            return true;
        }
        if (code != 255) {
            block[out++] = 0;
        } else if (at == size - 1 && block[at] == 1) {
            return false; // an empty group behind a full one at the end: no encoder writes it
        }
    }
}

} // namespace

BlockReader::BlockReader(std::uint32_t max_channels, const Authentication& with)
    : decoder_(max_channels, with),
      limit_((kFrameHeaderBytes + 4 * static_cast<std::size_t>(max_channels) + kFrameTagBytes) * 255 / 254 +
             2),
      block_(new std::uint8_t[limit_]) {}

void BlockReader::restart() {
    size_ = 0;
    ended_ = dropping_ = false;
    counts_ = {};
}

std::size_t BlockReader::push(const std::uint8_t* data, std::size_t size) {
    const void* zero = size > 0 ? std::memchr(data, 0, size) : nullptr;
    const std::size_t piece =
        zero != nullptr ? static_cast<std::size_t>(static_cast<const std::uint8_t*>(zero) - data) : size;
    if (dropping_ || piece > limit_ - size_) {
        counts_[kTooLongBytes] += size_ + piece;
        size_ = 0;
        dropping_ = true;
    } else if (piece > 0) {
        std::memcpy(block_.get() + size_, data, piece);
        size_ += piece;
    }
    ended_ = zero != nullptr;
    return piece + (ended_ ? 1 : 0);
}

bool BlockReader::next(FrameView* frame) {
    if (!ended_) {
        return false;
    }
    const std::size_t block = size_;
    const bool too_long = dropping_;
    size_ = 0;
    ended_ = dropping_ = false;
    if (block == 0 && !too_long) { // two zeros in a row
        return false;
    }
    ++counts_[kMessages];
    counts_[kMessageBytes] += block;
    std::size_t size = 0;
    if (too_long) {
        ++counts_[kTooLong];
    } else if (!unstuff(block_.get(), block, &size)) {
        ++counts_[kStuffing];
    } else {
        const Count what = decoder_.decode(block_.get(), size, frame);
        ++counts_[what];
        return what == kDecoded;
    }
    return false;
}

void BlockReader::finish() {
    counts_[kTruncated] += size_ > 0 || dropping_ ? 1 : 0;
    size_ = 0;
    ended_ = dropping_ = false;
}

} // namespace sedge::runner
