"""One peer of a server of frames: what came from it, and what is still to be said to it (`tls`: in secret)."""

from __future__ import annotations

import socket
import time
from collections import Counter

from libsedge.frame import Frame
from libsedge.sources.streams import StreamReader, add_growth

READ_BYTES = 1 << 17
#: a peer that does not read its acknowledgements is cut off at this many waiting bytes
MAX_UNSENT = 1 << 20


class Connection:
    """One peer: its socket, its decoder, and what is still to be said to it."""

    def __init__(self, sock: socket.socket, decoder: StreamReader) -> None:
        self.sock = sock
        self.decoder = decoder
        self.unsent = bytearray()
        self.in_flight = 0  # frames handed out and not yet acknowledged or forgotten
        self.ended = False  # the peer will send no more
        self.closed = False
        #: since when it owes us the rest of a handshake or of a frame
        self.partial_since: float | None = None
        self.handshaking = False
        #: what the poller is asked about this socket now; 0: nothing, it does not know it
        self.watched = 0
        self._read = memoryview(bytearray(READ_BYTES))
        self._counted: dict[str, int] = {}

    def shake_hands(self) -> bool:
        """Go on with the handshake; False when the peer did not prove itself."""
        return True

    def receive(self) -> memoryview | bytes | None:
        """What came, until the next call; empty when the peer will send no more; None when nothing came yet."""
        try:
            return self._read[: self.sock.recv_into(self._read)]
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:  # reset by the peer
            return b""

    def give(self, data: bytearray) -> int:
        """Number of bytes the socket took; OSError when the peer is gone."""
        try:
            return self.sock.send(data)
        except (BlockingIOError, InterruptedError):
            return 0

    def take(self, data: memoryview | bytes) -> list[Frame]:
        frames = self.decoder.feed(data)
        if self.decoder.pending_bytes == 0:
            self.partial_since = None
        elif frames or self.partial_since is None:
            self.partial_since = time.monotonic()
        return frames

    def finish(self) -> list[Frame]:
        """The stream has ended: whole frames that stood behind a damaged header; a cut-off one is refused."""
        self.ended = True
        self.partial_since = None
        return self.decoder.finish()

    def count(self, refused: Counter[str]) -> None:
        """Add the frames that could not be decoded since the last call."""
        add_growth(refused, self.decoder.refused(), self._counted)

    def send(self) -> bool:
        """Send what can be sent now; False when the peer is gone or does not read."""
        if self.unsent and not self.closed and not self.handshaking:
            try:
                del self.unsent[: self.give(self.unsent)]
            except OSError:
                return False
        return len(self.unsent) <= MAX_UNSENT
