"""How strongly one atom of each element absorbs, on a grid of plasma states: spectra of mixtures are sums of it.

In local thermodynamic equilibrium a uniform zone of length L emits B(T) (1 - exp(-tau)) with Planck's B and
tau = N L sum_e x_e kappa_e: ``x`` atom fractions, ``N`` atoms a m^3, ``kappa`` m^2 an atom, which depends on T and the
electron density alone. kappa is what libskit gives for the pure element in the optically thin limit, over B, L and the
atoms that its electrons take: N = n_e / z, z = mean charge by the Saha equation (up to doubly ionised).
libskit's own spectrum of a mixture differs by under 5 % of its light, at single points of strong lines by up to 20 %
(tests/training/test_chemistry.py). Lines are averaged over `STEP_NM`, which makes self-absorption of narrow cores too
weak.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import constants  # type: ignore[import-untyped]

from libsedge_training.simulate import plasma

STEP_NM = 0.02
AXIS = (238.5, 851.5)
#: nodes of the table: K, and electrons a m^3
TEMPERATURES = (5000.0, 6000.0, 7000.0, 8200.0, 9600.0, 11200.0, 13200.0, 16000.0, 20000.0, 25000.0, 30000.0)
DENSITIES = (1e22, 5e22, 2e23, 8e23)
_THIN_M = 1e-11
#: hydrogen, which libskit 0.2 lacks as an element of its own: vacuum nm, oscillator strength, full width (nm) at 1e23
#: electrons a m^3 (the first two: Gigosos et al. 2003, doi:10.1016/S0584-8547(03)00097-1; the others about so)
BALMER = ((656.47, 0.6407, 0.549), (486.27, 0.1193, 4.8), (434.17, 0.0447, 5.0), (410.29, 0.0221, 7.0))


def grid() -> np.ndarray:
    """The table's wavelengths, vacuum nm, float64 [points], equidistant."""
    return AXIS[0] + STEP_NM * np.arange(round((AXIS[1] - AXIS[0]) / STEP_NM) + 1)


def planck(wavelength: np.ndarray, temperature: float) -> np.ndarray:
    """Spectral radiance of a black body, W m^-2 sr^-1 m^-1, at ``wavelength`` (nm)."""
    metre = wavelength * 1e-9
    exponent = constants.h * constants.c / (metre * constants.k * temperature)
    return np.asarray(2 * constants.h * constants.c**2 / metre**5 / np.expm1(exponent))


def mean_charge(element: str, temperature: float, density: float) -> float:
    """Electrons an atom of the element has lost, by the Saha equation; up to 2."""
    libskit = plasma._libskit()
    name = "He" if element == "H" else element  # `plasma._libskit` keeps hydrogen under helium's name
    ions = [1.0]
    for level in (0, 1):
        try:
            ions.append(ions[-1] * libskit.calculate_saha_function(name, level, temperature) / density)
        except IndexError:  # no levels of the next ion; hydrogen has none
            break
    share = np.array(ions) / sum(ions)
    return float((share * np.arange(len(share))).sum())


def _balmer(nm: np.ndarray, temperature: float, density: float) -> np.ndarray:
    """m^2 a neutral hydrogen atom: Lorentz profiles of Stark width, lower level n = 2 (g = 8, U = 2, 10.2 eV)."""
    lower = 4.0 * np.exp(-10.1988 * constants.e / (constants.k * temperature))
    total = np.zeros(nm.size)
    for centre, strength, fwhm in BALMER:
        half = 0.5 * fwhm * (density / 1e23) ** 0.68
        profile = half / np.pi / ((nm - centre) ** 2 + half**2) * (centre**2 * 1e-9 / constants.c)  # per Hz
        stimulated = 1 - np.exp(-constants.h * constants.c / (centre * 1e-9 * constants.k * temperature))
        area = constants.e**2 / (4 * constants.epsilon_0 * constants.m_e * constants.c) * strength
        total += area * lower * stimulated * profile
    return total


