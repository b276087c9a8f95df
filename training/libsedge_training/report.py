"""Reports: one self-contained HTML page, readable on a phone, without network, scripts or colour-only
meaning.

`page`, `table`, `image` and `picture` are for any report; `evaluation_page` is that of `libsedge evaluate`.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from . import plots

_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 78rem; padding: 1rem; color: #1a1a1a; background: #fff;
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .5rem 0; }
h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; border-bottom: 1px solid #ccc; }
p, figcaption { max-width: 44rem; }
figure { margin: .5rem 0 1rem; }
img { display: block; width: 100%; max-width: 40rem; height: auto; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .5rem 0; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: .25rem; }
th, td { padding: .25rem .5rem; border-bottom: 1px solid #ddd; text-align: left; white-space: nowrap; }
th[scope=row] { white-space: normal; overflow-wrap: anywhere; min-width: 9rem; }
td:not(.number) { white-space: normal; min-width: 6rem; }
td.number, th.number { text-align: right; }
thead th.number { white-space: normal; vertical-align: bottom; }
summary { cursor: pointer; padding: .4rem 0; }
.note { border-left: 4px solid #D55E00; background: #fff6ef; padding: .5rem .8rem; }
code { overflow-wrap: anywhere; }
"""

Cell = str | int | float | None


