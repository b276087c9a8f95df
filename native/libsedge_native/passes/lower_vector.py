"""The vector kernels: uint8 (x86) or int8 (ARM) activations, [position][channel], register tiles
(include/libsedge/vector_net.inc).
"""

from __future__ import annotations

import numpy as np

from libsedge_native.ir import INPUT as GRAPH_INPUT
from libsedge_native.ir import Add, AveragePool1d, Concat, Conv1d, GlobalAveragePool, MaxPool1d, Tensor
from libsedge_native.lowered import INPUT, LOGITS, Buffer, Constant, Place, Program, Stage
from libsedge_native.passes.describe import describe
from libsedge_native.passes.flow import conv_flow, input_flow, sum_flow, window_flow
from libsedge_native.passes.lowering import Value, VectorLowering, padded_to, split_wide_pools
from libsedge_native.passes.matrix_tiles import on_tiles, run_unit
from libsedge_native.passes.neon_slide import slide, slide_tile
from libsedge_native.passes.pack_weights import pack, pack_depthwise
from libsedge_native.passes.parameters import add_shape, average_multipliers, table, window_shape
from libsedge_native.passes.single_channels import channel_by_channel
from libsedge_native.passes.tile import VECTOR_ISAS, WIDE, VectorIsa, reach
from libsedge_native.reference import average_multiplier


def _margins(readers: list[Stage], width: int, zero: int, isa: VectorIsa) -> dict[str, int]:
    """What the convolutions that read a buffer need: padding before and behind, bytes of overrun."""
    left, right, slack = 0, 0, 0
    for stage in readers:
        conv = stage.conv
        if conv is not None:
            left, right = max(left, conv.pads[0]), max(right, conv.pads[1])
            if not channel_by_channel(conv, isa):
                run = width * (conv.weight.shape[2] if conv.dilation == 1 else 1)
                slack = max(slack, -run % run_unit(stage, isa))
    return {"y_left": left, "y_right": right, "y_slack": slack, "y_zero": zero + isa.byte_offset}


