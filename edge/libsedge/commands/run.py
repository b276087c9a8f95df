"""`libsedge run`: classify a stream of frames into a journal, every frame accounted."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from types import FrameType

import click

from libsedge.bundle import Bundle
from libsedge.classifier import Classifier
from libsedge.errors import ConfigError
from libsedge.health import Health
from libsedge.journal import Journal
from libsedge.ledger import Ledger, LedgerError
from libsedge.model_state import ModelStoreError
from libsedge.model_store import ModelStore
from libsedge.pipeline import POLICIES, Pipeline, Report
from libsedge.sinks import Sink, open_sink
from libsedge.sources import Axis, SourceOptions, open_source
from libsedge.sources.files import open_spectra


def _axis_of(path: str | None, saturation: float | None) -> Axis | None:
    if path is None:
        if saturation is not None:
            raise ConfigError(
                "needs --axis: it belongs to an instrument", field="saturation", value=saturation
            )
        return None
    spectra = open_spectra(path)
    try:
        axis = spectra.axis
    finally:
        spectra.close()
    return Axis(axis.wavelength_nm, axis.mask, axis.saturation if saturation is None else saturation)


def _model(bundle: str | None, store_path: str | None, isa: str | None) -> tuple[Bundle, ModelStore | None]:
    """The bundle that was named, or the current one of a store: exactly one of the two is given."""
    if (bundle is None) == (store_path is None):
        raise ConfigError("give either a bundle or --store", field="MODEL.sedge", value=bundle)
    if store_path is None:
        return Bundle.open(str(bundle)), None
    store = ModelStore(store_path)
    opened, failed = store.open_current(isa)
    if failed is not None:
        click.echo(f"warning: rolled back to {opened.manifest['version']}: {failed}", err=True)
    return opened, store


def _labels(bundle: Bundle, classifier: Classifier) -> dict[str, str]:
    table = bundle.manifest
    return {
        "name": table["name"],
        "version": table["version"],
        "sha256": bundle.digest,
        "isa": classifier.model.isa,
    }


class _Trial:
    """A store's version is good once it has put `FRAMES` frames into the journal."""

    FRAMES = 100

    def __init__(self, store: ModelStore | None, bundle: Bundle) -> None:
        self._store, self._version = store, str(bundle.manifest["version"])

    def look(self, ledger: Ledger) -> None:
        if self._store is not None and ledger.journaled >= self.FRAMES:
            self._say(self._store.mark_good)

    def end(self, ledger: Ledger) -> None:
        """The run came to a clean end."""
        self.look(ledger)
        if self._store is not None:
            self._say(self._store.ended_well)

    def _say(self, what: Callable[[str], None]) -> None:
        try:
            what(self._version)
        except ModelStoreError as error:  # the stream goes on; the version stays on trial
            click.echo(f"warning: {error}", err=True)
        self._store = None


def _progress(ledger: Ledger) -> None:
    counts = ledger.summary()
    parts = [f"{name} {counts[name]}" for name in ("received", "journaled", "unjournaled", "duplicate")]
    parts += [f"{name} {sum(counts[name].values())}" for name in ("rejected", "shed")]
    click.echo(", ".join([*parts, f"in flight {counts['in_flight']}"]), err=True)


def _text(report: Report, ledger: Ledger) -> str:
    latency = report.latency
    lines = ["the spectra are simulated"] if report.simulated else []
    lines.append(ledger.text())
    for title, counts in (
        ("labels", report.labels),
        ("not accepted", report.not_accepted),
        ("roles", report.roles),
        ("source", report.source),
    ):
        if counts:
            lines.append(f"{title}: " + ", ".join(f"{name} {n}" for name, n in counts.items()))
    lines.append(
        f"decision latency: p50 {latency['p50_ms']:.3f} ms, p99 {latency['p99_ms']:.3f} ms, "
        f"max {latency['max_ms']:.3f} ms over {latency['count']:.0f} frames"
    )
    if report.sink_errors:
        lines.append(f"lines a sink could not write: {report.sink_errors} (the journal has them)")
    if report.journal_error is not None:
        lines.append(f"last error of the journal: {report.journal_error}")
    return "\n".join(lines)


