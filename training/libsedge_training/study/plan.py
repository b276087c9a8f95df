"""What a study runs: methods, stages, tasks; everything that decides its rows, and nothing else."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from libsedge.errors import ConfigError

from libsedge_training import weighting
from libsedge_training.augment import Augmentation
from libsedge_training.model import Block, NetSpec, net_spec
from libsedge_training.weighting.cc_bcd import EXPONENTS, FORMULAS, REFERENCES

from .baselines import BASELINES, KNOWN, NETS, is_baseline, method_of
from .divide import FOLDS, NAMES, Division
from .published import RECIPES

EQUAL = "equal"
#: "equal" with more epochs, as the control "more steps": `equal*2`
MORE = "equal*2"
#: one instrument, no gaps: less is varied than in `libsedge train`, whose nets meet other instruments
AUGMENTATION = Augmentation(shift_nm=0.1, noise=0.02, gap_probability=0.0)
CONTROLS = ("permuted", "distance-mean", "class-mean")
#: the screening net: `medium` on bins of 3, where a third of its first kernel and stride does the same
SCREEN = NetSpec(
    "screen",
    (Block(16, 9, stride=3, padding=4), Block(32, 5, stride=3, padding=2), Block(32, 3, stride=2, padding=1)),
    head="dense",
    hidden=64,
    points=1800,
)


def spec_of(net: str) -> NetSpec:
    """The study's own screening net, or one of `model.NETS`."""
    return SCREEN if net == SCREEN.name else net_spec(net)


@dataclass(frozen=True)
class Stage:
    """How the runs of one stage are trained: all of them the same number of epochs, the last one kept, so that
    every method takes the same number of steps and nothing is chosen by the few validation specimens of a fold.
    """

    net: str
    epochs: int
    seeds: int

    def __post_init__(self) -> None:
        spec_of(self.net)
        for name in ("epochs", "seeds"):
            if not 1 <= getattr(self, name) <= 1000:
                raise ConfigError("must be 1 ... 1000", field=name, value=getattr(self, name))


@dataclass(frozen=True)
class Task:
    """One run. `method` is a strategy's name, `equal*2` or a baseline's; `net` is "" for a baseline. `split`, a name of
    `divide.py`, says what fold `fold` of seed `seed` is.
    """

    stage: str
    method: str
    net: str
    epochs: int
    seed: int
    fold: int
    split: str = FOLDS

    @property
    def key(self) -> str:
        """Name of the row's file, the same in every session."""
        split, method = (re.sub(r"[^a-z0-9.=-]+", "_", name) for name in (self.split, self.method))
        return f"{split}-{self.stage}-{method}-seed{self.seed}-fold{self.fold}"


