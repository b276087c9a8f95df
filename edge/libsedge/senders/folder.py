"""Frames as files in a watched folder: one a file, written under a hidden name and renamed when complete."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from libsedge.errors import SourceError
from libsedge.senders.base import Emit, Sender, UnitSender
from libsedge.senders.truth import Whole
from libsedge.sources.folder import SUFFIX


@contextmanager
def _files(folder: Path) -> Iterator[Emit]:
    if not folder.is_dir():
        raise SourceError("is not a folder", file=folder)
    number = 0

    def emit(unit: bytes) -> None:
        nonlocal number
        part = folder / f".{number:08d}.part"
        part.write_bytes(unit)
        os.rename(part, folder / f"{number:08d}{SUFFIX}")
        number += 1

    yield emit


def open_folder(argument: str) -> Sender:
    """`folder:PATH`."""
    return UnitSender(Whole(), lambda wait_s: _files(Path(argument)))
