"""What the training loop varies: drift, gaps, noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from libsedge.errors import ConfigError
from libsedge.preprocess import DEFAULT_SEGMENTS
from libsedge_training.augment import Augmentation, Augmenter


def augmenter(**changes: Any) -> tuple[Augmenter, np.ndarray]:
    mask = np.ones(5400, dtype=bool)
    mask[100:120] = False
    settings = {"shift_nm": 0.0, "noise": 0.0, "gap_probability": 0.0} | changes
    return Augmenter(Augmentation(**settings), DEFAULT_SEGMENTS, mask), mask


def test_drift_moves_every_segment_by_its_own_fraction_of_a_pixel() -> None:
    steps, _ = augmenter(shift_nm=0.3)
    ramp = torch.arange(5400, dtype=torch.float32).repeat(32, 1)  # linear: interpolation is exact
    moved = steps(ramp, torch.Generator().manual_seed(0)) - ramp
    middle = moved.reshape(32, 3, 1800)[:, :, 10:-10]
    shift = middle.mean(dim=2)
    assert torch.allclose(middle, shift[:, :, None].expand_as(middle), atol=2e-3)
    limits = 0.3 / torch.tensor([100, 200, 310]) * 1800
    assert (shift.abs() <= limits + 1e-3).all()
    assert (shift.abs().max(0).values > 0.8 * limits).all()
    assert shift.std() > 0


def test_gaps_are_masked_and_the_rest_normalised_again() -> None:
    steps, mask = augmenter(gap_probability=1.0, gaps=((464.0, 535.0),))
    x = torch.rand(4, 5400) * torch.from_numpy(mask)
    out = steps(x, torch.Generator().manual_seed(0))
    nm = np.concatenate(
        [s.start_nm + (np.arange(1800) + 0.5) * (s.stop_nm - s.start_nm) / 1800 for s in DEFAULT_SEGMENTS]
    )
    gap = torch.from_numpy((nm >= 464) & (nm < 535))
    assert int(gap.sum()) == 639
    assert not out[:, gap].any()
    assert torch.equal(out[:, :1800], x[:, :1800])
    assert torch.equal(out[:, 3600:], x[:, 3600:])
    kept = ~gap[1800:3600]
    before, after = x[:, 1800:3600].square().mean(1), out[:, 1800:3600][:, kept].square().mean(1)
    assert torch.allclose(before, after, rtol=1e-4)


def test_noise_has_its_level_and_leaves_masked_points_alone() -> None:
    steps, mask = augmenter(noise=0.05)
    x = torch.full((64, 5400), 3.0) * torch.from_numpy(mask)
    out = steps(x, torch.Generator().manual_seed(0))
    assert not out[:, ~mask].any()
    level = (out - x)[:, mask].std(dim=1)
    assert level.max() < 0.052
    assert 0.02 < level.mean() < 0.03  # uniform in 0 ... 0.05
    dark = steps(torch.zeros(8, 5400), torch.Generator().manual_seed(0))
    assert (dark >= 0).all()


def test_no_variation_is_the_identity_and_bad_ones_are_refused() -> None:
    steps, mask = augmenter()
    x = torch.rand(4, 5400) * torch.from_numpy(mask)
    assert torch.equal(steps(x, torch.Generator().manual_seed(0)), x)
    with pytest.raises(ConfigError, match=r"augmentation\.noise = -1"):
        Augmentation(noise=-1)
    with pytest.raises(ConfigError, match="from < to"):
        Augmentation(gaps=((2.0, 1.0),))
