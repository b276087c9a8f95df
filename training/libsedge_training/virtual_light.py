"""The light of a composition on a grid of bins, for `virtual.gain_fields`.

`radiance` asks the plasma models of `simulate/` for one composition: 0.06 s of one core for one uniform column, 0.2 s
in zones. `ZoneLight` is for hundreds of compositions in the plasma of `simulate/zones.py` at its reference: there
temperatures, electron densities and lengths are given, so the optical depth of a zone is a sum over elements,

    tau_z = N_z L_z sum_e x_e kappa_ez,    N_z = n_z / sum_e x_e c_ez

(x atom fractions, n electrons a m^3, L length, c electrons an atom has lost, kappa m^2 an atom), and kappa is computed
once an element. The zones then emit B_z (1 - exp(-tau_z)), the core's seen through the rim. Grid points lie
`STEP` of their wavelength apart, line spread and bins are one sparse matrix. Its light differs from that of `radiance`
by under 1 % (tests/training/test_virtual.py), at a thirtieth of the time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import torch
from libsedge.preprocess import Segment
from scipy import sparse  # type: ignore[import-untyped]

from .simulate import plasma, zones
from .simulate.absorption import mean_charge, planck
from .simulate.instrument import CHANNELS
from .simulate.random_plasma import atom_fractions

Composition = Mapping[str, float]  # element -> mass fraction
#: of the wavelength: 1.3 points a Doppler width of iron in the core
STEP = 0.8e-5
#: libskit leaves out lines and wings below this share of the strongest line; where it saturates, weak ones count
_ACCURACY = 1e-9
_THIN_M = 1e-11
#: of a kappa kept as float32: 1e-20 m^2 would be too near its least number
_UNIT = 1e20
#: wavelengths at once: what they need stays in the processor's cache
_BLOCK = 4096
_FWHM_OVER_SIGMA = np.sqrt(8 * np.log(2))


def _bands(segments: Sequence[Segment]) -> list[tuple[plasma.Band, int]]:
    """(fine grid, its points a grid point) of every segment, with the line spread of the default instrument."""
    found = []
    for s in segments:
        middle = (s.start_nm + s.stop_nm) / 2
        fwhm = min(CHANNELS, key=lambda c: abs((c.start_nm + c.stop_nm) / 2 - middle)).fwhm_nm
        width = (s.stop_nm - s.start_nm) / s.channels
        times = max(1, int(np.ceil(4 * width / fwhm)))
        fine = s.start_nm + (np.arange(s.channels * times) + 0.5) * (width / times)
        found.append((plasma.Band(fine, fwhm), times))
    return found


def radiance(
    composition: Composition,
    segments: Sequence[Segment],
    ln_t: float = 0.0,
    ln_n: float = 0.0,
    *,
    in_zones: bool = False,
) -> np.ndarray:
    """Radiance, float64 [grid points], each the mean over its bin; `ln_t`, `ln_n`: ln of the plasma's temperature and
    electron density over those of the reference state; `in_zones`: as `virtual.Variation.zones`.
    """
    bands = _bands(segments)
    grids, config = [band for band, _ in bands], plasma.PlasmaConfig()
    if in_zones:
        fine = zones.emission(composition, 0.0, ln_t, ln_n, grids, zones.ZonesConfig())
    else:
        temperature, density = config.temperature_k * np.exp(ln_t), config.density_m3 * np.exp(ln_n)
        fine = plasma.emission(composition, temperature, density, grids, config)
    found, start = [], 0
    for band, times in bands:
        stop = start + band.grid.size
        found.append(fine[start:stop].reshape(-1, times).mean(axis=1))
        start = stop
    return np.concatenate(found)


def _zone_states(c: zones.ZonesConfig) -> list[tuple[float, float, float]]:
    """(temperature K, electrons m^-3, length m) of core, rim and periphery at the reference irradiance."""
    t, n = c.temperature_k, c.density_m3
    return [
        (t, n, c.length_m),
        (t * c.rim_temperature, n * c.rim_density, c.rim_length_m),
        (t * c.periphery_temperature, n * c.periphery_density, c.periphery_length_m),
    ]


def _kappa(nm: np.ndarray, element: str, temperature: float, density: float) -> tuple[np.ndarray, float]:
    """(absorption, m^2 an atom, float64 [points], electrons an atom has lost) at the wavelengths `nm`.

    Hydrogen, which `plasma` keeps under helium's name without an ion, gives libskit no electrons: it is taken from a
    mixture with potassium.
    """
    libskit = plasma._libskit()

    def a_metre(parts: Composition) -> np.ndarray:
        model = libskit.LTEModel(dict(parts), temperature, density, _THIN_M)
        return np.maximum(
            np.nan_to_num(model.calculate_irradiance(nm)) / planck(nm, temperature) / _THIN_M, 0
        )

    if element != "H":
        charge = mean_charge(element, temperature, density)
        return a_metre({element: 1.0}) * charge / density, charge
    carrier = mean_charge("K", temperature, density)
    atoms = 2 * density / carrier  # one of potassium, one of hydrogen
    mass = {"He": libskit.get_atomic_mass("He"), "K": libskit.get_atomic_mass("K")}
    both = a_metre({e: m / sum(mass.values()) for e, m in mass.items()})
    alone = a_metre({"K": 1.0}) * carrier / density
    return np.maximum(2 * both / atoms - alone, 0), 0.0


@lru_cache(maxsize=2)
def _wavelengths(low: float, high: float) -> np.ndarray:
    return np.exp(np.arange(np.log(low), np.log(high), STEP))


@lru_cache(maxsize=200)
def _table(element: str, low: float, high: float) -> list[tuple[torch.Tensor, float]]:
    """`_kappa` in every zone, times `_UNIT`; 2 MB an element."""
    libskit, nm = plasma._libskit(), _wavelengths(low, high)
    usual = libskit.get_accuracy()
    libskit.set_accuracy(_ACCURACY)
    try:
        found = [_kappa(nm, element, t, n) for t, n, _ in _zone_states(zones.ZonesConfig())]
    finally:
        libskit.set_accuracy(usual)
    return [(torch.from_numpy((_UNIT * kappa).astype(np.float32)), charge) for kappa, charge in found]


class ZoneLight:
    """Radiance of many compositions, each the mean over its bin, in the plasma of `ZonesConfig` at its reference."""

    def __init__(self, segments: Sequence[Segment]) -> None:
        self._config = zones.ZonesConfig()
        self._states = _zone_states(self._config)
        self._range = (segments[0].start_nm - 1.5, segments[-1].stop_nm + 1.5)
        self._nm = _wavelengths(*self._range)
        self._black = [
            torch.from_numpy((planck(self._nm, t) * 1e-9).astype(np.float32)) for t, _, _ in self._states
        ]
        self._bins = self._spread_and_binned(segments)
        middles = [s.start_nm + (np.arange(s.channels) + 0.5) * _width(s) for s in segments]
        c = self._config
        hot, dense = c.temperature_k * c.early_temperature, c.density_m3 * c.early_density
        early = plasma.continuum(np.concatenate(middles), hot, dense, plasma.PlasmaConfig())
        self._early = c.early_weight * early

    def _spread_and_binned(self, segments: Sequence[Segment]) -> sparse.csr_matrix:
        """float32 [grid points, wavelengths]: the Gaussian of `_bands` at their fine points, mean of a bin."""
        step = np.gradient(self._nm)
        columns, values, ends = [], [], [0]
        for segment, (band, times) in zip(segments, _bands(segments), strict=True):
            sigma = band.fwhm / _FWHM_OVER_SIGMA
            for fine in band.grid.reshape(segment.channels, times):
                low, high = np.searchsorted(self._nm, (fine[0] - 4 * sigma, fine[-1] + 4 * sigma))
                near = np.exp(-0.5 * ((self._nm[low:high] - fine[:, None]) / sigma) ** 2).mean(axis=0)
                columns.append(np.arange(low, high, dtype=np.int32))
                values.append(near * step[low:high] / (sigma * np.sqrt(2 * np.pi)))
                ends.append(ends[-1] + high - low)
        parts = (np.concatenate(values).astype(np.float32), np.concatenate(columns), np.array(ends))
        return sparse.csr_matrix(parts, shape=(len(ends) - 1, self._nm.size))

    def __call__(self, compositions: Sequence[Composition]) -> np.ndarray:
        """Radiance, float32 [compositions, grid points], W m^-2 sr^-1 nm^-1, as `radiance(..., in_zones=True)`."""
        c, shares = self._config, []
        for composition in compositions:
            masses = plasma.with_atmosphere(composition, c.co2)
            masses["H"] = max(masses.get("H", 0.0), c.hydrogen)
            shares.append(atom_fractions(masses))
        elements = sorted({e for one in shares for e, share in one.items() if share > 0})
        tables = [_table(e, *self._range) for e in elements]
        atoms = torch.tensor([[one.get(e, 0.0) for e in elements] for one in shares], dtype=torch.float64)
        columns = []  # m^-2 of every composition and element, in units of `_table`
        for z, (_, density, length) in enumerate(self._states):
            charge = torch.tensor([table[z][1] for table in tables], dtype=torch.float64)
            columns.append((atoms * (density * length / _UNIT / (atoms @ charge))[:, None]).float())
        lines = torch.empty(len(shares), self._nm.size)
        for start in range(0, self._nm.size, _BLOCK):
            here = slice(start, start + _BLOCK)
            core, rim, periphery = (
                (column @ torch.stack([table[z][0][here] for table in tables])).neg_().expm1_().neg_()
                for z, column in enumerate(columns)
            )  # what is emitted over what a black body emits
            black = [light[here] for light in self._black]
            core.mul_(1 - rim).mul_(black[0]).addcmul_(rim, black[1])
            lines[:, here] = core.addcmul_(periphery, black[2], value=c.periphery_weight)
        return np.asarray(c.scale * ((self._bins @ lines.numpy().T).T + self._early), np.float32)


def _width(segment: Segment) -> float:
    return (segment.stop_nm - segment.start_nm) / segment.channels


@lru_cache(maxsize=2)
def zone_light(segments: tuple[Segment, ...]) -> ZoneLight:
    """The light of a grid."""
    return ZoneLight(segments)
