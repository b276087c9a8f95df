"""The published nets: their layers as published, their variation, their stopping."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from libsedge_training import fit
from libsedge_training.prepare import data_digest
from libsedge_training.study import published, work
from libsedge_training.study.plan import PRESETS, Task

from .test_study import peaks


def test_the_layers_are_those_that_were_published() -> None:
    a = published.RECIPES["a"].net(1800, 6)
    convolutions = 16 * (5 + 1) + 32 * (16 * 5 + 1) + 64 * (32 * 3 + 1)
    assert sum(p.numel() for p in a.parameters()) == (
        convolutions + 2 * (16 + 32 + 64) + 256 * (64 * 225 + 1) + 6 * 257
    )
    b = published.RECIPES["b"].net(5400, 6)
    shapes = []
    x = torch.rand(2, 5400)
    for layer in b:
        x = layer(x)
        if isinstance(layer, (torch.nn.MaxPool2d, torch.nn.Flatten)):
            shapes.append(tuple(x.shape[1:]))
    # the table of the thesis, channels first
    assert shapes == [(32, 24, 64), (32, 12, 32), (64, 6, 16), (128, 3, 8), (3072,)]
    assert x.shape == (2, 6)


def test_half_of_the_spectra_are_shifted_by_up_to_three_points_without_wrapping() -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.zeros(400, 40)
    x[:, 20] = 100.0
    x[:, 0] = 50.0
    y = published._varied(x, rng)
    same = (y == x).all(dim=1)
    assert 0.4 < same.float().mean() < 0.6
    places = y[~same].argmax(dim=1) - 20
    assert set(places.tolist()) == set(range(-3, 4))
    factor = y[~same].max(dim=1).values / 100
    assert 0.94 < factor.min() < 0.97 < 1.03 < factor.max() < 1.06
    assert y[:, 37:].abs().max() < 1  # what leaves at one end does not come back at the other


def learnable(n: int, points: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    x = rng.uniform(0, 0.3, (n, points)).astype(np.float32)
    for k in range(3):
        x[y == k, 8 + 10 * k : 12 + 10 * k] += 1
    return x, y


def test_they_learn_and_stop_by_the_held_spectra() -> None:
    x, y = learnable(128, 48, 0)
    held, held_y = learnable(60, 48, 1)
    with fit.torch_settings(0, 1):
        net, done = published.learn("a", x, y, held, held_y, 3, 0, 30)
    test, test_y = learnable(60, 48, 2)
    assert done == 30
    assert (published.logits(net, test).argmax(1).numpy() == test_y).mean() > 0.9
    # negative control: labels that say nothing about the held spectra are no reason to go on
    with fit.torch_settings(0, 1):
        _, stopped = published.learn("a", x[:64], y[:64], held, (held_y + 1) % 3, 3, 0, 100)
    assert stopped < 100


def test_a_study_runs_them_on_its_folds(tmp_path: Path) -> None:
    peaks().save(tmp_path / "set.h5")
    plan = replace(PRESETS["small"], baselines=("cnn:b",), folds=2)
    assert next(t.epochs for t in plan.screening() if t.method == "cnn:b") == published.RECIPES["b"].epochs
    task = Task("screen", "cnn:b", "", 2, 0, 0)
    row = work.perform(task, plan, str(tmp_path / "set.h5"), data_digest(peaks()))
    assert (row["status"], row["epochs_run"], row["n"]) == ("complete", 2, 24)
    assert row["answers"].logits.shape == (24, 3)
