"""report.html of a replicated study, with a forest plot of every comparison, and its tables as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from libsedge_training import plots
from libsedge_training.report import SIMULATED, Cell, page, paragraph, picture, table

from . import page as study_page
from .table import calibration, distances, markdown, percent, plain, points
from .universes import universe_name

Found = Mapping[str, Any]
_FIGURES = ("accuracy", "precision", "recall", "f1")


def forest(compared: Found, numbers: list[int]) -> Figure:
    """Difference of accuracy in every universe with its interval, and the mean's two intervals at the foot."""
    rows = [
        (universe_name(n), one, plots.BLUE, "o")
        for n, one in zip(numbers, compared["universes"], strict=True)
    ]
    for name, key in (("these universes", "these"), ("other universes", "others")):
        rows.append((name, {"mean": compared["mean"], **compared[key]}, plots.ORANGE, "D"))
    figure, ax = plots.axes(7.2, 1.4 + 0.32 * len(rows))
    for at, (_, row, colour, marker) in enumerate(reversed(rows)):
        bars = [[100 * max(row["mean"] - row["low"], 0)], [100 * max(row["high"] - row["mean"], 0)]]
        ax.errorbar([100 * row["mean"]], [at], xerr=bars, color=colour, marker=marker, capsize=3)
    ax.axvline(0, color="0.5", linestyle=":")
    ax.axhline(1.5, color="0.8", linewidth=0.8)
    ax.set_yticks(range(len(rows)), [name for name, *_ in reversed(rows)])
    ax.set_xlabel("difference of accuracy (points)")
    return figure


def _verdict(compared: Found) -> str:
    low, high = compared["others"]["low"], compared["others"]["high"]
    return "above 0" if low > 0 else "below 0" if high < 0 else "holds 0"


def _compared(name: str, found: Found) -> tuple[str, str]:
    one, numbers = found["comparisons"][name]["accuracy"], found["universes"]
    rows: list[tuple[Cell, ...]] = [
        (universe_name(n), row["mean"], row["low"], row["high"])
        for n, row in zip(numbers, one["universes"], strict=True)
    ]
    for label, interval in (("these", one["these"]), ("others", one["others"]), ("Student's t", one["t"])):
        rows.append((label, one["mean"], *((interval or {}).get(k) for k in ("low", "high"))))
    alt = f"Forest plot of {name} in {len(numbers)} universes: mean {100 * one['mean']:+.1f} points, {_verdict(one)}."
    caption = (
        "Bars: 95 % intervals. A universe's: its specimens resampled within their classes. These universes: the same "
        "in all of them. Other universes: universes resampled as well."
    )
    return name, picture(forest(one, numbers), alt, caption, table(("universe", "mean", "from", "to"), rows))


def replicated_page(found: Found) -> str:
    """The page for the contents of replicated.json."""
    numbers = found["universes"]
    lead = paragraph(SIMULATED, note=True) if found["simulated"] else ""
    lead += paragraph(
        f"{len(numbers)} universes of 37 specimens that were in no study before; net {found['net']}, "
        f"{found['plan']['final']['epochs']} epochs, {found['plan']['folds']} folds."
    )
    for name, one in found["comparisons"].items():
        d = one["accuracy"]
        low, high = (100 * d["others"][k] for k in ("low", "high"))
        lead += paragraph(
            f"{name}: {100 * d['mean']:+.1f} points ({low:+.1f} to {high:+.1f}: {_verdict(d)})."
        )
    sections = [_compared(name, found) for name in found["comparisons"]]
    names = list(found["summary"])
    sections.append(("Distance", study_page.distances(found["summary"], names)))
    sections.append(("Calibration and spread over the distances", study_page.calibration(found["summary"])))
    return page("Replicated study", sections, lead)


def _interval(row: Mapping[str, float | None] | None) -> str:
    if row is None or row.get("low") is None:
        return "–"
    return " to ".join(f"{100 * (row[k] or 0):+.1f}" for k in ("low", "high")).replace("-", "−")


def tables(found: Found) -> str:
    """Everything, as Markdown."""
    summary, numbers = found["summary"], found["universes"]
    head = ["method", *(universe_name(n) for n in numbers), "mean accuracy", "precision", "recall", "F1"]
    rows = [
        [
            f"`{name}`",
            *(percent(one["accuracy"]) for one in e["universes"]),
            *(percent(e[k]) for k in _FIGURES),
        ]
        for name, e in summary.items()
    ]
    parts = [
        f"{len(numbers)} universes, net `{found['net']}`, simulated; {found['seconds'] / 60:.0f} minutes of runs.\n"
    ]
    parts.append(markdown(head, rows))
    rows = []
    for name, one in found["comparisons"].items():
        d = one["accuracy"]
        rows.append(
            [
                name,
                points({"mean": d["mean"], **d["others"]}),
                _interval(d["these"]),
                _interval(d["t"]),
                plain(d.get("p_holm")),
                *(points({"mean": one[k]["mean"], **one[k]["others"]}) for k in _FIGURES[1:]),
            ]
        )
    head = ["difference, points", "accuracy, other universes", "these universes", "Student's t", "p (Holm)"]
    parts.append(markdown([*head, *_FIGURES[1:]], rows))
    each = [
        [name, *(points(row) for row in one["accuracy"]["universes"])]
        for name, one in found["comparisons"].items()
    ]
    parts.append(markdown(("difference, points", *(universe_name(n) for n in numbers)), each))
    parts.append(calibration(summary))
    rows = []
    for name, e in summary.items():
        kept, gap = e.get("selective"), e["int8_minus_float"]
        ratio = "–" if kept is None else "{value:.2f} ({low:.2f} to {high:.2f})".format(**kept["error_ratio"])
        at = "–" if kept is None else percent(kept["error_at_coverage"]["value"])
        all_of = "–" if kept is None else percent(kept["error"]["value"])
        quantised = f"{100 * gap['mean']:+.2f}".replace("-", "−") + f" ({_interval(gap)})"
        rows.append([f"`{name}`", all_of, at, ratio, quantised, str(e["diverged"])])
    head = ["method", "error", "at 85 % coverage", "ratio", "int8 − float, points", "diverged"]
    parts.append(markdown(head, rows))
    parts.append(distances(summary))
    return "\n".join(parts)
