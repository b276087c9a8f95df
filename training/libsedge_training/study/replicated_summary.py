"""The one analysis of all universes of a replicated study: `python -m libsedge_training.study.replicated_summary DIR`.

Writes `replicated.json` and `report.html` into DIR, and prints the tables of docs/replicated_study.md. In the rows a
universe's place stands in "seed", so that the study's own statistics take universes for what they are: repetitions.
Specimens are resampled within their classes and universes; then, for a statement about other specimens, universes as
well (`stats.difference`). Only universes count whose runs are all there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from libsedge.errors import RunError
from scipy.stats import t as student  # type: ignore[import-untyped]

from libsedge_training.files import dump_json, write_atomic
from libsedge_training.model import NETS
from libsedge_training.risk import Resampled

from . import confidence
from .confidence import Answers, Source
from .plan import SCREEN, Plan
from .replicated import COMPARISONS, CONTROL, METHODS, replicated_plan
from .run import Folder
from .stats import FIGURES, Counts, difference, holm, point
from .summary import Row, Table, complete
from .universes import UNIVERSES, universe_name

FORMAT, VERSION = "libsedge-replicated-study", 1
STAGE = "final"


class Universes(Table):
    """Figures of methods in all universes; a universe's place is its rows' "seed"."""

    def __init__(self, rows: Sequence[Row], classes: int, source: Source) -> None:
        super().__init__(rows, STAGE, classes, source)
        place = {name: r["seed"] for r in complete(rows, STAGE) for name in r["specimens"]}
        self.place = np.array([place[name] for name in self.names])

    def of(self, rows: Sequence[Row]) -> Counts:
        found = super().of(rows)
        return Counts(found.predicted, found.truth, found.truth * self.seeds + self.place)

    def one(self, counts: Counts, place: int) -> Counts:
        """Of one universe."""
        here = self.place == place
        return Counts(counts.predicted[place : place + 1, here], counts.truth[here])

    def compared(self, a: Counts, b: Counts) -> dict[str, Any]:
        """a - b: FIGURES -> {mean, these, others, t, p, universes}.

        these, others : 95 % intervals {low, high}, universes as they are, or resampled as well; p is that of `others`.
        t : the interval by Student's t over the universes' differences, None with one. universes : for each of them
        {mean, low, high}, by its own specimens.
        """
        fixed, free = difference(a, b, seeds_too=False), difference(a, b)
        each = [difference(self.one(a, i), self.one(b, i)) for i in range(self.seeds)]
        found = {}
        for name in FIGURES:
            values = np.array([e[name]["mean"] for e in each])
            found[name] = {
                "mean": free[name]["mean"],
                "these": {k: fixed[name][k] for k in ("low", "high")},
                "others": {k: free[name][k] for k in ("low", "high")},
                "t": by_student(values),
                "p": free[name]["p"],
                "universes": [{k: e[name][k] for k in ("mean", "low", "high")} for e in each],
            }
        return found


def by_student(values: np.ndarray) -> dict[str, float] | None:
    """95 % interval {low, high} of the mean of independent values [n]; None with fewer than two."""
    if len(values) < 2:
        return None
    half = float(student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return {"low": float(values.mean()) - half, "high": float(values.mean()) + half}


def quantised(rows: Sequence[Row]) -> dict[str, Any]:
    """{mean, low, high}: int8 minus float accuracy, mean over the universes, with its interval by Student's t."""
    places = sorted({r["seed"] for r in rows})
    values = []
    for place in places:
        mine = [r for r in rows if r["seed"] == place]
        gaps = [r["int8_accuracy"] - r["accuracy"] for r in mine]
        values.append(np.average(gaps, weights=[r["n"] for r in mine]))
    return {"mean": float(np.mean(values)), **(by_student(np.array(values)) or {"low": None, "high": None})}


