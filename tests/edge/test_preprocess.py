"""Preprocessing against an independent NumPy implementation, bit for bit and on every instruction set."""

import numpy as np
import pytest
from hypothesis import given, settings
from libsedge import _core
from libsedge.preprocess import DEFAULT_SEGMENTS, PreprocessConfig, Preprocessor, Segment
from preprocess_oracle import (
    CONFIG,
    cases,
    oracle_float,
    oracle_float32,
    oracle_int8,
    preprocessor,
    using,
)


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
    int8, reports = core.input_and_report(counts, 3900, dark=np.full(200, 3.0))
    for row in (4, 0, 2, 3, 1):
        one, report = core.input_and_report(counts[row], 3900, dark=np.full(200, 3.0))
        np.testing.assert_array_equal(one, int8[row])
        assert report == reports[row]
        assert report.saturated == (counts[row] >= 3900).sum()
    np.testing.assert_array_equal(core.float(counts), core.float(counts.astype(np.float64)))
    assert core.int8(counts[:0]).shape == (0, 90)


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


@pytest.mark.parametrize("name", _core.pixel_loops())
@pytest.mark.parametrize("compress", ["sqrt", "none"])
def test_int8_is_the_quantised_float(name, compress):
    """The fused last steps leave divisions out where a result is in no doubt: against the steps one by one."""
    rng = np.random.default_rng(11)
    axis = np.linspace(239.0, 851.0, 5400)
    dark = rng.normal(100, 5, 5400).astype(np.float32)
    counts = rng.gamma(0.7, 900, (20, 5400)).astype(np.float32)
    with using(name):
        for scale in [*rng.uniform(0.005, 0.05, 12).astype(np.float32).tolist(), 1e-8, 1e-5, 1e7]:
            core = Preprocessor(PreprocessConfig(compress=compress, scale=scale, zero_point=-100), axis)
            values = core.float(counts, dark)
            np.testing.assert_array_equal(core.int8(counts, dark), oracle_int8(values, scale, -100))


def test_counts_of_16_bits_are_taken_as_they_are():
    rng = np.random.default_rng(12)
    axis = np.linspace(299.0, 331.0, 1000)
    mask = rng.random(1000) < 0.9
    for core in (Preprocessor(CONFIG, axis), Preprocessor(CONFIG, axis, mask)):
        counts = rng.integers(0, 65536, (3, 1000)).astype(np.uint16)
        for dark in (None, rng.normal(100, 5, 1000)):
            one = core.int8(counts, dark), core.report(counts, 60000.0, dark)
            reals = counts.astype(np.float32)
            other = core.int8(reals, dark), core.report(reals, 60000.0, dark)
            np.testing.assert_array_equal(one[0], other[0])
            assert one[1] == other[1]
            assert one[1][0].saturated > 0


@pytest.mark.parametrize("name", _core.pixel_loops())
def test_a_spectrum_leaves_nothing_behind(name):
    """Which pixels are valid is written only where one is not, wherever that one stands."""
    axis = np.linspace(299.0, 331.0, 2000)
    used = Preprocessor(CONFIG, axis)
    counts = np.random.default_rng(13).gamma(2.0, 400.0, 2000).astype(np.float32)
    with using(name):
        for bad in ([0], [1999], [], [700, 701, 1500], [3], []):
            spoilt = counts.copy()
            spoilt[bad] = np.nan
            fresh = Preprocessor(CONFIG, axis)
            np.testing.assert_array_equal(used.float(spoilt), fresh.float(spoilt))
            assert used.report(spoilt) == fresh.report(spoilt)
            assert used.report(spoilt).non_finite == len(bad)
            expected = oracle_float(CONFIG, axis, spoilt)[0]
            np.testing.assert_allclose(used.float(spoilt), expected, atol=1e-5)


@pytest.mark.parametrize("name", _core.pixel_loops())
def test_an_axis_of_more_than_65536_pixels(name):
    counts = np.random.default_rng(14).gamma(2.0, 400.0, 70000)
    axis = np.linspace(299.0, 331.0, 70000)
    with using(name):
        np.testing.assert_allclose(
            Preprocessor(CONFIG, axis).float(counts), oracle_float(CONFIG, axis, counts)[0], atol=1e-5
        )
