"""From a set of spectra to the arrays that training and evaluation work on."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
from libsedge.preprocess import DEFAULT_SEGMENTS, PreprocessConfig, Preprocessor

from .model import NetSpec
from .spectra import SpectraSet

_BLOCK = 256


def segments_for(spec: NetSpec) -> PreprocessConfig:
    """The default grid with as many points as the net is meant for."""
    total = sum(s.channels for s in DEFAULT_SEGMENTS)
    return PreprocessConfig(
        tuple(replace(s, channels=s.channels * spec.points // total) for s in DEFAULT_SEGMENTS)
    )


def preprocessed(data: SpectraSet, config: PreprocessConfig) -> tuple[np.ndarray, np.ndarray]:
    """(float32 [n, points], bool [points]: points its instrument sees); the set's dark is subtracted.

    A signal over its segment's mean is at most the segment's number of points, unless negative counts bring that mean
    near zero: such values are cut there, as int8 cuts them on the board, and far lower.
    """
    steps = Preprocessor(config, data.wavelength, data.mask)
    values = np.empty((len(data), config.points), dtype=np.float32)
    for start in range(0, len(data), _BLOCK):
        values[start : start + _BLOCK] = steps.float(data.counts[start : start + _BLOCK], data.dark)
    most = float(max(segment.channels for segment in config.segments))
    np.minimum(values, np.float32(most if config.compress == "none" else most**0.5), out=values)
    return values, steps.grid_mask


def data_digest(data: SpectraSet) -> str:
    """sha256, hex, over the set's arrays: names, types, shapes and bytes, whatever file they were in."""
    digest = hashlib.sha256()
    for name in ("counts", "wavelength", "mask", "dark", "distance_m", "specimen", "label", "shot"):
        array = getattr(data, name)
        if array is None:
            digest.update(f"{name}:none;".encode())
            continue
        if array.dtype.kind == "U":
            array = np.frombuffer("\0".join(array.tolist()).encode("utf-8"), dtype=np.uint8)
        array = np.ascontiguousarray(array)
        digest.update(f"{name}:{array.dtype.newbyteorder('<').str}:{array.shape};".encode())
        digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).data)
    return digest.hexdigest()


def weights_by_distance(weights: np.ndarray, distance_m: np.ndarray) -> list[dict[str, Any]]:
    """Rows {distance_m (None = unknown), spectra, mean, min, max} of weights [n], by increasing distance."""
    metres = np.round(distance_m.astype(np.float64), 3)
    rows = []
    for value in [*np.unique(metres[~np.isnan(metres)]).tolist(), None]:
        here = weights[np.isnan(metres) if value is None else metres == value]
        if len(here):
            rows.append(
                {
                    "distance_m": value,
                    "spectra": len(here),
                    "mean": float(here.mean()),
                    "min": float(here.min()),
                    "max": float(here.max()),
                }
            )
    return rows