def analyse(rows: Sequence[Row], classes: int, source: Source = lambda row: None) -> dict[str, Any]:
    """`summary` (method -> figures) and `comparisons` ("a minus b" -> `Universes.compared` with Holm's `p_holm` over
    the accuracies of all) of rows whose "seed" is the place of their universe. RunError where there are none.
    """
    whole = Universes(rows, classes, source)
    if not whole.names:
        raise RunError("no universe is complete", field="universe")
    by_method = {name: complete(rows, STAGE, name) for name in (*METHODS, CONTROL)}
    there = {name for name, mine in by_method.items() if {r["seed"] for r in mine} == set(range(whole.seeds))}
    summary = {}
    for name in there:
        mine = by_method[name]
        counts = whole.of(mine)
        entry = whole.entry(mine, None, sum(r["method"] == name for r in rows) - len(mine))
        entry["universes"] = [point(whole.one(counts, i)) for i in range(whole.seeds)]
        entry["int8_minus_float"] = quantised(mine)
        answers = confidence.judged(mine, source)
        if answers is not None and answers.after is not None:
            kept = Resampled(answers.after, answers.right, answers.specimen, confidence.DRAWS)
            entry["selective"] = kept.selective()
        summary[name] = entry
    pairs = [(a, b) for a, b in (*COMPARISONS, (COMPARISONS[0][0], CONTROL)) if {a, b} <= there]
    found = {
        f"{a} minus {b}": whole.compared(whole.of(by_method[a]), whole.of(by_method[b])) for a, b in pairs
    }
    planned = [f"{a} minus {b}" for a, b in COMPARISONS]
    adjusted = holm({name: found[name]["accuracy"]["p"] for name in planned if name in found})
    for name, p in adjusted.items():
        found[name]["accuracy"]["p_holm"] = p
    order = [name for name in by_method if name in summary]
    return {"summary": {name: summary[name] for name in order}, "comparisons": found}


def _whole(folder: Folder, plan: Plan, names: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of these methods in a universe; empty where one is missing."""
    found = [folder.row(task) for task in plan.finals(names)]
    return [row for row in found if row is not None] if None not in found else []


def gather(folder: Path, plan: Plan) -> tuple[list[dict[str, Any]], list[int], Source]:
    """Rows of the complete universes with their place in "seed" and their number in "universe"; the numbers; where
    answers are found.
    """
    rows: list[dict[str, Any]] = []
    numbers: list[int] = []
    folders: list[Folder] = []
    for number in range(1, UNIVERSES + 1):
        here = Folder(folder / f"{universe_name(number)}-{plan.final.net}")
        mine, control = (_whole(here, plan, names) for names in (METHODS, (CONTROL,)))
        if not mine:
            continue
        rows += [
            {**row, "division": row["seed"], "seed": len(numbers), "universe": number}
            for row in (*mine, *control)
        ]
        numbers.append(number)
        folders.append(here)

    def source(row: Row) -> Answers | None:
        return folders[row["seed"]].answers(row)

    return rows, numbers, source


def summarise(folder: Path, plan: Plan) -> dict[str, Any]:
    """The contents of replicated.json, for the folder of a replicated study."""
    rows, numbers, source = gather(folder, plan)
    if not numbers:
        raise RunError("no universe is complete", file=folder, field="universe")
    classes = 1 + max(s["class"] for r in rows for s in r.get("specimens", {}).values())
    data = {n: Folder(folder / f"{universe_name(n)}-{plan.final.net}").note()["data"] for n in numbers}
    return {
        "format": FORMAT,
        "version": VERSION,
        "simulated": True,
        "net": plan.final.net,
        "universes": numbers,
        "data": data,
        "plan": plan.to_json(),
        "seconds": round(sum(r["seconds"] for r in rows), 1),
        **analyse(rows, classes, source),
        "runs": rows,
    }


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--net", default=SCREEN.name, show_default=True, type=click.Choice((SCREEN.name, *NETS)))
@click.option("--seeds", default=1, show_default=True, type=click.IntRange(1, 100))
def main(folder: Path, net: str, seeds: int) -> None:
    """Analyse the universes of DIR that are complete."""
    from .replicated_page import replicated_page, tables

    found = summarise(folder, replicated_plan(net, seeds))
    write_atomic(folder / "replicated.json", dump_json(found))
    write_atomic(folder / "report.html", replicated_page(found).encode("utf-8"))
    click.echo(tables(found), nl=False)


if __name__ == "__main__":
    main()
