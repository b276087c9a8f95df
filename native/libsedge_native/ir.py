"""The graph the generator works on. It validates itself; its ops are in `ops`.

Ops stand in the order in which they run; every op reads ops in front of it, by name. The last op is the output.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import ClassVar

import numpy as np
from libsedge.errors import ModelError

from libsedge_native.ops import (
    MAX_CHANNELS,
    MAX_LENGTH,
    MAX_TAPS,
    MAX_WEIGHTS,
    MAX_WORK,
    REAL,
    Add,
    AveragePool1d,
    Concat,
    Conv1d,
    Dense,
    Flatten,
    GlobalAveragePool,
    MaxPool1d,
    Op,
    Quant,
    Real,
    Tensor,
)

__all__ = [
    "INPUT",
    "MAX_CHANNELS",
    "MAX_LENGTH",
    "MAX_OPS",
    "MAX_TAPS",
    "MAX_WEIGHTS",
    "MAX_WORK",
    "REAL",
    "Add",
    "AveragePool1d",
    "Concat",
    "Conv1d",
    "Dense",
    "Flatten",
    "GlobalAveragePool",
    "Graph",
    "MaxPool1d",
    "Op",
    "Quant",
    "Real",
    "Tensor",
]

MAX_OPS = 256

#: the name under which ops read the graph's input
INPUT = "input"


@dataclass(frozen=True, eq=False)
class Graph:
    """Ops from one input to the logits (classes, 1), all int8 or all float32. Invalid graphs cannot be built.

    Ops whose `inputs` are empty get the op in front of them. Raises libsedge.errors.ModelError naming the op
    and the reason.
    """

    name: str
    input: Tensor
    ops: tuple[Op, ...]
    #: `tensors[0]` is the input, `tensors[i + 1]` the output of `ops[i]`
    tensors: tuple[Tensor, ...] = field(init=False)

    OPS: ClassVar[tuple[type, ...]] = (
        Conv1d,
        MaxPool1d,
        AveragePool1d,
        GlobalAveragePool,
        Flatten,
        Dense,
        Add,
        Concat,
    )

    def __post_init__(self) -> None:
        self._check_names()
        known: dict[str, Tensor] = {INPUT: self.input}
        flat: dict[str, bool] = {INPUT: False}
        used: set[str] = set()
        ops: list[Op] = []
        work = 0
        for op in self.ops:
            if not op.inputs:
                op = replace(op, inputs=(ops[-1].name if ops else INPUT,))
            kind = type(op).__name__
            if not isinstance(op, (Add, Concat)) and len(op.inputs) != 1:
                raise ModelError("must read one input", field=f"{kind} {op.name!r}", value=op.inputs)
            for name in op.inputs:
                if name not in known:
                    raise ModelError(
                        "reads what is not in front of it", field=f"{kind} {op.name!r}", value=name
                    )
            flat[op.name] = _flatness(op, [flat[name] for name in op.inputs])
            known[op.name] = op.output(*(known[name] for name in op.inputs))
            work += _work(op, known[op.name])
            if work > MAX_WORK:
                why = f"up to here windows read more than {MAX_WORK} values"
                raise ModelError(why, field=f"{kind} {op.name!r}", value=work)
            used.update(op.inputs)
            ops.append(op)
        for op in ops[:-1]:
            if op.name not in used:
                raise ModelError("nothing reads its result", field=f"{type(op).__name__} {op.name!r}")
        output = known[ops[-1].name]
        if output.length != 1:
            raise ModelError("the output must have length 1", field="graph", value=output.shape)
        if output.channels > MAX_CHANNELS:
            why = f"at most {MAX_CHANNELS} outputs"
            raise ModelError(why, field="graph", value=output.channels)
        if len({isinstance(t.quant, Real) for t in known.values()}) > 1:
            raise ModelError("mixes quantised and float32 tensors", field="graph", value=self.name)
        object.__setattr__(self, "ops", tuple(ops))
        object.__setattr__(self, "tensors", tuple(known.values()))

    def _check_names(self) -> None:
        if not self.ops or len(self.ops) > MAX_OPS:
            raise ModelError(f"a graph needs 1 to {MAX_OPS} ops", field="graph", value=len(self.ops))
        if not (self.name.isascii() and self.name.isidentifier()):
            raise ModelError("the name must be an ASCII identifier", field="graph", value=self.name)
        for op in self.ops:
            if not isinstance(op, self.OPS):
                raise ModelError("unknown op", field="graph", value=type(op).__name__)
            if not (op.name.isascii() and op.name.isidentifier()):
                raise ModelError("op names must be ASCII identifiers", field="op", value=op.name)
            if op.name.startswith("sedge_") or op.name == INPUT:
                raise ModelError(
                    f"{INPUT} and names that begin with sedge_ are the generator's", field="op", value=op.name
                )
        if len({op.name for op in self.ops}) != len(self.ops):
            raise ModelError("op names must differ", field="graph", value=self.name)

    def tensor(self, name: str) -> Tensor:
        """The output of an op, or the graph's input, by name."""
        names = [INPUT, *(op.name for op in self.ops)]
        return self.tensors[names.index(name)]

    def sources(self, op: Op) -> tuple[Tensor, ...]:
        """The tensors that an op reads."""
        return tuple(self.tensor(name) for name in op.inputs)

    @property
    def output(self) -> Tensor:
        return self.tensors[-1]

    @property
    def is_float(self) -> bool:
        """Whether nothing is quantised (every tensor is REAL)."""
        return isinstance(self.input.quant, Real)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference, padding included."""
        total = 0
        for op, out in zip(self.ops, self.tensors[1:], strict=True):
            if isinstance(op, (Conv1d, Dense)):
                total += op.weight.size * out.length
        return total

    @property
    def digest(self) -> str:
        """sha256 over every field in a fixed order; equal graphs have equal digests on every machine."""
        h = hashlib.sha256()
        for part in (self.name, self.input, *self.ops):
            _feed(h, part)
        return h.hexdigest()


def _work(op: Op, y: Tensor) -> int:
    """Values that the windows of an op read: its multiply-accumulates, or what a pool compares or adds."""
    if isinstance(op, (Conv1d, Dense)):
        return int(op.weight.size) * y.length
    return op.kernel * y.channels * y.length if isinstance(op, (MaxPool1d, AveragePool1d)) else 0


def _flatness(op: Op, inputs: list[bool]) -> bool:
    """Whether an op gives a vector (ONNX rank 2); Dense reads vectors, windows read what has positions."""
    if len(set(inputs)) != 1:
        raise ModelError(
            "inputs must all be flat or all not", field=f"{type(op).__name__} {op.name!r}", value=op.inputs
        )
    if not isinstance(op, (Add, Concat)) and inputs[0] != isinstance(op, Dense):
        raise ModelError(
            "Dense, and only Dense, Add and Concat, stands behind a Flatten or Dense",
            field=f"{type(op).__name__} {op.name!r}",
        )
    return inputs[0] or isinstance(op, Flatten)


def _feed(h: hashlib._Hash, value: object) -> None:
    if isinstance(value, np.ndarray):
        h.update(f"{value.dtype.str}{value.shape}".encode())
        h.update(np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<")).tobytes())
    elif isinstance(value, float):
        h.update(value.hex().encode())
    elif isinstance(value, tuple):
        for item in value:
            _feed(h, item)
    elif is_dataclass(value):
        h.update(type(value).__name__.encode())
        for f in fields(value):
            h.update(f.name.encode() + b"=")
            _feed(h, getattr(value, f.name))
    else:
        h.update(repr(value).encode())
    h.update(b";")
