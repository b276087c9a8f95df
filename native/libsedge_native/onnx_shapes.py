"""ONNX shapes of activations: ops that move nothing, and windows along the one axis that is longer than 1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from onnx import NodeProto

from libsedge_native.onnx_constants import Constants, refuse

Shape = tuple[int, ...]


def _reshaped(node: NodeProto, shape: Shape, wanted: list[int]) -> Shape:
    sizes = [shape[i] if size == 0 and i < len(shape) else size for i, size in enumerate(wanted)]
    if sizes.count(-1) == 1:
        rest = math.prod(size for size in sizes if size != -1)
        if rest < 1 or math.prod(shape) % rest:
            raise refuse(node, "the shape does not fit", wanted)
        sizes[sizes.index(-1)] = math.prod(shape) // rest
    return tuple(sizes)


def _transposed(node: NodeProto, shape: Shape, perm: list[int] | None) -> Shape:
    order = list(reversed(range(len(shape)))) if perm is None else list(perm)
    if sorted(order) != list(range(len(shape))):
        raise refuse(node, "perm must be a permutation of the axes", order)
    long = [axis for axis in order if shape[axis] > 1]
    if long != sorted(long):
        raise refuse(node, "moves data: axes longer than 1 must keep their order", order)
    return tuple(shape[axis] for axis in order)


def moved(node: NodeProto, shape: Shape, attributes: dict[str, Any], constants: Constants) -> Shape:
    """Shape behind Flatten, Reshape, Squeeze, Unsqueeze or Transpose; the bytes stay where they are."""
    kind, rank = node.op_type, len(shape)
    out = shape
    if kind == "Flatten":
        axis = attributes["axis"] + (rank if attributes["axis"] < 0 else 0)
        if not 0 <= axis <= rank:
            raise refuse(node, f"axis must be one of {rank} axes", attributes["axis"])
        out = (math.prod(shape[:axis]), math.prod(shape[axis:]))
    elif kind == "Reshape":
        if len(node.input) != 2:
            raise refuse(node, "needs input and shape", len(node.input))
        out = _reshaped(node, shape, constants.integers(node, node.input[1]))
    elif kind == "Transpose":
        out = _transposed(node, shape, attributes["perm"])
    elif kind in ("Squeeze", "Unsqueeze"):
        if len(node.input) != 2:
            raise refuse(node, "needs input and axes", len(node.input))
        given = constants.integers(node, node.input[1])
        after = rank + (len(given) if kind == "Unsqueeze" else 0)
        axes = sorted({axis + after if axis < 0 else axis for axis in given})
        if len(axes) != len(given) or not all(0 < axis < after for axis in axes):
            raise refuse(node, "axes must differ, exist and leave the batch alone", given)
        if kind == "Squeeze":
            if any(shape[axis] != 1 for axis in axes):
                raise refuse(node, "axes must have length 1", given)
            out = tuple(size for axis, size in enumerate(shape) if axis not in axes)
        else:
            rest = iter(shape)
            out = tuple(1 if axis in axes else next(rest) for axis in range(after))
    if math.prod(out) != math.prod(shape) or min(out, default=0) < 1 or not 2 <= len(out) <= 4 or out[0] != 1:
        raise refuse(node, "must keep the data and give [1, ...] of 2 to 4 axes", out)
    return out


@dataclass(frozen=True)
class Layout:
    """How an activation of (channels, length) is spelled: rank 2, 3, or 4 with positions along H or W."""

    rank: int
    #: axis of the positions; the other one of rank 4 has length 1
    axis: int

    def shape(self, channels: int, length: int) -> Shape:
        sizes = [1, channels, 1, 1][: self.rank]
        if self.rank > 2:
            sizes[self.axis] = length
        return tuple(sizes)


def layout(node: NodeProto, shape: Shape, kernel: list[int] | None = None) -> Layout:
    """The layout of an activation in front of an op with windows; `kernel` decides where H and W are both 1."""
    if len(shape) == 3:
        return Layout(3, 2)
    if len(shape) == 4 and 1 in shape[2:]:
        tall = shape[3] == 1 and (shape[2] > 1 or (kernel is not None and len(kernel) == 2 and kernel[0] > 1))
        return Layout(4, 2 if tall else 3)
    raise refuse(node, "only 1-D nets are supported: [1, C, L], or [1, C, H, W] with H = 1 or W = 1", shape)


@dataclass(frozen=True)
class Window:
    kernel: int
    stride: int
    dilation: int
    pads: tuple[int, int]


def window(node: NodeProto, given: dict[str, Any], kernel: list[int], where: Layout, length: int) -> Window:
    """The window along the positions; along an axis of length 1 it must be 1 wide and not padded."""
    axes = where.rank - 2
    strides = list(given["strides"] or [1] * axes)
    dilations = list(given["dilations"] or [1] * axes)
    pads = list(given["pads"] or [0] * (2 * axes))
    if not len(kernel) == len(strides) == len(dilations) == len(pads) // 2 == axes or len(pads) % 2:
        raise refuse(node, f"kernel, strides, dilations and pads must be for {axes} axes", kernel)
    if min(*kernel, *strides, *dilations) < 1:
        raise refuse(node, "kernel, strides and dilations must be 1 at least", kernel)
    i = where.axis - 2
    if axes == 2:
        other = 1 - i
        if kernel[other] != 1 or pads[other] or pads[other + 2]:
            raise refuse(node, "along the axis of length 1 the window must be 1 and not padded", kernel)
    reach = (kernel[i] - 1) * dilations[i] + 1
    before, after = pads[i], pads[i + axes]
    if given["auto_pad"] != b"NOTSET":
        if any(pads):
            raise refuse(node, "pads and auto_pad exclude each other", pads)
        before, after = _automatic(node, given["auto_pad"], length, reach, strides[i])
    if given.get("ceil_mode"):
        after += _rounded_up(node, given, length + before + after, reach, strides[i], length + before)
    return Window(kernel[i], strides[i], dilations[i], (before, after))


def _automatic(node: NodeProto, kind: bytes, length: int, reach: int, stride: int) -> tuple[int, int]:
    """The padding that auto_pad means: SAME gives ceil(length / stride) positions, the odd one at the named end."""
    if kind not in (b"VALID", b"SAME_UPPER", b"SAME_LOWER"):
        raise refuse(node, "auto_pad must be NOTSET, VALID, SAME_UPPER or SAME_LOWER", kind)
    total = 0 if kind == b"VALID" else max((-(-length // stride) - 1) * stride + reach - length, 0)
    less, more = total // 2, total - total // 2
    return (more, less) if kind == b"SAME_LOWER" else (less, more)


def _rounded_up(
    node: NodeProto, given: dict[str, Any], padded: int, reach: int, stride: int, readable: int
) -> int:
    """The padding behind that ceil_mode stands for. A window that would begin in it is none."""
    if given["ceil_mode"] != 1:
        raise refuse(node, "ceil_mode must be 0 or 1", given["ceil_mode"])
    steps = -(-(padded - reach) // stride)
    if steps * stride >= readable:
        steps -= 1
    more = max(steps * stride + reach - padded, 0)
    if more and given.get("count_include_pad"):
        raise refuse(node, "ceil_mode with count_include_pad: what the last window divides by is not proved")
    return more
