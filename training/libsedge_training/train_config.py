"""Everything that a training run depends on besides the data."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from libsedge.errors import ConfigError

from . import weighting
from .augment import Augmentation
from .model import net_spec


@dataclass(frozen=True)
class TrainConfig:
    """Everything a run depends on besides the data. Adam with cosine decay of `lr` to 0 over all steps; L2
    `weight_decay`. qat : the last epochs, so many, with the int8 export's rounding in the net (`qat.py`).
    """

    net: str = "m"
    weighting: str = "equal"
    epochs: int = 40
    patience: int = 8
    batch: int = 64
    lr: float = 1e-3
    weight_decay: float = 1e-4
    seed: int = 0
    test_specimens: int = 9
    validation_specimens: int | None = None
    qat: int = 0
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        for name, low in (("epochs", 1), ("patience", 1), ("batch", 2), ("seed", 0)):
            if getattr(self, name) < low:
                raise ConfigError(f"must be at least {low}", field=name, value=getattr(self, name))
        if not 0 <= self.qat <= self.epochs:
            raise ConfigError(f"must be 0 ... {self.epochs} (epochs)", field="qat", value=self.qat)
        if not 0 < self.lr < math.inf:
            raise ConfigError("must be positive", field="lr", value=self.lr)
        if not 0 <= self.weight_decay < math.inf:
            raise ConfigError("must not be negative", field="weight_decay", value=self.weight_decay)
        net_spec(self.net)
        weighting.strategy(self.weighting)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TrainConfig:
        """Inverse of `to_json`; ConfigError names what is wrong."""
        try:
            varied = dict(data["augmentation"])
            varied["gaps"] = tuple((float(low), float(high)) for low, high in varied["gaps"])
            return cls(**{**data, "augmentation": Augmentation(**varied)})
        except (KeyError, TypeError, ValueError) as wrong:
            raise ConfigError(f"not a training configuration: {wrong}", field="config") from wrong

    def to_json(self) -> dict[str, Any]:
        """JSON-able dict, tuples as lists; the weighting by its canonical name."""
        named = replace(self, weighting=weighting.strategy(self.weighting).name)
        return dict(json.loads(json.dumps(asdict(named))))
