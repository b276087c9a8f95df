"""An independent NumPy implementation of the preprocessing, and spectra to compare on."""

from contextlib import contextmanager

import numpy as np
from hypothesis import strategies as st
from libsedge import _core
from libsedge.errors import AxisError
from libsedge.preprocess import PreprocessConfig, Preprocessor, Segment

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


@contextmanager
def using(name):
    before = _core.use_pixel_loops(name)
    try:
        yield
    finally:
        _core.use_pixel_loops(before)
