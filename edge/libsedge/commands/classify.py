"""`libsedge classify`: files of spectra, shot by shot, and a vote for each file."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import click

from libsedge.bundle import Bundle
from libsedge.classifier import Classifier, Decision
from libsedge.errors import ConfigError, naming
from libsedge.sources.files import SpectraFile, open_spectra
from libsedge.voting import vote

_BLOCK = 64


def decide(classifier: Classifier, spectra: SpectraFile, distance_m: float | None) -> Iterator[Decision]:
    """A decision for every spectrum of a file; `distance_m` replaces the file's distances."""
    axis = spectra.axis
    classifier.bind(axis.wavelength_nm, axis.mask)
    for start in range(0, len(spectra), _BLOCK):
        rows = slice(start, min(start + _BLOCK, len(spectra)))
        counts = spectra.rows(rows)
        distances = spectra.distance_m[rows] if distance_m is None else [distance_m] * len(counts)
        yield from classifier.classify_many(
            counts, spectra.dark, saturation=axis.saturation, distance_m=list(distances)
        )


def _row(shot: int, decision: Decision) -> dict[str, Any]:
    return {
        "shot": shot,
        "label": decision.label,
        "confidence": None if decision.confidence is None else round(decision.confidence, 6),
        "accepted": decision.accepted,
        "reason": decision.reason,
        "distance_m": round(decision.distance_m, 4) if math.isfinite(decision.distance_m) else None,
    }


def _line(row: dict[str, Any]) -> str:
    distance = "     -  " if row["distance_m"] is None else f"{row['distance_m']:6.2f} m"
    confidence = "    -" if row["confidence"] is None else f"{row['confidence']:.3f}"
    verdict = "accepted" if row["accepted"] else f"not accepted: {row['reason']}"
    return f"  shot {row['shot']:>5}  {distance}  {row['label'] or '-':<20} {confidence}  {verdict}"


@click.command()
@click.argument("bundle", type=click.Path(), metavar="MODEL.sedge")
@click.argument("files", type=click.Path(), nargs=-1, required=True, metavar="FILE...")
@click.option("--isa", help="Demand this instruction set; the default is the fastest that is proven here.")
@click.option(
    "--distance", type=float, metavar="M", help="Distance of every shot, metres; replaces the files'."
)
@click.option(
    "--together", is_flag=True, help="The FILEs are shots of one specimen: one vote over all of them as well."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of text.")
def classify(
    bundle: str,
    files: tuple[str, ...],
    isa: str | None,
    distance: float | None,
    together: bool,
    as_json: bool,
) -> None:
    """Classify the spectra of FILEs with a model, shot by shot, and vote over the accepted shots of each
    file.

    The vote goes to the label with the most accepted shots, of equals to the one with the larger summed
    probability.
    """
    if distance is not None and not 0 < distance < math.inf:
        raise ConfigError("must be above 0 metres", field="distance", value=distance)
    classifier = Classifier(Bundle.open(bundle), isa)
    documents = []
    everything: list[Decision] = []
    totals: Counter[str] = Counter(read=0, accepted=0, not_accepted=0)
    for name in files:
        spectra = open_spectra(name)
        try:
            with naming(name):
                decisions = list(decide(classifier, spectra, distance))
            simulated, shots = spectra.simulated, len(spectra)
        finally:
            spectra.close()
        rows = [_row(shot, decision) for shot, decision in enumerate(decisions)]
        if together:
            everything += decisions
        result = vote(decisions)
        reasons = Counter(str(decision.reason) for decision in decisions if not decision.accepted)
        counts = {
            "read": shots,
            "decided": len(decisions),
            "accepted": result.accepted,
            "not_accepted": dict(sorted(reasons.items())),
        }
        totals["read"] += shots
        totals["accepted"] += result.accepted
        totals["not_accepted"] += sum(reasons.values())
        documents.append(
            {"file": name, "simulated": simulated, "vote": result.label, **counts, "shots": rows}
        )
        if not as_json:
            click.echo(f"{name}{' (simulated)' if simulated else ''}")
            for row in rows:
                click.echo(_line(row))
            detail = "".join(f", {reason} {n}" for reason, n in sorted(reasons.items()))
            click.echo(
                f"  vote: {result.label or 'none'}  ({result.accepted} of {shots} shots accepted{detail})"
            )
    joint = vote(everything)
    unaccounted = totals["read"] - totals["accepted"] - totals["not_accepted"]
    if as_json:
        summary = {
            "model": classifier.digest,
            "isa": classifier.model.isa,
            **totals,
            "unaccounted": unaccounted,
        }
        if together:
            summary["vote"] = joint.label
        click.echo(json.dumps({**summary, "files": documents}, ensure_ascii=False, allow_nan=False, indent=1))
    else:
        if together:
            click.echo(
                f"vote of all files: {joint.label or 'none'}  ({joint.votes} of {joint.accepted} accepted)"
            )
        click.echo(
            f"shots read {totals['read']} = accepted {totals['accepted']} + not accepted "
            f"{totals['not_accepted']}; unaccounted {unaccounted}"
        )
    if unaccounted:
        raise SystemExit(1)
