"""How well a chemistry run does where an instrument sees a part of the range: on its test part, simulated.

`python -m libsedge_training.chemistry_coverage RUN` masks channels of the test spectra and prints a table.
"""

from __future__ import annotations

from dataclasses import replace

import click
import numpy as np

from . import evaluate as ev
from .run_folder import read_run

#: what is seen, nm
RANGES: dict[str, tuple[tuple[float, float], ...]] = {
    "240-850 nm": ((240.0, 850.0),),
    "ChemCam's three detectors": ((240.8, 340.8), (382.1, 469.1), (473.2, 850.0)),
    "SuperCam's detectors": ((243.8, 341.4), (379.3, 464.5), (537.6, 850.0)),
    "240-400 nm": ((240.0, 400.0),),
    "400-850 nm": ((400.0, 850.0),),
    "500-850 nm": ((500.0, 850.0),),
}


def balanced(found: dict[str, object]) -> float:
    """Mean recall of the classes that occur."""
    rows = found["per_class"]
    assert isinstance(rows, list)
    return float(np.mean([row["recall"] for row in rows if row["n"]]))


@click.command()
@click.argument("run_dir", metavar="RUN", type=click.Path(exists=True, file_okay=False))
def main(run_dir: str) -> None:
    """Print accuracy and balanced accuracy of RUN's test part for each of `RANGES`."""
    run = read_run(run_dir)
    part = ev.split_part(ev.run_data(run_dir, run), run, "test")
    click.echo("| seen | spectra | accuracy | balanced accuracy |\n|---|---|---|---|")
    for name, ranges in RANGES.items():
        nm = part.wavelength
        mask = np.any([(nm >= low) & (nm < high) for low, high in ranges], axis=0)
        found = ev.evaluate_run(run_dir, replace(part, mask=mask), "all")
        click.echo(f"| {name} | {len(part)} | {found['accuracy']:.3f} | {balanced(found):.3f} |")


if __name__ == "__main__":
    main()
