"""A seeded, resumable simulated set of spectra: materials x distances x shots into one spectra store.

Every random stream is numpy's `SeedSequence` of (seed, what it is for, CRC-32 of the material's name,
distance in mm): neither the number of processes nor the choice of other materials and distances changes a
spectrum. Work is one part a material; finished parts wait in ``OUT.parts/`` (counts and a JSON note with
their SHA-256), so that an interrupted run goes on, and the store appears under its name when it is complete.
The bytes are the same for the same configuration, library versions and kind of CPU.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import multiprocessing
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from libsedge.errors import ConfigError, FileFormatError, SedgeError
from libsedge.store import StoreWriter

from libsedge_training.simulate import materials as table
from libsedge_training.simulate import plasma, scene, zones
from libsedge_training.simulate.instrument import InstrumentConfig, Spectrometer

#: raised whenever the same configuration gives other spectra than before
REVISION = 1
INSTRUMENT = "{}-like (simulated)"
#: the eight distances are our choice: the paper's are not public
DISTANCES = (2.0, 2.3, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0)
MAX_SPECTRA = 10_000
_DARK, _MATERIAL, _CELL = 0, 1, 2  # purposes of random streams


@dataclass(frozen=True)
class Preset:
    """Distances (m), spectra a material and distance, and how many materials of each class (None = all)."""

    distances: tuple[float, ...]
    spectra: int
    per_class: int | None = None


PRESETS = {
    "tiny": Preset((2.0, 3.0, 5.0), 4, 3),
    "small": Preset(DISTANCES, 6),
    "full": Preset(DISTANCES, 60),
}


#: what the plasma is made of, by name: one uniform column, or a hot core behind a cool rim and a periphery
PHYSICS: dict[str, tuple[scene.SceneConfig, plasma.PlasmaConfig | zones.ZonesConfig]] = {
    "uniform": (scene.SceneConfig(), plasma.PlasmaConfig()),
    "zones": (zones.SCENE, zones.ZonesConfig()),
}
#: the one that keeps every band of `fidelity.py`; the option of `libsedge simulate` says it too
DEFAULT_PHYSICS = "zones"


@dataclass(frozen=True)
class Plan:
    """Everything that decides the bytes of a set; `digest` is its fingerprint.

    ``targets`` of each material, each with its own offsets (`scene.Target`), beyond the first only for `fidelity`: to a
    split by specimen they would be different specimens.
    """

    seed: int
    distances: tuple[float, ...]
    spectra: int
    materials: tuple[table.Material, ...]
    scene: scene.SceneConfig
    plasma: plasma.PlasmaConfig | zones.ZonesConfig
    instrument: InstrumentConfig
    targets: int = 1

    def digest(self) -> str:
        """SHA-256, hex, of the plan and of libskit's version."""
        content = {"revision": REVISION, "libskit": plasma.libskit_version(), **asdict(self)}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def simulate(self, material: table.Material) -> np.ndarray:
        """See `simulate_material`."""
        return simulate_material(self, material)


class Work(Protocol):
    """What `finish` carries out: named materials, one part of counts each. `Plan` is one, `chemistry.Plan` another."""

    @property
    def materials(self) -> tuple[Any, ...]: ...
    def digest(self) -> str: ...
    def simulate(self, material: Any) -> np.ndarray: ...


def make_plan(
    preset: str,
    seed: int,
    *,
    distances: Sequence[float] | None = None,
    spectra: int | None = None,
    materials: Sequence[str] | None = None,
    physics: str = DEFAULT_PHYSICS,
    scene_config: scene.SceneConfig | None = None,
    plasma_config: plasma.PlasmaConfig | zones.ZonesConfig | None = None,
    instrument_config: InstrumentConfig | None = None,
) -> Plan:
    """The plan of a preset with the given changes; anything out of its range is a `ConfigError`."""
    if preset not in PRESETS:
        raise ConfigError(f"must be one of {sorted(PRESETS)}", field="preset", value=preset)
    base = PRESETS[preset]
    if not 0 <= seed < 2**63:
        raise ConfigError("must be 0 ... 2^63 - 1", field="seed", value=seed)
    count = base.spectra if spectra is None else spectra
    if not 1 <= count <= MAX_SPECTRA:
        raise ConfigError(f"must be 1 ... {MAX_SPECTRA}", field="spectra", value=count)
    chosen = base.distances if distances is None else distances
    rounded = tuple(sorted(scene.check_distance(distance) for distance in chosen))
    if not rounded or len(set(rounded)) != len(rounded):
        raise ConfigError(
            "names each distance (to 1 mm) once, at least one", field="distances", value=list(chosen)
        )
    everything = table.load_materials()
    if materials is None and base.per_class is not None:
        picked = table.first_of_each_class(everything, base.per_class)
    else:
        picked = table.choose(materials, everything)
    if physics not in PHYSICS:
        raise ConfigError(f"must be one of {sorted(PHYSICS)}", field="physics", value=physics)
    usual_scene, usual_plasma = PHYSICS[physics]
    return Plan(
        seed,
        rounded,
        count,
        picked,
        scene_config or usual_scene,
        plasma_config or usual_plasma,
        instrument_config or InstrumentConfig(),
    )


