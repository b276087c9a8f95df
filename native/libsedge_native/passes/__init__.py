"""From graph to kernels: one pure `Program -> Program` function a file, in one order.

A pass's docstring says when it is legal. Everything the generated source contains is decided here; the
emitter prints.
"""

from __future__ import annotations

from collections.abc import Callable

from libsedge_native.ir import Graph
from libsedge_native.lowered import Optimise, Program
from libsedge_native.passes.dense_as_conv import dense_as_conv
from libsedge_native.passes.fuse_pool import fuse_pool
from libsedge_native.passes.lower_scalar import lower_scalar
from libsedge_native.passes.lower_vector import lower_vector
from libsedge_native.passes.matrix_tiles import drop_idle_tiles
from libsedge_native.passes.plan_memory import plan_memory
from libsedge_native.passes.share_constants import share_constants
from libsedge_native.passes.stream import stream

#: instruction sets of x86-64 besides "scalar", fastest first: what is built by default; those of the other
#: machines are in targets.py
VECTOR_ISAS: tuple[str, ...] = ("amx", "avx512vnni", "avxvnni", "avx2", "sse41")

PIPELINE: tuple[Callable[[Program], Program], ...] = (
    dense_as_conv,
    fuse_pool,
    drop_idle_tiles,
    lower_vector,
    lower_scalar,
    stream,
    plan_memory,
    share_constants,
)


def lower(graph: Graph, isas: tuple[str, ...] | None = None, optimise: Optimise = "speed") -> Program:
    """Run every pass of PIPELINE in order; `isas` limits the kernels besides "scalar" (None: VECTOR_ISAS)."""
    program = Program(graph, VECTOR_ISAS if isas is None else isas, optimise)
    for apply in PIPELINE:
        program = apply(program)
    return program
