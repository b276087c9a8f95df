"""The process that holds an Ocean spectrometer: `python -m libsedge.sources.seabreeze_device SETTINGS`.

A read that hangs (python-seabreeze issues 108 and 146) hangs this process, and `libsedge.sources.seabreeze` kills it.

On standard output: one line of JSON (`model`, `serial`, `pixels`, `maximum`, or `error`), the wavelengths as float64,
then for every spectrum its time (u64, ns since 1970, when it had been read) and its counts as float32, little-endian.
After the integration time is set `DROP` spectra are read and thrown away: the first may still be of the old setting
(issue 110).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import time
from typing import Any

import numpy as np

from libsedge import extras

DROP = 2


def _die_with_parent() -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _open(settings: dict[str, Any]) -> Any:
    backend = settings["backend"]
    # the search for devices by multicast stays on this machine
    local: dict[str, Any] = {"network_adapter": "127.0.0.1"} if backend == "pyseabreeze" else {}
    extras.load("seabreeze", "seabreeze").use(backend, **local)
    drivers = extras.load("seabreeze.spectrometers", "seabreeze")  # now, with that backend

    wanted = settings["device"]
    if "@" in wanted:
        model, _, address = wanted.partition("@")
        host, _, port = address.rpartition(":")
        api: Any = drivers.Spectrometer._backend.SeaBreezeAPI(**local)
        api.add_ipv4_device_location(model, host, int(port))
        devices = [device for device in drivers.list_devices() if device.model == model]
    else:
        devices = [device for device in drivers.list_devices() if wanted in ("first", device.serial_number)]
    if not devices:
        raise LookupError("no such device is there")
    spectrometer = drivers.Spectrometer(devices[0])
    spectrometer.integration_time_micros(settings["integration_us"])
    return spectrometer


def main() -> None:
    _die_with_parent()
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no spectrum
    settings = json.loads(sys.argv[1])
    try:
        device = _open(settings)
        wavelengths = np.asarray(device.wavelengths(), "<f8")
        head = {
            "model": str(device.model),
            "serial": str(device.serial_number),
            "pixels": wavelengths.size,
            "maximum": float(device.max_intensity),
        }
    except Exception as error:  # whatever a driver raises: the other side tells it
        out.write(json.dumps({"error": f"{type(error).__name__}: {error}"}).encode() + b"\n")
        out.flush()
        sys.exit(1)
    out.write(json.dumps(head).encode() + b"\n" + wavelengths.tobytes())
    out.flush()
    for _ in range(DROP):
        device.intensities()
    while True:
        counts = np.asarray(device.intensities(), "<f4")
        out.write(time.time_ns().to_bytes(8, "little") + counts.tobytes())
        out.flush()


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        main()
