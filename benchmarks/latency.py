"""From a frame's arrival to its decision at 100 Hz: what the two runtimes add to preprocessing and inference.

    python benchmarks/latency.py                    make latency: the benchmark's net M on every vector kernel here
    python benchmarks/latency.py MODEL.sedge ...    these bundles too (keys of LIBSEDGE_HOME)

Frames of as many channels as the net has inputs come over TCP from a process of its own on the other core, one every
10 ms: to the pipeline of `libsedge run`, with the journal on disk and acknowledgements, and to `libsedge-run`. Either
has one core. Preprocessing and inference are those of the same frames, as the runtime times them; what is left is the
runtime: overhead = (arrival to decision) - preprocessing - inference, frame by frame. *Arrival* is when the source
hands the decoded frame over; *readable* is when the wait for the socket ended, before it is read and decoded, so
`reading and overhead` is all that the process does for a frame but those two; *sent* is when the other process begins
to write it. A commit comes every 100 ms, after the decisions; beside it stands a raw fdatasync of as many bytes as one
commit writes, in the same folder.

The sides run in blocks, in turn. build/latency/latency.json has the percentiles.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import nets
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from libsedge.bundle import Bundle, target
from libsedge.classifier import Classifier
from libsedge.commands.bench import made_up, processor
from libsedge.frame import Frame, encode
from libsedge.journal import Journal
from libsedge.latency import Latency
from libsedge.pipeline import Pipeline
from libsedge.preprocess import PreprocessConfig
from libsedge.sources.tcp import TcpSource
from libsedge_native import reference, runner, toolchain
from libsedge_native.bundle_writer import BundleInfo, write_bundle
from libsedge_native.generate import default_goldens, generate

OUT = Path("build/latency")
WARM_UP = 30


class EveryTime(Latency):
    """Keeps each time, not only its bucket."""

    def __init__(self, readable: Callable[[], int] = lambda: 0) -> None:
        super().__init__()
        self.times: list[float] = []
        #: when each was added, ns of the monotonic clock, and what `readable` said then
        self.at: list[int] = []
        self.readable: list[int] = []
        self._readable = readable

    def add(self, seconds: float) -> None:
        self.at.append(time.monotonic_ns())
        self.readable.append(self._readable())
        super().add(seconds)
        self.times.append(seconds)


@dataclass
class Side:
    """One bundle on one kernel; `seconds` of every frame (of every batch: `commit`, `fdatasync`), by what they are."""

    bundle: Bundle
    isa: str
    runner: Path | None = None  # None: the Python runtime
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    @property
    def name(self) -> str:
        runtime = "libsedge run" if self.runner is None else "libsedge-run"
        return f"{self.bundle.manifest['name']} on {self.isa}, {runtime}"


def net_bundle(name: str, folder: Path) -> Bundle:
    """The benchmark's net, signed; random weights, and thresholds that refuse nothing."""
    graph = nets.build(name)
    generated = generate(graph)
    inputs = default_goldens(graph)
    private = Ed25519PrivateKey.generate()
    thresholds = {"min_confidence": 0.0, "min_contrast": 0.0, "max_saturated_fraction": 1.0}
    return write_bundle(
        folder / f"{name}.sedge",
        info=BundleInfo(name.lower(), "1.0.0", 1, "none", generated.arena_bytes, (), {"simulated": True}),
        onnx=generated.onnx,
        sources={part: generated.files[part] for part in ("model.cpp", "model.h")},
        kernels={target(): toolchain.compile_shared(generated)},
        preprocess=PreprocessConfig(scale=0.02, zero_point=-128),
        labels=[f"class {i}" for i in range(nets.CLASSES)],
        calibration={"temperature": 1.5, "logit_scale": 0.5, "logit_zero_point": 0, **thresholds},
        goldens=(inputs, np.stack([reference.run(graph, row) for row in inputs])),
        model_card="# A net of the benchmark\n",
        private=private,
    )


def send(port: int, channels: int, count: int, rate: float) -> None:
    """The other process: frames at a steady rate; prints when each was sent, ns of the monotonic clock."""
    values, sent = made_up(channels), []
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def drain() -> None:
            while sock.recv(1 << 16):
                pass

        reader = threading.Thread(target=drain)
        reader.start()
        begin = time.monotonic()
        for sequence in range(count):
            data = encode(Frame(1, 0, sequence, 10**18 + sequence, 0, 2000, 0, values))
            time.sleep(max(0.0, begin + sequence / rate - time.monotonic()))
            sent.append(time.monotonic_ns())
            sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        reader.join()
    print(json.dumps(sent))


