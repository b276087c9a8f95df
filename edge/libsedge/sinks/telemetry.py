"""Decisions as CCSDS space packets (133.0-B): one table says what is in one; the packets and the XTCE file follow it.

A packet is the 6-byte primary header (telemetry, with secondary header, unsegmented), the fields of `FIELDS` in their
order, big-endian and without gaps, and a CRC-16-CCITT over all before it. The secondary header is a CDS time code
(301.0-B) with its preamble: the frame's time, days since 1958-01-01 UTC; all 0 where it is unknown or after 2137.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from libsedge.classifier import REASONS
from libsedge.journal import Record
from libsedge.journal_rows import BurstRecord
from libsedge.shadow import ERROR
from libsedge.sources.space_packets import COUNT_MODULUS, check_apid, crc16

DEFAULT_APID = 0x1EE
VERSION = 1
NO_CLASS = 0xFFFF
#: confidence 1 in the packet
CONFIDENCE_STEPS = 10000

KINDS = {1: "frame", 2: "burst"}
ROLES = {0: "light", 1: "dark", 2: "passive", 3: "averaged", 255: "other"}
OUTCOMES = {
    0: "accepted",
    **dict(enumerate(REASONS, 1)),
    32: "no_usable_shot",
    33: "no_accepted_shot",
    34: "no_majority",
    64: "error",
    254: "other",
    255: "no_decision",
}
_ROLE_CODES = {name: code for code, name in ROLES.items()}
_OUTCOME_CODES = {name: code for code, name in OUTCOMES.items()}


@dataclass(frozen=True)
class Field:
    """One field: `code` is its type in `struct`; `values` names its values, `scale` turns it into its unit."""

    name: str
    code: str
    about: str
    values: dict[int, str] | None = None
    scale: float | None = None

    @property
    def bits(self) -> int:
        return 8 * struct.calcsize(">" + self.code)


SECONDARY = (
    Field("TIME_PREAMBLE", "B", "CDS, epoch 1958-01-01, 16-bit days, microseconds: 0x41"),
    Field("TIME_DAYS", "H", "days since 1958-01-01 UTC of the frame; 0 = unknown"),
    Field("TIME_MS", "I", "milliseconds of the day"),
    Field("TIME_US", "H", "microseconds of the millisecond"),
)
FIELDS = (
    *SECONDARY,
    Field("VERSION", "B", "of this layout"),
    Field("KIND", "B", "what was decided about", values=KINDS),
    Field("ROLE", "B", "of the frame; light for a burst", values=ROLES),
    Field("OUTCOME", "B", "accepted, or why not", values=OUTCOMES),
    Field("SIMULATED", "B", "1: the source says that its spectra are simulated"),
    Field("STREAM", "I", "stream id"),
    Field("EPOCH", "I", "epoch of the stream"),
    Field("SEQUENCE", "Q", "of the frame, or of the burst's first shot"),
    Field("LAST_SEQUENCE", "Q", "of the burst's last shot; of a frame the same as SEQUENCE"),
    Field("SHOTS", "H", "shots of the burst; 1 for a frame"),
    Field("USED", "H", "shots that the decision rests on; 0 or 1 for a frame"),
    Field("DISTANCE_MM", "I", "stand-off distance, millimetres; 0 = unknown"),
    Field("CLASS_INDEX", "H", "place among the bundle's labels; 65535 = none"),
    Field("CONFIDENCE", "H", "probability of the class; 0 where there is none", scale=1 / CONFIDENCE_STEPS),
    Field("MODEL", "8s", "first 8 bytes of the bundle's SHA-256; zeros = no model"),
    Field("FRAME_CRC", "I", "CRC-32C of the frame as it came; 0 for a burst"),
)
TRAILER = Field("PACKET_ERROR_CONTROL", "H", "CRC-16-CCITT over the packet before it")

_PRIMARY = struct.Struct(">HHH")
_BODY = struct.Struct(">" + "".join(field.code for field in FIELDS))
_CRC = struct.Struct(">H")
PACKET_BYTES = _PRIMARY.size + _BODY.size + _CRC.size
_DAY_NS = 86_400 * 10**9
_DAYS_1958_TO_1970 = 4383


def _time(time_ns: int) -> tuple[int, int, int, int]:
    days, rest = divmod(time_ns, _DAY_NS)
    days += _DAYS_1958_TO_1970
    if time_ns <= 0 or days > 0xFFFF:
        return 0x41, 0, 0, 0
    return 0x41, days, rest // 10**6, rest // 1000 % 1000


def _outcome(accepted: bool | None, reason: str | None) -> int:
    if accepted:
        return 0
    if reason is None:
        return _OUTCOME_CODES["no_decision"]
    return _OUTCOME_CODES[
        "error" if reason.startswith(ERROR) else reason if reason in _OUTCOME_CODES else "other"
    ]


def _model(digest: str | None) -> bytes:
    return bytes(8) if digest is None else bytes.fromhex(digest)[:8]


def _steps(confidence: float | None) -> int:
    return 0 if confidence is None else round(confidence * CONFIDENCE_STEPS)


class Telemetry:
    """Records become packets of one APID; the packet sequence count goes on from packet to packet."""

    def __init__(self, apid: int = DEFAULT_APID) -> None:
        check_apid(apid)
        self.apid, self.count = apid, 0
        self.simulated = False
        self._places: dict[tuple[str | None, str | None], int] = {}  # of a model's label, among its labels

    def frame(self, record: Record) -> bytes:
        """The packet of one row."""
        role = _ROLE_CODES.get(record.role, _ROLE_CODES["other"])
        key, place = record.key, NO_CLASS
        if record.label is not None and record.probabilities:
            place = record.probabilities.index(max(record.probabilities))
            self._places[record.model, record.label] = place
        return self._packet(
            *_time(record.time_ns),
            *(VERSION, 1, role, _outcome(record.accepted, record.reason), self.simulated),
            *(key.stream, key.epoch, key.sequence, key.sequence, 1, int(record.label is not None)),
            *(
                record.distance_mm or 0,
                place,
                _steps(record.confidence),
                _model(record.model),
                record.frame_crc,
            ),
        )

    def burst(self, burst: BurstRecord) -> bytes:
        """The packet of one burst, after those of its frames."""
        place = NO_CLASS
        if (
            burst.label is not None and burst.probabilities
        ):  # the vote's winner need not have the largest mean
            largest = burst.probabilities.index(max(burst.probabilities))
            place = self._places.get((burst.model, burst.label), largest)
        return self._packet(
            *_time(burst.time_ns),
            *(VERSION, 2, 0, _outcome(burst.accepted, burst.reason), self.simulated),
            *(burst.stream, burst.epoch, burst.first, burst.last),
            *(min(burst.shots, 0xFFFF), min(burst.used, 0xFFFF)),
            *(burst.distance_mm or 0, place, _steps(burst.confidence), _model(burst.model), 0),
        )

    def _packet(self, *values: object) -> bytes:
        header = _PRIMARY.pack(1 << 11 | self.apid, 3 << 14 | self.count, _BODY.size + _CRC.size - 1)
        self.count = (self.count + 1) % COUNT_MODULUS
        body = header + _BODY.pack(*values)
        return body + _CRC.pack(crc16(body))
