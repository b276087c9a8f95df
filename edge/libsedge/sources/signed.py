"""Signed frames (`libsedge.frame_key`) taken apart, each at most once.

The tag is looked at before anything else, so nothing in an unsigned message is believed: whatever is not authentic,
damaged or forged, is refused as `bad_tag`. A frame that is authentic and came before, or is too old to tell, is
refused as `replayed`: an anti-replay window as in IPsec (RFC 4303, 3.4.3) keeps, for every stream, the newest epoch,
its highest sequence number and which of the `WINDOW` numbers up to it have come. A sender that restarts must take a
higher epoch; from its first frame on everything of a lower one is refused.
"""

from __future__ import annotations

from libsedge import frame
from libsedge.errors import FrameError
from libsedge.frame import Frame
from libsedge.frame_key import FrameKey

#: sequence numbers that may be late: a frame this far or further behind the highest is refused
WINDOW = 1024
#: streams of one key; a frame of one more is refused as `wrong_stream`
MAX_STREAMS = 16


class ReplayWindow:
    """What is known of one stream."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self._top = -1
        self._seen = 0  # bit i: the sequence number `_top` - i has come

    def take(self, epoch: int, sequence: int) -> bool:
        """Note an authentic frame; False where it came before or is too old to tell."""
        if epoch < self.epoch:
            return False
        if epoch > self.epoch:
            self.epoch, self._top, self._seen = epoch, -1, 0
        ahead = sequence - self._top
        if ahead > 0:
            kept = self._seen << ahead if ahead < WINDOW else 0
            self._top, self._seen = sequence, (kept | 1) & ((1 << WINDOW) - 1)
            return True
        bit = 1 << -ahead if -ahead < WINDOW else 0
        if not bit or self._seen & bit:
            return False
        self._seen |= bit
        return True


class Verifier:
    """What a receiver keeps beside the key; `decode` stands where `libsedge.frame.decode` does without one."""

    def __init__(self, key: FrameKey) -> None:
        self._key = key
        self._windows: dict[int, ReplayWindow] = {}

    def resume(self, stream: int, epoch: int) -> None:
        """An earlier run came to this epoch of the stream: nothing older is taken."""
        self._windows[stream] = ReplayWindow(epoch)

    def decode(self, message: bytes) -> Frame:
        """The frame of a signed message; FrameError whose field is `tag`, `replay`, `stream`, or as of `decode`."""
        opened = self._key.open(message)
        if opened is None:
            raise FrameError("does not hold under this key", field="tag")
        found = frame.decode(opened)
        window = self._windows.get(found.stream_id)
        if window is None:
            if len(self._windows) >= MAX_STREAMS:
                raise FrameError(f"at most {MAX_STREAMS}", field="stream", value=found.stream_id)
            window = self._windows[found.stream_id] = ReplayWindow(found.epoch)
        if not window.take(found.epoch, found.sequence):
            raise FrameError("came before, or is too old to tell", field="replay", value=found.sequence)
        return found
