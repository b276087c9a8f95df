"""Pixels of the detector that cannot be believed: hot and dead ones, found in a dark frame."""

from __future__ import annotations

import numpy as np

#: neighbours on either side that a pixel is compared with
REACH = 8


def bad_pixels(dark: np.ndarray, sigma: float) -> np.ndarray:
    """bool [channels]: True where a dark frame, [channels], stands off the median of its neighbours by more than
    `sigma` times the frame's noise: 1.4826 * the median of these distances, at least one count. A hot pixel stands
    above, a dead one below."""
    values = np.asarray(dark, np.float64)
    padded = np.pad(values, REACH, mode="reflect" if values.size > REACH else "edge")
    around = np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * REACH + 1), axis=1)
    distance = np.abs(values - around)
    noise = max(1.4826 * float(np.median(distance)), 1.0)
    return np.asarray(distance > sigma * noise)
