"""Fits the plasma of `ZonesConfig` to the real basalt at SuperCam's two distances; to nothing else.

    python -m libsedge_training.simulate.fit [--real-data DIR] [--seed N] [--steps N]

Least squares over the noise-free spectrum of BHVO-2G at 1.545 m and 4.25 m against the mean real spectra: the near over
far ratios of the lines of `statistics.LINES` and of H alpha and O I 777 (in units of a quarter of the range that pairs
of locations show), the share of each detector, and the spectra themselves (square roots of binned, per-detector
normalised intensity). No classifier and no label is involved. The start is the present configuration, moved at random
by ``--seed``; 0 = not moved. Prints the configuration that fits best and what it reaches; the values are then put into
`ZonesConfig` by hand, rounded.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares  # type: ignore[import-untyped,unused-ignore]

from libsedge_training.simulate import materials as table
from libsedge_training.simulate import measured, scene, zones
from libsedge_training.simulate import statistics as st
from libsedge_training.simulate.instrument import Spectrometer
from libsedge_training.simulate.presets import INSTRUMENTS

LINES = (*st.LINES, st.Line("H I 656.5", "hot", 656.47, 3.0), st.Line("O I 777.6", "hot", 777.6, 1.6))
#: field of `ZonesConfig` -> (step that changes it noticeably, whether of its logarithm, lowest, highest)
FREE: dict[str, tuple[float, bool, float, float]] = {
    "temperature_k": (0.1, True, 7e3, 2.5e4),
    "density_m3": (0.5, True, 5e21, 5e23),
    "length_m": (0.5, True, 1e-4, 3e-2),
    "periphery_temperature": (0.1, True, 0.3, 1.0),
    "periphery_density": (0.5, True, 0.01, 20.0),
    "periphery_length_m": (0.5, True, 1e-5, 5e-2),
    "periphery_weight": (0.5, True, 1e-3, 50.0),
    "temperature_power": (0.1, False, 0.0, 0.6),
    "periphery_temperature_power": (0.1, False, -0.5, 1.5),
    "density_power": (0.3, False, 0.0, 4.0),
    "length_power": (1.0, False, -6.0, 4.0),
    "weight_power": (1.0, False, -8.0, 4.0),
    "periphery_density_power": (0.3, False, -3.0, 3.0),
    "rim_length_m": (0.5, True, 1e-6, 1e-1),
    "rim_length_power": (1.0, False, -6.0, 6.0),
    "rim_temperature": (0.1, True, 0.25, 1.0),
    "rim_density": (0.5, True, 0.01, 10.0),
    "hydrogen": (0.5, True, 1e-5, 2e-2),
}
BINS, RATIO_WEIGHT, SHARE_SIGMA, SPECTRUM_WEIGHT = 400, 6.0, 0.012, 3.0
#: of ln of the Bray-Curtis distance of near and far, and of ln of 1 - cosine
DISTANCE_SIGMA, ANGLE_SIGMA = 0.05, 0.1


def pack(config: zones.ZonesConfig) -> np.ndarray:
    """The free fields in units of their steps, float64 [len(FREE)]."""
    return np.array(
        [
            (np.log(getattr(config, n)) if log else getattr(config, n)) / step
            for n, (step, log, *_) in FREE.items()
        ]
    )


def unpack(theta: np.ndarray, config: zones.ZonesConfig) -> zones.ZonesConfig:
    """``config`` with the free fields of ``theta``; the inverse of `pack`."""
    pairs = zip(FREE.items(), theta, strict=True)
    return replace(config, **{n: float(np.exp(v * s) if log else v * s) for (n, (s, log, *_)), v in pairs})


def _binned(wavelength: np.ndarray, spectrum: np.ndarray, edges: np.ndarray) -> np.ndarray:
    middle = (wavelength[1:] + wavelength[:-1]) / 2
    bounds = np.concatenate([wavelength[:1], middle, wavelength[-1:]])
    total = np.concatenate([[0.0], np.cumsum(spectrum)]) / spectrum.sum()
    return np.asarray(np.sqrt(np.clip(np.diff(np.interp(edges, bounds, total)), 0, None)))


class Problem:
    """The residuals of a configuration against the real pellet."""

    def __init__(self, real: measured.Pellet) -> None:
        (material,) = table.choose(["BHVO-2G"], table.load_materials())
        self.composition = dict(material.composition)
        self.spectrometer = Spectrometer(INSTRUMENTS["supercam"])
        self.axis = real.wavelength
        self.real = [spectra.mean(axis=0) for spectra in (real.near, real.far)]
        self.total = float(real.near.sum(axis=1).mean() / real.far.sum(axis=1).mean())
        pairs = [np.log(st.line_ratios(self.axis, real.near, real.far, line)) for line in LINES]
        self.sigma = np.array([max(0.08, float(np.ptp(values)) / 4) for values in pairs])
        self.ratios = np.array(
            [st.area(self.axis, self.real[0], x) / st.area(self.axis, self.real[1], x) for x in LINES]
        )

    def spectra(self, config: zones.ZonesConfig) -> list[np.ndarray]:
        """Noise-free photon radiance [pixels] near and far, continuum removed."""
        out = []
        for distance in (measured.NEAR_M, measured.FAR_M):
            x = scene.ln_irradiance(distance, scene.SceneConfig())
            lines = zones.emission(self.composition, x, 0.0, 0.0, self.spectrometer.bands, config)
            electrons = self.spectrometer.electrons(lines[None], np.zeros((1, len(self.spectrometer.bands))))
            counts = self.spectrometer.radiance(electrons, np.zeros(electrons.shape[1]))
            out.append(st.without_continuum(self.spectrometer.wavelength, counts)[0])
        return out

    def line_ratios(self, near: np.ndarray, far: np.ndarray) -> np.ndarray:
        """Near over far of every line, totals at the real ones' ratio."""
        axis = self.spectrometer.wavelength
        scale = self.total / (near.sum() / far.sum())
        return scale * np.array([st.area(axis, near, x) / st.area(axis, far, x) for x in LINES])

    def residuals(self, config: zones.ZonesConfig) -> np.ndarray:
        """What least squares makes small: ratios, similarity of near and far, shares, spectra."""
        near, far = self.spectra(config)
        parts = [
            RATIO_WEIGHT * np.log(np.clip(self.line_ratios(near, far), 0.02, 50) / self.ratios) / self.sigma
        ]
        axis = self.spectrometer.wavelength
        for by in ("total", "detector"):
            pair = [st.normalised(self.axis, real[None], by)[0] for real in self.real]
            ours = [st.normalised(axis, made[None], by)[0] for made in (near, far)]
            found = [np.log(st.bray_curtis(*ours) / st.bray_curtis(*pair)) / DISTANCE_SIGMA]
            if by == "total":
                found.append(np.log((1 - st.cosine(*ours)) / (1 - st.cosine(*pair))) / ANGLE_SIGMA)
            parts.append(np.array(found))
        for real, made in zip(self.real, (near, far), strict=True):
            for there, here in zip(st.detectors(self.axis), st.detectors(axis), strict=True):
                a, b = real[there], made[here]
                parts.append(
                    np.atleast_1d(np.log(b.sum() / made.sum() / (a.sum() / real.sum())) / SHARE_SIGMA)
                )
                edges = np.linspace(self.axis[there][0] + 0.3, self.axis[there][-1] - 0.3, BINS)
                difference = _binned(axis[here], b, edges) - _binned(self.axis[there], a, edges)
                parts.append(SPECTRUM_WEIGHT * difference)
        return np.concatenate(parts)


