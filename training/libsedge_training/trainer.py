"""The one training loop, in memory: epochs over preprocessed spectra.

The spectra are varied anew in every epoch (`augment.py`), and the loss of a batch is `mean(w_i * CE_i)` with the
weights of a strategy (`weighting/`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from libsedge.errors import ConfigError, RunError
from libsedge.preprocess import PreprocessConfig
from torch import nn

from . import distributed, qat, weighting
from .augment import Augmenter
from .model import NetSpec, SpectrumNet, build
from .train_config import TrainConfig
from .weighting.dynamic import Batch

_BLOCK = 256


def weighted_loss(
    logits: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor,
    mean: Callable[[torch.Tensor], torch.Tensor] = torch.mean,
) -> torch.Tensor:
    """mean(w_i * CE_i) over the batch: divided by the number of spectra, not by the sum of the weights."""
    return mean(weight * nn.functional.cross_entropy(logits, target, reduction="none"))


@contextmanager
def torch_settings(seed: int, threads: int | None) -> Iterator[None]:
    """Seeded, deterministic, `threads` threads; everything as before afterwards."""
    if threads is not None and threads < 1:
        raise ConfigError("must be at least 1", field="threads", value=threads)
    old_threads, old_mode = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True)
        if threads is not None:
            torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(old_mode)
            torch.set_num_threads(old_threads)


@dataclass(frozen=True, eq=False)
class Parts:
    """Spectra preprocessed and split, ready to be trained on.

    target : class numbers of `train`, int64 [n]. held, held_target : the validation part, float32 [m, points]
    and int64 [m]. grid_mask : bool [points], the points that the instrument sees. classes : how many.
    """

    train: weighting.TrainPart
    target: np.ndarray
    held: np.ndarray
    held_target: np.ndarray
    steps: PreprocessConfig
    grid_mask: np.ndarray
    classes: int


class Trainer:
    """Epochs over `Parts`, in memory; `train` puts a run folder around it.

    Call it under `torch_settings`. `history` holds the epochs' records, `best` and `best_rounding` the tensors
    and the rounding of the epoch with the best validation figures. Raises RunError where a loss is not finite.
    """

    def __init__(self, config: TrainConfig, spec: NetSpec, parts: Parts) -> None:
        self.config, self.part, self.classes = config, parts.train, parts.classes
        strategy = weighting.strategy(config.weighting)
        self.x, self.y = torch.from_numpy(parts.train.values), torch.from_numpy(parts.target)
        self.fitted = strategy.fit(parts.train)
        self.w = torch.from_numpy(self.fitted.astype(np.float32))
        self.dynamic = strategy.start(parts.train, config.seed)
        self.held_x, self.held_y = torch.from_numpy(parts.held), torch.from_numpy(parts.held_target)
        self.augment = Augmenter(config.augmentation, parts.steps.segments, parts.grid_mask)
        self.rng = torch.Generator().manual_seed(config.seed)
        self.net: SpectrumNet = build(spec, parts.steps.points, parts.classes)
        self.ranks = distributed.ranks()
        self.forward = self.ranks.wrap(self.net)
        self.features = torch.empty(0)
        if self.dynamic is not None:
            self.net.dense.register_forward_pre_hook(self._keep_features)
        self.optimizer = torch.optim.Adam(
            self.net.parameters(), lr=config.lr, weight_decay=config.weight_decay
        )
        self.steps_per_epoch = math.ceil(len(self.x) / config.batch)
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, torch.Tensor] = {}
        self.best_rounding: qat.Rounding | None = None

    def _keep_features(self, layer: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        self.features = inputs[0].detach()

    def epoch(self, advance: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """One more epoch and its validation; `advance` is called after every step. Returns its record."""
        number, total = len(self.history) + 1, self.config.epochs
        begin = time.perf_counter()
        if number > total - self.config.qat:
            self.net.rounding = qat.rounding(self.net, self.part.values)
        self.net.train()
        order = torch.randperm(len(self.x), generator=self.rng)
        summed = 0.0
        for step, rows in enumerate(order.split(self.config.batch)):
            done = (number - 1) * self.steps_per_epoch + step
            lr = self.config.lr * 0.5 * (1 + math.cos(math.pi * done / (self.steps_per_epoch * total)))
            for group in self.optimizer.param_groups:
                group["lr"] = lr
            x = self.x[rows]
            if self.dynamic is not None:
                x = self.dynamic.mix(x, rows, self.rng)
            mine = self.ranks.share(len(rows))
            logits = self.forward(self.augment(x, self.rng)[mine])
            if self.dynamic is not None:
                self.w[rows] = self._asked(rows, self.ranks.whole(logits.detach(), len(rows)), number)
            loss = weighted_loss(logits, self.y[rows][mine], self.w[rows][mine], self.ranks.mean)
            value = self.ranks.total(loss)
            if not math.isfinite(value):
                self._diverged(number, value)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            summed += value * len(rows)
            advance()
        if self.dynamic is not None:
            self.dynamic.end_epoch(number)
        record: dict[str, Any] = {"epoch": number, "train_loss": summed / len(self.x), "lr": lr}
        record |= self._validate(number)
        record["seconds"] = round(time.perf_counter() - begin, 3)
        self.history.append(record)
        if self._best_record() is record:
            self.best = {name: t.detach().clone() for name, t in self.net.state_dict().items()}
            self.best_rounding = self.net.rounding
        return record

    def _asked(self, rows: torch.Tensor, logits: torch.Tensor, number: int) -> torch.Tensor:
        """The dynamic strategy's weights for this step; all 1 where a loss is not finite."""
        assert self.dynamic
        losses = nn.functional.cross_entropy(logits, self.y[rows], reduction="none")
        if not bool(torch.isfinite(losses).all()):
            return torch.ones_like(losses)
        last = self.net.dense
        batch = Batch(
            rows,
            self.y[rows],
            losses,
            logits,
            self.ranks.whole(self.features, len(rows)),
            last.weight.detach(),
            last.bias.detach(),
            number,
        )
        return self.dynamic.update(batch)

    def _validate(self, number: int) -> dict[str, float]:
        """Unweighted mean cross-entropy and balanced accuracy (mean recall of the classes) of the
        validation part.
        """
        logits = predict(self.net, self.held_x)
        loss = float(nn.functional.cross_entropy(logits.double(), self.held_y))
        if not math.isfinite(loss):
            self._diverged(number, loss)
        hit = (logits.argmax(1) == self.held_y).double()
        recalls = [float(hit[self.held_y == c].mean()) for c in range(self.classes)]
        return {"validation_loss": loss, "validation_accuracy": sum(recalls) / len(recalls)}

    def _best_record(self) -> dict[str, Any]:
        """Of the epochs with rounding, once there are any: the net before them is not the one that they train."""
        found = self.history[self.config.epochs - self.config.qat :] or self.history
        return max(found, key=lambda r: (r["validation_accuracy"], -r["validation_loss"], -r["epoch"]))

    def _diverged(self, epoch: int, loss: float) -> None:
        raise RunError(f"the loss became {loss} in epoch {epoch}; try a smaller --lr", field="loss")

    def state(self) -> dict[str, torch.Tensor]:
        """What a checkpoint holds of a dynamic strategy; {} for a static one."""
        if self.dynamic is None:
            return {}
        return {"weights": self.w} | {f"own.{name}": t for name, t in self.dynamic.state().items()}

    def load(self, state: dict[str, torch.Tensor]) -> None:
        """Inverse of `state`; KeyError, ValueError or RuntimeError where it is another strategy's."""
        if self.dynamic is not None:
            self.w.copy_(state["weights"])
            self.dynamic.load({name[4:]: t for name, t in state.items() if name.startswith("own.")})


def predict(net: SpectrumNet, x: torch.Tensor) -> torch.Tensor:
    """Logits float32 [n, classes] in eval mode for preprocessed spectra float32 [n, points]; the mode is
    put back.
    """
    was = net.training
    net.eval()
    with torch.no_grad():
        logits = torch.cat([net(x[start : start + _BLOCK]) for start in range(0, len(x), _BLOCK)])
    net.train(was)
    return logits
