"""`libsedge stream-test`: send a file's frames to a server on this machine, whole or damaged from a seed.

The truth table counts what was sent, by kind; nothing in it comes from a decoder. Damaged bytes never hold
the letter `S`, so inserted garbage cannot begin with a frame's magic `SEDG`.
"""

from __future__ import annotations

import json
import math
import random
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import click

from libsedge.errors import ConfigError, SourceError
from libsedge.frame import Frame, encode
from libsedge.ledger import Key
from libsedge.sources.files import open_spectra
from libsedge.sources.replay import set_frames
from libsedge.sources.tcp import decode_acks

#: what may happen to a frame; a flip or a cut destroys it, the others leave it whole
DAMAGE = ("flip", "cut", "repeat", "garbage")
_MAGIC_BYTES = 4


@dataclass
class Truth:
    """What was sent. `intact` frames can be decoded, `flip` and `cut` ones cannot; `no_magic` of those lost
    their first four bytes too, so that a decoder sees garbage and no frame."""

    frames: int = 0
    intact: int = 0
    repeat: int = 0
    flip: int = 0
    cut: int = 0
    no_magic: int = 0
    garbage: int = 0
    garbage_bytes: int = 0
    bytes: int = 0
    keys: list[Key] = field(default_factory=list)

    def table(self) -> dict[str, Any]:
        """The counts, and the gaps that the intact frames leave between the first and the last of them."""
        counts = {name: value for name, value in vars(self).items() if name != "keys"}
        numbers = [key.sequence for key in self.keys]
        counts["gaps"] = max(numbers) - min(numbers) + 1 - len(numbers) if numbers else 0
        return counts


