"""Where the time goes: every step of a kernel alone, with its multiply-accumulates, bytes and share of the limit.

    python benchmarks/layers.py --net M            tables per instruction set, and build/bench/layers.json

The steps are called from the generated source itself, each repeated in the arena that a whole run has filled, so
weights and activations are as warm as a step's own working set lets them be. Steps are measured in turn.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import re
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import nets
import numpy as np
import peak
from libsedge_native import timing, toolchain
from libsedge_native.generate import GeneratedModel, generate
from libsedge_native.lowered import Kernel
from libsedge_native.passes import lower

REPEATS = 16
_RUN = re.compile(r"void run\(const int8_t\* input.*?\n}\n", re.DOTALL)


def instrumented(generated: GeneratedModel) -> GeneratedModel:
    """The same sources with one more exported function a kernel: run step `n` `repeats` times."""
    text = generated.files["model.cpp"]
    extra = []
    for isa in generated.isas:
        body = _RUN.search(text, text.index(f"namespace net_{isa} {{"))
        assert body is not None
        calls = re.findall(r"^    (layer_.*;)$", body.group(), re.MULTILINE)
        cases = "".join(
            f"    case {i}: for (uint64_t i = 0; i < repeats; ++i) net_{isa}::{call} break;\n"
            for i, call in enumerate(calls)
        )
        extra.append(
            f"#if defined(SEDGE_HAVE_{isa})\n"
            f'extern "C" SEDGE_API void bench_{isa}(int n, uint64_t repeats, const int8_t* input, int8_t* logits, '
            "void* arena) {\n    auto* const bytes = static_cast<uint8_t*>(arena);\n"
            f"    net_{isa}::{calls[0]}\n    switch (n) {{\n{cases}    }}\n    net_{isa}::{calls[-1]}\n}}\n#endif\n"
        )
    return replace(generated, files={**generated.files, "model.cpp": text + "".join(extra)})


def _work(kernel: Kernel, macs: dict[str, int]) -> list[dict[str, Any]]:
    """Name, multiply-accumulates and bytes of every step: constants and both buffers."""
    rows = []
    for step in kernel.steps:
        constants = sum(c.values.nbytes for c in step.constants)
        places = [p.buffer for p in (*step.sources, step.target)]
        buffers = sum(kernel.buffers[b].bytes for b in places if b >= 0)
        rows.append(
            {
                "step": step.name,
                "kind": step.kind,
                "macs": macs.get(step.name, 0),
                "bytes": constants + buffers,
            }
        )
    return rows


def measure(net: str, isas: list[str]) -> list[dict[str, Any]]:
    graph = nets.build(net)
    generated = instrumented(generate(graph))
    program = lower(graph)
    macs = {
        s.name: s.conv.weight.size * s.conv.output(s.x).length for s in program.stages if s.conv is not None
    }
    with tempfile.TemporaryDirectory(prefix="sedge-") as folder:
        path = Path(folder) / "model.so"
        path.write_bytes(toolchain.compile_shared(generated))
        library = ctypes.CDLL(str(path))
    rng = np.random.default_rng(0)
    x = rng.integers(-128, 128, graph.input.length).astype(np.int8)
    logits = np.zeros(graph.output.channels, np.int8)
    store = np.zeros(generated.arena_bytes + 64, np.uint8)
    arena = store.ctypes.data + -store.ctypes.data % 64
    limits = peak.rows(100_000_000)
    rows = []
    for kernel in program.kernels:
        if kernel.isa not in isas or (kernel.isa in peak.BOUND and peak.BOUND[kernel.isa] not in limits):
            continue
        run = getattr(library, f"bench_{kernel.isa}")
        run.argtypes = [ctypes.c_int, ctypes.c_uint64, *[ctypes.c_void_p] * 3]
        pointers = (x.ctypes.data, logits.ctypes.data, arena)
        for n in range(len(kernel.steps)):  # fill the arena as a run does
            run(n, 1, *pointers)
        calls = {"ends": partial(run, -1, 0, *pointers)}
        calls |= {str(n): partial(run, n, REPEATS, *pointers) for n in range(len(kernel.steps))}
        bound = peak.BOUND.get(kernel.isa)
        if bound:
            calls["peak"] = limits[bound][1]
        heavy = max(kernel.steps, key=lambda s: sum(c.values.nbytes for c in s.constants))
        size = sum(c.values.nbytes for c in heavy.constants)
        reader = peak.read(size)
        if reader is not None:
            calls["read"] = reader
        times = timing.interleaved(calls, rounds=20, burst=20, warmup=3)
        for n, row in enumerate(_work(kernel, macs)):
            row |= {"net": net, "isa": kernel.isa}
            for stat in ("median_us", "min_us"):
                value = (getattr(times[str(n)], stat) - getattr(times["ends"], stat)) / REPEATS
                row[stat] = round(max(value, 0.0), 3)
            if bound and row["macs"] and row["min_us"]:
                rate = row["macs"] / row["min_us"] / 1e3
                limit = 1e8 / times["peak"].min_us / 1e3
                row |= {
                    "gmac_s": round(rate),
                    "limit_gmac_s": round(limit),
                    "fraction": round(rate / limit, 3),
                }
            if row["step"] == heavy.name and "read" in times:
                row["read_only_us"] = round(times["read"].min_us, 2)
            rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--net", action="append", choices=list(nets.NETS), help="default: M")
    parser.add_argument("--isa", action="append", help="default: amx, avx512vnni, avxvnni")
    parser.add_argument("--out", type=Path, default=Path("build/bench/layers.json"))
    arguments = parser.parse_args()
    timing.pin_to_one_core()
    rows = []
    for net in arguments.net or ["M"]:
        rows += measure(net, arguments.isa or ["amx", "avx512vnni", "avxvnni"])
    head = f"{'net':5}{'isa':12}{'step':14}{'kind':14}{'MACs':>11}{'bytes':>10}{'min us':>9}{'median':>9}"
    print(head + f"{'GMAC/s':>8}{'of limit':>9}")
    for r in rows:
        read = (
            f"  (reading its constants: {r['read_only_us']:.1f})"
            if r["bytes"] > 1 << 20 and "read_only_us" in r
            else ""
        )
        tail = f"{r['gmac_s']:8}{r['fraction']:9.0%}" if "fraction" in r else ""
        tail += read
        print(
            f"{r['net']:5}{r['isa']:12}{r['step']:14}{r['kind']:14}{r['macs']:11,}{r['bytes']:10,}"
            f"{r['min_us']:9.2f}{r['median_us']:9.2f}{tail}"
        )
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
