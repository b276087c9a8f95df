"""What the passes decide and the emitter prints: stages, buffers, constants, steps, kernels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from numpy.typing import NDArray

from libsedge_native.ir import Conv1d, Graph, MaxPool1d, Op, Tensor

#: the ends of a kernel: the input and the logits
INPUT = -1
LOGITS = -2

#: int8 values from which on an array is written as a string
TEXT = 4096

#: what a kernel is planned for: time, bytes of the arena, or to be looked at layer by layer (nothing is streamed)
Optimise = Literal["speed", "size", "layers"]

#: bytes; every buffer and the arena start at a multiple (one cache line, one 512-bit register)
ALIGN = 64


@dataclass(frozen=True, eq=False)
class Stage:
    """One fused group: a convolution with its pool, or any other op alone.

    It reads the stages (or the graph's input, ir.INPUT) named in `inputs`, whose tensors are `xs`.
    """

    ops: tuple[Op, ...]
    inputs: tuple[str, ...]
    xs: tuple[Tensor, ...]
    y: Tensor

    @property
    def x(self) -> Tensor:
        """The first input's tensor; the only one except behind Add and Concat."""
        return self.xs[0]

    @property
    def name(self) -> str:
        """The group is named, and traced, after its last op."""
        return self.ops[-1].name

    @property
    def conv(self) -> Conv1d | None:
        return self.ops[0] if isinstance(self.ops[0], Conv1d) else None

    @property
    def pool(self) -> int:
        """Width of the max pool fused behind the convolution, 1 for none."""
        last = self.ops[-1]
        return last.kernel if self.conv is not None and isinstance(last, MaxPool1d) else 1


@dataclass(frozen=True)
class Buffer:
    bytes: int
    offset: int = 0


@dataclass(frozen=True)
class Flow:
    """How a step makes its target some rows (positions) at a time; a step that cannot has none."""

    #: rows of the target, bytes of one (0: it is added to sums), rows of padding and bytes behind them
    length: int
    row: int
    left: int = 0
    right: int = 0
    slack: int = 0
    #: rows of the source: what the first row needs, how far the next one's window moves, padding in front
    window: int = 1
    hop: int = 1
    pad: int = 0
    #: of the rows made at a time, all but the last are a multiple
    unit: int = 1
    #: estimated cycles of a row, and of a call beside its rows
    row_cycles: float = 0.0
    call_cycles: float = 0.0


@dataclass(frozen=True)
class Round:
    """The rows that each step of a sweep makes, `times` times over."""

    times: int
    rows: tuple[int, ...]


@dataclass(frozen=True)
class Sweep:
    """The first steps of a kernel, run in rounds over lines that hold only some rows of a layer."""

    rounds: tuple[Round, ...]
    #: rows that the target of each step has room for
    capacity: tuple[int, ...]

    @property
    def steps(self) -> int:
        return len(self.capacity)

    @property
    def count(self) -> int:
        return sum(r.times for r in self.rounds)


@dataclass(frozen=True)
class Place:
    """Where a step reads or writes: `skip` bytes into a buffer, the input or the logits."""

    buffer: int
    skip: int = 0


@dataclass(frozen=True, eq=False)
class Constant:
    """A named array of a kernel: int8_t, int16_t, int32_t or float."""

    name: str
    ctype: str
    values: NDArray[Any]

    @property
    def as_text(self) -> bool:
        """Written as a string, of which compilers need far less memory than of a list of numbers."""
        return self.ctype == "int8_t" and self.values.size >= TEXT

    @property
    def count(self) -> int:
        """Members once the array, and the 0 behind a string, fill whole lines of ALIGN bytes, so that the struct
        has no hidden padding.
        """
        item = {"int8_t": 1, "int16_t": 2, "int32_t": 4, "float": 4}[self.ctype]
        return int(-(-(self.values.size * item + self.as_text) // ALIGN) * ALIGN // item)


@dataclass(frozen=True, eq=False)
class Step:
    """One call of a kernel template: `sedge::<isa>::<kind><shape>(sources..., target, constants...)`.

    Several steps may fill one buffer (the parts of a Concat).
    """

    kind: str
    name: str
    comment: tuple[str, ...]
    shape: tuple[tuple[str, int], ...]
    constants: tuple[Constant, ...]
    sources: tuple[Place, ...]
    target: Place
    source_type: str
    target_type: str
    #: (channels, length) of a [channels][length] target that a trace may show, or None
    shown: tuple[int, int] | None = None
    flow: Flow | None = None
    #: memory of its own while it runs, or None
    scratch: Place | None = None

    @property
    def places(self) -> tuple[Place, ...]:
        """All that it reads or writes."""
        return (*self.sources, self.target, *([self.scratch] if self.scratch else []))


@dataclass(frozen=True, eq=False)
class Table:
    """The constants of several kernels, in this order; equal ones are there once."""

    name: str
    isas: tuple[str, ...]
    constants: tuple[Constant, ...]


@dataclass(frozen=True, eq=False)
class Kernel:
    """One way to run the net: steps over buffers of one arena."""

    isa: str
    steps: tuple[Step, ...]
    buffers: tuple[Buffer, ...]
    arena_bytes: int = 0
    #: how the first steps are streamed, or None; and in words why, or why not
    sweep: Sweep | None = None
    reason: str = "full"
    #: of a streamed kernel: the buffers that hold whole layers, and what they need together
    whole: tuple[Buffer, ...] = ()
    whole_bytes: int = 0
    #: where its constants are, if other kernels read them too
    table: Table | None = None

    @property
    def name(self) -> str:
        """As users ask for it: that of a float32 kernel is without `float_`, which tells the two in C++ apart."""
        return self.isa.removeprefix("float_")

    @property
    def constants(self) -> tuple[Constant, ...]:
        """What lies in memory and is covered by its CRC: the kernel's own, or the whole table."""
        return self.table.constants if self.table else tuple(c for step in self.steps for c in step.constants)


@dataclass(frozen=True, eq=False)
class Program:
    """A graph on its way from ops to kernels; every pass returns a new one."""

    graph: Graph
    #: vector instruction sets to build besides "scalar"
    isas: tuple[str, ...] = ()
    #: what a sweep is chosen for: the smaller time or the smaller arena
    optimise: Optimise = "speed"
    stages: tuple[Stage, ...] = ()
    kernels: tuple[Kernel, ...] = ()

    @property
    def tables(self) -> tuple[Table, ...]:
        """What several kernels read, each once."""
        return tuple({k.table.name: k.table for k in self.kernels if k.table}.values())

    def with_kernel(self, kernel: Kernel) -> Program:
        return replace(self, kernels=(*self.kernels, kernel))


@dataclass(frozen=True, eq=False)
class Source:
    """Everything that the generated source says: the lowered program and its evidence."""

    program: Program
    version: str
    #: sha256 of the model.onnx, hex
    digest: str
    #: [n, input_len] and [n, classes], int8 or float32 as the graph
    golden_inputs: NDArray[Any]
    golden_outputs: NDArray[Any]
    #: per kernel: CRC-32C of its constants as a (little-endian, big-endian) machine holds them
    crcs: tuple[tuple[int, int], ...]
    #: what the import converted or left to others
    notes: tuple[str, ...] = ()
    #: of the largest golden logit of a vector: how far a float32 kernel may be off; int8 kernels are exact
    tolerance: float = 0.0

    @property
    def arena_bytes(self) -> int:
        """At least one aligned line, so that an arena always exists."""
        return max(ALIGN, *(k.arena_bytes for k in self.program.kernels))

    @property
    def trace_bytes(self) -> int:
        """What sedge_trace needs: the last kernel with whole layers."""
        scalar = self.program.kernels[-1]
        return max(self.arena_bytes, scalar.whole_bytes)
