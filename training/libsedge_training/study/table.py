"""The tables of docs/weighting.md out of a study.json: `python -m libsedge_training.study.table study.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from libsedge.errors import RunError

from .page import COLUMNS, ranked
from .plan import EQUAL

Entry = Mapping[str, Any]
_FIGURES = ("accuracy", "precision", "recall", "f1", "worst_distance")
_HEAD = ("method", *COLUMNS, "minus equal, 95 % interval", "p (Holm)")


def percent(value: float | None) -> str:
    """A share in %."""
    return "–" if value is None else f"{100 * value:.1f}"


def points(delta: Mapping[str, float] | None) -> str:
    """A difference in points with its interval."""
    if delta is None:
        return "–"
    mean, low, high = (f"{100 * delta[k]:+.1f}".replace("-", "−") for k in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"


def plain(value: float | None, digits: int = 3) -> str:
    """A number."""
    return "–" if value is None else f"{value:.{digits}f}"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def methods(entries: Mapping[str, Entry]) -> str:
    """Figures of the methods, the most accurate first."""
    rows = [
        [
            f"`{name}`",
            *(percent(e[k]) for k in _FIGURES),
            plain(e.get("ece"), 2),
            percent(e.get("int8_accuracy")),
            plain(e.get("epoch_time_ratio")),
            points(None if name == EQUAL else e.get("minus_equal")),
            plain(e.get("p_holm")),
        ]
        for name, e in ranked(entries)
    ]
    return markdown(_HEAD, rows)


def calibration(entries: Mapping[str, Entry]) -> str:
    """ECE before and after, what a perfect classifier shows, and the spread over the distances."""
    rows = []
    for name, e in ranked(entries):
        gap = e["distance_spread"]
        spread = f"{100 * gap['value']:.1f} ({100 * gap['low']:.1f} to {100 * gap['high']:.1f})".replace(
            "-", "−"
        )
        ece = [_interval(e.get(k)) for k in ("ece_before", "ece_after")]
        floor = (e.get("ece_floor") or {}).get("specimens")
        perfect = "–" if floor is None else f"{floor['mean']:.3f}, {floor['high']:.3f}"
        warmth = (e.get("temperature") or {}).get("median")
        rows.append(
            [f"`{name}`", *ece, perfect, plain(warmth, 2), spread, percent(gap["by_chance"]), plain(gap["p"])]
        )
    head = ("method", "ECE before", "ECE after", "perfect: mean, 95 %", "temperature")
    return markdown((*head, "best − worst distance", "by chance", "p"), rows)


def _interval(row: Mapping[str, float] | None) -> str:
    return "–" if row is None else f"{row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})"


def distances(entries: Mapping[str, Entry]) -> str:
    """Accuracy by distance."""
    order = ranked(entries)
    head = ["method", *(f"{row['distance_m']:g} m" for row in order[0][1]["per_distance"])]
    rows = [[f"`{name}`", *(percent(row["accuracy"]) for row in e["per_distance"])] for name, e in order]
    return markdown(head, rows)


def controls(found: Entry) -> str:
    """The controls of the best weighting."""
    rows = [
        [f"`{name}`", percent(e["accuracy"]), points(e["minus_equal"]), points(e.get("best_minus_control"))]
        for name, e in found["controls"].items()
    ]
    return markdown(("control", "accuracy", "minus equal", f"`{found['of']}` minus control"), rows)


def tables(found: Entry) -> str:
    """Everything, as Markdown, for the contents of study.json."""
    data = found["data"]
    parts = [
        f"{'Simulated' if found['simulated'] else 'Measured'}, {data['spectra']} spectra of {data['specimens']} "
        f"specimens, data digest {data['digest'][:16]}…, split `{found['split']['name']}`, "
        f"{found['seconds'] / 60:.1f} minutes. Figures in %, ECE and ratios apart.\n"
    ]
    for stage, title in (("final", "Finalists"), ("screen", "Screening and baselines")):
        if stage in found["stages"]:
            entries = found["stages"][stage]
            parts += [f"{title}:\n", methods(entries), calibration(entries), distances(entries)]
    if found["controls"]["controls"]:
        parts += ["Controls:\n", controls(found["controls"])]
    if "minus_best_cc_bcd" in found["best"]:
        other = found["best"]["minus_best_cc_bcd"]
        parts.append(f"`{found['best']['strategy']}` minus `{other['cc_bcd']}`: {points(other)} points.\n")
    for name, other in found["splits"].items():
        entries = other["summary"]
        parts += [f"Split `{name}`:\n", methods(entries), distances(entries)]
    return "\n".join(parts)


@click.command()
@click.argument("path", metavar="study.json", type=click.Path(exists=True, path_type=Path))
def main(path: Path) -> None:
    """Print the tables of a study as Markdown."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError as wrong:
        raise RunError(f"cannot be read: {wrong}", file=path) from wrong
    if not isinstance(found, dict) or found.get("format") != "libsedge-study":
        raise RunError("is not the study.json of a study", file=path, field="format")
    click.echo(tables(found), nl=False)


if __name__ == "__main__":
    main()
