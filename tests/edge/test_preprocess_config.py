"""Axes, spectra and `preprocess.json`: what is refused, and with which words."""

import json

import numpy as np
import pytest
from libsedge.errors import AxisError, ConfigError, SpectrumError
from libsedge.preprocess import PreprocessConfig, Preprocessor, Smooth, Snip
from preprocess_oracle import CONFIG


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
