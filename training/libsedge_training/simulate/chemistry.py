"""The simulated sets of the chemistry model: the minerals of `minerals.csv` and invented ones, each spectrum on another
instrument.

Labels are those of a class set (`minerals.CLASS_SETS`). A virtual specimen is a random composition of a mineral
(`minerals`); its spectra are shot under random circumstances (`random_plasma`) on random spectrometers
(`random_instrument`), and stored on the model's own grid. Same seed, same bytes, whatever the number of processes (see
`parts`). The absorption table is computed once a set and waits in ``OUT.parts/`` with the parts.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import os
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from libsedge.errors import ConfigError
from libsedge.preprocess import PreprocessConfig, Segment
from libsedge.store import StoreWriter

from libsedge_training.simulate import (
    absorption,
    invented,
    minerals,
    plasma,
    random_instrument,
    random_plasma,
)
from libsedge_training.simulate.parts import finish, open_parts, processes, progress_bar

#: raised whenever the same configuration gives other spectra than before
REVISION = 3
#: specimens a mineral and spectra a specimen; invented minerals a rule, of one specimen and one spectrum each
SPECIMENS, SPECTRA, INVENTED = 16, 3, 3200


def model_grid(windows: tuple[int, int] = (8, 15)) -> PreprocessConfig:
    """The model's grid: 0.08 nm below 400 nm, 0.15 nm above, in ``windows`` equal parts, each normalised by itself.

    A window of 20 to 30 nm is so narrow that an instrument's response is nearly constant in it: what is left are the
    line ratios within a window, and which lines are there at all.
    """
    low = np.linspace(240.0, 400.0, windows[0] + 1)
    high = np.linspace(400.0, 850.0, windows[1] + 1)
    parts = [(a, b, 0.08) for a, b in itertools.pairwise(low)]
    parts += [(a, b, 0.15) for a, b in itertools.pairwise(high)]
    return PreprocessConfig(tuple(Segment(float(a), float(b), round((b - a) / step)) for a, b, step in parts))


def elements(chosen: tuple[minerals.Mineral, ...]) -> list[str]:
    """Every element that a spectrum of these minerals can hold, sorted."""
    found = set(minerals.EVERYWHERE)
    if any(mineral.name.startswith(invented.NAME) for mineral in chosen):
        found |= invented.elements()
    for mineral in minerals.load_minerals():
        if mineral in chosen or mineral.name in minerals.GANGUE:
            found |= minerals.elements_of(mineral)
    for _, gas, _ in random_plasma.ATMOSPHERES.values():
        found |= set(gas)
    return sorted(found)


@functools.cache
def _table(folder: str) -> absorption.Absorption:
    return absorption.load(Path(folder))


def specimen_rng(seed: int, mineral: str, specimen: int) -> np.random.Generator:
    """The random numbers of one specimen: first its composition, then its spectra."""
    key = (zlib.crc32(mineral.encode()), specimen)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))


@dataclass(frozen=True)
class Plan:
    """Everything that decides the bytes of a set; ``folder`` holds the absorption table and decides nothing.

    ``materials``: listed minerals with ``specimens`` of ``spectra`` each, and `invented.kinds` with ``invented`` of
    one spectrum each; ``classes``: the class set that their labels are of.
    """

    seed: int
    specimens: int
    invented: int
    spectra: int
    materials: tuple[minerals.Mineral, ...]
    classes: str
    folder: str

    def digest(self) -> str:
        """SHA-256, hex, of the plan and of libskit's version."""
        content = {"revision": REVISION, "libskit": plasma.libskit_version(), **asdict(self), "folder": ""}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def specimens_of(self, material: minerals.Mineral) -> int:
        """How many virtual specimens of one material the set has; rocks take the place of half of the invented
        silicates.
        """
        if material.formula:
            return self.specimens
        rocks = "rock" in minerals.CLASS_SETS[self.classes]
        return self.invented // 2 if rocks and material.label == "silicate" else self.invented

    def spectra_of(self, material: minerals.Mineral) -> int:
        """How many spectra each specimen of one material has."""
        return self.spectra if material.formula else 1

    @property
    def count(self) -> int:
        """Spectra of the whole set."""
        return sum(self.specimens_of(material) * self.spectra_of(material) for material in self.materials)

    def label(self, material: minerals.Mineral) -> str:
        """The class of one material in the class set."""
        return minerals.CLASS_SETS[self.classes][material.label]

    def simulate(self, material: minerals.Mineral) -> np.ndarray:
        """Relative counts float32 [specimens * spectra of each, points of the grid] of one material."""
        table, at = _table(self.folder), model_grid().grid_nm
        rows = []
        for specimen in range(self.specimens_of(material)):
            rng = specimen_rng(self.seed, material.name, specimen)
            if material.formula:
                masses = minerals.draw_specimen(material, rng)
            else:
                masses = invented.draw_specimen(material.label, rng)
            for _ in range(self.spectra_of(material)):
                light = random_plasma.draw(table, masses, rng)
                instrument = random_instrument.draw(rng)
                rows.append(random_instrument.measure(light.radiance, instrument, at, rng))
        return np.stack(rows)


