"""What the tests of `libsedge-run` share: streams of frames, the Python runtime's account of them, the program's."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import random
import select
import signal
import socket
import struct
import subprocess
import threading
import time
import tty
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from libsedge.classifier import Classifier
from libsedge.decider import Instrument
from libsedge.drift import LINES_NM
from libsedge.frame import FLAG_DARK, FLAG_PASSIVE, Frame, encode
from libsedge.journal import Journal, Record
from libsedge.pipeline import Pipeline
from libsedge.report import Report
from libsedge.senders.truth import Carrier, UnitTruth, damaged_units
from libsedge.sinks.base import Sink
from libsedge.sources.base import Axis, Source
from libsedge.sources.space_packets import DEFAULT_APID, crc16
from libsedge.sources.tcp import TcpSource

#: fine around the lines that a drift is followed by, coarse elsewhere, with gaps in between; 900 pixels
_FINE = [np.linspace(nm - 1.5, nm + 1.5, 50) for nm in LINES_NM]
_COARSE = [nm for nm in np.linspace(235.0, 860.0, 620) if np.abs(LINES_NM - nm).min() > 1.6]
AXIS_NM = np.sort(np.concatenate([*_FINE, _COARSE[:600]]))
CHANNELS = len(AXIS_NM)
MASK = np.ones(CHANNELS, bool)
MASK[40:43] = False
AXIS = Axis(AXIS_NM, MASK, 60000.0)
STREAM = 0xC0FFEE01
FLOOD_S = 0.0005  # between two datagrams, so that the kernel drops none


def plasma(n: int, seed: int) -> np.ndarray:
    """Lines on a noisy background, counts float32 [n, CHANNELS]; nothing physical."""
    rng = np.random.default_rng(seed)
    counts = rng.normal(500.0, 10.0, (n, CHANNELS))
    for row in counts:
        for centre, height in zip(rng.uniform(250, 840, 40), rng.uniform(500, 20000, 40), strict=True):
            row += height * np.exp(-(((AXIS_NM - centre) / 0.8) ** 2))
    return counts.astype(np.float32)


def frames(n: int, seed: int) -> list[Frame]:
    """Every kind of frame: uint16 and float32, dark, passive, dim, saturated, not finite, of another length,
    another stream, another epoch, and gaps in the sequence."""
    rng = np.random.default_rng(seed)
    out = []
    for i, counts in enumerate(plasma(n, seed)):
        values: np.ndarray = counts if i % 3 == 0 else np.clip(counts, 0, 65535).astype(np.uint16)
        flags, stream, epoch, sequence = 0, STREAM, i // 40, 1000 + i + i // 7
        kind = i % 20
        if kind == 2:
            values, flags = np.full(CHANNELS, 400 + i, np.float32), FLAG_DARK
        elif kind == 5:
            values = counts.copy()
            values[rng.integers(CHANNELS)] = rng.choice([np.nan, np.inf, -np.inf, 3e38])
        elif kind == 7:
            values = values.copy()
            values[100:130] = 65535
        elif kind == 9:
            values = rng.normal(500, 10, CHANNELS).astype(np.float32)
        elif kind == 11:
            flags = FLAG_PASSIVE
        elif kind == 13:
            values = values[: 1 + i % CHANNELS]
        elif kind == 15:
            stream = 7
        elif kind == 17:
            values, flags = np.full(CHANNELS, np.nan, np.float32), FLAG_DARK
        out.append(Frame(stream, epoch, sequence, 10**18 + i, 100, (i % 4) * 1250, flags, values))
    return out


def stream_bytes(some: Sequence[Frame], damage: float, seed: int) -> bytes:
    """The first frame whole (it says whose stream this is); of the others a share has a bit flipped, is cut,
    comes twice or behind garbage."""
    rng = np.random.default_rng(seed)
    out = [encode(some[0])]
    for frame in some[1:]:
        data = encode(frame)
        kind = rng.integers(4) if rng.random() < damage else -1
        if kind == 0:
            changed = bytearray(data)
            changed[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
            data = bytes(changed)
        elif kind == 1:
            data = data[: rng.integers(1, len(data))]
        elif kind == 2:
            data *= 2
        elif kind == 3:
            data = rng.bytes(int(rng.integers(1, 2000))) + data
        out.append(data)
    return b"".join(out)


def units(carrier: Carrier, damage: float, seed: int, count: int = 80) -> list[bytes]:
    """The first frame whole, what is sent of the others flipped, cut, repeated, lost, swapped or behind noise."""
    first, *others = frames(count, seed)
    return carrier.units(first) + list(damaged_units(others, carrier, damage, seed, UnitTruth()))


def odd_packets(seed: int) -> bytes:
    """Segments of few frames of many epochs: repeated, of another cut, missing, too many, not of one frame."""
    rng = random.Random(seed)
    whole = {
        (e, s): encode(Frame(1, e, s, 0, 0, 0, 0, plasma(1, 5)[0][:50])) for e in range(20) for s in range(3)
    }
    out = []
    for count in range(1500):
        key = rng.choice(list(whole)[: rng.choice([6, 60])])
        segments = rng.choice([1, 2, 3, 3, 3, 40])
        segment = rng.randrange(segments)
        step = -(-len(whole[key]) // segments)
        data = whole[key][segment * step : (segment + 1) * step] or b"x"
        if rng.random() < 0.03:
            data = rng.randbytes(rng.choice([1, 65000]))
        if rng.random() < 0.05:
            key = rng.choice(list(whole))
        flags = (segment == 0) | (segment == segments - 1) << 1
        if rng.random() < 0.03:
            flags ^= rng.randrange(1, 4)  # of another place than the segment's: no packet
        words = (0x0800 | DEFAULT_APID, flags << 14 | count, 17 + len(data))
        body = struct.pack(">HHHQIHH", *words, key[1], key[0], segment, segments)
        out.append(body + data + struct.pack(">H", crc16(body + data)))
    return b"".join(out)


class Line:
    """A pseudo-terminal: `device` is what the program opens."""

    def __init__(self) -> None:
        self.ours, theirs = pty.openpty()
        tty.setraw(theirs)
        self.device = os.ttyname(theirs)
        os.close(theirs)

    def send(self, data: bytes) -> None:
        """Once somebody has opened the device and emptied it."""
        poll = select.poll()
        poll.register(self.ours, 0)
        while poll.poll(0):  # hung up: not open yet
            time.sleep(0.02)
        time.sleep(0.3)
        while data:
            data = data[os.write(self.ours, data[:4096]) :]
        time.sleep(0.6)  # until it is read

    def close(self) -> None:
        os.close(self.ours)


class Kept(Sink):
    def __init__(self) -> None:
        self.records: list[Record] = []

    def write(self, records: Sequence[Record]) -> None:
        self.records += records

    def close(self) -> None:
        pass


def python_run(
    classifier: Classifier,
    feed: bytes | Callable[[Source], None],
    folder: Path,
    source: Source | None = None,
    instrument: Instrument | None = None,
) -> tuple[list[Record], Report]:
    """The Python runtime, fed bytes over TCP or by `feed(source)`: its records and its account."""
    server = source or TcpSource(0, axis=AXIS)
    kept, journal = Kept(), Journal(folder / "run.db", model=classifier.digest)
    pipeline = Pipeline(server, classifier, journal, [kept], instrument=instrument)

    def work() -> None:
        try:
            if isinstance(feed, bytes):
                send_tcp(str(server.address), feed)
            else:
                feed(server)
        finally:
            pipeline.stop()

    peer = threading.Thread(target=work)
    peer.start()
    report = pipeline.run()
    peer.join()
    journal.close()
    return kept.records, report


def send_tcp(address: str, data: bytes) -> None:
    """All of it, and then until the server has done everything and closes."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port))) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(1 << 16):  # acknowledgements, of the Python runtime
            pass


