"""`libsedge bench`: how long a decision takes on this machine, stage by stage, and what it needs."""

from __future__ import annotations

import json
import math
import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click
import numpy as np

from libsedge import __version__, energy
from libsedge._frames import Decoder
from libsedge.bundle import Bundle, target
from libsedge.classifier import Classifier
from libsedge.errors import ConfigError, ToolchainError
from libsedge.frame import Frame, encode
from libsedge.preprocess import Preprocessor
from libsedge.sources.base import Axis
from libsedge.sources.files import open_spectra

PERCENTILES = (50.0, 90.0, 99.0, 99.9)
SCHEMA_VERSION = 1


def percentiles(times_ns: np.ndarray) -> dict[str, float]:
    """p50 ... p99.9 and max, microseconds: the smallest time at or below which so many % of the times lie."""
    ordered = np.sort(times_ns)
    ranks = [max(0, math.ceil(len(ordered) * p / 100) - 1) for p in PERCENTILES]
    row = {f"p{p:g}_us": float(ordered[rank]) / 1e3 for p, rank in zip(PERCENTILES, ranks, strict=True)}
    return row | {"max_us": float(ordered[-1]) / 1e3}


def measure(work: Callable[[], object], count: int, warm_up: int) -> np.ndarray:
    """Nanoseconds of each of `count` calls, int64, after `warm_up` calls that do not count."""
    for _ in range(warm_up):
        work()
    times = np.empty(count, np.int64)
    clock = time.perf_counter_ns
    for i in range(count):
        begin = clock()
        work()
        times[i] = clock() - begin
    return times


