"""A dynamic weighting strategy that a test makes up."""

from __future__ import annotations

from collections.abc import Callable

import torch
from libsedge_training import weighting
from libsedge_training.weighting.dynamic import Batch, Dynamic
from libsedge_training.weighting.train_part import TrainPart


class Own(weighting.FAMILIES["focal"]):  # type: ignore[name-defined, misc]
    """The strategy of a function of the step and of the calls so far, under the name of one that exists."""

    def __init__(self, update: Callable[[Batch, list[int]], torch.Tensor]) -> None:
        object.__setattr__(self, "_update", update)

    def start(self, train: TrainPart, seed: int) -> Dynamic:
        calls: list[int] = []
        update = self._update

        class Run(Dynamic):
            def update(self, batch: Batch) -> torch.Tensor:
                calls.append(1)
                found: torch.Tensor = update(batch, calls)
                return found

        return Run()
