"""From rows to study.json: figures of every method, differences with intervals, the best, the controls."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from libsedge.errors import RunError

from .confidence import Source, assessed
from .plan import EQUAL, MORE, Plan
from .stats import FIGURES, Counts, difference, holm, point, spread

Row = Mapping[str, Any]
SELECTED = "selected-by-validation"


def complete(rows: Iterable[Row], stage: str | Sequence[str], method: str | None = None) -> list[Row]:
    """The rows of a stage (and method) that count: a diverged run is kept in `runs` and left out here."""
    stages = (stage,) if isinstance(stage, str) else stage
    return [
        r
        for r in rows
        if r["stage"] in stages and r["status"] == "complete" and method in (None, r["method"])
    ]


def methods(rows: Iterable[Row], stage: str) -> list[str]:
    """Methods of a stage, in order of first appearance."""
    return list(dict.fromkeys(r["method"] for r in rows if r["stage"] == stage))


def counts(rows: Sequence[Row], seeds: int, names: Sequence[str], mm: Sequence[int], classes: int) -> Counts:
    """The rows of one method as one array; specimens and distances in the order of `names` and `mm`."""
    predicted = np.zeros((seeds, len(names), len(mm), classes))
    truth = np.full(len(names), -1)
    at, of = {d: i for i, d in enumerate(mm)}, {s: i for i, s in enumerate(names)}
    for row in rows:
        for name, found in row["specimens"].items():
            truth[of[name]] = found["class"]
            for d, called in found["predicted_at_mm"]:
                predicted[row["seed"], of[name], at[d]] += called
    return Counts(predicted, truth)


def rank_by_validation(rows: Sequence[Row], stage: str, names: Sequence[str]) -> list[str]:
    """`names` by mean balanced accuracy on the validation specimens, then by validation loss; the test parts
    have no say. A method with a diverged run is left out.
    """
    keys = {}
    for name in names:
        mine = [r for r in rows if r["stage"] == stage and r["method"] == name]
        if mine and all(r["status"] == "complete" for r in mine):
            accuracy = statistics.fmean(r["validation_accuracy"] for r in mine)
            keys[name] = (-accuracy, statistics.fmean(r["validation_loss"] for r in mine), name)
    return sorted(keys, key=keys.__getitem__)


def finalists(rows: Sequence[Row], plan: Plan) -> list[str]:
    """equal, the best reading of CC-BCD, and the best `plan.finalists` strategies, all by validation."""
    ranked = rank_by_validation(rows, "screen", plan.strategies)
    others = [name for name in ranked if name != EQUAL]
    similar = best_reading(rows, plan)
    return list(dict.fromkeys([EQUAL, *others[: plan.finalists], *([similar] if similar else [])]))


def best_reading(rows: Sequence[Row], plan: Plan) -> str | None:
    """The reading of CC-BCD with the best validation figures of the screening, if any."""
    ranked = rank_by_validation(rows, "screen", plan.strategies)
    return next((name for name in ranked if name.startswith("cc-bcd")), None)


def best_weighting(rows: Sequence[Row], plan: Plan) -> str:
    """The strategy other than equal with the best validation figures of the screening; the controls are its. The
    final stage has no say: it learns from the validation specimens.
    """
    ranked = rank_by_validation(rows, "screen", [name for name in plan.strategies if name != EQUAL])
    return ranked[0] if ranked else EQUAL


def _picked(rows: Sequence[Row], stage: str, names: Sequence[str]) -> list[Row]:
    """For every seed and fold the row of the method that was best on that fold's own validation specimens."""
    groups: dict[tuple[int, int], list[Row]] = {}
    for r in complete(rows, stage):
        if r["method"] in names and "validation_accuracy" in r:
            groups.setdefault((r["seed"], r["fold"]), []).append(r)
    key = {name: i for i, name in enumerate(names)}
    return [
        min(group, key=lambda r: (-r["validation_accuracy"], r["validation_loss"], key[r["method"]]))
        for _, group in sorted(groups.items())
    ]


class Table:
    """Figures and paired differences of the methods of one stage; `source` finds the answers of a row."""

    def __init__(self, rows: Sequence[Row], stage: str, classes: int, source: Source) -> None:
        self.rows, self.stage, self.source = rows, stage, source
        here = complete(rows, (stage, "controls") if stage == "screen" else stage)
        self.seeds = max((r["seed"] for r in here), default=0) + 1
        self.names = sorted({name for r in here for name in r["specimens"]})
        self.mm = sorted({d for r in here for s in r["specimens"].values() for d, _ in s["predicted_at_mm"]})
        self.classes = classes

    def of(self, rows: Sequence[Row]) -> Counts:
        """The counts of one method's rows."""
        return counts(rows, self.seeds, self.names, self.mm, self.classes)

    def entry(self, rows: Sequence[Row], equal: Sequence[Row] | None, diverged: int = 0) -> dict[str, Any]:
        """Figures of one method; `minus_equal` where `equal` is given."""
        mine = self.of(rows)
        by_distance = []
        for i, d in enumerate(self.mm):
            part = Counts(mine.predicted[:, :, i : i + 1], mine.truth)
            by_distance.append({"distance_m": d / 1000, "accuracy": point(part)["accuracy"]})
        found: dict[str, Any] = {
            "stage": self.stage,
            "runs": len(rows),
            "diverged": diverged,
            **point(mine),
            **assessed(rows, self.source),
            "validation_accuracy": statistics.fmean(r["validation_accuracy"] for r in rows)
            if all("validation_accuracy" in r for r in rows)
            else None,
            "per_distance": by_distance,
            "distance_spread": spread(mine),
            "confusion": _confusion(mine),
        }
        if rows and all("int8_accuracy" in r for r in rows):
            spectra = [r["n"] for r in rows]
            found["int8_accuracy"] = float(np.average([r["int8_accuracy"] for r in rows], weights=spectra))
            found["int8_agreement"] = float(np.average([r["int8_agreement"] for r in rows], weights=spectra))
        if equal is not None:
            deltas = difference(mine, self.of(equal))
            found["minus_equal"] = {k: deltas["accuracy"][k] for k in ("mean", "low", "high")}
            found["p"] = deltas["accuracy"]["p"]
            found["minus_equal_of"] = {
                name: {k: deltas[name][k] for k in ("mean", "low", "high")} for name in FIGURES
            }
        return found


