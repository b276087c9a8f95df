"""Every spectrum counts the same: the control that every other strategy is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .base import Strategy, options
from .train_part import TrainPart


@dataclass(frozen=True)
class Equal(Strategy):
    """w_i = 1."""

    family: ClassVar[str] = "equal"
    summary: ClassVar[str] = "every spectrum weighs 1 (the control)"
    examples: ClassVar[tuple[str, ...]] = ("equal",)

    @classmethod
    def parse(cls, parts: Sequence[str]) -> Equal:
        options(cls.family, parts, {})
        return cls()

    @property
    def name(self) -> str:
        return self.family

    @property
    def parameters(self) -> dict[str, Any]:
        return {}

    def fit(self, train: TrainPart) -> np.ndarray:
        return np.ones(len(train))
