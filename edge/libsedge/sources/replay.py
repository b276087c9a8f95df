"""`replay:FILE`: the spectra of a file, or the frames of a recording, as a stream of frames.

A recording (`libsedge record`, `--sink record:FILE`) gives its frames as they were: identity, time, flags. With `speed`
1 they come as far apart as they were taken (`time_ns`), with 10 ten times as fast; a time that is unknown or earlier
than the one before waits for nothing.

Of a file of spectra the stream id comes from the content, the epoch is 0 and the sequence number is the place in the
stream, so replaying a file into the same journal gives duplicates, and another file needs a journal of its own. The
set's dark, if it has one, is the first frame, with the dark flag. A store holds no times: `time_ns` is 0 (unknown).
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from libsedge.errors import ConfigError, SourceError
from libsedge.frame import FLAG_DARK, Frame
from libsedge.recording import Recording, is_recording
from libsedge.sources.base import Source, SourceOptions
from libsedge.sources.files import SpectraFile, open_spectra
from libsedge.sources.pace import until


def set_frames(spectra: SpectraFile, stream_id: int | None = None, epoch: int = 0) -> Iterator[Frame]:
    """The frames of a file: the dark first, then every spectrum in its order."""
    stream = spectra.stream_id() if stream_id is None else stream_id
    sequence = 0
    if spectra.dark is not None:
        yield Frame(stream, epoch, 0, 0, 0, 0, FLAG_DARK, spectra.dark)
        sequence = 1
    for start in range(0, len(spectra), 64):
        block = spectra.rows(slice(start, min(start + 64, len(spectra))))
        for row, distance in zip(block, spectra.distance_m[start : start + 64], strict=True):
            millimetres = round(float(distance) * 1000) if math.isfinite(distance) else 0
            yield Frame(stream, epoch, sequence, 0, 0, millimetres, 0, row)
            sequence += 1


class ReplaySource(Source):
    """Frames of a file as a source; as fast as they are taken, unless `rate_hz` or `speed` is given."""

    def __init__(
        self, file: SpectraFile | Recording, rate_hz: float | None = None, speed: float | None = None
    ) -> None:
        for name, value in (("rate", rate_hz), ("speed", speed)):
            if value is not None and not 0 < value < math.inf:
                raise ConfigError("must be above 0", field=name, value=value)
        if rate_hz is not None and speed is not None:
            raise ConfigError("give a rate or a speed, not both", field="speed", value=speed)
        if len(file) == 0:
            raise SourceError("holds no spectra", file=file.path)
        if isinstance(file, Recording):
            if len(file.streams) > 1:
                raise SourceError(
                    "holds frames of several streams", file=file.path, field="stream", value=file.streams
                )
            stream, self._frames = file.streams[0], iter(file)
        else:
            if speed is not None:
                raise ConfigError(
                    "needs a recording: spectra have no times", file=file.path, field="speed", value=speed
                )
            stream = file.stream_id()
            self._frames = set_frames(file, stream)
        super().__init__(axis=file.axis, stream_id=stream, simulated=file.simulated)
        self._file, self._speed = file, speed
        self._period = 0.0 if rate_hz is None else 1 / rate_hz
        self._stopped = threading.Event()

    def __iter__(self) -> Iterator[Frame | None]:
        due, before = time.monotonic(), 0
        for frame in self._frames:
            if self._speed is not None and 0 < before < frame.time_ns:
                due += (frame.time_ns - before) / 1e9 / self._speed
            before = frame.time_ns or before
            yield from until(due, self._stopped)
            if self._stopped.is_set():
                return
            due += self._period
            yield frame

    def stop(self) -> None:
        self._stopped.set()

    def close(self) -> None:
        self._stopped.set()
        self._file.close()


def open_replay(argument: str, options: SourceOptions) -> ReplaySource:
    """`replay:FILE`."""
    recorded = is_recording(Path(argument))
    file = Recording(argument) if recorded else open_spectra(argument)
    source = ReplaySource(file, options.rate_hz, options.speed)
    if source.axis is None:
        source.axis = options.axis
    return source
