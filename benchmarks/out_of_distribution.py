"""Which score tells spectra that a model should not answer: a class never trained, a weak shot, a frame without light.

For each class of a set: a net (`medium`, virtual specimens) is trained without it, quantised, and its int8 logits taken
on test specimens of the other classes, on the class left out, and on frames made from the test spectra. Printed: AUROC
(test spectra against the others; 0.5 = knows nothing), mean and lowest over the classes left out, and what
`min_contrast` of `libsedge export` refuses. Simulated sets; nothing is tuned on what is printed. Call it again to go on
after an interruption.

    python benchmarks/out_of_distribution.py SET.h5 -o FOLDER [--leave CLASS]...
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
from libsedge.preprocess import PreprocessConfig, Preprocessor
from libsedge_training import fit, quantise
from libsedge_training.calibrate import choose_min_contrast, fit_temperature
from libsedge_training.evaluate import split_part
from libsedge_training.export import noise_contrast
from libsedge_training.int8_export import run_onnxruntime
from libsedge_training.model import fold
from libsedge_training.prepare import preprocessed
from libsedge_training.readers import read
from libsedge_training.risk import auroc
from libsedge_training.run_folder import load_run
from libsedge_training.spectra import SpectraSet
from scipy.ndimage import gaussian_filter1d, minimum_filter1d
from scipy.special import logsumexp

CONFIG = fit.TrainConfig(
    net="medium",
    weighting="virtual:n=16",
    epochs=25,
    patience=25,
    lr=2e-3,
    weight_decay=1e-2,
    test_specimens=6,
    validation_specimens=6,
)
READ_NOISE = 10.0  # counts, as in `export.noise_contrast`
COMPONENTS = 50


def failures(test: SpectraSet) -> dict[str, SpectraSet]:
    """Frames that are no spectra, from the test spectra: no light, a share of the light, continuum without lines."""
    rng = np.random.default_rng(0)
    dark = 0.0 if test.dark is None else test.dark
    light = np.maximum(test.counts - dark, 0).astype(np.float64)

    def frames(signal: np.ndarray) -> SpectraSet:
        counts = np.rint(signal + rng.normal(0, READ_NOISE, signal.shape) + dark)
        return replace(test, counts=np.clip(counts, 0, 65_535).astype(test.counts.dtype))

    continuum = gaussian_filter1d(minimum_filter1d(light, 101, axis=1), 50, axis=1)
    weak = {f"{share:.0%} of the light": frames(rng.poisson(share * light)) for share in (0.1, 0.03, 0.01)}
    return {
        "dark frame": frames(np.zeros(light.shape)),
        **weak,
        "no lines": frames(rng.poisson(np.maximum(continuum, 0))),
    }


def judge(data: SpectraSet, left: str, folder: Path) -> dict[str, dict[str, float]]:
    """Kind of spectrum -> score -> AUROC, and `min_contrast` -> share refused."""
    rest = data.select(np.flatnonzero(data.label != left))
    fit.train(rest, folder, CONFIG, resume=True, threads=1)
    net, run = load_run(folder)
    config = PreprocessConfig.from_json(run["preprocess"])
    train, held, test = (split_part(rest, run, part) for part in ("train", "validation", "test"))
    others = {"class left out": data.select(np.flatnonzero(data.label == left)), **failures(test)}
    train_x, held_x = preprocessed(train, config)[0], preprocessed(held, config)[0]
    graph = quantise.choose(fold(net), spread_rows(train_x), held_x, run_onnxruntime, "m").graph

    def logits(x: np.ndarray) -> np.ndarray:
        return quantise.dequantise_logits(graph, run_onnxruntime(graph, quantise.quantise_input(graph, x)))

    truth = np.searchsorted(run["classes"], held.label)
    temperature = fit_temperature(logits(held_x), truth)
    mean = train_x.mean(axis=0)
    axes = np.linalg.svd(train_x[::2] - mean, full_matrices=False)[2][:COMPONENTS]

    def scores(part: SpectraSet) -> dict[str, np.ndarray]:
        x = preprocessed(part, config)[0]
        scaled, away = logits(x) / temperature, x - mean
        reports = Preprocessor(config, part.wavelength, part.mask).report(
            part.counts, part.saturation, part.dark
        )
        assert isinstance(reports, list)
        return {
            "confidence": np.exp(scaled.max(axis=1) - logsumexp(scaled, axis=1)),
            "energy": logsumexp(scaled, axis=1),
            "largest logit": scaled.max(axis=1),
            "contrast": np.array([report.contrast for report in reports]),
            "residual": -np.linalg.norm(away - (away @ axes.T) @ axes, axis=1),
        }

    inside, noise = scores(test), noise_contrast(Preprocessor(config, held.wavelength, held.mask))
    limit, _ = choose_min_contrast(scores(held)["contrast"], noise)
    found = {"test spectra": {"min_contrast": float((inside["contrast"] < limit).mean())}}
    for kind, part in others.items():
        outside = scores(part)
        found[kind] = {name: auroc(inside[name], values) for name, values in outside.items()}
        found[kind]["min_contrast"] = float((outside["contrast"] < limit).mean())
    return found


def spread_rows(x: np.ndarray, most: int = 512) -> np.ndarray:
    """At most `most` rows, evenly spaced."""
    return x[np.linspace(0, len(x) - 1, min(most, len(x))).astype(np.int64)]


@click.command()
@click.argument("spectra", metavar="SET.h5")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path))
@click.option(
    "--leave", multiple=True, metavar="CLASS", help="Classes to leave out, one each time; default: all."
)
def main(spectra: str, output: Path, leave: tuple[str, ...]) -> None:
    """Train, judge and print a table in Markdown."""
    data = read(spectra)
    rows: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for left in leave or data.classes:
        for kind, figures in judge(data, left, output / left).items():
            for name, value in figures.items():
                rows[kind][name].append(value)
        click.echo(f"{left}: done", err=True)
    names = [*rows["class left out"]]
    click.echo("| | " + " | ".join(names) + " |\n|:---|" + "---:|" * len(names))
    for kind, columns in rows.items():
        cells = [f"{np.mean(columns[n]):.2f} ({min(columns[n]):.2f})" if n in columns else "" for n in names]
        click.echo(f"| {kind} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
