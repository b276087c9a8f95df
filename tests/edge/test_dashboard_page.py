"""The live page in headless Chromium: what it shows is what the journal holds, by mouse and by keyboard alone.

Leaves screenshots in build/dashboard/.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("websockets", reason="the dashboard extra is not installed")
import browser as chromium
from conftest import TinyModel
from libsedge.bursts import BurstOptions
from libsedge.dashboard.publisher import STATIC
from libsedge.journal_reader import JournalReader
from libsedge.journal_rows import Record
from live_page import Live, spectrum

pytestmark = [
    pytest.mark.skipif(chromium.program() is None, reason="Chromium is not installed (apt install chromium)"),
    pytest.mark.skipif(not (STATIC / "vendor").is_dir(), reason="uPlot was not packed: npm was missing"),
]
SHOTS = Path(__file__).parents[2] / "build" / "dashboard"
FRAMES = 40


@pytest.fixture(scope="module")
def live(tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """40 light frames at five distances, one of them too dim; then a dark one and a light one."""
    with Live(tmp_path_factory.mktemp("live"), tiny_model.open(), deadline_s=10.0) as page:
        for number in range(FRAMES):
            distance = 1500 + 500 * (number % 5)
            amount = 0.0 if number == 7 else 8e7 / distance**1.2
            mixture = {
                "Ca": amount / 20,
                "Fe": amount / 60 * (number % 3),
                "Na": amount / 30,
                "Mg": amount / 40,
            }
            page.source.put(spectrum(mixture, number), distance)
        page.source.put(np.full(3600, 300, np.uint16), 0, flags=1)
        page.source.put(spectrum({"Ca": 9000, "Na": 5000, "Al": 7000}, 99), 2250)
        yield page


@pytest.fixture(scope="module")
def page(live: Live, tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Browser]:
    with chromium.Browser(tmp_path_factory.mktemp("chromium")) as window:
        window.prefer(prefers_color_scheme="light")
        window.open(live.url)
        window.wait(f"document.getElementById('journaled')?.textContent === '{FRAMES + 2}'")
        window.wait(f"document.getElementById('frame').dataset.sequence === '{FRAMES + 1}'")
        yield window


def rows_of(live: Live) -> list[Record]:
    with JournalReader(live.journal) as reader:
        return list(reader.records())


def percent(p: float) -> str:
    return f"{100 * p:.1f} %" if 0.995 < p < 1 else f"{100 * p:.0f} %"


def cells(page: chromium.Browser, table: str) -> list[list[str]]:
    script = (
        f"[...document.querySelectorAll('#{table} tr')].map(r => [...r.children].map(c => c.textContent))"
    )
    return list(page.run(script))


def test_the_decision_and_the_most_likely_are_the_journals(live: Live, page: chromium.Browser) -> None:
    last = rows_of(live)[-1]
    assert last.key.sequence == FRAMES + 1
    assert last.confidence is not None
    assert last.probabilities is not None
    assert page.text("label") == last.label
    assert page.text("confidence") == percent(last.confidence)
    assert page.text("mark") == ("✓" if last.accepted else "✗")
    assert page.text("reason").startswith(
        "accepted" if last.accepted else "not accepted: confidence is below"
    )
    assert "2.25 m" in page.text("frame")
    labels = json.loads(
        page.run("JSON.stringify([...document.querySelectorAll('#top th')].map(c => c.textContent))")
    )
    order = np.argsort(-np.array(last.probabilities), kind="stable")
    names = ["andesite", "basalt", "gypsum", "olivine"]
    assert [row[2] for row in cells(page, "top")] == [percent(last.probabilities[i]) for i in order]
    assert labels == [names[i] for i in order]
    height = page.run("document.getElementById('label').getBoundingClientRect().height")
    assert height >= 50  # 14 mm on a screen of 96 dots an inch: read from two metres


def test_model_queue_and_counts(live: Live, page: chromium.Browser) -> None:
    assert "tiny 1.0.0" in page.text("model")
    assert page.text("signature") == "✓ signature valid"
    assert "signing" in page.text("signed")
    assert page.text("simulated").endswith("simulated spectra")
    counts = live.pipeline.ledger.summary()
    for name in ("received", "journaled", "unaccounted"):
        assert page.text(name) == str(counts[name])
    assert page.text("queue") == "0 of 64"
    page.wait("document.getElementById('latency-text').textContent.includes('42 frames since the start')")
    assert "0 missed the deadline of 10000 ms" in page.text("latency-text")


def test_the_tables_beside_the_canvases(live: Live, page: chromium.Browser) -> None:
    for table in ("distances", "latencies", "lines"):
        page.run(f"document.getElementById('{table}').closest('details').open = true")
    page.wait(
        "document.querySelectorAll('#distances tr').length && document.querySelectorAll('#latencies tr').length"
    )
    light = [r for r in rows_of(live) if r.role == "light"]
    shown = cells(page, "distances")
    assert sum(int(row[1]) for row in shown) == len(light)
    first = [r for r in light if r.distance_mm == 1500]
    assert int(shown[0][1]) == len(first)
    assert shown[0][2] == percent(sum(bool(r.accepted) for r in first) / len(first))
    assert sum(int(row[1]) for row in cells(page, "latencies")) == len(rows_of(live))
    page.wait(
        "[...document.querySelectorAll('#lines tr')].map(r => r.textContent)"
        ".some(t => t.startsWith('Ca II393.48') && t.endsWith('● yes'))"
    )
    for table in ("distances", "latencies", "lines"):
        page.run(f"document.getElementById('{table}').closest('details').open = false")
    seen = "[...document.querySelectorAll('#elements button.seen')].map(b => b.textContent)"
    page.wait(
        f"['Ca ●', 'Na ●', 'Al ●'].every(element => {seen}.includes(element))"
    )  # within a picture or two


def choose(page: chromium.Browser, value: str) -> None:
    page.run(f"document.getElementById('show').value = {value!r}")
    page.run("document.getElementById('show').dispatchEvent(new Event('change'))")


def test_history_and_csv_are_the_journal(live: Live, page: chromium.Browser) -> None:
    journal = rows_of(live)
    page.click("#refresh")
    page.wait("document.querySelectorAll('#history tr').length === 42")
    shown = cells(page, "history")
    for row, record in zip(shown, reversed(journal), strict=True):
        assert row[0] == f"0/{record.key.sequence}"
        assert row[2] == ("unknown" if record.distance_mm is None else f"{record.distance_mm / 1000:.2f} m")
        assert row[3] == (record.label or "–")
        assert row[4] == ("–" if record.confidence is None else percent(record.confidence))
    assert "■ dark frame" in shown[1][5]
    choose(page, "not-accepted")
    refused = [r for r in journal if r.accepted is False]
    page.wait(f"document.querySelectorAll('#history tr').length === {len(refused)}")
    assert any("too dim" in row[5] for row in cells(page, "history"))
    choose(page, "all")
    page.click("#csv")
    file = page.folder / "libsedge-history.csv"
    for _ in range(400):
        if file.is_file() and file.stat().st_size:
            break
        page.run("new Promise(r => setTimeout(r, 25))")
    with open(file, encoding="utf-8", newline="") as lines:
        table = list(csv.DictReader(lines))
    assert [int(row["sequence"]) for row in table] == [r.key.sequence for r in journal]
    assert [row["label"] or None for row in table] == [r.label for r in journal]
    assert [float(row["confidence"]) if row["confidence"] else None for row in table] == [
        r.confidence for r in journal
    ]


def focus_walk(page: chromium.Browser) -> list[str]:
    """What Tab reaches, from the top of the page until it leaves."""
    page.call("Page.bringToFront")
    page.click("h1")
    reached: list[str] = []
    for _ in range(90):
        page.press("Tab")
        name = str(
            page.run(
                "(e => e === document.body ? '' : e.id || e.className || e.textContent)(document.activeElement)"
            )
        )
        if not name or (reached and name == reached[0]):
            break
        outline = page.run("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", f"{name} shows no focus"
        reached.append(name)
    return reached


def test_everything_is_reached_and_used_by_keyboard(page: chromium.Browser) -> None:
    reached = focus_walk(page)
    for name in ("pause", "theme", "zoom-in", "zoom-all", "spectrum", "auto", "show", "refresh", "csv"):
        assert name in reached, reached
    order = [reached.index(name) for name in ("pause", "zoom-in", "auto", "show", "csv")]
    assert order == sorted(order)
    count = page.run(
        "[...document.querySelectorAll('button, a[href], select, summary, [tabindex=\"0\"]')]"
        ".filter(e => e.checkVisibility()).length"
    )
    assert len(reached) >= count - 1  # all but what a closed <details> hides
    page.run("document.getElementById('pause').focus()")
    page.press("Enter")
    assert page.text("pause") == "Resume"
    assert page.run("document.getElementById('pause').getAttribute('aria-pressed')") == "true"
    page.press(" ")
    assert page.text("pause") == "Pause"
    page.run("document.getElementById('spectrum').focus()")
    page.press("+")
    page.press("ArrowRight")
    page.press("Home")
    assert page.problems == []


def test_an_alarm_is_said_and_acknowledged_by_keyboard(live: Live, page: chromium.Browser) -> None:
    assert page.run("document.querySelectorAll('#alarms li').length") == 0
    live.source.put(spectrum({"Ca": 9000}, 5), 2000, skip=3)  # three numbers are missing
    page.wait("document.querySelector('#alarms li[data-alarm=gaps]') !== null")
    page.wait("document.getElementById('alert').textContent.includes('missing in the stream')")
    assert page.run("document.title").startswith("(1)")
    assert page.text("gaps") == "3"
    page.screenshot(SHOTS / "alarm.png")
    page.run("document.getElementById('decision').focus()")
    page.press("Tab")
    assert (
        page.run("document.activeElement.getAttribute('aria-label')")
        == "Acknowledge: Frames are missing in the stream"
    )
    page.press("Enter")
    page.wait("!document.querySelector('#alarms li[data-alarm=gaps] button')")
    assert page.run("document.title") == "libsedge: live"


def test_a_screen_reader_finds_names_roles_and_a_sentence(page: chromium.Browser) -> None:
    nodes: list[dict[str, Any]] = page.call("Accessibility.getFullAXTree")["nodes"]
    roles: dict[str, list[str]] = {}
    for node in nodes:
        if not node["ignored"]:
            roles.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value", ""))
    assert roles["heading"].count("libsedge") == 1
    assert {"main", "banner", "region", "table", "button", "image", "alert"} <= roles.keys()
    for role in ("button", "link", "combobox", "meter", "region", "image"):
        assert all(roles.get(role, [])), (role, roles.get(role))
    page.wait("document.getElementById('spoken').textContent.length > 5")
    assert page.run("document.getElementById('spoken').getAttribute('aria-live')") == "polite"


def test_light_dark_and_phone(page: chromium.Browser) -> None:
    page.run("document.activeElement?.blur(); window.scrollTo(0, 0)")
    settled = "new Promise(r => setTimeout(() => requestAnimationFrame(r), 700))"
    for name, width, height, scheme in (
        ("light", 1280, 800, "light"),
        ("dark", 1280, 800, "dark"),
        ("phone", 390, 844, "light"),
        ("tablet", 820, 1180, "dark"),
    ):
        page.prefer(prefers_color_scheme=scheme)
        page.resize(width, height, mobile=width < 600)
        page.run(settled)
        page.screenshot(SHOTS / f"{name}.png")
        assert page.run("document.documentElement.scrollWidth") <= width, name
        drawn = (
            "[...document.querySelectorAll('.plot canvas')].map(c => new Set("
            "c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size)"
        )
        assert min(page.run(drawn)) > 8, name  # something is on every canvas
    page.prefer(prefers_color_scheme="light", prefers_reduced_motion="reduce")
    page.resize(1280, 800)
    assert page.run("getComputedStyle(document.getElementById('gauge-fill')).transitionDuration") == "0s"
    page.prefer(prefers_color_scheme="light")
    assert page.problems == []


def test_the_last_burst_is_told_as_the_journal_has_it(tiny_model: TinyModel, tmp_path: Path) -> None:
    with Live(tmp_path, tiny_model.open(), burst=BurstOptions("average", 3)) as page:
        with chromium.Browser(tmp_path / "chromium") as window:
            window.open(page.url)
            window.wait("document.getElementById('kernel')?.textContent.length > 1")
            assert window.run("document.getElementById('burst').hidden")
            for number in range(6):
                page.source.put(spectrum({"Ca": 9000, "Na": 5000}, number), 2000)
            window.wait("document.getElementById('burst').textContent.includes('frames 3 to 5')")
            said = window.run("document.getElementById('burst').textContent")
            reason = window.run("document.getElementById('reason').textContent")
            window.screenshot(SHOTS / "burst.png")
        with JournalReader(page.journal) as reader:
            last = list(reader.bursts())[-1]
    assert (last.first, last.last, last.used) == (3, 5, 3)
    assert f"{last.label} {percent(last.confidence or 0)}, mean of 3 of 3 shots" in said
    assert ("✓" in said) == last.accepted
    assert reason == "a shot of a burst that is decided on the mean"
