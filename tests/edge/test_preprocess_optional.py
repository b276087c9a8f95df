"""The optional steps: smoothing as scipy's, the continuum as pybaselines'."""

import numpy as np
import pybaselines
import pytest
from libsedge import _core
from libsedge.preprocess import PreprocessConfig, Preprocessor, Segment, Smooth, Snip
from preprocess_oracle import using
from scipy.signal import savgol_filter

SEGMENT = (Segment(300.0, 330.0, 400),)


def smoothed(values, window, order, mask=None):
    """What the C++ gives on an axis whose pixels are the grid points; no other step but the mean's division."""
    grid = PreprocessConfig(SEGMENT).grid_nm
    config = PreprocessConfig(SEGMENT, "none", smooth=Smooth(window, order))
    return Preprocessor(config, grid, mask).float(values)


@pytest.mark.parametrize(("window", "order"), [(3, 1), (5, 2), (11, 2), (11, 5), (101, 3), (7, 0)])
def test_smoothing_is_scipys(window, order):
    x = (np.random.default_rng(window).gamma(2.0, 400.0, 400) + 50).astype(np.float32)
    expected = savgol_filter(x.astype(np.float64), window, order, mode="interp")
    got = smoothed(x, window, order)
    np.testing.assert_allclose(got, expected / expected.mean(), rtol=3e-5, atol=3e-5)
    other = savgol_filter(x.astype(np.float64), window + 2, order, mode="interp")  # negative control
    assert np.abs(got - other / other.mean()).max() > 1e-3


def test_smoothing_ends_at_masked_pixels():
    """Every run of valid pixels by itself; a run shorter than the window stays as it is."""
    x = (np.random.default_rng(1).gamma(2.0, 400.0, 400) + 50).astype(np.float32)
    mask = np.ones(400, bool)
    mask[[100, 105, 300]] = False
    expected = x.astype(np.float64)
    for a, b in ((0, 100), (106, 300), (301, 400)):
        expected[a:b] = savgol_filter(x[a:b].astype(np.float64), 11, 2, mode="interp")
    expected[~mask] = 0
    valid = mask.copy()
    valid[[99, 104, 299]] = False  # a grid point next to a masked pixel has no value
    expected[~valid] = 0
    np.testing.assert_allclose(
        smoothed(x, 11, 2, mask), expected / expected[valid].mean(), rtol=3e-5, atol=3e-5
    )


@pytest.mark.parametrize("half_window", [1, 7, 40, 199])
def test_continuum_is_pybaselines_snip(half_window):
    rng = np.random.default_rng(half_window)
    pixel = np.arange(400)
    x = 500 + 200 * np.sin(pixel / 90) + rng.normal(0, 3, 400)
    for place, height in zip(rng.integers(5, 395, 12), rng.uniform(100, 5000, 12), strict=True):
        x += height * np.exp(-(((pixel - place) / 2.0) ** 2))
    x = x.astype(np.float32)
    grid = PreprocessConfig(SEGMENT).grid_nm
    got = Preprocessor(PreprocessConfig(SEGMENT, "none", continuum=Snip(half_window)), grid).float(x)
    continuum, _ = pybaselines.smooth.snip(
        x.astype(np.float64), max_half_window=half_window, decreasing=True, pad_kwargs={"mode": "edge"}
    )
    expected = x - continuum
    np.testing.assert_allclose(got, expected / expected.mean(), rtol=1e-4, atol=1e-3)
    assert np.abs(got - x / x.mean()).max() > 0.1  # negative control: the continuum was there


def test_report_is_of_what_was_measured():
    """Smoothing makes noise look small and the continuum's subtraction signal: neither counts for the quality."""
    x = np.random.default_rng(3).normal(1000, 30, 400).astype(np.float32)
    grid = PreprocessConfig(SEGMENT).grid_nm
    plain = Preprocessor(PreprocessConfig(SEGMENT), grid).report(x)
    config = PreprocessConfig(SEGMENT, smooth=Smooth(11, 2), continuum=Snip(20))
    assert Preprocessor(config, grid).report(x) == plain


@pytest.mark.parametrize("name", _core.pixel_loops())
def test_optional_steps_give_the_same_bits_everywhere(name):
    x = np.random.default_rng(4).gamma(2.0, 400.0, 400).astype(np.float32)
    mask = np.random.default_rng(5).random(400) < 0.98
    grid = PreprocessConfig(SEGMENT).grid_nm
    core = Preprocessor(PreprocessConfig(SEGMENT, smooth=Smooth(7, 2), continuum=Snip(25)), grid, mask)
    with using("baseline"):
        expected = core.float(x)
    with using(name):
        np.testing.assert_array_equal(core.float(x), expected)
