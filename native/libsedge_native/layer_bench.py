"""Where the time goes: every step of a kernel alone, with its multiply-accumulates, bytes and share of the limit.

The steps are called from the generated source itself, compiled again with one more exported function, each repeated in
the arena that a whole run has filled, so weights and activations are as warm as a step's own working set lets them
be. Steps are measured in turn with the register-only loop that bounds them (`peak.py`).
"""

from __future__ import annotations

import ctypes
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from libsedge import _core
from libsedge.bundle import target
from libsedge.errors import ToolchainError
from libsedge.manifest import Precision

from libsedge_native import peak, timing, toolchain
from libsedge_native.generate import GeneratedModel, default_goldens, generate, read_model
from libsedge_native.ir import Graph
from libsedge_native.lowered import Kernel
from libsedge_native.passes import lower
from libsedge_native.targets import target_of

REPEATS = 16
_KERNEL = re.compile(r"^namespace net_(\w+) \{$", re.MULTILINE)
_RUN = re.compile(r"^void run\(const (\w+)\* input.*?\n}\n", re.DOTALL | re.MULTILINE)


def instrumented(generated: GeneratedModel) -> GeneratedModel:
    """The same sources with one more exported function a kernel: run step `n` `repeats` times."""
    text = generated.files["model.cpp"]
    extra = []
    for kernel in _KERNEL.finditer(text):
        isa, body = kernel[1], _RUN.search(text, kernel.end())
        calls = re.findall(r"^    (layer_.*;)$", body[0], re.MULTILINE) if body else []
        if body is None or not calls:
            raise ToolchainError("the generated source has no list of steps", field="isa", value=isa)
        cases = "".join(
            f"    case {i}: for (uint64_t i = 0; i < repeats; ++i) net_{isa}::{call} break;\n"
            for i, call in enumerate(calls)
        )
        extra.append(
            f"#if defined(SEDGE_HAVE_{isa})\n"
            f'extern "C" SEDGE_API void bench_{isa}(int n, uint64_t repeats, const {body[1]}* input, '
            f"{body[1]}* logits, void* arena) {{\n    auto* const bytes = static_cast<uint8_t*>(arena);\n"
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


def _bound(isa: str, kind: str) -> str:
    """The loop that bounds a step: of an AMX kernel's steps, only those on tiles meet the tiles' limit."""
    return peak.BOUND.get("avx512vnni" if isa == "amx" and not kind.endswith("_tiles") else isa, "")


def measure(
    model: Graph | bytes, isas: Sequence[str], *, rounds: int = 20, precision: Precision = "int8"
) -> list[dict[str, Any]]:
    """Rows of the steps of each instruction set, in the order they run.

    step, kind, macs, bytes (constants and both buffers), min_us and median_us of `rounds` bursts; where a loop of
    `peak.py` bounds the step also bound, gmac_s, limit_gmac_s and fraction (of float32 it may be above 1: a Toom-Cook
    step multiplies less often than its macs say). Names that this machine does not run, or that the net has no kernel
    for, have no rows. Needs a C++ compiler: ToolchainError.
    """
    graph = read_model(model, precision).graph if isinstance(model, bytes) else model
    built = tuple(isa for isa in target_of(target()).kernels(precision) if isa in isas)
    generated = instrumented(generate(graph, isas=built, optimise="layers", precision=precision))
    program = lower(graph, built, "layers")
    macs = {
        s.name: s.conv.weight.size * s.conv.output(s.x).length for s in program.stages if s.conv is not None
    }
    with tempfile.TemporaryDirectory(prefix="sedge-") as folder:
        path = Path(folder) / "model.so"
        so = toolchain.compile_shared(generated)
        path.write_bytes(so)
        library = ctypes.CDLL(str(path))
    kind = _core.FloatModel if graph.is_float else _core.Model
    runnable = {isa for isa, runs in kind(so, "scalar").isas if runs}
    x = default_goldens(graph)[0]
    logits = np.zeros(graph.output.channels, x.dtype)
    store = np.zeros(generated.arena_bytes + 64, np.uint8)
    arena = store.ctypes.data + -store.ctypes.data % 64
    limits = peak.rows(100_000_000)
    rows = []
    for kernel in program.kernels:
        if kernel.name not in isas or kernel.name not in runnable:
            continue
        run = getattr(library, f"bench_{kernel.isa}")
        run.argtypes = [ctypes.c_int, ctypes.c_uint64, *[ctypes.c_void_p] * 3]
        pointers = (x.ctypes.data, logits.ctypes.data, arena)
        for n in range(len(kernel.steps)):  # fill the arena as a run does
            run(n, 1, *pointers)
        calls: dict[str, Callable[[], object]] = {"ends": partial(run, -1, 0, *pointers)}
        calls |= {str(n): partial(run, n, REPEATS, *pointers) for n in range(len(kernel.steps))}
        bounds = [_bound(kernel.isa, step.kind) for step in kernel.steps]
        calls |= {name: limits[name][1] for name in bounds if name in limits}
        heavy = max(kernel.steps, key=lambda s: sum(c.values.nbytes for c in s.constants))
        size = sum(c.values.nbytes for c in heavy.constants)
        reader = peak.read(size)
        if reader is not None:
            calls["read"] = reader
        times = timing.interleaved(calls, rounds=rounds, burst=20, warmup=3)
        for n, row in enumerate(_work(kernel, macs)):
            row["isa"], bound = kernel.name, bounds[n]
            for stat in ("median_us", "min_us"):
                value = (getattr(times[str(n)], stat) - getattr(times["ends"], stat)) / REPEATS
                row[stat] = round(max(value, 0.0), 3)
            if bound in times and row["macs"] and row["min_us"]:
                rate = row["macs"] / row["min_us"] / 1e3
                limit = 1e8 / times[bound].min_us / 1e3
                row |= {
                    "bound": bound,
                    "gmac_s": round(rate),
                    "limit_gmac_s": round(limit),
                    "fraction": round(rate / limit, 3),
                }
            if row["step"] == heavy.name and "read" in times:
                row["read_only_us"] = round(times["read"].min_us, 2)
            rows.append(row)
    return rows


def text_of(rows: list[dict[str, Any]]) -> str:
    """The rows as a table."""
    lines = [
        f"{'isa':12}{'step':16}{'kind':14}{'MACs':>12}{'bytes':>11}{'min us':>9}{'median':>9}"
        f"{'GMAC/s':>8}{'of limit':>9}"
    ]
    for r in rows:
        tail = f"{r['gmac_s']:8}{r['fraction']:9.0%}" if "fraction" in r else ""
        if r["bytes"] > 1 << 20 and "read_only_us" in r:
            tail += f"  (reading its constants: {r['read_only_us']:.1f})"
        lines.append(
            f"{r['isa']:12}{r['step']:16}{r['kind']:14}{r['macs']:12,}{r['bytes']:11,}"
            f"{r['min_us']:9.2f}{r['median_us']:9.2f}{tail}"
        )
    return "\n".join(lines)
