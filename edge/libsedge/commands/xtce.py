"""`libsedge xtce`: the file by which a ground system reads the packets of `--sink ccsds:`."""

from __future__ import annotations

from pathlib import Path

import click

from libsedge.bundle import Bundle
from libsedge.errors import ConfigError
from libsedge.sinks.telemetry import DEFAULT_APID
from libsedge.sinks.xtce import document


@click.command()
@click.argument("bundle", type=click.Path(), metavar="[MODEL.sedge]", required=False)
@click.option(
    "--apid", type=int, default=DEFAULT_APID, show_default=True, help="As in --sink ccsds:…,apid=N."
)
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path), metavar="FILE.xml", help="Written here."
)
def xtce(bundle: str | None, apid: int, out: Path) -> None:
    """Write the XTCE description of the packets that `libsedge run --sink ccsds:udp:HOST:PORT` sends.

    With MODEL.sedge the class index carries the names of its classes.
    """
    labels = [] if bundle is None else list(Bundle.open(bundle).labels)
    text = document(apid, labels)
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot be written: {error.strerror}", file=out) from error
    click.echo(f"{out}: APID {apid}, " + (f"{len(labels)} classes" if labels else "classes by number"))
