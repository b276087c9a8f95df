"""The reports' figures. Nothing is told by colour alone: markers, line styles and numbers say it too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Okabe and Ito's colours, told apart with every common colour blindness.
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
STYLES = ((BLUE, "o", "-"), (ORANGE, "s", "--"), (GREEN, "^", "-."), (PURPLE, "D", ":"))


def axes(width: float = 6.4, height: float = 4.0) -> tuple[Figure, Axes]:
    """A figure (inches) with one pair of axes; no global state, no window."""
    figure = Figure(figsize=(width, height), layout="constrained")
    one = figure.add_subplot()
    one.spines[["top", "right"]].set_visible(False)
    return figure, one


def confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> Figure:
    """Counts, shaded by the share of the true class."""
    counts = np.asarray(matrix)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = 2.4 + 0.55 * len(classes)
    figure, ax = axes(size + 0.8, size)
    ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.ndindex(*counts.shape):
        ink = "white" if share[i, j] > 0.6 else "black"
        ax.text(j, i, str(counts[i, j]), ha="center", va="center", color=ink)
    ax.set_xticks(range(len(classes)), classes, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(classes)), classes)
    ax.set_xlabel("predicted class")
    ax.set_ylabel("true class")
    ax.spines[["left", "bottom"]].set_visible(False)
    return figure


def by_distance(named: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Accuracy with its interval against stand-off distance; `named` maps a name to `per_distance` rows."""
    figure, ax = axes()
    for (name, rows), (colour, marker, line), offset in zip(
        named.items(), STYLES, np.linspace(-0.03, 0.03, len(STYLES)), strict=False
    ):
        known = [r for r in rows if r["distance_m"] is not None]
        x = np.array([r["distance_m"] for r in known]) + (offset if len(named) > 1 else 0)
        y = np.array([r["accuracy"] for r in known])
        bars = (
            np.array([[r["accuracy"] - r["low"], r["high"] - r["accuracy"]] for r in known]).reshape(-1, 2).T
        )
        ax.errorbar(
            x, y, yerr=np.maximum(bars, 0), color=colour, marker=marker, linestyle=line, capsize=3, label=name
        )
    ax.set_ylim(0, 1.02)
    ax.set_xlabel("stand-off distance (m)")
    ax.set_ylabel("accuracy")
    if len(named) > 1:
        ax.legend(frameon=False, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2)
    return figure


def reliability(rows: Sequence[Mapping[str, Any]], ece: float) -> Figure:
    """Accuracy against confidence; below the diagonal the classifier claims too much."""
    figure, ax = axes(4.8, 4.4)
    ax.plot([0, 1], [0, 1], color="0.5", linestyle=":", label="perfectly calibrated")
    ax.plot(
        [r["confidence"] for r in rows],
        [r["accuracy"] for r in rows],
        color=BLUE,
        marker="o",
        label=f"this model, ECE {ece:.3f}",
    )
    for r in rows:
        ax.annotate(
            f"{r['n']}",
            (r["confidence"], r["accuracy"]),
            xytext=(4, 4),
            textcoords="offset points",
            fontsize=7,
        )
    ax.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="confidence (largest probability)", ylabel="accuracy")
    ax.legend(frameon=False, loc="upper left")
    return figure


def risk_coverage(named: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Error among the accepted against their share, with intervals; `named` maps a name to `confidence.selective`."""
    figure, ax = axes()
    for (name, found), (colour, marker, line) in zip(named.items(), STYLES, strict=False):
        share = [row["coverage"] for row in found["curve"]]
        error, low, high = ([row[key] for row in found["curve"]] for key in ("value", "low", "high"))
        ax.fill_between(share, low, high, color=colour, alpha=0.15, linewidth=0)
        ax.plot(share, error, color=colour, marker=marker, linestyle=line, ms=4, label=name)
    ax.set_xlim(0, 1.02)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("coverage: share of the spectra that is accepted")
    ax.set_ylabel("error among the accepted")
    if len(named) > 1:
        ax.legend(frameon=False, loc="upper left")
    return figure


def training(history: Sequence[Mapping[str, Any]], kept: int) -> Figure:
    """Losses per epoch; `kept` is the epoch whose weights the run stores."""
    figure, ax = axes()
    epochs = [r["epoch"] for r in history]
    for key, name, (colour, marker, line) in (
        ("train_loss", "training (weighted, augmented)", STYLES[0]),
        ("validation_loss", "validation", STYLES[1]),
    ):
        ax.plot(
            epochs, [r[key] for r in history], color=colour, marker=marker, linestyle=line, ms=4, label=name
        )
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.axvline(kept, color="0.5", linestyle=":", label=f"kept: epoch {kept}")
    ax.set_ylim(bottom=0)
    ax.set_xlabel("epoch")
    ax.set_ylabel("cross-entropy")
    ax.legend(frameon=False)
    return figure


def weights(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Mean weight against distance with the range from the smallest to the largest weight."""
    figure, ax = axes()
    known = [r for r in rows if r["distance_m"] is not None]
    x = [r["distance_m"] for r in known]
    bars = np.array([[r["mean"] - r["min"], r["max"] - r["mean"]] for r in known]).reshape(-1, 2).T
    ax.errorbar(x, [r["mean"] for r in known], yerr=np.maximum(bars, 0), color=BLUE, marker="o", capsize=3)
    ax.axhline(1, color="0.5", linestyle=":")
    ax.set_ylim(bottom=0)
    ax.set_xlabel("stand-off distance (m)")
    ax.set_ylabel("weight: mean, smallest to largest")
    return figure
