"""The journal: one SQLite row a frame, durable before it is acknowledged.

WAL with `synchronous = FULL`: a committed row survives a power cut (with NORMAL it does not). The key
(stream, epoch, sequence) makes writing idempotent: a frame that comes again changes nothing and is reported
as a duplicate. Rows are committed in batches; only `write`'s answer says which frames may be acknowledged.

Table `frames`: `stream, epoch, sequence` (key), `time_ns` (ns since 1970, 0 = unknown), `distance_mm` (NULL =
unknown), `role` (light, dark, passive, averaged), `label`, `confidence`, `accepted` (1, 0; NULL where no decision is
made: dark, passive, averaged), `reason` (why not accepted), `probabilities` (JSON, in the order of the bundle's
labels), `model` (the bundle's SHA-256, hex), `frame_crc` (the CRC-32C of the frame's header), `row_crc` (see
`libsedge.journal_rows`; schema 2, a journal of schema 1 gets it when it is opened to write). 64-bit
unsigned values are stored as SQLite's signed integers with the same bits. Table `meta`: `schema`, `stream`,
`created_by`, and `migrated_from` where it began as schema 1. Table `models`: every bundle that wrote here.
Table `bursts`, only where a run was told to make bursts: see `libsedge.journal_rows.BurstRecord`; its rows are
committed with those of their frames. Role `averaged` is that of a frame whose burst was decided on the mean.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

from libsedge import __version__
from libsedge.errors import JournalError
from libsedge.journal_rows import (
    BURST_COLUMNS,
    COLUMNS,
    BurstRecord,
    Record,
    burst_to_row,
    from_row,
    row_crc,
    signed,
    to_row,
    unsigned,
)
from libsedge.ledger import Key

#: SQLite's application id of a libsedge journal: the bytes "SEDG"
APPLICATION_ID = 0x53454447
SCHEMA = 2
ROLES = ("light", "dark", "passive", "averaged")

_TABLES = """
CREATE TABLE meta (field TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE models (digest TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE frames (
    stream INTEGER NOT NULL, epoch INTEGER NOT NULL, sequence INTEGER NOT NULL,
    time_ns INTEGER NOT NULL, distance_mm INTEGER, role TEXT NOT NULL,
    label TEXT, confidence REAL, accepted INTEGER, reason TEXT, probabilities TEXT,
    model TEXT, frame_crc INTEGER NOT NULL, row_crc INTEGER NOT NULL,
    PRIMARY KEY (stream, epoch, sequence)
) WITHOUT ROWID;
"""
_COLUMNS = ", ".join((*COLUMNS, "row_crc"))
_BURST_TABLE = """
CREATE TABLE IF NOT EXISTS bursts (
    stream INTEGER NOT NULL, epoch INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
    mode TEXT NOT NULL, shots INTEGER NOT NULL, used INTEGER NOT NULL,
    label TEXT, confidence REAL, accepted INTEGER NOT NULL, reason TEXT, probabilities TEXT,
    distance_mm INTEGER, time_ns INTEGER NOT NULL, model TEXT, row_crc INTEGER NOT NULL,
    PRIMARY KEY (stream, epoch, first, last)
) WITHOUT ROWID
"""
_INSERT_BURST = (
    f"INSERT INTO bursts ({', '.join((*BURST_COLUMNS, 'row_crc'))}) "
    f"VALUES ({','.join('?' * (len(BURST_COLUMNS) + 1))}) ON CONFLICT DO NOTHING"
)
_INSERT = f"INSERT INTO frames ({_COLUMNS}) VALUES ({','.join('?' * 14)}) ON CONFLICT DO NOTHING"


@dataclass
class Written:
    """What became of a batch. `stored` and `duplicate` are durable: they, and only they, may be
    acknowledged."""

    stored: list[Key] = field(default_factory=list)
    duplicate: list[Key] = field(default_factory=list)
    failed: list[Key] = field(default_factory=list)
    error: str | None = None


class Journal:
    """The SQLite journal of one stream. Opened and used by one thread.

    Parameters
    ----------
    path : created where absent; an existing file must be a journal of this schema.
    stream : stream id; None takes the file's own, or the first one given to `bind` later.
    model : a bundle's digest, noted in `models` at once; those of the rows are noted with them.

    Raises
    ------
    JournalError : the file is not a journal, is of another schema or of another stream, or cannot be opened.
    """

    def __init__(
        self, path: str | PathLike[str], *, stream: int | None = None, model: str | None = None
    ) -> None:
        self.path = Path(path)
        self._model = model
        self._noted: set[str] = set() if model is None else {model}
        self._connection: sqlite3.Connection | None = None
        self.stream: int | None = None
        try:
            self._connect()
        except sqlite3.Error as error:
            self.close()
            raise JournalError(f"cannot be used as a journal: {error}", file=self.path) from error
        except JournalError:
            self.close()
            raise
        try:
            #: the last row that was there before: only up to it can a first-seen frame be a duplicate
            self.last = self._last()
            if stream is not None:
                self.bind(stream)
        except sqlite3.Error as error:
            self.close()
            raise JournalError(f"cannot be read: {error}", file=self.path) from error
        except BaseException:
            self.close()
            raise

    # --- opening
    @property
    def _db(self) -> sqlite3.Connection:
        if self._connection is None:
            raise JournalError("the journal is closed", file=self.path)
        return self._connection

    def _connect(self) -> None:
        if not self.path.parent.is_dir():
            raise JournalError(
                "its folder does not exist", file=self.path, field="folder", value=str(self.path.parent)
            )
        db = self._connection = sqlite3.connect(self.path, timeout=5.0, isolation_level=None)
        application = db.execute("PRAGMA application_id").fetchone()[0]
        tables = [
            name
            for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        ]
        if application != APPLICATION_ID and (application != 0 or tables):
            raise JournalError(
                f"not a libsedge journal (expected {APPLICATION_ID:#x})",
                file=self.path,
                field="application_id",
                value=application,
            )
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        if not tables:
            self._create(db)
        schema = self._meta("schema")
        if schema == "1":
            schema = self._migrate(db)
        if schema != str(SCHEMA):
            raise JournalError(
                f"this version reads schema {SCHEMA}", file=self.path, field="schema", value=schema
            )
        stream = self._meta("stream")
        self.stream = None if stream is None else int(stream)
        if self._model is not None:
            self._note_models(db, {self._model})

    def _note_models(self, db: sqlite3.Connection, digests: set[str]) -> None:
        db.executemany(
            "INSERT INTO models VALUES (?) ON CONFLICT DO NOTHING", [(it,) for it in sorted(digests)]
        )

    def _create(self, db: sqlite3.Connection) -> None:
        db.execute("BEGIN IMMEDIATE")
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
            for statement in _TABLES.split(";"):
                if statement.strip():
                    db.execute(statement)
            db.execute("INSERT INTO meta VALUES ('schema', ?)", (str(SCHEMA),))
            db.execute("INSERT INTO meta VALUES ('created_by', ?)", (f"libsedge {__version__}",))
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute("COMMIT")

    def _migrate(self, db: sqlite3.Connection) -> str:
        """Schema 1 to 2, in one transaction: every row gets the CRC of what it holds now."""
        db.create_function("row_crc_of", len(COLUMNS), lambda *row: row_crc(row), deterministic=True)
        db.execute("BEGIN IMMEDIATE")
        if self._meta("schema") == "1":  # nobody else has done it in the meantime
            db.execute("ALTER TABLE frames ADD COLUMN row_crc INTEGER NOT NULL DEFAULT -1")
            db.execute(f"UPDATE frames SET row_crc = row_crc_of({', '.join(COLUMNS)})")
            db.execute("UPDATE meta SET value = ? WHERE field = 'schema'", (str(SCHEMA),))
            db.execute("INSERT INTO meta VALUES ('migrated_from', '1')")
        db.execute("COMMIT")
        return str(SCHEMA)

    def _meta(self, name: str) -> str | None:
        row = self._db.execute("SELECT value FROM meta WHERE field = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def bind(self, stream: int) -> None:
        """Make this the journal of `stream`; JournalError where it is another stream's."""
        if self.stream is None:
            try:
                self._db.execute(
                    "INSERT INTO meta VALUES ('stream', ?) ON CONFLICT DO NOTHING", (str(stream),)
                )
                self.stream = int(self._meta("stream") or stream)
            except sqlite3.Error as error:
                raise JournalError(f"cannot be written: {error}", file=self.path) from error
        if self.stream != stream:
            raise JournalError(
                f"the journal belongs to stream {self.stream} ({self.stream:#010x}); "
                "give this stream a journal of its own",
                file=self.path,
                field="stream",
                value=stream,
            )

    def _last(self) -> Key | None:
        row = self._db.execute(
            "SELECT stream, epoch, sequence FROM frames ORDER BY stream DESC, epoch DESC, sequence DESC LIMIT 1"
        ).fetchone()
        return None if row is None else Key(row[0], row[1], unsigned(row[2]))

    def may_hold(self, key: Key) -> bool:
        """False where no row of an earlier run has this key; asks no disk, from any thread."""
        return self.last is not None and key[1:] <= self.last[1:]

    def _adopt(self, stream: int) -> int:
        """Note the stream in `meta` where none is yet; whose journal it is then."""
        self._db.execute("INSERT INTO meta VALUES ('stream', ?) ON CONFLICT DO NOTHING", (str(stream),))
        return int(self._meta("stream") or stream)

    # --- writing
    def write(self, records: Sequence[Record], bursts: Sequence[BurstRecord] = ()) -> Written:
        """Commit a batch with the bursts that end in it, all or nothing; never raises for the disk: a refused batch
        is `failed`.

        A journal that is not yet bound takes the stream of the first record, in the same transaction.
        After an input/output error the connection is closed and reopened before the next batch: what a failed
        sync left behind is read again from the disk, not believed.
        """
        written = Written()
        try:
            if self._connection is None:
                self._connect()
            db = self._db
            db.execute("BEGIN IMMEDIATE")
            models = {record.model for record in records if record.model is not None} - self._noted
            if models:
                self._note_models(db, models)
            stream = self.stream
            for record in records:
                if stream is None:
                    stream = self._adopt(record.key.stream)
                if record.key.stream != stream:
                    raise ValueError(f"stream {record.key.stream} in the journal of stream {stream}")
                new = db.execute(_INSERT, to_row(record)).rowcount == 1
                (written.stored if new else written.duplicate).append(record.key)
            if bursts:
                db.execute(_BURST_TABLE)
                db.executemany(_INSERT_BURST, [burst_to_row(burst) for burst in bursts])
            db.execute("COMMIT")
        except (sqlite3.Error, JournalError) as error:
            self.close()
            return Written(failed=[record.key for record in records], error=str(error))
        except BaseException:
            self.close()
            raise
        self.stream = stream
        self._noted |= models
        return written

    def contains(self, key: Key) -> bool:
        """True when the frame's row is durable; False also while the disk cannot be read."""
        if self._connection is None:
            return False
        try:
            row = self._connection.execute(
                "SELECT 1 FROM frames WHERE stream = ? AND epoch = ? AND sequence = ?",
                (key.stream, key.epoch, signed(key.sequence)),
            ).fetchone()
        except sqlite3.Error:
            return False
        return row is not None

    # --- reading
    def __len__(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM frames").fetchone()[0])

    def __iter__(self) -> Iterator[Record]:
        """Every row, in the order of its key; JournalError at one that is damaged."""
        for row in self._db.execute(f"SELECT {_COLUMNS} FROM frames ORDER BY stream, epoch, sequence"):
            record = from_row(row)
            if record is None:
                raise JournalError(
                    "the row's CRC does not hold: it changed on the disk; see `libsedge journal verify`",
                    file=self.path,
                    field="stream, epoch, sequence",
                    value=row[:3],
                )
            yield record

    def models(self) -> list[str]:
        """Digests of every bundle that wrote here, sorted."""
        return [digest for (digest,) in self._db.execute("SELECT digest FROM models ORDER BY digest")]

    def close(self) -> None:
        """Safe to call twice. Uncommitted rows are given up; they were never acknowledged."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                if connection.in_transaction:
                    connection.rollback()
            except sqlite3.Error:
                pass
            finally:
                connection.close()


__all__ = ["APPLICATION_ID", "ROLES", "SCHEMA", "Journal", "Record", "Written"]
