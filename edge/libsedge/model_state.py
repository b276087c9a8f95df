"""What a model store's file says, and the calls that change the disk; see model_store.py."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from libsedge import _core
from libsedge.errors import SedgeError
from libsedge.manifest import parse_json, parse_version

FORMAT, VERSION = "libsedge-model-store", 1
STATES = ("staged", "self-test", "shadow", "active", "good", "bad")
#: the current version is on trial
TRIAL = ("shadow", "active")
#: a version on trial gets so many starts without a clean end
MAX_STARTS = 3
STORE, BUNDLE = "store.json", "model.sedge"
_DIGEST = re.compile("[0-9a-f]{64}")


class ModelStoreError(SedgeError):
    """A model store is damaged, or refuses what was asked of it."""


class Disk:
    """Every call that changes the disk, so that tests can fail each in turn and lose what was not synchronised."""

    def make_folder(self, path: Path) -> None:
        path.mkdir(mode=0o755)

    def write(self, path: Path, data: bytes) -> None:
        """A new file; its content is safe only after `sync`."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)

    def sync(self, path: Path) -> None:
        """A file's content, or a folder's entries, to the disk."""
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        os.rename(old, new)

    def remove(self, path: Path) -> None:
        """A file or a folder with its files; nothing where there is none."""
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Entry:
    """One installed version: the bundle's SHA-256, its counter, one of `STATES`, and how often it was started on trial
    since it last ended well."""

    digest: str
    counter: int
    state: str
    starts: int = 0


@dataclass(frozen=True)
class State:
    """What store.json says. `floor` is the largest counter that was ever good; 0 = none."""

    current: str | None = None
    previous: str | None = None
    floor: int = 0
    versions: dict[str, Entry] = field(default_factory=dict)

    def with_entry(self, version: str, entry: Entry) -> State:
        return replace(self, versions=self.versions | {version: entry})

    def without(self, version: str) -> State:
        return replace(self, versions={name: it for name, it in self.versions.items() if name != version})

    def with_state(self, version: str, state: str) -> State:
        return self.with_entry(version, replace(self.versions[version], state=state, starts=0))

    def with_starts(self, version: str, starts: int) -> State:
        return self.with_entry(version, replace(self.versions[version], starts=starts))

    def to_bytes(self) -> bytes:
        body = {"format": FORMAT, "version": VERSION, **asdict(self)}
        text = json.dumps(body, sort_keys=True)
        return (
            json.dumps({"crc32c": _core.crc32c(text.encode()), "store": body}, sort_keys=True, indent=1)
        ).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> State:
        """Raises SedgeError or ValueError for anything that `to_bytes` does not write."""
        body = parse_json(data, STORE)["store"]
        entries = {version: Entry(**entry) for version, entry in body["versions"].items()}
        state = cls(body["current"], body["previous"], body["floor"], entries)
        for version, entry in entries.items():
            parse_version(version)
            if (
                entry.state not in STATES
                or not _DIGEST.fullmatch(entry.digest)
                or type(entry.counter) is not int
                or type(entry.starts) is not int
            ):
                raise ValueError(f"version {version} is malformed")
        for name in (state.current, state.previous):
            if name is not None and name not in entries:
                raise ValueError(f"{name} is not installed")
        if state.to_bytes() != data:
            raise ValueError("the CRC-32C does not hold, or the text is not what was written")
        return state
