"""A frame that proves who sent it: the key that both ends share, and the tag behind every frame.

On the wire a signed frame is the frame (table "Frame" in docs/architecture.md) and `TAG_BYTES` bytes: the first 128
bits of HMAC-SHA-256 over all of the frame, header with stream, epoch, sequence number and time, CRC and values
(RFC 2104; truncated as in RFC 4868). The frame's magic and version keep the tag apart from any other use of the key.

The key's file is one line, `hmac-sha256 <64 hex digits>`, which nobody but its owner may read; `libsedge keygen
--hmac FILE` makes one. This module is imported where a key is configured only: OpenSSL costs the board 3.5 MiB.
"""

from __future__ import annotations

import hmac
import os
import re
import stat
from pathlib import Path

from libsedge.errors import ConfigError
from libsedge.frame import TAG_BYTES

KEY_BYTES = 32
_LINE = re.compile(rb"hmac-sha256 ([0-9a-f]{64})\n?")


class FrameKey:
    """A shared secret of `KEY_BYTES` bytes; never shown by repr."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise ConfigError(f"must be {KEY_BYTES} bytes", field="hmac-key", value=len(secret))
        self._secret = secret

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> FrameKey:
        """ConfigError for a missing, readable-by-others or malformed file; its content is in no message."""
        file = Path(path)
        try:
            # What is looked at is what is read, whatever is renamed meanwhile; a pipe is not waited for.
            with os.fdopen(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
                mode = os.fstat(stream.fileno()).st_mode
                if not stat.S_ISREG(mode):
                    raise ConfigError("must be a regular file", file=file, field="hmac-key")
                if stat.S_IMODE(mode) & 0o077:
                    raise ConfigError(
                        "others can read this secret; run chmod 600", file=file, field="hmac-key"
                    )
                match = _LINE.fullmatch(stream.read(256))
        except OSError as why:
            raise ConfigError(f"cannot be read: {why.strerror}", file=file, field="hmac-key") from why
        if match is None:
            raise ConfigError(
                "must be one line, `hmac-sha256 <64 hex digits>`; `libsedge keygen --hmac FILE` makes one",
                file=file,
                field="hmac-key",
            )
        return cls(bytes.fromhex(match[1].decode()))

    def _tag(self, frame: bytes) -> bytes:
        return hmac.digest(self._secret, frame, "sha256")[:TAG_BYTES]

    def sign(self, frame: bytes) -> bytes:
        """The frame's bytes and its tag."""
        return frame + self._tag(frame)

    def open(self, signed: bytes) -> bytes | None:
        """The frame whose tag holds; None where it does not. The comparison takes the same time whatever the tag."""
        frame, tag = signed[:-TAG_BYTES], signed[-TAG_BYTES:]
        return frame if hmac.compare_digest(tag, self._tag(frame)) else None
