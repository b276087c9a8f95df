"""The demo's report: report.json, the closing table and report.html."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from .. import plots, report
from ..evaluate import read_history
from .real import RealFile
from .steps import WEIGHTINGS, read_json


def figures(
    floats: Mapping[str, Mapping[str, Any]],
    int8: Mapping[str, Any],
    exported: str,
    kernel: Mapping[str, Any],
    account: Mapping[str, Any],
    real: Sequence[RealFile],
) -> dict[str, Any]:
    """The contents of report.json."""
    ledger = account["ledger"]
    read = [one for one in real if one.why is None]
    return {
        "simulated": True,
        "accuracy": {
            "equal": floats["equal"]["accuracy"],
            "weighted": floats["weighted"]["accuracy"],
            "virtual": floats["virtual"]["accuracy"],
            "float": floats[exported]["accuracy"],
            "int8": int8["accuracy"],
        },
        "weighting": {
            **WEIGHTINGS,
            "exported": exported,
            "note": "weighted is our reconstruction, not the paper's formula; virtual has equal weights",
        },
        "test": {"spectra": int8["n"], "specimens": int8["specimens"]},
        **kernel,
        "frames": {
            "received": ledger["received"],
            "journaled": ledger["journaled"],
            "duplicate": ledger["duplicate"],
            "rejected": sum(ledger["rejected"].values()),
            "shed": sum(ledger["shed"].values()),
            "unaccounted": ledger["unaccounted"],
        },
        "decision_latency_ms": account["latency"],
        "real": {
            "files": [one.row() for one in read],
            "shots": sum(len(one.decisions) for one in read),
            "not_read": [{"file": one.name, "why": one.why} for one in real if one.why is not None],
        },
    }


def rows(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The closing table: what was measured, and the figure."""
    accuracy, kernel, other = found["accuracy"], found["kernel"], found["onnxruntime"]
    frames, test = found["frames"], found["test"]
    ratio = other["us"] / kernel["us"]
    return [
        ("test accuracy, equal weights (simulated)", f"{accuracy['equal']:.4f}"),
        ("test accuracy, CC-BCD weights, our reconstruction (simulated)", f"{accuracy['weighted']:.4f}"),
        ("test accuracy, equal weights and virtual specimens (simulated)", f"{accuracy['virtual']:.4f}"),
        (
            f"exported net ({found['weighting']['exported']}): float accuracy (simulated)",
            f"{accuracy['float']:.4f}",
        ),
        ("the same as int8 kernel (simulated)", f"{accuracy['int8']:.4f}"),
        ("test part", f"{test['spectra']} spectra of {test['specimens']} specimens, none of them trained on"),
        ("kernel = NumPy reference", f"{kernel['different']} of {kernel['cells']} logits differ"),
        ("kernel and ONNX Runtime", f"{other['different']} of {other['cells']} logits differ"),
        (
            f"kernel latency ({kernel['isa']})",
            f"{kernel['us']:.1f} µs median, {kernel['min_us']:.1f} µs least",
        ),
        (
            f"ONNX Runtime {other['version']} latency, int8",
            f"{other['us']:.1f} µs median, {other['min_us']:.1f} µs least",
        ),
        ("ONNX Runtime / kernel, interleaved", f"{ratio:.2f} times the median"),
        ("bundle, arena", f"{found['bundle']['bytes']:,} bytes, {found['arena']['bytes']:,} bytes"),
        (
            "frames over TCP",
            f"received {frames['received']} = journaled {frames['journaled']} + duplicate {frames['duplicate']} "
            f"+ rejected {frames['rejected']} + shed {frames['shed']}; unaccounted {frames['unaccounted']}",
        ),
    ]


def real_lines(real: Sequence[RealFile]) -> list[tuple[str, str, int, int, str, str]]:
    """One row a real file: name, distance, shots, accepted, vote, labels of the shots with their counts."""
    out = []
    for one in real:
        if one.why is None and one.vote is not None:
            labels = [str(d.label) if d.label else str(d.reason) for d in one.decisions]
            counts = ", ".join(f"{name} {labels.count(name)}" for name in sorted(set(labels)))
            distance = "unknown" if one.distance_m is None else f"{one.distance_m:.3f} m"
            out.append(
                (one.name, distance, len(one.decisions), one.vote.accepted, one.vote.label or "none", counts)
            )
    return out


