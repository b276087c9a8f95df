"""`libsedge train --classes chemistry|families`: what minerals, metals and soils are, on any instrument, learned from
simulated spectra alone.

The sets are `simulate.chemistry`'s, the classes those of `simulate.minerals.CLASS_SETS`; docs/real_spectra.md says what
the models get right on real spectra.
"""

from __future__ import annotations

import os
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from libsedge.errors import ConfigError, RunError
from libsedge.store import StoreReader
from rich.console import Console

from . import fit, splits
from .augment import Augmentation
from .run_folder import read_run
from .simulate import chemistry as simulated
from .simulate import invented
from .simulate.minerals import CLASS_SETS
from .simulate.parts import processes
from .spectra import SpectraSet

HOLD_OUT = ("specimens", "minerals")
#: ranges that instruments lack: ChemCam's and SuperCam's gaps, and partial coverage
GAPS = (
    *((240.0, 300.0), (240.0, 400.0), (240.0, 500.0), (300.0, 400.0), (340.0, 382.0), (382.0, 470.0)),
    *((464.0, 535.0), (500.0, 600.0), (600.0, 700.0), (700.0, 850.0), (500.0, 850.0), (620.0, 850.0)),
)
CONFIG = fit.TrainConfig(
    net="chemistry",
    epochs=10,
    patience=10,
    batch=128,
    lr=2e-3,
    test_specimens=400,
    validation_specimens=400,
    augmentation=Augmentation(shift_nm=0.1, noise=0.03, gap_probability=0.06, gaps=GAPS),
)
#: share of the validation spectra whose answers the bundle accepts: all, because many of the random spectra are worse
#: than any that a user would keep, and a threshold that refuses them would refuse good ones of an unseen instrument
MIN_COVERAGE = 1.0
#: minutes on one idle core of the machine of docs/real_spectra.md: the lines of all elements, 1,000 spectra, an epoch
LINES_MINUTES, SPECTRA_MINUTES, EPOCH_MINUTES = 4.0, 0.35, 0.3


def config(hold_out: str, **given: Any) -> fit.TrainConfig:
    """The recipe with the options a user gave; of minerals, a fifth each is held out."""
    if hold_out == "minerals":
        given = {"test_specimens": 72, "validation_specimens": 40} | given
    return replace(CONFIG, **given)


def spectra_for(
    run_dir: str | PathLike[str],
    classes: str,
    given: str | None,
    console: Console,
    *,
    epochs: int,
    jobs: int | None = None,
) -> Path:
    """The set of the class set ``classes`` to train on: the one given, else RUN.h5 beside the run folder, simulated
    where it is missing.
    """
    out = Path(given) if given is not None else Path(f"{os.fspath(run_dir).rstrip('/')}.h5")
    workers = processes(jobs)
    plan = simulated.make_plan(out, seed=1, classes=classes)
    count = plan.count
    minutes = epochs * EPOCH_MINUTES
    if not out.exists():
        making = (LINES_MINUTES + count / 1000 * SPECTRA_MINUTES) / workers
        console.print(
            f"simulating {count:,} spectra into {out}: about {making:.0f} minutes on {workers} idle cores",
            highlight=False,
            soft_wrap=True,
        )
        simulated.run(plan, out, jobs=jobs, progress=console.is_terminal)
    elif given is None:
        with StoreReader(out) as store:
            if plan.digest()[:16] not in store.source:
                raise ConfigError(
                    f"exists and is not the {classes} set: remove it, or name the set to train on", file=out
                )
    console.print(f"training: about {minutes:.0f} minutes on an idle core", highlight=False)
    return out


def check_labels(data: SpectraSet, classes: str) -> None:
    """ConfigError where a label of ``data`` is not one of the class set ``classes``."""
    known = sorted(set(CLASS_SETS[classes].values()))
    for label in data.classes:
        if label not in known:
            raise ConfigError(f"--classes {classes} are {', '.join(known)}", field="label", value=label)


class ChemistryLoop(fit.Loop):
    """A training loop whose bundle accepts what `MIN_COVERAGE` says."""

    def __init__(
        self, data: SpectraSet, folder: Path, config: fit.TrainConfig, run: dict[str, Any], *rest: Any
    ) -> None:
        run["min_coverage"] = MIN_COVERAGE
        super().__init__(data, folder, config, run, *rest)

    def _split(self, data: SpectraSet, config: fit.TrainConfig) -> splits.Split:
        """Invented minerals are for training alone; the listed ones are split by `_held`."""
        made_up = np.char.startswith(data.specimen, invented.NAME)
        listed = np.flatnonzero(~made_up)
        held = [self._held(name) for name in data.specimen[listed].tolist()]
        parts = splits.split_by_specimen(
            data.label[listed].tolist(),
            held,
            config.seed,
            config.test_specimens,
            config.validation_specimens,
        )
        split = {part: listed[rows] for part, rows in parts.items()}
        return split | {"train": np.union1d(split["train"], np.flatnonzero(made_up))}

    @staticmethod
    def _held(specimen: str) -> str:
        """What is held out as a whole: the specimen."""
        return specimen


class MineralsLoop(ChemistryLoop):
    """The same with all specimens of a mineral in one part: validation and test minerals are not in training."""

    @staticmethod
    def _held(specimen: str) -> str:
        return specimen.rpartition(" ")[0]


def train(
    data: SpectraSet, run_dir: str | PathLike[str], config: fit.TrainConfig, hold_out: str, **options: Any
) -> dict[str, Any]:
    """`fit.train` on `simulate.chemistry`'s grid; ``hold_out``: one of `HOLD_OUT`.

    RunError where a run is resumed with another ``hold_out`` than it was started with.
    """
    loop = MineralsLoop if hold_out == "minerals" else ChemistryLoop
    if (Path(run_dir) / "run.json").exists():
        held = read_run(run_dir).get("specimens", {})
        kinds = {part: {name.rpartition(" ")[0] for name in names} for part, names in held.items()}
        by_mineral = bool(kinds) and not kinds["train"] & kinds["validation"]
        if kinds and by_mineral != (hold_out == "minerals"):
            raise RunError("the run was started with another --hold-out", file=run_dir, value=hold_out)
    return fit.train(data, run_dir, config, steps=simulated.model_grid(), loop=loop, **options)
