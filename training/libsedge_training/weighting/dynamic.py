"""The contract of a dynamic strategy: weights that follow the net while it learns.

`Strategy.start(train, seed)` returns a `Dynamic`, the state of one run. In every step the training loop calls

1. `mix(x, rows, rng)`: the spectra of the batch, changed or not; labels are never changed;
2. `update(batch) -> weights`: float32 [b] for the rows of the batch, from the losses of this very forward
   pass. The loss that is minimised is `mean(w_i * CE_i)`, the weights being constants in it;

and after the last step of an epoch `end_epoch(number)`. Weights are finite, not negative (unless the strategy
is `signed`) and of mean 1 over every epoch (to 1e-4), so that a strategy cannot win by a larger step.
Nothing is seen but the training part. The only sources of randomness are `rng` (the loop's) and generators of
its own that `state` holds: `state` and `load` carry everything the next step depends on, so that an
interrupted run ends with the same bytes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from .train_part import TrainPart


@dataclass(frozen=True, eq=False)
class Batch:
    """One step as a dynamic strategy sees it; no tensor has a gradient; they hold during `update` only.

    rows : int64 [b], rows of the training part. target : int64 [b], class numbers. losses : float32 [b],
    cross-entropy. logits : float32 [b, classes]. features : float32 [b, f], what enters the last layer (after
    dropout). weight, bias : the last layer's, float32 [classes, f] and [classes]. epoch : from 1.
    """

    rows: torch.Tensor
    target: torch.Tensor
    losses: torch.Tensor
    logits: torch.Tensor
    features: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor
    epoch: int

    @property
    def residual(self) -> torch.Tensor:
        """d CE_i / d logits_i = softmax(logits_i) - onehot(y_i), float32 [b, classes]."""
        p = torch.softmax(self.logits, dim=1)
        return p - torch.nn.functional.one_hot(self.target, p.shape[1]).to(p.dtype)


class Dynamic(ABC):
    """The state of one run; see this module's text for the contract."""

    def mix(self, x: torch.Tensor, rows: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        """Spectra float32 [b, points] of the rows `rows`, as they are or changed."""
        return x

    @abstractmethod
    def update(self, batch: Batch) -> torch.Tensor:
        """Weights float32 [b] of the batch's rows."""

    def end_epoch(self, number: int) -> None:  # noqa: B027 (a hook that may stay empty)
        """After the last step of epoch `number` (from 1)."""

    def state(self) -> dict[str, torch.Tensor]:
        """Everything that the next step depends on; {} where that is nothing."""
        return {}

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Inverse of `state`; KeyError, ValueError or RuntimeError where it is another strategy's."""
        if state:
            raise ValueError(f"has a state: {', '.join(sorted(state))}")


def numbered(column: np.ndarray) -> torch.Tensor:
    """int64 [n]: which of the sorted distinct values of `column` each one is."""
    return torch.from_numpy(np.unique(column, return_inverse=True)[1].astype(np.int64))


#: how rows are put into groups, by the name used in strategies' names
GROUPS = ("distance", "class-distance")


def grouped(kind: str, train: TrainPart, why: str) -> torch.Tensor:
    """Group number of every row, int64 [n], 0 ... groups - 1; DatasetError where a distance is unknown."""
    distance = numbered(train.known_distances(why))
    if kind == "distance":
        return distance
    pairs = numbered(train.label) * (int(distance.max()) + 1) + distance
    return numbered(pairs.numpy())


def group_means(values: torch.Tensor, group: torch.Tensor, groups: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(mean of `values` [b] in every group, 0 where it is empty; members), float32 [groups] each."""
    count = torch.zeros(groups).index_add_(0, group, torch.ones_like(values))
    total = torch.zeros(groups).index_add_(0, group, values)
    return total / count.clamp(min=1), count


def mean_one(raw: torch.Tensor) -> torch.Tensor:
    """Raw weights [b] (not negative) of mean 1; all 1 where their sum is 0."""
    mean = raw.mean()
    return raw / mean if float(mean) > 0 else torch.ones_like(raw)


def same_shape(state: Mapping[str, torch.Tensor], mine: Mapping[str, torch.Tensor]) -> None:
    """ValueError where `state` has other names or shapes than `mine`."""
    want, got = ({k: tuple(t.shape) for k, t in d.items()} for d in (mine, state))
    if want != got:
        raise ValueError(f"the strategy's state is {got}, expected {want}")
