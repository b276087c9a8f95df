"""Weights learnt from what helps on other specimens, through the last layer only.

With residuals r_i = softmax(z_i) - onehot(y_i) and features h_i, the gradient of CE_i for the last layer is
r_i h_i^T (and r_i for the bias): no second pass through the net is needed. Both strategies judge a spectrum by
OTHER specimens of the same batch, so that neither validation nor test specimens have a say and no specimen
has to be kept from training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from .base import Strategy, options
from .cc_bcd import CcBcd
from .dynamic import Batch, Dynamic, mean_one, numbered, same_shape
from .train_part import TrainPart


def _balanced(group: torch.Tensor) -> torch.Tensor:
    """1 / size of its group, for each member: every group has the same say."""
    return 1 / torch.bincount(group).float()[group]


@dataclass(frozen=True)
class L2rw(Strategy):
    """Learning to reweight on the last layer: w_i ~ max(u_i, 0), u_i = <grad CE_i, grad L_other(i)>.

    Ren, Zeng, Yang and Urtasun, ICML 2018 (arXiv 1803.09050), algorithm 1: u_i is minus the derivative of the
    meta loss for the weight of spectrum i after one step. Ours: last layer only, so that
    <grad CE_i, grad CE_j> = (r_i . r_j)(h_i . h_j + 1); the meta loss of i is the mean loss of the batch's
    spectra of other specimens, every distance with the same say, instead of a clean set of its own; mean 1
    within the batch, all 1 where no u_i is positive.
    """

    family: ClassVar[str] = "l2rw"
    summary: ClassVar[str] = "learning to reweight, last layer: agreement with other specimens' gradients"
    examples: ClassVar[tuple[str, ...]] = ("l2rw",)

    @classmethod
    def parse(cls, parts: Sequence[str]) -> L2rw:
        options(cls.family, parts, {})
        return cls()

    @property
    def name(self) -> str:
        return self.family

    @property
    def parameters(self) -> dict[str, Any]:
        return {}

    def fit(self, train: TrainPart) -> np.ndarray:
        train.known_distances(self.name)
        return np.ones(len(train))

    def start(self, train: TrainPart, seed: int) -> Dynamic:
        return _L2rwRun(numbered(train.specimen), numbered(train.known_distances(self.name)))


class _L2rwRun(Dynamic):
    def __init__(self, specimen: torch.Tensor, distance: torch.Tensor) -> None:
        self.specimen, self.distance = specimen, distance

    def update(self, batch: Batch) -> torch.Tensor:
        specimen, r = self.specimen[batch.rows], batch.residual
        alike = (r @ r.T) * (batch.features @ batch.features.T + 1)
        judges = (specimen[:, None] != specimen[None, :]) * _balanced(self.distance[batch.rows])[None, :]
        return mean_one(((alike * judges).sum(1) / judges.sum(1).clamp(min=1e-9)).clamp(min=0))


@dataclass(frozen=True)
class MwNet(Strategy):
    """Meta-Weight-Net: w_i = V(CE_i, d_i, CC_i, BCD_i; theta), a small net that is learnt beside the classifier.

    Shu et al., NeurIPS 2019 (arXiv 1902.07379): V is an MLP with 100 ReLU units and a sigmoid; a virtual step
    of the classifier with the weights V, then theta follows the gradient of the meta loss after that step
    (Adam, lr, weight decay 1e-4), then the real step. Ours: V sees distance, CC and BCD (to the class mean,
    `cc-bcd:...:r1`) beside the loss, all scaled to standard deviation 1; the virtual step (size a) is one of
    the last layer only; the specimens of a batch are dealt into two halves at random, one takes the step, the
    other is the meta set, every distance with the same say; weights have mean 1 within the batch.
    """

    lr: float = 1e-3
    a: float = 0.1

    family: ClassVar[str] = "mw-net"
    summary: ClassVar[str] = "Meta-Weight-Net, last layer: a learnt function of loss, distance, CC and BCD"
    examples: ClassVar[tuple[str, ...]] = ("mw-net:lr=0.001:a=0.1",)

    @classmethod
    def parse(cls, parts: Sequence[str]) -> MwNet:
        return cls(**options(cls.family, parts, {"lr": (1e-6, 1.0), "a": (1e-6, 100.0)}))

    @property
    def name(self) -> str:
        return f"{self.family}:lr={self.lr:g}:a={self.a:g}"

    @property
    def parameters(self) -> dict[str, Any]:
        return {"lr": self.lr, "a": self.a}

    def fit(self, train: TrainPart) -> np.ndarray:
        train.known_distances(self.name)
        return np.ones(len(train))

    def start(self, train: TrainPart, seed: int) -> Dynamic:
        return _MwNetRun(self, train, seed)


class _MwNetRun(Dynamic):
    def __init__(self, strategy: MwNet, train: TrainPart, seed: int) -> None:
        self.a = strategy.a
        metres = train.known_distances(strategy.name) / 1000
        known = np.stack([metres, *CcBcd("w3", "r1").measures(train)], axis=1)
        spread = known.std(axis=0)
        known = (known - known.mean(axis=0)) / np.where(spread > 0, spread, 1)
        self.known = torch.from_numpy(known.astype(np.float32))
        self.specimen, self.distance = numbered(train.specimen), numbered(train.known_distances(""))
        self.rng = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):  # the classifier's first weights stay those of `equal`
            torch.manual_seed(seed)
            self.net = nn.Sequential(nn.Linear(4, 100), nn.ReLU(), nn.Linear(100, 1), nn.Sigmoid())
        self.adam = torch.optim.Adam(self.net.parameters(), lr=strategy.lr, weight_decay=1e-4)

    def _weights(self, batch: Batch) -> torch.Tensor:
        inputs = torch.cat([batch.losses[:, None], self.known[batch.rows]], dim=1)
        v: torch.Tensor = self.net(inputs)[:, 0]
        return v

    def update(self, batch: Batch) -> torch.Tensor:
        names, member = torch.unique(self.specimen[batch.rows], return_inverse=True)
        taken = torch.randperm(len(names), generator=self.rng)[: len(names) // 2]
        learns = torch.isin(member, taken)
        if bool(learns.any()) and not bool(learns.all()):
            v = self._weights(batch)[learns]
            step = (v / v.mean().clamp(min=1e-9))[:, None] * batch.residual[learns] / len(v)
            weight = batch.weight - self.a * step.T @ batch.features[learns]
            bias = batch.bias - self.a * step.sum(0)
            judge = ~learns
            after = nn.functional.linear(batch.features[judge], weight, bias)
            loss = nn.functional.cross_entropy(after, batch.target[judge], reduction="none")
            say = _balanced(self.distance[batch.rows[judge]])
            self.adam.zero_grad()
            ((loss * say).sum() / say.sum()).backward()
            self.adam.step()
        with torch.no_grad():
            return mean_one(self._weights(batch))

    def state(self) -> dict[str, torch.Tensor]:
        found = {f"net.{k}": t.detach().clone() for k, t in self.net.state_dict().items()}
        for number, slots in self.adam.state_dict()["state"].items():
            found |= {f"adam.{number}.{slot}": t.detach().clone() for slot, t in slots.items()}
        return found | {"rng": self.rng.get_state()}

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        mine = {k: t for k, t in self.state().items() if not k.startswith("adam.")}
        same_shape({k: t for k, t in state.items() if not k.startswith("adam.")}, mine)
        self.net.load_state_dict({k[4:]: t for k, t in state.items() if k.startswith("net.")})
        self.rng.set_state(state["rng"])
        slots: dict[int, dict[str, torch.Tensor]] = {}
        for key, t in state.items():
            if key.startswith("adam."):
                _, number, slot = key.split(".")
                slots.setdefault(int(number), {})[slot] = t.clone()
        self.adam.load_state_dict({**self.adam.state_dict(), "state": slots})
