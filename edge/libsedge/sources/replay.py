"""`replay:FILE`: the spectra of a file as a stream of frames.

The stream id comes from the content, the epoch is 0 and the sequence number is the place in the stream, so
replaying a file into the same journal gives duplicates, and another file needs a journal of its own. The
set's dark, if it has one, is the first frame, with the dark flag. A store holds no times: `time_ns` is 0
(unknown).
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator

from libsedge.errors import ConfigError, SourceError
from libsedge.frame import FLAG_DARK, Frame
from libsedge.sources.base import Source, SourceOptions
from libsedge.sources.files import SpectraFile, open_spectra


def set_frames(spectra: SpectraFile, stream_id: int | None = None) -> Iterator[Frame]:
    """The frames of a file: the dark first, then every spectrum in its order."""
    stream = spectra.stream_id() if stream_id is None else stream_id
    sequence = 0
    if spectra.dark is not None:
        yield Frame(stream, 0, 0, 0, 0, 0, FLAG_DARK, spectra.dark)
        sequence = 1
    for start in range(0, len(spectra), 64):
        block = spectra.rows(slice(start, min(start + 64, len(spectra))))
        for row, distance in zip(block, spectra.distance_m[start : start + 64], strict=True):
            millimetres = round(float(distance) * 1000) if math.isfinite(distance) else 0
            yield Frame(stream, 0, sequence, 0, 0, millimetres, 0, row)
            sequence += 1


class ReplaySource(Source):
    """A file as a source; `rate_hz` None = as fast as frames are taken."""

    def __init__(self, spectra: SpectraFile, rate_hz: float | None = None) -> None:
        super().__init__(axis=spectra.axis, stream_id=spectra.stream_id(), simulated=spectra.simulated)
        if rate_hz is not None and not 0 < rate_hz < math.inf:
            raise ConfigError("must be above 0", field="rate", value=rate_hz)
        if len(spectra) == 0:
            raise SourceError("holds no spectra", file=spectra.path)
        self._spectra = spectra
        self._period = 0.0 if rate_hz is None else 1 / rate_hz
        self._stopped = threading.Event()

    def __iter__(self) -> Iterator[Frame | None]:
        due = time.monotonic()
        for frame in set_frames(self._spectra, self.stream_id):
            while (wait := due - time.monotonic()) > 0 and not self._stopped.is_set():
                self._stopped.wait(min(wait, 0.25))
                if wait > 0.25:
                    yield None
            if self._stopped.is_set():
                return
            due += self._period
            yield frame

    def stop(self) -> None:
        self._stopped.set()

    def close(self) -> None:
        self._stopped.set()
        self._spectra.close()


def open_replay(argument: str, options: SourceOptions) -> ReplaySource:
    """`replay:FILE`."""
    return ReplaySource(open_spectra(argument), options.rate_hz)