def _rng(plan: Plan, *key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(plan.seed, spawn_key=key)))


def dark_level(plan: Plan) -> tuple[np.ndarray, np.ndarray]:
    """(true dark level, float64 [channels]; the mean of measured dark frames, float32 [channels]), counts."""
    spectrometer = Spectrometer(plan.instrument)
    rng = _rng(plan, _DARK)
    pattern = spectrometer.draw_pattern(rng)
    return pattern, spectrometer.mean_dark(pattern, rng)


def state_table(
    plan: Plan, composition: Mapping[str, float], rng: np.random.Generator, bands: Sequence[plasma.Band]
) -> plasma.StateTable | zones.ZonesTable:
    """The table of one material in the plan's physics; ``rng`` draws how its composition varies."""
    varied = plasma.directions(composition, plan.plasma.spread, plan.scene.directions, rng)
    if isinstance(plan.plasma, zones.ZonesConfig):
        return zones.state_table(composition, varied, bands, plan.plasma)
    return plasma.state_table(composition, varied, bands, plan.plasma)


def simulate_material(plan: Plan, material: table.Material) -> np.ndarray:
    """Counts uint16 [targets * distances * spectra, channels] of one material, distances in the plan's order."""
    spectrometer = Spectrometer(plan.instrument)
    pattern, _ = dark_level(plan)
    crc = zlib.crc32(material.name.encode())
    rng = _rng(plan, _MATERIAL, crc)
    targets = [scene.draw_target(rng, plan.scene)]
    states = state_table(plan, dict(material.composition), rng, spectrometer.bands)
    targets += [scene.draw_target(rng, plan.scene) for _ in range(plan.targets - 1)]
    parts = []
    for number, target in enumerate(targets):
        for distance in plan.distances:
            again = (number,) if number else ()  # the first target's spectra are the same without the others
            rng = _rng(plan, _CELL, crc, round(distance * 1000), *again)
            shots = scene.draw_shots(rng, target, distance, plan.spectra, plan.scene)
            drift = spectrometer.draw_drift(rng, plan.spectra)
            for start in range(0, plan.spectra, 60):  # bounds the memory
                rows = slice(start, start + 60)
                radiance = states.shots(shots, rows)
                radiance *= shots.gain[rows, None]
                parts.append(spectrometer.expose(spectrometer.electrons(radiance, drift[rows]), pattern, rng))
    return np.concatenate(parts)


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)


class _Parts:
    """The folder of finished parts beside the output; every file in it is named by this class."""

    def __init__(self, out: Path, plan: Work) -> None:
        self.folder = out.with_name(out.name + ".parts")
        self.plan, self.digest = plan, plan.digest()

    def open(self) -> None:
        """Make the folder or take over an earlier one of the same plan; `ConfigError` for another plan's."""
        note = self.folder / "plan.json"
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot be made: {error}", file=self.folder, field="output") from error
        if note.exists():
            found = self._json(note).get("digest")
            if found != self.digest:
                raise ConfigError(
                    "holds parts of another configuration: remove it or choose another output",
                    file=self.folder,
                    field="digest",
                    value=found,
                )
        elif any(self.folder.iterdir()):
            raise ConfigError(
                "exists and is no folder of parts: remove it or choose another output", file=self.folder
            )
        else:
            _write(note, json.dumps({"digest": self.digest}).encode())

    @staticmethod
    def _json(path: Path) -> dict[str, object]:
        try:
            content = json.loads(path.read_bytes())
        except ValueError as error:
            raise FileFormatError(f"not JSON: {error}; remove it to start again", file=path) from error
        if not isinstance(content, dict):
            raise FileFormatError("not a JSON object; remove it to start again", file=path)
        return content

    def _paths(self, material: Any) -> tuple[Path, Path]:
        name = f"{self.plan.materials.index(material):03d}"
        return self.folder / f"{name}.npy", self.folder / f"{name}.json"

    def done(self, material: Any) -> bool:
        return self._paths(material)[1].exists()

    def save(self, material: Any, counts: np.ndarray) -> None:
        data, note = self._paths(material)
        buffer = io.BytesIO()
        np.save(buffer, counts, allow_pickle=False)
        _write(data, buffer.getvalue())
        content = {"material": material.name, "sha256": hashlib.sha256(buffer.getvalue()).hexdigest()}
        _write(note, json.dumps(content).encode())  # last: a part counts from here on

    def load(self, material: Any) -> np.ndarray:
        """The counts of a finished part; `FileFormatError` where it is missing, damaged or another
        material's.
        """
        data, note = self._paths(material)
        content = self._json(note)
        if content.get("material") != material.name:
            raise FileFormatError(
                f"is not {material.name!r}", file=note, field="material", value=content.get("material")
            )
        try:
            raw = data.read_bytes()
        except OSError as error:
            raise FileFormatError(
                f"cannot be read ({error}); remove {note.name} to compute it again", file=data
            ) from error
        found = hashlib.sha256(raw).hexdigest()
        if found != content.get("sha256"):
            raise FileFormatError(
                f"is damaged; remove {note.name} to compute it again", file=data, field="sha256", value=found
            )
        counts: np.ndarray = np.load(io.BytesIO(raw), allow_pickle=False)
        return counts

    def remove(self) -> None:
        shutil.rmtree(self.folder)


