"""A search from start to end. The folder holds `plan.json`, `optuna.log` (Optuna's journal), a file a net under
`runs/`, and `best.json`.

Trials are asked for in generations, trained by whoever does the work, and told in their order when a generation is
complete; every trial draws with a seed of its own. So the same call gives the same trials, whatever the number of
workers, and after an interruption anywhere.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from libsedge import extras
from libsedge.errors import ConfigError, RunError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..files import dump_json, locked, write_atomic
from ..pool import Pool, open_pool
from ..prepare import data_digest
from .best import FORMAT, VERSION
from .space import check, suggest
from .work import Net, Recipe, perform, score, without_test

#: trials between which Optuna learns nothing
GENERATION = 4


class _NoLock:
    """The folder has one process (`files.locked`); Optuna's own locks outlive a killed one."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        return None


class Search:
    """A search in its folder; `carry_out` does it."""

    def __init__(self, path: str, out: Path, strategy: str, recipe: Recipe, trials: int, seeds: int) -> None:
        self.path, self.out, self.strategy, self.recipe = path, out, strategy, recipe
        self.trials, self.seeds = trials, seeds
        data, split, self.tested = without_test(path, recipe)
        self.digest, self.simulated = data_digest(data), bool(data.simulated)
        self.specimens = {part: sorted(set(data.specimen[rows].tolist())) for part, rows in split.items()}
        known = data.distance_m[split["train"]]
        self.distances = np.unique(np.round(known[known > 0].astype(np.float64), 3)).tolist()
        self.optuna: Any = extras.load("optuna", "study")
        self.optuna.logging.set_verbosity(self.optuna.logging.ERROR)

    def begin(self) -> None:
        """Note the plan, or find the same one noted; RunError for another's folder."""
        plan = {
            "strategy": self.strategy,
            "seeds": self.seeds,
            "recipe": asdict(self.recipe),
            "data": self.digest,
            "optuna": self.optuna.__version__,
        }
        note = self.out / "plan.json"
        if note.exists():
            before = json.loads(note.read_text("utf-8"))
            other = next((name for name in plan if before.get(name) != plan[name]), None)
            if other is not None:
                raise RunError("holds another search: choose another folder", file=self.out, field=other)
        elif any(p.name != ".lock" for p in self.out.iterdir()):
            raise RunError("the folder is not empty and holds no search; name a new one", file=self.out)
        else:
            write_atomic(note, dump_json(plan))
        (self.out / "runs").mkdir(exist_ok=True)
        self.study = self._study()

    def _study(self) -> Any:
        log = self.out / "optuna.log"
        if log.exists():  # a killed process may leave half a line, which Optuna would append to
            text = log.read_bytes()
            os.truncate(log, text.rfind(b"\n") + 1)
        journal = self.optuna.storages.journal
        storage = journal.JournalStorage(journal.JournalFileBackend(str(log), lock_obj=_NoLock()))
        return self.optuna.create_study(
            storage=storage, study_name="search", direction="maximize", load_if_exists=True
        )

    def ask(self, number: int) -> tuple[Any, str]:
        """(trial, strategy) number `number`, as it was asked before or anew."""
        before = self.study.get_trials(deepcopy=False)
        if number < len(before):
            frozen = before[number]
            if "weighting" in frozen.user_attrs:
                return frozen, str(frozen.user_attrs["weighting"])
        text = f"{self.recipe.seed}:{number}".encode()
        seed = int.from_bytes(hashlib.sha256(text).digest()[:4], "little")
        self.study.sampler = self.optuna.samplers.TPESampler(seed=seed)
        if number < len(before):  # killed between two of its parameters
            trial = self.optuna.trial.Trial(self.study, before[number]._trial_id)
        else:
            trial = self.study.ask()
        name = suggest(trial, self.strategy, self.distances)
        trial.set_user_attr("weighting", name)
        return trial, name

    def train(self, pool: Pool, nets: list[Net], advance: Any) -> dict[int, float | None]:
        """trial -> score; nets that are there are not trained again."""
        rows: dict[int, list[dict[str, Any]]] = {net.trial: [] for net in nets}
        left = []
        for net in nets:
            path = self.out / "runs" / f"{net.key}.json"
            if path.exists():
                rows[net.trial].append(json.loads(path.read_text("utf-8")))
                advance()
            else:
                left.append(net)
        for net, row in pool.run(perform, left, self.recipe, self.path, self.digest):
            write_atomic(self.out / "runs" / f"{net.key}.json", dump_json(row))
            rows[net.trial].append(row)
            advance()
        return {trial: score(sorted(found, key=lambda row: row["seed"])) for trial, found in rows.items()}

    def _nets(self, trial: int, name: str) -> list[Net]:
        return [Net(trial, name, 1000 * self.recipe.seed + k) for k in range(self.seeds)]

    def carry_out(self, pool: Pool, console: Console | None) -> dict[str, Any]:
        """All trials that are not there yet; returns the contents of best.json."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        found: list[dict[str, Any]] = []
        with Progress(*columns, console=console, disable=console is None, transient=True) as bar:
            shown = bar.add_task("nets", total=(self.trials + 1) * self.seeds)

            def advance() -> None:
                bar.advance(shown)

            equal = self.train(pool, self._nets(-1, "equal"), advance)[-1]
            for first in range(0, self.trials, GENERATION):
                asked = {n: self.ask(n) for n in range(first, min(first + GENERATION, self.trials))}
                nets = [net for n, (_, name) in asked.items() for net in self._nets(n, name)]
                scores = self.train(pool, nets, advance)
                for n, (_, name) in asked.items():
                    value = scores[n]
                    failed = self.optuna.trial.TrialState.FAIL if value is None else None
                    self.study.tell(n, value, state=failed, skip_if_finished=True)
                    found.append({"trial": n, "weighting": name, "validation_accuracy": value})
                    if console is not None:
                        figure = "diverged" if value is None else f"{value:.3f}"
                        console.print(f"trial {n}: {name}: {figure}", highlight=False)
        whole = [row for row in found if row["validation_accuracy"] is not None]
        if not whole:
            raise RunError("every trial diverged", file=self.out, field="loss")
        best = max(whole, key=lambda row: (row["validation_accuracy"], -row["trial"]))
        return {
            "format": FORMAT,
            "version": VERSION,
            "simulated": self.simulated,
            **best,
            "equal_validation_accuracy": equal,
            "strategy": self.strategy,
            "recipe": asdict(self.recipe),
            "seeds": self.seeds,
            "data": self.digest,
            "specimens": {**self.specimens, "test (not loaded)": self.tested},
            "trials": found,
        }


def search(
    spectra: str | os.PathLike[str],
    strategy: str,
    out: str | os.PathLike[str],
    recipe: Recipe,
    *,
    trials: int = 40,
    seeds: int = 2,
    jobs: int | None = None,
    scheduler: str | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Tune `strategy` on the store `spectra`, fill the folder `out`, return the contents of best.json.

    trials : parameters tried; seeds : nets trained a trial, whose mean counts. jobs, scheduler : as for `study`.
    Raises ConfigError, DatasetError (splits), FileFormatError (not a store), RunError (the folder is another's).
    """
    for name, value, high in (("trials", trials, 100_000), ("seeds", seeds, 100)):
        if not 1 <= value <= high:
            raise ConfigError(f"must be 1 ... {high}", field=name, value=value)
    check(strategy)
    extras.check("optuna", "study")
    work = Search(os.path.abspath(spectra), Path(out), strategy, recipe, trials, seeds)
    work.out.mkdir(parents=True, exist_ok=True)
    with locked(work.out), open_pool(jobs, scheduler) as pool:
        work.begin()
        best = work.carry_out(pool, console)
        write_atomic(work.out / "best.json", dump_json(best))
    return best
