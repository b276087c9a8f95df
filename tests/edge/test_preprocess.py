"""Preprocessing against an independent NumPy implementation written here, plus its refusals."""

import json
from contextlib import contextmanager

import numpy as np
import pybaselines
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from libsedge import _core
from libsedge.errors import AxisError, ConfigError, SpectrumError
from libsedge.preprocess import (
    DEFAULT_SEGMENTS,
    PreprocessConfig,
    Preprocessor,
    Report,
    Segment,
    Smooth,
    Snip,
)
from scipy.signal import savgol_filter

CONFIG = PreprocessConfig(
    (Segment(300.0, 310.0, 40), Segment(310.0, 330.0, 50)), "sqrt", scale=0.021, zero_point=-128
)


def oracle_valid(axis, pixel_valid, grid):
    """Which grid points get a value: np.searchsorted finds the pixels around, the median rule the gaps."""
    spacing = np.diff(axis)
    local = np.array([np.median(spacing[max(0, j - 7) : j + 8]) for j in range(spacing.size)])
    broken = (spacing > 5 * local) | ~(pixel_valid[:-1] & pixel_valid[1:])
    inside = (grid >= axis[0]) & (grid <= axis[-1])
    left = np.clip(np.searchsorted(axis, grid, side="right") - 1, 0, axis.size - 2)
    return inside & ~broken[left]


def oracle_float(config, axis, counts, dark=None, mask=None, shift=0.0, resample=None):
    """One spectrum with np.interp, all in float64: agrees to float32's accuracy, not to the bit."""
    with np.errstate(all="ignore"):
        x = counts.astype(np.float64) - (0 if dark is None else dark.astype(np.float64))
    valid = np.isfinite(x) & (np.abs(x) <= 1e20) & (True if mask is None else mask)
    x = np.where(valid, x, 0)
    grid = config.grid_nm
    grid_valid = oracle_valid(axis + shift, valid, grid)
    y = np.where(grid_valid, (resample or np.interp)(grid, axis + shift, x), 0)
    at = 0
    for segment in config.segments:
        part = slice(at, at + segment.channels)
        at += segment.channels
        mean = y[part][grid_valid[part]].mean() if grid_valid[part].any() else 0.0
        y[part] /= max(mean, 1e-12)
    return (np.sqrt(np.maximum(y, 0)) if config.compress == "sqrt" else y), grid_valid


def lane_sum(values):
    """16 interleaved partial sums in float64, then these in their order: the order that the steps fix."""
    padded = np.concatenate([values.astype(np.float64), np.zeros(-len(values) % 16)]).reshape(-1, 16)
    lanes = np.cumsum(np.vstack([np.zeros(16), padded]), axis=0)[-1]
    return np.cumsum(np.concatenate([[0.0], lanes]))[-1]


def oracle_float32(config, axis, counts, dark=None, mask=None, shift=0.0):
    """The same, every operation in float32 as documented: the bits have to agree."""
    with np.errstate(all="ignore"):
        x = counts if dark is None else counts - dark
        valid = (np.abs(x) <= np.float32(1e20)) & (True if mask is None else mask)
    x = np.where(valid, x, np.float32(0))
    grid, moved = config.grid_nm, axis + shift
    grid_valid = oracle_valid(moved, valid, grid)
    left = np.clip(np.searchsorted(moved, grid, side="right") - 1, 0, axis.size - 2)
    t = ((grid - moved[left]) / (moved[left + 1] - moved[left])).astype(np.float32)
    y = np.where(grid_valid, x[left] + t * (x[left + 1] - x[left]), np.float32(0))
    at = 0
    for segment in config.segments:
        part = slice(at, at + segment.channels)
        at += segment.channels
        count = grid_valid[part].sum()
        mean = np.float32(lane_sum(y[part]) / count) if count else np.float32(0)
        y[part] = y[part] / max(mean, np.float32(1e-12))
    return np.sqrt(np.maximum(y, 0)) if config.compress == "sqrt" else y


def oracle_int8(values, scale, zero_point, rounding=np.rint):
    with np.errstate(over="ignore"):
        return np.clip(rounding(values / np.float32(scale)) + zero_point, -128, 127).astype(np.int8)