def made_up(channels: int) -> np.ndarray:
    """Lines on a noisy background, counts uint16 [channels]; nothing physical, always the same."""
    rng = np.random.default_rng(0)
    counts = rng.normal(500.0, 10.0, channels)
    at = rng.integers(0, channels, max(8, channels // 60))
    counts[at] += rng.uniform(500, 20000, at.size)
    return counts.astype(np.uint16)


def memory() -> dict[str, int]:
    """Resident memory of this process now and at its peak, bytes; 0 where the system does not tell."""
    found = {"rss_bytes": 0, "peak_rss_bytes": 0}
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            name, _, rest = line.partition(":")
            key = {"VmRSS": "rss_bytes", "VmHWM": "peak_rss_bytes"}.get(name)
            if key is not None:
                found[key] = 1024 * int(rest.split()[0])
    except OSError:
        pass
    return found


def processor() -> str:
    """The CPU's name as the kernel gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "Model", "Hardware")):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def bench_stages(
    classifier: Classifier,
    preprocessor: Preprocessor,
    counts: np.ndarray,
    saturation: float,
    count: int,
    warm_up: int,
) -> dict[str, dict[str, float]]:
    """Percentiles of every stage of one decision, and of `classify`, which is all but decoding."""
    wire = encode(Frame(1, 0, 0, 0, 0, 0, 0, counts))
    decoder = Decoder()
    model = classifier.model
    network_input = np.ascontiguousarray(preprocessor.input(counts)[None])
    logits = model.run_batch(network_input)

    def decide() -> None:
        probabilities = classifier.probabilities(logits)
        int(logits.argmax(axis=1)[0]), probabilities.tolist()

    stages: dict[str, Callable[[], object]] = {
        "decode": lambda: decoder.feed(wire),
        "preprocess": lambda: preprocessor.input_and_report(counts[None], saturation),
        "infer": lambda: model.run_batch(network_input),
        "decide": decide,
        "classify": lambda: classifier.classify(counts, saturation=saturation),
    }
    return {name: percentiles(measure(work, count, warm_up)) for name, work in stages.items()}


def layer_rows(
    bundle: Bundle, isa: str, network_input: np.ndarray, count: int, warm_up: int
) -> tuple[list[dict[str, Any]], str]:
    """Every layer alone beside the core's limit, measured by the host part, which compiles the net again for it; where
    there is none, or no compiler, those of whole runs of the bundle's own kernel. And the rows as text.
    """
    why = "the host part is not installed"
    for point in entry_points(group="libsedge.layer_bench"):
        try:
            module = point.load()
            rows = module.measure(bundle.members["model.onnx"], [isa], precision=bundle.precision)
        except ImportError:
            continue
        except ToolchainError as failed:
            why = str(failed).splitlines()[0]
            continue
        return rows, f"every layer alone, against this core's measured limit:\n{module.text_of(rows)}"
    rows = step_rows(bundle, isa, network_input, count, warm_up)
    lines = [
        f"every layer within runs of the bundle's kernel, without the core's limit: {why}",
        f"{'isa':12}{'step':16}{'min us':>9}{'median':>9}",
        *(f"{r['isa']:12}{r['step']:16}{r['min_us']:9.2f}{r['median_us']:9.2f}" for r in rows),
    ]
    return rows, "\n".join(lines)


def step_rows(
    bundle: Bundle, isa: str, network_input: np.ndarray, count: int, warm_up: int
) -> list[dict[str, Any]]:
    """step, isa, min_us and median_us of every step over `count` runs of the bundle's own kernel."""
    model = bundle.model(isa)
    runs = [model.layer_times(network_input[0]) for _ in range(warm_up + count)][warm_up:]
    ns = np.array([[time for _, time in run] for run in runs])
    return [
        {"step": name, "isa": isa, "min_us": least / 1e3, "median_us": middle / 1e3}
        for (name, _), least, middle in zip(
            runs[0], ns.min(axis=0).tolist(), np.median(ns, axis=0).tolist(), strict=True
        )
    ]


def run_bench(
    bundle: Bundle,
    opened_s: float,
    isa: str | None,
    axis: Axis | None,
    counts: np.ndarray | None,
    count: int,
    layers: bool = False,
) -> dict[str, Any]:
    """The document that `libsedge bench --json` prints."""
    warm_up = max(10, count // 20)
    begin = time.perf_counter()
    used = axis or Axis(bundle.preprocess.grid_nm)
    classifier = Classifier(bundle, isa).bind(used.wavelength_nm, used.mask)
    start = {"open_ms": opened_s * 1e3, "load_and_self_test_ms": (time.perf_counter() - begin) * 1e3}
    assert classifier.channels is not None
    spectrum = made_up(classifier.channels) if counts is None else counts
    decision = classifier.classify(spectrum, saturation=used.saturation)
    preprocessor = Preprocessor(bundle.preprocess, used.wavelength_nm, used.mask)
    stages = bench_stages(classifier, preprocessor, spectrum, used.saturation, count, warm_up)
    network_input = np.ascontiguousarray(preprocessor.input(spectrum)[None])
    isas: dict[str, Any] = {}
    for name, runnable in classifier.model.isas:
        if runnable:
            model = bundle.model(name)
            isas[name] = percentiles(measure(lambda m=model: m.run_batch(network_input), count, warm_up))  # type: ignore[misc]
    parts = sum(stages[name]["p50_us"] for name in ("preprocess", "infer"))
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "libsedge": __version__,
        "model": {
            "name": bundle.manifest["name"],
            "version": bundle.manifest["version"],
            "sha256": bundle.digest,
        },
        "machine": {
            "target": target(),
            "cpu": processor(),
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
        },
        "precision": bundle.precision,
        "isa": classifier.model.isa,
        "spectrum": "made up" if counts is None else "from a file",
        "refused_because": None if decision.label is not None else decision.reason,
        "channels": classifier.channels,
        "points": bundle.preprocess.points,
        "count": count,
        "warm_up": warm_up,
        "start": start,
        "stages": stages,
        "overhead_of_infer": (stages["classify"]["p50_us"] - parts) / stages["infer"]["p50_us"],
        "infer_by_isa": isas,
        "energy": energy.measure(lambda: classifier.classify(spectrum, saturation=used.saturation), count),
        "arena_bytes": classifier.model.arena_bytes,
        "kernel_bytes": len(bundle.kernel(target())),
        "bundle_bytes": bundle.size,
        **memory(),
    }
    if layers:
        rows, text = layer_rows(bundle, classifier.model.isa, network_input, count, warm_up)
        document |= {"layers": rows, "layers_text": text}
    return document


def text_of(document: dict[str, Any]) -> str:
    """The document for people."""
    model, machine = document["model"], document["machine"]
    columns = [*(f"p{p:g}_us" for p in PERCENTILES), "max_us"]
    head = "".join(f"{name.removesuffix('_us'):>10}" for name in columns)
    lines = [
        f"{model['name']} {model['version']} on {machine['cpu']}, {machine['target']}, kernel {document['isa']}, "
        f"{document['precision']}",
        f"{document['channels']} channels, {document['points']} points, spectrum {document['spectrum']}, "
        f"{document['count']} calls after {document['warm_up']}",
        f"{'microseconds':<22}{head}",
    ]
    rows = [*document["stages"].items(), *((f"infer {k}", v) for k, v in document["infer_by_isa"].items())]
    for name, row in rows:
        lines.append(f"{name:<22}" + "".join(f"{row[column]:>10.1f}" for column in columns))
    if document["refused_because"] is not None:
        lines.append(f"note: the spectrum is refused ({document['refused_because']}): `classify` stops there")
    lines += [
        f"classify beyond preprocess and infer: {document['overhead_of_infer']:.2f} x infer (medians)",
        f"start: open {document['start']['open_ms']:.1f} ms, "
        f"load and self-test {document['start']['load_and_self_test_ms']:.1f} ms",
        f"arena {document['arena_bytes']:,} bytes, kernel {document['kernel_bytes']:,} bytes, "
        f"bundle {document['bundle_bytes']:,} bytes, resident {document['rss_bytes']:,} bytes, "
        f"peak {document['peak_rss_bytes']:,} bytes",
    ]
    spent = document["energy"]
    if spent["uj_per_call"] is None:
        lines.append(f"energy: no figure; {spent['why']}")
    else:
        lines.append(
            f"energy: {spent['uj_per_call']:.1f} microjoules a classify, of {' + '.join(spent['zones'])}"
        )
    if "layers" in document:
        lines += ["", document["layers_text"]]
    return "\n".join(lines)


@click.command()
@click.argument("bundle", type=click.Path(), metavar="MODEL.sedge")
@click.option("--isa", help="Demand this instruction set for the stages; default: the fastest proven here.")
@click.option("--count", type=int, default=1000, show_default=True, help="Timed calls of every stage.")
@click.option(
    "--spectra", type=click.Path(), help="Take axis and first spectrum from this file; default: made up."
)
@click.option(
    "--layers", is_flag=True, help="Every layer alone too: MACs, bytes, time, share of the core's limit."
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def bench(bundle: str, isa: str | None, count: int, spectra: str | None, layers: bool, as_json: bool) -> None:
    """Measure one decision on this machine, stage by stage: decode, preprocess, infer, decide, and all of it.

    One thread, one spectrum at a time, as in `libsedge run`; journal and queue are not in it. The times hold for
    this machine and what else runs on it. With the host part and a C++ compiler --layers calls the layers one by
    one from the same generated source, compiled again; without, it reads the clock between the layers of whole runs.
    """
    if not 10 <= count <= 10_000_000:
        raise ConfigError("must be 10 to 10,000,000", field="count", value=count)
    begin = time.perf_counter()
    opened = Bundle.open(bundle)
    opened_s = time.perf_counter() - begin
    axis: Axis | None = None
    counts: np.ndarray | None = None
    if spectra is not None:
        file = open_spectra(spectra)
        try:
            if len(file) == 0:
                raise ConfigError("holds no spectra", file=spectra)
            axis, counts = file.axis, np.array(file.rows(slice(0, 1))[0])
        finally:
            file.close()
    document = run_bench(opened, opened_s, isa, axis, counts, count, layers)
    click.echo(json.dumps(document, indent=1) if as_json else text_of(document))
