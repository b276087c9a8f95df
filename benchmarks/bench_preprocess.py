"""pytest-benchmark: raw counts of one spectrum to the network's input."""

from __future__ import annotations

import numpy as np
import pytest
from libsedge.preprocess import PreprocessConfig, Preprocessor


@pytest.fixture(scope="module")
def spectrum() -> tuple[Preprocessor, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    axis = np.linspace(235.0, 860.0, 6144)
    counts = rng.gamma(2.0, 400.0, axis.size).astype(np.float32)
    dark = rng.normal(100.0, 5.0, axis.size).astype(np.float32)
    return Preprocessor(PreprocessConfig(scale=0.02, zero_point=-128), axis), counts, dark


@pytest.mark.parametrize("shift_nm", [0.0, 0.013], ids=["on_axis", "shifted"])
def test_int8(benchmark, spectrum, shift_nm: float) -> None:
    pre, counts, dark = spectrum
    assert benchmark(pre.int8, counts, dark, shift_nm).shape == (5400,)


def test_report(benchmark, spectrum) -> None:
    """The figures by which a spectrum is accepted or refused."""
    pre, counts, dark = spectrum
    benchmark(pre.report, counts, 60000.0, dark)
