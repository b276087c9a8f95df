"""`libsedge run`: classify a stream of frames into a journal, every frame accounted."""

from __future__ import annotations

import contextlib
import functools
import json
import signal
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

import click

from libsedge.bundle import Bundle
from libsedge.bursts import BurstOptions
from libsedge.classifier import Classifier
from libsedge.commands.hmac_option import hmac_option
from libsedge.commands.limits import above_zero, within
from libsedge.commands.run_text import account, progress
from libsedge.commands.tls_options import tls_options
from libsedge.config import config_option
from libsedge.decider import Instrument
from libsedge.drift import DriftTracker
from libsedge.errors import ConfigError
from libsedge.frame_queue import POLICIES
from libsedge.health import Health
from libsedge.journal import Journal
from libsedge.ledger import Ledger, LedgerError
from libsedge.model_store import ModelStore
from libsedge.pipeline import Pipeline
from libsedge.report import Report
from libsedge.safe_mode import CRASH_LIMIT, NoModel, Starts
from libsedge.sinks import Sink, open_sink
from libsedge.sources import TLS_SOURCES, SourceOptions, open_source
from libsedge.sources.axis_reader import axis_of
from libsedge.store_run import StoreRun

if TYPE_CHECKING:
    from libsedge.dashboard.publisher import Dashboard
    from libsedge.frame_key import FrameKey
    from libsedge.sources.tls import TlsFiles

DASHBOARD_ADDRESS = "127.0.0.1:8765"


def check_together(
    bundle: str | None,
    store_path: str | None,
    safe_mode: bool,
    burst_spec: str | None,
    burst_gap: float,
    cosmic: bool,
    shadow: int,
) -> BurstOptions | None:
    """The bursts that are asked for; ConfigError for options that do not go together."""
    if (bundle is None) == (store_path is None) and not safe_mode:
        raise ConfigError("give a bundle or --store, exactly one", field="MODEL.sedge", value=bundle)
    if shadow and store_path is None:
        raise ConfigError("needs --store: a new version comes from there", field="shadow", value=shadow)
    burst = None if burst_spec is None else BurstOptions.parse(burst_spec, burst_gap)
    if cosmic and (burst is None or burst.mode != "average"):
        raise ConfigError("needs --burst average:N: a ray is known by the other shots", field="cosmic")
    return burst


def source_certificates(spec: str, tls: TlsFiles | None, dashboard: str | None) -> TlsFiles | None:
    """Certificates may be for the live page only; without one, a source that cannot use them refuses."""
    return tls if dashboard is None or spec.partition(":")[0] in TLS_SOURCES else None


def _model(bundle: str | None, store_path: str | None, isa: str | None) -> tuple[Bundle, ModelStore | None]:
    """The bundle that was named, or the current one of a store: exactly one of the two is given."""
    if store_path is None:
        return Bundle.open(str(bundle)), None
    store = ModelStore(store_path)
    opened, failed = store.open_current(isa)
    if failed is not None:
        click.echo(f"warning: rolled back to {opened.manifest['version']}: {failed}", err=True)
    return opened, store


def _dashboard(address: str, journal: str, tls: TlsFiles | None) -> Dashboard:
    from libsedge.dashboard.publisher import Dashboard  # only a run with a page pays for it

    page = Dashboard(address, journal, lambda text: click.echo(text, err=True), tls)
    click.echo(f"dashboard on {page.url}", err=True)
    return page


def _labels(bundle: Bundle, classifier: Classifier) -> dict[str, str]:
    table = bundle.manifest
    return {
        "name": table["name"],
        "version": table["version"],
        "sha256": bundle.digest,
        "isa": classifier.model.isa,
    }


def _on_hang_up(store_run: StoreRun) -> Callable[[int, FrameType | None], None]:
    def look_at_the_store(number: int, frame: FrameType | None) -> None:
        store_run.requested = True

    return look_at_the_store


