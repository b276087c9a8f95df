"""The float32 vector kernels: [position][channel], register tiles, Toom-Cook where it pays
(include/libsedge/float_net.inc).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from libsedge_native.ir import INPUT as GRAPH_INPUT
from libsedge_native.ir import Add, AveragePool1d, Concat, Conv1d, GlobalAveragePool, MaxPool1d, Tensor
from libsedge_native.lowered import INPUT, LOGITS, Constant, Place, Program, Stage
from libsedge_native.passes.describe import describe
from libsedge_native.passes.float_toom import Scheme, at_points, choose_scheme
from libsedge_native.passes.lowering import Value, VectorLowering, padded_to, split_wide_pools
from libsedge_native.passes.parameters import float_pool
from libsedge_native.passes.tile import FLOAT_ISAS, Tile, VectorIsa, choose_tile

#: bytes of a value
FLOAT = 4

#: places in its weights where a dense layer reads at once: independent sums, so that no multiply-add waits for the
#: one in front of it (1 to 8 measured alike where the weights do not fit the cache)
STREAMS = 4


def is_depthwise(conv: Conv1d, isa: VectorIsa) -> bool:
    """Whether every group has one input and one output channel: a step of its own on every instruction set."""
    return conv.groups > 1 and conv.weight.shape[:2] == (conv.groups, 1)


def _panels(steps: NDArray[np.float64], channels: int, wide: int) -> NDArray[np.float32]:
    """[step, output channel] to [panel][step][channel of the panel], zeros in the padding channels."""
    full = np.zeros((len(steps), channels), np.float32)
    full[:, : steps.shape[1]] = steps
    panels = [full[:, first : first + wide].reshape(-1) for first in range(0, channels, wide)]
    return np.concatenate(panels)


def _window(conv: Conv1d, width: int) -> NDArray[np.float64]:
    """[tap * width + input channel, output channel]; a grouped convolution is a full one with zeros."""
    out, per_group, taps = conv.weight.shape
    window = np.zeros((out, taps, width))
    for o in range(out):
        first = o // (out // conv.groups) * per_group
        window[o, :, first : first + per_group] = conv.weight[o].T
    return window.reshape(out, taps * width).T


def sliding_rows(isa: VectorIsa, runs: int, steps: int, stride: int, stage: Stage) -> int:
    """Rows of a tile whose weights stay in registers (conv1d_sliding), 0 where a window has too many or shares none.

    Legal for one run; done where an input value serves two windows at least. Two registers are kept for the value and
    the bias.
    """
    registers = 32 if isa.rows[1] == 24 else 16
    rows = min(registers - 3 - steps, stage.y.length * stage.pool) // stage.pool * stage.pool
    return rows if runs == 1 and steps >= 2 * stride and rows >= registers // 2 else 0


class _Lowering(VectorLowering):
    CTYPE, BYTES = "float", FLOAT

    def __init__(self, program: Program, isa: VectorIsa) -> None:
        super().__init__(split_wide_pools(program.stages, isa, is_depthwise), isa)

    def margins(self, name: str) -> dict[str, int]:
        """Positions of padding that the convolutions that read a value need."""
        convs = [stage.conv for stage in self.readers(name) if stage.conv is not None]
        return {
            "y_left": max((conv.pads[0] for conv in convs), default=0),
            "y_right": max((conv.pads[1] for conv in convs), default=0),
        }

    def value(self, name: str, length: int, width: int) -> tuple[int, dict[str, int]]:
        """A new buffer for `length` positions; returns it and what to write."""
        margins = self.margins(name)
        buffer = self.buffer((length + sum(margins.values())) * width * FLOAT)
        self.values[name] = Value(buffer, width, margins["y_left"])
        return buffer, {"channels": width, **margins}

    def input(self, x: Tensor) -> None:
        """Transposed, or read as it is where that is the same."""
        plain = all(
            s.conv is not None and choose_scheme(s) is None and not is_depthwise(s.conv, self.isa)
            for s in self.readers(GRAPH_INPUT)
        )
        width = x.channels if plain else padded_to(x.channels, self.isa.lanes)
        if width == 1 and not any(self.margins(GRAPH_INPUT).values()):
            self.values[GRAPH_INPUT] = Value(INPUT, 1)
            return
        target, written = self.value(GRAPH_INPUT, x.length, width)
        shape = {"in_channels": x.channels, "in_length": x.length, **written}
        comment = ("float32 [channels][position] to [position][channel]",)
        self.add("input", "sedge_input", comment, shape, (Place(INPUT),), target)

    def output(self, y: Tensor) -> None:
        source = self.source(self.stages[-1].name)
        shape = {"classes": y.channels}
        self.add("output", "sedge_output", ("float32 logits",), shape, (source,), LOGITS)

    def convolution(self, stage: Stage, conv: Conv1d) -> None:
        scheme = choose_scheme(stage)
        if is_depthwise(conv, self.isa):
            self.depthwise(stage, conv)
        elif stage.y.length * stage.pool == 1 and conv.dilation == 1:
            self.dense(stage, conv)
        elif scheme is not None:
            self.toom(stage, conv, scheme)
        else:
            self.direct(stage, conv)

    def constants(self, stage: Stage, conv: Conv1d, weight: NDArray[np.float32]) -> tuple[Constant, ...]:
        bias = np.zeros(padded_to(stage.y.channels, self.isa.lanes), np.float32)
        bias[: stage.y.channels] = conv.bias
        return (
            Constant(f"{stage.name}_weight", "float", weight),
            Constant(f"{stage.name}_bias", "float", bias),
        )

    def dense(self, stage: Stage, conv: Conv1d) -> None:
        """One output position: legal for dilation 1."""
        isa, width = self.isa, self.values[stage.inputs[0]].width
        channels, steps = padded_to(stage.y.channels, isa.lanes), conv.weight.shape[2] * width
        vectors = min(4 if isa.rows[1] == 24 else 2, channels // isa.lanes)
        target, written = self.value(stage.name, 1, channels)
        shape = {
            "run_steps": steps,
            "streams": STREAMS,
            "vectors": vectors,
            "pool": 1,
            "relu": int(conv.relu),
        }
        weight = _panels(_window(conv, width), channels, vectors * isa.lanes)
        source = self.source(stage.inputs[0], conv.pads[0])
        constants = self.constants(stage, conv, weight)
        self.add("dense", stage.name, describe(stage), shape | written, (source,), target, constants)

    def direct(self, stage: Stage, conv: Conv1d) -> None:
        isa, width = self.isa, self.values[stage.inputs[0]].width
        channels = padded_to(stage.y.channels, isa.lanes)
        taps = conv.weight.shape[2]
        runs, steps = (1, taps * width) if conv.dilation == 1 else (taps, width)
        sliding = sliding_rows(isa, runs, steps, conv.stride * width, stage)
        tile = (
            Tile(sliding, 1)
            if sliding
            else choose_tile(isa, channels // isa.lanes, stage.y.length, stage.pool)
        )
        assert tile is not None
        target, written = self.value(stage.name, stage.y.length, channels)
        shape = {
            "out_length": stage.y.length,
            "x_stride": conv.stride * width,
            "runs": runs,
            "run_steps": steps,
            "run_stride": conv.dilation * width,
            "pool": stage.pool,
            "rows": tile.rows,
            "vectors": tile.vectors,
            "relu": int(conv.relu),
            **written,
        }
        constants = self.constants(
            stage, conv, _panels(_window(conv, width), channels, tile.vectors * isa.lanes)
        )
        source = self.source(stage.inputs[0], conv.pads[0])
        kind = "conv1d_sliding" if sliding else "conv1d"
        self.add(kind, stage.name, describe(stage), shape, (source,), target, constants)

    def toom(self, stage: Stage, conv: Conv1d, scheme: Scheme) -> None:
        isa, width = self.isa, self.values[stage.inputs[0]].width
        channels = padded_to(stage.y.channels, isa.lanes)
        tiles = -(-stage.y.length * stage.pool // scheme.outputs)
        tile = choose_tile(isa, channels // isa.lanes, tiles, 1)
        assert tile is not None
        wide = tile.vectors * isa.lanes
        target, written = self.value(stage.name, stage.y.length, channels)
        scratch = self.buffer(scheme.points * tile.rows * (width + wide) * FLOAT)
        pairs = (*scheme.quarters, 0, 0, 0)
        shape = {
            "out_length": stage.y.length,
            "in_channels": width,
            "outputs": scheme.outputs,
            "pairs": len(scheme.quarters),
            **{f"pair{i}": pairs[i] for i in range(4)},
            "pool": stage.pool,
            "rows": tile.rows,
            "vectors": tile.vectors,
            "relu": int(conv.relu),
            **written,
        }
        steps = np.zeros((scheme.points, width, stage.y.channels))
        steps[:, : stage.x.channels] = at_points(scheme, conv)
        weight = _panels(steps.reshape(-1, stage.y.channels), channels, wide)
        words = (
            f"Toom-Cook F({scheme.outputs}, {scheme.taps}): {scheme.points} products a channel pair and tile"
        )
        source = self.source(stage.inputs[0], conv.pads[0])
        constants = self.constants(stage, conv, weight)
        comment = (*describe(stage), words)
        self.add("conv1d_toom", stage.name, comment, shape, (source,), target, constants, scratch=scratch)

    def depthwise(self, stage: Stage, conv: Conv1d) -> None:
        width = self.values[stage.inputs[0]].width
        taps = conv.weight.shape[2]
        weight = np.zeros((taps, width), np.float32)
        weight[:, : stage.y.channels] = conv.weight[:, 0, :].T
        target, written = self.value(stage.name, stage.y.length, width)
        shape = {
            "out_length": stage.y.length,
            "taps": taps,
            "x_stride": conv.stride * width,
            "tap_stride": conv.dilation * width,
            "pool": stage.pool,
            "relu": int(conv.relu),
            **written,
        }
        source = self.source(stage.inputs[0], conv.pads[0])
        constants = self.constants(stage, conv, weight.reshape(-1))
        self.add("depthwise", stage.name, describe(stage), shape, (source,), target, constants)

    def layer(self, stage: Stage, kind: str, shape: dict[str, int]) -> None:
        """A layer that keeps the channels as they lie."""
        sources, width = self.sources(stage), self.values[stage.inputs[0]].width
        target, written = self.value(stage.name, stage.y.length, width)
        self.add(kind, stage.name, describe(stage), shape | written, sources, target)

    def pool(self, stage: Stage, op: MaxPool1d | AveragePool1d) -> None:
        self.layer(stage, *float_pool(stage, op))

    def sum_of_two(self, stage: Stage, op: Add) -> None:
        self.layer(stage, "sum_of_two", {"length": stage.y.length, "relu": int(op.relu)})

    def global_average(self, stage: Stage, op: GlobalAveragePool) -> None:
        self.layer(stage, "average", {"in_length": stage.x.length})

    def concat(self, stage: Stage, op: Concat) -> None:
        """One step an input; the first one writes the margins too."""
        parts, width = list(self.parts(stage)), padded_to(stage.y.channels, self.isa.lanes)
        target, written = self.value(stage.name, stage.y.length, width)
        for part in parts:
            shape = {"length": part.x.length, "x_width": part.value.width, "first": part.first}
            shape |= {"count": part.x.channels, **written}
            self.add("copy", part.name, part.comment, shape, (part.source,), target)


def float_vector(program: Program) -> Program:
    """One kernel for every vector instruction set the program asks for, in that order. Legal always."""
    for name in program.isas:
        lowering = _Lowering(program, FLOAT_ISAS[name])
        program = program.with_kernel(lowering.kernel(program.graph.input, program.graph.output))
    return program
