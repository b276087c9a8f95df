"""report.html of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from libsedge_training import plots
from libsedge_training.report import SIMULATED, Cell, metre, page, paragraph, picture, table

from .plan import EQUAL
from .summary import SELECTED

Entry = Mapping[str, Any]
#: columns that every table of methods has; `table.py` prints them too
COLUMNS = (
    "accuracy",
    "precision",
    "recall",
    "F1",
    "worst distance",
    "ECE",
    "int8",
    "time per epoch / equal",
)
HEAD = ("method", "runs", "diverged", *COLUMNS, "minus equal", "from", "to", "p (Holm)")


def _row(name: str, e: Entry) -> tuple[Cell, ...]:
    delta = {} if name == EQUAL else e.get("minus_equal", {})
    figures = (
        e.get(k) for k in ("accuracy", "precision", "recall", "f1", "worst_distance", "ece", "int8_accuracy")
    )
    return (
        name,
        e["runs"],
        e["diverged"],
        *figures,
        e.get("epoch_time_ratio"),
        delta.get("mean"),
        delta.get("low"),
        delta.get("high"),
        e.get("p_holm"),
    )


def ranked(entries: Mapping[str, Entry]) -> list[tuple[str, Entry]]:
    """Methods with figures, the most accurate first."""
    known = [(name, e) for name, e in entries.items() if "accuracy" in e]
    return sorted(known, key=lambda item: (-item[1]["accuracy"], item[0]))


def differences(entries: Sequence[tuple[str, Entry]]) -> Figure:
    """Accuracy minus that of equal weights, with intervals, the best on top."""
    figure, ax = plots.axes(7.2, 1.2 + 0.28 * len(entries))
    for at, (_, e) in enumerate(reversed(entries)):
        d = e["minus_equal"]
        bars = [[100 * max(d["mean"] - d["low"], 0)], [100 * max(d["high"] - d["mean"], 0)]]
        ax.errorbar([100 * d["mean"]], [at], xerr=bars, color=plots.BLUE, marker="o", capsize=3)
    ax.axvline(0, color="0.5", linestyle=":")
    ax.set_yticks(range(len(entries)), [name for name, _ in reversed(entries)], fontsize=8)
    ax.set_xlabel("accuracy minus that of equal weights (points)")
    return figure


def _stage(entries: Mapping[str, Entry], what: str) -> str:
    order = ranked(entries)
    compared = [(name, e) for name, e in order if "minus_equal" in e and name != EQUAL]
    numbers = table(HEAD, [_row(name, e) for name, e in order])
    if not compared:
        return numbers
    top = compared[0]
    alt = (
        f"Differences from equal weights of {len(compared)} methods; highest {top[0]} "
        f"with {100 * top[1]['minus_equal']['mean']:+.1f} points."
    )
    caption = (
        f"{what}. Bars: 95 % intervals by resampling specimens within classes, and seeds; the same for both "
        "methods of a difference. A bar across the dotted line: no difference was shown."
    )
    return picture(differences(compared), alt, caption) + numbers


def distances(entries: Mapping[str, Entry], names: Sequence[str]) -> str:
    chosen = {n: entries[n]["per_distance"] for n in names if "per_distance" in entries.get(n, {})}
    figure, ax = plots.axes()
    for (name, rows), (colour, marker, line) in zip(chosen.items(), plots.STYLES, strict=False):
        x, y = [r["distance_m"] for r in rows], [r["accuracy"] for r in rows]
        ax.plot(x, y, color=colour, marker=marker, linestyle=line, label=name)
    ax.set_ylim(0, 1.02)
    ax.set_xlabel("stand-off distance (m)")
    ax.set_ylabel("accuracy")
    ax.legend(frameon=False, loc="lower left", fontsize=8)
    first = next(iter(chosen.values()))
    rows = [
        (metre(r["distance_m"]), *(chosen[n][i]["accuracy"] for n in chosen)) for i, r in enumerate(first)
    ]
    worst = {n: min(r["accuracy"] for r in chosen[n]) for n in chosen}
    alt = "Accuracy against distance; lowest: " + ", ".join(f"{n} {v:.3f}" for n, v in worst.items()) + "."
    return picture(figure, alt, "All test spectra of all seeds.", table(("distance", *chosen), rows))


def calibration(entries: Mapping[str, Entry]) -> str:
    """ECE before and after, beside what a perfectly calibrated classifier would show; spread over the distances."""
    rows = []
    for name, e in ranked(entries):
        before, after, floor = (e.get(k) or {} for k in ("ece_before", "ece_after", "ece_floor"))
        gap = e["distance_spread"]
        rows.append(
            (
                name,
                before.get("value"),
                after.get("value"),
                after.get("low"),
                after.get("high"),
                floor.get("specimens", {}).get("mean"),
                floor.get("specimens", {}).get("high"),
                (e.get("temperature") or {}).get("median"),
                *(gap[k] for k in ("value", "low", "high", "by_chance", "p")),
            )
        )
    words = paragraph(
        "ECE over 15 bins of equal mass, all seeds together, before and after temperature scaling; the temperature "
        "fits the test answers of the other folds (their nets have learnt from this fold's test specimens). Perfect: "
        "mean and 95th percentile of the ECE of a perfectly calibrated classifier with these confidences whose answers "
        "to one specimen are right or wrong together; below it nothing is resolved. Spread: best minus worst "
        "distance, its 95 % interval, its mean where distance does not matter, and how often it is as large then."
    )
    ece = ("ECE before", "ECE after", "from", "to", "perfect", "perfect, 95 %", "temperature")
    head = ("method", *ece, "spread", "from", "to", "by chance", "p")
    return words + table(head, rows)


def _metres(values: Sequence[float]) -> str:
    return ", ".join(f"{v:g}" for v in values) + " m"


def _split_words(split: Mapping[str, Any]) -> str:
    return f"Learnt from {_metres(split['learnt_m'])}; tested at {_metres(split['tested_m'])}."


def _curves(runs: Sequence[Mapping[str, Any]], stage: str, names: Sequence[str]) -> str:
    figure, ax = plots.axes()
    for name, (colour, _, line) in zip(names, plots.STYLES, strict=False):
        mine = [r["curve"] for r in runs if r["stage"] == stage and r["method"] == name and "curve" in r]
        for i, curve in enumerate(mine):
            label = name if i == 0 else None
            epochs = range(1, len(curve) + 1)
            ax.plot(epochs, [c[1] for c in curve], color=colour, linestyle=line, lw=0.8, label=label)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("epoch")
    ax.set_ylabel("validation loss (unweighted)")
    ax.legend(frameon=False, fontsize=8)
    alt = f"Validation loss by epoch of every run of {', '.join(names)}."
    return picture(figure, alt, "One line a run of the screening. The last epoch is kept.")


def study_page(found: Mapping[str, Any]) -> str:
    """The page for the contents of study.json."""
    data, best, stages = found["data"], found["best"], found["stages"]
    of_split = [r for r in found["runs"] if r["split"] == found["split"]["name"]]
    lead = paragraph(SIMULATED, note=True) if found["simulated"] else ""
    lead += paragraph(
        f"{data['spectra']} spectra of {data['specimens']} specimens in {len(data['classes'])} classes at "
        f"{len(data['distances_m'])} distances; {data['source']}. Split {found['split']['name']}: specimens stay "
        "whole, and none is tested by a net that was trained or chosen with it."
    )
    lead += paragraph(_split_words(found["split"]))
    lead += paragraph(f"Digest of the spectra {data['digest']}, of plan and spectra {found['digest']}.")
    delta = best.get("minus_equal")
    if delta:
        sure = "above 0" if delta["low"] > 0 else "below 0" if delta["high"] < 0 else "holds 0"
        lead += paragraph(
            f"Best weighting by validation specimens: {best['strategy']}, accuracy {best['accuracy']:.3f}, "
            f"{100 * delta['mean']:+.1f} points over equal weights (95 % interval {100 * delta['low']:+.1f} to "
            f"{100 * delta['high']:+.1f}: {sure})."
        )
    sections = []
    titles = {"final": "Finalists at full size", "screen": "Screening on binned spectra"}
    for stage in ("final", "screen"):
        if stage in stages:
            sections.append((titles[stage], _stage(stages[stage], titles[stage])))
    sections.append(("Calibration and spread over the distances", calibration(found["summary"])))
    control = found["controls"]
    if control["controls"]:
        rows = [
            (
                name,
                e["accuracy"],
                e["minus_equal"]["mean"],
                e["minus_equal"]["low"],
                e["minus_equal"]["high"],
                *(e.get("best_minus_control", {}).get(k) for k in ("mean", "low", "high")),
            )
            for name, e in control["controls"].items()
        ]
        head = ("control", "accuracy", "minus equal", "from", "to", "weighting minus control", "from", "to")
        words = paragraph(
            f"What is left of {control['of']} (screening size) when its weights say less; equal*2 is equal weights "
            "with twice the epochs. Where a control does as well as the weighting, the weights' own content does "
            "not matter."
        )
        sections.append(("Controls", words + table(head, rows)))
    last = best["stage"]
    names = [n for n in dict.fromkeys(("equal", best["strategy"], SELECTED)) if n in stages[last]]
    names += [n for n, _ in ranked(stages[last]) if n not in names][: 4 - len(names)]
    sections.append(("Distance", distances(stages[last], names)))
    for name, other in found["splits"].items():
        entries = other["summary"]
        order = [n for n, _ in ranked(entries) if n != SELECTED]
        chosen = list(dict.fromkeys(("equal", other["best"]["strategy"], *order)))[:4]
        words = paragraph(_split_words(other) + " Screening size; as many steps as with all spectra.")
        content = words + _stage(entries, f"Screening, split {name}") + distances(entries, chosen)
        sections.append((f"Split: {name}", content))
    sections.append(("Training", _curves(of_split, "screen", [n for n in names if n != SELECTED][:2])))
    for name in dict.fromkeys(("equal", best["strategy"])):
        entry = stages[last].get(name, {})
        if "confusion" in entry:
            matrix, classes = entry["confusion"], data["classes"]
            right = sum(matrix[k][k] for k in range(len(classes)))
            alt = f"Confusion matrix of {name}: {right} of {sum(map(sum, matrix))} on the diagonal."
            numbers = table(
                ("true \\ predicted", *classes), [(c, *r) for c, r in zip(classes, matrix, strict=True)]
            )
            content = picture(plots.confusion(matrix, classes), alt, "Test spectra of all seeds.", numbers)
            sections.append((f"Confusion: {name}", content))
    shown = next((r for r in of_split if r["method"] == best["strategy"] and "weights" in r), None)
    if shown is not None:
        numbers = table(
            ("distance", "spectra", "mean weight", "smallest", "largest"),
            [(metre(w["distance_m"]), w["spectra"], w["mean"], w["min"], w["max"]) for w in shown["weights"]],
        )
        alt = f"Weights of {best['strategy']} against distance."
        caption = "First seed and fold; for a dynamic strategy the weights of the last epoch."
        sections.append(("Weights", picture(plots.weights(shown["weights"]), alt, caption, numbers)))
    return page("Study of weighting strategies", sections, lead)
