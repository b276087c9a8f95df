"""`libsedge-run` follows an axis and leaves bad pixels out as the Python runtime does, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from libsedge.classifier import Classifier
from libsedge.decider import Instrument
from libsedge.drift import LINES_NM, DriftTracker
from libsedge.frame import FLAG_DARK, FLAG_PASSIVE, Frame, encode
from runner_tools import (
    AXIS,
    AXIS_NM,
    CHANNELS,
    MASK,
    STREAM,
    comparable,
    differences,
    plasma,
    python_run,
    run_stdin,
)

pytest.importorskip("libsedge_native.runner", reason="the generator is not installed")


def drifting(n: int, seed: int) -> bytes:
    """Spectra whose axis drifts by 0.4 nm, with darks in between whose bad pixels change; some spectra without lines,
    not finite, passive, or sent twice, and one dark in which everything is bad."""
    rng = np.random.default_rng(seed)
    out = []
    for i, counts in enumerate(plasma(n, seed)):
        flags, values = 0, counts.astype(np.float32)
        for line in LINES_NM[: 6 if i % 5 else 3]:
            values += np.float32(9000) * np.exp(-(((AXIS_NM - line - 0.4 * i / n) / 0.15) ** 2)).astype(
                np.float32
            )
        if i % 12 == 3:
            flags, values = FLAG_DARK, rng.normal(500, 4, CHANNELS).astype(np.float32)
            values[rng.integers(CHANNELS, size=9)] += 400
            if i == 27:
                values[:] = np.where(np.arange(CHANNELS) % 2, 1e6, 0)
        elif i % 12 == 5:
            values = plasma(1, i)[0]
        elif i % 12 == 7:
            values[i] = np.nan
        elif i % 12 == 9:
            flags = FLAG_PASSIVE
        elif i % 3 == 1:
            values = np.clip(values, 0, 65535).astype(np.uint16)
        data = encode(Frame(STREAM, 0, i, 10**18 + i, 100, 3000, flags, values))
        out.append(data * (2 if i % 11 == 0 else 1))
    return b"".join(out)


@pytest.fixture
def classifier(tiny_model: Any) -> Classifier:
    return Classifier(tiny_model.open()).bind(AXIS_NM, MASK)


@pytest.mark.parametrize(
    ("drift", "sigma"),
    [(True, None), (False, 10.0), (True, 10.0), (True, 3.0)],
    ids=["drift", "bad", "both", "many"],
)
def test_the_same_as_the_python_runtime(
    runner_program: Path, classifier: Classifier, tmp_path: Path, drift: bool, sigma: float | None
) -> None:
    data = drifting(150, 21)
    instrument = Instrument(DriftTracker(AXIS_NM) if drift else None, sigma)
    records, report = python_run(classifier, data, tmp_path, instrument=instrument)
    options = [*(["--follow-drift"] if drift else []), *(["--bad-pixels", str(sigma)] if sigma else [])]
    ours = run_stdin(runner_program, data, "--check-every", "7", *options)
    assert (ours.code, ours.stderr) == (0, "")
    assert differences(records, ours.rows) == []
    assert comparable(ours.account) == comparable(report.ledger)
    rounded = {name: round(value, 3) for name, value in ours.instrument.items()}
    assert rounded == report.instrument
    if drift:
        assert -0.5 < rounded["shift_nm"] < -0.2
    if sigma is not None:
        assert rounded["bad_pixels"] >= 9
    plain = run_stdin(runner_program, data)
    assert plain.instrument == {}
    assert differences(records, plain.rows) != []  # they do change decisions


def test_negative_control_one_offset_more_is_seen(
    runner_program: Path, classifier: Classifier, tmp_path: Path
) -> None:
    tracker = DriftTracker(AXIS_NM, LINES_NM + 0.01)
    records, _ = python_run(classifier, data := drifting(60, 22), tmp_path, instrument=Instrument(tracker))
    assert differences(records, run_stdin(runner_program, data, "--follow-drift").rows) != []


def test_what_this_program_has_not_is_refused_by_name(runner_program: Path) -> None:
    for arguments in (
        ("--cosmic",),
        ("--burst", "average:8"),
        ("--burst-gap", "2"),
        ("--bad-pixels", "2"),
        ("--bad-pixels", "1001"),
        ("--bad-pixels", "nan"),
        ("--bad-pixels",),
    ):
        ours = run_stdin(runner_program, b"", *arguments)
        assert (ours.code, ours.rows, ours.stderr.count("\n")) == (2, [], 1), arguments
        option, *value = arguments
        named = f"error: {option}" + "".join(f" = {it!r}" for it in value)
        assert ours.stderr.startswith((f"error: {option}: ", f"{named}: ")), arguments
    assert "libsedge run" in run_stdin(runner_program, b"", "--cosmic").stderr


def test_axis_is_the_one_of_the_tests() -> None:
    """The drift is followed on it, and it has what makes resampling hard: coarse and fine pixels, and a mask."""
    assert AXIS.saturation == 60000.0
    assert (np.diff(AXIS_NM) > 0).all()
    assert CHANNELS == 900
    assert np.diff(AXIS_NM).max() > 5 * np.diff(AXIS_NM).min()
