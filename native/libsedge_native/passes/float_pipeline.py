"""From a float32 graph to its kernels: the passes of `passes` that mean the same without quantisation, and its own."""

from __future__ import annotations

from collections.abc import Callable

from libsedge.errors import ModelError

from libsedge_native.ir import Graph
from libsedge_native.lowered import Program
from libsedge_native.passes.dense_as_conv import dense_as_conv
from libsedge_native.passes.float_isas import FLOAT_ISAS
from libsedge_native.passes.float_scalar import float_scalar
from libsedge_native.passes.float_vector import float_vector
from libsedge_native.passes.fuse_pool import fuse_pool
from libsedge_native.passes.plan_memory import plan_memory

#: fuse_pool is legal here because adding the bias and the ReLU round monotonically, so both commute with the maximum
FLOAT_PIPELINE: tuple[Callable[[Program], Program], ...] = (
    dense_as_conv,
    fuse_pool,
    float_vector,
    float_scalar,
    plan_memory,
)


def lower_float(graph: Graph, isas: tuple[str, ...] | None = None) -> Program:
    """Run every pass of FLOAT_PIPELINE in order; `isas` limits the kernels besides "scalar" (None: all).

    isas : names as users write them: "avx512", "avx2", "neon".
    """
    if not graph.is_float:
        raise ModelError("is quantised; passes.lower takes it", field="graph", value=graph.name)
    program = Program(graph, tuple(FLOAT_ISAS) if isas is None else tuple(f"float_{name}" for name in isas))
    for apply in FLOAT_PIPELINE:
        program = apply(program)
    return program
