"""`libsedge journal`: ask a journal, export it, verify it."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from libsedge.errors import ConfigError, JournalError
from libsedge.journal import ROLES, Journal
from libsedge.journal_reader import EXPORTS, JournalReader, Query, export, parse_time, show_time
from libsedge.journal_rows import BurstRecord, Record
from libsedge.sinks.jsonl import as_json, burst_as_json


@click.group()
def journal() -> None:
    """Ask a journal, export it, verify it. Only `migrate` writes to it."""


def _filters(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which rows, handed over as one `query`."""

    @click.option("--stream", type=int, help="Stream id.")
    @click.option("--epoch", type=int, help="Epoch of the stream.")
    @click.option("--since", metavar="TIME", help="From this time on: ISO 8601 (UTC) or ns since 1970.")
    @click.option("--until", metavar="TIME", help="Before this time.")
    @click.option("--label", help="Decisions for this label, accepted or not.")
    @click.option("--role", type=click.Choice(ROLES), help="Frames of this role.")
    @click.option("--accepted/--not-accepted", default=None, help="Decisions that were, or were not.")
    @click.option("--reason", help="Not accepted for this reason.")
    @functools.wraps(command)
    def wrapped(
        *args: Any,
        stream: int | None,
        epoch: int | None,
        since: str | None,
        until: str | None,
        label: str | None,
        role: str | None,
        accepted: bool | None,
        reason: str | None,
        **kwargs: Any,
    ) -> Any:
        times = [None if text is None else parse_time(text) for text in (since, until)]
        query = Query(stream, epoch, times[0], times[1], label, role, accepted, reason)
        return command(*args, query=query, **kwargs)

    return wrapped


def _verdict(row: Record | BurstRecord) -> str:
    confidence = "" if row.confidence is None else f" {row.confidence:.3f}"
    return f"{row.label or '-'}{confidence} " + (
        "accepted" if row.accepted else f"not accepted: {row.reason}"
    )


def _burst_line(burst: BurstRecord) -> str:
    distance = "" if burst.distance_mm is None else f"  {burst.distance_mm / 1000:.3f} m"
    shots = f"{burst.mode} of {burst.used} of {burst.shots} shots"
    return (
        f"{burst.stream:#010x} {burst.epoch} {burst.first}..{burst.last}  "
        f"{show_time(burst.time_ns) or 'time unknown'}{distance}  {shots}: {_verdict(burst)}"
    )


def _line(record: Record) -> str:
    verdict = record.role if record.accepted is None else _verdict(record)
    distance = "" if record.distance_mm is None else f"  {record.distance_mm / 1000:.3f} m"
    when = show_time(record.time_ns) or "time unknown"
    key = record.key
    return f"{key.stream:#010x} {key.epoch} {key.sequence}  {when}{distance}  {verdict}"


def _end(reader: JournalReader) -> None:
    """Exit code 1, with a line that says so, where a row was left out because it is damaged."""
    if reader.damaged:
        click.echo(f"{reader.damaged} damaged rows left out; see `libsedge journal verify`", err=True)
        raise SystemExit(1)


@journal.command("query")
@click.argument("file", type=click.Path())
@_filters
@click.option("--limit", type=int, help="At most so many rows.")
@click.option("--json", "as_lines", is_flag=True, help="JSON lines, every column.")
def query_command(file: str, query: Query, limit: int | None, as_lines: bool) -> None:
    """Print the rows of FILE that the options ask for, in the order of stream, epoch and sequence."""
    if limit is not None and limit < 1:
        raise ConfigError("must be at least 1", field="limit", value=limit)
    with JournalReader(file) as reader:
        for number, record in enumerate(reader.records(query), 1):
            click.echo(as_json(record) if as_lines else _line(record))
            if number == limit:
                break
        _end(reader)


@journal.command("bursts")
@click.argument("file", type=click.Path())
@click.option("--json", "as_lines", is_flag=True, help="JSON lines, every column.")
def bursts_command(file: str, as_lines: bool) -> None:
    """Print the bursts of FILE: several shots of one target, one decision (`libsedge run --burst`)."""
    with JournalReader(file) as reader:
        for burst in reader.bursts():
            click.echo(burst_as_json(burst) if as_lines else _burst_line(burst))
        _end(reader)


@journal.command("count")
@click.argument("file", type=click.Path())
@_filters
@click.option("--json", "as_document", is_flag=True, help="The counts as JSON.")
def count_command(file: str, query: Query, as_document: bool) -> None:
    """Count the rows of FILE: in all, by role, by label, by reason."""
    with JournalReader(file) as reader:
        counts = reader.counts(query)
        if as_document:
            click.echo(json.dumps(counts, ensure_ascii=False, indent=1))
        else:
            click.echo(f"rows         {counts['rows']}")
            for name in ("roles", "labels", "not_accepted"):
                detail = ", ".join(f"{what} {n}" for what, n in counts[name].items())
                click.echo(f"{name:<12} {detail or '-'}")
            click.echo(f"time         {counts['first'] or 'unknown'} to {counts['last'] or 'unknown'}")
        _end(reader)


@journal.command("export")
@click.argument("file", type=click.Path())
@click.option("-o", "--out", required=True, type=click.Path(), help=f"Ends in {', '.join(EXPORTS)}.")
@_filters
def export_command(file: str, out: str, query: Query) -> None:
    """Write the rows of FILE that the options ask for to a file: CSV, Parquet or JSON lines."""
    with JournalReader(file) as reader:
        if Path(out).exists() and Path(out).samefile(file):
            raise ConfigError("is the journal itself", field="out", value=out)
        count = export(reader.records(query), out)
        click.echo(f"{count} rows in {out}")
        _end(reader)


@journal.command("verify")
@click.argument("file", type=click.Path())
@click.option("--json", "as_document", is_flag=True, help="The verdict as JSON.")
def verify_command(file: str, as_document: bool) -> None:
    """Read all of FILE: SQLite's integrity check and the CRC of every row. Exit code 1 for damage."""
    with JournalReader(file) as reader:
        verdict = reader.verify()
    gaps = {f"{stream}:{epoch}": n for (stream, epoch), n in verdict.gaps.items()}
    if as_document:
        document = {
            "ok": verdict.ok,
            "rows": verdict.rows,
            "damaged_rows": verdict.damaged_rows,
            "damaged": [[str(part) for part in key] for key in verdict.damaged],
            "problems": verdict.problems,
            "gaps": gaps,
            "bursts": verdict.bursts,
        }
        click.echo(json.dumps(document, indent=1))
    else:
        click.echo(f"{verdict.rows} rows, {verdict.damaged_rows} damaged")
        for key in verdict.damaged:
            click.echo(f"damaged: stream {key[0]} epoch {key[1]} sequence {key[2]} (as they read now)")
        for problem in verdict.problems:
            click.echo(f"database: {problem}")
        for name, missing in gaps.items():
            click.echo(f"stream:epoch {name}: {missing} sequence numbers between its whole rows have none")
        click.echo("ok" if verdict.ok else "DAMAGED")
    if not verdict.ok:
        raise SystemExit(1)


@journal.command("migrate")
@click.argument("file", type=click.Path())
def migrate_command(file: str) -> None:
    """Bring FILE to the current schema; every row gets a CRC of what it holds now."""
    if not Path(file).is_file():
        raise JournalError("does not exist", file=file)
    journal = Journal(file)
    journal.close()
    click.echo(f"{file}: current schema")
