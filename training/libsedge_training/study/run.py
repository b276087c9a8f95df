"""A study from start to end: plan, estimate, runs (kept one by one), summary, report.

The folder holds `plan.json`, a row a run and its answers (.npz) under `runs/`, `study.json` and `report.html`. A study
that was interrupted anywhere goes on when it is called again with the same plan and spectra: rows that are there are
not run again.
"""

from __future__ import annotations

import itertools
import json
import os
import time
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from libsedge import __version__
from libsedge.errors import DatasetError, RunError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from libsedge_training.files import dump_json, write_atomic
from libsedge_training.pool import Here, Pool, open_pool, processors
from libsedge_training.prepare import data_digest
from libsedge_training.readers import read
from libsedge_training.virtual import known_compositions

from .confidence import Answers, Source
from .data import Data, prepare
from .divide import Division
from .estimate import estimate
from .plan import EQUAL, Plan, Task
from .summary import Row, best_reading, best_weighting, finalists, summarise
from .work import perform

FORMAT, VERSION = "libsedge-study", 1


class Folder:
    """The study's folder; every file in it is named by this class."""

    def __init__(self, path: Path) -> None:
        self.path, self.runs = path, path / "runs"

    def open(self, plan: Plan, digest: str) -> None:
        """Make it, or take over an earlier one of the same plan and spectra; RunError for another's."""
        note = self._note
        if note.exists():
            before = self.note()
            if before.get("digest") != plan.digest(digest):
                raise RunError(
                    "holds a study of another plan or other spectra: remove it or choose another folder",
                    file=self.path,
                    field="digest",
                    value=before.get("digest"),
                )
        elif self.path.exists() and any(self.path.iterdir()):
            raise RunError("the folder is not empty and holds no study; name a new one", file=self.path)
        self.runs.mkdir(parents=True, exist_ok=True)
        write_atomic(note, dump_json({"digest": plan.digest(digest), "data": digest, "plan": plan.to_json()}))

    @staticmethod
    def _json(path: Path) -> dict[str, Any]:
        try:
            found = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as wrong:
            raise RunError(f"cannot be read ({wrong}); remove it to run it again", file=path) from wrong
        if not isinstance(found, dict):
            raise RunError("not a JSON object; remove it to run it again", file=path)
        return found

    @property
    def _note(self) -> Path:
        return self.path / "plan.json"

    def note(self) -> dict[str, Any]:
        """{digest, data, plan} of the study whose folder it is; RunError where it is none."""
        return self._json(self._note)

    def row(self, task: Task) -> dict[str, Any] | None:
        """The row of a task, None where it was not run yet."""
        path = self.runs / f"{task.key}.json"
        if not path.exists():
            return None
        row = self._json(path)
        if row.get("key") != task.key:
            raise RunError("is another run's", file=path, field="key", value=row.get("key"))
        return row

    def keep(self, row: dict[str, Any]) -> dict[str, Any]:
        """Write a row and its answers, whole or not at all; the row without the answers."""
        answers = row.pop("answers", None)
        if answers is not None:
            write_atomic(self._answers(row), answers.dump())
        write_atomic(self.runs / f"{row['key']}.json", dump_json(row))
        return row

    def answers(self, row: Row) -> Answers | None:
        """The answers of a kept row; None where it has none."""
        path = self._answers(row)
        if not path.exists():
            return None
        try:
            return Answers.load(path.read_bytes())
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as wrong:
            raise RunError(
                f"cannot be read ({wrong}); remove it and its row to run it again", file=path
            ) from wrong

    def _answers(self, row: Row) -> Path:
        return self.runs / f"{row['key']}.npz"


def applicable(plan: Plan, specimens: Sequence[str]) -> tuple[Plan, str]:
    """The plan without strategies that need the specimens' compositions, and why, where one is not known."""
    needs = [name for name in plan.strategies if name.startswith("virtual:")]
    if not needs:
        return plan, ""
    try:
        known_compositions(sorted(set(specimens)))
    except DatasetError as why:
        left = tuple(name for name in plan.strategies if name not in needs)
        if left == (EQUAL,):
            raise
        return replace(plan, strategies=left), f"left out: {', '.join(needs)}: {why}"
    return plan, ""


def check(plan: Plan, data: Data) -> None:
    """Go through all parts of all splits and seeds: DatasetError before the first run, not in the middle."""
    for split, seed, fold in itertools.product(
        plan.splits, range(max(plan.screen.seeds, plan.final.seeds)), range(plan.folds)
    ):
        data.divided(split, plan.folds, seed, fold)


def tested_at(split: str, data: Data) -> dict[str, Any]:
    """{name, learnt_m, tested_m}: a split and its distances in metres."""
    mm = np.rint(data.distance_m.astype(np.float64) * 1000).astype(int)
    learnt, tested = Division.parse(split).distances(mm.tolist())
    return {"name": split, "learnt_m": [d / 1000 for d in learnt], "tested_m": [d / 1000 for d in tested]}


