"""Weighting strategies by name; `base.py` and `dynamic.py` hold the contract, a file holds a strategy."""

from __future__ import annotations

from libsedge.errors import ConfigError

from .base import Strategy
from .cc_bcd import CcBcd
from .controls import ClassMean, DistanceMean, Permuted
from .distance import Distance
from .equal import Equal
from .focal import Focal
from .groups import GroupDro, VRex
from .jtt import Jtt
from .lisa import Lisa
from .meta import L2rw, MwNet
from .per_distance import PerDistance
from .train_part import TrainPart
from .virtual import Virtual

#: family -> class; a new strategy is one file and one row here
FAMILIES: dict[str, type[Strategy]] = {
    cls.family: cls
    for cls in (
        Equal,
        Distance,
        CcBcd,
        PerDistance,
        GroupDro,
        VRex,
        Focal,
        Jtt,
        Lisa,
        L2rw,
        MwNet,
        Virtual,
        Permuted,
        DistanceMean,
        ClassMean,
    )
}


def strategy(name: str) -> Strategy:
    """The strategy called `name`, such as "equal", "distance:p=2" or "cc-bcd:w3:r1:a=8:b=8".

    ConfigError names an unknown family, formula, reference, parameter or a value out of range.
    """
    family, *parts = name.split(":")
    if family not in FAMILIES:
        raise ConfigError(f"no such strategy; known: {', '.join(FAMILIES)}", field="weighting", value=name)
    return FAMILIES[family].parse(parts)


def listed() -> tuple[str, ...]:
    """Example names of every family, all of them held to the contract by the tests."""
    return tuple(name for cls in FAMILIES.values() for name in cls.examples)


__all__ = ["FAMILIES", "Strategy", "TrainPart", "listed", "strategy"]
