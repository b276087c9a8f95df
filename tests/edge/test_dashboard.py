"""The live page's parts: what crosses over, what it shows, what is an alarm, and that it never holds up the run."""

from __future__ import annotations

import math
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette", reason="the dashboard extra is not installed")
from conftest import TinyModel
from libsedge.dashboard import alarms, board, history, lines, message, publisher
from libsedge.dashboard.picture import NO_MODEL
from libsedge.dashboard.tap import RECENT, Tap
from libsedge.errors import ConfigError, SourceError
from libsedge.frame import Frame
from libsedge.journal import Journal, Record
from libsedge.latency import Latency
from libsedge.ledger import Key
from live_page import WAVELENGTH, Live, picture_head, spectrum, until

ROOM = Path(publisher.__file__).parent


def record(sequence: int, **fields: Any) -> Record:
    values: dict[str, Any] = {
        **{"time_ns": 0, "distance_mm": 2500, "role": "light", "label": "basalt", "confidence": 0.9},
        **{"accepted": True, "reason": None, "probabilities": (0.9, 0.1), "model": "m", "frame_crc": 1},
    }
    return Record(Key(7, 0, sequence), **{**values, **fields})


# --- what crosses over
def test_message_there_and_back() -> None:
    numbers = np.array([1.5, -2.0, math.nan], np.float32)
    head, back = message.unpack(message.pack({"größe": [1, None]}, numbers))
    assert head == {"größe": [1, None]}
    np.testing.assert_array_equal(back, numbers)
    for damaged in (b"", b"\x05\0\0\0{}", message.pack({}) + b"x", b"\x04\0\0\0[1] "):
        with pytest.raises(ValueError):  # noqa: PT011 - JSON's is one of them
            message.unpack(damaged)
    with pytest.raises(ValueError, match="JSON"):
        message.pack({"x": math.nan})


def test_a_long_spectrum_is_thinned_without_losing_a_line() -> None:
    values = np.zeros(65_536, np.float32)
    values[12_345], values[50_001] = 900.0, -5.0
    thin, axis = message.thin_values(values), message.thin_axis(np.linspace(200, 900, 65_536))
    assert thin.size == axis.size <= message.MAX_POINTS
    assert thin.max() == 900.0
    assert thin.min() == -5.0
    assert (np.diff(axis) > 0).all()
    assert abs(axis[thin.argmax()] - np.linspace(200, 900, 65_536)[12_345]) < 700 / 4096
    assert message.thin_values(values[:5400]).size == 5400


def test_the_slot_keeps_the_newest_and_never_waits() -> None:
    tap = Tap()
    frame = Frame(7, 0, 0, 0, 0, 0, 0, np.zeros(3, np.uint16))
    assert tap.take() == (None, [])
    for sequence in range(3 * RECENT):
        tap.offer(frame, record(sequence))
    latest, recent = tap.take()
    assert latest == (frame, record(3 * RECENT - 1))
    assert [r.key.sequence for r in recent] == list(range(2 * RECENT, 3 * RECENT))
    assert tap.take() == (latest, [])
    assert not tap.wait(0.01)


# --- what the page shows
def test_percentiles_are_those_of_the_report() -> None:
    latency, rng = Latency(), np.random.default_rng(3)
    for seconds in rng.lognormal(-7, 1, 500):
        latency.add(float(seconds))
    for percent in (50, 99, 100):
        mine = board.percentile(latency.buckets(), percent, latency.max_s)
        assert mine == latency.percentile(percent)
    counts = board.bars(latency.buckets())
    assert sum(counts) == 500
    # 2.2 % is the resolution of a bucket, and an edge of the bars is an edge of the buckets
    _, _, below = latency.cumulative(board.EDGES_S)
    assert np.cumsum(counts).tolist()[:-1] == below[:-1]


