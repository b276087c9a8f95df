"""Random variations of preprocessed training spectra: wavelength drift, shot noise, detector gaps.

Preprocessed spectra are square roots of normalised signals, and everything here happens on that scale:

* drift: every segment (spectrometer) moves by its own fraction of a pixel, linearly interpolated;
* noise: the square root of a Poisson variable has a standard deviation that does not depend on the signal
  (Bartlett, Suppl. J. R. Stat. Soc. 3, 1936), hence Gaussian noise of one standard deviation for the whole
  spectrum;
* gaps: wavelength ranges that real detectors lack become masked points (0), and their segment is normalised
  again by the mean over what is left, as `libsedge.preprocess` would do.

The gain needs no variation: normalisation removes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from libsedge.errors import ConfigError


class SegmentLike(Protocol):
    """`libsedge.preprocess.Segment`: a grid segment in vacuum nm."""

    @property
    def start_nm(self) -> float: ...
    @property
    def stop_nm(self) -> float: ...
    @property
    def channels(self) -> int: ...


@dataclass(frozen=True)
class Augmentation:
    """How much to vary. All zero = nothing.

    shift_nm : drift of a segment, uniform in +- this. noise : largest standard deviation on the square-root
    scale; each spectrum draws its own, uniform from 0. gap_probability : of each gap, per spectrum. gaps :
    (from, to) in nm; 341-382 nm is missing in ChemCam and SuperCam, 464-537 nm in SuperCam.
    """

    shift_nm: float = 0.3
    noise: float = 0.05
    gap_probability: float = 0.2
    gaps: tuple[tuple[float, float], ...] = ((340.0, 382.0), (464.0, 535.0))

    def __post_init__(self) -> None:
        for name, high in (("shift_nm", 5.0), ("noise", 10.0), ("gap_probability", 1.0)):
            value = getattr(self, name)
            if not 0 <= value <= high:
                raise ConfigError(f"must be 0 ... {high:g}", field=f"augmentation.{name}", value=value)
        if any(not low < high for low, high in self.gaps):
            raise ConfigError(
                "every gap is (from, to) with from < to", field="augmentation.gaps", value=self.gaps
            )


class Augmenter:
    """Applies an `Augmentation` to batches on one grid.

    segments : the grid's, in order. grid_mask : bool [points], True = the training set's instrument sees
    the point.
    """

    def __init__(self, config: Augmentation, segments: Sequence[SegmentLike], grid_mask: np.ndarray) -> None:
        self.config = config
        self._segments: list[tuple[slice, float, list[torch.Tensor]]] = []
        self._mask = torch.from_numpy(np.ascontiguousarray(grid_mask, dtype=np.float32))
        start = 0
        for segment in segments:
            width = (segment.stop_nm - segment.start_nm) / segment.channels
            nm = segment.start_nm + (np.arange(segment.channels) + 0.5) * width
            inside = [torch.from_numpy((nm >= low) & (nm < high)) for low, high in config.gaps]
            here = slice(start, start + segment.channels)
            self._segments.append((here, width, inside))
            start = here.stop
        if start != len(grid_mask):
            raise ValueError(f"segments have {start} points, the mask has {len(grid_mask)}")

    def __call__(self, x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        """A varied copy of x, float32 [n, points]; `rng` is the only source of randomness."""
        n, config = len(x), self.config
        shift = (torch.rand(n, len(self._segments), generator=rng) * 2 - 1) * config.shift_nm
        level = torch.rand(n, 1, generator=rng) * config.noise
        cut = torch.rand(n, len(config.gaps), generator=rng) < config.gap_probability
        out = torch.cat(
            [_shifted(x[:, here], shift[:, i] / width) for i, (here, width, _) in enumerate(self._segments)],
            dim=1,
        )
        if config.noise > 0:
            out.addcmul_(torch.randn(x.shape, generator=rng), level).clamp_(min=0).mul_(self._mask)
        for here, _, gaps in self._segments:
            hit = [
                (cut[:, i], inside)
                for i, inside in enumerate(gaps)
                if bool(inside.any()) and bool(cut[:, i].any())
            ]
            if hit:
                gap = torch.stack([rows[:, None] & inside for rows, inside in hit]).any(dim=0)
                out[:, here] = _cut(out[:, here], gap, self._mask[here])
        return out


def _shifted(x: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """y[j] = x[j + pixels], linear between points, constant beyond the ends; pixels [n]."""
    whole = torch.floor(pixels)
    index = torch.arange(x.shape[1] + 1) + whole.long()[:, None]
    near = x.gather(1, index.clamp_(0, x.shape[1] - 1))
    return torch.lerp(near[:, :-1], near[:, 1:], (pixels - whole)[:, None])


def _cut(x: torch.Tensor, gap: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """x with the points of `gap` masked and the signal (x squared) back at the mean over valid points that
    it had.
    """
    power = x.square()
    kept = mask * ~gap
    before = (power * mask).sum(1) / mask.sum().clamp(min=1)
    after = (power * kept).sum(1) / kept.sum(1).clamp(min=1)
    gain = torch.where(after > 0, torch.sqrt(before / after.clamp(min=1e-12)), torch.ones_like(after))
    gain = torch.where(gap.any(1), gain, torch.ones_like(gain))
    return torch.where(gap, torch.zeros_like(x), x * gain[:, None])
