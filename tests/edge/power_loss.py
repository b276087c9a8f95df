"""Power cuts for the journal: what the disk may hold after one, at every write.

The real `libsedge.journal.Journal` writes through a recording VFS of SQLite (apsw). The record is every write,
truncation, sync, creation and deletion, and every moment at which rows were acknowledged. A power cut is then
put after any of them. What was synced is there. What was not is there in part: of every write since the last
sync of its file each sector of 512 bytes came or did not, whatever the order; a truncation came or did not; a
creation or a deletion came or did not until its folder was synced. The first state after every operation
loses everything that was not synced. The state is then opened by the real journal with Python's own SQLite, as
after a restart.

    python tests/edge/power_loss.py --states 100000 [--seed N] [--synchronous FULL]

Two settings differ from a run: `locking_mode = EXCLUSIVE`, because a VFS written in Python has no shared
memory for the WAL's index (the index is never synced in any mode), and a checkpoint every 8 pages instead of
1,000, so that a short run has many.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
from libsedge import journal as journal_module
from libsedge.errors import JournalError
from libsedge.journal import Journal, Record
from libsedge.ledger import Key

SECTOR = 512
NAME = "run.db"


@dataclass
class Log:
    """What happened, in order: (kind, file, ...)."""

    operations: list[tuple[Any, ...]] = field(default_factory=list)


class RecordingFile(apsw.VFSFile):
    def __init__(self, log: Log, name: Any, flags: list[int]) -> None:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._log, self._name = log, Path(path).name if path else ""
        if path and not Path(path).exists():
            log.operations.append(("create", self._name))
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        self._log.operations.append(("write", self._name, offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:
        self._log.operations.append(("truncate", self._name, size))
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:
        self._log.operations.append(("sync", self._name))
        super().xSync(flags)


class RecordingVfs(apsw.VFS):
    def __init__(self, log: Log, name: str) -> None:
        self._log = log
        super().__init__(name, "")

    def xOpen(self, name: Any, flags: list[int]) -> RecordingFile:
        return RecordingFile(self._log, name, flags)

    def xDelete(self, name: str, syncdir: bool) -> None:
        self._log.operations.append(("delete", Path(name).name, syncdir))
        super().xDelete(name, syncdir)


class Sqlite3OnApsw:
    """As much of the module `sqlite3` as the journal uses, on a recorded connection."""

    Error = apsw.Error

    class Cursor:
        def __init__(self, cursor: Any, rowcount: int) -> None:
            self._cursor, self.rowcount = cursor, rowcount

        def fetchone(self) -> Any:
            return next(self._cursor, None)

        def __iter__(self) -> Iterator[Any]:
            return iter(self._cursor)

    class Connection:
        def __init__(self, path: Path, vfs: str, synchronous: str) -> None:
            self._db = apsw.Connection(str(path), vfs=vfs)
            self._synchronous = synchronous
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("PRAGMA wal_autocheckpoint = 8")

        def execute(self, sql: str, values: tuple[Any, ...] = ()) -> Sqlite3OnApsw.Cursor:
            if sql.startswith("PRAGMA synchronous"):
                sql = f"PRAGMA synchronous = {self._synchronous}"
            before = self._db.total_changes()
            cursor = self._db.execute(sql, values)
            return Sqlite3OnApsw.Cursor(cursor, self._db.total_changes() - before)

        def executemany(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
            self._db.executemany(sql, rows)

        @property
        def in_transaction(self) -> bool:
            return bool(self._db.in_transaction)

        def rollback(self) -> None:
            self._db.execute("ROLLBACK")

        def close(self) -> None:
            self._db.close()

    def __init__(self, vfs: str, synchronous: str) -> None:
        self._vfs, self._synchronous = vfs, synchronous

    def connect(self, path: Path, **_: Any) -> Sqlite3OnApsw.Connection:
        return Sqlite3OnApsw.Connection(path, self._vfs, self._synchronous)


def record(sequence: int) -> Record:
    rng = random.Random(sequence)
    reason = "x" * rng.randrange(0, 400)  # rows of many sizes
    return Record(
        *(Key(9, 0, sequence), 10**18 + sequence, 2300, "light", "basalt", 0.5, False, reason),
        *((0.5, 0.5), "ab" * 32, sequence),
    )


def write_and_record(folder: Path, seed: int, batches: int, synchronous: str) -> Log:
    """A run that opens the journal, writes batches and closes it, twice; its log with the acknowledgements."""
    log = Log()
    name = f"recording-{seed}-{synchronous}"
    vfs = RecordingVfs(log, name)
    real = journal_module.sqlite3
    journal_module.sqlite3 = Sqlite3OnApsw(name, synchronous)  # type: ignore[assignment]
    rng = random.Random(seed)
    sequence = 0
    try:
        for _ in range(2):
            journal = Journal(folder / NAME, stream=9, model="m")
            for _ in range(batches):
                rows = [record(sequence + i) for i in range(rng.randrange(1, 9))]
                sequence += len(rows)
                written = journal.write(rows)
                assert written.error is None, written.error
                log.operations.append(("ack", [key.sequence for key in written.stored]))
            journal.close()
    finally:
        journal_module.sqlite3 = real
        vfs.unregister()
    return log


@dataclass
class File:
    """One file, whatever its name: the bytes that are certain, and what was written since."""

    certain: bytes = b""
    since: list[tuple[Any, ...]] = field(default_factory=list)
    synced: bool = False

    def content(self, rng: random.Random | None) -> bytes:
        """What is there after a cut: all that was not synced is lost (rng None), or came in part."""
        if rng is None:
            return self.certain
        content = bytearray(self.certain)
        for operation in self.since:
            _apply(content, operation, rng)
        return bytes(content)

    def sync(self) -> None:
        content = bytearray(self.certain)
        for operation in self.since:
            _apply(content, operation, None)
        self.certain, self.since, self.synced = bytes(content), [], True


@dataclass
class Folder:
    """Names: which file stands under each, which is certain to after a cut, and what happened since."""

    now: dict[str, File] = field(default_factory=dict)
    certain: dict[str, File] = field(default_factory=dict)
    since: dict[str, list[File | None]] = field(default_factory=dict)

    def do(self, operation: tuple[Any, ...]) -> None:
        kind, name = operation[:2]
        if kind == "create":
            self.now[name] = File()
            self.since.setdefault(name, []).append(self.now[name])
        elif kind == "delete":
            self.now.pop(name, None)
            self.since.setdefault(name, []).append(None)
            if operation[2]:
                self._sync()
        elif kind == "sync":
            file = self.now[name]
            if not file.synced and name != NAME:
                self._sync()  # SQLite syncs the folder with the first sync of a new journal or WAL
            file.sync()
        else:
            self.now[name].since.append(operation)

    def _sync(self) -> None:
        self.certain, self.since = dict(self.now), {}

    def after_cut(self, rng: random.Random | None) -> dict[str, bytes]:
        names: dict[str, File | None] = dict(self.certain)
        if rng is not None:
            for name, files in self.since.items():
                names[name] = rng.choice([self.certain.get(name), *files])
        return {name: file.content(rng) for name, file in names.items() if file is not None}


def _apply(content: bytearray, operation: tuple[Any, ...], rng: random.Random | None) -> None:
    """A write or truncation, whole (rng None) or as much of it as came."""
    if operation[0] == "truncate":
        if rng is None or rng.random() < 0.5:
            size = operation[2]
            del content[size:]
            content.extend(bytes(size - len(content)))
        return
    _, _, offset, data = operation
    edges = [offset, *range((offset // SECTOR + 1) * SECTOR, offset + len(data), SECTOR), offset + len(data)]
    for begin, end in itertools.pairwise(edges):
        if rng is None or rng.random() < 0.5:
            content.extend(bytes(max(0, end - len(content))))
            content[begin:end] = data[begin - offset : end - offset]


def cuts(log: Log, torn: int, rng: random.Random) -> Iterator[tuple[dict[str, bytes], set[int]]]:
    """After every operation: the files of one state that loses all, and `torn` random ones; with them the rows
    acknowledged by then."""
    folder = Folder()
    acknowledged: set[int] = set()
    for operation in log.operations:
        if operation[0] == "ack":
            acknowledged |= set(operation[1])
        else:
            folder.do(operation)
        for draw in [None, *[rng] * torn]:
            yield folder.after_cut(draw), acknowledged


def judge(folder: Path, files: dict[str, bytes], acknowledged: set[int]) -> str:
    """Open the state as a restart does: ok, lost (an acknowledged row is gone), changed or corrupt."""
    for old in folder.iterdir():
        old.unlink()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    try:
        journal = Journal(folder / NAME, stream=9)
    except JournalError:
        return "corrupt"
    try:
        rows = {row.key.sequence: row for row in journal}
        if journal._db.execute("PRAGMA integrity_check").fetchone() != ("ok",):
            return "corrupt"
    except (JournalError, sqlite3.Error):
        return "corrupt"
    finally:
        journal.close()
    if any(row != record(sequence) for sequence, row in rows.items()):
        return "changed"
    return "ok" if acknowledged <= rows.keys() else "lost"


def campaign(states: int, seed: int, synchronous: str, *, batches: int = 12, torn: int = 3) -> Counter[str]:
    """At least `states` power cuts, over as many recorded runs as that takes; the verdicts."""
    verdicts: Counter[str] = Counter()
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None) as name:
        for run in itertools.count():
            folder, crashed = Path(name) / f"run{run}", Path(name) / f"cut{run}"
            folder.mkdir()
            crashed.mkdir()
            log = write_and_record(folder, seed * 1000 + run, batches, synchronous)
            rng = random.Random(seed * 1000 + run)
            for files, acknowledged in cuts(log, torn, rng):
                verdicts[judge(crashed, files, acknowledged)] += 1
                if verdicts.total() >= states:
                    return verdicts
    raise AssertionError("unreachable")


def main() -> None:
    parser = argparse.ArgumentParser(description="Power cuts at every write of the journal.")
    parser.add_argument("--states", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--synchronous", choices=("FULL", "NORMAL", "OFF"), default="FULL")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    begin = time.monotonic()
    verdicts = campaign(options.states, options.seed, options.synchronous)
    result = {
        "synchronous": options.synchronous,
        "seed": options.seed,
        "states": verdicts.total(),
        **{name: verdicts[name] for name in ("ok", "lost", "changed", "corrupt")},
        "seconds": round(time.monotonic() - begin, 1),
    }
    print(json.dumps(result))
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    if options.synchronous == "FULL" and verdicts["ok"] != verdicts.total():
        sys.exit(1)


if __name__ == "__main__":
    main()
