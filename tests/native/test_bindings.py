"""What the Python shell refuses beside tests/edge/test_core_model.py: misaligned and foreign-endian memory;
and the times of layers."""

from __future__ import annotations

import numpy as np
import pytest
from libsedge import _core
from libsedge.errors import KernelError
from libsedge_native import toolchain
from libsedge_native.generate import generate
from libsedge_native.random_graph import random_graph


def test_misaligned_and_byte_swapped_arrays_are_refused() -> None:
    memory = bytearray(4 * 10 + 1)
    for start in (0, 1):
        values = np.frombuffer(memory, np.float32, 10, start)
        if values.flags.aligned:
            assert _core.quantise(values, 0.5, -3).tolist() == [-3] * 10
        else:
            with pytest.raises(ValueError, match="values: must be aligned to its items' size"):
                _core.quantise(values, 0.5, -3)
    assert not np.frombuffer(memory, np.float32, 10, 1).flags.aligned
    with pytest.raises(TypeError, match=r"values: dtype float32 is needed, not >f4"):
        _core.quantise(np.zeros(10, ">f4"), 0.5, -3)


def test_layer_times_name_the_layers_that_a_trace_shows() -> None:
    graph = random_graph(4)
    so = toolchain.compile_shared(generate(graph, isas=("sse41",)), extra_flags=("-O1",))
    x = np.zeros(graph.input.channels * graph.input.length, np.int8)
    scalar = _core.Model(so, "scalar")
    times = scalar.layer_times(x)
    assert [name for name, _ in times] == [name for name, _ in scalar.trace(x)]
    assert sum(ns for _, ns in times) > 0
    assert all(ns >= 0 for _, ns in times)
    if dict(scalar.isas)["sse41"]:
        with pytest.raises(KernelError, match=r"layer_times: .*only the scalar one can"):
            _core.Model(so, "sse41").layer_times(x)
    with pytest.raises(ValueError, match="input: shape"):
        scalar.layer_times(x[:-1])
