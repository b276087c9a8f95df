"""Frames over a serial line, or over a pseudo-terminal that stands in for one."""

from __future__ import annotations

import os
import pty
import random
import select
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import click

from libsedge import extras
from libsedge.errors import ConfigError, SourceError
from libsedge.frame import Frame
from libsedge.senders.base import Emit, Sender, UnitSender
from libsedge.senders.truth import wire_bytes
from libsedge.sources import cobs
from libsedge.sources.serial import DEFAULT_BAUD

if TYPE_CHECKING:
    from libsedge.frame_key import FrameKey


class Blocks:
    """A zero, the stuffed frame, a zero."""

    def __init__(self, key: FrameKey | None = None) -> None:
        self._key = key

    def units(self, frame: Frame) -> list[bytes]:
        return [b"\0" + cobs.encode(wire_bytes(frame, self._key)) + b"\0"]

    def cuts(self, unit: bytes) -> range:
        """At least one byte of the block and not all of it."""
        return range(2, len(unit) - 1)

    def refused(self, damaged: bytes) -> int:
        """A flipped bit can make a zero, and two blocks of one."""
        return sum(bool(piece) for piece in damaged.split(b"\0"))

    def joined(self, before: bytes, after: bytes) -> int:
        """A block whose end was cut off, and one whose beginning was flipped."""
        return int(bool(before) and not before.endswith(b"\0") and not after.startswith(b"\0"))

    def noise(self, rng: random.Random) -> bytes:
        return b"\0" + bytes(byte for byte in rng.randbytes(rng.randrange(8, 2000)) if byte) + b"\0"


@contextmanager
def _device(path: str, baud: int) -> Iterator[Emit]:
    serial: Any = extras.load("serial", "serial")
    try:
        port = serial.Serial(path, baud, exclusive=True)
    except (OSError, ValueError) as error:
        raise SourceError(f"cannot be opened: {error}", field="device", value=path) from error
    with port:
        yield port.write
        port.write(b"\0")  # ends a block whose end was cut off
        port.flush()


@contextmanager
def _pseudo(link: str, wait_s: float) -> Iterator[Emit]:
    """A pseudo-terminal whose other end is `link`; waits for somebody to open it, and to close it after."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    try:
        os.symlink(os.ttyname(theirs), link)
    except OSError as error:
        os.close(ours)
        os.close(theirs)
        raise SourceError(f"cannot be made: {error.strerror}", field="pty", value=link) from error
    try:
        os.close(theirs)
        click.echo(f"waiting for a reader of {link}", err=True)
        if not _until_open(ours, True, wait_s):
            raise SourceError("nobody opened it in time", field="pty", value=link)
        time.sleep(0.3)  # the reader sets the line up and empties it

        def emit(unit: bytes) -> None:
            while unit:
                unit = unit[os.write(ours, unit) :]

        yield emit
        emit(b"\0")  # ends a block whose end was cut off
        _until_open(ours, False, wait_s)  # what is unread when we close is lost
    finally:
        os.close(ours)
        with suppress(OSError):
            os.unlink(link)


def _until_open(descriptor: int, wanted: bool, wait_s: float) -> bool:
    """Wait until the other end is open (or closed); False after `wait_s` seconds."""
    poll = select.poll()
    poll.register(descriptor, 0)
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        if (not poll.poll(0)) == wanted:
            return True
        time.sleep(0.05)
    return False


def open_serial(argument: str, key: FrameKey | None = None) -> Sender:
    """`serial:DEVICE[,baud=N]`, or `serial:pty:LINK` for a pseudo-terminal that is reached as LINK."""
    kind, _, link = argument.partition(":")
    if kind == "pty" and link:
        return UnitSender(Blocks(key), lambda wait_s: _pseudo(link, wait_s))
    device, _, setting = argument.partition(",")
    name, _, value = setting.partition("=")
    if setting and (name != "baud" or not value.isascii() or not value.isdigit()):
        raise ConfigError("must be baud=N", field="serial option", value=setting)
    if not device:
        raise ConfigError("must be serial:DEVICE or serial:pty:LINK", field="to", value=argument)
    return UnitSender(Blocks(key), lambda wait_s: _device(device, int(value or DEFAULT_BAUD)))
