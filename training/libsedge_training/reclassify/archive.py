"""What an archive holds: its shards, each one file (or the files of one measurement), and blocks of their rows."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from libsedge.errors import ConfigError, FileFormatError, SedgeError
from libsedge.sources.files import open_spectra

from ..readers import find

#: files with these names are spectra even where no reader knows them any more: damaged, not left out
SPECTRA_SUFFIXES = (".h5", ".hdf5", ".npz")
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Shard:
    """`name`: in the output, relative to the archive. `path`: absolute, the same on every worker. `members`: all
    its files."""

    name: str
    path: str
    members: tuple[str, ...]

    @property
    def key(self) -> str:
        return f"survey-{self.name}"

    def stamp(self) -> list[list[int]]:
        """Sizes and times of the files: where they change, the archive has changed."""
        states = [os.stat(member) for member in self.members]
        return [[state.st_size, state.st_mtime_ns] for state in states]


@dataclass(frozen=True)
class Block:
    """Rows [start, stop) of the shard number `number`; `sha256`: of the shard's files."""

    number: int
    shard: Shard
    sha256: str
    start: int
    stop: int

    @property
    def key(self) -> str:
        """Name of its part, the same in every call."""
        return f"part-{self.number:06d}-{self.start:010d}"


def shards(archives: Sequence[str | os.PathLike[str]]) -> tuple[list[Shard], list[str]]:
    """(shards by name, names of files that are no spectra) of folders, with their subfolders, and of files.

    Hidden files are not looked at. ConfigError where nothing is there or two shards would share a name.
    """
    found: dict[str, Shard] = {}
    left_out: list[str] = []
    for archive in map(Path, archives):
        folder = archive.is_dir()
        if not folder and not archive.is_file():
            raise FileFormatError("no such file or folder", file=archive)
        files = _files(archive) if folder else [archive]
        done: set[Path] = set()
        for path in files:
            if path in done:
                continue
            members = _members(path, files if folder else sorted(path.parent.iterdir()))
            name = path.relative_to(archive if folder else archive.parent).as_posix()
            if folder and members is None and path.suffix.lower() not in SPECTRA_SUFFIXES:
                left_out.append(name)
                continue
            done.update(members or [path])
            shard = Shard(name, os.path.abspath(path), tuple(map(os.path.abspath, members or [path])))
            if name in found:
                raise ConfigError(f"has the name of {found[name].path}", file=path, field="shard", value=name)
            found[name] = shard
    if not found:
        raise ConfigError("no file of spectra there", field="ARCHIVE", value=[str(a) for a in archives])
    return [found[name] for name in sorted(found)], sorted(left_out)


def _files(folder: Path) -> list[Path]:
    inside = (p for p in folder.rglob("*") if p.is_file())
    return sorted(p for p in inside if not any(s.startswith(".") for s in p.relative_to(folder).parts))


def _members(path: Path, among: Sequence[Path]) -> list[Path] | None:
    """The files of the measurement that begins with `path`; None where no reader knows it."""
    try:
        reader = find(path)
    except SedgeError:
        return [path]  # unreadable: the survey will say why
    if reader is None:
        return None
    near = [p for p in among if p.parent == path.parent]
    return reader.members(path, near) if reader.multipart else [path]


def digest(members: Sequence[str]) -> str:
    """SHA-256, hex, over the files one after the other."""
    found = hashlib.sha256()
    for member in members:
        with open(member, "rb") as file:
            while piece := file.read(_BLOCK):
                found.update(piece)
    return found.hexdigest()


def survey(shard: Shard) -> dict[str, Any]:
    """How many spectra a shard holds, its digest, and what is wrong with it where it cannot be opened."""
    row: dict[str, Any] = {
        "name": shard.name,
        "sha256": None,
        "spectra": 0,
        "simulated": False,
        "error": None,
    }
    try:
        row["sha256"] = digest(shard.members)
        opened = open_spectra(shard.path)
        row |= {"spectra": len(opened), "simulated": opened.simulated}
        opened.close()
    except SedgeError as wrong:
        row["error"] = error(wrong)
    except OSError as wrong:
        row["error"] = {"type": "FileFormatError", "field": None, "why": f"cannot be read: {wrong.strerror}"}
    return row


def error(wrong: SedgeError) -> dict[str, Any]:
    """A typed error without the folder that it happened in, which may differ from machine to machine."""
    here = "" if wrong.file is None else wrong.file
    return {
        "type": type(wrong).__name__,
        "field": wrong.field,
        "why": wrong.why.replace(here, Path(here).name) if here else wrong.why,
    }
