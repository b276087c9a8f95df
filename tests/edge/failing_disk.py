"""A disk of the model store that fails at any call, and a power cut that takes what was not synchronised."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from libsedge.errors import SedgeError
from libsedge.model_state import Disk


class Crash(BaseException):
    """The power goes."""


class FailingDisk(Disk):
    """The call of number `at` fails, before or after it has worked; knows what a power cut would take."""

    def __init__(self, at: int, when: str, error: Callable[[], BaseException], *, sync: bool = True) -> None:
        self.at, self.when, self.error, self.syncs = at, when, error, sync
        self.calls = 0
        self.unsynced_files: set[Path] = set()
        self.unsynced_renames: list[tuple[Path, Path, bytes | None]] = []

    def _call(self, work: Callable[[], None]) -> None:
        self.calls += 1
        if self.calls == self.at and self.when == "before":
            raise self.error()
        work()
        if self.calls == self.at:
            raise self.error()

    def make_folder(self, path: Path) -> None:
        self._call(lambda: super(FailingDisk, self).make_folder(path))

    def write(self, path: Path, data: bytes) -> None:
        def work() -> None:
            super(FailingDisk, self).write(path, data)
            self.unsynced_files.add(path)

        self._call(work)

    def sync(self, path: Path) -> None:
        def work() -> None:
            if self.syncs:
                super(FailingDisk, self).sync(path)
                self.unsynced_files.discard(path)
                self.unsynced_renames = [it for it in self.unsynced_renames if it[1].parent != path]

        self._call(work)

    def rename(self, old: Path, new: Path) -> None:
        def work() -> None:
            backup = new.read_bytes() if new.is_file() else None
            super(FailingDisk, self).rename(old, new)
            moved = {
                new / p.relative_to(old) if p != old else new
                for p in self.unsynced_files
                if p.is_relative_to(old)
            }
            self.unsynced_files = {p for p in self.unsynced_files if not p.is_relative_to(old)} | moved
            self.unsynced_renames.append((old, new, backup))

        self._call(work)

    def remove(self, path: Path) -> None:
        self._call(lambda: super(FailingDisk, self).remove(path))

    def cut_power(self, *, keep_names: bool) -> None:
        """Content that was not synchronised is torn; names, too, are as before unless the disk kept them."""
        for path in self.unsynced_files:
            if path.exists():
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        for old, new, backup in [] if keep_names else reversed(self.unsynced_renames):
            if old.parent.exists() and new.exists():
                os.rename(new, old)
            if backup is not None:
                new.write_bytes(backup)


def attempts(
    folder: Path, action: Callable[[Disk], object], error: Callable[[], BaseException], *, sync: bool = True
) -> Iterator[tuple[FailingDisk, bool]]:
    """Run `action` with its first, second, ... call failing, each time from the same files."""
    saved = folder.with_name("saved")
    shutil.copytree(folder, saved)
    for when in ("before", "after"):
        for keep_names in (False, True) if error is Crash else (True,):
            at, done = 0, False
            while not done:
                at += 1
                shutil.rmtree(folder)
                shutil.copytree(saved, folder)
                disk = FailingDisk(at, when, error, sync=sync)
                try:
                    action(disk)
                    done = disk.calls < at
                except (Crash, SedgeError):
                    pass
                if error is Crash:
                    disk.cut_power(keep_names=keep_names)
                yield disk, done
            assert at >= 5
    shutil.rmtree(saved)


def io_error() -> OSError:
    return OSError(28, "No space left on device")
