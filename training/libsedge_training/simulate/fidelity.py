"""`libsedge simulate --check`: the simulation beside real spectra, statistic by statistic.

Real figures and their bands come from files (`measured`), simulated ones from spectra made here with the
given plan's scene and plasma; `statistics` measures both sides alike. SuperCam's and ChemCam's files have
the continuum removed, so the simulated spectra have theirs removed before they are compared
(`statistics.without_continuum`). Several simulated pellets, each with directions of its own in which its
composition varies from point to point, stand beside the one real one: a simulated figure is the mean over `PELLETS`,
because what is checked is the simulator and not the luck of one draw. A row fails when the simulated figure lies
outside its band:

* Bray-Curtis within a distance: band = lowest to highest of the four means over pairs of locations (two distances,
  normalised by the total or per detector); simulated: the mean of the same four.
* Bray-Curtis across: of the two distances' mean spectra; band = total to per-detector normalisation; simulated: mean
  of the two.
* Cosine: band = lowest to highest over pairs of locations, normalised by the total; simulated: mean over pairs.
* Share of each of SuperCam's detectors in the total (UV, violet, green to red): band = lowest to highest of all
  locations at both distances.
* Near over far of a line's area: band = lowest to highest over the nine pairs of a near and a far location, in
  calibrated radiance; the simulated near and far totals are put at the real ones' ratio (the signal law has its own
  row).
* Shot to shot: band = lowest to highest of three instruments' single shots on one point.
* Signal law: exponent of the raw signal and scatter in ln; band = 95 % interval, bootstrap over targets; simulated:
  `TARGETS` of each material, about as many in all as the real table names.
* Clipping, gaps, offset of the axis: exact level, share up to the worst real set's, edges within 0.1 nm, median
  offset of Ca II K between the lower and the upper quartile of the real instruments'.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from libsedge_training.simulate import generate, measured, plasma, scene
from libsedge_training.simulate import materials as table
from libsedge_training.simulate import statistics as st
from libsedge_training.simulate.instrument import Spectrometer
from libsedge_training.simulate.presets import INSTRUMENTS
from libsedge_training.spectra import SpectraSet

REFERENCE = "BHVO-2G"
PELLETS, LOCATIONS, NEAR_SHOTS, FAR_SHOTS = 8, 20, 15, 30
SHOT_POINTS = 12  # of each pellet
SET_DISTANCES, SET_SPECTRA, TARGETS = (2.0, 2.5, 3.0, 4.0, 5.0), 1, 10
EDGE_NM = 0.1


@dataclass(frozen=True)
class Row:
    """One statistic: real figure, simulated figure and the band that the simulated one must lie in."""

    id: str
    title: str
    real: float
    simulated: float
    low: float
    high: float

    @property
    def passed(self) -> bool:
        return bool(self.low <= self.simulated <= self.high)


@dataclass(frozen=True)
class Fidelity:
    """All rows, and the fingerprint of simulator and bands that a study names."""

    rows: tuple[Row, ...]
    digest: str

    @property
    def failed(self) -> list[Row]:
        return [row for row in self.rows if not row.passed]

    def to_json(self) -> str:
        rows = [{**asdict(row), "passed": row.passed} for row in self.rows]
        content = {"digest": self.digest, "passed": not self.failed, "rows": rows}
        return json.dumps(content, indent=1) + "\n"


def _mean(values: Sequence[float] | np.ndarray) -> float:
    return float(np.mean(values))


@dataclass(frozen=True)
class Bench:
    """The simulated counterpart of the laboratory: one pellet on one instrument preset."""

    plan: generate.Plan
    number: int
    spectrometer: Spectrometer
    pattern: np.ndarray
    dark: np.ndarray
    states: plasma.States

    @staticmethod
    def of(plan: generate.Plan, instrument: str, number: int = 0) -> Bench:
        """Pellet ``number`` of BHVO-2G (the real pellet's composition) on the instrument, with the plan's seed, scene
        and plasma."""
        plan = replace(plan, instrument=INSTRUMENTS[instrument])
        (material,) = table.choose([REFERENCE], table.load_materials())
        spectrometer = Spectrometer(plan.instrument)
        rng = np.random.default_rng([plan.seed, 1, number])
        states = generate.state_table(plan, dict(material.composition), rng, spectrometer.bands)
        pattern, dark = generate.dark_level(plan)
        return Bench(plan, number, spectrometer, pattern, dark.astype(np.float64), states)

    def shots(
        self, distance_m: float, locations: int, shots: int, key: int, *, average: bool = False
    ) -> np.ndarray:
        """Counts [locations * shots, pixels] of a target without offsets of its own; ``average``: means over the
        shots of each location [locations, pixels]."""
        rng = np.random.default_rng([self.plan.seed, 2, key, self.number])
        law = replace(self.plan.scene, shots_per_point=shots)
        drawn = scene.draw_shots(rng, scene.Target(0.0, 0.0, 0.0), distance_m, locations * shots, law)
        drift = self.spectrometer.draw_drift(rng, locations * shots)
        parts = []
        for start in range(0, locations * shots, shots):
            rows = slice(start, start + shots)
            radiance = self.states.shots(drawn, rows)
            electrons = self.spectrometer.electrons(radiance * drawn.gain[rows, None], drift[rows])
            counts = self.spectrometer.expose(electrons, self.pattern, rng).astype(np.float64)
            parts.append(counts.mean(axis=0, keepdims=True) if average else counts)
        return np.concatenate(parts)

    def means(self, distance_m: float, shots: int, key: int) -> np.ndarray:
        """Calibrated mean spectra [LOCATIONS, pixels], continuum removed."""
        counts = self.shots(distance_m, LOCATIONS, shots, key, average=True)
        return st.without_continuum(
            self.spectrometer.wavelength, self.spectrometer.radiance(counts, self.dark)
        )

    def pellet(self) -> measured.Pellet:
        """The simulated counterpart of `measured.pellet`."""
        near = self.means(measured.NEAR_M, NEAR_SHOTS, 1)
        far = self.means(measured.FAR_M, FAR_SHOTS, 2)
        return measured.Pellet(self.spectrometer.wavelength, near, far)


def similarities(p: measured.Pellet) -> tuple[list[float], list[float], list[float], list[float]]:
    """(four Bray-Curtis means within, two across, cosines within, cosines across)."""
    inside, between = [], []
    for by in ("total", "detector"):
        near, far = (st.normalised(p.wavelength, spectra, by) for spectra in (p.near, p.far))
        inside += [_mean(st.within(st.bray_curtis, spectra)) for spectra in (near, far)]
        means = [st.normalised(p.wavelength, s.mean(axis=0, keepdims=True), by)[0] for s in (p.near, p.far)]
        between.append(st.bray_curtis(*means))
    near, far = (st.normalised(p.wavelength, spectra, "total") for spectra in (p.near, p.far))
    alike = [*st.within(st.cosine, near), *st.within(st.cosine, far)]
    return inside, between, alike, st.across(st.cosine, near, far)


def _shares(p: measured.Pellet) -> np.ndarray:
    """Share of each detector in the total of every location, both distances: [2 locations, detectors]."""
    spectra = np.concatenate([p.near, p.far])
    parts = [spectra[:, part].sum(axis=1) for part in st.detectors(p.wavelength)]
    return np.stack(parts, axis=1) / spectra.sum(axis=1)[:, None]


def pellet_rows(real: measured.Pellet, simulated: Sequence[measured.Pellet]) -> list[Row]:
    """Similarities and line ratios of the pellet at two distances; simulated: the mean over pellets."""
    rows = []
    titles = (
        ("bray-curtis-within", "Bray-Curtis within a distance"),
        ("bray-curtis-across", "Bray-Curtis, 1.545 m against 4.25 m"),
        ("cosine-within", "cosine within a distance"),
        ("cosine-across", "cosine, 1.545 m against 4.25 m"),
    )
    made = [similarities(pellet) for pellet in simulated]
    for k, ((name, title), a) in enumerate(zip(titles, similarities(real), strict=True)):
        rows.append(Row(name, title, _mean(a), _mean([_mean(m[k]) for m in made]), min(a), max(a)))
    there, here = _shares(real), np.concatenate([_shares(pellet) for pellet in simulated])
    for i, name in enumerate(("UV", "violet", "green to red")):
        title = f"share of the total in the {name}"
        rows.append(
            Row(f"share-{i + 1}", title, _mean(there[:, i]), _mean(here[:, i]), *_ends(there[:, i].tolist()))
        )
    total = _total_ratio(real)
    for line in st.LINES:
        found = st.line_ratios(real.wavelength, real.near, real.far, line)
        ratios = [
            _mean(st.line_ratios(p.wavelength, p.near, p.far, line)) * total / _total_ratio(p)
            for p in simulated
        ]
        title = f"near over far, {line.name} ({line.kind})"
        name = "line-" + line.name.lower().replace(" ", "-")
        rows.append(Row(name, title, _mean(found), _mean(ratios), *_ends(found)))
    return rows


def _total_ratio(p: measured.Pellet) -> float:
    """Mean total near over mean total far."""
    return float(p.near.sum(axis=1).mean() / p.far.sum(axis=1).mean())


def shot_rsds(bench: Bench, shots: int = 30) -> list[tuple[float, float]]:
    """`statistics.shot_rsd` of every simulated point at 3.126 m (the distance of the real SuperCam shots)."""
    radiance = bench.spectrometer.radiance(bench.shots(3.126, SHOT_POINTS, shots, 3), bench.dark)
    radiance = st.without_continuum(bench.spectrometer.wavelength, radiance)
    return [st.shot_rsd(point) for point in radiance.reshape(SHOT_POINTS, shots, -1)]


def shot_rows(real: Sequence[tuple[float, float]], benches: Sequence[Bench]) -> list[Row]:
    """Fluctuation from shot to shot on one point, in radiance; simulated: the mean over points and pellets."""
    here = [rsd for bench in benches for rsd in shot_rsds(bench)]
    titles = (("total-rsd", "RSD of the total, shot to shot"), ("line-rsd", "RSD of strong normalised lines"))
    return [
        Row(
            name,
            title,
            _mean([r[i] for r in real]),
            _mean([h[i] for h in here]),
            *_ends([r[i] for r in real]),
        )
        for i, (name, title) in enumerate(titles)
    ]


def _ends(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)


def signal_law(spectra: SpectraSet, spectrometer: Spectrometer) -> tuple[float, float]:
    """`statistics.power_law` of the signal of a simulated set (counts) of the instrument ``spectrometer``."""
    dark = np.zeros(spectra.channels) if spectra.dark is None else spectra.dark.astype(np.float64)
    radiance = spectrometer.radiance(spectra.counts.astype(np.float64), dark)
    signal = st.without_continuum(spectrometer.wavelength, radiance).sum(axis=1)
    return st.power_law(spectra.distance_m.astype(np.float64), signal)


def set_rows(
    law: measured.Law,
    clipping: measured.Clipping,
    offsets: dict[str, float],
    spectra: SpectraSet,
    spectrometer: Spectrometer,
) -> list[Row]:
    """Signal law, clipping and axis offsets of a simulated set (counts) of the instrument ``spectrometer``."""
    dark = np.zeros(spectra.channels) if spectra.dark is None else spectra.dark.astype(np.float64)
    counts = spectra.counts.astype(np.float64)
    exponent, scatter = signal_law(spectra, spectrometer)
    off = []
    for name in spectra.specimens:
        for distance in np.unique(spectra.distance_m):
            cell = (spectra.specimen == name) & (spectra.distance_m == distance)
            mean = counts[cell].mean(axis=0) - dark
            window = np.abs(spectra.wavelength - st.CA_II_K) < 5
            top = mean[np.abs(spectra.wavelength - st.CA_II_K) < 0.4].max()
            if top > 5 * np.median(np.abs(mean[window])) + 100:  # where the line is there at all
                off.append(abs(st.line_offset(spectra.wavelength, mean, reach=0.4)))
    real = [abs(v) for v in offsets.values()]
    share = max(clipping.shares)
    here = float((spectra.counts >= spectra.saturation).mean())
    low, high = (float(v) for v in np.percentile(real, [25, 75]))
    return [
        Row("signal-exponent", "signal ~ d^x, raw: x", law.exponent, exponent, *law.exponent_band),
        Row("signal-scatter", "scatter of ln signal around it", law.scatter, scatter, *law.scatter_band),
        Row(
            "clip-level",
            "clipping level, counts",
            clipping.level,
            spectra.saturation,
            *([clipping.level] * 2),
        ),
        Row("clip-share", "share of clipped pixels", share, here, 0.0, share),
        Row(
            "axis-offset",
            "median offset of Ca II K, nm",
            float(np.median(real)),
            float(np.median(off)),
            low,
            high,
        ),
    ]


def gap_rows(real: dict[str, list[tuple[float, float]]]) -> list[Row]:
    """Edges of the detector gaps of the presets that have a real counterpart, nm."""
    rows = []
    for name, expected in real.items():
        found = st.gaps(Spectrometer(INSTRUMENTS[name]).wavelength)
        for i, edges in enumerate(expected):
            ours = found[i] if i < len(found) else (float("nan"),) * 2
            for side, edge, mine in zip(("begin", "end"), edges, ours, strict=True):
                title = f"{name}: gap {i + 1} {side}s at, nm"
                rows.append(
                    Row(f"gap-{name}-{i + 1}-{side}", title, edge, mine, edge - EDGE_NM, edge + EDGE_NM)
                )
    return rows


def check(folder: Path, plan: generate.Plan, *, jobs: int | None = None, progress: bool = False) -> Fidelity:
    """Every row, for the scene and the plasma of ``plan`` (its materials make the set of `set_rows`).

    Raises `FileFormatError` for a real file that is missing or damaged.
    """
    real = measured.pellet(folder)
    shots = measured.shot_rsds(folder)
    law, clipping = measured.signal_law(folder), measured.clipping(folder)
    offsets, gaps = measured.axis_offsets(folder), measured.instrument_gaps(folder)
    benches = [Bench.of(plan, "supercam", number) for number in range(PELLETS)]
    rows = pellet_rows(real, [bench.pellet() for bench in benches]) + shot_rows(shots, benches)
    with tempfile.TemporaryDirectory(prefix="libsedge-check-") as scratch:
        path = generate.run(
            replace(plan, targets=TARGETS), Path(scratch, "set.h5"), jobs=jobs, progress=progress
        )
        rows += set_rows(law, clipping, offsets, SpectraSet.load(path), Spectrometer(plan.instrument))
    rows += gap_rows(gaps)
    return Fidelity(tuple(rows), digest(plan, rows))


def digest(plan: generate.Plan, rows: Sequence[Row]) -> str:
    """SHA-256, hex, of the plan (seed, materials, scene, plasma, instrument), the pellet's bench and every band."""
    bands = [[row.id, f"{row.low:.6g}", f"{row.high:.6g}"] for row in rows]
    bench = [asdict(INSTRUMENTS["supercam"]), PELLETS, LOCATIONS, NEAR_SHOTS, FAR_SHOTS, SHOT_POINTS]
    return hashlib.sha256(json.dumps([plan.digest(), TARGETS, bench, bands]).encode()).hexdigest()


def markdown(result: Fidelity) -> str:
    """The table as text: one line a statistic, aligned, valid Markdown."""
    cells = [("statistic", "real", "simulated", "band", "")]
    for row in result.rows:
        band = f"{row.low:.4g} to {row.high:.4g}"
        cells.append(
            (row.title, f"{row.real:.4g}", f"{row.simulated:.4g}", band, "pass" if row.passed else "FAIL")
        )
    widths = [max(len(line[k]) for line in cells) for k in range(5)]
    lines = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(lines)