def spectra_figure(real: Sequence[RealFile]) -> Figure:
    """The mean spectrum of each file on its own axis, largest value 1, square root to show weak lines."""
    shown = [one for one in real if one.mean is not None and one.wavelength is not None]
    figure = Figure(figsize=(7.0, 1.1 * len(shown) + 0.6), layout="constrained")
    panels = np.atleast_1d(figure.subplots(len(shown), 1, sharex=True))
    for ax, one in zip(panels, shown, strict=True):
        assert one.mean is not None
        assert one.wavelength is not None
        height = np.sqrt(np.clip(one.mean / np.nanmax(one.mean), 0, None))
        step = np.diff(one.wavelength)
        after = np.flatnonzero(step > 5 * np.median(step)) + 1  # a detector gap is not drawn over
        x, y = np.insert(one.wavelength, after, np.nan), np.insert(height, after, np.nan)
        ax.plot(x, y, lw=0.5, color=plots.BLUE)
        label = one.vote.label if one.vote and one.vote.label else "no accepted shot"
        distance = "" if one.distance_m is None else f", {one.distance_m:.2f} m"
        ax.set_title(f"{Path(one.name).name}{distance}: {label}", fontsize=8, loc="left", pad=2)
        ax.set_yticks([])
        ax.spines[["top", "right", "left"]].set_visible(False)
    panels[-1].set_xlabel("wavelength (nm, vacuum)")
    return figure


def html(
    found: Mapping[str, Any],
    floats: Mapping[str, Mapping[str, Any]],
    int8: Mapping[str, Any],
    real: Sequence[RealFile],
    folder: Path,
) -> str:
    """The whole page."""
    sections = [
        ("What came out", report.table(("measured", "figure"), rows(found))),
        (
            "Accuracy against distance (simulated)",
            report.distance_section(
                {
                    "equal weights": floats["equal"]["per_distance"],
                    "CC-BCD weights": floats["weighted"]["per_distance"],
                    "virtual specimens": floats["virtual"]["per_distance"],
                    "int8 kernel": int8["per_distance"],
                }
            ),
        ),
        ("Which classes are confused by the int8 kernel (simulated)", report.confusion_section(int8)),
        ("How far its confidence can be trusted (simulated)", report.reliability_section(int8)),
    ]
    for name in WEIGHTINGS:
        run = read_json(folder / name / "run.json")
        history = read_history(folder / name)
        sections.append((f"Training, {name} (simulated)", report.training_section(history, run)))
    weighted = read_json(folder / "weighted" / "run.json")
    sections.append(
        (
            "Weights against distance",
            report.weights_section(weighted["weights"], WEIGHTINGS["weighted"]),
        )
    )
    sections.append(("Real spectra", real_section(real)))
    lead = report.paragraph(report.SIMULATED, note=True)
    return report.page("libsedge demo", sections, lead)


def real_section(real: Sequence[RealFile]) -> str:
    """Table and pictures of the real files, or how to give some."""
    lines = real_lines(real)
    if not lines:
        return report.paragraph(
            "None were given. `make demo DEMO_DATA=FOLDER` classifies every file of a folder."
        )
    words = (
        "Files of real instruments, classified by a model that saw simulated spectra only. They carry no labels of "
        "these classes, so this is no accuracy: whatever class comes out is reported as it is."
    )
    header = ("file", "distance", "shots", "accepted", "vote of the accepted", "every shot")
    alt = "Mean spectra: " + "; ".join(f"{Path(line[0]).name} voted {line[4]}" for line in lines)
    caption = "Mean of each file's spectra on its own axis, square root of the value, largest = 1."
    missed = [(one.name, one.why or "") for one in real if one.why is not None]
    rest = report.table(("not read", "why"), missed, "Files without a reader") if missed else ""
    pictures = [one for one in real if one.mean is not None and len(one.decisions) > 0][:24]
    return (
        report.paragraph(words, note=True)
        + report.table(header, lines)
        + report.picture(spectra_figure(pictures), alt, caption)
        + rest
    )