def _confusion(mine: Counts) -> list[list[int]]:
    one_hot = np.eye(mine.predicted.shape[3])[mine.truth]
    found: list[list[int]] = np.einsum("st,rsdp->tp", one_hot, mine.predicted).astype(int).tolist()
    return found


def stage_summary(
    rows: Sequence[Row], stage: str, names: Sequence[str], classes: int, source: Source
) -> dict[str, Any]:
    """Entries of the methods of a stage, the pick by validation among `names`, Holm's correction over all."""
    table = Table(rows, stage, classes, source)
    equal = complete(rows, stage, EQUAL)
    found: dict[str, Any] = {}
    for name in methods(rows, stage):
        mine = complete(rows, stage, name)
        lost = sum(r["status"] != "complete" for r in rows if r["stage"] == stage and r["method"] == name)
        if not mine:
            found[name] = {"stage": stage, "runs": 0, "diverged": lost}
            continue
        found[name] = table.entry(mine, None if name == EQUAL else equal, lost)
    picked = _picked(rows, stage, names)
    if len(names) > 1 and picked:
        found[SELECTED] = table.entry(picked, equal)
        found[SELECTED]["picked"] = {n: sum(r["method"] == n for r in picked) for n in names}
    adjusted = holm({name: e["p"] for name, e in found.items() if "p" in e})
    for name, p in adjusted.items():
        found[name]["p_holm"] = p
    return found


def controls(rows: Sequence[Row], best: str, classes: int, source: Source) -> dict[str, Any]:
    """The best weighting against each of its controls, and equal weights with twice the steps against equal."""
    table = Table(rows, "screen", classes, source)
    equal, weighted = complete(rows, "screen", EQUAL), complete(rows, "screen", best)
    found: dict[str, Any] = {"of": best, "stage": "screen", "controls": {}}
    for name in methods(rows, "controls"):
        mine = complete(rows, "controls", name)
        if not mine:
            continue
        entry = table.entry(mine, equal)
        if name != MORE and weighted:
            delta = difference(table.of(weighted), table.of(mine))["accuracy"]
            entry["best_minus_control"] = delta
        found["controls"][name] = entry
    return found


def _filled(name: str, entry: dict[str, Any]) -> dict[str, Any]:
    """A copy of the entry with the keys of all, where it has figures."""
    if "accuracy" not in entry:
        return entry
    found = {"int8_accuracy": None, "int8_agreement": None, **entry}
    return {"minus_equal": dict.fromkeys(("mean", "low", "high"), 0.0), **found} if name == EQUAL else found


def summarise(
    rows: Sequence[Row], plan: Plan, classes: int, source: Source = lambda row: None
) -> dict[str, Any]:
    """`summary`, `stages`, `best`, `controls` of study.json, for the rows of one split. Where a method was in both
    stages, `summary` holds its figures at full size; `stage` says which. Every entry of `summary` with figures has the
    same keys: equal weights are 0 above themselves, a baseline's `int8_accuracy` is None. source : finds the answers of
    a row.
    """
    if not complete(rows, "screen", EQUAL):
        raise RunError(
            "every run of equal weights diverged; nothing can be compared", field="lr", value=plan.lr
        )
    stages = {
        stage: stage_summary(
            rows, stage, [n for n in methods(rows, stage) if n in plan.strategies], classes, source
        )
        for stage in ("screen", "final")
        if complete(rows, stage, EQUAL)
    }
    ratios = {
        r["method"]: statistics.median(r["ratios"]) for r in complete(rows, "timing") if r.get("ratios")
    }
    for entries in stages.values():
        for name, entry in entries.items():
            entry["epoch_time_ratio"] = ratios.get(name)
    last = "final" if "final" in stages else "screen"
    best = best_weighting(rows, plan)
    found: dict[str, Any] = {
        "summary": {
            name: _filled(name, entry)
            for name, entry in {**stages.get("screen", {}), **stages.get("final", {})}.items()
        },
        "stages": stages,
        "best": {
            "strategy": best,
            "stage": last,
            "chosen_by": "validation accuracy",
            **stages[last].get(best, {}),
        },
        "controls": controls(rows, best, classes, source),
    }
    similar = best_reading(rows, plan)
    if similar is not None and best not in (similar, EQUAL):
        table = Table(rows, last, classes, source)
        ours, theirs = (table.of(complete(rows, last, name)) for name in (best, similar))
        found["best"]["minus_best_cc_bcd"] = {"cc_bcd": similar, **difference(ours, theirs)["accuracy"]}
    return found