@click.command()
@click.argument("bundle", type=click.Path(), metavar="[MODEL.sedge]", required=False)
@click.option(
    "--store",
    "store_path",
    type=click.Path(),
    metavar="DIR/NAME",
    help="Run a model store's current version.",
)
@click.option(
    "--source",
    "spec",
    required=True,
    metavar="SPEC",
    help="replay:, tcp:, udp:, ccsds:, serial:, zmq: or folder:, and what it needs.",
)
@click.option(
    "--journal", "journal_path", required=True, type=click.Path(), help="SQLite file; made where absent."
)
@click.option("--jsonl", type=click.Path(), help="Also append decisions to this file, as JSON lines.")
@click.option(
    "--sink",
    "sink_specs",
    multiple=True,
    metavar="SPEC",
    help="Also hand decisions to jsonl:FILE or zmq:ENDPOINT; may be given again.",
)
@click.option(
    "--policy",
    type=click.Choice(POLICIES),
    default="block",
    show_default=True,
    help="When the queue is full.",
)
@click.option("--capacity", type=int, default=64, show_default=True, help="Frames in the queue.")
@click.option("--count", type=int, help="Stop after so many frames.")
@click.option("--idle-exit", type=float, metavar="S", help="Stop after so many seconds without a frame.")
@click.option(
    "--rate",
    type=float,
    metavar="HZ",
    help="Frames a second of a replay; default: as fast as they are taken.",
)
@click.option(
    "--axis", type=click.Path(), help="A file whose wavelength axis a stream has; default: the model's grid."
)
@click.option("--saturation", type=float, help="Counts at which a channel is clipped; default: as in --axis.")
@click.option("--isa", help="Demand this instruction set; the default is the fastest that is proven here.")
@click.option(
    "--health", "health_address", metavar="127.0.0.1:PORT", help="Serve health and metrics over HTTP here."
)
@click.option("--json", "as_json", is_flag=True, help="The final account as JSON.")
def run(
    bundle: str | None,
    store_path: str | None,
    spec: str,
    journal_path: str,
    jsonl: str | None,
    sink_specs: tuple[str, ...],
    policy: str,
    capacity: int,
    count: int | None,
    idle_exit: float | None,
    rate: float | None,
    axis: str | None,
    saturation: float | None,
    isa: str | None,
    health_address: str | None,
    as_json: bool,
) -> None:
    """Classify a stream of frames into a journal.

    Ends with the stream, after --count frames, --idle-exit seconds without one, or on SIGINT or SIGTERM;
    everything that was received is decided and committed first. Exit code 1 when a frame is unaccounted for,
    2 for a mistake.
    """
    opened, store = _model(bundle, store_path, isa)
    classifier = Classifier(opened, isa)
    source = open_source(spec, SourceOptions(rate_hz=rate, axis=_axis_of(axis, saturation)))
    sinks: list[Sink] = []
    journal: Journal | None = None
    health: Health | None = None
    try:
        classifier.bind(*((source.axis.wavelength_nm, source.axis.mask) if source.axis is not None else ()))
        journal = Journal(journal_path, stream=source.stream_id, model=classifier.digest)
        for sink_spec in (*([f"jsonl:{jsonl}"] if jsonl is not None else []), *sink_specs):
            sinks.append(open_sink(sink_spec))
        trial = _Trial(store, opened)

        def progress(ledger: Ledger) -> None:
            _progress(ledger)
            trial.look(ledger)

        pipeline = Pipeline(
            source,
            classifier,
            journal,
            sinks,
            policy=policy,
            capacity=capacity,
            count=count,
            idle_exit_s=idle_exit,
            progress=progress,
        )

        health = Health(pipeline, _labels(opened, classifier), health_address)
        if health.address is not None:
            click.echo(f"health on {health.address}", err=True)

        def stop(number: int, frame: FrameType | None) -> None:
            pipeline.stop()

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        if source.address is not None:
            click.echo(f"listening on {source.address}", err=True)
        try:
            report = pipeline.run()
            trial.end(pipeline.ledger)
        except LedgerError:
            click.echo(pipeline.ledger.text())
            raise
        finally:
            health.stopping()
            for number, handler in before.items():
                signal.signal(number, handler)
    finally:
        if health is not None:
            health.close()
        source.close()
        for sink in sinks:
            sink.close()
        if journal is not None:
            journal.close()
    if as_json:
        click.echo(json.dumps(vars(report), ensure_ascii=False, indent=1))
    else:
        click.echo(_text(report, pipeline.ledger))
