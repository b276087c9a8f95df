"""Report pages: self-contained, escaped, accessible, the same bytes twice."""

from __future__ import annotations

import base64
import functools
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from libsedge_training import evaluate, plots, report, risk
from libsedge_training.study.page import HEAD

Records = list[dict[str, Any]]
VOID = {"meta", "img", "br", "hr", "link"}


class Outline(HTMLParser):
    """Checks nesting while collecting tags, attributes and text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        self.words += data


def outline(page: str) -> Outline:
    parsed = Outline()
    parsed.feed(page)
    parsed.close()
    assert not parsed.open
    return parsed


@functools.cache
def confidence() -> dict[str, Any]:
    """As in evaluation.json, of random logits."""
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 3, 60)
    logits = rng.normal(0, 1, (60, 3)) + 2 * np.eye(3)[truth]
    return risk.assess(
        logits, truth, [f"{t}-{i % 2}" for i, t in enumerate(truth)], 1.5, "validation specimens"
    )


def evaluation(simulated: bool = True) -> tuple[dict[str, Any], dict[str, Any], Records]:
    """An evaluation of random probabilities, with a run and a history of the right form."""
    rng = np.random.default_rng(0)
    classes = ["basalt", "clay <b>", "salt"]
    truth = rng.integers(0, 3, 60)
    probabilities = rng.dirichlet([1, 1, 1], 60) * 0.5 + 0.5 * np.eye(3)[truth]
    specimen = [f"{classes[t]}-{i % 2}" for i, t in enumerate(truth)]
    distance = rng.choice([2.0, 3.5, 5.0], 60)
    found = evaluate.metrics(truth, probabilities, distance, specimen, classes, simulated)
    found |= {
        "model": "float32",
        "split": "test",
        "net": "m",
        "weighting": "cc-bcd:w3:r1:a=8:b=8",
        "classes": classes,
        "confidence": confidence(),
    }
    run = {
        "best": {"epoch": 2, "loss": 0.4, "accuracy": 0.9},
        "weights": [
            {"distance_m": 2.0, "spectra": 30, "mean": 1.2, "min": 0.4, "max": 1.5},
            {"distance_m": 5.0, "spectra": 30, "mean": 0.8, "min": 0.1, "max": 1.1},
        ],
    }
    history = [
        {"epoch": e, "train_loss": 1 / e, "validation_loss": 0.4 + abs(e - 2), "validation_accuracy": 0.9,
        "seconds": 1.0} for e in (1, 2, 3)
    ]  # fmt: skip
    return found, run, history


def test_the_page_is_self_contained_and_well_formed() -> None:
    page = report.evaluation_page(*evaluation())
    parsed = outline(page)
    for tag, attributes in parsed.tags:
        assert tag not in ("script", "link", "iframe")
        assert not [
            v for k, v in attributes.items() if k in ("src", "href") and not str(v).startswith("data:")
        ]
    assert "url(" not in page
    assert "@import" not in page
    assert ("html", {"lang": "en"}) in parsed.tags
    assert any(a.get("name") == "viewport" for t, a in parsed.tags if t == "meta")
    assert "OUR RECONSTRUCTION" in parsed.words.upper()


def test_every_picture_has_an_alternative_text_and_a_table() -> None:
    page = report.evaluation_page(*evaluation())
    pictures = re.findall(r"<figure>.*?</figure>", page, re.DOTALL)
    assert len(pictures) == 6
    for picture in pictures:
        parsed = outline(picture)
        alt = next(a for t, a in parsed.tags if t == "img")["alt"]
        assert alt
        assert re.search(r"\d", alt), "says nothing that can be seen"
        assert "table" in [t for t, _ in parsed.tags]
    assert 'scope="col"' in page
    assert 'scope="row"' in page


def test_pictures_are_svg_without_outside_references_and_reproducible() -> None:
    first, second = (report.evaluation_page(*evaluation()) for _ in range(2))
    assert first == second
    for data in re.findall(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)", first):
        svg = base64.b64decode(data).decode()
        root = ET.fromstring(svg)
        assert root.tag.endswith("svg")
        links = re.findall(r'href="([^"]*)"', svg)
        assert all(link.startswith(("#", "data:")) for link in links)
        assert "date" not in svg.lower().split("<defs>")[0]


def test_figures_of_the_evaluation_are_on_the_page() -> None:
    found, run, history = evaluation()
    words = outline(report.evaluation_page(found, run, history)).words
    for key in ("accuracy", "precision", "recall", "f1", "ece", "brier"):
        assert f"{found[key]:.3f}" in words
    changed = found | {"brier": 1.2345}
    assert "1.234" in outline(report.evaluation_page(changed, run, history)).words
    assert "1.234" not in words


def test_simulated_spectra_are_called_so_and_measured_ones_are_not() -> None:
    assert report.SIMULATED in outline(report.evaluation_page(*evaluation(simulated=True))).words
    assert report.SIMULATED not in outline(report.evaluation_page(*evaluation(simulated=False))).words


def test_an_int8_page_says_what_the_bundle_refuses() -> None:
    found, run, history = evaluation()
    found |= {
        "model": "int8",
        "agreement": 0.987,
        "acceptance": {"accepted": 55, "refused": {"too_dim": 5}, "accuracy_of_accepted": None},
    }
    words = outline(report.evaluation_page(found, run, history)).words
    for expected in ("int8 kernel", "0.987", "too_dim 5", "–"):
        assert expected in words


def test_text_is_escaped() -> None:
    page = report.page("a < b", [("h & i", report.table(("x", "y"), [("<script>", 1.0)], "c > d"))])
    assert "<script>" not in page
    parsed = outline(page)
    assert "a < b" in parsed.words
    assert "<script>" in parsed.words
    assert "clay <b>" in outline(report.evaluation_page(*evaluation())).words


def test_tables_align_numbers_and_show_missing_values() -> None:
    html = report.table(("name", "value"), [("a", 0.12345), ("b", None), ("c", 7)])
    assert '<td class="number">0.123</td>' in html
    assert '<td class="number">–</td>' in html
    assert '<td class="number">7</td>' in html


@pytest.mark.parametrize(
    "rows", [[], [{"distance_m": None, "n": 1, "accuracy": 1.0, "low": 0.2, "high": 1.0}]]
)
def test_a_plot_without_known_distances_is_empty_and_not_an_error(rows: Records) -> None:
    assert plots.by_distance({"m": rows}).axes


@pytest.mark.skipif(
    shutil.which("chromium") is None, reason="Chromium is not installed (apt install chromium)"
)
def test_the_study_s_widest_table_is_seen_whole_at_1280_pixels(tmp_path: Path) -> None:
    row = ("virtual:n=48:p=0.8:foreign=0.8:sigma=1:zones=1", 80, 0, *(len(HEAD) - 3) * [-0.123])
    measure = "[...document.querySelectorAll('.scroll')].map(e => e.scrollWidth - e.clientWidth).join()"
    path = tmp_path / "wide.html"
    path.write_text(
        report.page("Wide", [("Table", report.table(HEAD, [row]))])
        + f"<script>document.title = {measure}</script>"
    )
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--window-size=1280,800", "--dump-dom")
    seen = subprocess.run(
        ["chromium", *flags, f"--user-data-dir={tmp_path / 'profile'}", path.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert "<title>0</title>" in seen.stdout