def test_an_alarm_begins_is_over_and_goes_when_it_is_acknowledged() -> None:
    table = alarms.Alarms()

    def listed() -> list[tuple[str, bool, bool, int]]:
        return [(a["id"], a["active"], a["acknowledged"], a["count"]) for a in table.listed()]

    table.picture(picture_head(1), 0.0)
    table.tick(0.0)
    assert listed() == []
    table.picture(picture_head(2, rejected={"crc": 3}), 1.0)
    table.tick(1.0)
    assert listed() == [("rejected", True, False, 3)]
    table.picture(picture_head(3, rejected={"crc": 3}), 1.0 + alarms.HOLD_S + 0.1)
    table.tick(1.0 + alarms.HOLD_S + 0.1)
    assert listed() == [("rejected", False, False, 3)]  # over, still to be seen
    assert table.acknowledge("rejected")
    assert listed() == []
    assert not table.acknowledge("rejected")
    assert not table.acknowledge("no such alarm")
    table.picture(picture_head(4, rejected={"crc": 4}, shed={"drop-oldest": 2}), 20.0)
    table.tick(20.0)
    assert table.acknowledge("shed")
    assert listed() == [("rejected", True, False, 1), ("shed", True, True, 2)]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("unaccounted", {"unaccounted": 1}),
        ("disk", {"unjournaled": 1}),
        ("shed", {"shed": {"drop-newest": 1}}),
        ("late", {"deadline_missed": 1}),
        ("gaps", {"gaps": 5}),
        ("sink", {"sink_errors": 1}),
    ],
)
def test_every_counter_that_matters_is_an_alarm(name: str, changes: dict[str, Any]) -> None:
    table = alarms.Alarms()
    table.picture(picture_head(1, **changes), 0.0)
    table.tick(0.0)
    assert [a["id"] for a in table.listed()] == [name]


def test_silence_and_standstill_are_alarms() -> None:
    table = alarms.Alarms()
    table.picture(picture_head(1), 0.0)
    table.tick(alarms.SILENT_S + 0.1)
    assert [a["id"] for a in table.listed()] == ["silent"]
    table = alarms.Alarms()
    for second in range(13):
        table.picture(picture_head(1), float(second))  # no thread turns
    table.tick(12.0)
    assert [a["id"] for a in table.listed()] == ["stalled"]


def test_safe_mode_is_an_alarm_for_as_long_as_it_lasts() -> None:
    table = board.Board()
    head = {"kind": "model", "safe_mode": True, "simulated": False, **NO_MODEL}
    message.unpack(table.model(head, np.zeros(0)))
    table.picture(picture_head(1), np.zeros(400, np.float32))
    assert table.show(1000.0, {}) is not None
    assert [a["id"] for a in table.alarms.listed()] == ["safe_mode"]
    assert table.alarms.acknowledge("safe_mode")
    table.show(1005.0, {})
    assert [(a["id"], a["acknowledged"]) for a in table.alarms.listed()][-1] == ("safe_mode", True)


def test_lines_are_seen_where_they_are_and_not_in_noise() -> None:
    identifier = lines.Identifier(WAVELENGTH)
    elements = {e["element"] for e in identifier.describe()}
    assert {"Ca", "Mg", "Na", "Fe"} <= elements
    seen = identifier.seen(spectrum({"Ca": 8000, "Na": 4000, "Sr": 3000}))
    assert {name for name, what in seen.items() if what["shown"]} >= {"Ca", "Na", "Sr"}
    for absent in ("Li", "Ba", "Mo", "Sn", "K"):
        assert not seen.get(absent, {}).get("shown"), absent
    noise = [identifier.seen(spectrum({}, seed)) for seed in range(20)]
    assert not any(what["shown"] for seen in noise for what in seen.values())
    assert identifier.seen(np.full(WAVELENGTH.size, np.nan)) == {}
    # a line in a gap of the axis is not on it
    gap = np.concatenate([np.linspace(240, 390, 900), np.linspace(400, 850, 2700)])
    calcium = next(e for e in lines.Identifier(gap).describe() if e["element"] == "Ca")
    assert 393.478 not in [nm for nm, _, _ in calcium["lines"]]


