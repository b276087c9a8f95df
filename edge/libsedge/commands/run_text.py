"""What `libsedge run` says: a line a second while it runs, and the final account."""

from __future__ import annotations

import click

from libsedge.ledger import Ledger
from libsedge.report import Report


def progress(ledger: Ledger) -> None:
    """One line on standard error."""
    counts = ledger.summary()
    parts = [f"{name} {counts[name]}" for name in ("received", "journaled", "unjournaled", "duplicate")]
    parts += [f"{name} {sum(counts[name].values())}" for name in ("rejected", "shed")]
    click.echo(", ".join([*parts, f"in flight {counts['in_flight']}"]), err=True)


def account(report: Report, ledger: Ledger) -> str:
    """The final account."""
    latency = report.latency
    lines = ["the spectra are simulated"] if report.simulated else []
    lines.append(ledger.text())
    for title, counts in (
        ("labels", report.labels),
        ("not accepted", report.not_accepted),
        ("roles", report.roles),
        ("bursts", {label or "not accepted": n for label, n in report.bursts.items()}),
        ("instrument", report.instrument),
        ("source", report.source),
    ):
        if counts:
            lines.append(f"{title}: " + ", ".join(f"{name} {n}" for name, n in counts.items()))
    lines.append(
        f"decision latency: p50 {latency['p50_ms']:.3f} ms, p99 {latency['p99_ms']:.3f} ms, "
        f"max {latency['max_ms']:.3f} ms over {latency['count']:.0f} frames"
    )
    for name, stage in report.stages.items():
        if stage["count"]:
            lines.append(f"  {name:<11} p50 {stage['p50_ms']:.3f} ms, p99 {stage['p99_ms']:.3f} ms")
    if report.deadline_missed is not None:
        lines.append(f"deadline missed by {report.deadline_missed} frames")
    if report.sink_errors:
        lines.append(f"lines a sink could not write: {report.sink_errors} (the journal has them)")
    if report.journal_error is not None:
        lines.append(f"last error of the journal: {report.journal_error}")
    return "\n".join(lines)
