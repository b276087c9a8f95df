"""From graph to kernels: one pure `Program -> Program` function a file, in one order.

A pass's docstring says when it is legal. Everything the generated source contains is decided here; the
emitter prints.
"""

from __future__ import annotations

from collections.abc import Callable

from libsedge_native.ir import Graph
from libsedge_native.lowered import Optimise, Program
from libsedge_native.passes.dense_as_conv import dense_as_conv
from libsedge_native.passes.float_scalar import float_scalar
from libsedge_native.passes.float_vector import float_vector
from libsedge_native.passes.fuse_pool import fuse_pool
from libsedge_native.passes.lower_scalar import lower_scalar
from libsedge_native.passes.lower_vector import lower_vector
from libsedge_native.passes.matrix_tiles import drop_idle_tiles
from libsedge_native.passes.plan_memory import plan_memory
from libsedge_native.passes.share_constants import share_constants
from libsedge_native.passes.stream import stream
from libsedge_native.passes.tile import FLOAT_ISAS

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


#: of a float32 net. fuse_pool is legal here because adding the bias and the ReLU round monotonically, so both commute
#: with the maximum.
FLOAT_PIPELINE: tuple[Callable[[Program], Program], ...] = (
    dense_as_conv,
    fuse_pool,
    float_vector,
    float_scalar,
    plan_memory,
)


def lower(graph: Graph, isas: tuple[str, ...] | None = None, optimise: Optimise = "speed") -> Program:
    """Run every pass of PIPELINE, or of FLOAT_PIPELINE where the graph is float32, in order.

    isas : the kernels besides "scalar", as users name them; None: VECTOR_ISAS, all of a float32 net.
    """
    if graph.is_float:
        names = tuple(FLOAT_ISAS) if isas is None else tuple(f"float_{name}" for name in isas)
        program, pipeline = Program(graph, names, optimise), FLOAT_PIPELINE
    else:
        program, pipeline = Program(graph, VECTOR_ISAS if isas is None else isas, optimise), PIPELINE
    for apply in pipeline:
        program = apply(program)
    return program