def image(figure: Figure, alt: str) -> str:
    """An <img> with the figure as inline SVG; `alt` says what can be seen in it. Same figure, same bytes."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "libsedge"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img src="data:image/svg+xml;base64,{data}" alt="{html.escape(alt)}">'


def text(value: Cell) -> str:
    """A cell as text: floats with 3 decimals, None as an en dash."""
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def table(header: Sequence[str], rows: Iterable[Sequence[Cell]], caption: str = "") -> str:
    """A <table>; the first column is the rows' heading, numbers are aligned right. Everything is escaped."""
    body = [list(row) for row in rows]
    numeric = [
        bool(body) and all(isinstance(row[k], (int, float)) or row[k] is None for row in body)
        for k in range(len(header))
    ]
    kind = [' class="number"' if n else "" for n in numeric]
    head = "".join(f'<th scope="col"{k}>{html.escape(h)}</th>' for h, k in zip(header, kind, strict=True))
    lines = []
    for row in body:
        cells = [
            f"<td{k}>{html.escape(text(c))}</td>" if i else f'<th scope="row"{k}>{html.escape(text(c))}</th>'
            for i, (c, k) in enumerate(zip(row, kind, strict=True))
        ]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    title = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    return (
        f'<div class="scroll"><table>{title}<thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def picture(figure: Figure, alt: str, caption: str, numbers: str = "") -> str:
    """A <figure>: image, caption and, folded away, the table `numbers` with what the picture shows."""
    details = f"<details><summary>The numbers</summary>{numbers}</details>" if numbers else ""
    return f"<figure>{image(figure, alt)}<figcaption>{html.escape(caption)}</figcaption>{details}</figure>"


def paragraph(words: str, note: bool = False) -> str:
    """A <p> of plain text, marked at its side where `note`."""
    return f"<p{' class=note' if note else ''}>{html.escape(words)}</p>"


def page(title: str, sections: Sequence[tuple[str, str]], lead: str = "") -> str:
    """A whole page: `sections` are (heading, HTML), `lead` is HTML under the title."""
    parts = "\n".join(
        f"<section><h2>{html.escape(heading)}</h2>\n{content}\n</section>" for heading, content in sections
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<main>\n<h1>{html.escape(title)}</h1>\n{lead}\n{parts}\n</main>\n</body>\n</html>\n"
    )


SIMULATED = (
    "The spectra are simulated: these figures say how the software behaves, not how an instrument does."
)


def summary_rows(found: Mapping[str, Any]) -> list[tuple[str, Cell]]:
    """(name, value) of the headline figures of an evaluation."""
    low, high = found["accuracy_interval"]
    return [
        ("accuracy", found["accuracy"]),
        ("95 % interval, by specimens", f"{low:.3f} to {high:.3f}"),
        ("macro precision", found["precision"]),
        ("macro recall", found["recall"]),
        ("macro F1", found["f1"]),
        ("specimens voted right", found["vote_accuracy"]),
        ("expected calibration error", found["ece"]),
        ("Brier score (0 to 2)", found["brier"]),
        ("spectra", found["n"]),
        ("specimens", found["specimens"]),
    ]


def metre(value: float | None) -> str:
    """A distance as text."""
    return "unknown" if value is None else f"{value:g} m"


def distance_section(named: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Accuracy against distance, of one model or several side by side."""
    rows = [
        (metre(r["distance_m"]), name, r["n"], r["specimens"], r["accuracy"], r["low"], r["high"])
        for name, per_distance in named.items()
        for r in per_distance
    ]
    numbers = table(("distance", "model", "spectra", "specimens", "accuracy", "from", "to"), rows)
    best, worst = max(rows, key=lambda r: r[4]), min(rows, key=lambda r: r[4])
    alt = (
        f"Accuracy against distance: highest {best[4]:.3f} at {best[0]}, lowest {worst[4]:.3f} at {worst[0]}."
    )
    caption = "Bars: 95 % Wilson intervals by specimens; shots of one specimen are not independent."
    return picture(plots.by_distance(named), alt, caption, numbers)


def confusion_section(found: Mapping[str, Any]) -> str:
    """Confusion matrix as picture and table, and the figures per class."""
    classes, matrix = found["classes"], found["confusion"]
    right = sum(matrix[k][k] for k in range(len(classes)))
    numbers = table(
        ("true \\ predicted", *classes), [(name, *row) for name, row in zip(classes, matrix, strict=True)]
    )
    alt = f"Confusion matrix of {len(classes)} classes: {right} of {found['n']} spectra on the diagonal."
    per_class = table(
        ("class", "spectra", "specimens", "precision", "recall", "F1"),
        [
            tuple(r[k] for k in ("class", "n", "specimens", "precision", "recall", "f1"))
            for r in found["per_class"]
        ],
    )
    caption = "Spectra by true and predicted class; the darker, the larger the share of the true class."
    return picture(plots.confusion(matrix, classes), alt, caption, numbers) + per_class


def reliability_section(found: Mapping[str, Any]) -> str:
    """Reliability diagram and its bins."""
    bins = found["reliability"]
    numbers = table(
        ("confidence from", "to", "spectra", "mean confidence", "accuracy"),
        [tuple(b[k] for k in ("low", "high", "n", "confidence", "accuracy")) for b in bins],
    )
    alt = f"Reliability diagram of {len(bins)} bins; expected calibration error {found['ece']:.3f}."
    caption = (
        "Accuracy of the spectra in each of 15 bins of confidence, with their number; below the diagonal the "
        "model claims too much."
    )
    return picture(plots.reliability(bins, found["ece"]), alt, caption, numbers)


def spread(row: Mapping[str, float] | None) -> str:
    """A figure with its 95 % interval as text."""
    return "–" if row is None else f"{row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})"


def confidence_section(found: Mapping[str, Any]) -> str:
    """Calibration error before and after the temperature; error and coverage when the unsure are refused."""
    chosen, kept = found["confidence"], found["confidence"]["selective"]
    known = chosen["temperature"]
    rows: list[tuple[str, Cell]] = [
        (
            "temperature",
            "1, none was chosen" if known is None else f"{known:g}, from {chosen['temperature_from']}",
        ),
        ("calibration error before", spread(chosen["ece_before"])),
        ("calibration error after", spread(chosen["ece_after"])),
        ("… with the temperature of this part's other specimens", spread(chosen["ece_other_specimens"])),
        ("error of all", spread(kept["error"])),
        (f"error of the most confident {kept['coverage']:.0%}", spread(kept["error_at_coverage"])),
        ("… as a share of the error of all", spread(kept["error_ratio"])),
        ("area under the risk-coverage curve", spread(kept["aurc"])),
        *((f"coverage with an error of {r['error']:.0%}", spread(r)) for r in kept["coverage_at_error"]),
    ]
    words = (
        f"Calibration error over {chosen['bins']} bins of equal mass; in brackets 95 %, specimens resampled."
    )
    numbers = table(
        ("coverage", "error", "from", "to"),
        [tuple(r[k] for k in ("coverage", "value", "low", "high")) for r in kept["curve"]],
    )
    alt = (
        f"Risk-coverage curve: error {kept['error']['value']:.3f} of all spectra, "
        f"{kept['error_at_coverage']['value']:.3f} of the most confident {kept['coverage']:.0%}."
    )
    caption = (
        "Error among the spectra that are accepted when only the most confident are; band: 95 % by specimens."
    )
    curve = picture(plots.risk_coverage({found["net"]: kept}), alt, caption, numbers)
    return paragraph(words) + table(("figure", "value"), rows) + curve


def training_section(history: Sequence[Mapping[str, Any]], run: Mapping[str, Any]) -> str:
    """Losses per epoch."""
    keys = ("epoch", "train_loss", "validation_loss", "validation_accuracy", "seconds")
    numbers = table(
        ("epoch", "training loss", "validation loss", "balanced accuracy", "seconds"),
        [tuple(r[k] for k in keys) for r in history],
    )
    best = run["best"]
    alt = (
        f"Training curves over {len(history)} epochs; epoch {best['epoch']} was kept, "
        f"with a validation loss of {best['loss']:.3f}."
    )
    caption = (
        "The training loss is weighted and of varied spectra, the validation loss is neither; "
        "the two are not on one scale."
    )
    return picture(plots.training(history, best["epoch"]), alt, caption, numbers)


def weights_section(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    """Weights of the training spectra against distance."""
    numbers = table(
        ("distance", "spectra", "mean weight", "smallest", "largest"),
        [(metre(r["distance_m"]), r["spectra"], r["mean"], r["min"], r["max"]) for r in rows],
    )
    low, high = min(rows, key=lambda r: r["mean"]), max(rows, key=lambda r: r["mean"])
    alt = (
        f"Mean weight against distance: lowest {low['mean']:.3f} at {metre(low['distance_m'])}, "
        f"highest {high['mean']:.3f} at {metre(high['distance_m'])}."
    )
    caption = f"Weights of the training spectra by the strategy {name}; 1 is the mean over all of them."
    if name.startswith("cc-bcd"):
        caption += " It is our reconstruction of the weighting of Zhang et al. 2025, not the paper's formula."
    return picture(plots.weights(rows), alt, caption, numbers)


def evaluation_page(
    found: Mapping[str, Any], run: Mapping[str, Any], history: Sequence[Mapping[str, Any]]
) -> str:
    """The page of `libsedge evaluate` for an `evaluate_run` or `evaluate_bundle` result."""
    kind = f"{found['model']} kernel" if "acceptance" in found else "float net"
    title = f"Evaluation: net {found['net']}, weighting {found['weighting']}, {kind}"
    lead = paragraph(f"Part: {found['split']}. Specimens of this part are in no other part of the run.")
    if found["simulated"]:
        lead = paragraph(SIMULATED, note=True) + lead
    rows: list[tuple[str, Cell]] = summary_rows(found)
    if "acceptance" in found:
        accepted = found["acceptance"]
        refused = ", ".join(f"{k} {v}" for k, v in accepted["refused"].items()) or "none"
        rows += [
            ("same class as the float net", found["agreement"]),
            ("accepted by the bundle's checks", accepted["accepted"]),
            ("refused", refused),
            ("accuracy of the accepted", accepted["accuracy_of_accepted"]),
        ]
    votes = table(
        ("specimen", "class", "spectra", "accuracy", "vote", "right"),
        [
            (
                r["specimen"],
                r["class"],
                r["n"],
                r["accuracy"],
                r["vote"],
                "yes" if r["vote_correct"] else "no",
            )
            for r in found["per_specimen"]
        ],
    )
    sections = [
        ("Summary", table(("figure", "value"), rows)),
        ("Classes", confusion_section(found)),
        ("Distance", distance_section({f"{found['net']}, {kind}": found["per_distance"]})),
        ("Specimens", votes),
        ("Calibration", reliability_section(found)),
        ("Confidence", confidence_section(found)),
        ("Training", training_section(history, run)),
        ("Weights", weights_section(run["weights"], found["weighting"])),
    ]
    return page(title, sections, lead)
