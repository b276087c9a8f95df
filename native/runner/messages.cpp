#include "messages.h"

namespace sedge::runner {

std::size_t DatagramReader::push(const std::uint8_t* data, std::size_t size) {
    data_ = data;
    size_ = size;
    waiting_ = true;
    ++counts_[kMessages];
    counts_[kMessageBytes] += size;
    return size;
}

bool DatagramReader::next(FrameView* frame) {
    if (!waiting_) {
        return false;
    }
    waiting_ = false;
    const Count what = decoder_.decode(data_, size_, frame);
    ++counts_[what];
    return what == kDecoded;
}

} // namespace sedge::runner
