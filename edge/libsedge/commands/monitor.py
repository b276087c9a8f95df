"""`libsedge monitor`: a running `libsedge run` in the terminal, from its health port."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from libsedge import extras
from libsedge.errors import ConfigError, SourceError
from libsedge.scrape import Samples, fetch

STAGES = ("queue", "preprocess", "inference", "commit")


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"≤ {seconds * 1e3:g} ms"


def rows(now: Samples, before: Samples | None, seconds: float) -> list[tuple[str, list[tuple[str, str]]]]:
    """What is shown: sections of (name, value). `before` and `seconds` ago give the rates."""
    received = now.one("libsedge_frames_received_total")
    rate = "-"
    if before is not None and seconds > 0:
        rate = f"{(received - before.one('libsedge_frames_received_total')) / seconds:.1f} /s"
    ends = now.by("libsedge_frames_total", "end")
    unaccounted = now.one("libsedge_frames_unaccounted")
    frames = [("received", f"{received:.0f}"), ("rate", rate)]
    frames += [(end, f"{value:.0f}") for end, value in ends.items()]
    for name, label in (("rejected", "reason"), ("shed", "policy")):
        for why, value in now.by(f"libsedge_frames_{name}_total", label).items():
            frames.append((f"  {name}: {why}", f"{value:.0f}"))
    frames += [("in flight", f"{now.one('libsedge_frames_in_flight'):.0f}")]
    frames += [("unaccounted", f"{unaccounted:.0f}" + ("  FAULT" if unaccounted else ""))]
    frames += [("gaps", f"{now.one('libsedge_sequence_gaps'):.0f}")]

    queue = f"{now.one('libsedge_queue_frames'):.0f} of {now.one('libsedge_queue_capacity'):.0f}"
    latency = "libsedge_decision_latency_seconds"
    times = [("queue", queue)]
    times += [(f"decision p{p}", _ms(now.percentile(latency, p))) for p in (50, 99)]
    times += [
        (f"  {stage} p99", _ms(now.percentile("libsedge_stage_seconds", 99, stage=stage))) for stage in STAGES
    ]
    if "libsedge_deadline_misses_total" in now.values:
        times.append(("deadline missed", f"{now.one('libsedge_deadline_misses_total'):.0f}"))

    decisions = [(label, f"{n:.0f}") for label, n in now.by("libsedge_decisions_total", "label").items()]
    decisions += [
        (f"not accepted: {why}", f"{n:.0f}")
        for why, n in now.by("libsedge_not_accepted_total", "reason").items()
    ]
    model = now.labels("libsedge_model_info")
    state = "SAFE MODE: nothing is decided" if now.one("libsedge_safe_mode") else "running"
    heartbeat = now.one("libsedge_heartbeat_age_seconds")
    system = [("state", state + ("" if heartbeat < 10 else f", NO HEARTBEAT for {heartbeat:.0f} s"))]
    system += [("model", " ".join(model.get(key, "") for key in ("name", "version", "isa")).strip() or "-")]
    system += [("memory", f"{now.one('process_resident_memory_bytes') / 2**20:.1f} MiB")]
    system += [
        (zone, f"{value:.1f} °C") for zone, value in now.by("libsedge_temperature_celsius", "zone").items()
    ]
    system += [("sink errors", f"{now.one('libsedge_sink_errors_total'):.0f}")]
    return [("frames", frames), ("time", times), ("decisions", decisions), ("system", system)]


def _panel(sections: list[tuple[str, list[tuple[str, str]]]], title: str) -> Any:
    table_of: Any = extras.load("rich.table", "monitor").Table
    columns: Any = extras.load("rich.columns", "monitor").Columns
    tables = []
    for name, lines in sections:
        table = table_of(title=name, show_header=False, title_justify="left", min_width=34)
        table.add_column()
        table.add_column(justify="right")
        for line in lines:
            alarm = line[1].startswith("SAFE") or "FAULT" in line[1] or "NO HEARTBEAT" in line[1]
            table.add_row(*line, style="bold reverse" if alarm else None)
        tables.append(table)
    return columns(tables, title=title)


@click.command()
@click.argument("address", metavar="127.0.0.1:PORT")
@click.option(
    "--interval", type=float, default=1.0, show_default=True, metavar="S", help="Between two looks."
)
@click.option("--once", is_flag=True, help="Look once, print, and end.")
@click.option("--json", "as_json", is_flag=True, help="Look once; the same as JSON.")
def monitor(address: str, interval: float, once: bool, as_json: bool) -> None:
    """Show a running `libsedge run --health ADDRESS` in the terminal: frames, times, decisions, model.

    Ends with Ctrl-C. While nobody answers it says so and goes on looking; with --once or --json that is exit code 2.
    """
    if not 0 < interval <= 3600:
        raise ConfigError("must be above 0 and at most 3600 s", field="interval", value=interval)
    if as_json:
        sections = rows(fetch(address), None, 0.0)
        click.echo(json.dumps({name: dict(lines) for name, lines in sections}, ensure_ascii=False, indent=1))
        return
    console: Any = extras.load("rich.console", "monitor").Console()
    if once:
        console.print(_panel(rows(fetch(address), None, 0.0), f"libsedge on {address}"))
        return
    _watch(address, interval, console)


def _watch(address: str, interval: float, console: Any) -> None:
    live_of: Any = extras.load("rich.live", "monitor").Live
    before: Samples | None = None
    at = 0.0
    with live_of(console=console, auto_refresh=False, screen=console.is_terminal) as live:
        try:
            while True:
                try:
                    now, looked = fetch(address), time.monotonic()
                    live.update(
                        _panel(rows(now, before, looked - at), f"libsedge on {address}"), refresh=True
                    )
                    before, at = now, looked
                except SourceError as error:
                    before = None
                    live.update(str(error), refresh=True)
                time.sleep(interval)
        except KeyboardInterrupt:
            return
