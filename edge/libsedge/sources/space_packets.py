"""Frames in CCSDS space packets (CCSDS 133.0-B): segmentation, reassembly and the 14-bit packet counter.

A packet is, big-endian as CCSDS has it:

| bytes | field |
|---|---|
| 2 | version 0, telemetry, secondary header present, APID (11 bits) |
| 2 | sequence flags (2 bits), packet sequence count (14 bits) |
| 2 | length - 1 of all that follows |
| 16 | secondary header (ancillary data): frame sequence u64, epoch u32, segment u16, segments u16 |
| 1... | this segment of the frame's bytes (table "Frame" in docs/architecture.md, with its own CRC-32C) |
| 2 | packet error control: CRC-16-CCITT (0x1021, from 0xFFFF) over everything before it |

Sequence flags: 3 = the whole frame, 1 = its first segment, 0 = a middle one, 2 = the last. Because every
segment names its frame, segments may come out of order, and what is lost is known exactly in frames whatever
the loss; the 14-bit count alone tells packets lost only up to 16,383 in a row.
"""

from __future__ import annotations

import binascii
import struct
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from libsedge.errors import ConfigError, FrameError
from libsedge.frame import HEADER_BYTES, MAX_CHANNELS, TAG_BYTES, Frame, decode
from libsedge.sequences import EpochCount, IntervalSet
from libsedge.sources.messages import refusal

#: the application process identifier that is used where none is given
DEFAULT_APID = 0x1ED
COUNT_MODULUS = 1 << 14
MAX_PACKET = 65542
#: fits an Ethernet frame with IPv4 and UDP, and below the 1,500 bytes at which ground systems cut by default
DEFAULT_PACKET_BYTES = 1472
_PRIMARY = struct.Struct(">HHH")
_SECONDARY = struct.Struct(">QIHH")
OVERHEAD = _PRIMARY.size + _SECONDARY.size + 2
_LARGEST_FRAME = HEADER_BYTES + 4 * MAX_CHANNELS + TAG_BYTES
_FIRST_WORD = 1 << 11  # version 0, telemetry, secondary header present


def crc16(data: bytes | memoryview) -> int:
    """CRC-16-CCITT as ECSS and CCSDS use it for packet error control."""
    return binascii.crc_hqx(data, 0xFFFF)


def check_apid(apid: int) -> None:
    """ConfigError unless 0 to 2046 (2047 is idle packets)."""
    if not 0 <= apid < 2047:
        raise ConfigError("must be 0 to 2046", field="apid", value=apid)


@dataclass(frozen=True, slots=True)
class Packet:
    """One undamaged packet. `frame` = (epoch, sequence); `segment` of `segments`; `data` its bytes."""

    count: int
    frame: tuple[int, int]
    segment: int
    segments: int
    data: bytes