def fit(problem: Problem, start: zones.ZonesConfig, *, seed: int = 0, steps: int = 12) -> zones.ZonesConfig:
    """The configuration of the least squares, from ``start`` moved by half a step at random (seed 0: not moved)."""
    theta = pack(start)
    if seed:
        theta = theta + 0.5 * np.random.default_rng(seed).standard_normal(theta.size)
    edges = [
        (np.log([low, high]) if log else np.array([low, high])) / step
        for step, log, low, high in FREE.values()
    ]
    low, high = np.array(edges).T
    offset = theta - 10.0  # least_squares takes relative steps: count from 10

    def residuals(u: np.ndarray) -> np.ndarray:
        return problem.residuals(unpack(u + offset, start))

    u = np.clip(np.full(theta.size, 10.0), low - offset + 1e-6, high - offset - 1e-6)
    found = least_squares(
        residuals, u, bounds=(low - offset, high - offset), diff_step=0.01, ftol=1e-5, max_nfev=steps
    )
    return unpack(found.x + offset, start)


def main(arguments: list[str] | None = None) -> None:
    """The command; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m libsedge_training.simulate.fit")
    parser.add_argument("--real-data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--steps", type=int, default=12, help="steps of least squares, each 19 pairs of spectra"
    )
    options = parser.parse_args(arguments)
    problem = Problem(measured.pellet(options.real_data))
    start = zones.ZonesConfig()
    best = fit(problem, start, seed=options.seed, steps=options.steps)
    for config, name in ((start, "start"), (best, "fitted")):
        print(f"{name}: cost {0.5 * float((problem.residuals(config) ** 2).sum()):.3f}")
    for name in FREE:
        print(f"    {name}: float = {getattr(best, name):.4g}")
    made = problem.line_ratios(*problem.spectra(best))
    for line, real, simulated in zip(LINES, problem.ratios, made, strict=True):
        print(f"near over far, {line.name}: real {real:.3f}, simulated {simulated:.3f}")


if __name__ == "__main__":
    main()
