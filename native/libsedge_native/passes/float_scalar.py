"""The float32 kernel that every machine runs: plain C++ over [channels][length]."""

from __future__ import annotations

from libsedge_native.ir import Add, AveragePool1d, Concat, Conv1d, GlobalAveragePool, MaxPool1d
from libsedge_native.lowered import Constant, Program, Stage
from libsedge_native.passes.lowering import ScalarLowering
from libsedge_native.passes.parameters import conv_shape, float_pool


class _Lowering(ScalarLowering):
    CTYPE, BYTES = "float", 4

    def convolution(self, stage: Stage, conv: Conv1d) -> None:
        constants = (
            Constant(f"{stage.name}_weight", "float", conv.weight.reshape(-1)),
            Constant(f"{stage.name}_bias", "float", conv.bias),
        )
        self.layer(stage, "conv1d", {**conv_shape(stage, conv), "relu": int(conv.relu)}, constants)

    def pool(self, stage: Stage, op: MaxPool1d | AveragePool1d) -> None:
        kind, shape = float_pool(stage, op)
        self.layer(stage, kind, {"channels": stage.x.channels, **shape})

    def sum_of_two(self, stage: Stage, op: Add) -> None:
        shape = {"count": stage.x.channels * stage.x.length, "relu": int(op.relu)}
        self.layer(stage, "sum_of_two", shape)

    def global_average(self, stage: Stage, op: GlobalAveragePool) -> None:
        self.layer(stage, "average", {"channels": stage.x.channels, "in_length": stage.x.length})

    def concat(self, stage: Stage, op: Concat) -> None:
        """One step an input."""
        target = self.target(stage)
        for part in self.parts(stage):
            length = part.x.length
            shape = {"first": part.first * length, "count": part.x.channels * length}
            self.add("copy", part.name, part.comment, shape, (part.source,), target)


def float_scalar(program: Program) -> Program:
    """One step a stage, or one an input of a Concat. Legal always; the last kernel of the table.

    Always the direct convolution, so that this kernel shares no scheme with those that are compared with it.
    """
    return program.with_kernel(_Lowering(program.stages).kernel("float_scalar"))
