"""The comparison with ONNX Runtime that `make agreement` runs over 10,000 spectra: a sample, and that it can fail."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from libsedge.errors import ToolchainError
from libsedge_native import toolchain
from libsedge_native.generate import generate
from libsedge_native.ir import Conv1d, Graph, Quant, Tensor
from libsedge_native.resume import Pieces
from libsedge_native.verify import OrtLayers

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    import exact

    yield exact
    for name in ("exact", "nets", "results"):
        sys.modules.pop(name, None)


def test_net_s_equals_onnx_runtime_layer_by_layer_and_a_changed_weight_does_not(exact) -> None:
    row = exact.Net("S").compare(seed=0, count=12)
    assert row["distinct_logits"] > 8, "a saturated net proves nothing"
    assert row["layers"] > 12 * 2 * 16 * 400
    assert row["ops"] > row["layers"] / 12
    assert row["logits_different"] == row["layers_different"] == row["ops_different"] == 0

    graph = exact.nets.build("S")
    weight = graph.ops[0].weight.copy()
    weight[3, 0, 4] += 1
    changed = replace(graph, ops=(replace(graph.ops[0], weight=weight), *graph.ops[1:]))
    so = toolchain.compile_shared(generate(changed, isas=()), extra_flags=("-O1",))
    row = exact.Net("S", so).compare(seed=0, count=4)
    assert row["layers_different"] > 0
    assert row["ops_different"] == 0


def test_a_net_that_onnx_runtime_runs_in_float_is_refused() -> None:
    weight = np.ones((4, 1, 3), np.int8)
    conv = Conv1d(
        "conv", weight, np.zeros(4, np.int32), np.full(4, 0.1, np.float32), Quant(0.1, 0), relu=True
    )
    with pytest.raises(ToolchainError, match=r"float|became"):
        OrtLayers(Graph("relu", Tensor(1, 3, Quant(0.1, 0)), (conv,)), unsigned=False)


def test_a_killed_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "pieces.jsonl"
    Pieces(path, {"work": 1}).add("a", {"cells": 3})
    Pieces(path, {"work": 1}).add("b", {"cells": 4})
    with path.open("ab") as file:
        file.write(b'{"piece": "c", "ce')  # killed while writing
    again = Pieces(path, {"work": 1})
    assert again.done == {"a": {"cells": 3}, "b": {"cells": 4}}
    again.add("c", {"cells": 5})
    assert len(Pieces(path, {"work": 1}).done) == 3
    assert Pieces(path, {"work": 2}).done == {}
