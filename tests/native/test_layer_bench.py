"""`libsedge bench --layers`: every step of a kernel, its work, and the limit that was measured beside it."""

from __future__ import annotations

import numpy as np
import pytest
from libsedge import _core
from libsedge.errors import ToolchainError
from libsedge_native import layer_bench, peak, toolchain
from libsedge_native.float_graph import dequantised
from libsedge_native.generate import generate
from libsedge_native.ir import Conv1d, Dense
from libsedge_native.onnx_export import to_onnx
from libsedge_native.random_graph import random_graph

SEED = 12


def test_rows_are_the_steps_and_their_work_is_the_graphs() -> None:
    graph = random_graph(SEED)
    rows = layer_bench.measure(to_onnx(graph), ["scalar", "avx2", "neon"], rounds=2)
    by_isa = {isa: [row for row in rows if row["isa"] == isa] for isa in ("scalar", "avx2", "neon")}
    assert not by_isa["neon"]
    macs = sum(
        op.weight.size * (op.output(*graph.sources(op)).length if isinstance(op, Conv1d) else 1)
        for op in graph.ops
        if isinstance(op, (Conv1d, Dense))
    )
    assert sum(row["macs"] for row in by_isa["scalar"]) == macs > 0
    assert sum(row["min_us"] for row in by_isa["scalar"]) > 0
    weights = sum(op.weight.size for op in graph.ops if isinstance(op, (Conv1d, Dense)))
    assert sum(row["bytes"] for row in by_isa["scalar"]) > weights
    if "peak madd ymm" in peak.rows(1000):
        heavy = max(by_isa["avx2"], key=lambda row: row["macs"])
        assert heavy["bound"] == "peak madd ymm"
        assert heavy["gmac_s"] <= 1.5 * heavy["limit_gmac_s"]
    text = layer_bench.text_of(rows)
    assert all(f"{row['macs']:,}" in text for row in rows)


def test_a_float32_net_too() -> None:
    graph = dequantised(random_graph(SEED))
    rows = layer_bench.measure(graph, ["scalar", "avx2"], rounds=2, precision="float32")
    assert {row["isa"] for row in rows} <= {"scalar", "avx2"}
    scalar = [row for row in rows if row["isa"] == "scalar"]
    macs = sum(row["macs"] for row in layer_bench.measure(random_graph(SEED), ["scalar"], rounds=2))
    assert sum(row["macs"] for row in scalar) == macs
    assert sum(row["min_us"] for row in scalar) > 0
    if "peak fma ymm" in peak.rows(1000):
        assert {row["bound"] for row in rows if row["isa"] == "avx2" and "bound" in row} == {"peak fma ymm"}


def test_the_instrumented_net_still_computes_the_same() -> None:
    graph = random_graph(SEED)
    x = np.zeros(graph.input.channels * graph.input.length, np.int8)
    plain = generate(graph, isas=())
    first, second = (
        _core.Model(toolchain.compile_shared(model, extra_flags=("-O1",))).run(x)
        for model in (plain, layer_bench.instrumented(plain))
    )
    assert (first == second).all()


def test_a_compiler_that_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ToolchainError, match="no-such-compiler"):
        layer_bench.measure(random_graph(SEED), ["scalar"])
