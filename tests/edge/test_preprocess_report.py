"""The quality of a spectrum as the preprocessing reports it: order statistics, noise, saturation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from libsedge.preprocess import Preprocessor, Report
from preprocess_oracle import CONFIG


def lower(values, numerator=1, denominator=2):
    return np.sort(values)[(len(values) - 1) * numerator // denominator]


def test_report_figures():
    rng = np.random.default_rng(5)
    axis = np.linspace(290.0, 340.0, 1000)
    counts = rng.normal(1000, 10, 1000).astype(np.float32)
    dark = rng.normal(100, 1, 1000).astype(np.float32)
    core = Preprocessor(CONFIG, axis)
    report = core.report(counts, dark=dark)
    x = counts - dark
    within = x[(axis >= CONFIG.grid_nm[0]) & (axis <= CONFIG.grid_nm[-1])]
    noise = 1.4826 * float(lower(np.abs(np.diff(within))[::4])) / np.sqrt(2)
    assert report.signal == pytest.approx(x.astype(np.float64).mean(), rel=1e-12)
    assert report.contrast == pytest.approx(
        (float(lower(within, 995, 1000)) - float(lower(within[::4]))) / noise
    )
    assert (report.non_finite, report.saturated, report.valid_fraction) == (0, 0, 1.0)
    assert 2 < report.contrast < 3.5  # white noise: 2.6
    counts[500:510] += 3000
    assert core.report(counts, dark=dark).contrast > 50


@pytest.mark.parametrize(
    ("counts", "contrast"),
    [
        (np.zeros(100), 0.0),
        (np.full(100, np.nan), 0.0),
        (np.where(np.arange(100) % 20, 10.0, 900.0), 1e6),  # lines without any noise
        (np.full(100, 6e4), 0.0),
    ],
)
def test_contrast_at_its_limits(counts, contrast):
    core = Preprocessor(CONFIG, np.linspace(299.0, 331.0, 100))
    report = core.report(counts)
    assert report.contrast == contrast
    assert isinstance(report, Report)
    assert np.isfinite([report.signal, report.valid_fraction]).all()
    assert np.isfinite(core.float(counts)).all()


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 33, 500, 5400]), st.sampled_from([0.0, 0.1, 0.5]))
def test_contrast_is_exact_at_every_size(seed, channels, missing):
    """Histogram and sample against sorting, with ties, negative values, and pixels that are masked."""
    rng = np.random.default_rng(seed)
    axis = np.linspace(300.2, 329.7, channels)  # all of it within the grid
    counts = rng.choice([rng.normal(0, 50, channels), rng.gamma(0.3, 400, channels)]).round(
        rng.integers(0, 3)
    )
    mask = rng.random(channels) >= missing
    mask[:2] = True
    core = Preprocessor(CONFIG, axis, mask)
    x = counts.astype(np.float32)
    pairs = np.abs(np.diff(x))[mask[1:] & mask[:-1]][::4]
    valid = x[mask]
    noise = 1.4826 * float(lower(pairs)) / np.sqrt(2)
    height = float(lower(valid, 995, 1000)) - float(lower(valid[::4]))
    expected = 0.0 if height <= 0 else height / noise if height < 1e6 * noise else 1e6
    assert core.report(x).contrast == expected
