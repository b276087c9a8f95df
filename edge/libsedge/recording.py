"""Recordings: frames as they came, with identity and time, in one HDF5 file that `replay:` plays back.

While it runs, frames are appended in their wire form to `.FILE.spool`, which a crash cannot damage but for its last
frame; when it ends the spool is turned into the HDF5 file, which appears whole or not at all.

    attributes   format = "libsedge-recording", version = 1, simulated; saturation where an axis is known
    frames       [n] compound: stream u4, epoch u4, sequence u8, time_ns u8, integration_us u4, distance_mm u4,
                 flags u2, kind u1 (number of the values' dataset), row u4 (place in it)
    values/K     [rows, channels] uint16 or float32, one dataset for every length and type that came (K = 0, 1, ...)
    wavelength_nm, mask   of the source's axis, where it is known
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from libsedge import extras
from libsedge._frames import Decoder
from libsedge.errors import FileFormatError
from libsedge.frame import Frame, encode
from libsedge.sources.base import Axis

FORMAT, VERSION = "libsedge-recording", 1
_CHUNK = 1 << 20
_HEADER = np.dtype(
    [
        ("stream", "<u4"),
        ("epoch", "<u4"),
        ("sequence", "<u8"),
        ("time_ns", "<u8"),
        ("integration_us", "<u4"),
        ("distance_mm", "<u4"),
        ("flags", "<u2"),
        ("kind", "u1"),
        ("row", "<u4"),
    ]
)


def _h5py() -> Any:
    return extras.load("h5py", "edge")


class Spool:
    """Frames appended to a file in their wire form; goes on where another process stopped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = open(path, "ab")  # noqa: SIM115
        except OSError as error:
            raise FileFormatError(f"cannot be written: {error.strerror}", file=path) from error

    def append(self, frames: Iterable[Frame]) -> None:
        """Write the frames and synchronise; OSError where the disk refuses."""
        self._file.write(b"".join(encode(frame) for frame in frames))
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def spool_frames(path: Path) -> Iterator[Frame]:
    """Every whole frame of a spool; what a crash tore is left out."""
    decoder = Decoder()
    with open(path, "rb") as file:
        while data := file.read(_CHUNK):
            yield from decoder.feed(data)
    yield from decoder.finish()


def write_recording(
    path: Path, frames: Iterable[Frame], axis: Axis | None = None, *, simulated: bool = False
) -> int:
    """Write a finished recording, all of it or nothing; the number of frames. FileFormatError where it cannot be."""
    h5py = _h5py()
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    headers: list[tuple[int, ...]] = []
    kinds: dict[tuple[str, int], tuple[int, Any]] = {}
    try:
        with h5py.File(part, "w", track_order=False) as file:
            file.attrs["format"], file.attrs["version"], file.attrs["simulated"] = FORMAT, VERSION, simulated
            if axis is not None:
                file.attrs["saturation"] = axis.saturation
                file.create_dataset("wavelength_nm", data=axis.wavelength_nm, track_times=False)
                if axis.mask is not None:
                    file.create_dataset("mask", data=axis.mask.astype(np.uint8), track_times=False)
            values = file.create_group("values")
            for frame in frames:
                kind, data = _dataset(values, kinds, frame.values)
                row = data.shape[0]
                data.resize(row + 1, axis=0)
                data[row] = frame.values
                headers.append(
                    (
                        *(frame.stream_id, frame.epoch, frame.sequence, frame.time_ns),
                        *(frame.integration_us, frame.distance_mm, frame.flags, kind, row),
                    )
                )
            file.create_dataset("frames", data=np.array(headers, _HEADER), track_times=False)
        with open(part, "rb") as written:
            os.fsync(written.fileno())
        os.replace(part, path)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else " ".join(str(error).split())
        raise FileFormatError(f"cannot be written: {why}", file=path) from error
    finally:
        part.unlink(missing_ok=True)
    return len(headers)


def _dataset(
    group: Any, kinds: dict[tuple[str, int], tuple[int, Any]], values: np.ndarray
) -> tuple[int, Any]:
    key = (values.dtype.str, values.size)
    if key not in kinds:
        number = len(kinds)
        options = {"chunks": (1, values.size), "fletcher32": True, "track_times": False}
        shape, most = (0, values.size), (None, values.size)
        data = group.create_dataset(str(number), shape, values.dtype, maxshape=most, **options)
        kinds[key] = (number, data)
    return kinds[key]


def is_recording(path: Path) -> bool:
    """True for an HDF5 file that says so; False for everything else, and where h5py is not installed."""
    try:
        if not path.is_file():  # opening a pipe would wait for its other end
            return False
        h5py = _h5py()
        with h5py.File(path, "r") as file:
            return bool(file.attrs.get("format") == FORMAT)
    except Exception:  # whatever h5py says of a file that is something else
        return False


class Recording:
    """A recording to read: `axis`, `simulated`, `streams`, `len()`, iteration over its frames in their order.

    Raises FileFormatError for a file that is damaged, or of another version.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            self._file = _h5py().File(self.path, "r")
        except OSError as error:
            raise FileFormatError(f"cannot be read: {error}", file=self.path) from error
        try:
            version = int(self._file.attrs["version"])
            if self._file.attrs["format"] != FORMAT or version != VERSION:
                raise FileFormatError(
                    f"this libsedge reads version {VERSION}", file=self.path, field="version", value=version
                )
            self.simulated = bool(self._file.attrs["simulated"])
            self.axis = self._axis()
            self._headers = np.asarray(self._file["frames"][:], _HEADER)
            self._values = [self._file["values"][str(i)] for i in range(len(self._file["values"]))]
        except (KeyError, TypeError, ValueError, OSError) as error:
            self._file.close()
            raise FileFormatError(f"is damaged: {error}", file=self.path) from error
        except FileFormatError:
            self._file.close()
            raise
        self.streams = sorted({int(stream) for stream in self._headers["stream"]})

    def _axis(self) -> Axis | None:
        if "wavelength_nm" not in self._file:
            return None
        mask = self._file["mask"][:].astype(bool) if "mask" in self._file else None
        return Axis(self._file["wavelength_nm"][:].astype(float), mask, float(self._file.attrs["saturation"]))

    def __len__(self) -> int:
        return len(self._headers)

    def __iter__(self) -> Iterator[Frame]:
        for number, header in enumerate(self._headers):
            stream, epoch, sequence, time_ns, integration, distance, flags, kind, row = map(int, header)
            try:
                values = self._values[kind][row]
            except (IndexError, ValueError, OSError) as error:
                raise FileFormatError(
                    f"its values are damaged: {error}", file=self.path, field="frame", value=number
                ) from error
            yield Frame(stream, epoch, sequence, time_ns, integration, distance, flags, values)

    def close(self) -> None:
        self._file.close()
