"""What is sent to a server under test: frames, damaged from a seed, and the truth about them.

The truth table counts what was sent, by kind; nothing in it comes from a decoder.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from libsedge.frame import Frame, encode
from libsedge.ledger import Key

if TYPE_CHECKING:
    from libsedge.frame_key import FrameKey

#: what may happen to a frame; a flip or a cut destroys it, the others leave it whole
DAMAGE = ("flip", "cut", "repeat", "garbage")
_MAGIC_BYTES = 4


@dataclass
class Truth:
    """What was sent. `intact` frames can be decoded, `flip` and `cut` ones cannot; `no_magic` of those lost
    their first four bytes too, so that a decoder sees garbage and no frame."""

    frames: int = 0
    intact: int = 0
    repeat: int = 0
    flip: int = 0
    cut: int = 0
    no_magic: int = 0
    garbage: int = 0
    garbage_bytes: int = 0
    bytes: int = 0
    keys: list[Key] = field(default_factory=list)

    def table(self) -> dict[str, Any]:
        """The counts, and the gaps that the intact frames leave between the first and the last of them."""
        counts = {name: value for name, value in vars(self).items() if name != "keys"}
        numbers = [key.sequence for key in self.keys]
        counts["gaps"] = max(numbers) - min(numbers) + 1 - len(numbers) if numbers else 0
        return counts


def damaged(frames: Iterable[Frame], fraction: float, seed: int, truth: Truth) -> Iterator[bytes]:
    """The bytes to send for each frame; `fraction` of the frames meet one kind of damage. Counts go to
    `truth`."""
    rng = random.Random(seed)
    for frame in frames:
        data = encode(frame)
        kind = rng.choice(DAMAGE) if rng.random() < fraction else "none"
        truth.frames += 1
        if kind == "flip":
            bit = rng.randrange(8 * len(data))
            truth.no_magic += bit // 8 < _MAGIC_BYTES
            changed = bytearray(data)
            changed[bit // 8] ^= 1 << bit % 8
            data = bytes(changed)
            truth.flip += 1
        elif kind == "cut":
            kept = rng.randrange(1, len(data))
            truth.no_magic += kept < _MAGIC_BYTES
            data = data[:kept]
            truth.cut += 1
        else:
            truth.intact += 1
            truth.keys.append(frame.key)
            if kind == "repeat":
                data *= 2
                truth.repeat += 1
            elif kind == "garbage":
                noise = bytes(byte for byte in rng.randbytes(rng.randrange(1, 2000)) if byte != ord("S"))
                data = noise + data
                truth.garbage += 1
                truth.garbage_bytes += len(noise)
        truth.bytes += len(data)
        yield data


#: what may happen to a unit of a transport that keeps units apart: a datagram, a packet, a block
UNIT_DAMAGE = ("flip", "cut", "repeat", "garbage", "lose", "swap")


@dataclass
class UnitTruth(Truth):
    """What was sent in units, one or more a frame. `intact` frames have every unit whole and sent; `repeat`
    counts those that came twice, which only a frame in one unit can; `again` units of the others that did.
    `incomplete`: some units arrive whole and some do not. `refused`: what a server has to refuse, the
    incomplete ones among them. `lost` units were not sent, `swapped` ones after their successor."""

    units: int = 0
    lost: int = 0
    swapped: int = 0
    again: int = 0
    damaged_units: int = 0
    incomplete: int = 0
    refused: int = 0


def wire_bytes(frame: Frame, key: FrameKey | None) -> bytes:
    """What is sent of a frame; signed where there is a key."""
    return encode(frame) if key is None else key.sign(encode(frame))


class Carrier(Protocol):
    """How a transport carries frames in units."""

    def units(self, frame: Frame) -> list[bytes]: ...

    def cuts(self, unit: bytes) -> range:
        """How many bytes of a unit may be kept to destroy it and still send something."""

    def refused(self, damaged: bytes) -> int:
        """How many refusals these bytes, which are no unit any more, have to give by themselves."""

    def joined(self, before: bytes, after: bytes) -> int:
        """How many refusals become one because nothing keeps these two apart any more."""

    def noise(self, rng: random.Random) -> bytes:
        """Something that never was a unit."""


class Whole:
    """One unit a frame: its bytes, signed where there is a key."""

    def __init__(self, key: FrameKey | None = None) -> None:
        self._key = key

    def units(self, frame: Frame) -> list[bytes]:
        return [wire_bytes(frame, self._key)]

    def cuts(self, unit: bytes) -> range:
        return range(1, len(unit))

    def refused(self, damaged: bytes) -> int:
        return 1

    def joined(self, before: bytes, after: bytes) -> int:
        return 0

    def noise(self, rng: random.Random) -> bytes:
        return bytes(byte for byte in rng.randbytes(rng.randrange(8, 2000)) if byte != ord("S"))


def damaged_units(
    frames: Iterable[Frame], carrier: Carrier, fraction: float, seed: int, truth: UnitTruth
) -> Iterator[bytes]:
    """The units to send, in their order; `fraction` of them meet one kind of damage. Counts go to `truth`."""
    rng = random.Random(seed)
    held: bytes | None = None  # a swapped unit, sent behind its successor
    last = b""

    def out(piece: bytes) -> bytes:
        nonlocal last
        truth.bytes += len(piece)
        truth.refused -= carrier.joined(last, piece)
        last = piece
        return piece

    for frame in frames:
        units = carrier.units(frame)
        whole, repeated = 0, False
        truth.frames += 1
        for unit in units:
            kind = rng.choice(UNIT_DAMAGE) if rng.random() < fraction else "none"
            truth.units += 1
            pieces = [unit]
            if kind in ("flip", "cut"):
                if kind == "flip":
                    truth.flip += 1
                    changed = bytearray(unit)
                    bit = rng.randrange(8 * len(unit))
                    changed[bit // 8] ^= 1 << bit % 8
                    pieces = [bytes(changed)]
                else:
                    truth.cut += 1
                    pieces = [unit[: rng.choice(carrier.cuts(unit))]]
                truth.damaged_units += 1
                truth.refused += carrier.refused(pieces[0])
            elif kind == "lose":
                truth.lost += 1
                pieces = []
            else:
                whole += 1
                if kind == "repeat":
                    pieces = [unit, unit]
                    repeated = len(units) == 1
                    truth.again += len(units) > 1
                elif kind == "garbage":
                    noise = carrier.noise(rng)
                    pieces = [noise, unit]
                    truth.garbage += 1
                    truth.garbage_bytes += len(noise)
                    truth.refused += carrier.refused(noise)
                elif kind == "swap" and held is None:
                    truth.swapped += 1
                    held, pieces = unit, []
                    continue
            for piece in pieces:
                yield out(piece)
            if held is not None and pieces:
                yield out(held)
                held = None
        if whole == len(units):
            truth.intact += 1
            truth.repeat += repeated
            truth.keys.append(frame.key)
        elif whole:
            truth.incomplete += 1
            truth.refused += 1
    if held is not None:
        yield out(held)
