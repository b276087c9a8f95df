"""What the ONNX importer knows of an activation while it reads."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from onnx import NodeProto

from libsedge_native.ir import Op, Quant
from libsedge_native.onnx_shapes import Layout, Shape


@dataclass(frozen=True)
class Pending:
    """A float op that waits for its output quantisation."""

    node: NodeProto
    build: Callable[[Quant, bool], Op]
    layout: Layout
    #: a Relu stands behind it
    relu: bool = False
    #: bounds of a Clip that stands behind it
    clip: tuple[float, float] = (-math.inf, math.inf)


@dataclass(frozen=True)
class Value:
    """An activation of the model: which IR value it is and how far it is from being one."""

    #: "stored" (quantised), "real" (dequantised), "float" (the input, not yet quantised), "pending", "decided"
    #: (behind the Softmax)
    state: str
    source: str
    shape: Shape
    quant: Quant | None = None
    dtype: str = ""
    pending: Pending | None = None
