"""A seeded, resumable simulated set of spectra: materials x distances x shots into one spectra store.

Every random stream is numpy's `SeedSequence` of (seed, what it is for, CRC-32 of the material's name,
distance in mm): neither the number of processes nor the choice of other materials and distances changes a
spectrum. Work is one part a material (`parts.py`); the store appears under its name when it is complete.
The bytes are the same for the same configuration, library versions and kind of CPU.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from libsedge.errors import ConfigError
from libsedge.store import StoreWriter

from libsedge_training.simulate import materials as table
from libsedge_training.simulate import plasma, scene, zones
from libsedge_training.simulate.dust import Dust, DustyTable
from libsedge_training.simulate.instrument import InstrumentConfig, Spectrometer
from libsedge_training.simulate.parts import finish

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
    split by specimen they would be different specimens. ``dust``: on the first shots of every point.
    """

    seed: int
    distances: tuple[float, ...]
    spectra: int
    materials: tuple[table.Material, ...]
    scene: scene.SceneConfig
    plasma: plasma.PlasmaConfig | zones.ZonesConfig
    instrument: InstrumentConfig
    targets: int = 1
    dust: Dust | None = None

    def digest(self) -> str:
        """SHA-256, hex, of the plan and of libskit's version."""
        content = {"revision": REVISION, "libskit": plasma.libskit_version(), **asdict(self)}
        if self.dust is None:  # plans were made before there was dust, and their digests are written down
            del content["dust"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def simulate(self, material: table.Material) -> np.ndarray:
        """See `simulate_material`."""
        return simulate_material(self, material)


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
    dust: Dust | None = None,
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
        dust=dust,
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
) -> plasma.States:
    """The table of one material in the plan's physics; ``rng`` draws how its composition varies.

    With dust: a table for every share of it that a point's shots have, and one without; elements that only the dust has
    do not vary.
    """
    varied = plasma.directions(composition, plan.plasma.spread, plan.scene.directions, rng)

    def table_of(parts: Mapping[str, float]) -> plasma.States:
        along = [{element: one.get(element, 0.0) for element in parts} for one in varied]
        if isinstance(plan.plasma, zones.ZonesConfig):
            return zones.state_table(parts, along, bands, plan.plasma)
        return plasma.state_table(parts, along, bands, plan.plasma)

    if plan.dust is None:
        return table_of(composition)
    shares = plan.dust.shares(min(plan.scene.shots_per_point, plan.spectra))
    dusty = [table_of(plan.dust.over(composition, share)) for share in shares]
    return DustyTable((*dusty, table_of(composition)))


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
