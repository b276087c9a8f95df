"""`libsedge stream-test`: send a file's frames to a server on this machine, whole or damaged from a seed."""

from __future__ import annotations

import itertools
import json
import math
import time
from typing import TYPE_CHECKING

import click

from libsedge.commands.hmac_option import hmac_option
from libsedge.commands.tls_options import tls_options
from libsedge.errors import ConfigError
from libsedge.senders import open_sender
from libsedge.sources.files import open_spectra
from libsedge.sources.replay import set_frames

if TYPE_CHECKING:
    from libsedge.frame_key import FrameKey
    from libsedge.sources.tls import TlsFiles


@click.command("stream-test")
@click.argument("file", type=click.Path())
@click.option(
    "--to",
    "target",
    required=True,
    metavar="SPEC",
    help="HOST:PORT (TCP), udp:, ccsds:udp:, ccsds:tcp:, serial:, zmq:push:, zmq:pub: or folder:.",
)
@click.option("--rate", type=float, metavar="HZ", help="Frames a second; default: as fast as they are taken.")
@click.option("--count", type=int, help="Send only so many frames.")
@click.option(
    "--damage",
    type=float,
    default=0.0,
    show_default=True,
    metavar="FRACTION",
    help="Share of frames damaged.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the damage.")
@click.option(
    "--wait", "wait_s", type=float, default=10.0, show_default=True, metavar="S", help="For the last answer."
)
@click.option(
    "--epoch",
    type=click.IntRange(0, 2**32 - 1),
    help="Of the frames; default: 0, with --hmac-key the seconds since 1970, so that a later run is newer.",
)
@tls_options
@hmac_option
@click.option("--json", "as_json", is_flag=True, help="The result as JSON.")
def stream_test(
    file: str,
    target: str,
    rate: float | None,
    count: int | None,
    damage: float,
    seed: int,
    wait_s: float,
    epoch: int | None,
    as_json: bool,
    tls: TlsFiles | None,
    key: FrameKey | None,
) -> None:
    """Send FILE's spectra as frames (its dark first) to a server and print what was sent, by kind.

    --to says how, as the server's --source does: 127.0.0.1:5600 or tcp:127.0.0.1:5600, udp:127.0.0.1:5601,
    ccsds:udp:127.0.0.1:5602[,apid=N][,bytes=N], ccsds:tcp:127.0.0.1:5603, serial:DEVICE[,baud=N],
    serial:pty:LINK, zmq:push:tcp://127.0.0.1:5604, zmq:pub:ENDPOINT, folder:PATH. Over TCP it waits for the
    acknowledgements, and the exit code is 1 when an intact frame was not acknowledged.
    """
    sender = open_sender(target, tls, key)
    if epoch is None:
        epoch = 0 if key is None else int(time.time())
    if not 0 <= damage <= 1:
        raise ConfigError("must be 0 to 1", field="damage", value=damage)
    for name, value in (("rate", rate), ("count", count), ("wait", wait_s)):
        if value is not None and not 0 < value < math.inf:
            raise ConfigError("must be above 0", field=name, value=value)
    spectra = open_spectra(file)
    try:
        frames = itertools.islice(set_frames(spectra, epoch=epoch), count)
        sent = sender.send(frames, damage=damage, seed=seed, rate_hz=rate, wait_s=wait_s)
    finally:
        spectra.close()
    truth = sent.truth
    result: dict[str, object] = {"sent": truth.table()}
    if sent.acknowledged is not None:
        result["acknowledged"] = sent.acknowledged
        result["acknowledgements"] = sent.answers
        result["unacknowledged"] = truth.intact - sent.acknowledged
    result["seconds"] = round(sent.seconds, 3)
    if as_json:
        click.echo(json.dumps(result, indent=1))
    else:
        click.echo("sent: " + ", ".join(f"{name} {n}" for name, n in truth.table().items()))
        if sent.acknowledged is None:
            click.echo(f"{truth.intact} frames intact, in {sent.seconds:.2f} s; nothing comes back this way")
        else:
            click.echo(
                f"acknowledged {sent.acknowledged} of {truth.intact} intact frames ({sent.answers} records), "
                f"unacknowledged {truth.intact - sent.acknowledged}, in {sent.seconds:.2f} s"
            )
    if sent.acknowledged not in (None, truth.intact):
        raise SystemExit(1)
