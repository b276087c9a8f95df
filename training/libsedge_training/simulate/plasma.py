"""Plasma emission in local thermodynamic equilibrium, from libskit and the NIST ASD lines it bundles.

The only file that imports libskit. Lines: one uniform column, Saha-Boltzmann populations, self-absorption
(libskit). Continuum (libskit has none): free-free and free-bound emission of an early, hotter and denser
stage, because the detectors are not gated. Entrained CO2 of the atmosphere is part of the plasma. Left out:
molecular bands, gradients within the plasma, Stark widths beyond STARK-B (0.01 nm at 1e17 cm^-3 where STARK-B
has none; the two Balmer lines in range have their own).

A `StateTable` keeps the emission of one material at a few states around a reference, and interpolates its
logarithm.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from libsedge_training.simulate.scene import Shots

PLANCK, LIGHT, BOLTZMANN = 6.62607015e-34, 299792458.0, 1.380649e-23
#: constant of the free-free and free-bound continuum (Kramers), W m^4 K^0.5 sr^-1:
#: 16 pi e^6 / (3 c^2 (4 pi eps0)^3 sqrt(6 pi m_e^3 k))
CONTINUUM = 1.632e-43
CO2 = {"O": 0.7271, "C": 0.2729}  # mass fractions
#: full widths (nm) at 1e17 cm^-3 of H alpha and H beta by wavelength (vacuum nm): Gigosos et al. 2003,
#: doi:10.1016/S0584-8547(03)00097-1
BALMER = {656.47: 0.549, 486.27: 4.8}
#: mass of the atom whose name hydrogen goes by, over hydrogen's
HELIUM_OVER_HYDROGEN = 4.002602 / 1.00794


@dataclass(frozen=True)
class PlasmaConfig:
    """The plasma at the reference distance, and how far the table reaches around it.

    ``temperature_k`` and ``density_m3`` (electrons) are typical of LIBS under Martian pressure and an
    assumption; ``length_m`` is the column length. ``co2`` is the mass fraction of entrained CO2 (assumption).
    The early stage that gives the continuum is ``early_temperature`` and ``early_density`` times hotter and
    denser and lasts the fraction ``early_weight`` of the emission; ``biberman`` and ``gaunt`` are the two
    factors of the continuum. ``ln_temperature``, ``ln_density`` are the half widths of the table; ``spread``
    is the standard deviation of ln of an element's abundance from point to point (pressed pellets are not
    perfectly homogeneous; assumption).
    """

    temperature_k: float = 10_000.0
    density_m3: float = 6e22
    length_m: float = 1e-3
    co2: float = 0.05
    early_temperature: float = 1.5
    early_density: float = 10.0
    early_weight: float = 0.3
    biberman: float = 1.0
    gaunt: float = 1.2
    ln_temperature: float = 0.12
    ln_density: float = 0.55
    spread: float = 0.05


@dataclass(frozen=True)
class Band:
    """One detector channel's fine grid (vacuum nm, equidistant) and the Gaussian line spread on it (FWHM,
    nm).
    """

    grid: np.ndarray
    fwhm: float


@functools.cache
def _libskit() -> Any:
    """libskit with every NIST line of its bundle loaded (not only those with STARK-B widths), set once a
    process.
    """
    # by name: the type stubs that libskit 0.2 ships are not valid Python, and would stop a type checker
    libskit = importlib.import_module("libskit")
    extended = importlib.import_module("libskit.generate_databases").generate_extended_lines_database
    source = Path(libskit.Database.bundled().path)
    lines = extended(str(source))
    lines = lines[lines["element"] != "He"].replace({"element": {"H": "He"}})
    for centre, fwhm in BALMER.items():
        near = (lines["element"] == "He") & ((lines["ritz_wl_vac(nm)"] - centre).abs() < 0.1)
        # ASD lists these lines twice, resolved and averaged over the fine structure (g_i = 8): keep one
        lines = lines[~(near & (lines["g_i"] == 8))].copy()
        lines.loc[near[lines.index], "electron a0"] = np.log10(10.0 * fwhm)
    lines = lines.sort_values(["element", "sp_num", "ritz_wl_vac(nm)"], kind="stable")
    with tempfile.TemporaryDirectory(prefix="libsedge-lines-") as folder:
        lines.to_csv(Path(folder, "lines_processed_all.csv"), index=False)
        for name, column in (("levels_processed.csv", -1), ("ionization_energies_processed.csv", 0)):
            rows = [row.split(",") for row in Path(source, name).read_text(encoding="utf-8").splitlines()]
            rows = [row for row in rows if row[column] != "He I"]
            for row in rows:
                row[column] = "He I" if row[column] == "H I" else row[column]
            Path(folder, name).write_text("".join(",".join(row) + "\n" for row in rows), encoding="utf-8")
        libskit.Database.from_path(folder).activate()
    libskit.set_fine_samples_per_fwhm(1.25)  # against 5, its default: < 1e-3 of the peak, L1 < 4e-4
    return libskit


def libskit_data() -> Path:
    """The folder of the tables that libskit bundles."""
    return Path(importlib.import_module("libskit").Database.bundled().path)


def libskit_version() -> str:
    """Version of libskit, part of a set's provenance."""
    return importlib.metadata.version("libskit")