class Packetiser:
    """Encodes frames as packets of one APID; the packet sequence count goes on from frame to frame."""

    def __init__(self, apid: int = DEFAULT_APID, packet_bytes: int = DEFAULT_PACKET_BYTES) -> None:
        check_apid(apid)
        if not 64 <= packet_bytes <= MAX_PACKET:
            raise ConfigError(f"must be 64 to {MAX_PACKET}", field="packet_bytes", value=packet_bytes)
        self.apid, self.room, self.count = apid, packet_bytes - OVERHEAD, 0

    def packets(self, frame: bytes, epoch: int, sequence: int) -> Iterator[bytes]:
        """The packets of one encoded frame."""
        segments = -(-len(frame) // self.room)
        for segment in range(segments):
            data = frame[segment * self.room : (segment + 1) * self.room]
            flags = (1 if segment == 0 else 0) | (2 if segment == segments - 1 else 0)
            body = (
                _PRIMARY.pack(
                    _FIRST_WORD | self.apid,
                    flags << 14 | self.count,
                    _SECONDARY.size + len(data) + 2 - 1,
                )
                + _SECONDARY.pack(sequence, epoch, segment, segments)
                + data
            )
            self.count = (self.count + 1) % COUNT_MODULUS
            yield body + struct.pack(">H", crc16(body))


def packet_bytes_at(data: bytes | bytearray | memoryview, at: int) -> int:
    """Bytes of the packet whose primary header stands at `at`."""
    return _PRIMARY.size + 1 + int.from_bytes(data[at + 4 : at + 6], "big")


def parse(data: bytes) -> Packet | None:
    """The packet that `data` is, exactly; None where its length, its CRC or a field does not hold. The APID
    is the caller's matter."""
    size = len(data)
    if size <= OVERHEAD or packet_bytes_at(data, 0) != size:
        return None
    if crc16(memoryview(data)[:-2]) != int.from_bytes(data[-2:], "big"):
        return None
    first, control, _ = _PRIMARY.unpack_from(data)
    sequence, epoch, segment, segments = _SECONDARY.unpack_from(data, _PRIMARY.size)
    flags = (1 if segment == 0 else 0) | (2 if segment == segments - 1 else 0)
    if first & ~0x7FF != _FIRST_WORD or segment >= segments or control >> 14 != flags:
        return None
    return Packet(control % COUNT_MODULUS, (epoch, sequence), segment, segments, data[22:-2])


class _Unwrapped:
    """The packet counter of one epoch: the place of the newest packet, and what is known about all."""

    def __init__(self) -> None:
        self.counts = EpochCount(4096)
        self.top = -1  # extended count of the newest packet
        self.mark = (0, 0, 0)  # its frame's sequence, segment and segments, of the highest frame seen
        self.mark_at = 0  # extended count there
        self.largest = 1  # segments of the largest frame seen


class PacketCount:
    """Turns 14-bit packet counts into counts without an end, by epoch, with the help of the frames' 64-bit
    sequence numbers; memory is bounded.

    A packet of a later place in the stream (frame, segment) lies ahead, one of an earlier place is the
    nearest below or above the newest count: late, again, or sent again. Where so many frames are missing that
    their packets could have gone round 16,384 once more, counting frames of at most the largest size seen,
    the smallest number that fits is taken and `ambiguous` grows: the packets lost are then a lower bound. The
    frames lost are not concerned.
    """

    MAX_EPOCHS = 16

    def __init__(self) -> None:
        self.ambiguous = 0
        self._epochs: OrderedDict[int, _Unwrapped] = OrderedDict()
        self._old = Counter(unique=0, gaps=0)

    def arrive(self, packet: Packet) -> int:
        """Note a packet; its count without an end (of a late one it may be below 0)."""
        epoch, sequence = packet.frame
        state = self._epochs.get(epoch)
        if state is None:
            state = self._epochs[epoch] = _Unwrapped()
            if len(self._epochs) > self.MAX_EPOCHS:
                _, oldest = self._epochs.popitem(last=False)
                self._old.update(unique=oldest.counts.unique, gaps=oldest.counts.gaps)
        place = (sequence, packet.segment, packet.segments)
        state.largest = max(state.largest, packet.segments)
        if state.top < 0:
            at = packet.count
        elif place[:2] > state.mark[:2]:
            at = state.mark_at + self._ahead(state, place, packet.count)
        else:
            half = COUNT_MODULUS // 2
            at = state.top + (packet.count - state.top + half) % COUNT_MODULUS - half
        if state.top < 0 or place[:2] > state.mark[:2]:
            state.mark, state.mark_at = place, at
        state.top = max(state.top, at)
        state.counts.arrive(at, None)
        return at

    def _ahead(self, state: _Unwrapped, place: tuple[int, int, int], count: int) -> int:
        """Packets from the mark to `place`: the smallest number with these 14 bits that the frames allow."""
        frames = place[0] - state.mark[0]
        if frames == 0:
            fewest = most = place[1] - state.mark[1]
        else:
            ends = state.mark[2] - state.mark[1] + place[1]  # what is left of one frame, and this one's
            fewest, most = ends + frames - 1, ends + (frames - 1) * state.largest
        most += state.top - state.mark_at  # frames that were sent again in between
        step = (count - state.mark_at) % COUNT_MODULUS
        step += -(-max(0, fewest - step) // COUNT_MODULUS) * COUNT_MODULUS
        if step > most or step + COUNT_MODULUS <= most:
            self.ambiguous += 1
        return step

    def counters(self) -> dict[str, int]:
        """`packets_lost` and `packets_ambiguous`."""
        lost = sum(state.counts.gaps for state in self._epochs.values())
        return {"packets_lost": self._old["gaps"] + lost, "packets_ambiguous": self.ambiguous}


@dataclass
class _Partial:
    segments: int
    since: float
    pieces: dict[int, bytes] = field(default_factory=dict)
    size: int = 0


class Assembler:
    """Frames out of packets; at most `window` frames are in progress, the oldest is given up for a new one. `decode`
    makes a frame of the joined bytes or raises FrameError.

    A frame of which some segments came and others did not is refused once, as `incomplete`. A segment that
    came before, or of a frame that is already told about, changes nothing: `segments_again`.
    """

    def __init__(self, window: int = 16, decode: Callable[[bytes], Frame] = decode) -> None:
        self.refused: Counter[str] = Counter()
        self.again = 0
        self._window, self._decode = window, decode
        self._partial: OrderedDict[tuple[int, int], _Partial] = OrderedDict()
        self._known: OrderedDict[int, IntervalSet] = OrderedDict()  # epoch -> sequences told about

    def add(self, packet: Packet, now: float) -> Frame | None:
        """Take a packet; the frame that it completes, if any."""
        key = packet.frame
        part = self._partial.get(key)
        if part is not None and part.segments != packet.segments:  # sent again, cut differently
            self._give_up(key)
            part = None
        if part is None:
            if len(self._partial) >= self._window:
                self._give_up(next(iter(self._partial)))
            part = self._partial[key] = _Partial(packet.segments, now)
        if packet.segment in part.pieces:
            self.again += 1
            return None
        part.pieces[packet.segment] = packet.data
        part.size += len(packet.data)
        if part.size > _LARGEST_FRAME:
            self._refuse(key, "header")
            return None
        if len(part.pieces) < part.segments:
            return None
        try:
            frame = self._decode(b"".join(part.pieces[i] for i in range(part.segments)))
        except FrameError as error:
            self._refuse(key, refusal(error))
            return None
        if (frame.epoch, frame.sequence) != key:
            self._refuse(key, "header")
            return None
        del self._partial[key]
        self._know(key)
        return frame

    def expire(self, before: float) -> None:
        """Give up frames that began before the time `before`."""
        for key in [key for key, part in self._partial.items() if part.since < before]:
            self._give_up(key)

    @property
    def pending(self) -> int:
        """Frames in progress."""
        return len(self._partial)

    def _refuse(self, key: tuple[int, int], reason: str) -> None:
        del self._partial[key]
        self.refused[reason] += 1
        self._know(key)

    def _give_up(self, key: tuple[int, int]) -> None:
        known = self._known.get(key[0])
        if known is not None and key[1] in known:
            self.again += len(self._partial.pop(key).pieces)
        else:
            self._refuse(key, "incomplete")

    def _know(self, key: tuple[int, int]) -> None:
        epoch, sequence = key
        if epoch not in self._known:
            self._known[epoch] = IntervalSet(4096)
            if len(self._known) > PacketCount.MAX_EPOCHS:
                self._known.popitem(last=False)
        self._known[epoch].add(sequence)
