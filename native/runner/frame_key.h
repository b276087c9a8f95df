// The key of signed frames and the tag behind each: edge/libsedge/frame_key.py.
#ifndef LIBSEDGE_RUNNER_FRAME_KEY_H
#define LIBSEDGE_RUNNER_FRAME_KEY_H

#include "sha256.h"

namespace sedge::runner {

class FrameKey {
public:
    // Null, or why `file` holds no key; its content is in no message.
    const char* read(const char* file);

    // Whether the tag (kFrameTagBytes) is that of these bytes; takes the same time whatever the tag.
    bool holds(const std::uint8_t* frame, std::size_t size, const std::uint8_t* tag) const;

private:
    void set(const std::uint8_t* secret); // [kDigestBytes]

    // HMAC's two hashes (RFC 2104) behind their first block, which is the key's.
    Sha256 inner_, outer_;
};

} // namespace sedge::runner

#endif