def with_atmosphere(composition: Mapping[str, float], co2: float) -> dict[str, float]:
    """``composition`` (mass fractions) with the mass fraction ``co2`` of CO2 mixed in; sums to 1."""
    total = sum(composition.values())
    mixed = {e: (1 - co2) * f / total for e, f in composition.items()}
    for element, fraction in CO2.items():
        mixed[element] = mixed.get(element, 0.0) + co2 * fraction
    return mixed


def continuum(wavelength: np.ndarray, temperature: float, density: float, config: PlasmaConfig) -> np.ndarray:
    """Optically thin continuum of singly ionised plasma, W m^-2 sr^-1 nm^-1, at ``wavelength`` (nm).

    eps = C n_e^2 / (lambda^2 sqrt(T)) [xi (1 - exp(-hc/(lambda k T))) + G exp(-hc/(lambda k T))], times the
    length.
    """
    metre = wavelength * 1e-9
    boltzmann = np.exp(-PLANCK * LIGHT / (metre * BOLTZMANN * temperature))
    factor = config.biberman * (1 - boltzmann) + config.gaunt * boltzmann
    return CONTINUUM * density**2 / (metre**2 * np.sqrt(temperature)) * factor * config.length_m * 1e-9


def emission(
    composition: Mapping[str, float],
    temperature: float,
    density: float,
    bands: Sequence[Band],
    config: PlasmaConfig,
) -> np.ndarray:
    """Spectral radiance of one plasma state, W m^-2 sr^-1 nm^-1, on the joined grids of ``bands``, float64.

    ``composition``: mass fractions of the sample; ``temperature`` K; ``density`` electrons m^-3. The line
    spread of each band is applied (its Gaussian also stands for the pixel's width).
    """
    libskit = _libskit()
    parts = with_atmosphere(composition, config.co2)
    if "H" in parts:
        parts["He"] = parts.pop("H") * HELIUM_OVER_HYDROGEN
        total = sum(parts.values())
        parts = {element: fraction / total for element, fraction in parts.items()}
    model = libskit.LTEModel(parts, temperature, density, config.length_m)
    spectra = []
    for band in bands:
        step = band.grid[1] - band.grid[0]
        extra = int(np.ceil(3 * band.fwhm / step))  # so that the convolution's ends fall outside
        grid = band.grid[0] + step * np.arange(-extra, band.grid.size + extra)
        spread = libskit.GenericSpectrometer(band.fwhm / np.sqrt(8 * np.log(2)), 0.0)
        spectra.append(spread.calculate_spectrum(grid, model)[extra:-extra] * 1e-9)
    grid = np.concatenate([band.grid for band in bands])
    early = continuum(grid, temperature * config.early_temperature, density * config.early_density, config)
    return np.concatenate(spectra) + config.early_weight * early


class States(Protocol):
    """A material's emission, whatever its physics."""

    def shots(self, drawn: Shots, rows: slice | np.ndarray) -> np.ndarray:
        """Radiance [rows, points], W m^-2 sr^-1 nm^-1, of drawn shots, without their gain."""


