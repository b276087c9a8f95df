"""What a bundle says about real spectra of known kind: `python -m libsedge_training.chemistry_real MODEL.sedge`.

The files are those of ``--real-data`` (default LIBSEDGE_REAL_DATA, else ../shared/data). They are a test: nothing was
chosen by them. ``true`` is the target's class of `simulate/minerals.csv` as the model's class set calls it: a rock made
mostly of silicates is a silicate, steel and aluminium are native metals or metals, a soil is a soil (a silicate where
there is no such class), a plant is none. Every spectrum is classified, also where the bundle's own checks would not
accept the answer; how many they accept stands beside it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from libsedge.bundle import Bundle
from libsedge.classifier import Classifier
from libsedge.preprocess import Preprocessor

from .evaluate import probabilities_of
from .readers import read
from .run_folder import read_run
from .simulate.minerals import CLASS_SETS
from .spectra import SpectraSet


@dataclass(frozen=True)
class Target:
    """Real spectra of one thing: a file, which of its spectra (None = all), its class of the table (None = none)."""

    name: str
    instrument: str
    file: str
    rows: tuple[int, ...] | None
    true: str | None


_OCEAN = "Ocean Optics, laboratory"
TARGETS = (
    *(
        Target("BHVO-2", "SuperCam, 1.545 m", f"bhvo2/supercam_1545mm_loc{k}_spectrum.csv", None, "silicate")
        for k in (1, 2, 3)
    ),
    *(
        Target("BHVO-2", "SuperCam, 4.25 m", f"bhvo2/supercam_4250mm_loc{k}_spectrum.csv", None, "silicate")
        for k in (1, 2, 3)
    ),
    *(
        Target("BHVO-2", "ChemCam, 3 m", f"bhvo2/chemcam_bhvo2_loc{k}_spectrum.csv", None, "silicate")
        for k in (1, 2, 3, 4)
    ),
    Target("BHVO-2", "CSA, laboratory", "bhvo2/csa_bhvo2_200pulse_spectrum.csv", None, "silicate"),
    Target("NAu-2", "ChemCam, 1.58 m", "chemcam/LIBS_CCS_mean_spectra.csv", (1,), "silicate"),
    Target(
        "Coronation", "ChemCam, 2.67 m", "chemcam/CL5_398645626CCS_F0030004CCAM02013P3.csv", None, "silicate"
    ),
    Target(
        "Máaz",
        "SuperCam, 3.13 m",
        "supercam/scam_0012_0668002890_477_cl1_scam15210_maaz_________________01p01.fits",
        None,
        "silicate",
    ),
    Target("basalt", _OCEAN, "oceanoptics/TestBasalt_UV_01.txt", None, "silicate"),
    Target("basalts", "JSC, laboratory", "pyhat_jsc/example_data.csv", None, "silicate"),
    Target(
        "stainless steel",
        _OCEAN,
        "oceanoptics/TestSS_UV_01.txt",
        (*range(10), *range(20, 30)),
        "native metal",
    ),
    Target("aluminium alloy", _OCEAN, "oceanoptics/TestSS_UV_01.txt", tuple(range(10, 20)), "native metal"),
    Target("soils", "laboratory", "soil_plant/soil171_raw.npz", None, "soil"),
    Target("cranberry plants", "laboratory", "soil_plant/cranberry439_raw.npz", None, None),
)


def true_label(target: Target, labels: Sequence[str]) -> str | None:
    """The target's class as a model with these labels calls it; None where it has none."""
    if target.true is None or target.true in labels:
        return target.true
    for names in CLASS_SETS.values():
        if set(names.values()) == set(labels):
            return names.get(target.true, "silicate" if target.true == "soil" else None)
    return None


Answers = Callable[[SpectraSet], tuple[np.ndarray, np.ndarray]]


def of_bundle(path: Path) -> tuple[list[str], Answers]:
    """(labels; spectra -> probabilities float64 [n, classes] of every spectrum, accepted bool [n]) of a bundle."""
    bundle = Bundle.open(path)
    classifier = Classifier(bundle)

    def answers(spectra: SpectraSet) -> tuple[np.ndarray, np.ndarray]:
        classifier.bind(spectra.wavelength, spectra.mask)
        steps = Preprocessor(bundle.preprocess, spectra.wavelength, spectra.mask)
        inputs = np.ascontiguousarray(steps.input(spectra.counts, spectra.dark))
        decided = classifier.classify_many(spectra.counts, dark=spectra.dark, saturation=spectra.saturation)
        probabilities = classifier.probabilities(classifier.model.run_batch(inputs))
        return probabilities, np.array([d.accepted for d in decided])

    return list(bundle.labels), answers


def of_run(folder: Path) -> tuple[list[str], Answers]:
    """The same of a run's float net, which refuses nothing."""

    def answers(spectra: SpectraSet) -> tuple[np.ndarray, np.ndarray]:
        return probabilities_of(folder, spectra), np.ones(len(spectra), bool)

    return list(read_run(folder)["classes"]), answers


@dataclass(frozen=True)
class Row:
    """One line of the table: a target on an instrument, and what the bundle says of its spectra."""

    name: str
    instrument: str
    true: str | None
    says: Counter[str]
    confidence: float
    accepted: int

    @property
    def spectra(self) -> int:
        return self.says.total()

    def markdown(self) -> str:
        says = ", ".join(f"{label} {n}" for label, n in self.says.most_common())
        return (
            f"| {self.name} | {self.instrument} | {self.true or '-'} | {self.spectra} | {says} "
            f"| {self.confidence:.2f} | {self.accepted} |"
        )


def rows(model: Path, folder: Path) -> Iterator[Row]:
    """One row a target and instrument, in `TARGETS`' order."""
    labels, answers = of_run(model) if model.is_dir() else of_bundle(model)
    groups: dict[tuple[str, str], list[Target]] = {}
    for target in TARGETS:
        groups.setdefault((target.name, target.instrument), []).append(target)
    for (name, instrument), targets in groups.items():
        says: Counter[str] = Counter()
        confidence: list[float] = []
        accepted = 0
        for target in targets:
            spectra = read(folder / target.file)
            if target.rows is not None:
                spectra = spectra.select(np.array(target.rows))
            probabilities, taken = answers(spectra)
            says.update(labels[k] for k in probabilities.argmax(axis=1).tolist())
            confidence += probabilities.max(axis=1).tolist()
            accepted += int(taken.sum())
        yield Row(
            name, instrument, true_label(targets[0], labels), says, float(np.mean(confidence)), accepted
        )


@click.command()
@click.argument("model", metavar="MODEL.sedge|RUN", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--real-data",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(os.environ.get("LIBSEDGE_REAL_DATA", "../shared/data")),
    show_default=True,
)
def main(model: Path, real_data: Path) -> None:
    """Print the table of docs/real_spectra.md for a bundle, or for the float net of a run."""
    click.echo("| target | instrument | true | spectra | answers | mean confidence | accepted |")
    click.echo("|---|---|---|---|---|---|---|")
    for row in rows(model, real_data):
        click.echo(row.markdown())


if __name__ == "__main__":
    main()
