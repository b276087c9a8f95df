"""The kernel that every machine runs: plain C++ over int8 [channels][length]."""

from __future__ import annotations

import numpy as np

from libsedge_native.ir import Add, AveragePool1d, Concat, Conv1d, GlobalAveragePool, MaxPool1d
from libsedge_native.lowered import Constant, Flow, Place, Program, Stage
from libsedge_native.passes.describe import describe
from libsedge_native.passes.lowering import ScalarLowering
from libsedge_native.passes.parameters import add_shape, average_multipliers, conv_shape, table, window_shape
from libsedge_native.reference import average_multiplier, multiplier


def _flow(stage: Stage) -> Flow | None:
    """Estimates are for a processor without vectors: a cycle a product, five a tap and channel of a call."""
    op, length, row = stage.ops[0], stage.y.length, stage.y.channels
    if length == 1:
        return None
    if isinstance(op, Conv1d):
        _, per_group, taps = op.weight.shape
        span = op.dilation * (taps - 1) + 1 + (stage.pool - 1) * op.stride
        work = row * per_group * taps
        hop = op.stride * stage.pool
        cycles = (float(work * stage.pool), 5.0 * work)
        return Flow(length, row, 0, 0, 0, span, hop, op.pads[0], 1, *cycles)
    if isinstance(op, (MaxPool1d, AveragePool1d)):
        cycles = (float(row * op.kernel), 10.0 * row)
        return Flow(length, row, 0, 0, 0, op.kernel, op.stride, op.pads[0], 1, *cycles)
    return None


class _Lowering(ScalarLowering):
    CTYPE, BYTES = "int8_t", 1

    def convolution(self, stage: Stage, conv: Conv1d) -> None:
        shape = {
            **conv_shape(stage, conv),
            "x_zero": stage.x.quant.zero_point,
            "y_zero": conv.quant.zero_point,
            "y_low": conv.quant.zero_point if conv.relu else -128,
        }
        scale = multiplier(stage.x.quant.scale, conv.weight_scale, conv.quant.scale)
        constants = (
            Constant(f"{stage.name}_weight", "int8_t", conv.weight.reshape(-1)),
            Constant(f"{stage.name}_bias", "int32_t", conv.bias),
            Constant(f"{stage.name}_multiplier", "float", scale),
        )
        self.layer(stage, "conv1d", shape, constants, _flow(stage))

    def pool(self, stage: Stage, op: MaxPool1d | AveragePool1d) -> None:
        shape = {"channels": stage.x.channels, **window_shape(stage, op)}
        if isinstance(op, MaxPool1d):
            self.layer(stage, "max_pool", shape, (), _flow(stage))
            return
        scales = average_multipliers(op, stage.x)
        shape["counted"] = int(scales.size > 1)
        shape |= {"x_zero": stage.x.quant.zero_point, "y_zero": stage.y.quant.zero_point}
        constants = (Constant(f"{stage.name}_multiplier", "float", scales),)
        self.layer(stage, "average_pool", shape, constants, _flow(stage))

    def sum_of_two(self, stage: Stage, op: Add) -> None:
        self.layer(stage, "add", {"count": stage.x.channels * stage.x.length, **add_shape(stage, op)})

    def global_average(self, stage: Stage, op: GlobalAveragePool) -> None:
        x, sums = stage.x, self.buffer(stage.x.channels * 4)
        shape = {"channels": x.channels, "in_length": x.length, "x_zero": x.quant.zero_point}
        flow = Flow(x.length, 0, row_cycles=x.channels, call_cycles=10.0 * x.channels)
        words = ("sums over all positions",)
        self.add(
            "sum",
            f"sedge_sum_{stage.name}",
            words,
            shape,
            self.sources(stage),
            sums,
            types=("int8_t", "int32_t"),
            flow=flow,
        )
        scale = average_multiplier(x.quant.scale, op.quant.scale, x.length)
        self.add(
            "average",
            stage.name,
            describe(stage),
            {"channels": x.channels, "y_zero": op.quant.zero_point},
            (Place(sums),),
            self.target(stage),
            (Constant(f"{stage.name}_multiplier", "float", np.array([scale], np.float32)),),
            types=("int32_t", "int8_t"),
            shown=stage.y.shape,
        )

    def concat(self, stage: Stage, op: Concat) -> None:
        """One step an input."""
        target = self.target(stage)
        for part in self.parts(stage):
            values = table(part.x.quant, op.quant, 0)
            self.add(
                "copy" if values is None else "rescale",
                part.name,
                part.comment,
                {"first": part.first * part.x.length, "count": part.x.channels * part.x.length},
                (part.source,),
                target,
                () if values is None else (Constant(f"{part.name}_table", "int8_t", values),),
                shown=stage.y.shape if part.last else None,
            )


def lower_scalar(program: Program) -> Program:
    """One step a stage, one an input of a Concat, two an average over everything. Legal always; the last kernel of
    the table, and the one that sedge_trace shows.

    The zero point is subtracted tap by tap and padded taps are skipped (they are real zeros), so this kernel
    shares no folding trick with the vector kernels that are compared with it. Groups cost what they compute.
    """
    return program.with_kernel(_Lowering(program.stages).kernel("scalar"))
