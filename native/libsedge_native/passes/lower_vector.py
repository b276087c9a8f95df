"""The vector kernels: uint8 (x86) or int8 (ARM) activations, [position][channel], register tiles
(include/libsedge/vector_net.inc).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from libsedge_native.ir import Conv1d, GlobalAveragePool, MaxPool1d, Tensor
from libsedge_native.lowered import INPUT, LOGITS, Buffer, Constant, Kernel, Program, Stage, Step
from libsedge_native.passes.describe import describe
from libsedge_native.passes.matrix_tiles import on_tiles, run_unit
from libsedge_native.passes.pack_weights import pack
from libsedge_native.passes.tile import VECTOR_ISAS, VectorIsa, choose_tile
from libsedge_native.reference import average_multiplier


@dataclass
class _Chain:
    """Steps and buffers so far; `width` is the bytes of one position of the last buffer."""

    isa: VectorIsa
    width: int
    steps: list[Step] = field(default_factory=list)
    buffers: list[Buffer] = field(default_factory=list)

    def add(
        self,
        kind: str,
        name: str,
        comment: tuple[str, ...],
        shape: dict[str, int],
        size: int,
        constants: tuple[Constant, ...] = (),
        types: tuple[str, str] = ("uint8_t", "uint8_t"),
    ) -> None:
        """Append a step that fills a new buffer of `size` bytes; size 0 is the logits."""
        source = len(self.buffers) - 1
        target = len(self.buffers) if size else LOGITS
        self.steps.append(
            Step(
                kind,
                name,
                comment,
                tuple(shape.items()),
                constants,
                INPUT if source < 0 else source,
                target,
                *types,
            )
        )
        if size:
            self.buffers.append(Buffer(size))


def _split_wide_pools(stages: tuple[Stage, ...], isa: VectorIsa) -> tuple[Stage, ...]:
    """A pool wider than any tile runs as a step of its own."""
    out: list[Stage] = []
    for stage in stages:
        conv = stage.conv
        if conv is not None and stage.pool > isa.rows[1]:
            middle = conv.output(stage.x)
            out += [Stage((conv,), stage.x, middle), Stage(stage.ops[1:], middle, stage.y)]
        else:
            out.append(stage)
    return tuple(out)


def _margins(stages: tuple[Stage, ...], after: int, width: int, zero: int, isa: VectorIsa) -> dict[str, int]:
    """Padding that the consumer of a buffer needs: positions before and behind, bytes of overrun."""
    conv = stages[after].conv if after < len(stages) else None
    left, right, slack = 0, 0, 0
    if conv is not None:
        left, right = conv.pads
        run = width * (conv.weight.shape[2] if conv.dilation == 1 else 1)
        slack = -run % run_unit(stages[after], isa)
    return {"y_left": left, "y_right": right, "y_slack": slack, "y_zero": zero + isa.byte_offset}


def _size(length: int, width: int, margins: dict[str, int]) -> int:
    return (margins["y_left"] + length + margins["y_right"]) * width + margins["y_slack"]


def _padded_to(count: int, unit: int) -> int:
    return -(-count // unit) * unit


def _add_conv(chain: _Chain, stages: tuple[Stage, ...], i: int, conv: Conv1d) -> bool:
    """A convolution with its pool; returns whether the global average behind it was fused too."""
    stage, isa = stages[i], chain.isa
    channels = _padded_to(stage.y.channels, max(isa.lanes, 16))
    tile = choose_tile(isa, channels // isa.lanes, stage.y.length, stage.pool)
    assert tile is not None
    matrix = on_tiles(stage, isa)
    vectors = 1 if matrix else tile.vectors  # tiles take one register of channels each
    packed = pack(conv, stage.x, chain.width, channels, vectors, isa, run_unit(stage, isa))
    fused = i + 1 < len(stages) and isinstance(stages[i + 1].ops[0], GlobalAveragePool)
    margins = _margins(stages, i + 1, channels, conv.quant.zero_point, isa)
    shape = {
        "out_length": stage.y.length,
        "channels": channels,
        "x_stride": conv.stride * chain.width,
        "runs": packed.runs,
        "run_steps": packed.run_steps,
        "run_stride": conv.dilation * chain.width,
        "pool": stage.pool,
        **({} if matrix else {"rows": tile.rows, "vectors": tile.vectors}),
        "biased": int(packed.biased),
        "sum": int(fused),
        **margins,
        "y_low": (conv.quant.zero_point if conv.relu else -128) + isa.byte_offset,
    }
    constants: list[Constant] = [
        Constant(f"{stage.name}_weight", isa.weight_ctype, packed.weight),
        Constant(f"{stage.name}_bias", "int32_t", packed.bias),
        Constant(f"{stage.name}_multiplier", "float", packed.multiplier),
        Constant(f"{stage.name}_offset", "float", packed.offset),
    ]
    size = channels * 4 if fused else _size(stage.y.length, channels, margins)
    types = ("uint8_t", "int32_t" if fused else "uint8_t")
    kind = "conv1d_tiles" if matrix else "conv1d"
    chain.add(kind, stage.name, describe(stage), shape, size, tuple(constants), types)
    chain.width = channels
    return fused


def _add_average(
    chain: _Chain, stages: tuple[Stage, ...], i: int, op: GlobalAveragePool, summed: bool
) -> None:
    stage, width = stages[i], chain.width
    if not summed:
        shape: dict[str, int] = {"channels": width, "in_length": stage.x.length}
        comment = ("sums over all positions",)
        chain.add("sum", f"sedge_sum_{stage.name}", comment, shape, width * 4, types=("uint8_t", "int32_t"))
    margins = _margins(stages, i + 1, width, op.quant.zero_point, chain.isa)
    shape = {
        "channels": width,
        "in_length": stage.x.length,
        "x_zero": stage.x.quant.zero_point + chain.isa.byte_offset,
        **margins,
    }
    scale = average_multiplier(stage.x.quant.scale, op.quant.scale, stage.x.length)
    constant = Constant(f"{stage.name}_multiplier", "float", np.array([scale], np.float32))
    size = _size(1, width, margins)
    chain.add("average", stage.name, describe(stage), shape, size, (constant,), ("int32_t", "uint8_t"))


def _add_pool(chain: _Chain, stages: tuple[Stage, ...], i: int, op: MaxPool1d) -> None:
    stage, width = stages[i], chain.width
    margins = _margins(stages, i + 1, width, stage.y.quant.zero_point, chain.isa)
    shape = {
        "channels": width,
        "out_length": stage.y.length,
        "kernel": op.kernel,
        "stride": op.stride,
        **margins,
    }
    chain.add("max_pool", stage.name, describe(stage), shape, _size(stage.y.length, width, margins))


def _input_width(x: Tensor, stages: tuple[Stage, ...]) -> int:
    """Bytes a position: the channels as they are, or whole groups of four where taps are read one by one."""
    for stage in stages:
        if stage.conv is not None:
            return x.channels if stage.conv.dilation == 1 else _padded_to(x.channels, 4)
    return x.channels


def _lower(program: Program, isa: VectorIsa) -> Kernel:
    x = program.graph.input
    stages = _split_wide_pools(program.stages, isa)
    chain = _Chain(isa, _input_width(x, stages))
    margins = _margins(stages, 0, chain.width, x.quant.zero_point, isa)
    shape = {"in_channels": x.channels, "in_length": x.length, "channels": chain.width, **margins}
    flipped = ", top bit flipped" if isa.byte_offset else ""
    comment = (f"int8 [channels][position] to {isa.activation} [position][channel]{flipped}",)
    chain.add(
        "input",
        "sedge_input",
        comment,
        shape,
        _size(x.length, chain.width, margins),
        types=("int8_t", "uint8_t"),
    )
    summed = False
    for i, stage in enumerate(stages):
        op: Any = stage.ops[0]
        if isinstance(op, Conv1d):
            summed = _add_conv(chain, stages, i, op)
        elif isinstance(op, MaxPool1d):
            _add_pool(chain, stages, i, op)
        else:
            _add_average(chain, stages, i, op, summed)
            summed = False
    comment = (f"{isa.activation} to int8 logits",)
    shape = {"classes": program.graph.output.channels}
    chain.add("output", "sedge_output", comment, shape, 0, types=("uint8_t", "int8_t"))
    return Kernel(isa.name, tuple(chain.steps), tuple(chain.buffers))


def lower_vector(program: Program) -> Program:
    """One kernel for every vector instruction set the program asks for, in that order.

    Legal always: groups become zeros between channels, dilation separate runs, a pool that no tile can hold a
    step of its own; each of these is the same int32 sum.
    """
    for name in program.isas:
        program = replace(program, kernels=(*program.kernels, _lower(program, VECTOR_ISAS[name])))
    return program