def fdatasyncs(file: Path, size: int, count: int) -> list[float]:
    """Seconds of each of `count` appends of `size` bytes with their fdatasync, 100 ms apart as commits are."""
    times = []
    with open(file, "wb", buffering=0) as stream:
        for _ in range(count):
            time.sleep(0.1)
            begin = time.perf_counter()
            stream.write(bytes(size))
            os.fdatasync(stream.fileno())
            times.append(time.perf_counter() - begin)
    return times


class StampedPoller:
    """A source's poller that notes when its last wait ended, ns of the monotonic clock."""

    def __init__(self, poller: Any) -> None:
        self._poller = poller
        self.register, self.unregister = poller.register, poller.unregister
        self.ended = 0

    def poll(self, milliseconds: int) -> Any:
        ready = self._poller.poll(milliseconds)
        self.ended = time.monotonic_ns()
        return ready


def sending(port: int, channels: int, count: int, rate: float, core: int) -> subprocess.Popen[str]:
    """The other process, on its core."""
    command = [*("taskset", "-c", str(core)), sys.executable, __file__, "--send"]
    return subprocess.Popen(
        [*command, f"{port},{channels},{count},{rate}"], stdout=subprocess.PIPE, text=True
    )


def sent_at(sender: subprocess.Popen[str]) -> list[int]:
    assert sender.stdout is not None
    return list(json.loads(sender.stdout.read()))


def runner_block(side: Side, count: int, rate: float, cores: list[int]) -> None:
    """As `block`, through `libsedge-run`, which writes its lines to a file."""
    assert side.runner is not None
    channels = side.bundle.preprocess.points
    with tempfile.TemporaryDirectory(dir=OUT) as folder, open(Path(folder, "lines"), "w+") as lines:
        command = ["taskset", "-c", str(cores[0]), side.runner, "--source", "tcp:0", "--times"]
        command += ["--isa", side.isa, "--count", str(count)]
        with subprocess.Popen(command, stdout=lines, stderr=subprocess.PIPE, text=True) as runner:
            assert runner.stderr is not None
            port = int(runner.stderr.readline().rpartition(":")[2])
            with sending(port, channels, count, rate, cores[-1]) as sender:
                sent = sent_at(sender)
        lines.seek(0)
        found = [json.loads(line)["times_ns"] for line in lines.readlines()[:-1]]
    if not count == len(found) == len(sent):
        raise SystemExit(f"not {count} decisions by a model: {len(found)}")
    for at, times in list(zip(sent, found, strict=True))[WARM_UP:]:
        for name in ("preprocess", "inference"):
            side.seconds[name].append(times[name] * 1e-9)
        for name, begin in (
            ("decision", times["arrived"]),
            ("readable_to_decision", times["readable"]),
            ("sent_to_decision", at),
        ):
            side.seconds[name].append((times["decided"] - begin) * 1e-9)


