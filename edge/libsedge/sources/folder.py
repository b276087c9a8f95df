"""`folder:PATH`: files of frames that appear in a folder, each read once.

A file is taken when it has its final name, `*.sedg`: a writer makes it under another name (or one that begins
with a dot) in the same folder and renames it. It holds frames back to back, as over TCP. Files that are there
together are read in the order of their names, byte by byte; one that comes later is read later. Symbolic
links and whatever is not a regular file are refused and counted, never opened through.

When every frame of a file is durable, the file moves to `done/` in the same folder; when something in it was
damaged, to `damaged/`. A file of which a frame was shed, refused or not journaled stays where it is, and the
next run reads it again. Reading waits while the queue is full, so nothing is ever lost here.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import stat
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path

from libsedge.errors import SourceError
from libsedge.frame import Frame
from libsedge.ledger import Key
from libsedge.sources.base import Axis, Source, SourceOptions
from libsedge.sources.streams import FrameStream, add_growth

SUFFIX = ".sedg"
_SCAN_S = 0.2
_AT_ONCE = 1024  # names of one scan
_READ = 1 << 17


@dataclass
class _File:
    name: str
    identity: tuple[int, int, int]
    open: dict[Key, int] = field(default_factory=dict)  # frames handed out and not yet ended
    read: bool = False
    damaged: bool = False
    stays: bool = False


class FolderSource(Source):
    """A watched folder; SourceError where it is not one."""

    def __init__(self, folder: str | os.PathLike[str], *, axis: Axis | None = None) -> None:
        super().__init__(axis=axis)
        self._folder = Path(folder)
        if not self._folder.is_dir():
            raise SourceError("is not a folder", file=self._folder)
        self.address = str(self._folder)
        self._stopped = threading.Event()
        self._lock = threading.Lock()  # of the files in progress
        self._owners: dict[Key, list[_File]] = {}
        self._seen: dict[str, tuple[int, int, int]] = {}
        self._numbers = (
            dict.fromkeys(
                ("files", "done", "damaged", "not_moved", "unreadable", "links_refused", "not_files_refused"),
                0,
            )
            | FrameStream().counters()
        )

    def __iter__(self) -> Iterator[Frame | None]:
        while not self._stopped.is_set():
            names = self._scan()
            for name in names:
                yield from self._file(name)
                if self._stopped.is_set():
                    return
            yield None
            if not names:
                self._stopped.wait(_SCAN_S)

    def _scan(self) -> list[str]:
        """New names in their order; forgets the names that are gone."""
        try:
            with os.scandir(self._folder) as entries:
                there = {
                    entry.name: _identity(entry.stat(follow_symlinks=False))
                    for entry in entries
                    if entry.name.endswith(SUFFIX) and not entry.name.startswith(".")
                }
        except OSError:  # away for a while, or a file left between two looks
            return []
        self._seen = {name: known for name, known in self._seen.items() if name in there}
        new = (name for name, identity in there.items() if self._seen.get(name) != identity)
        names = heapq.nsmallest(_AT_ONCE, new, key=os.fsencode)
        self._seen.update({name: there[name] for name in names})
        return names

    def _file(self, name: str) -> Iterator[Frame | None]:
        descriptor = self._open(name)
        if descriptor is None:
            return
        file, stream = _File(name, self._seen[name]), FrameStream()
        refused: dict[str, int] = {}
        counted: dict[str, int] = {}
        self._numbers["files"] += 1
        with FileIO(descriptor, "rb") as handle:
            ended = False
            while not ended:
                data = _read(handle)
                ended = not data
                frames = stream.finish() if ended else stream.feed(data)
                add_growth(self.refused, stream.refused(), refused)
                add_growth(self._numbers, stream.counters(), counted)
                for frame in frames:
                    self._hand_out(file, frame)
                    yield frame
                    if self._stopped.is_set():
                        file.stays = True
                        return
                yield None
        numbers = stream.counters()
        file.damaged = bool(refused or numbers["garbage_bytes"] or numbers["truncated_bytes"])
        with self._lock:
            file.read = True
            self._settle(file)

    def _open(self, name: str) -> int | None:
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(self._folder / name, flags)
        except OSError:
            link = False
            with contextlib.suppress(OSError):
                link = (self._folder / name).is_symlink()
            self._numbers["links_refused" if link else "unreadable"] += 1
            return None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            self._numbers["not_files_refused"] += 1
            return None
        return descriptor

    def _hand_out(self, file: _File, frame: Frame) -> None:
        key = frame.key
        with self._lock:
            file.open[key] = file.open.get(key, 0) + 1
            self._owners.setdefault(key, []).append(file)

    def acknowledge(self, keys: Iterable[Key]) -> None:
        self._end(keys, durable=True)

    def forget(self, keys: Iterable[Key]) -> None:
        self._end(keys, durable=False)

    def _end(self, keys: Iterable[Key], *, durable: bool) -> None:
        with self._lock:
            for key in keys:
                owners = self._owners.get(key)
                if not owners:
                    continue
                file = owners.pop(0)
                if not owners:
                    del self._owners[key]
                file.open[key] -= 1
                if not file.open[key]:
                    del file.open[key]
                file.stays |= not durable
                self._settle(file)

    def _settle(self, file: _File) -> None:
        """Move a file of which nothing is open any more; called under the lock."""
        if not file.read or file.open or file.stays:
            return
        where = "damaged" if file.damaged else "done"
        try:
            if _identity(os.lstat(self._folder / file.name)) != file.identity:
                return  # another file took its name; it will be read for itself
            target = self._folder / where
            target.mkdir(exist_ok=True)
            place = target / file.name
            if place.exists():  # a name that was used before: both are kept
                place = target / f"{file.name}.{time.time_ns()}"
            os.rename(self._folder / file.name, place)
            self._numbers[where] += 1
        except OSError:
            self._numbers["not_moved"] += 1

    def counters(self) -> dict[str, int]:
        return dict(self._numbers)

    def stop(self) -> None:
        self._stopped.set()

    def close(self) -> None:
        self._stopped.set()


def _identity(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_dev, status.st_ino, status.st_mtime_ns


def _read(handle: FileIO) -> bytes:
    """The next bytes; b"" at the end and where the disk fails (the rest is then missing, and counted so)."""
    try:
        return handle.read(_READ) or b""
    except OSError:
        return b""


def open_folder(argument: str, options: SourceOptions) -> FolderSource:
    """`folder:PATH`."""
    return FolderSource(argument, axis=options.axis)
