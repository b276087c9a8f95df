"""ChemCam EDR (raw telemetry) of the MSL archive: a .DAT that begins with its own PDS3 label.

The label's LABEL_RECORDS of RECORD_BYTES each come first; the object CCAM_LIBS_DATA_CONTAINER says how many shots
(REPETITIONS) follow and at which byte (START_BYTE, from 1). A shot is 6,444 unsigned 16-bit numbers, high byte first:
VNIR, VIO, UV, each 2,048 pixels between 50 dark ones on either side, which are left out..

An EDR has no wavelengths: they are those of a ChemCam CCS file that lies beside it (of the same sequence, if there is
one), which lists UV, VIO and VNIR in this order; without one the file is refused. MSL:INSTRUMENT_FOCUS_DISTANCE is the
stand-off in mm, the specimen the SEQUENCE_ID. MSL:LASER_MODE "NO" is a passive or dark measurement: ``source`` says so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from libsedge.errors import AxisError, FileFormatError

from ..spectra import SpectraSet
from .base import HEAD_BYTES, Reader, metres
from .chemcam_ccs import CHANNELS, ChemCamCcs
from .text import is_number

DETECTOR, DARK = 2048, 50  # pixels
SHOT = 3 * (DETECTOR + 2 * DARK)
_CONTAINER = re.compile(rb"OBJECT\s*=\s*CCAM_LIBS_DATA_CONTAINER\b(.*?)END_OBJECT", re.DOTALL)


class ChemCamEdr(Reader):
    name = "chemcam-edr"
    title = "ChemCam EDR .DAT (MSL, raw single shots; needs a CCS file beside it)"
    medium = "vacuum"
    unproven = "the layout that programs read and the labels of other ChemCam products"

    def sniff(self, head: bytes, path: Path) -> bool:
        known = head.lstrip().startswith((b"PDS_VERSION_ID", b"ODL_VERSION_ID")) and b"LABEL_RECORDS" in head
        return known and _CONTAINER.search(head) is not None

    def read(self, path: Path, *, medium: str | None = None, members: Sequence[Path] = ()) -> SpectraSet:
        data = path.read_bytes()
        container = _CONTAINER.search(data[:HEAD_BYTES])
        if container is None:
            raise FileFormatError("is missing", file=path, field="CCAM_LIBS_DATA_CONTAINER")
        label = data[: container.start()]
        shots = _whole(path, container[1], "REPETITIONS")
        skip = _whole(path, label, "LABEL_RECORDS") * _whole(path, label, "RECORD_BYTES")
        start = skip + _whole(path, container[1], "START_BYTE") - 1
        end = start + 2 * SHOT * shots
        if end > len(data):
            why = f"{shots} shots end at byte {end}: the file is cut"
            raise FileFormatError(why, file=path, field="bytes", value=len(data))
        pixels = np.frombuffer(data[start:end], ">u2").astype(np.uint16).reshape(shots, 3, SHOT // 3)
        counts = pixels[:, ::-1, DARK : DARK + DETECTOR].reshape(shots, CHANNELS)
        sequence = (_value(label, "SEQUENCE_ID") or path.stem).upper()
        ccs, axis = _axis(path, sequence)
        distance = _value(data[:skip], "MSL:INSTRUMENT_FOCUS_DISTANCE")
        notes = [f"axis of {ccs.name}"]
        if _value(data[:skip], "MSL:LASER_MODE").upper() == "NO":
            notes.append("laser off: a passive or dark measurement")
        return self.build(
            [path],
            wavelength=axis,
            counts=counts,
            medium=medium,
            distance_m=np.full(shots, metres(float(distance)) if is_number(distance) else np.nan),
            specimen=np.full(shots, sequence),
            shot=np.arange(1, shots + 1),
            quantity="counts",
            instrument="ChemCam",
            notes=notes,
        )


def _value(label: bytes, key: str) -> str:
    """What the label says for ``key``, without quotes and units; "" where it says nothing."""
    found = re.search(rb"^[ \t]*" + key.encode() + rb"[ \t]*=[ \t]*([^\r\n]*)", label, re.MULTILINE)
    text = found[1].decode("latin-1") if found else ""
    return re.sub(r"<.*?>", "", text).strip().strip('"').strip()


def _whole(path: Path, label: bytes, key: str) -> int:
    text = _value(label, key)
    if not re.fullmatch(r"\d{1,7}", text) or int(text) == 0:
        raise FileFormatError("must be a positive whole number", file=path, field=key, value=text)
    return int(text)


def _axis(path: Path, sequence: str) -> tuple[Path, np.ndarray]:
    """A CCS file beside ``path`` and its axis, vacuum nm [CHANNELS]."""
    reader = ChemCamCcs()
    beside = []
    for other in sorted(path.parent.iterdir()):
        if other != path and other.is_file():
            with open(other, "rb") as file:
                head = file.read(HEAD_BYTES)
            if reader.sniff(head, other):
                beside.append(other)
    if not beside:
        why = "an EDR has no wavelengths: put a ChemCam CCS file (.csv) beside it, whose axis it then gets"
        raise AxisError(why, file=path, field="wavelength")
    chosen = next((other for other in beside if sequence in other.name.upper()), beside[0])
    return chosen, reader.read(chosen).wavelength