@dataclass(frozen=True)
class Said:
    """What the program printed: a line a frame, then the account."""

    code: int
    rows: list[dict[str, Any]]
    account: dict[str, Any]
    source: dict[str, Any]
    stderr: str
    instrument: dict[str, float]


def said(code: int, out: bytes, err: bytes) -> Said:
    lines = [json.loads(line) for line in out.splitlines()]
    last = lines.pop() if lines and "account" in lines[-1] else {}
    return Said(
        code,
        lines,
        last.get("account", {}),
        last.get("source", {}),
        err.decode(),
        last.get("instrument", {}),
    )


def run_stdin(program: Path, data: bytes, *arguments: object, prefix: Iterable[str] = ()) -> Said:
    """The program, fed through standard input."""
    command = [*prefix, str(program), *map(str, arguments)]
    done = subprocess.run(command, input=data, capture_output=True, timeout=120, check=False)
    return said(done.returncode, done.stdout, done.stderr)


@contextlib.contextmanager
def running(
    program: Path, *arguments: object, prefix: Iterable[str] = ()
) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], Said]]]:
    """The program in the background, and how it is ended."""
    command = [*prefix, str(program), *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:

        def end() -> Said:
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=60)
            return said(process.returncode, out, err)

        try:
            yield process, end
        finally:
            process.kill()