def of_element(element: str) -> tuple[np.ndarray, np.ndarray]:
    """(kappa float32 [temperatures, densities, points], mean charge float64 [temperatures, densities]).

    kappa is 0 for an element without lines in the range (NIST ASD as libskit bundles it).
    """
    libskit = plasma._libskit()
    nm = grid()
    kappa = np.zeros((len(TEMPERATURES), len(DENSITIES), nm.size), np.float32)
    charge = np.zeros(kappa.shape[:2])
    spread = libskit.GenericSpectrometer(STEP_NM / np.sqrt(8 * np.log(2)), 0.0)
    for i, temperature in enumerate(TEMPERATURES):
        black = planck(nm, temperature)
        for k, density in enumerate(DENSITIES):
            charge[i, k] = mean_charge(element, temperature, density)
            if element == "H":
                kappa[i, k] = _balmer(nm, temperature, density) * (1 - charge[i, k])
            else:
                model = libskit.LTEModel({element: 1.0}, temperature, density, _THIN_M)
                thin = np.nan_to_num(spread.calculate_spectrum(nm, model), nan=0.0)
                kappa[i, k] = np.maximum(thin, 0.0) / black / _THIN_M * charge[i, k] / density
    return kappa, charge


def _try_element(element: str) -> tuple[str, np.ndarray | None, np.ndarray | None]:
    try:
        return element, *of_element(element)
    except IndexError:  # libskit knows no levels of it
        return element, None, None


@dataclass(frozen=True)
class Absorption:
    """``kappa`` [elements, temperatures, densities, points] (m^2 an atom), ``charge`` without the points."""

    elements: tuple[str, ...]
    kappa: np.ndarray
    charge: np.ndarray

    def atoms(self, shares: Mapping[str, float], i: int, k: int) -> float:
        """Atoms a m^3 where ``shares`` (atom fractions) make the electrons of node (i, k)."""
        index = {element: e for e, element in enumerate(self.elements)}
        lost = sum(x * self.charge[index[e], i, k] for e, x in shares.items() if e in index)
        return DENSITIES[k] / lost

    def per_metre(
        self, shares: Mapping[str, float], i: int, k: int, gains: Mapping[str, np.ndarray] | None = None
    ) -> np.ndarray:
        """Optical depth of one metre, float32 [points]. Elements without lines only dilute.

        ``gains``: factors float32 [points] on the absorption of an element; one without an entry keeps its own.
        """
        total = np.zeros(self.kappa.shape[-1], np.float32)
        part = np.empty_like(total)
        for e, element in enumerate(self.elements):
            if shares.get(element, 0.0) > 0:
                np.multiply(self.kappa[e, i, k], np.float32(shares[element]), out=part)
                if gains and element in gains:
                    part *= gains[element]
                total += part
        return total * np.float32(self.atoms(shares, i, k))


def build(
    elements: Sequence[str], folder: Path, jobs: int, advance: Callable[[], None] = lambda: None
) -> Absorption:
    """The table of ``elements``, computed once and kept in ``folder`` (kappa.npy, kappa.json)."""
    note, data = folder / "kappa.json", folder / "kappa.npy"
    wanted = sorted(set(elements))
    if note.exists() and json.loads(note.read_text())["wanted"] == wanted:
        return load(folder)
    known: list[str] = []
    charges: list[object] = []
    points = grid().size
    shape = (len(wanted), len(TEMPERATURES), len(DENSITIES), points)
    table = np.lib.format.open_memmap(data, "w+", np.float32, shape)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        found = map(_try_element, wanted) if jobs == 1 else pool.map(_try_element, wanted)
        for element, kappa, charge in found:
            if kappa is not None and charge is not None:
                table[len(known)] = kappa
                known.append(element)
                charges.append(charge.tolist())
            advance()
    table.flush()
    note.write_text(json.dumps({"wanted": wanted, "elements": known, "charge": charges}))  # last: done
    return load(folder)


def load(folder: Path) -> Absorption:
    """What `build` left in ``folder``; kappa stays on disk until it is used."""
    content = json.loads((folder / "kappa.json").read_text())
    kappa = np.load(folder / "kappa.npy", mmap_mode="r")
    return Absorption(tuple(content["elements"]), kappa, np.array(content["charge"]))
