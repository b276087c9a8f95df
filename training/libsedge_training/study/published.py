"""Two published LIBS CNNs as baselines, written anew in torch from what their authors describe.

* `cnn:a`, litong96/LIBS-CNN, `1dcnn_final.py` (commit 1331058): convolutions over the spectrum, 1-16-32-64 channels
  of 5, 5 and 3 points, each with batch normalisation, ReLU and a pool of 2; 256 units, dropout 0.5. Adam 1e-4, weight
  decay 1e-4, batches of 64, classes balanced by weights, rate halved after 10 epochs without a lower validation loss,
  at most 1000 epochs, stopped after 50. Half of the spectra get noise of 0.002, a factor of 0.95 to 1.05 and a shift
  of up to 3 points.
* `cnn:b`, chhoumann/thesis-chemcam, appendix "Summary of the CNN architecture" (commit 042f6d7): 6,144 points as a
  picture of 48 x 128; convolutions of 3 x 3 with 32, 32, 64 and 128 channels, ReLU, batch normalisation, a pool of
  2 x 2; 256 units, dropout 0.5, L2 of 0.01 on the last layer. Adam 1e-3. It was made for oxide contents; here its
  outputs are classes. Its epochs and batches are not in that table: batches of 64, stopped after 20 epochs without a
  lower validation loss (ours). A grid of fewer points is filled up with zeros.

Both see the preprocessed spectra that our nets see. As `cnn:a`'s authors do, they stop by a validation part of other
specimens, and so learn from fewer specimens than the other baselines.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

BATCH = 64
#: the picture of `cnn:b`
PICTURE = (48, 128)


def _net_a(points: int, classes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs, kernel in ((1, 16, 5), (16, 32, 5), (32, 64, 3)):
        layers += [
            nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2),
            nn.BatchNorm1d(outputs),
            nn.ReLU(),
            nn.MaxPool1d(2),
        ]
    head = (nn.Linear(64 * (points // 8), 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, classes))
    return nn.Sequential(nn.Unflatten(1, (1, points)), *layers, nn.Flatten(), *head)


def _net_b(points: int, classes: int) -> nn.Sequential:
    rows, columns = PICTURE
    layers: list[nn.Module] = []
    for inputs, outputs in ((1, 32), (32, 32), (32, 64), (64, 128)):
        layers += [
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.ReLU(),
            nn.BatchNorm2d(outputs),
            nn.MaxPool2d(2),
        ]
    head = (nn.Linear(128 * rows * columns // 256, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, classes))
    fill = nn.ConstantPad1d((0, rows * columns - points), 0.0)
    return nn.Sequential(fill, nn.Unflatten(1, (1, rows, columns)), *layers, nn.Flatten(), *head)


def _varied(x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """`cnn:a`'s variation of a batch [n, points]."""
    used = torch.rand(len(x), generator=rng) < 0.5
    factor = 0.95 + 0.1 * torch.rand((len(x), 1), generator=rng)
    varied = (x + 0.002 * torch.randn(x.shape, generator=rng)) * factor
    shifts = torch.randint(-3, 4, (len(x),), generator=rng)
    at = torch.arange(x.shape[1])[None] - shifts[:, None]
    inside = (at >= 0) & (at < x.shape[1])
    varied = torch.gather(varied, 1, at.clamp(0, x.shape[1] - 1)) * inside
    return torch.where(used[:, None], varied, x)


@dataclass(frozen=True)
class Recipe:
    """How a published net is made and trained; `epochs` at most, stopped after `patience` without a lower loss."""

    net: Callable[[int, int], nn.Sequential]
    lr: float
    epochs: int
    patience: int
    weight_decay: float = 0.0
    last_l2: float = 0.0
    balanced: bool = False
    halved_after: int | None = None
    vary: Callable[[torch.Tensor, torch.Generator], torch.Tensor] = lambda x, rng: x


RECIPES = {
    "a": Recipe(_net_a, 1e-4, 1000, 50, weight_decay=1e-4, balanced=True, halved_after=10, vary=_varied),
    "b": Recipe(_net_b, 1e-3, 1000, 20, last_l2=0.01),
}


def learn(
    name: str,
    x: np.ndarray,
    y: np.ndarray,
    held: np.ndarray,
    held_y: np.ndarray,
    classes: int,
    seed: int,
    epochs: int | None = None,
) -> tuple[nn.Sequential, int]:
    """(the net at its lowest validation loss, how many epochs it took), in eval mode.

    x, held float32 [n, points] preprocessed; y, held_y class numbers; epochs : at most these, where the
    recipe has more. Call it under `fit.torch_settings`, which seeds the first weights.
    """
    recipe = RECIPES[name]
    net, rng = recipe.net(x.shape[1], classes), torch.Generator().manual_seed(seed)
    weight = None
    if recipe.balanced:
        counts = torch.from_numpy(np.bincount(y, minlength=classes)).float()
        weight = len(y) / (classes * counts)
    judge = nn.CrossEntropyLoss(weight)
    optimizer = torch.optim.Adam(net.parameters(), recipe.lr, weight_decay=recipe.weight_decay)
    schedule = (
        torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=recipe.halved_after)
        if recipe.halved_after is not None
        else None
    )
    spectra, target = torch.from_numpy(x), torch.from_numpy(y)
    last = next(net[-1].parameters())
    best, kept, since, done = float("inf"), copy.deepcopy(net.state_dict()), 0, 0
    for _ in range(min(recipe.epochs, epochs or recipe.epochs)):
        net.train()
        for rows in torch.randperm(len(spectra), generator=rng).split(BATCH):
            if len(rows) < 2:
                continue  # batch normalisation needs two
            loss = judge(net(recipe.vary(spectra[rows], rng)), target[rows])
            loss = loss + recipe.last_l2 * last.square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        done += 1
        value = float(judge(logits(net, held), torch.from_numpy(held_y)))
        if schedule is not None:
            schedule.step(value)
        since += 1
        if value < best:
            best, kept, since = value, copy.deepcopy(net.state_dict()), 0
        if since >= recipe.patience:
            break
    net.load_state_dict(kept)
    return net.eval(), done


def logits(net: nn.Module, x: np.ndarray) -> torch.Tensor:
    """Logits float32 [n, classes] in eval mode."""
    net.eval()
    with torch.no_grad():
        return torch.cat([net(part) for part in torch.from_numpy(x).split(256)])
