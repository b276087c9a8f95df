"""This project's kernels beside other runtimes: one spectrum, one thread, one core, bursts in turn.

    python benchmarks/peers.py            about 5 minutes; `--full` about 8
    python benchmarks/peers.py --net M --net S

Writes build/bench/bench.json: machine, versions, peers[], ours[], peaks[], ratio, peak_fraction, exact. Weights are
random (nets.py). Every row runs in the same process, side after side in short bursts, so all of them meet the same fast
and slow phases of the machine; load time and resident memory come from a fresh process each, peak_fraction from
whole.py: called from C, round by round.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import exact
import fp32
import mobile
import nets
import numpy as np
import results
import runtimes
import whole
from libsedge import _core
from libsedge.commands.bench import memory
from libsedge_native import peak, reference, timing, toolchain
from libsedge_native.random_graph import random_inputs

PACKAGES = ("numpy", "onnx", "onnxruntime", "ai-edge-litert", "openvino", "torch", "ncnn", "MNN", "libsedge")
FRESH = "--fresh"
#: our row among the processes of `--fresh`, and the variable that names its compiled model
OURS, SO = "libsedge", "LIBSEDGE_BENCH_SO"
PEERS = {**runtimes.PEERS, **mobile.PEERS}


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    info = {"system": platform.platform(), "python": platform.python_version(), "cpus": os.cpu_count()}
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for key in ("model name", "cpu family", "model", "stepping", "flags"):
        value = next((line.partition(":")[2].strip() for line in lines if line.startswith(key + "\t")), None)
        if key == "flags" and value:
            wanted = ("avx2", "avx_vnni", "avx512_vnni", "amx_tile", "amx_int8")
            value = " ".join(flag for flag in wanted if flag in value.split())
        info[key] = value
    compiler = subprocess.run(
        [*toolchain.host_compiler(), "--version"], capture_output=True, text=True, check=True
    )
    info["compiler"] = compiler.stdout.splitlines()[0]
    info["load_average"] = os.getloadavg()[0]
    return info


def versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def _fresh(peer: str, net: str) -> dict[str, float]:
    """Load time and resident memory of one peer in a process of its own."""
    command = [sys.executable, __file__, FRESH, peer, "--net", net]
    with tempfile.TemporaryDirectory(prefix="sedge-") as folder:
        so = Path(folder) / "model.so"
        if peer == OURS:
            so.write_bytes(nets.compiled(net))
        environment = {**os.environ, SO: str(so)}
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=300, env=environment
        )
    found = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 and done.stdout else {}
    return {key: round(value, 1) for key, value in found.items()}


def _print_fresh(peer: str, net: str) -> None:
    graph = nets.build(net)
    so = Path(os.environ[SO]).read_bytes() if peer == OURS else b""
    before = memory()["peak_rss_bytes"]
    start = time.perf_counter()
    if peer == OURS:
        model, x = _core.Model(so), np.zeros(graph.input.length, np.int8)
        call: Callable[[], object] = partial(model.run, x)
    else:
        call = PEERS[peer][0](graph).call
    load = time.perf_counter() - start
    call()
    after = memory()["peak_rss_bytes"]  # not ru_maxrss, which a process inherits from the one that started it
    print(
        json.dumps(
            {
                "load_ms": load * 1e3,
                "rss_mib": after / 2**20,
                "rss_over_start_mib": (after - before) / 2**20,
            }
        )
    )


def _row(name: str, net: str, dtype: str, t: timing.Timing) -> dict[str, Any]:
    return {
        "name": name,
        "model": net,
        "dtype": dtype,
        "median_us": round(t.median_us, 2),
        "p99_us": round(t.p99_us, 2),
        "min_us": round(t.min_us, 2),
        "calls": t.calls,
    }


def measure(net: str, *, rounds: int, burst: int, spectra: int) -> dict[str, Any]:
    """All rows of one net; `spectra` are compared with ONNX Runtime."""
    graph = nets.build(net)
    own, default = runtimes.ours(net)
    own_float = fp32.ours(graph)
    peers: dict[str, runtimes.Side] = {}
    absent: list[dict[str, Any]] = []
    for name, (make, _) in PEERS.items():
        try:
            peers[name] = make(graph)
        except runtimes.Absent as reason:
            absent.append({"name": name, "model": net, "reason": str(reason)})
    peaks = peak.rows(graph.macs)

    calls = {name: call for name, (_, call) in peaks.items()}
    calls |= {f"libsedge {isa}": side.call for isa, side in own.items() if isa != "scalar"}
    calls |= {f"libsedge fp32 {isa}": side.call for isa, side in own_float.items() if isa != "scalar"}
    calls |= {name: side.call for name, side in peers.items()}
    times = timing.interleaved(calls, rounds=rounds, burst=burst)
    if "scalar" in own:
        slow = {"libsedge scalar": own["scalar"].call, "libsedge fp32 scalar": own_float["scalar"].call}
        times |= timing.interleaved(slow, rounds=2, burst=3, warmup=1)

    x = random_inputs(graph, 7, 64)
    want = reference.run(graph, x)
    cells = different = 0
    for side in own.values():
        got = np.stack([side.answer(row) for row in x])
        cells, different = cells + got.size, different + int((got != want).sum())

    rows: dict[str, Any] = {"net": net, "macs": graph.macs, "default_isa": default, "absent": absent}
    rows["exact"] = {"cells": cells, "different": different}
    if "onnxruntime int8" in peers:
        pieces = exact.pieces_of(exact.OUT)  # `make agreement` leaves 10,000 there
        count = max(spectra, exact.finished(pieces, net))
        rows["onnxruntime"] = exact.compare([net], count, pieces)[net]
    rows["peaks"] = [
        _row(n, net, dtype, times[n]) | {"gmac_s": round(graph.macs / times[n].min_us / 1e3)}
        for n, (dtype, _) in peaks.items()
    ]
    rows["ours"], rows["peers"] = [], []
    for isa, side in own.items():
        t = times[f"libsedge {isa}"]
        row = _row(f"libsedge {isa}", net, "int8", t) | {"isa": isa, "arena_bytes": side.arena_bytes}
        bound = peak.BOUND.get(isa)
        if bound in times:
            row |= {"bound": bound, "peak_fraction": round(whole.share(net, isa).round_by_round, 3)}
        rows["ours"].append(row | {"model_bytes": side.model_bytes})
    for isa, side in own_float.items():
        row = _row(f"libsedge fp32 {isa}", net, "float32", times[f"libsedge fp32 {isa}"]) | {"isa": isa}
        rows["ours"].append(row | fp32.details(isa, side, peers, x, times, row["min_us"]))
    for name, side in peers.items():
        answers = np.stack([side.answer(row) for row in x]).astype(np.float64)
        row = _row(name, net, side.dtype, times[name]) | {"model_bytes": side.model_bytes}
        row["installed_mib"] = runtimes.installed_mib(PEERS[name][1])
        row["largest_logit_difference"] = round(float(np.abs(answers - want).max()), 3)
        row["different_cells"] = int((np.rint(answers) != want).sum())
        rows["peers"].append(row | _fresh(name, net))
    installed, loaded = {"installed_mib": runtimes.installed_mib("libsedge")}, _fresh(OURS, net)
    rows["ours"] = [row | installed | (loaded if row["dtype"] == "int8" else {}) for row in rows["ours"]]
    return rows


def _fastest(rows: list[dict[str, Any]], dtype: str, key: str) -> float:
    return min((row[key] for row in rows if row["dtype"] == dtype), default=float("nan"))


def summary(nets_: list[dict[str, Any]]) -> dict[str, Any]:
    """ratio, peak_fraction and exact of the whole run; the headline is M where it was measured."""
    by_net = {}
    for rows in nets_:
        ours = next(row for row in rows["ours"] if row["isa"] == rows["default_isa"])
        quantised = {r["isa"]: r.get("peak_fraction") for r in rows["ours"] if r["dtype"] == "int8"}
        by_net[rows["net"]] = {
            f"{kind}_{stat}": round(_fastest(rows["peers"], dtype, f"{stat}_us") / ours[f"{stat}_us"], 2)
            for kind, dtype in (("fastest_peer_int8", "int8"), ("our_int8_to_fastest_peer_fp32", "float32"))
            for stat in ("median", "min")
        } | {"isa": ours["isa"], "peak_fraction": quantised, **fp32.ratios(rows["peers"], rows["ours"])}
    head = by_net.get("M", next(iter(by_net.values())))
    return {
        "ratio": {
            "fastest_peer_int8": head["fastest_peer_int8_median"],
            "fastest_peer_int8_min": head["fastest_peer_int8_min"],
            "fastest_peer_fp32": head["fastest_peer_fp32_median"],
            "fastest_peer_fp32_min": head["fastest_peer_fp32_min"],
            "our_int8_to_fastest_peer_fp32": head["our_int8_to_fastest_peer_fp32_median"],
            "by_net": by_net,
        },
        "peak_fraction": {"int8": head["peak_fraction"].get("avx512vnni"), "by_isa": head["peak_fraction"]},
        "exact": {
            "cells": sum(rows["exact"]["cells"] for rows in nets_),
            "different": sum(rows["exact"]["different"] for rows in nets_),
            "onnxruntime": exact.summary({r["net"]: r["onnxruntime"] for r in nets_ if "onnxruntime" in r}),
        },
    }


def show(rows: dict[str, Any]) -> None:
    print(f"\n{rows['net']}: {rows['macs']:,} MACs; default {rows['default_isa']}; {rows['exact']}")
    print(f"{'':28}{'median us':>11}{'p99':>9}{'min':>9}{'GMAC/s':>9}")
    for row in sorted([*rows["peaks"], *rows["ours"], *rows["peers"]], key=lambda r: r["min_us"]):
        rate = rows["macs"] / row["min_us"] / 1e3
        extra = f"  {row['peak_fraction']:.0%} of {row['bound']}" if "bound" in row else ""
        print(
            f"{row['name']:28}{row['median_us']:11.1f}{row['p99_us']:9.1f}{row['min_us']:9.1f}{rate:9.0f}{extra}"
        )
    for row in rows["absent"]:
        print(f"{row['name']:28} did not run: {row['reason']}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--net", action="append", choices=list(nets.NETS), help="default: all")
    parser.add_argument(
        "--full", action="store_true", help="eight times the rounds, and 1,000 spectra beside ONNX Runtime"
    )
    parser.add_argument("--out", type=Path, default=results.BENCH)
    parser.add_argument(FRESH, metavar="PEER", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    chosen = arguments.net or list(nets.NETS)
    core = timing.pin_to_one_core()
    if arguments.fresh:
        _print_fresh(arguments.fresh, chosen[0])
        return
    measured = []
    for net in chosen:
        rounds = (100 if arguments.full else 12) // (2 if net == "L" else 1)
        spectra = 1000 if arguments.full else 250
        measured.append(measure(net, rounds=rounds, burst=40, spectra=spectra))
        show(measured[-1])
    document = {"machine": machine() | {"pinned_to_core": core}, "versions": versions(), "weights": "random"}
    document["mode"] = "full" if arguments.full else "short"
    document["peers"] = [row for rows in measured for row in rows["peers"] + rows["absent"]]
    document["ours"] = [row for rows in measured for row in rows["ours"]]
    document["peaks"] = [row for rows in measured for row in rows["peaks"]]
    document |= summary(measured)
    document["binding_us"] = {net: round(runtimes.binding_us(net), 2) for net in chosen}
    results.write(document, arguments.out)
    print(f"\nratio {json.dumps(document['ratio'], indent=1)}\nwritten: {arguments.out}")


if __name__ == "__main__":
    main()