@config_option
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
    help="replay:, tcp:, udp:, ccsds:, serial:, zmq:, folder:, seabreeze: or simulated:, and what it needs.",
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
    help="Also hand decisions to jsonl:FILE, zmq:ENDPOINT, mqtt:HOST:PORT/TOPIC or ccsds:udp:HOST:PORT[,apid=N], "
    "frames to record:FILE.h5; may be given again.",
)
@click.option(
    "--policy",
    type=click.Choice(POLICIES),
    default="block",
    show_default=True,
    help="When the queue is full.",
)
@click.option(
    "--capacity",
    type=int,
    default=64,
    show_default=True,
    callback=within(1, 100_000),
    help="Frames in the queue.",
)
@click.option(
    "--burst",
    "burst_spec",
    metavar="vote:N|average:N",
    help="One decision about N shots of a target: by their vote, or on their mean.",
)
@click.option(
    "--burst-gap",
    type=float,
    callback=above_zero(3600),
    default=2.0,
    show_default=True,
    metavar="S",
    help="A burst ends after so long a pause.",
)
@click.option("--follow-drift", is_flag=True, help="Follow the wavelength axis by lines of Mg, Ca and Na.")
@click.option(
    "--bad-pixels",
    type=float,
    callback=within(3, 1000),
    metavar="SIGMA",
    help="Leave pixels out that stand off by so much in a dark frame.",
)
@click.option("--cosmic", is_flag=True, help="Leave pixels out of a burst's mean that a cosmic ray hit.")
@click.option(
    "--deadline",
    type=float,
    callback=above_zero(),
    metavar="MS",
    help="Count decisions that come later than this after the frame.",
)
@click.option("--count", type=int, callback=above_zero(), help="Stop after so many frames.")
@click.option(
    "--idle-exit",
    type=float,
    callback=above_zero(),
    metavar="S",
    help="Stop after so many seconds without a frame.",
)
@click.option(
    "--rate",
    type=float,
    callback=above_zero(),
    metavar="HZ",
    help="Frames a second of a replay; default: as fast as they are taken.",
)
@click.option(
    "--speed",
    type=float,
    callback=above_zero(),
    metavar="X",
    help="Of a recording's replay: 1 = as it was taken.",
)
@click.option(
    "--axis", type=click.Path(), help="A file whose wavelength axis a stream has; default: the model's grid."
)
@click.option(
    "--saturation",
    type=float,
    callback=above_zero(),
    help="Counts at which a channel is clipped; default: as in --axis.",
)
@click.option("--isa", help="Demand this instruction set; the default is the fastest that is proven here.")
@click.option(
    "--health", "health_address", metavar="127.0.0.1:PORT", help="Serve health and metrics over HTTP here."
)
@click.option(
    "--dashboard",
    "dashboard_address",
    is_flag=False,
    flag_value=DASHBOARD_ADDRESS,
    metavar="[HOST:PORT]",
    help=f"Serve the live page here; without a value on {DASHBOARD_ADDRESS}.",
)
@click.option(
    "--shadow",
    type=int,
    callback=within(0),
    default=0,
    show_default=True,
    metavar="FRAMES",
    help="With --store: a new version first decides so many frames unheard.",
)
@click.option("--safe-mode", is_flag=True, help="Journal frames, decide nothing; needs no model.")
@click.option(
    "--crash-limit",
    type=int,
    callback=within(0),
    default=CRASH_LIMIT,
    show_default=True,
    help="Safe mode after so many starts without a clean end in ten minutes; 0: never.",
)
@tls_options
@hmac_option
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
    burst_spec: str | None,
    burst_gap: float,
    follow_drift: bool,
    bad_pixels: float | None,
    cosmic: bool,
    deadline: float | None,
    count: int | None,
    idle_exit: float | None,
    rate: float | None,
    speed: float | None,
    axis: str | None,
    saturation: float | None,
    isa: str | None,
    health_address: str | None,
    dashboard_address: str | None,
    shadow: int,
    safe_mode: bool,
    crash_limit: int,
    as_json: bool,
    tls: TlsFiles | None,
    key: FrameKey | None,
) -> None:
    """Classify a stream of frames into a journal.

    With --store, SIGHUP changes to the version that was activated meanwhile, without losing a frame.
    Ends with the stream, after --count frames, --idle-exit seconds without one, or on SIGINT or SIGTERM;
    everything that was received is decided and committed first. After too many crashes in a row it starts in safe
    mode. Exit code 1 when a frame is unaccounted for, 2 for a mistake.
    """
    burst = check_together(bundle, store_path, safe_mode, burst_spec, burst_gap, cosmic, shadow)
    starts = Starts(journal_path, crash_limit)
    say = functools.partial(click.echo, err=True)
    if starts.begin() and not safe_mode:
        say(f"warning: {crash_limit} starts in ten minutes had no clean end: SAFE MODE, nothing is decided")
        safe_mode = True
    opened: Bundle | None = None
    classifier: Classifier | NoModel = NoModel()
    store: ModelStore | None = None
    ended: list[tuple[Report, Ledger]] = []

    def tell() -> None:
        for report, ledger in ended:
            starts.end()
            table = json.dumps(vars(report), ensure_ascii=False, indent=1) if as_json else None
            click.echo(table or account(report, ledger))

    with contextlib.ExitStack() as last, starts.forgive_mistakes(), contextlib.ExitStack() as cleanup:
        last.callback(tell)  # also where a sink cannot be closed
        if not safe_mode:
            opened, store = _model(bundle, store_path, isa)
            classifier = Classifier(opened, isa)
        source_tls = source_certificates(spec, tls, dashboard_address)
        source = open_source(
            spec, SourceOptions(rate, speed, axis_of(axis, saturation), tls=source_tls, key=key)
        )
        cleanup.callback(source.close)
        axis_and_mask = () if source.axis is None else (source.axis.wavelength_nm, source.axis.mask)
        if isinstance(classifier, Classifier):
            classifier.bind(*axis_and_mask)
        journal = Journal(journal_path, stream=source.stream_id, model=classifier.digest)
        cleanup.callback(journal.close)
        sinks: list[Sink] = []
        for sink_spec in (*([f"jsonl:{jsonl}"] if jsonl is not None else []), *sink_specs):
            sinks.append(open_sink(sink_spec))
            cleanup.callback(sinks[-1].close)
        drift: DriftTracker | None = None
        if follow_drift and opened is not None:
            drift = DriftTracker(axis_and_mask[0] if axis_and_mask else opened.preprocess.grid_nm)
        instrument = Instrument(drift, bad_pixels, cosmic=cosmic)
        dashboard: Dashboard | None = None
        if dashboard_address is not None:
            dashboard = _dashboard(dashboard_address, journal_path, tls)
            cleanup.callback(dashboard.close)

        pipeline = Pipeline(
            source,
            classifier,
            journal,
            sinks,
            policy=policy,
            capacity=capacity,
            count=count,
            idle_exit_s=idle_exit,
            burst=burst,
            deadline_s=None if deadline is None else deadline / 1000,
            instrument=instrument,
            progress=progress,
            tap=None if dashboard is None else dashboard.tap.offer,
        )
        health = Health(pipeline, {}, health_address, safe_mode=safe_mode)
        cleanup.callback(health.close)
        if health.address is not None:
            say(f"health on {health.address}")

        def tell_model(bundle: Bundle, new: Classifier) -> None:
            health.tell_model(_labels(bundle, new))
            if dashboard is not None:
                dashboard.tell_model(bundle, new, source.axis, source.simulated)

        if opened is not None and isinstance(classifier, Classifier):
            tell_model(opened, classifier)
        if dashboard is not None:
            if opened is None:
                dashboard.tell_safe_mode(source.axis, source.simulated)
            dashboard.start(pipeline)

        def stop(number: int, frame: FrameType | None) -> None:
            pipeline.stop()

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        store_run: StoreRun | None = None
        if store is not None and opened is not None:
            store_run = StoreRun(store, opened, say, shadow)
            cleanup.callback(store_run.close)
            before[signal.SIGHUP] = signal.signal(signal.SIGHUP, _on_hang_up(store_run))
            store_run.watch(
                pipeline, lambda bundle: Classifier(bundle, isa).bind(*axis_and_mask), tell_model, isa
            )
        if source.address is not None:
            say(f"listening on {source.address}")
        try:
            report = pipeline.run()
            ended.append((report, pipeline.ledger))
            if store_run is not None:
                store_run.end(pipeline.ledger)
        except LedgerError:
            ended.clear()
            click.echo(pipeline.ledger.text())
            raise
        finally:
            health.stopping()
            for number, handler in before.items():
                signal.signal(number, handler)
