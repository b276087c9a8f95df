"""What real instruments show, computed from the files of a folder laid out as ../shared/data is.

Nothing here is typed in: every figure comes from a file, and the band of every statistic from the spread between
locations, shots or instruments. `FileFormatError` names a file that is missing.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from libsedge.errors import FileFormatError

from libsedge_training.readers import read
from libsedge_training.simulate import statistics as st

NEAR_M, FAR_M = 1.545, 4.25
BHVO2 = "bhvo2/supercam_{}mm_loc{}_spectrum.csv"
MAAZ = "supercam/scam_0012_0668002890_477_cl1_scam15210_maaz_________________01p01.fits"
CORONATION = "chemcam/CL5_398645626CCS_F0030004CCAM02013P3.csv"
OCEAN = "oceanoptics/TestBasalt_UV_01.txt"
CHEMCAM = "bhvo2/chemcam_bhvo2_loc1_spectrum.csv"
CSA = "bhvo2/csa_bhvo2_200pulse_spectrum.csv"
JSC = "pyhat_jsc/example_data.csv"
SOIL, PLANT = "soil_plant/soil171_raw.npz", "soil_plant/cranberry439_raw.npz"
MOC = "supercam/supercam_libs_moc_210423.csv"
#: observations nearer than this are of the calibration targets on the rover
ROCKS_FROM_M = 1.6


@dataclass(frozen=True)
class Pellet:
    """BHVO-2 on SuperCam: axis and mean spectra [locations, pixels] at 1.545 m and 4.25 m."""

    wavelength: np.ndarray
    near: np.ndarray
    far: np.ndarray


def _file(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        raise FileFormatError("a real file that the check compares with is missing", file=path)
    return path


def pellet(folder: Path) -> Pellet:
    """The three locations at each of SuperCam's two distances."""
    sets = [read([_file(folder, BHVO2.format(mm, i)) for i in (1, 2, 3)]) for mm in (1545, 4250)]
    return Pellet(sets[0].wavelength, *(s.counts.astype(np.float64) for s in sets))


def shot_rsds(folder: Path) -> list[tuple[float, float]]:
    """`statistics.shot_rsd` of the three sets of single shots on one point of a rock: SuperCam, ChemCam, Ocean
    Optics."""
    return [
        st.shot_rsd(read(_file(folder, name)).counts.astype(np.float64)) for name in (MAAZ, CORONATION, OCEAN)
    ]


@dataclass(frozen=True)
class Law:
    """Signal against distance: exponent and scatter (ln), each with its 95 % interval, and observations used."""

    exponent: float
    exponent_band: tuple[float, float]
    scatter: float
    scatter_band: tuple[float, float]
    observations: int


def signal_law(folder: Path, draws: int = 500) -> Law:
    """Power law of the raw signal from the MOC table: total emission (radiance, so over the squared distance).

    Intervals: bootstrap over targets (observations of one target are not independent), fixed seed.
    """
    path = _file(folder, MOC)
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = list(csv.reader(file))
    start = next((i for i, row in enumerate(rows) if row[:1] == ["cdr_fname"]), None)
    if start is None:
        raise FileFormatError("has no row that begins with cdr_fname", file=path)
    at = {name: rows[start].index(name) for name in ("distance_mm", "Tot.Em.")}
    found = []
    for row in rows[start + 1 :]:
        try:
            metres, emission = float(row[at["distance_mm"]]) / 1000, float(row[at["Tot.Em."]])
        except (ValueError, IndexError):
            continue
        if metres > ROCKS_FROM_M and emission > 0:
            found.append((row[0][39:60], metres, emission / metres**2))
    distance, signal = (np.array([row[k] for row in found]) for k in (1, 2))
    _, group = np.unique([row[0] for row in found], return_inverse=True)
    members = [np.flatnonzero(group == g) for g in range(group.max() + 1)]
    rng = np.random.default_rng(0)
    fits = []
    for _ in range(draws):
        rows_ = np.concatenate([members[g] for g in rng.integers(0, len(members), len(members))])
        fits.append(st.power_law(distance[rows_], signal[rows_]))
    low, high = np.percentile(fits, [2.5, 97.5], axis=0)
    exponent, scatter = st.power_law(distance, signal)
    return Law(
        exponent, (float(low[0]), float(high[0])), scatter, (float(low[1]), float(high[1])), len(found)
    )


@dataclass(frozen=True)
class Clipping:
    """Highest count met in 16-bit raw spectra, and the share of clipped pixels in each raw set."""

    level: float
    shares: tuple[float, ...]


def _npz(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    with np.load(_file(folder, name), allow_pickle=False) as data:
        return np.asarray(data["wavelength_nm"], np.float64), np.asarray(data["intensity"], np.float64)


def clipping(folder: Path) -> Clipping:
    """Of the raw counts of soils and of plants."""
    raw = [_npz(folder, name)[1] for name in (SOIL, PLANT)]
    level = max(float(spectra.max()) for spectra in raw)
    return Clipping(level, tuple(float((spectra >= level).mean()) for spectra in raw))


def axis_offsets(folder: Path) -> dict[str, float]:
    """nm by which each instrument's Ca II K lies off its vacuum wavelength (air axes converted first)."""
    sets = {
        "SuperCam, laboratory": read(_file(folder, BHVO2.format(1545, 1))),
        "SuperCam, Mars": read(_file(folder, MAAZ)),
        "ChemCam, laboratory": read(_file(folder, CHEMCAM)),
        "ChemCam, Mars": read(_file(folder, CORONATION)),
        "Ocean Optics": read(_file(folder, OCEAN)),
        "CSA": read(_file(folder, CSA), medium="air"),
        "JSC": read(_file(folder, JSC)),
    }
    out = {}
    for name, spectra in sets.items():
        mean = spectra.counts.astype(np.float64).mean(axis=0)
        out[name] = st.line_offset(spectra.wavelength, mean)
    return out


def instrument_gaps(folder: Path) -> dict[str, list[tuple[float, float]]]:
    """Detector gaps (nm, nm) of the real instruments that presets stand for."""
    files = {"supercam": MAAZ, "chemcam": CORONATION, "handheld": OCEAN}
    return {name: st.gaps(read(_file(folder, file)).wavelength) for name, file in files.items()}