def send_datagrams(address: str, datagrams: list[bytes]) -> None:
    host, _, port = address.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for datagram in datagrams:
            sock.sendto(datagram, (host, int(port)))
            time.sleep(FLOOD_S)
    time.sleep(0.5)


def address_of(process: subprocess.Popen[bytes]) -> str:
    assert process.stderr is not None
    line = process.stderr.readline().decode()
    assert line.startswith("listening on 127.0.0.1:"), line
    return line.split()[-1]


def comparable(ledger: dict[str, Any]) -> dict[str, Any]:
    """An account without what only one of the two has: the runner sheds nothing and has no journal."""
    keys = ("received", "duplicate", "rejected", "in_flight", "unaccounted")
    streams = sorted(ledger["streams"], key=lambda row: (row["stream"], row["epoch"]))
    ends = (
        ledger.get("reported", ledger.get("journaled")),
        ledger.get("unreported", ledger.get("unjournaled")),
    )
    return {key: ledger[key] for key in keys} | {
        "streams": streams,
        "reported": ends[0],
        "unreported": ends[1],
    }


def differences(records: list[Record], rows: list[dict[str, Any]]) -> list[str]:
    """Where the program's lines are not the Python runtime's records, every bit of every double."""
    found = [f"{len(records)} records, {len(rows)} lines"] if len(records) != len(rows) else []
    for record, row in zip(records, rows, strict=False):
        wanted: dict[str, Any] = dict(record.key._asdict())
        names = ("time_ns", "distance_mm", "role", "label", "accepted", "reason", "model", "frame_crc")
        wanted |= {name: getattr(record, name) for name in names}
        wanted["confidence"] = None if record.confidence is None else record.confidence.hex()
        wanted["probabilities"] = (
            None if record.probabilities is None else [p.hex() for p in record.probabilities]
        )
        got = dict(row)
        if row["confidence"] is not None:
            got["confidence"] = float(row["confidence"]).hex()
            got["probabilities"] = [float(p).hex() for p in row["probabilities"]]
        found += [
            f"{record.key}: {name} {got.get(name)!r}, not {value!r}"
            for name, value in wanted.items()
            if got.get(name) != value
        ]
        found += [f"{record.key}: unknown key {name}" for name in got.keys() - wanted.keys()]
    return found


def check(program_said: Said, python: tuple[Any, Any], source: tuple[str, ...]) -> None:
    records, report = python
    assert program_said.code == 0
    assert differences(records, program_said.rows) == []
    assert comparable(program_said.account) == comparable(report.ledger)
    assert {name: program_said.source[name] for name in source} == {
        name: report.source[name] for name in source
    }
    assert program_said.account["unaccounted"] == 0