def make_plan(
    out: str | os.PathLike[str],
    seed: int,
    *,
    classes: str = "chemistry",
    specimens: int | None = None,
    spectra: int | None = None,
    names: list[str] | None = None,
) -> Plan:
    """The plan of a set to be written to ``out``; ``names``: of listed minerals, None = all of the class set and the
    invented ones.

    `ConfigError` out of range, or for a mineral that the class set ``classes`` leaves out.
    """
    labels = minerals.CLASS_SETS[classes]
    listed = tuple(mineral for mineral in minerals.load_minerals() if mineral.label in labels)
    chosen = listed + tuple(kind for kind in invented.kinds() if kind.label in labels)
    if names is not None:
        known = {mineral.name for mineral in listed}
        for name in names:
            if name not in known:
                raise ConfigError(
                    f"is not in simulate/minerals.csv under the classes {classes}",
                    field="materials",
                    value=name,
                )
        chosen = tuple(mineral for mineral in listed if mineral.name in names)
    counts = {"specimens": specimens or SPECIMENS, "spectra": spectra or SPECTRA}
    more = INVENTED * counts["specimens"] // SPECIMENS
    for field, value in (*counts.items(), ("seed", seed + 1)):
        if not 1 <= value < 2**31:
            raise ConfigError("must be at least 1 (a seed: 0)", field=field, value=value)
    folder = str(_parts_folder(out) / "lines")
    return Plan(seed, counts["specimens"], more, counts["spectra"], chosen, classes, folder)


def _parts_folder(out: str | os.PathLike[str]) -> Path:
    return Path(out).with_name(Path(out).name + ".parts")


def run(plan: Plan, out: str | os.PathLike[str], *, jobs: int | None = None, progress: bool = False) -> Path:
    """Carry out ``plan`` and write the store ``out``; resumes, and raises, as `generate.run`."""
    path = Path(out)
    open_parts(plan, path)
    folder = Path(plan.folder)
    folder.mkdir(exist_ok=True)
    wanted = elements(plan.materials)
    with progress_bar(progress, len(wanted), what="absorption of elements") as advance:
        absorption.build(wanted, folder, processes(jobs), advance)
    parts = finish(plan, path, jobs=jobs, progress=progress)
    with StoreWriter(
        path,
        wavelength=model_grid().grid_nm,
        dtype=np.float32,
        quantity="intensity",
        instrument="random spectrometers (simulated)",
        source=f"libsedge simulate --preset {plan.classes}, seed {plan.seed}, plan {plan.digest()[:16]}, "
        f"libskit {plasma.libskit_version()} (NIST ASD)",
        simulated=True,
    ) as store:
        for material in plan.materials:
            specimens, spectra = plan.specimens_of(material), plan.spectra_of(material)
            store.append(
                parts.load(material),
                specimen=[f"{material.name} {k}" for k in np.repeat(np.arange(specimens), spectra)],
                label=[plan.label(material)] * (specimens * spectra),
                distance_m=np.full(specimens * spectra, np.nan, np.float32),
                shot=np.tile(np.arange(spectra, dtype=np.int32), specimens),
            )
    parts.remove()
    return path
