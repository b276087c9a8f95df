"""`seabreeze:DEVICE[,KEY=VALUE...]`: an Ocean spectrometer through the package seabreeze (`libsedge[seabreeze]`).

DEVICE is `first`, a serial number, or `MODEL@127.0.0.1:PORT` for one that speaks Ocean's binary protocol over TCP.

| key | default | meaning |
|---|---|---|
| `integration` | 10000 | integration time, microseconds; the device has its limits |
| `dark` | 0 | the mean of the first so many spectra is one dark frame: keep the laser off until then |
| `distance` | 0 | stand-off distance of all frames, millimetres; 0 = unknown |
| `deadline` | 5 | seconds beyond the integration time after which a read hangs |
| `medium` | air | what the device's wavelengths are calibrated in: air or vacuum |
| `backend` | cseabreeze | or pyseabreeze, which devices over TCP always use |

The device is read in a process of its own (`libsedge.sources.seabreeze_device`). When a spectrum does not come in time,
or the process dies, it is killed and the device opened again, once a second until it is back; another device is not
taken for it. Frames of one run have one epoch, the second in which it started, and sequence numbers without gaps.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from libsedge import extras
from libsedge.air import air_to_vacuum
from libsedge.errors import ConfigError, SourceError
from libsedge.frame import FLAG_DARK, MAX_CHANNELS, Frame
from libsedge.ledger import Key
from libsedge.sources.base import Axis, Source, SourceOptions
from libsedge.sources.net import parse_address
from libsedge.sources.seabreeze_device import DROP
from libsedge.store import check_axis

OPEN_S, RETRY_S = 15.0, 1.0
_BACKENDS = ("cseabreeze", "pyseabreeze")


class Gone(Exception):
    """The device's process ended; why it says it did."""


@dataclass(frozen=True)
class Settings:
    device: str
    integration_us: int = 10000
    dark: int = 0
    distance_mm: int = 0
    deadline_s: int = 5
    medium: str = "air"
    backend: str = "cseabreeze"