def damaged(frames: Iterable[Frame], fraction: float, seed: int, truth: Truth) -> Iterator[bytes]:
    """The bytes to send for each frame; `fraction` of the frames meet one kind of damage. Counts go to
    `truth`."""
    rng = random.Random(seed)
    for frame in frames:
        data = encode(frame)
        kind = rng.choice(DAMAGE) if rng.random() < fraction else "none"
        truth.frames += 1
        if kind == "flip":
            bit = rng.randrange(8 * len(data))
            truth.no_magic += bit // 8 < _MAGIC_BYTES
            changed = bytearray(data)
            changed[bit // 8] ^= 1 << bit % 8
            data = bytes(changed)
            truth.flip += 1
        elif kind == "cut":
            kept = rng.randrange(1, len(data))
            truth.no_magic += kept < _MAGIC_BYTES
            data = data[:kept]
            truth.cut += 1
        else:
            truth.intact += 1
            truth.keys.append(Key(frame.stream_id, frame.epoch, frame.sequence))
            if kind == "repeat":
                data *= 2
                truth.repeat += 1
            elif kind == "garbage":
                noise = bytes(byte for byte in rng.randbytes(rng.randrange(1, 2000)) if byte != ord("S"))
                data = noise + data
                truth.garbage += 1
                truth.garbage_bytes += len(noise)
        truth.bytes += len(data)
        yield data


class _Acks(threading.Thread):
    """Reads acknowledgements until the peer closes, `enough()` says so, or nothing comes for `wait_s`."""

    def __init__(self, sock: socket.socket, wait_s: float) -> None:
        super().__init__(name="libsedge-acks", daemon=True)
        self.keys: set[Key] = set()
        self.count = 0
        self.wanted: int | None = None  # known once everything is sent
        self.error: SourceError | None = None
        self._sock, self._wait_s = sock, wait_s
        self._sock.settimeout(0.1)

    def run(self) -> None:
        buffer, last = bytearray(), time.monotonic()
        while self.wanted is None or self.count < self.wanted:
            try:
                data = self._sock.recv(1 << 16)
            except TimeoutError:
                if self.wanted is None:
                    last = time.monotonic()
                if time.monotonic() - last > self._wait_s:
                    return
                continue
            except OSError:
                return
            if not data:
                return
            buffer += data
            try:
                keys = decode_acks(buffer)
            except SourceError as error:
                self.error = error
                return
            self.keys.update(keys)
            self.count += len(keys)
            last = time.monotonic()


def send(
    host: str, port: int, pieces: Iterable[bytes], truth: Truth, *, rate_hz: float | None, wait_s: float
) -> tuple[int, int, float]:
    """Send everything; (distinct intact frames acknowledged, acknowledgement records, seconds).

    Raises SourceError when the server cannot be reached, goes away, or answers something else.
    """
    try:
        sock = socket.create_connection((host, port), timeout=5.0)
    except OSError as error:
        raise SourceError(f"cannot connect: {error}", field=f"{host} port", value=port) from error
    with sock:
        acks = _Acks(sock, wait_s)
        acks.start()
        begin = time.monotonic()
        try:
            for index, piece in enumerate(pieces):
                if rate_hz is not None and (wait := begin + index / rate_hz - time.monotonic()) > 0:
                    time.sleep(wait)
                _send_all(sock, piece, acks, wait_s)
            acks.wanted = truth.intact + truth.repeat
            sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise SourceError(f"the server went away: {error}", field=f"{host} port", value=port) from error
        acks.join()
        if acks.error is not None:
            raise acks.error
        return len(acks.keys & set(truth.keys)), acks.count, time.monotonic() - begin


def _send_all(sock: socket.socket, data: bytes, acks: _Acks, wait_s: float) -> None:
    """sendall with a deadline that starts anew whenever bytes leave: a busy server may make us wait."""
    view, last = memoryview(data), time.monotonic()
    while view:
        try:
            view = view[sock.send(view) :]
            last = time.monotonic()
        except TimeoutError:
            if time.monotonic() - last > wait_s or not acks.is_alive():
                raise


@click.command("stream-test")
@click.argument("file", type=click.Path())
@click.option(
    "--to",
    "target",
    required=True,
    metavar="HOST:PORT",
    help="Where `libsedge run --source tcp:PORT` listens.",
)
@click.option("--rate", type=float, metavar="HZ", help="Frames a second; default: as fast as they are taken.")
@click.option("--count", type=int, help="Send only so many frames.")
@click.option(
    "--damage",
    type=float,
    default=0.0,
    show_default=True,
    metavar="FRACTION",
    help="Share of frames damaged.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the damage.")
@click.option(
    "--wait", "wait_s", type=float, default=10.0, show_default=True, metavar="S", help="For the last answer."
)
@click.option("--json", "as_json", is_flag=True, help="The result as JSON.")
def stream_test(
    file: str,
    target: str,
    rate: float | None,
    count: int | None,
    damage: float,
    seed: int,
    wait_s: float,
    as_json: bool,
) -> None:
    """Send FILE's spectra as frames (its dark first) to a server and wait for its acknowledgements.

    Prints what was sent, by kind, next to what was acknowledged. Exit code 1 when an intact frame was not
    acknowledged.
    """
    host, _, port = target.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise ConfigError("must be HOST:PORT, such as 127.0.0.1:5600", field="to", value=target)
    if not 0 <= damage <= 1:
        raise ConfigError("must be 0 to 1", field="damage", value=damage)
    for name, value in (("rate", rate), ("count", count), ("wait", wait_s)):
        if value is not None and not 0 < value < math.inf:
            raise ConfigError("must be above 0", field=name, value=value)
    truth = Truth()
    spectra = open_spectra(file)
    try:
        frames = (frame for index, frame in enumerate(set_frames(spectra)) if count is None or index < count)
        pieces = damaged(frames, damage, seed, truth)
        acked, records, seconds = send(
            host.strip("[]"), int(port), pieces, truth, rate_hz=rate, wait_s=wait_s
        )
    finally:
        spectra.close()
    result = {
        "sent": truth.table(),
        "acknowledged": acked,
        "acknowledgements": records,
        "unacknowledged": truth.intact - acked,
        "seconds": round(seconds, 3),
    }
    if as_json:
        click.echo(json.dumps(result, indent=1))
    else:
        click.echo("sent: " + ", ".join(f"{name} {n}" for name, n in truth.table().items()))
        click.echo(
            f"acknowledged {acked} of {truth.intact} intact frames ({records} records), "
            f"unacknowledged {truth.intact - acked}, in {seconds:.2f} s"
        )
    if acked != truth.intact:
        raise SystemExit(1)