#: Lagrange nodes of the table on each axis, in units of its half width
_NODES = np.array([-1.0, 0.0, 1.0])


def _lagrange(x: np.ndarray) -> np.ndarray:
    """Quadratic Lagrange weights [n, 3] of ``x`` [n] on the nodes -1, 0, 1."""
    return np.stack([x * (x - 1) / 2, 1 - x * x, x * (x + 1) / 2], axis=1)


@dataclass(frozen=True)
class StateTable:
    """ln of the radiance of one material at 3 x 3 states of (ln T, ln n_e) and along composition
    directions.

    ``log_radiance`` [9, points], the temperature outermost; ``slope`` and ``curve`` [directions, points]: first and
    second coefficient of ln radiance along each composition direction at the reference state.
    """

    log_radiance: np.ndarray
    slope: np.ndarray
    curve: np.ndarray
    config: PlasmaConfig

    def radiance(self, ln_t: np.ndarray, ln_n: np.ndarray, composition: np.ndarray) -> np.ndarray:
        """Radiance [n, points], W m^-2 sr^-1 nm^-1, of ``n`` states.

        ``ln_t``, ``ln_n`` [n]: ln of temperature and electron density over the reference; ``composition``
        [n, directions]: standard deviations along the material's composition directions. States beyond the table are
        held at its edge.
        """
        t = _lagrange(np.clip(ln_t / self.config.ln_temperature, -1, 1))
        n = _lagrange(np.clip(ln_n / self.config.ln_density, -1, 1))
        weights = (t[:, :, None] * n[:, None, :]).reshape(len(t), 9)
        c = np.clip(composition, -2, 2)
        # summed term by term, not by BLAS: the order, and so the bits, never depend on the number of threads
        total = np.zeros((len(c), self.log_radiance.shape[1]))
        for k in range(c.shape[1]):
            total += c[:, k, None] * self.slope[k] + (c[:, k, None] ** 2) * self.curve[k]
        for k in range(9):
            total += weights[:, k, None] * self.log_radiance[k]
        return np.exp(total)

    def shots(self, drawn: Shots, rows: slice | np.ndarray) -> np.ndarray:
        """Radiance [rows, points] of drawn shots, without their gain."""
        return self.radiance(drawn.ln_t[rows], drawn.ln_n[rows], drawn.composition[rows])


def directions(
    composition: Mapping[str, float], spread: float, count: int, rng: np.random.Generator
) -> list[dict[str, float]]:
    """Random directions: d ln(abundance) of each element for one standard deviation (scaled to 1 later).

    ``spread`` is what all ``count`` of them together give an element.
    """
    drawn = spread / np.sqrt(count) * rng.standard_normal((count, len(composition)))
    return [dict(zip(composition, values, strict=True)) for values in drawn.tolist()]


def moved(composition: Mapping[str, float], along: Mapping[str, float], by: float) -> dict[str, float]:
    """``composition`` moved ``by`` standard deviations along a direction of `directions`."""
    return {e: f * float(np.exp(by * along[e])) for e, f in composition.items()}


def state_table(
    composition: Mapping[str, float],
    varied: Sequence[Mapping[str, float]],
    bands: Sequence[Band],
    config: PlasmaConfig,
) -> StateTable:
    """The table of one material: nine calls of `emission`, and two for each of ``varied``, see `directions`."""

    def log_emission(t: float, n: float, parts: Mapping[str, float] = composition) -> np.ndarray:
        temperature = config.temperature_k * np.exp(t * config.ln_temperature)
        density = config.density_m3 * np.exp(n * config.ln_density)
        return np.log(emission(parts, temperature, density, bands, config))

    table = np.stack([log_emission(t, n) for t in _NODES for n in _NODES])
    ends = [
        np.stack([log_emission(0.0, 0.0, moved(composition, along, c)) for along in varied])
        for c in (-1.0, 1.0)
    ]
    return StateTable(table, (ends[1] - ends[0]) / 2, (ends[1] + ends[0]) / 2 - table[4], config)
