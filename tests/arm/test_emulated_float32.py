"""float32 models on ARM and on big-endian machines, run under qemu-user: within the tolerance of float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from libsedge.bundle import off
from libsedge.errors import IsaNotBuiltError
from libsedge_native import float_reference
from libsedge_native.emulate import Machine
from libsedge_native.float_graph import dequantised
from libsedge_native.generate import generate
from libsedge_native.ir import Graph
from libsedge_native.random_graph import random_graph
from libsedge_native.toolchain import compile_shared
from numpy.typing import NDArray

STRICT = ("-O1", "-Wall", "-Wextra", "-Wconversion", "-Werror")


def build(graph: Graph, machine: Machine) -> bytes:
    generated = generate(graph, isas=machine.target.kernels("float32"), precision="float32")
    return compile_shared(generated, machine.target.name, STRICT)


def noise(graph: Graph) -> NDArray[np.float32]:
    size = graph.input.channels * graph.input.length
    return np.random.default_rng(7).standard_normal((2, size)).astype(np.float32)


def check(graph: Graph, machine: Machine) -> None:
    """Self-test, scrub and canaries are the emulated program's; see `Machine.run`."""
    shared, x = build(graph, machine), noise(graph)
    want, cpu = float_reference.run(graph, x).astype(np.float32), machine.target.cpus[0][0]
    kernels = (*machine.target.kernels("float32"), "scalar")
    assert machine.isas(shared, cpu) == [(name, True) for name in kernels]
    for isa in kernels:
        assert not off(machine.run(shared, x, isa, cpu), want).any(), isa
    with pytest.raises(IsaNotBuiltError):
        machine.run(shared, x, "avx2", cpu)


def test_the_m_net_is_within_the_tolerance(aarch64: Machine, net: Graph) -> None:
    check(replace(dequantised(net), name="net"), aarch64)


@pytest.mark.parametrize("seed", [10, 18])
def test_random_graphs_are_within_the_tolerance(machine: Machine, seed: int) -> None:
    check(dequantised(random_graph(seed)), machine)
