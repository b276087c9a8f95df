"""Light of a virtual specimen's plasma, everything that is not the specimen drawn at random.

Domain randomisation: atmosphere, temperature, electron density, size, stages of cooling, self-absorption, continuum
and bands vary over more than any one set-up shows, so that what is learned from the spectra holds for all of them. A
stage is a hot core seen through a cooler rim, I = [B(T_c)(1 - e^-tau_c)] e^-tau_r + B(T_r)(1 - e^-tau_r); an exposure
adds one to three stages, of short gates or long ones, and often the gas around, which the shock wave heats: it gives
the oxygen and nitrogen lines of metals in air. What the plasma holds is not quite what the specimen is made of
(`_evaporated`), and no line is as strong as the tables say (`_gains`). The ranges are typical of the literature and our
judgement.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import constants  # type: ignore[import-untyped]
from scipy.ndimage import gaussian_filter1d  # type: ignore[import-untyped]

from libsedge_training.simulate import bands, plasma
from libsedge_training.simulate.absorption import (
    AXIS,
    DENSITIES,
    STEP_NM,
    TEMPERATURES,
    Absorption,
    grid,
    planck,
)
from libsedge_training.simulate.minerals import atomic_mass

#: atmosphere -> (how often, atom fractions, largest electron density that it holds together)
ATMOSPHERES: dict[str, tuple[float, dict[str, float], float]] = {
    "air": (0.62, {"N": 0.775, "O": 0.208, "Ar": 0.005, "H": 0.012}, 1e24),
    "argon": (0.12, {"Ar": 0.99, "N": 0.008, "O": 0.002}, 1e24),
    "nitrogen": (0.04, {"N": 0.99, "O": 0.01}, 1e24),
    "Mars": (0.14, {"O": 0.63, "C": 0.32, "N": 0.04, "Ar": 0.01}, 2.5e23),
    "vacuum": (0.08, {}, 6e22),
}
#: how often the hottest stage of an exposure has the temperature of each node. Spectrometers that begin with the laser
#: pulse see 20,000 K and more: Al III above Al II lines
HOTTEST = (0.01, 0.04, 0.1, 0.16, 0.18, 0.17, 0.13, 0.09, 0.06, 0.04, 0.02)
#: an element's share of the plasma over that of the specimen: standard deviation of its logarithm
EVAPORATION = 0.3
#: strengths of lines: largest standard deviation of their logarithm, and the points after which errors are new.
#: NIST's grades: C within 25 %, D within 50 %, E beyond; departures from equilibrium come on top
LINE_ERROR, LINE_CELL = 0.5, 10
#: no plasma in contact with a sample is denser than this pressure, Pa
MOST_PRESSURE = 5e6


@dataclass(frozen=True)
class Light:
    """Relative radiance a nm, float32 [points] of `absorption.grid`, and what it was drawn from."""

    radiance: np.ndarray
    atmosphere: str
    temperature: float
    density: float


def atom_fractions(masses: Mapping[str, float]) -> dict[str, float]:
    """Atom fractions of mass fractions."""
    counts = {element: fraction / atomic_mass(element) for element, fraction in masses.items()}
    total = sum(counts.values())
    return {element: count / total for element, count in counts.items()}


def _mixed(sample: Mapping[str, float], gas: Mapping[str, float], share: float) -> dict[str, float]:
    if not gas:
        return dict(sample)
    return {e: (1 - share) * sample.get(e, 0.0) + share * gas.get(e, 0.0) for e in {**sample, **gas}}


def _evaporated(sample: Mapping[str, float], rng: np.random.Generator) -> dict[str, float]:
    """Atom fractions of what leaves the specimen: elements boil, melt and are carried away differently."""
    amounts = {e: x * np.exp(EVAPORATION * rng.standard_normal()) for e, x in sample.items()}
    total = sum(amounts.values())
    return {e: x / total for e, x in amounts.items()}


def _gains(elements: Iterable[str], points: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Random factors float32 [points] on the strengths of each element's lines; not of hydrogen's, which are known."""
    spread = LINE_ERROR * rng.random()
    cells = -(-points // LINE_CELL)
    within = (np.arange(LINE_CELL, dtype=np.float32) / LINE_CELL)[None, :]
    gains = {}
    for element in elements:
        if element != "H":
            nodes = np.exp(spread * rng.standard_normal(cells + 1, dtype=np.float32))
            gains[element] = (nodes[:-1, None] + np.diff(nodes)[:, None] * within).ravel()[:points]
    return gains


def _widened(depth: np.ndarray, fwhm: float) -> np.ndarray:
    """Lines made wider by ``fwhm`` nm with wings: Stark widths of lines that STARK-B does not list."""
    sigma = fwhm / np.sqrt(8 * np.log(2)) / STEP_NM
    near, far = gaussian_filter1d(depth, sigma), gaussian_filter1d(depth, 4 * sigma, truncate=3.0)
    return np.asarray(0.6 * near + 0.4 * far)


def _stage(
    table: Absorption,
    shares: Mapping[str, float],
    gains: Mapping[str, np.ndarray],
    i: int,
    k: int,
    most: float,
    rng: np.random.Generator,
) -> np.ndarray:
    nm = grid()
    while k > 0 and (
        DENSITIES[k] > most or table.atoms(shares, i, k) * constants.k * TEMPERATURES[i] > MOST_PRESSURE
    ):
        k -= 1
    length = 10 ** rng.uniform(-5.2, -3.0)
    extra = 10 ** rng.uniform(-2.3, -0.9) * (DENSITIES[k] / 2e23) ** 0.5
    light = planck(nm, TEMPERATURES[i]) * -np.expm1(
        -length * _widened(table.per_metre(shares, i, k, gains), extra)
    )
    if rng.random() < 0.75:
        j = max(0, i - int(rng.integers(1, 4)))
        h = max(0, k - int(rng.integers(0, 2)))
        while h > 0 and table.atoms(shares, j, h) * constants.k * TEMPERATURES[j] > MOST_PRESSURE:
            h -= 1
        rim = length * 10 ** rng.uniform(-2.0, 0.3) * table.per_metre(shares, j, h, gains)
        light = light * np.exp(-rim) + planck(nm, TEMPERATURES[j]) * -np.expm1(-rim)
    return np.asarray(light)


def _continuum(temperature: float, rng: np.random.Generator) -> np.ndarray:
    """Free-free and free-bound radiation with a random temperature, mean 1."""
    light = plasma.continuum(grid(), temperature * rng.uniform(0.8, 2.0), 1e23, plasma.PlasmaConfig())
    return np.asarray(light / light.mean())


def draw(table: Absorption, masses: Mapping[str, float], rng: np.random.Generator) -> Light:
    """The light of a specimen with the mass fractions ``masses`` under random circumstances."""
    names = list(ATMOSPHERES)
    name = names[rng.choice(len(names), p=[ATMOSPHERES[n][0] for n in names])]
    _, gas, most = ATMOSPHERES[name]
    sample = _evaporated(atom_fractions(masses), rng)
    shares = _mixed(sample, gas, 10 ** rng.uniform(-2.0, -0.1))
    gains = _gains(shares, grid().size, rng)
    hottest = int(rng.choice(len(TEMPERATURES), p=HOTTEST))
    density = int(rng.choice(len(DENSITIES), p=[0.2, 0.3, 0.35, 0.15]))
    cooling = int(rng.integers(1, 4))  # nodes from one stage to the next: short gates and long ones
    total = np.zeros(grid().size)
    for number in range(int(rng.integers(1, 4))):
        i, k = max(0, hottest - number * cooling), max(0, density - number * int(rng.integers(0, 2)))
        stage = _stage(table, shares, gains, i, k, most, rng)
        total += rng.exponential() * stage / max(float(stage.mean()), 1e-30)
    total /= total.mean()
    if gas and rng.random() < 0.6:
        around = _mixed(sample, gas, 1 - 10 ** rng.uniform(-3.0, -1.3))
        stage = _stage(table, around, gains, hottest, density, most, rng)
        total += 10 ** rng.uniform(-1.7, 0.2) * stage / max(float(stage.mean()), 1e-30)
    for elements, shape in bands.shapes(AXIS[0], STEP_NM, total.size).values():
        if all(shares.get(e, 0.0) > 3e-3 for e in elements) and rng.random() < 0.6:
            total += np.sqrt(min(shares[e] for e in elements)) * 10 ** rng.uniform(-2.5, 0.2) * shape
    if rng.random() < 0.9:
        total += 10 ** rng.uniform(-1.3, 1.0) * _continuum(TEMPERATURES[hottest], rng)
    return Light((total / total.mean()).astype(np.float32), name, TEMPERATURES[hottest], DENSITIES[density])
