"""`record:FILE.h5`: every frame that got a row, as it came, for `replay:`; see `libsedge.recording`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from libsedge.errors import ConfigError, FileFormatError
from libsedge.frame import Frame
from libsedge.journal import Record
from libsedge.recording import Spool, is_recording, spool_frames, write_recording
from libsedge.sinks.base import Sink
from libsedge.sources.base import Axis


class Recorder(Sink):
    """Records into a new file; a recording that a crash interrupted goes on.

    Raises ConfigError where FILE exists already, or its folder cannot be written.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.frames = 0
        self._axis: Axis | None = None
        self._simulated = False
        if self.path.exists():
            what = "is a finished recording" if is_recording(self.path) else "exists"
            raise ConfigError(f"{what}; give another name", file=self.path, field="record")
        if not self.path.parent.is_dir():
            raise ConfigError("its folder does not exist", file=self.path, field="record")
        self._spool: Spool | None = Spool(self.path.with_name(f".{self.path.name}.spool"))

    def begin(self, axis: Axis | None, *, simulated: bool) -> None:
        self._axis, self._simulated = axis, simulated

    def write(self, records: Sequence[Record]) -> None:
        """Nothing: it wants the frames."""

    def write_frames(self, frames: Sequence[Frame]) -> None:
        if self._spool is not None and frames:
            self._spool.append(frames)

    def close(self) -> None:
        """Turn the spool into the recording; FileFormatError where it cannot be written, and the spool stays."""
        if self._spool is None:
            return
        spool, self._spool = self._spool, None
        spool.close()
        try:
            self.frames = write_recording(
                self.path, spool_frames(spool.path), self._axis, simulated=self._simulated
            )
        except FileFormatError as error:
            why = f"{error.why}; the frames stay in {spool.path.name}, to go on with"
            raise FileFormatError(why, file=error.file) from error
        spool.path.unlink()
