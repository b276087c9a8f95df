"""How fast the dust on a target goes: the first shots of two rocks on Mars, the source of `dust.DECAY_SHOTS`.

    python -m libsedge_training.simulate.fit_dust [--real-data DIR]

Every line of `statistics.LINES`, over the total of its shot and over its median in the second half of the shots, is
fitted by offset + change * exp(-k / decay) in the shot's number k, with one decay for all lines: least squares, each
line weighted by its scatter in the second half. The interval is the 95 % bootstrap over lines, because lines need not
agree: a plasma changes with the pit, too. ``explained`` is the share of the weighted variance that the decay takes
away. The same is done to simulated shots on BHVO-2G, clean and with dust, to see what the statistic makes of both. No
classifier and no label is involved.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from libsedge_training.readers import read
from libsedge_training.simulate import dust, fidelity, generate, measured
from libsedge_training.simulate import statistics as st

#: decays that are tried, shots
DECAYS = np.geomspace(0.3, 15.0, 118)
DRAWS = 300
#: of the simulated shots that the real ones are printed beside; an example
SIMULATED_SHARE = 0.5


@dataclass(frozen=True)
class Decay:
    """``decay`` in shots with its 95 % interval; ``change`` of each line in the first shot, relative; ``explained``;
    ``rms`` of what is left, in standard deviations of the second half."""

    decay: float
    interval: tuple[float, float]
    change: tuple[float, ...]
    explained: float
    rms: float


def _left(lines: np.ndarray, decay: float) -> tuple[np.ndarray, np.ndarray]:
    """(sum of squares that is left of each line, its change in the first shot) of ``lines`` [shots, lines]."""
    terms = np.stack([np.ones(len(lines)), np.exp(-np.arange(len(lines)) / decay)], axis=1)
    found = np.linalg.lstsq(terms, lines, rcond=None)[0]
    return ((lines - terms @ found) ** 2).sum(axis=0), found[1]


def fit(wavelength: np.ndarray, shots: np.ndarray, lines: Sequence[st.Line] = st.LINES) -> Decay:
    """The decay of the first of ``shots`` [shots, pixels] on one point, in the order of firing, at least ten."""
    total = np.clip(shots, 0.0, None).sum(axis=1)
    areas = np.array([[st.area(wavelength, shot, line) for line in lines] for shot in shots]) / total[:, None]
    late = areas[len(shots) // 2 :]
    relative = areas / np.median(late, axis=0)
    scatter = relative[len(shots) // 2 :].std(axis=0, ddof=1)
    weighted = relative / scatter
    left = np.array([_left(weighted, decay)[0] for decay in DECAYS])  # [decays, lines]
    best = int(left.sum(axis=1).argmin())
    drawn = np.random.default_rng(0).integers(0, len(lines), (DRAWS, len(lines)))
    low, high = np.percentile(DECAYS[left[:, drawn].sum(axis=2).argmin(axis=0)], [2.5, 97.5])
    spread = ((weighted - weighted.mean(axis=0)) ** 2).sum()
    rest = float(left[best].sum())
    freedom = weighted.size - 2 * len(lines) - 1
    return Decay(
        float(DECAYS[best]),
        (float(low), float(high)),
        tuple((_left(weighted, DECAYS[best])[1] * scatter).tolist()),
        1 - rest / float(spread),
        float(np.sqrt(rest / freedom)),
    )


def simulated(plan: generate.Plan) -> tuple[np.ndarray, np.ndarray]:
    """(axis, mean radiance [30 shots, pixels] over `fidelity.SHOT_POINTS` points) of BHVO-2G on SuperCam, continuum
    removed as in the real files."""
    bench = fidelity.Bench.of(
        replace(plan, spectra=30, scene=replace(plan.scene, shots_per_point=30)), "supercam"
    )
    counts = bench.shots(3.126, fidelity.SHOT_POINTS, 30, 3)
    axis = bench.spectrometer.wavelength
    radiance = st.without_continuum(axis, bench.spectrometer.radiance(counts, bench.dark))
    return axis, radiance.reshape(fidelity.SHOT_POINTS, 30, -1).mean(axis=0)


def main(arguments: list[str] | None = None) -> None:
    """The command; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m libsedge_training.simulate.fit_dust")
    parser.add_argument("--real-data", type=Path, default=Path("../shared/data"))
    options = parser.parse_args(arguments)
    found = {}
    for name, file in (("Coronation", measured.CORONATION), ("Maaz", measured.MAAZ)):
        shots = read(options.real_data / file)
        found[name] = fit(shots.wavelength, shots.counts.astype(np.float64))
    for name, share in (
        ("simulated, clean", 0.0),
        (f"simulated, {SIMULATED_SHARE:.0%} dust", SIMULATED_SHARE),
    ):
        found[name] = fit(*simulated(generate.make_plan("small", 1, dust=dust.make(share))))
    rows = {
        "decay, shots": [f"{one.decay:.2f}" for one in found.values()],
        "95 % interval": [f"{one.interval[0]:.2f} to {one.interval[1]:.2f}" for one in found.values()],
        "variance explained": [f"{one.explained:.2f}" for one in found.values()],
        "rms left, sd": [f"{one.rms:.2f}" for one in found.values()],
    }
    for i, line in enumerate(st.LINES):
        rows[f"first shot, {line.name}"] = [f"{one.change[i]:+.2f}" for one in found.values()]
    print("| | " + " | ".join(found) + " |")
    print("|---" * (len(found) + 1) + "|")
    for title, cells in rows.items():
        print(f"| {title} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
