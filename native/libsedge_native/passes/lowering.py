"""What every lowering does alike: a walk over the stages, one method an op, and where every value lies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from libsedge_native.ir import INPUT as GRAPH_INPUT
from libsedge_native.ir import Add, AveragePool1d, Concat, Conv1d, GlobalAveragePool, MaxPool1d, Tensor
from libsedge_native.lowered import INPUT, LOGITS, Buffer, Constant, Flow, Kernel, Place, Stage, Step
from libsedge_native.passes.describe import describe, describe_part
from libsedge_native.passes.tile import VectorIsa


@dataclass(frozen=True)
class Value:
    """A tensor in memory: its buffer, the values of one position, and the positions of padding in front."""

    buffer: int
    width: int
    left: int = 0


@dataclass(frozen=True)
class Part:
    """One input of a Concat on its way into the output, behind `first` channels; the last one is named, and traced,
    as the op."""

    x: Tensor
    value: Value
    source: Place
    first: int
    name: str
    comment: tuple[str, ...]
    last: bool


def padded_to(count: int, unit: int) -> int:
    """`count` up to a multiple of `unit`."""
    return -(-count // unit) * unit


class Lowering(ABC):
    """Steps and buffers of one kernel so far, and where every value is."""

    #: C++ type of an activation, and its bytes
    CTYPE: ClassVar[str]
    BYTES: ClassVar[int]

    def __init__(self, stages: tuple[Stage, ...]) -> None:
        self.stages = stages
        self.values: dict[str, Value] = {}
        self.steps: list[Step] = []
        self.buffers: list[Buffer] = []

    def readers(self, name: str) -> list[Stage]:
        return [stage for stage in self.stages if name in stage.inputs]

    def buffer(self, size: int) -> int:
        """A new buffer of so many bytes."""
        self.buffers.append(Buffer(size))
        return len(self.buffers) - 1

    def source(self, name: str, pad: int = 0) -> Place:
        """Where a stage reads a value, `pad` positions before its first."""
        value = self.values[name]
        return Place(value.buffer, (value.left - pad) * value.width * self.BYTES)

    def sources(self, stage: Stage) -> tuple[Place, ...]:
        return tuple(self.source(name) for name in stage.inputs)

    def add(
        self,
        kind: str,
        name: str,
        comment: tuple[str, ...],
        shape: dict[str, int],
        sources: tuple[Place, ...],
        target: int,
        constants: tuple[Constant, ...] = (),
        types: tuple[str, str] | None = None,
        shown: tuple[int, int] | None = None,
        flow: Flow | None = None,
        scratch: int | None = None,
    ) -> None:
        """A step; types : of its sources and its target, those of an activation by default; scratch : a buffer."""
        source_type, target_type = types or (self.CTYPE, self.CTYPE)
        step = Step(
            kind,
            name,
            comment,
            tuple(shape.items()),
            constants,
            sources,
            Place(target),
            source_type,
            target_type,
            shown,
            flow,
            None if scratch is None else Place(scratch),
        )
        self.steps.append(step)

    def parts(self, stage: Stage) -> Iterator[Part]:
        """The inputs of a Concat; every one is a step."""
        first = 0
        for i, (name, x) in enumerate(zip(stage.inputs, stage.xs, strict=True)):
            last = i == len(stage.xs) - 1
            yield Part(
                x,
                self.values[name],
                self.source(name),
                first,
                stage.name if last else f"sedge_part{i}_{stage.name}",
                describe(stage) if last else describe_part(stage, i),
                last,
            )
            first += x.channels

    def stage(self, stage: Stage) -> None:
        op = stage.ops[0]
        if isinstance(op, Conv1d):
            self.convolution(stage, op)
        elif isinstance(op, (MaxPool1d, AveragePool1d)):
            self.pool(stage, op)
        elif isinstance(op, Add):
            self.sum_of_two(stage, op)
        elif isinstance(op, Concat):
            self.concat(stage, op)
        else:
            assert isinstance(op, GlobalAveragePool)
            self.global_average(stage, op)

    @abstractmethod
    def convolution(self, stage: Stage, conv: Conv1d) -> None: ...

    @abstractmethod
    def pool(self, stage: Stage, op: MaxPool1d | AveragePool1d) -> None: ...

    @abstractmethod
    def sum_of_two(self, stage: Stage, op: Add) -> None: ...

    @abstractmethod
    def concat(self, stage: Stage, op: Concat) -> None: ...

    @abstractmethod
    def global_average(self, stage: Stage, op: GlobalAveragePool) -> None: ...


class ScalarLowering(Lowering):
    """Over [channels][length]: no padding in memory, and the last stage writes the logits themselves."""

    def target(self, stage: Stage) -> int:
        """Where a stage's output goes."""
        last = stage is self.stages[-1]
        place = LOGITS if last else self.buffer(stage.y.channels * stage.y.length * self.BYTES)
        self.values[stage.name] = Value(place, 1)
        return place

    def layer(
        self,
        stage: Stage,
        kind: str,
        shape: dict[str, int],
        constants: tuple[Constant, ...] = (),
        flow: Flow | None = None,
    ) -> None:
        """A stage that is one step."""
        sources, words = self.sources(stage), describe(stage)
        self.add(
            kind, stage.name, words, shape, sources, self.target(stage), constants, None, stage.y.shape, flow
        )

    def kernel(self, isa: str) -> Kernel:
        self.values[GRAPH_INPUT] = Value(INPUT, 1)
        for stage in self.stages:
            self.stage(stage)
        return Kernel(isa, tuple(self.steps), tuple(self.buffers))


class VectorLowering(Lowering):
    """Over [position][channel], channels padded to registers, padding in memory."""

    def __init__(self, stages: tuple[Stage, ...], isa: VectorIsa) -> None:
        super().__init__(stages)
        self.isa = isa

    @abstractmethod
    def input(self, x: Tensor) -> None: ...

    @abstractmethod
    def output(self, y: Tensor) -> None: ...

    def kernel(self, x: Tensor, y: Tensor) -> Kernel:
        self.input(x)
        for stage in self.stages:
            self.stage(stage)
        self.output(y)
        return Kernel(self.isa.name, tuple(self.steps), tuple(self.buffers))


def split_wide_pools(
    stages: tuple[Stage, ...], isa: VectorIsa, alone: Callable[[Conv1d, VectorIsa], bool]
) -> tuple[Stage, ...]:
    """A pool wider than any tile runs as a step of its own; alone : convolutions that take no tile."""
    out: list[Stage] = []
    for stage in stages:
        conv = stage.conv
        if conv is not None and stage.pool > isa.rows[1] and not alone(conv, isa):
            middle = conv.output(stage.x)
            out.append(Stage((conv,), stage.inputs, stage.xs, middle))
            out.append(Stage(stage.ops[1:], (conv.name,), (middle,), stage.y))
        else:
            out.append(stage)
    return tuple(out)
