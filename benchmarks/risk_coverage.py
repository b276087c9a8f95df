"""Draws the risk-coverage curves of evaluations side by side; makes docs/images/risk_coverage.svg.

python benchmarks/risk_coverage.py NAME=RUN/evaluation.json... -o PICTURE.svg
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import matplotlib
from libsedge_training.plots import risk_coverage


@click.command()
@click.argument("evaluations", nargs=-1, required=True, metavar="NAME=evaluation.json...")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path))
def main(evaluations: tuple[str, ...], output: Path) -> None:
    """Same evaluations, same bytes."""
    named = {}
    for text in evaluations:
        name, _, file = text.rpartition("=")
        named[name] = json.loads(Path(file).read_text("utf-8"))["confidence"]["selective"]
    with matplotlib.rc_context({"svg.hashsalt": "libsedge"}):
        risk_coverage(named).savefig(output, format="svg", metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    main()