def test_history_is_the_journal_newest_first(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = Journal(path, stream=7)
    journal.write([record(n) for n in range(30)])
    journal.write([record(30, accepted=False, reason="too_dim", label=None, confidence=None)])
    journal.close()
    rows = history.newest(path, "all", 3)
    assert [row["sequence"] for row in rows] == ["30", "29", "28"]
    assert rows[0] | {"reason": "too_dim", "label": None, "accepted": False} == rows[0]
    assert rows[1] | {"label": "basalt", "confidence": 0.9, "distance_m": 2.5} == rows[1]
    assert [row["sequence"] for row in history.newest(path, "not-accepted", 9)] == ["30"]
    file = history.as_csv(path, "accepted")
    assert len(file.read_text().splitlines()) == 31
    file.unlink()
    file.parent.rmdir()


def test_every_text_of_the_page_has_contrast() -> None:
    """WCAG 2.2, 1.4.3: 4.5 to 1 for text, in the light colours and in the dark."""
    css = (ROOM / "static" / "page.css").read_text()
    blocks = re.findall(r"{([^{}]*--bg:[^{}]*)}", css)
    assert len(blocks) == 3
    assert re.findall(r"--[\w-]+: #\w+", blocks[1]) == re.findall(r"--[\w-]+: #\w+", blocks[2])

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(a: str, b: str) -> float:
        high, low = sorted((luminance(a), luminance(b)), reverse=True)
        return (high + 0.05) / (low + 0.05)

    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    for block in blocks[:2]:
        colours = dict(re.findall(r"--([\w-]+): (#\w{6})", block))
        for ink in ("ink", "muted", "good", "warn", "bad", "accent"):
            assert contrast(colours[ink], colours["card"]) >= 4.5, ink
        for ground in ("soft", "bad-soft", "bg"):
            assert contrast(colours["ink"], colours[ground]) >= 4.5, ground
            assert contrast(colours["muted"], colours[ground]) >= 4.5, ground


# --- the pipeline's side
@pytest.mark.parametrize("address", ["0.0.0.0:1", "192.168.1.5:8765", "[::]:8765", "example.org:80", "8765x"])
def test_only_loopback(address: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"loopback|number"):
        publisher.Dashboard(address, tmp_path / "j.db", print)


def test_a_port_in_use_and_a_missing_library_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SourceError, match="cannot listen"):
        publisher.Dashboard(f"127.0.0.1:{taken.getsockname()[1]}", tmp_path / "j.db", print)
    monkeypatch.setattr(publisher, "STATIC", tmp_path)
    with pytest.raises(ConfigError, match="npm"):
        publisher.check_installed()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"libsedge\[dashboard\]"):
        publisher.check_installed()


def test_what_serves_the_page_is_imported_in_its_own_process_only() -> None:
    for module in ("libsedge.commands.run", "libsedge.dashboard.publisher as p; p.check_installed()"):
        code = f"import sys, {module}\nprint([n for n in ('starlette', 'asyncio', 'uvicorn') if n in sys.modules])"
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        assert out.strip() == "[]"


def test_a_page_that_sleeps_or_dies_never_holds_up_the_run(tiny_model: TinyModel, tmp_path: Path) -> None:
    with Live(tmp_path, tiny_model.open()) as live:
        dashboard, page = live.dashboard, live.dashboard._page.pid
        live.source.put(spectrum({"Ca": 5000}), 2000)
        until(lambda: dashboard.published)
        os.kill(page, signal.SIGSTOP)
        data = message.pack(picture_head(1), np.ones(8192, np.float32))
        until(
            lambda: dashboard._send(data) and dashboard.skipped
        )  # its socket is full: left out, not waited for
        for seed in range(20):
            live.source.put(spectrum({"Fe": 4000}, seed), 3000)
        until(lambda: live.pipeline.ledger.journaled == 21)
        os.kill(page, signal.SIGCONT)
        published = dashboard.published
        live.source.put(spectrum({"Ca": 5000}), 2000)
        until(lambda: dashboard.published > published)
        os.kill(page, signal.SIGKILL)
        live.source.put(spectrum({"Ca": 5000}), 2000)
        until(lambda: live.said)
        assert "the run goes on" in live.said[0]
        live.source.put(spectrum({"Ca": 5000}), 2000)
        until(lambda: live.pipeline.ledger.journaled == 24)
    assert live.report is not None
    assert live.report.ledger["unaccounted"] == 0
    assert dashboard._page.returncode is not None
