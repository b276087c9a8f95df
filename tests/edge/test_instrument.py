"""What is put right about an instrument while it runs: its axis, its bad pixels, the cosmic rays in a burst."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from libsedge import _core
from libsedge.bundle import Bundle
from libsedge.classifier import Classifier
from libsedge.cli import main
from libsedge.decider import Instrument
from libsedge.drift import LINES_NM, DriftTracker
from libsedge.errors import AxisError, ConfigError
from libsedge.pixels import bad_pixels
from libsedge.preprocess import PreprocessConfig, Preprocessor, Segment
from libsedge.store import write_store

AXIS = np.linspace(240.0, 850.0, 5400)


def spectrum(rng: np.random.Generator, shift: float, seen: int = 6) -> np.ndarray:
    """The reference lines, `shift` nm off, and others, on a noisy background."""
    x = rng.normal(500.0, 10.0, AXIS.size)
    for line in [*LINES_NM[:seen] + shift, *rng.uniform(600, 840, 60)]:
        x += rng.uniform(1000, 20000) * np.exp(-(((AXIS - line) / 0.12) ** 2))
    return x.astype(np.float32)


@pytest.mark.parametrize("shift", [0.0, 0.07, -0.22])
def test_a_shift_is_found(shift: float) -> None:
    rng = np.random.default_rng(1)
    tracker = DriftTracker(AXIS)
    for _ in range(30):
        tracker.look(spectrum(rng, shift))
    assert tracker.shift_nm == pytest.approx(-shift, abs=0.02)


def test_a_slow_drift_is_followed_far() -> None:
    rng = np.random.default_rng(2)
    tracker = DriftTracker(AXIS)
    for shift in np.linspace(0, 0.6, 400):
        tracker.look(spectrum(rng, shift))
    assert tracker.shift_nm == pytest.approx(-0.6, abs=0.04)


def test_too_few_lines_noise_and_rubbish_move_nothing() -> None:
    rng = np.random.default_rng(3)
    tracker = DriftTracker(AXIS)
    for _ in range(40):
        tracker.look(spectrum(rng, 0.2, seen=2))
        tracker.look(rng.normal(500, 10, AXIS.size))
        tracker.look(np.full(AXIS.size, np.nan))
        tracker.look(np.zeros(7))
    assert tracker.shift_nm == 0.0
    for _ in range(30):  # negative control: all six lines do move it
        tracker.look(spectrum(rng, 0.2))
    assert tracker.shift_nm < -0.15


def test_an_axis_without_the_lines_is_refused() -> None:
    with pytest.raises(AxisError, match="lines at 279"):
        DriftTracker(np.linspace(500, 850, 1000))


def test_offsets_are_those_of_a_fitted_parabola() -> None:
    rng = np.random.default_rng(4)
    x = spectrum(rng, 0.113)
    found = _core.line_offsets(x, AXIS, LINES_NM, 0.45, 5.0)
    for line, offset in zip(LINES_NM, found, strict=True):
        window = np.flatnonzero(np.abs(AXIS - line) <= 0.45)
        peak = window[np.argmax(x[window])]
        a, b, _ = np.polyfit(AXIS[peak - 1 : peak + 2] - AXIS[peak], x[peak - 1 : peak + 2].astype(float), 2)
        assert offset == pytest.approx(AXIS[peak] - b / (2 * a) - line, abs=1e-6)
    assert np.isnan(_core.line_offsets(x, AXIS, np.array([100.0, 849.9]), 0.45, 5.0)).all()


def test_bad_pixels_of_a_dark_frame() -> None:
    rng = np.random.default_rng(5)
    dark = rng.normal(100, 3, 2000) + np.linspace(0, 50, 2000)
    assert not bad_pixels(dark, 8).any()
    dark[[10, 700, 1999]] += 200
    dark[1200] = 0
    assert np.flatnonzero(bad_pixels(dark, 8)).tolist() == [10, 700, 1200, 1999]


def test_left_out_pixels_are_masked_and_come_back() -> None:
    grid = PreprocessConfig((Segment(300.0, 330.0, 400),))
    core = Preprocessor(grid, grid.grid_nm)
    x = np.random.default_rng(6).gamma(2.0, 400.0, 400).astype(np.float32)
    plain = core.float(x)
    bad = np.zeros(400, bool)
    bad[100] = True
    core.leave_out(bad)
    again = Preprocessor(grid, grid.grid_nm, ~bad)
    np.testing.assert_array_equal(core.float(x), again.float(x))
    assert (core.float(x) != plain).any()
    with pytest.raises(AxisError, match="no valid channel"):
        core.leave_out(np.ones(400, bool))
    np.testing.assert_array_equal(core.float(x), again.float(x))  # nothing was changed
    core.leave_out(None)
    np.testing.assert_array_equal(core.float(x), plain)


def test_rays_are_left_out_of_the_mean() -> None:
    """The oracle in NumPy, with lower medians; lines that vary from shot to shot stay."""
    rng = np.random.default_rng(7)
    level = 500 + 20000 * (rng.random(5400) < 0.02)
    shots = rng.normal(level, np.sqrt(level) * 1.5, (8, 5400)).astype(np.float32)
    clean = shots.copy()
    hit = rng.choice(5400, 30, replace=False)
    shots[rng.integers(0, 8, 30), hit] += rng.uniform(5e4, 3e5, 30).astype(np.float32)

    def lower(values: np.ndarray) -> np.ndarray:
        return np.sort(values, axis=0)[(len(values) - 1) // 2]

    median = lower(shots)
    noise = np.float32(1.4826) * lower(np.abs(shots - median)) + np.sqrt(np.maximum(median, 1))
    keep = shots <= median + np.float32(8) * noise
    expected = np.where(keep, shots, 0).sum(axis=0, dtype=np.float64) / keep.sum(axis=0)
    mean, left_out = _core.combine_shots(shots)
    np.testing.assert_allclose(mean, expected, rtol=1e-6)
    assert left_out == np.count_nonzero(~keep) == 30
    assert np.abs(mean - clean.mean(axis=0)).max() < 0.2 * level.max()
    assert (
        np.abs(shots.mean(axis=0) - clean.mean(axis=0)).max() > 5e3
    )  # negative control: a plain mean keeps them
    few, none = _core.combine_shots(shots[:2])
    assert none == 0
    np.testing.assert_allclose(few, shots[:2].mean(axis=0), rtol=1e-6)


def call(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def test_a_run_with_all_of_it(tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drifted instrument with a hot pixel and a ray in every burst: the account says what was put right, and the
    decisions are those about the spectra as they should have been."""
    monkeypatch.setenv("LIBSEDGE_HOME", str(tiny_model.home))
    rng = np.random.default_rng(8)
    counts = np.stack([spectrum(rng, 0.1) for _ in range(64)])
    dark = rng.normal(100, 3, AXIS.size).astype(np.float32)
    hot = 2000
    dark[hot] += 5000
    ill = counts + dark
    ill[3::4, 1000] += 5e5
    common = {"wavelength": AXIS, "specimen": ["s"] * 64, "distance_m": 2.0}
    write_store(tmp_path / "ill.h5", counts=ill, dark=dark, **common)
    options = ("--burst", "average:4", "--follow-drift", "--bad-pixels", 10, "--cosmic", "--json")
    result = call(
        *(
            "run",
            tiny_model.path,
            "--source",
            f"replay:{tmp_path / 'ill.h5'}",
            "--journal",
            tmp_path / "j",
            *options,
        )
    )
    assert result.exit_code == 0, result.output
    account = json.loads(result.stdout)["instrument"]
    assert account["shift_nm"] == pytest.approx(-0.1, abs=0.02)
    assert account["bad_pixels"] == 1
    assert account["cosmic_hits"] >= 16
    bursts = call("journal", "bursts", tmp_path / "j", "--json").stdout.splitlines()
    mask = np.ones(AXIS.size, bool)
    mask[hot] = False
    classifier = Classifier(Bundle.open(tiny_model.path)).bind(AXIS, mask)
    for number in range(8, 16):  # the drift is known by then
        row = json.loads(bursts[number])
        mean, _ = _core.combine_shots(ill[4 * number : 4 * number + 4])
        wanted = classifier.classify(mean, dark, shift_nm=account["shift_nm"])
        assert (row["label"], row["reason"]) == (wanted.label, wanted.reason)
        assert row["confidence"] == pytest.approx(wanted.confidence)


def test_options_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="bad-pixels"):
        Instrument(bad_sigma=1.0)
    result = call("run", "x.sedge", "--source", "tcp:0", "--journal", tmp_path / "j", "--cosmic")
    assert result.exit_code == 2
    assert "--burst average" in result.output
