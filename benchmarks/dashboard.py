"""Does the live page slow the pipeline? p50 and p99 from a frame's arrival to its decision, with and without it.

    python benchmarks/dashboard.py build/demo/model.sedge build/demo/test.h5      (LIBSEDGE_HOME=build/demo/home)

Frames come at 100 Hz from a replay, in blocks that alternate between no page and the page with four clients; one of
them connects and never reads again. The clients run in a process of their own, as browsers do. Every block has its
own pipeline, journal and page, and only what comes after the clients are connected is timed. The percentiles are over
all frames of all blocks of a kind; the interval of the ratio is a bootstrap over pairs of blocks.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
from latency import EveryTime
from libsedge.bundle import Bundle
from libsedge.classifier import Classifier
from libsedge.dashboard.publisher import Dashboard
from libsedge.journal import Journal
from libsedge.pipeline import Pipeline
from libsedge.sources import SourceOptions, open_source
from websockets.sync.client import connect

CLIENTS = 4


def clients(address: str) -> None:
    """The other process: three clients that show every picture at once, and one that never reads."""
    with contextlib.ExitStack() as stack:
        sockets = [
            stack.enter_context(connect(f"ws://{address}/feed", proxy=None, max_size=None))
            for _ in range(CLIENTS)
        ]
        print("connected", flush=True)
        pictures = 0
        while True:
            for socket in sockets[1:]:
                try:
                    socket.recv(timeout=30)
                    socket.send('{"shown": true}')
                except Exception:
                    print(pictures, flush=True)
                    return
            pictures += 1


@contextlib.contextmanager
def watched(address: str) -> Iterator[list[int]]:
    seen: list[int] = []
    command = [sys.executable, __file__, "--clients", address, "-", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "connected\n"
        time.sleep(0.5)
        try:
            yield seen
        finally:
            seen.append(int(process.stdout.readline() or -1))


def block(bundle: Bundle, spectra: Path, rate: float, page: bool) -> tuple[list[float], int, int]:
    """Times of one block, pictures that were published, pictures that a client showed."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        source = open_source(f"replay:{spectra}", SourceOptions(rate_hz=rate))
        assert source.axis is not None
        classifier = Classifier(bundle).bind(source.axis.wavelength_nm, source.axis.mask)
        journal = Journal(Path(folder, "journal.db"), stream=source.stream_id)
        stack.callback(journal.close)
        seen: list[int] = []
        dashboard = None
        if page:
            dashboard = Dashboard("127.0.0.1:0", Path(folder, "journal.db"), print)
            dashboard.tell_model(bundle, classifier, source.axis, source.simulated)
            seen = stack.enter_context(watched(dashboard.address))
            stack.callback(dashboard.close)
        pipeline = Pipeline(
            source, classifier, journal, tap=None if dashboard is None else dashboard.tap.offer
        )
        pipeline.latency = times = EveryTime()
        if dashboard is not None:
            dashboard.start(pipeline)
        pipeline.run()
        published = 0 if dashboard is None else dashboard.published
    return times.times, published, seen[0] if seen else 0


def summary(blocks: dict[bool, list[list[float]]]) -> dict[str, Any]:
    def p(percent: float, kind: bool, which: np.ndarray) -> float:
        return float(np.percentile(np.concatenate([blocks[kind][i] for i in which]), percent)) * 1e3

    n = len(blocks[True])
    every, rng = np.arange(n), np.random.default_rng(0)
    result: dict[str, Any] = {"blocks": n, "frames": sum(map(len, blocks[True]))}
    for percent in (50, 99):
        draws = [rng.integers(0, n, n) for _ in range(2000)]
        ratios = [p(percent, True, draw) / p(percent, False, draw) for draw in draws]
        result[f"p{percent}"] = {
            "without_ms": round(p(percent, False, every), 4),
            "with_ms": round(p(percent, True, every), 4),
            "ratio": round(p(percent, True, every) / p(percent, False, every), 3),
            "interval_95": [round(float(x), 3) for x in np.percentile(ratios, [2.5, 97.5])],
        }
    return result


@click.command()
@click.argument("bundle")
@click.argument("spectra")
@click.option("--rounds", default=12, show_default=True, help="Pairs of blocks.")
@click.option("--rate", default=100.0, show_default=True, help="Frames a second.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/dashboard/latency.json"))
@click.option("--clients", "address", hidden=True)
def main(bundle: str, spectra: str, rounds: int, rate: float, out: Path, address: str | None) -> None:
    """Measure the pipeline's latency with and without the live page."""
    if address is not None:
        return clients(address)
    opened = Bundle.open(bundle)
    blocks: dict[bool, list[list[float]]] = {False: [], True: []}
    published = shown = 0
    block(opened, Path(spectra), rate, False)  # warm-up
    for number in range(rounds):
        for page in (False, True) if number % 2 == 0 else (True, False):
            times, more, seen = block(opened, Path(spectra), rate, page)
            blocks[page].append(times)
            published, shown = published + more, shown + seen
        print(f"{number + 1} of {rounds}: {summary(blocks)['p99']}", flush=True)
    seconds = sum(map(len, blocks[True])) / rate
    document = {
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}",
        "load": [round(x, 1) for x in os.getloadavg()],
        "rate_hz": rate,
        "clients": CLIENTS,
        "pictures_per_s": round(published / seconds, 2),
        "pictures_shown_per_s_and_client": round(shown / seconds, 2),
        **summary(blocks),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document, indent=1))
    return None


if __name__ == "__main__":
    main()
