"""Virtual specimens: training spectra as they would be with another composition of their class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from libsedge_training.virtual import Variation, gain_fields

from .base import Strategy, options
from .dynamic import Batch, Dynamic
from .train_part import TrainPart


@dataclass(frozen=True)
class Virtual(Strategy):
    """With probability p: x_i^2 <- x_i^2 exp(G_sj), then every grid segment back to the sum that it had; s is the
    specimen of x_i, j one of its `n` virtual compositions, G_sj the ln ratio of virtual to real radiance.

    Ours (`libsedge_training/virtual.py` says how compositions are drawn and what they may know). All weights are 1:
    the competitor that weights have to beat, as `lisa` is. `foreign`, `sigma`, `states` and `zones` are
    `virtual.Variation`'s.
    `wrong=1` is its control: every specimen gets the gain fields of one of another class, so that spectra vary as
    much, in ways that are not its class's.
    """

    n: int = 16
    p: float = 0.8
    foreign: float = 0.8
    sigma: float = 1.0
    states: float = 0.0
    zones: bool = False
    wrong: bool = False

    family: ClassVar[str] = "virtual"
    summary: ClassVar[str] = (
        "virtual specimens: other compositions of the class, by the plasma model; all weights 1"
    )
    examples: ClassVar[tuple[str, ...]] = (
        "virtual:n=16:p=0.8:foreign=0.8:sigma=1",
        "virtual:n=16:p=0.8:foreign=0.8:sigma=1:wrong=1",
    )
    mixes: ClassVar[bool] = True

    @classmethod
    def parse(cls, parts: Sequence[str]) -> Virtual:
        allowed = {
            "n": (1.0, 1000.0),
            "p": (0.0, 1.0),
            "foreign": (0.0, 1.0),
            "sigma": (0.0, 3.0),
            "states": (0.0, 2.0),
            "zones": (0.0, 1.0),
            "wrong": (0.0, 1.0),
        }
        found: dict[str, Any] = options(cls.family, parts, allowed, whole=("n", "zones", "wrong"))
        if "n" in found:
            found["n"] = int(found["n"])
        for switch in ("zones", "wrong"):
            found[switch] = found.get(switch, 0.0) == 1
        return cls(**found)

    @property
    def name(self) -> str:
        end = f":states={self.states:g}" if self.states else ""
        end += ":zones=1" if self.zones else ""
        end += ":wrong=1" if self.wrong else ""
        return f"{self.family}:n={self.n}:p={self.p:g}:foreign={self.foreign:g}:sigma={self.sigma:g}{end}"

    @property
    def parameters(self) -> dict[str, Any]:
        return {
            "n": self.n,
            "p": self.p,
            "foreign": self.foreign,
            "sigma": self.sigma,
            "states": self.states,
            "zones": self.zones,
            "wrong": self.wrong,
        }

    def fit(self, train: TrainPart) -> np.ndarray:
        return np.ones(len(train))

    def start(self, train: TrainPart, seed: int) -> Dynamic:
        return _VirtualRun(self, train)


class _VirtualRun(Dynamic):
    """Gain fields are computed before the first step that asks for them, once a process and set of specimens."""

    def __init__(self, strategy: Virtual, train: TrainPart) -> None:
        self.strategy, self.train = strategy, train
        self.pairs = tuple(
            sorted({(str(s), str(k)) for s, k in zip(train.specimen, train.label, strict=True)})
        )
        place = {name: i for i, (name, _) in enumerate(self.pairs)}
        self.at = torch.tensor([place[str(name)] for name in train.specimen])
        self.factor: torch.Tensor | None = None

    def _factors(self) -> torch.Tensor:
        """Factors of the square-root signal, float32 [specimens, n, points]."""
        s = self.strategy
        how = Variation(sigma=s.sigma, foreign=s.foreign, states=s.states, zones=s.zones)
        fields = gain_fields(self.pairs, tuple(self.train.grid()), self.strategy.n, how)
        if self.strategy.wrong:
            fields = fields[_strangers([label for _, label in self.pairs])]
        return torch.from_numpy(np.exp(fields / 2))

    def mix(self, x: torch.Tensor, rows: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        if self.factor is None:
            self.factor = self._factors()
        which = torch.randint(self.strategy.n, (len(rows),), generator=rng)
        used = torch.rand(len(rows), generator=rng) < self.strategy.p
        varied = x * self.factor[self.at[rows], which]
        parts = [segment.channels for segment in self.train.grid()]
        for was, now in zip(x.split(parts, dim=1), varied.split(parts, dim=1), strict=True):
            now *= torch.sqrt(was.square().sum(1) / now.square().sum(1).clamp(min=1e-12))[:, None]
        return torch.where(used[:, None], varied, x)

    def update(self, batch: Batch) -> torch.Tensor:
        return torch.ones(len(batch.rows))


def _strangers(labels: Sequence[str]) -> np.ndarray:
    """For every specimen the number of one of another class, int64 [n]; each class hands its own to the next."""
    classes = sorted(set(labels))
    of = {k: [i for i, label in enumerate(labels) if label == k] for k in classes}
    following = dict(zip(classes, classes[1:] + classes[:1], strict=True))
    seen = dict.fromkeys(classes, 0)
    found = []
    for label in labels:
        others = of[following[label]]
        found.append(others[seen[label] % len(others)])
        seen[label] += 1
    return np.array(found)