class _Lowering(VectorLowering):
    CTYPE, BYTES = "uint8_t", 1

    def __init__(self, program: Program, isa: VectorIsa) -> None:
        super().__init__(split_wide_pools(program.stages, isa, channel_by_channel), isa)
        self.names = program.isas

    def value(self, name: str, length: int, width: int, zero: int) -> tuple[int, dict[str, int]]:
        """A new buffer for a value of `length` positions; returns it and the margins to write."""
        margins = _margins(self.readers(name), width, zero, self.isa)
        left, right = margins["y_left"], margins["y_right"]
        buffer = self.buffer((left + length + right) * width + margins["y_slack"])
        self.values[name] = Value(buffer, width, left)
        return buffer, margins

    def input(self, x: Tensor) -> None:
        dilated = self.reaches_dilated(GRAPH_INPUT)
        width = padded_to(x.channels, 4) if dilated else x.channels
        target, margins = self.value(GRAPH_INPUT, x.length, width, x.quant.zero_point)
        shape = {"in_channels": x.channels, "in_length": x.length, "channels": width, **margins}
        flipped = ", top bit flipped" if self.isa.byte_offset else ""
        comment = (f"int8 [channels][position] to {self.isa.activation} [position][channel]{flipped}",)
        types = ("int8_t", "uint8_t")
        flow = input_flow(x, width, margins)
        self.add("input", "sedge_input", comment, shape, (Place(INPUT),), target, types=types, flow=flow)

    def reaches_dilated(self, name: str) -> bool:
        """Whether a convolution that reads taps one by one, in whole groups of four bytes, sees these positions."""
        for stage in self.readers(name):
            if stage.conv is None or channel_by_channel(stage.conv, self.isa):
                if self.reaches_dilated(stage.name):
                    return True
            elif stage.conv.dilation > 1:
                return True
        return False

    def output(self, y: Tensor) -> None:
        comment = (f"{self.isa.activation} to int8 logits",)
        source = self.source(self.stages[-1].name)
        shape = {"classes": y.channels}
        self.add("output", "sedge_output", comment, shape, (source,), LOGITS, types=("uint8_t", "int8_t"))

    def convolution(self, stage: Stage, conv: Conv1d) -> None:
        """A convolution with its pool, and summed up where only a global average reads it."""
        if channel_by_channel(conv, self.isa):
            self.depthwise(stage, conv)
            return
        isa, width = self.isa, self.values[stage.inputs[0]].width
        channels = padded_to(stage.y.channels, max(isa.lanes, 16))
        sliding = slide(stage, width, isa)
        tile = slide_tile(stage, sliding, channels // isa.lanes, isa)
        assert tile is not None
        matrix = on_tiles(stage, isa)
        vectors = 1 if matrix else tile.vectors  # tiles take one register of channels each
        wide = isa.widens and tile.rows > 1 and reach(conv, width, tile) <= WIDE
        stored = max(run_unit(stage, VECTOR_ISAS[name]) for name in self.names) if isa.grouped else 4
        unit = run_unit(stage, isa)
        packed = pack(conv, stage.x, width, channels, vectors, isa, unit, stored, wide, sliding)
        source = self.source(stage.inputs[0], conv.pads[0])
        readers = self.readers(stage.name)
        summed = len(readers) == 1 and isinstance(readers[0].ops[0], GlobalAveragePool)
        target, margins = self.value(stage.name, stage.y.length, channels, conv.quant.zero_point)
        if summed:
            self.buffers[-1] = Buffer(channels * 4)
        shape = {
            "out_length": stage.y.length,
            "channels": channels,
            "x_stride": conv.stride * width,
            "runs": packed.runs,
            "run_steps": packed.run_steps,
            "run_stride": conv.dilation * width,
            "pool": stage.pool,
            **({} if matrix else {"rows": tile.rows, "vectors": tile.vectors}),
            **(sliding.shape() if isa.slides else {}),
            **({"stored_steps": packed.stored_steps} if isa.grouped else {}),
            "biased": int(packed.biased),
            "sum": int(summed),
            **margins,
            "y_low": (conv.quant.zero_point if conv.relu else -128) + isa.byte_offset,
        }
        constants = (
            Constant(f"{stage.name}_weight", "int16_t" if wide else "int8_t", packed.weight),
            Constant(f"{stage.name}_bias", "int32_t", packed.bias),
            Constant(f"{stage.name}_multiplier", "float", packed.multiplier),
            Constant(f"{stage.name}_offset", "float", packed.offset),
        )
        types = ("uint8_t", "int32_t" if summed else "uint8_t")
        kind = "conv1d_tiles" if matrix else "conv1d"
        window = packed.runs * packed.run_steps * 4
        flow = conv_flow(
            stage, conv, isa, channels, window, tile.rows, matrix, wide, {} if summed else margins
        )
        self.add(kind, stage.name, describe(stage), shape, (source,), target, constants, types, flow=flow)

    def depthwise(self, stage: Stage, conv: Conv1d) -> None:
        width = self.values[stage.inputs[0]].width
        channels = min(width, padded_to(stage.y.channels, 16))
        weight, bias, scale = pack_depthwise(conv, stage.x, channels, self.isa)
        source = self.source(stage.inputs[0], conv.pads[0])
        target, margins = self.value(stage.name, stage.y.length, channels, conv.quant.zero_point)
        shape = {
            "out_length": stage.y.length,
            "channels": channels,
            "taps": conv.weight.shape[2],
            "x_stride": conv.stride * width,
            "tap_stride": conv.dilation * width,
            "pool": stage.pool,
            **margins,
            "y_low": (conv.quant.zero_point if conv.relu else -128) + self.isa.byte_offset,
        }
        constants = (
            Constant(f"{stage.name}_weight", "int8_t", weight),
            Constant(f"{stage.name}_bias", "int32_t", bias),
            Constant(f"{stage.name}_multiplier", "float", scale),
        )
        flow = window_flow(stage, conv, channels, margins)
        self.add("depthwise", stage.name, describe(stage), shape, (source,), target, constants, flow=flow)

    def global_average(self, stage: Stage, op: GlobalAveragePool) -> None:
        before = self.values[stage.inputs[0]]
        width = before.width
        source = self.source(stage.inputs[0])
        if not self.is_summed(stage.inputs[0]):
            shape: dict[str, int] = {"channels": width, "in_length": stage.x.length}
            comment, sums = ("sums over all positions",), self.buffer(width * 4)
            types = ("uint8_t", "int32_t")
            flow = sum_flow(stage.x, width)
            self.add(
                "sum", f"sedge_sum_{stage.name}", comment, shape, (source,), sums, types=types, flow=flow
            )
            source = Place(sums)
        target, margins = self.value(stage.name, 1, width, op.quant.zero_point)
        shape = {
            "channels": width,
            "in_length": stage.x.length,
            "x_zero": stage.x.quant.zero_point + self.isa.byte_offset,
            **margins,
        }
        scale = average_multiplier(stage.x.quant.scale, op.quant.scale, stage.x.length)
        constant = Constant(f"{stage.name}_multiplier", "float", np.array([scale], np.float32))
        types = ("int32_t", "uint8_t")
        self.add("average", stage.name, describe(stage), shape, (source,), target, (constant,), types)

    def is_summed(self, name: str) -> bool:
        step = next((s for s in self.steps if s.name == name), None)
        return step is not None and step.target_type == "int32_t"

    def pool(self, stage: Stage, op: MaxPool1d | AveragePool1d) -> None:
        width = self.values[stage.inputs[0]].width
        source = self.source(stage.inputs[0])
        target, margins = self.value(stage.name, stage.y.length, width, stage.y.quant.zero_point)
        shape = {"channels": width, **window_shape(stage, op), **margins}
        flow = window_flow(stage, op, width, margins)
        if isinstance(op, MaxPool1d):
            self.add("max_pool", stage.name, describe(stage), shape, (source,), target, flow=flow)
            return
        scales = average_multipliers(op, stage.x)
        shape["counted"] = int(scales.size > 1)
        shape["x_zero"] = stage.x.quant.zero_point + self.isa.byte_offset
        constant = Constant(f"{stage.name}_multiplier", "float", scales)
        constants = (constant,)
        self.add("average_pool", stage.name, describe(stage), shape, (source,), target, constants, flow=flow)

    def sum_of_two(self, stage: Stage, op: Add) -> None:
        first, second = (self.values[name].width for name in stage.inputs)
        sources = self.sources(stage)
        target, margins = self.value(stage.name, stage.y.length, min(first, second), op.quant.zero_point)
        shape = {
            "length": stage.y.length,
            "channels": min(first, second),
            "a_width": first,
            "b_width": second,
        }
        shape |= add_shape(stage, op) | margins
        for key in ("a_zero", "b_zero", "y_low"):
            shape[key] += self.isa.byte_offset
        self.add("add", stage.name, describe(stage), shape, sources, target)

    def concat(self, stage: Stage, op: Concat) -> None:
        """One step an input; the first one writes the margins too."""
        parts, channels = list(self.parts(stage)), padded_to(stage.y.channels, 4)
        target, margins = self.value(stage.name, stage.y.length, channels, op.quant.zero_point)
        for part in parts:
            values = table(part.x.quant, op.quant, self.isa.byte_offset)
            shape = {"length": part.x.length, "x_width": part.value.width, "first": part.first}
            shape |= {"count": part.x.channels, "channels": channels, **margins}
            kind = "copy" if values is None else "rescale"
            constants = () if values is None else (Constant(f"{part.name}_table", "int8_t", values),)
            self.add(kind, part.name, part.comment, shape, (part.source,), target, constants)


def lower_vector(program: Program) -> Program:
    """One kernel for every vector instruction set the program asks for, in that order.

    Legal always: groups become zeros between channels (of single channels, a step of their own where that is
    faster), dilation separate runs, a pool that no tile can hold a step of its own; each of these is the same
    int32 sum.
    """
    for name in program.isas:
        lowering = _Lowering(program, VECTOR_ISAS[name])
        program = program.with_kernel(lowering.kernel(program.graph.input, program.graph.output))
    return program