@dataclass(frozen=True)
class Plan:
    """A study. `finalists` strategies with the best validation accuracy, `equal` and the best reading of CC-BCD
    go to the final stage, where they learn from the validation specimens as well (all choices are made by then);
    the best strategy is put under the controls.

    splits : the first is that of all stages; in each of the others the strategies and the baselines of scikit-learn are
    screened, of the readings of CC-BCD only the one that validation preferred in the first.
    lr, weight_decay, augmentation : of every net; chosen on the development specimens (docs/weighting.md).
    """

    strategies: tuple[str, ...]
    baselines: tuple[str, ...]
    folds: int
    screen: Stage
    final: Stage
    finalists: int = 2
    batch: int = 64
    lr: float = 2e-3
    weight_decay: float = 1e-2
    augmentation: Augmentation = AUGMENTATION
    timing_rounds: int = 5
    splits: tuple[str, ...] = (FOLDS,)
    stages: tuple[str, ...] = field(default=("screen", "controls", "final", "timing"))

    def __post_init__(self) -> None:
        names = tuple(weighting.strategy(name).name for name in self.strategies)
        object.__setattr__(self, "strategies", tuple(dict.fromkeys((EQUAL, *names))))
        unknown = [name for name in self.baselines if name not in KNOWN]
        if unknown:
            raise ConfigError(f"known: {', '.join(KNOWN)}", field="baselines", value=unknown[0])
        divisions = tuple(dict.fromkeys(Division.parse(name).name for name in self.splits))
        object.__setattr__(self, "splits", divisions)
        if not divisions:
            raise ConfigError("name at least one", field="split")
        for name, low, high in (("folds", 2, 100), ("finalists", 1, 100), ("timing_rounds", 1, 1000)):
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"must be {low} ... {high}", field=name, value=getattr(self, name))
        if not 0 < self.lr < math.inf:
            raise ConfigError("must be positive", field="lr", value=self.lr)
        if len(self.strategies) < 2:
            raise ConfigError("name a strategy to compare with 'equal'", field="strategies")

    def to_json(self) -> dict[str, Any]:
        """JSON-able dict, tuples as lists."""
        return dict(json.loads(json.dumps(asdict(self))))

    def digest(self, data: str) -> str:
        """SHA-256, hex, of the plan and the data's digest: what rows must share to be one study's."""
        return hashlib.sha256(json.dumps([self.to_json(), data], sort_keys=True).encode()).hexdigest()

    def screening(self) -> list[Task]:
        """Every strategy and baseline in every seed and fold; the seeds' first folds come first."""
        names = (*self.strategies, *map(method_of, self.baselines))
        return self._tasks("screen", names, self.screen)

    def elsewhere(self, split: str, reading: str | None) -> list[Task]:
        """The screening in another split; `reading` : of CC-BCD."""
        names = [n for n in self.strategies if not n.startswith("cc-bcd") or n == reading]
        names += [method_of(n) for n in self.baselines if n not in NETS]
        return self._tasks("screen", names, self.screen, split)

    def controls(self, best: str) -> list[Task]:
        """The best weighting under its controls, and equal weights with twice the steps."""
        wrapped = [f"{control}:{best}" for control in CONTROLS] if controllable(best) else []
        if best.startswith("virtual:"):
            wrapped = [f"{best}:wrong=1"]
        return self._tasks("controls", (*wrapped, MORE), self.screen)

    def finals(self, chosen: Sequence[str]) -> list[Task]:
        """The finalists at full size."""
        return self._tasks("final", chosen, self.final)

    def timings(self) -> list[Task]:
        """One task a strategy: its epochs and equal's, in turn."""
        net, rounds, split = self.screen.net, self.timing_rounds, self.splits[0]
        return [Task("timing", name, net, rounds, 0, 0, split) for name in self.strategies]

    def _tasks(self, stage: str, names: Iterable[str], how: Stage, split: str = "") -> list[Task]:
        order = itertools.product(range(how.seeds), range(self.folds), names)
        return [
            Task(
                stage,
                name,
                "" if is_baseline(name) else how.net,
                _epochs(name, how),
                seed,
                fold,
                split or self.splits[0],
            )
            for seed, fold, name in order
        ]


def _epochs(method: str, how: Stage) -> int:
    """Of a run; at most, for a published net; 0 where there are none."""
    if method in NETS:
        return RECIPES[method.removeprefix("cnn:")].epochs
    return 0 if is_baseline(method) else how.epochs * (2 if method == MORE else 1)


def controllable(name: str) -> bool:
    """Whether the controls say anything about the strategy: it has weights that are not all 1."""
    return name != EQUAL and not weighting.strategy(name).mixes


#: as chosen on the development specimens (docs/weighting.md)
VIRTUAL = "virtual:n=48:zones=1"
_DYNAMIC = (
    "group-dro:distance",
    "group-dro:class-distance",
    "vrex:distance:beta=10",
    "focal:gamma=2",
    "jtt:t=5:up=5",
    "virtual",
    VIRTUAL,
    "lisa",
    "l2rw",
    "mw-net",
)
#: every formula on every reference, with exponents that matter (see weighting/cc_bcd.py): small ones where the
#: similarities are rescaled to [0, 1]
_ALL_CC_BCD = tuple(
    ":".join(["cc-bcd", formula, reference, *(f"{k}={v}" for k in used)])
    for formula, reference in itertools.product(FORMULAS, REFERENCES)
    for used, values in [(EXPONENTS.get(formula, ("a", "b")), (1, 4) if formula.endswith("m") else (4, 16))]
    for v in (values if used else (0,))
)

PRESETS: dict[str, Plan] = {
    "small": Plan(
        (
            "distance:p=1",
            "cc-bcd:w3:r1:a=8:b=8",
            "cc-bcd:w3:r2:a=8:b=8",
            "cc-bcd:w3m:r1",
            *(name for name in _DYNAMIC if name not in ("group-dro:class-distance", "virtual")),
        ),
        tuple(BASELINES),
        folds=4,
        screen=Stage("screen", 20, 2),
        final=Stage("medium", 40, 2),
        finalists=1,
        timing_rounds=3,
    ),
    "full": Plan(
        ("distance:p=1", "distance:p=2", "distance:p=-1", *_ALL_CC_BCD, *_DYNAMIC),
        KNOWN,
        folds=4,
        screen=Stage("screen", 40, 10),
        final=Stage("medium", 40, 10),
        finalists=3,
        splits=NAMES,
    ),
}