def block(side: Side, count: int, rate: float, cores: list[int]) -> None:
    """`count` frames through a pipeline of their own; adds their times to `side`, without the first `WARM_UP`."""
    with tempfile.TemporaryDirectory(dir=OUT) as folder, contextlib.ExitStack() as stack:
        classifier = Classifier(side.bundle, side.isa).bind()
        source = TcpSource(0)
        journal = Journal(Path(folder, "journal.db"), model=classifier.digest)
        stack.callback(journal.close)
        pipeline = Pipeline(source, classifier, journal, count=count)
        poller = StampedPoller(source._poller)
        source._poller = poller
        decision = EveryTime(lambda: poller.ended)
        stages = {name: EveryTime() for name in pipeline.stages}
        pipeline.latency, pipeline.stages = decision, dict(stages)
        with sending(source.port, classifier.channels or 0, count, rate, cores[-1]) as sender:
            report = pipeline.run()
            sent = sent_at(sender)
        if not count == len(decision.times) == len(stages["inference"].times) == len(sent):
            raise SystemExit(f"not {count} decisions by a model: {report}")
        pages = Path(folder, "journal.db-wal")
        written = pages.stat().st_size if pages.exists() else Path(folder, "journal.db").stat().st_size
        commits = stages["commit"].times
        seconds = side.seconds
        for name in ("queue", "preprocess", "inference"):
            seconds[name] += stages[name].times[WARM_UP:]
        seconds["decision"] += decision.times[WARM_UP:]
        for name, begins in (("sent_to_decision", sent), ("readable_to_decision", decision.readable)):
            spans = [(at - begin) * 1e-9 for at, begin in zip(decision.at, begins, strict=True)]
            seconds[name] += spans[WARM_UP:]
        seconds["commit"] += commits
        seconds["fdatasync"] += fdatasyncs(
            Path(folder, "raw"), max(4096, written // len(commits)), len(commits) // 2
        )


def summary(side: Side) -> dict[str, Any]:
    """Percentiles, us, and the figures: overhead / inference by medians, without and with reading and decoding, and
    p99 / p50 of the decision."""
    every = {name: np.array(times) * 1e6 for name, times in side.seconds.items()}
    steps = every["preprocess"] + every["inference"]
    every["overhead"] = every["decision"] - steps
    every["reading_and_overhead"] = every["readable_to_decision"] - steps
    found: dict[str, Any] = {"net": side.name, "frames": len(every["decision"])}
    for name, times in every.items():
        found[name] = {f"p{p:g}_us": round(float(np.percentile(times, p)), 1) for p in (50, 90, 99)}
    inference = found["inference"]["p50_us"]
    for name in ("overhead", "reading_and_overhead"):
        found[f"{name}_over_inference"] = round(found[name]["p50_us"] / inference, 3)
    found["decision_p99_over_p50"] = round(found["decision"]["p99_us"] / found["decision"]["p50_us"], 3)
    return found


COLUMNS = (
    *("preprocess", "inference", "overhead", "reading_and_overhead", "decision", "sent_to_decision"),
    *("commit", "fdatasync"),
)
RATIOS = ("overhead_over_inference", "reading_and_overhead_over_inference", "decision_p99_over_p50")


def text_of(rows: list[dict[str, Any]]) -> str:
    lines = [f"| net | {' | '.join(f'{name} p50 / p99' for name in COLUMNS)} | {' | '.join(RATIOS)} |"]
    lines.append("|" + "---|" * (1 + len(COLUMNS) + len(RATIOS)))
    for row in rows:
        cells = [
            f"{row[name]['p50_us']:.0f} / {row[name]['p99_us']:.0f}" if name in row else ""
            for name in COLUMNS
        ]
        cells += [f"{row[name]:.2f}" for name in RATIOS]
        lines.append(f"| {row['net']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


@click.command()
@click.argument("bundles", nargs=-1, type=click.Path())
@click.option(
    "--net", "names", multiple=True, default=("M",), show_default=True, help="Nets of the benchmark."
)
@click.option(
    "--isa", "isas", multiple=True, help="Only these kernels; default: every vector kernel that runs here."
)
@click.option("--rounds", default=10, show_default=True, help="Blocks of every side.")
@click.option("--frames", default=330, show_default=True, help="Frames a block; the first 30 do not count.")
@click.option("--rate", default=100.0, show_default=True, help="Frames a second.")
@click.option("--send", "sender", hidden=True)
def main(
    bundles: tuple[str, ...],
    names: tuple[str, ...],
    isas: tuple[str, ...],
    rounds: int,
    frames: int,
    rate: float,
    sender: str | None,
) -> None:
    """Measure what the runtimes add to preprocessing and inference, from a frame's arrival to its decision."""
    if sender is not None:
        port, channels, count, hz = sender.split(",")
        return send(int(port), int(channels), int(count), float(hz))
    OUT.mkdir(parents=True, exist_ok=True)
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        opened = [net_bundle(name, Path(folder)) for name in names] + [Bundle.open(file) for file in bundles]
        os.sched_setaffinity(0, cores[:1])
        sides = []
        for number, bundle in enumerate(opened):
            chosen = [
                isa
                for isa, runs in bundle.model().isas
                if runs and (isa in isas or (not isas and isa != "scalar"))
            ]
            program = Path(folder, f"run-{number}")
            runner.build(bundle, program, isas=tuple(isa for isa in chosen if isa != "scalar"))
            sides += [Side(bundle, isa, which) for isa in chosen for which in (None, program)]
        for number in range(rounds):
            for side in sides if number % 2 == 0 else reversed(sides):
                (block if side.runner is None else runner_block)(side, frames, rate, cores)
            print(f"{number + 1} of {rounds}", flush=True)
    rows = [summary(side) for side in sides]
    document = {
        "machine": f"{processor()}, {len(cores)} CPUs, Python {platform.python_version()}, numpy {np.__version__}",
        "load": [round(x, 1) for x in os.getloadavg()],
        "rate_hz": rate,
        "sides": rows,
    }
    (OUT / "latency.json").write_text(json.dumps(document, indent=1) + "\n")
    print(document["machine"], document["load"])
    print(text_of(rows))
    return None


if __name__ == "__main__":
    main()
