"""`libsedge record`: frames of any source into a recording, without a model."""

from __future__ import annotations

import json
import signal
import time
from types import FrameType
from typing import TYPE_CHECKING

import click

from libsedge.commands.hmac_option import hmac_option
from libsedge.commands.tls_options import tls_options
from libsedge.errors import ConfigError
from libsedge.frame import Frame
from libsedge.ledger import Ledger
from libsedge.sinks.record import Recorder
from libsedge.sources import Source, SourceOptions, open_source
from libsedge.sources.axis_reader import axis_of

if TYPE_CHECKING:
    from libsedge.frame_key import FrameKey
    from libsedge.sources.tls import TlsFiles

_BATCH, _INTERVAL_S = 32, 0.1


def _take(
    source: Source, recorder: Recorder, ledger: Ledger, count: int | None, idle_exit_s: float | None
) -> None:
    """Record until the source ends, `count` frames came or none for `idle_exit_s`; acknowledged once synchronised."""
    batch: list[Frame] = []
    due = last = time.monotonic()

    def commit() -> None:
        recorder.write_frames(batch)
        keys = [frame.key for frame in batch]
        for key in keys:
            ledger.end_journaled(key)
        source.acknowledge(keys)
        batch.clear()

    for frame in source:
        now = time.monotonic()
        if frame is not None:
            last = now
            key = frame.key
            if ledger.receive(key):
                ledger.end_duplicate(key)
                if any(key == other.key for other in batch):
                    commit()  # its first copy is durable before the second is acknowledged
                source.acknowledge([key])
            else:
                if not batch:
                    due = now + _INTERVAL_S
                batch.append(frame)
        if batch and (len(batch) >= _BATCH or now >= due):
            commit()
        done = count is not None and ledger.received >= count
        if done or (idle_exit_s is not None and now - last > idle_exit_s):
            break
    commit()


@click.command()
@click.option("--source", "spec", required=True, metavar="SPEC", help="As for `libsedge run`.")
@click.option(
    "-o", "--out", required=True, type=click.Path(), metavar="FILE.h5", help="The recording; a new file."
)
@click.option("--count", type=int, help="Stop after so many frames.")
@click.option("--idle-exit", type=float, metavar="S", help="Stop after so many seconds without a frame.")
@click.option(
    "--axis", type=click.Path(), help="A file whose wavelength axis the frames have; it is recorded, too."
)
@click.option("--saturation", type=float, help="Counts at which a channel is clipped; default: as in --axis.")
@tls_options
@hmac_option
@click.option("--json", "as_json", is_flag=True, help="The final account as JSON.")
def record(
    spec: str,
    out: str,
    count: int | None,
    idle_exit: float | None,
    axis: str | None,
    saturation: float | None,
    as_json: bool,
    tls: TlsFiles | None,
    key: FrameKey | None,
) -> None:
    """Record frames as they come, without deciding anything; `libsedge run --source replay:FILE.h5` plays them back.

    Frames are acknowledged once they are safe on the disk. Ends as `libsedge run` does. A recording that a crash
    interrupted goes on when the same command is given again.
    """
    for name, value in (("count", count), ("idle-exit", idle_exit)):
        if value is not None and not value > 0:
            raise ConfigError("must be above 0", field=name, value=value)
    recorder = Recorder(out)
    ledger = Ledger()
    try:
        source = open_source(spec, SourceOptions(axis=axis_of(axis, saturation), tls=tls, key=key))
        recorder.begin(source.axis, simulated=source.simulated)

        def stop(number: int, frame: FrameType | None) -> None:
            source.stop()

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        if source.address is not None:
            click.echo(f"listening on {source.address}", err=True)
        try:
            _take(source, recorder, ledger, count, idle_exit)
        finally:
            source.close()
            for number, handler in before.items():
                signal.signal(number, handler)
        for reason, refused in source.refused.items():
            ledger.refuse(reason, refused)
    finally:
        recorder.close()
    ledger.check(final=True)
    if as_json:
        click.echo(json.dumps({"frames": recorder.frames, "ledger": ledger.summary()}, indent=1))
    else:
        click.echo(f"{recorder.frames} frames in {out}\n{ledger.text()}")