class DeviceProcess:
    """The process that reads the device. `poll` gives what came: first the head, then (time, counts)."""

    def __init__(self, settings: Settings) -> None:
        asked = {name: getattr(settings, name) for name in ("device", "integration_us", "backend")}
        command = [sys.executable, "-m", "libsedge.sources.seabreeze_device", json.dumps(asked)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self._process.stdout is not None
        self._pipe = self._process.stdout.fileno()
        self._buffer = bytearray()
        #: what the device is; None until it has said so
        self.head: dict[str, Any] | None = None

    def poll(self, timeout_s: float) -> tuple[int, np.ndarray] | None:
        """A spectrum, (0, wavelengths) once at the beginning, or None where nothing came; raises Gone."""
        if (found := self._take()) is not None:
            return found
        if not select.select([self._pipe], [], [], timeout_s)[0]:
            return None
        data = os.read(self._pipe, 1 << 18)
        if not data:
            raise Gone("the process that reads the device ended")
        self._buffer += data
        return self._take()

    def _take(self) -> tuple[int, np.ndarray] | None:
        buffer = self._buffer
        if self.head is None:
            line, newline, rest = bytes(buffer).partition(b"\n")
            if not newline:
                return None
            head = json.loads(line)
            if "error" in head:
                raise Gone(head["error"])
            size = 8 * head["pixels"]
            if len(rest) < size:
                return None
            self.head = head
            del buffer[: len(line) + 1 + size]
            return 0, np.frombuffer(rest[:size], "<f8").astype(np.float64)
        size = 8 + 4 * self.head["pixels"]
        if len(buffer) < size:
            return None
        record = bytes(buffer[:size])
        del buffer[:size]
        return int.from_bytes(record[:8], "little"), np.frombuffer(record, "<f4", offset=8).astype(np.float32)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


class SeabreezeSource(Source):
    """Waits for the device; SourceError when it does not open, AxisError for wavelengths that are no axis."""

    def __init__(self, settings: Settings) -> None:
        extras.check("seabreeze", "seabreeze")
        self._settings = settings
        self._stopped = threading.Event()
        self._numbers = {
            "device_timeouts": 0,
            "device_ended": 0,
            "device_other": 0,
            "dropped_after_setting": 0,
        }
        self._device: DeviceProcess | None = DeviceProcess(settings)
        end = time.monotonic() + OPEN_S
        try:
            while (first := self._device.poll(0.25)) is None:
                if time.monotonic() > end:
                    raise Gone(f"it did not answer in {OPEN_S:g} s")
            self._head: dict[str, Any] = dict(self._device.head or {})
            if not 1 <= self._head["pixels"] <= MAX_CHANNELS:
                raise Gone(f"it has {self._head['pixels']} pixels")
            wavelength = air_to_vacuum(first[1]) if settings.medium == "air" else first[1]
            axis = Axis(check_axis(wavelength), None, self._head["maximum"])
        except Gone as error:
            self._device.kill()
            raise SourceError(
                f"cannot be opened: {error}", field="seabreeze", value=settings.device
            ) from error
        except BaseException:
            self._device.kill()
            raise
        name = f"{self._head['model']} {self._head['serial']}"
        stream = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little") or 1
        super().__init__(axis=axis, stream_id=stream)
        self._numbers["dropped_after_setting"] += DROP
        self._key = Key(stream, int(time.time()) & 0xFFFFFFFF, 0)
        self._dark: list[np.ndarray] = []

    def __iter__(self) -> Iterator[Frame | None]:
        patience = self._settings.deadline_s + (1 + DROP) * self._settings.integration_us / 1e6
        since = time.monotonic()
        while not self._stopped.is_set():
            if self._device is None:
                if self._stopped.wait(min(0.25, RETRY_S)):
                    return
                if time.monotonic() - since >= RETRY_S:
                    self._device, since = DeviceProcess(self._settings), time.monotonic()
                yield None
                continue
            opening = self._device.head is None
            try:
                came = self._device.poll(0.25)
            except Gone:
                self._lose("device_ended")
                since = time.monotonic()
                continue
            if came is None:
                if time.monotonic() - since > (OPEN_S if opening else patience):
                    self._lose("device_timeouts")
                    since = time.monotonic()
                yield None
            elif opening:
                self._numbers["dropped_after_setting"] += DROP
                if self._device.head != self._head:
                    self._lose("device_other")
                since = time.monotonic()
            else:
                if (frame := self._frame(*came)) is not None:
                    yield frame
                since = time.monotonic()  # the time that the taker took is not the device's

    def _lose(self, why: str) -> None:
        self._numbers[why] += 1
        if self._device is not None:
            self._device.kill()
            self._device = None

    def _frame(self, time_ns: int, counts: np.ndarray) -> Frame | None:
        """The frame of a spectrum; None for one that becomes a part of the dark."""
        flags, distance = 0, self._settings.distance_mm
        if len(self._dark) < self._settings.dark:
            self._dark.append(counts)
            if len(self._dark) < self._settings.dark:
                return None
            flags, distance = FLAG_DARK, 0
            counts = np.asarray(np.mean(self._dark, axis=0, dtype=np.float64), np.float32)
        key = self._key
        self._key = key._replace(sequence=key.sequence + 1)
        return Frame(*key, time_ns, self._settings.integration_us, distance, flags, counts)

    def stop(self) -> None:
        self._stopped.set()

    def counters(self) -> dict[str, int]:
        return dict(self._numbers)

    def close(self) -> None:
        self._stopped.set()
        device, self._device = self._device, None
        if device is not None:
            with contextlib.suppress(OSError):
                device.kill()


def parse(argument: str) -> Settings:
    """The settings of `DEVICE[,KEY=VALUE...]`; ConfigError for what is none."""
    device, *settings = argument.split(",")
    if not device or "=" in device:
        raise ConfigError(
            "must begin with first, a serial number or MODEL@127.0.0.1:PORT", field="seabreeze", value=device
        )
    names = {
        "integration": "integration_us",
        "distance": "distance_mm",
        "deadline": "deadline_s",
        "dark": "dark",
    }
    choices = {"medium": ("air", "vacuum"), "backend": _BACKENDS}
    least = {"integration": 1, "distance": 0, "deadline": 1, "dark": 0}
    given: dict[str, Any] = {}
    for setting in settings:
        key, _, value = setting.partition("=")
        if key in choices and value in choices[key]:
            given[key] = value
        elif key in names and value.isascii() and value.isdigit() and least[key] <= int(value[:10]) < 2**32:
            given[names[key]] = int(value[:10])
        else:
            known = ", ".join([*names, *(f"{name}={'|'.join(values)}" for name, values in choices.items())])
            raise ConfigError(
                f"must be a whole number or a choice of {known}", field="seabreeze", value=setting
            )
    if "@" in device:
        parse_address(device.partition("@")[2], free=False)
        given.setdefault("backend", "pyseabreeze")
        if given["backend"] != "pyseabreeze":
            raise ConfigError(
                "a device over TCP needs pyseabreeze", field="seabreeze: backend", value=given["backend"]
            )
    return Settings(device, **given)


def open_seabreeze(argument: str, options: SourceOptions) -> SeabreezeSource:
    """`seabreeze:DEVICE[,KEY=VALUE...]`; the axis is the device's."""
    if options.axis is not None:
        raise ConfigError("the device has an axis of its own", field="axis")
    return SeabreezeSource(parse(argument))
