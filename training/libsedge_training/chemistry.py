"""`libsedge train --classes chemistry`: eight mineral classes on any instrument, learned from simulated spectra alone.

The set is `simulate.chemistry`'s. Besides the class the net learns how much of each element a specimen holds: a linear
layer on its hidden units, in training only, with the mean square error of the decimal logarithm of the mass fractions.
The bundle does not hold it. It makes the hidden units speak of elements, which carries over to minerals and instruments
that were never seen (docs/real_spectra.md has the comparison).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from libsedge.errors import ConfigError, DatasetError, RunError
from libsedge.store import StoreReader
from rich.console import Console
from torch import nn

from . import fit, splits
from .augment import Augmentation
from .model import read_run
from .simulate import chemistry as simulated
from .simulate import generate, minerals
from .spectra import SpectraSet

HOLD_OUT = ("specimens", "minerals")
#: elements whose amounts are learned beside the class: those that some mineral of the table holds much of and that
#: have lines in NIST ASD as libskit bundles it
ELEMENTS = (
    *(
        "H",
        "Li",
        "Be",
        "B",
        "C",
        "O",
        "F",
        "Na",
        "Mg",
        "Al",
        "Si",
        "P",
        "S",
        "Cl",
        "K",
        "Ca",
        "Ti",
        "V",
        "Cr",
        "Mn",
    ),
    *(
        "Fe",
        "Co",
        "Ni",
        "Cu",
        "Zn",
        "As",
        "Sr",
        "Y",
        "Mo",
        "Ag",
        "Cd",
        "Sn",
        "Sb",
        "Ba",
        "Ce",
        "W",
        "Au",
        "Hg",
        "Pb",
        "Bi",
    ),
)
#: below this mass fraction an element counts as absent
LEAST = 1e-4
#: weight of the elements' mean square error beside the cross-entropy
ELEMENT_WEIGHT = 10.0
#: ranges that instruments lack: ChemCam's and SuperCam's gaps, and partial coverage
GAPS = (
    *((240.0, 300.0), (240.0, 400.0), (240.0, 500.0), (300.0, 400.0), (340.0, 382.0), (382.0, 470.0)),
    *((464.0, 535.0), (500.0, 600.0), (600.0, 700.0), (700.0, 850.0), (500.0, 850.0), (620.0, 850.0)),
)
CONFIG = fit.TrainConfig(
    net="chemistry",
    epochs=24,
    patience=24,
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
LINES_MINUTES, SPECTRA_MINUTES, EPOCH_MINUTES = 2.0, 0.5, 0.25


def config(hold_out: str, **given: Any) -> fit.TrainConfig:
    """The recipe with the options a user gave; of minerals, a fifth each is held out."""
    if hold_out == "minerals":
        given = {"test_specimens": 72, "validation_specimens": 40} | given
    return replace(CONFIG, **given)


def spectra_for(
    run_dir: str | PathLike[str], given: str | None, console: Console, *, epochs: int, jobs: int | None = None
) -> Path:
    """The set to train on: the one given, else RUN.h5 beside the run folder, simulated where it is missing."""
    out = Path(given) if given is not None else Path(f"{os.fspath(run_dir).rstrip('/')}.h5")
    workers = generate.processes(jobs)
    plan = simulated.make_plan(out, seed=1)
    count = len(plan.materials) * plan.specimens * plan.spectra
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
                    "exists and is not the chemistry set: remove it, or name the set to train on", file=out
                )
    console.print(f"training: about {minutes:.0f} minutes on an idle core", highlight=False)
    return out


@cache
def _minerals() -> Mapping[str, minerals.Mineral]:
    return {mineral.name: mineral for mineral in minerals.load_minerals()}


def amounts(seed: int, specimen: str) -> np.ndarray:
    """Amounts of `ELEMENTS` in a virtual specimen, float32, 0 (absent) to 1 (pure): a logarithmic scale.

    ``specimen``: its name in a chemistry set, such as "galena 3"; ``seed``: the set's. `DatasetError` for another name.
    """
    name, _, number = specimen.rpartition(" ")
    if name not in _minerals() or not number.isdigit():
        raise DatasetError("is no specimen of a chemistry set", field="specimen", value=specimen)
    masses = minerals.draw_specimen(_minerals()[name], simulated.specimen_rng(seed, name, int(number)))
    share = np.array([masses.get(element, 0.0) for element in ELEMENTS])
    return np.asarray(np.clip(1 - np.log10(np.maximum(share, 1e-9)) / np.log10(LEAST), 0, 1), np.float32)


def seed_of(data: SpectraSet) -> int:
    """The seed that a chemistry set was simulated with; `DatasetError` for another set."""
    found = re.match(r"libsedge simulate --preset chemistry, seed (\d+),", data.source)
    if found is None:
        raise DatasetError(
            "is not made by `libsedge simulate --preset chemistry`", field="source", value=data.source
        )
    return int(found[1])


class ChemistryLoop(fit.Loop):
    """A training loop that also learns the elements. A split by minerals keeps all specimens of one together."""

    hold_out = "specimens"

    def __init__(self, data: SpectraSet, folder: Path, config: fit.TrainConfig, *rest: Any) -> None:
        self._specimens: list[str] = []
        super().__init__(data, folder, config, *rest)
        seed = seed_of(data)
        of = {name: amounts(seed, name) for name in sorted(set(self._specimens))}
        self.amounts = torch.from_numpy(np.stack([of[name] for name in self._specimens]))
        self.elements = nn.Linear(self.net.dense.in_features, len(ELEMENTS))
        self.optimizer.add_param_group({"params": list(self.elements.parameters())})
        self._hidden = torch.empty(0)
        self.run["min_coverage"] = MIN_COVERAGE
        self.net.dense.register_forward_pre_hook(self._keep_hidden)

    def _keep_hidden(self, layer: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        self._hidden = inputs[0]

    def _split(self, data: SpectraSet, config: fit.TrainConfig) -> splits.Split:
        names = data.specimen.tolist()
        groups = [name.rpartition(" ")[0] for name in names] if self.hold_out == "minerals" else names
        split = splits.split_by_specimen(
            data.label.tolist(), groups, config.seed, config.test_specimens, config.validation_specimens
        )
        self._specimens = [names[row] for row in split["train"]]
        return split

    def _loss(self, logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        error = nn.functional.mse_loss(self.elements(self._hidden), self.amounts[rows])
        return super()._loss(logits, rows) + ELEMENT_WEIGHT * error

    def state(self) -> dict[str, torch.Tensor]:
        return super().state() | {f"elements.{name}": t for name, t in self.elements.state_dict().items()}

    def load(self, state: dict[str, torch.Tensor]) -> None:
        super().load(state)
        self.elements.load_state_dict({n[9:]: t for n, t in state.items() if n.startswith("elements.")})


class MineralsLoop(ChemistryLoop):
    """The same with validation and test on minerals that are not in training."""

    hold_out = "minerals"


def train(
    data: SpectraSet, run_dir: str | PathLike[str], config: fit.TrainConfig, hold_out: str, **options: Any
) -> dict[str, Any]:
    """`fit.train` with `simulate.chemistry`'s grid and the elements; ``hold_out``: one of `HOLD_OUT`.

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