@st.composite
def cases(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    channels = draw(st.sampled_from([2, 3, 17, 80, 200]))
    axis = 298.0 + np.cumsum(rng.uniform(0.5, 1.5, channels)) * 34.0 / channels
    for _ in range(draw(st.integers(0, 2))):  # detector gaps
        axis[rng.integers(channels) :] += rng.uniform(0, 4)
    counts = rng.normal(200, 150, channels) * rng.choice([1, 1, 30], channels)
    for bad in draw(st.lists(st.sampled_from([np.nan, np.inf, -np.inf, 3e38, 0.0, -1e20]), max_size=4)):
        counts[rng.integers(channels)] = bad
    return {
        "config": PreprocessConfig(CONFIG.segments, draw(st.sampled_from(["sqrt", "none"])), 0.021, -128),
        "axis": axis,
        "counts": counts.astype(np.float32),
        "dark": rng.normal(50, 5, channels).astype(np.float32) if draw(st.booleans()) else None,
        "mask": rng.random(channels) < 0.9 if draw(st.booleans()) else None,
        "shift": draw(st.sampled_from([0.0, 0.0, 0.13, -0.4])),
    }


def preprocessor(case):
    try:
        return Preprocessor(case["config"], case["axis"], case["mask"])
    except AxisError:
        return None  # so few or so gappy pixels that no grid point is covered


@settings(max_examples=300, deadline=None)
@given(cases())
def test_same_bits_as_the_float32_oracle(case):
    core = preprocessor(case)
    if core is None:
        return
    got = core.float(case["counts"], case["dark"], case["shift"])
    assert got.dtype == np.float32
    assert np.isfinite(got).all()
    np.testing.assert_array_equal(got, oracle_float32(**case))
    int8 = core.int8(case["counts"], case["dark"], case["shift"])
    np.testing.assert_array_equal(int8, oracle_int8(got, 0.021, -128))
    np.testing.assert_array_equal(int8, _core.quantise(got, 0.021, -128))


@settings(max_examples=200, deadline=None)
@given(cases())
def test_close_to_np_interp_in_float64(case):
    core = preprocessor(case)
    ordinary = np.abs(np.nan_to_num(case["counts"], nan=0, posinf=0, neginf=0)) < 1e6
    case["counts"] = np.where(ordinary, case["counts"], np.nan)  # float32 keeps 7 digits of the largest
    if core is None:
        return
    expected, valid = oracle_float(**case)
    positive = expected.max(initial=0) < 1e3  # a mean near zero magnifies float32's rounding
    got = core.float(case["counts"], case["dark"], case["shift"])
    if positive and expected.min(initial=0) > -1e3:
        np.testing.assert_allclose(got, expected, atol=2e-2)
    report = core.report(case["counts"], 600.0, case["dark"], case["shift"])
    assert report.valid_fraction == valid.mean()
    if case["shift"] == 0.0 and np.isfinite(case["counts"]).all():
        np.testing.assert_array_equal(core.grid_mask, valid)


def test_negative_controls():
    """The comparisons above turn red: truncation, nearest neighbour, a forgotten shift."""
    axis = np.linspace(299.0, 331.0, 300)
    counts = np.random.default_rng(3).normal(500, 100, 300).astype(np.float32)
    core = Preprocessor(CONFIG, axis)
    values, int8 = core.float(counts), core.int8(counts)
    assert (int8 == oracle_int8(values, 0.021, -128)).all()
    assert (int8 != oracle_int8(values, 0.021, -128, np.trunc)).any()
    expected = oracle_float(CONFIG, axis, counts)[0]
    np.testing.assert_allclose(values, expected, atol=1e-5)
    nearest = oracle_float(
        CONFIG, axis, counts, resample=lambda g, a, x: x[np.abs(g[:, None] - a).argmin(1)]
    )[0]
    assert np.abs(values - nearest).max() > 1e-2
    assert np.abs(core.float(counts, shift_nm=0.05) - expected).max() > 1e-2


def test_ties_go_to_the_even_number():
    ties = np.arange(-300, 300, dtype=np.float32) + np.float32(0.5)
    got = _core.quantise(ties, 1.0, 0)
    np.testing.assert_array_equal(got, oracle_int8(ties, 1.0, 0))
    away = oracle_int8(ties, 1.0, 0, lambda x: np.trunc(x + np.copysign(0.5, x)))
    assert (got != away).sum() > 100  # negative control
    # Through all steps: a flat spectrum is exactly 1 after normalising; 2.5, 1.5 and 0.5 are the ties.
    for scale, expected in ((0.4, 2), (2 / 3, 2), (2.0, 0)):
        core = Preprocessor(
            PreprocessConfig(CONFIG.segments, "sqrt", scale, 0), np.linspace(299.0, 331.0, 100)
        )
        assert np.float32(1) / np.float32(scale) % 1 == 0.5
        assert set(core.int8(np.full(100, 77, np.uint16)).tolist()) == {expected}


def test_grid_points_sit_in_the_middle_of_their_bins():
    config = PreprocessConfig((Segment(100.0, 102.0, 2), Segment(102.0, 103.0, 2)))
    assert config.grid_nm.tolist() == [100.5, 101.5, 102.25, 102.75]
    default = PreprocessConfig()
    assert default.segments == DEFAULT_SEGMENTS
    assert default.points == default.grid_nm.size == 5400
    assert (np.diff(default.grid_nm) > 0).all()


def test_masked_points_are_zero_and_zero_point():
    axis = np.linspace(299.0, 331.0, 320)
    mask = np.ones(320, bool)
    mask[100:120] = False
    core = Preprocessor(PreprocessConfig(CONFIG.segments, "sqrt", 0.01, -7), axis, mask)
    counts = np.full(320, 5.0)
    assert 0 < (~core.grid_mask).sum() < 20
    assert (core.float(counts)[~core.grid_mask] == 0).all()
    assert (core.int8(counts)[~core.grid_mask] == -7).all()
    spoilt = counts.copy()
    spoilt[~mask] = np.nan  # what is under the mask has no influence and is not counted
    np.testing.assert_array_equal(core.float(spoilt), core.float(counts))
    assert core.report(spoilt, 5.0) == core.report(counts, 5.0)
    assert core.report(counts, 5.0).saturated == mask.sum()


def test_batch_equals_one_by_one_and_order_does_not_matter():
    rng = np.random.default_rng(1)
    axis = np.linspace(299.0, 331.0, 200)
    core = Preprocessor(CONFIG, axis)
    counts = rng.integers(0, 4000, (5, 200), dtype=np.uint16)
    counts[2] = 0
    int8, reports = core.int8_and_report(counts, 3900, dark=np.full(200, 3.0))
    for row in (4, 0, 2, 3, 1):
        one, report = core.int8_and_report(counts[row], 3900, dark=np.full(200, 3.0))
        np.testing.assert_array_equal(one, int8[row])
        assert report == reports[row]
        assert report.saturated == (counts[row] >= 3900).sum()
    np.testing.assert_array_equal(core.float(counts), core.float(counts.astype(np.float64)))
    assert core.int8(counts[:0]).shape == (0, 90)


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


def test_gap_of_the_axis_is_masked_and_coarse_axes_are_not():
    gap = np.concatenate([np.linspace(299.0, 312.0, 200), np.linspace(316.0, 331.0, 200)])
    core = Preprocessor(CONFIG, gap)
    grid = CONFIG.grid_nm
    np.testing.assert_array_equal(core.grid_mask, ~((grid > 312.0) & (grid < 316.0)))
    coarse = np.concatenate([np.arange(299.0, 310.0, 0.1), np.arange(310.4, 331.5, 0.4)])
    assert Preprocessor(CONFIG, coarse).grid_mask.all()  # another spectrometer, 4 times as coarse: no gap


@pytest.mark.parametrize(
    ("axis", "mask", "match"),
    [
        ([300.0], None, "at least 2 channels"),
        ([300.0, np.nan, 302.0], None, r"wavelength\[1\]"),
        ([300.0, 302.0, 301.0], None, r"wavelength\[2\] = 301.0: must increase; .* 302.0 nm"),
        ([300.0, 300.0], None, r"wavelength\[1\]"),
        ([500.0, 501.0], None, "no valid channel on the model's grid"),
        ([300.0, 301.0], [True], "mask.shape"),
        ([300.0, 301.0], [False, False], "no valid channel"),
    ],
)
def test_axes_refused(axis, mask, match):
    with pytest.raises(AxisError, match=match):
        Preprocessor(CONFIG, np.array(axis), None if mask is None else np.array(mask))


def test_spectra_refused():
    core = Preprocessor(CONFIG, np.linspace(299.0, 331.0, 100))
    for bad in (np.zeros(99), np.zeros((2, 101)), np.zeros((1, 1, 100)), np.float32(3)):
        with pytest.raises(SpectrumError, match=r"counts\.shape"):
            core.float(bad)
    with pytest.raises(SpectrumError, match=r"dark\.shape"):
        core.float(np.zeros(100), np.zeros(99))
    with pytest.raises(SpectrumError, match="shift_nm"):
        core.float(np.zeros(100), shift_nm=np.nan)
    with pytest.raises(ConfigError, match="not quantised"):
        Preprocessor(PreprocessConfig(CONFIG.segments), np.linspace(299.0, 331.0, 100)).int8(np.zeros(100))


def test_json_round_trip():
    for config in (CONFIG, PreprocessConfig()):
        assert PreprocessConfig.from_json(config.to_json()) == config
        assert PreprocessConfig.from_json(json.dumps(config.to_json())) == config


@pytest.mark.parametrize(
    ("path", "value", "match"),
    [
        (("extra",), 1, "preprocess.extra: unknown key"),
        (("format",), "x", "preprocess.format"),
        (("version",), 2, "preprocess.version"),
        (("version",), True, "preprocess.version"),
        (("compress",), "log", "compress"),
        (("compress",), None, "compress"),
        (("scale",), "1", "preprocess.scale"),
        (("scale",), 0.0, "scale"),
        (("scale",), float("nan"), "scale"),
        (("scale",), None, "together"),
        (("zero_point",), 128, "zero_point"),
        (("zero_point",), 1.5, "preprocess.zero_point"),
        (("segments",), {}, "preprocess.segments"),
        (("segments",), [], "at least one segment"),
        (("segments", 0, "channels"), 0, "channels"),
        (("segments", 0, "channels"), 2.0, "channels"),
        (("segments", 0, "channels"), 2**21, "at most"),
        (("segments", 0, "start_nm"), "300", "start_nm"),
        (("segments", 0, "stop_nm"), 299.0, "stop_nm"),
        (("segments", 0, "stop_nm"), 311.0, "overlap"),
        (("segments", 0, "step"), 1.0, r"preprocess.segments\[0\].step"),
    ],
)
def test_json_refused(path, value, match):
    data = json.loads(json.dumps(CONFIG.to_json()))
    at = data
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    with pytest.raises(ConfigError, match=match):
        PreprocessConfig.from_json(data)


def test_json_text_and_missing_keys_refused():
    with pytest.raises(ConfigError, match="not JSON"):
        PreprocessConfig.from_json("{")
    with pytest.raises(ConfigError, match="must be an object"):
        PreprocessConfig.from_json("[]")
    for key in CONFIG.to_json():
        data = {k: v for k, v in CONFIG.to_json().items() if k != key}
        with pytest.raises(ConfigError, match=f"preprocess.{key}: is missing"):
            PreprocessConfig.from_json(data)


@settings(max_examples=200, deadline=None)
@given(cases())
def test_every_instruction_set_gives_the_same_bits(case):
    """The loops for AVX2 against those for any machine; without AVX2 there is only one."""
    core = preprocessor(case)
    if core is None:
        return
    results = []
    for name in _core.pixel_loops():
        with using(name):
            report = core.report(case["counts"], 600.0, case["dark"], case["shift"])
            floats = core.float(case["counts"], case["dark"], case["shift"])
            int8 = core.int8(case["counts"], case["dark"], case["shift"])
            results.append((floats.tobytes(), int8.tobytes(), report))
    assert all(result == results[0] for result in results)


@contextmanager
def using(name):
    before = _core.use_pixel_loops(name)
    try:
        yield
    finally:
        _core.use_pixel_loops(before)


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


def test_optional_steps_in_json():
    config = PreprocessConfig(smooth=Smooth(11, 2), continuum=Snip(40))
    assert PreprocessConfig.from_json(json.dumps(config.to_json())) == config
    assert not {"smooth", "continuum"} & PreprocessConfig().to_json().keys()  # old bundles keep their bytes
    for change in (
        {"smooth": {"window": 10, "order": 2}},
        {"smooth": {"window": 3, "order": 3}},
        {"smooth": {"window": 103, "order": 2}},
        {"smooth": {"window": 11}},
        {"smooth": {"window": 11, "order": 2, "x": 1}},
        {"smooth": None},
        {"continuum": {"half_window": 0}},
        {"continuum": {"half_window": True}},
        {"continuum": {"half_window": 1001}},
    ):
        with pytest.raises(ConfigError, match=next(iter(change))):
            PreprocessConfig.from_json(config.to_json() | change)


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
