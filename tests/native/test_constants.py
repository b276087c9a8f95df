"""One table of weights for the kernels of a machine: what is in it, and that kernels still agree with the reference."""

from __future__ import annotations

import numpy as np
from libsedge_native import reference, toolchain, verify
from libsedge_native.generate import generate
from libsedge_native.ir import GlobalAveragePool, Graph, Quant, Tensor
from libsedge_native.passes import lower
from libsedge_native.random_graph import random_inputs

from .random_conv import conv


def wide_windows() -> Graph:
    """Windows of avx2 and sse41 short enough to be widened to the stack, and longer ones; a dense layer."""
    ops = (
        conv("widened", (512, 8, 5), 1, pads=(2, 2)),
        conv("too_long", (24, 512, 3), 2, pads=(1, 1)),
        conv("spread", (20, 24, 3), 3, dilation=4, pads=(4, 4)),
        GlobalAveragePool("gap", Quant(0.3, 0)),
    )
    return Graph("wide", Tensor(8, 21, Quant(0.1, -9)), ops)


def test_kernels_of_one_machine_share_their_constants() -> None:
    graph = wide_windows()
    kernels = lower(graph).kernels
    shared = [k for k in kernels if k.table]
    assert [k.isa for k in shared] == [k.isa for k in kernels if k.isa != "scalar"]
    assert len({id(k.table) for k in shared}) == 1
    table = shared[0].constants
    assert len({c.name for c in table}) == len(table)
    assert len({(c.ctype, c.name.split("_avx2")[0]) for c in table}) == len(table), "no ISA has one to itself"
    for kernel in shared:
        assert {id(c) for step in kernel.steps for c in step.constants} <= {id(c) for c in table}
    stored = {c.name: c.ctype for c in table if "_weight" in c.name}
    assert stored == {
        "widened_weight": "int8_t",
        "widened_weight_avx2": "int16_t",
        "too_long_weight": "int8_t",
        "spread_weight": "int8_t",
        "spread_weight_avx2": "int16_t",
    }
    assert len(lower(graph, ("neon",)).kernels[0].constants) == 4 * 3 + 1


def test_long_windows_and_shared_groups_are_exact() -> None:
    graph = wide_windows()
    generated = generate(graph, isas=("avxvnni", "avx2", "sse41"))
    check = verify.verify_kernel(toolchain.compile_shared(generated, extra_flags=("-O1",)), graph, count=6)
    assert check.equal, check
    assert len(np.unique(reference.run(graph, random_inputs(graph, 0, 6)))) > 8, (
        "a saturated net proves nothing"
    )
