"""How long a study will take, said before it starts: from a few measured batches on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from libsedge_training import fit, weighting
from libsedge_training.weighting.virtual import Virtual

from . import published
from .baselines import NETS, is_baseline
from .data import Data, load
from .divide import FOLDS
from .plan import EQUAL, MORE, SCREEN, Plan, Task, spec_of
from .work import WHOLE, config, int8

#: seconds of a scikit-learn baseline on 1,300 spectra of 1,800 points, and how they grow with the spectra (rough)
_SKLEARN_S, _SKLEARN_GROWTH = 1.0, 1.5
#: a published net is stopped by its validation loss: so many epochs beyond its patience are assumed
_BEYOND = 30
_BATCHES = 4
#: seconds of one virtual composition in zones, in another plasma (rough)
_IN_ZONES_S, _COLUMN_S = 0.01, 0.06


def stages(plan: Plan) -> list[tuple[str, str, list[Task]]]:
    """(stage, split, tasks) in the order of the work. What is chosen on the way is not known yet: the first strategies
    stand for the finalists, and CC-BCD's first reading for the one that goes on.
    """
    reading = next((n for n in plan.strategies if n.startswith("cc-bcd")), None)
    found = [("screen", plan.splits[0], plan.screening())]
    if "controls" in plan.stages:
        weighted = reading or next(n for n in plan.strategies if n != EQUAL)
        found.append(("controls", plan.splits[0], plan.controls(weighted)))
    if "final" in plan.stages:
        found.append(("final", plan.splits[0], plan.finals(plan.strategies[: plan.finalists + 2])))
    found += [("screen", split, plan.elsewhere(split, reading)) for split in plan.splits[1:]]
    if "timing" in plan.stages:
        found.append(("timing", plan.splits[0], plan.timings()))
    return found


class Costs:
    """Seconds of a task on one worker."""

    def __init__(self, plan: Plan, path: str, digest: str) -> None:
        self.plan, self.path, self.digest = plan, path, digest
        self._epochs: dict[str, float] = {}
        self._after: dict[str, float] = {}
        self.spectra = self.specimens = 0

    def _part(self, net: str) -> tuple[Data, dict[str, np.ndarray]]:
        data = load(self.path, self.digest, net)
        rows = data.divided(FOLDS, self.plan.folds, 0, 0).rows
        self.spectra = len(rows["train"])
        self.specimens = len(np.unique(data.specimen[rows["train"]]))
        return data, rows

    def _measure(self, net: str) -> None:
        data, rows = self._part(net)
        few = {**rows, "train": rows["train"][: _BATCHES * self.plan.batch]}
        with fit.torch_settings(0, 1):
            task = Task("screen", EQUAL, net, 2, 0, 0)
            trainer = fit.Trainer(config(task, self.plan), spec_of(net), data.parts(few))
            trainer.epoch()
            begin = time.perf_counter()
            trainer.epoch()
            self._epochs[net] = (time.perf_counter() - begin) * len(rows["train"]) / len(few["train"])
            seconds = []
            for count in (16, 80):
                some = {**rows, "test": rows["test"][:count]}
                logits = fit.predict(trainer.net, torch.from_numpy(data.values[some["test"]])).numpy()
                begin = time.perf_counter()
                int8(trainer.net, data, some, logits)
                seconds.append(time.perf_counter() - begin)
        each = max(0.0, seconds[1] - seconds[0]) / 64
        self._after[net] = seconds[0] + each * len(rows["test"])

    def _published(self, method: str) -> None:
        data, rows = self._part(WHOLE if method == "cnn:b" else SCREEN.name)
        some = rows["train"][: _BATCHES * self.plan.batch]
        x, y = data.values[some], data.target[some]
        with fit.torch_settings(0, 1):
            begin = time.perf_counter()
            published.learn(method[4:], x, y, x[:1], y[:1], len(data.classes), 0, 1)
            spent = time.perf_counter() - begin
        self._epochs[method] = spent * len(rows["train"]) / len(some)

    def _fields(self, method: str) -> float:
        """Of the plasma model, for a method with virtual specimens."""
        how = None if method == MORE else weighting.strategy(method)
        if not isinstance(how, Virtual):
            return 0.0
        return how.n * self.specimens * (_IN_ZONES_S if how.zones and not how.states else _COLUMN_S)

    def of(self, task: Task) -> float:
        """Seconds of one task."""
        if task.method in NETS:
            if task.method not in self._epochs:
                self._published(task.method)
            recipe = published.RECIPES[task.method[4:]]
            return self._epochs[task.method] * min(task.epochs, recipe.patience + _BEYOND)
        net = task.net or SCREEN.name
        if net not in self._epochs:
            self._measure(net)
        if is_baseline(task.method):
            return float(_SKLEARN_S * max(1.0, self.spectra / 1300) ** _SKLEARN_GROWTH)
        fields = self._fields(task.method)
        if task.stage == "timing":
            return self._epochs[net] * 2 * (task.epochs + 1) + fields
        return self._epochs[net] * task.epochs + self._after[net] + fields


def estimate(
    plan: Plan, path: str, digest: str, workers: int, done: Callable[[Task], bool] = lambda task: False
) -> dict[str, Any]:
    """{seconds, runs, stages}: the whole on `workers` workers, and by stage and split, of the runs that are not `done`.

    Runs of the timing stage are not counted in `runs` and go one after the other.
    """
    costs = Costs(plan, path, digest)
    rows: list[dict[str, Any]] = []
    for stage, split, tasks in stages(plan):
        left = [t for t in tasks if not done(t)]
        seconds = sum(costs.of(t) for t in left) / (1 if stage == "timing" else workers)
        methods = len({t.method for t in tasks})
        rows.append(
            {"stage": stage, "split": split, "methods": methods, "runs": len(left), "seconds": seconds}
        )
    return {
        "seconds": sum(r["seconds"] for r in rows),
        "runs": sum(r["runs"] for r in rows if r["stage"] != "timing"),
        "stages": rows,
    }
