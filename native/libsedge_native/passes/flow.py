"""How the steps of a vector kernel make their rows, and an estimate of what that costs.

The cycles are of one core with AVX-512 VNNI (docs/performance.md, "Memory"); only their proportions matter, and only
for how layers are streamed.
"""

from __future__ import annotations

from libsedge_native.ir import AveragePool1d, Conv1d, MaxPool1d, Tensor
from libsedge_native.lowered import Flow, Stage
from libsedge_native.passes.matrix_tiles import BLOCK, BLOCK_END, PRODUCTS, ROW
from libsedge_native.passes.tile import VectorIsa

#: a call beside its rows: of any step, and of every panel of a convolution (pointers, first loads, the loop's end)
CALL, PANEL = 10.0, 12.0
#: products of a cycle: two registers of lanes times four bytes, of which 80 % are reached; half with 16-bit weights
REACHED = 2 * 4 * 0.8


def _margins(margins: dict[str, int]) -> tuple[int, int, int]:
    return margins.get("y_left", 0), margins.get("y_right", 0), margins.get("y_slack", 0)


def input_flow(x: Tensor, width: int, margins: dict[str, int]) -> Flow | None:
    if x.length == 1:
        return None
    return Flow(x.length, width, *_margins(margins), row_cycles=0.1 * width, call_cycles=CALL)


def conv_flow(
    stage: Stage,
    conv: Conv1d,
    isa: VectorIsa,
    channels: int,
    window: int,
    tile_rows: int,
    matrix: bool,
    wide: bool,
    margins: dict[str, int],
) -> Flow | None:
    """window : bytes of one, as the kernel reads it; margins : none where the rows are only summed up."""
    if stage.y.length == 1:
        return None
    span = conv.dilation * (conv.weight.shape[2] - 1) + 1 + (stage.pool - 1) * conv.stride
    registers = channels / isa.lanes
    if matrix:
        unit = BLOCK // stage.pool
        row = channels / 16 * (window / ROW * PRODUCTS + BLOCK_END) / unit
        call = CALL + 2 * PANEL * channels / 32
    else:
        unit = tile_rows // stage.pool
        reached = REACHED / (2 if wide else 1)
        row = stage.pool * registers * window / reached
        call = CALL + PANEL * registers / min(4, registers)
    return Flow(
        stage.y.length,
        channels if margins else 0,
        *_margins(margins),
        window=span,
        hop=conv.stride * stage.pool,
        pad=conv.pads[0],
        unit=unit,
        row_cycles=row,
        call_cycles=call,
    )


def window_flow(
    stage: Stage, op: Conv1d | MaxPool1d | AveragePool1d, width: int, margins: dict[str, int]
) -> Flow | None:
    """A depthwise convolution or a pool: plain loops, any number of rows."""
    if stage.y.length == 1:
        return None
    if isinstance(op, Conv1d):
        span = op.dilation * (op.weight.shape[2] - 1) + 1 + (stage.pool - 1) * op.stride
        hop, taps = op.stride * stage.pool, op.weight.shape[2] * stage.pool
    else:
        span, hop, taps = op.kernel, op.stride, op.kernel
    return Flow(
        stage.y.length,
        width,
        *_margins(margins),
        window=span,
        hop=hop,
        pad=op.pads[0],
        row_cycles=width / 16 * 7.0 * taps,
        call_cycles=CALL,
    )


def sum_flow(x: Tensor, width: int) -> Flow | None:
    if x.length == 1:
        return None
    return Flow(x.length, 0, row_cycles=width / 16, call_cycles=CALL)
