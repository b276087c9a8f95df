"""`seabreeze:`: the unmodified package seabreeze against an *emulated* Ocean FX on a loopback port."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from click.testing import CliRunner
from libsedge.cli import main
from libsedge.errors import AxisError, ConfigError, SourceError
from libsedge.frame import FLAG_DARK, Frame
from libsedge.sources import SourceOptions, open_source, seabreeze
from libsedge.sources.base import Axis
from libsedge.sources.seabreeze import Settings, parse
from seabreeze_emulator import COEFFICIENTS, PIXELS, Emulator

pytest.importorskip("seabreeze", reason="seabreeze is not installed")


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    one = Emulator()
    yield one
    one.close()


def take(frames: Iterator[Frame | None], count: int, patience_s: float = 30) -> list[Frame]:
    """So many frames; between two looks at the clocks is never more than half a second."""
    got: list[Frame] = []
    end = time.monotonic() + patience_s
    while len(got) < count:
        assert time.monotonic() < end, f"{len(got)} of {count} frames"
        frame = next(frames)
        if frame is not None:
            got.append(frame)
    return got


def test_frames_axis_and_dark(emulator: Emulator) -> None:
    source = open_source(f"seabreeze:FX@127.0.0.1:{emulator.port},integration=20000,dark=4,distance=2300")
    before = time.time_ns()
    dark, *light = take(iter(source), 5)
    source.close()
    source.close()
    assert (dark.flags, dark.distance_mm) == (FLAG_DARK, 0)
    # Pixel 0 counts: two were dropped after the setting, the next four are the dark.
    assert dark.values[0] == np.mean([2, 3, 4, 5])
    assert [frame.values[0] for frame in light] == [6, 7, 8, 9]
    # Pixel 1 has the integration time: the one that was still of the old setting is not among them.
    assert {float(frame.values[1]) for frame in (dark, *light)} == {200.0}
    assert [(frame.sequence, frame.flags, frame.distance_mm) for frame in light] == [
        (i, 0, 2300) for i in (1, 2, 3, 4)
    ]
    assert {frame.integration_us for frame in light} == {20000}
    assert all(before - 10**10 < frame.time_ns < time.time_ns() for frame in light)
    assert source.counters()["dropped_after_setting"] == 2
    assert not source.simulated
    assert source.stream_id == light[0].stream_id != 0
    assert source.axis is not None
    assert source.axis.saturation == 65535
    air = np.polynomial.polynomial.polyval(np.arange(PIXELS), np.float32(COEFFICIENTS).astype(float))
    host = pytest.importorskip("libsedge_training.readers")  # the same formula, written by another hand
    np.testing.assert_allclose(source.axis.wavelength_nm, host.air_to_vacuum(air), rtol=0, atol=1e-9)


def test_hang_death_and_another_device(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seabreeze, "RETRY_S", 0.1)
    source: Any = open_source(f"seabreeze:FX@127.0.0.1:{emulator.port},integration=15000,deadline=2")
    frames = iter(source)
    got = take(frames, 3)
    emulator.hang = True
    looks = 0
    while source.counters()["device_timeouts"] == 0:
        frame = next(frames)
        got += [] if frame is None else [frame]
        looks += frame is None
        assert looks < 1000
    assert looks >= 4  # at the clocks, every quarter of a second
    emulator.hang, emulator.serial = False, "EMU00002"
    until(frames, lambda: source.counters()["device_other"] == 1)
    emulator.serial = "EMU00001"
    got += take(frames, 3)
    source._device._process.send_signal(signal.SIGKILL)
    until(frames, lambda: source.counters()["device_ended"] == 1, got)
    got += take(frames, 3)
    source.stop()
    assert list(frames) == []
    source.close()
    assert [frame.sequence for frame in got] == list(range(len(got)))
    assert {float(frame.values[1]) for frame in got} == {150.0}  # set again after every opening
    counts = source.counters()
    assert min(counts["device_timeouts"], counts["device_other"], counts["device_ended"]) >= 1


def until(frames: Iterator[Frame | None], condition: Any, got: list[Frame] | None = None) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        frame = next(frames)
        if frame is not None:
            assert got is not None, "a frame of another device"
            got.append(frame)


def test_device_process_ends_with_a_killed_run(emulator: Emulator) -> None:
    """Also when it hangs in a read, which no closed pipe ends."""
    program = (
        "from libsedge.sources import open_source\n"
        f"source = open_source('seabreeze:FX@127.0.0.1:{emulator.port}')\n"
        "print(source._device._process.pid, flush=True)\ninput()"
    )
    emulator.hang = True
    run = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with run:
        assert run.stdout is not None
        child = int(run.stdout.readline())
        assert psutil.pid_exists(child)
        run.kill()
    end = time.monotonic() + 10
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_run(emulator: Emulator, tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIBSEDGE_HOME", str(tiny_model.home))
    source = f"seabreeze:FX@127.0.0.1:{emulator.port},dark=2"
    ran = CliRunner().invoke(
        main,
        [
            *("run", str(tiny_model.path), "--source", source, "--count", "8", "--json"),
            *("--journal", str(tmp_path / "run.db")),
        ],
    )
    assert ran.exit_code == 0, ran.output
    report = json.loads(ran.stdout)
    assert report["roles"] == {"dark": 1, "light": 7}
    assert report["not_accepted"] == {"too_dim": 7}  # a flat spectrum
    assert report["source"]["device_timeouts"] == 0
    assert report["ledger"]["unaccounted"] == 0


def test_device_that_is_not_there_or_says_nothing(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = emulator.port
    emulator.close()
    with pytest.raises(SourceError, match="cannot be opened: RuntimeError: Could not connect"):
        open_source(f"seabreeze:FX@127.0.0.1:{port}")
    monkeypatch.setattr(seabreeze, "OPEN_S", 0.01)
    with pytest.raises(SourceError, match="did not answer in"):
        open_source(f"seabreeze:FX@127.0.0.1:{port}")


def test_arguments() -> None:
    assert parse("first") == Settings("first")
    assert parse("FX@127.0.0.1:9,medium=vacuum").backend == "pyseabreeze"
    for argument in (
        *("integration=5", "first,integration=0", "first,integration=x", "first,colour=red", "first,dark"),
        *("first,medium=water", "first,backend=none", "FX@8.8.8.8:57357", "FX@127.0.0.1:0", "FX@127.0.0.1"),
        *("FX@127.0.0.1:5,backend=cseabreeze", ",", "first,deadline=0", "first,distance=-1"),
    ):
        with pytest.raises(ConfigError):
            open_source(f"seabreeze:{argument}")
    with pytest.raises(ConfigError):
        open_source("seabreeze:first", SourceOptions(axis=Axis(np.arange(1.0, 4.0))))


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"libsedge\[seabreeze\]"):
        open_source("seabreeze:first")


def test_wavelengths_that_no_air_formula_holds_for() -> None:
    from libsedge.air import air_to_vacuum

    with pytest.raises(AxisError):
        air_to_vacuum(np.array([100.0, 300.0]))