def _work(plan: Work, out: Path, material: Any) -> str:
    _Parts(out, plan).save(material, plan.simulate(material))
    return str(material.name)


def _compute(plan: Work, out: Path, missing: Sequence[Any], jobs: int) -> Iterator[str]:
    """Names of the materials whose parts get finished, in the order of finishing."""
    if jobs == 1 or len(missing) <= 1:
        for material in missing:
            yield _work(plan, out, material)
        return
    # spawn: the same start on every platform, and no copy of this process's threads and locks
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(missing)), mp_context=context) as pool:
        futures = [pool.submit(_work, plan, out, material) for material in missing]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise SedgeError(
                "a worker process was ended from outside (out of memory?); finished parts are kept, call again",
                file=out,
            ) from error
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


@contextlib.contextmanager
def progress_bar(
    show: bool, total: int, done: int = 0, what: str = "simulating materials"
) -> Iterator[Callable[[], None]]:
    if not show:
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total, completed=done)
        yield lambda: bar.advance(task)


def open_parts(plan: Work, path: Path) -> _Parts:
    """The folder of parts beside ``path``; `ConfigError` where ``path`` exists or cannot be."""
    if path.exists():
        raise ConfigError("exists already: remove it or choose another output", file=path, field="output")
    if not path.parent.is_dir():
        raise ConfigError("the folder does not exist", file=path, field="output")
    parts = _Parts(path, plan)
    parts.open()
    return parts


def finish(plan: Work, path: Path, *, jobs: int | None = None, progress: bool = False) -> _Parts:
    """All parts of ``plan`` beside ``path``, taking over the finished ones of an interrupted run; see `run`."""
    workers = processes(jobs)
    parts = open_parts(plan, path)
    missing = [material for material in plan.materials if not parts.done(material)]
    for material in plan.materials:
        if material not in missing:
            parts.load(material)  # proves earlier parts before hours of work are added to them
    total = len(plan.materials)
    with progress_bar(progress, total, total - len(missing)) as advance:
        for _ in _compute(plan, path, missing, workers):
            advance()
    return parts


def processes(jobs: int | None) -> int:
    """``jobs``, None = CPUs this process may use; `ConfigError` beyond 1 ... 1024."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = available if jobs is None else jobs
    if not 1 <= workers <= 1024:
        raise ConfigError("must be 1 ... 1024", field="jobs", value=workers)
    return workers


def run(plan: Plan, out: str | os.PathLike[str], *, jobs: int | None = None, progress: bool = False) -> Path:
    """Carry out ``plan`` and write the store ``out``, taking over the finished parts of an interrupted run.

    ``jobs``: processes, None = CPUs this process may use. Raises `ConfigError` (an existing ``out``, a
    missing folder, parts of another plan), `FileFormatError` (a damaged part). Returns the path written.
    """
    path = Path(out)
    parts = finish(plan, path, jobs=jobs, progress=progress)
    spectrometer = Spectrometer(plan.instrument)
    _, dark = dark_level(plan)
    cells = len(plan.distances) * plan.spectra  # of one target
    with StoreWriter(
        path,
        wavelength=spectrometer.wavelength,
        dtype=np.uint16,
        dark=dark,
        quantity="counts",
        saturation=float(plan.instrument.saturation_counts),
        instrument=INSTRUMENT.format(plan.instrument.name),
        source=f"libsedge simulate, seed {plan.seed}, plan {plan.digest()[:16]}, "
        f"libskit {plasma.libskit_version()} (NIST ASD)",
        simulated=True,
    ) as store:
        for material in plan.materials:
            store.append(
                parts.load(material),
                specimen=[
                    f"{material.name}, target {number + 1}" if number else material.name
                    for number in range(plan.targets)
                    for _ in range(cells)
                ],
                label=[material.label] * cells * plan.targets,
                distance_m=np.tile(
                    np.repeat(np.array(plan.distances, np.float32), plan.spectra), plan.targets
                ),
                shot=np.tile(np.arange(plan.spectra, dtype=np.int32), len(plan.distances) * plan.targets),
            )
    parts.remove()
    return path


def generate(
    preset: str,
    out: str | os.PathLike[str],
    seed: int,
    *,
    jobs: int | None = None,
    distances: Sequence[float] | None = None,
    spectra: int | None = None,
    materials: Sequence[str] | None = None,
    progress: bool = False,
) -> Path:
    """Simulate the set of a preset (`PRESETS`) into the store ``out``; see `make_plan` and `run`."""
    plan = make_plan(preset, seed, distances=distances, spectra=spectra, materials=materials)
    return run(plan, out, jobs=jobs, progress=progress)