def _elsewhere(rows: Sequence[Row], plan: Plan, classes: int, source: Source) -> dict[str, Any]:
    """`summary` and `best` of a split in which only the screening was done."""
    found = summarise(rows, plan, classes, source)
    return {"summary": found["summary"], "best": found["best"]}


def outline(spectra: str | os.PathLike[str], plan: Plan, jobs: int | None = None) -> dict[str, Any]:
    """What `study` would do on `jobs` workers, without a run: `estimate.estimate` and `workers`."""
    path = os.path.abspath(spectra)
    data = read(path)
    prepared = prepare(data)
    check(plan, prepared)
    plan, _ = applicable(plan, prepared.specimen.tolist())
    workers = jobs or processors()
    return estimate(plan, path, data_digest(data), workers) | {"workers": workers}


def finished(
    tasks: Sequence[Task],
    name: str,
    folder: Folder,
    pool: Pool,
    arguments: tuple[Plan, str, str],
    console: Console | None,
) -> list[dict[str, Any]]:
    """The rows of `tasks` in their order; those that the folder does not have are run (`work.perform` with `arguments`)
    and kept one by one, under a bar of progress called `name`.
    """
    rows = [folder.row(t) for t in tasks]
    left = [t for t, row in zip(tasks, rows, strict=True) if row is None]
    found = [row for row in rows if row is not None]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=console is None, transient=True) as bar:
        shown = bar.add_task(name, total=len(tasks), completed=len(found))
        for _, row in pool.run(perform, left, *arguments):
            found.append(folder.keep(row))
            bar.advance(shown)
    place = {t.key: i for i, t in enumerate(tasks)}
    return sorted(found, key=lambda r: place[r["key"]])


def study(
    spectra: str | os.PathLike[str],
    out: str | os.PathLike[str],
    plan: Plan,
    *,
    jobs: int | None = None,
    scheduler: str | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Carry out `plan` on the set `spectra`, fill the folder `out`, return the contents of study.json.

    jobs : worker processes, None = one a CPU, 1 = this process. scheduler : address of a Dask scheduler whose
    workers read `spectra` under the same path. console : estimate and progress; None = silent.
    Raises DatasetError (a set that cannot be studied), ConfigError, RunError (the folder is another study's).
    """
    path = os.path.abspath(spectra)
    data = read(path)
    digest = data_digest(data)
    prepared = prepare(data)
    check(plan, prepared)
    plan, left_out = applicable(plan, prepared.specimen.tolist())
    folder = Folder(Path(out))
    folder.open(plan, digest)
    say = console.print if console is not None else (lambda *words, **how: None)
    if left_out:
        say(left_out, highlight=False)
    begin = time.perf_counter()
    with open_pool(jobs, scheduler) as pool:
        guess = estimate(plan, path, digest, pool.workers, lambda t: folder.row(t) is not None)
        say(
            f"{guess['runs']} runs on {pool.workers} worker{'s' if pool.workers > 1 else ''}: "
            f"about {guess['seconds'] / 60:.1f} minutes",
            highlight=False,
        )

        def carry_out(tasks: Sequence[Task], name: str, alone: bool = False) -> list[dict[str, Any]]:
            found = finished(tasks, name, folder, Here() if alone else pool, (plan, path, digest), console)
            say(
                f"{name}: {len(tasks)} runs, {(time.perf_counter() - begin) / 60:.1f} minutes",
                highlight=False,
            )
            return found

        rows = carry_out(plan.screening(), "screening")
        if "controls" in plan.stages:
            rows += carry_out(plan.controls(best_weighting(rows, plan)), "controls")
        if "final" in plan.stages:
            rows += carry_out(plan.finals(finalists(rows, plan)), "finalists")
        reading = best_reading(rows, plan)
        others = {}
        for split in plan.splits[1:]:
            others[split] = carry_out(plan.elsewhere(split, reading), f"screening, {split}")
        if "timing" in plan.stages:
            rows += carry_out(plan.timings(), "time per epoch", alone=True)
    found = {
        "format": FORMAT,
        "version": VERSION,
        "simulated": bool(data.simulated),
        "libsedge": __version__,
        "digest": plan.digest(digest),
        "data": {
            "digest": digest,
            "spectra": len(data),
            "specimens": len(data.specimens),
            "classes": list(prepared.classes),
            "distances_m": sorted({round(float(d), 3) for d in data.distance_m}),
            "instrument": data.instrument,
            "source": data.source,
        },
        "plan": plan.to_json(),
        "estimated_seconds": round(guess["seconds"], 1),
        "seconds": round(time.perf_counter() - begin, 1),
        "split": tested_at(plan.splits[0], prepared),
        **summarise(rows, plan, len(prepared.classes), folder.answers),
        "splits": {
            split: tested_at(split, prepared) | _elsewhere(some, plan, len(prepared.classes), folder.answers)
            for split, some in others.items()
        },
        "runs": [*rows, *(row for some in others.values() for row in some)],
    }
    from .page import study_page

    write_atomic(folder.path / "study.json", dump_json(found))
    write_atomic(folder.path / "report.html", study_page(found).encode("utf-8"))
    return found
