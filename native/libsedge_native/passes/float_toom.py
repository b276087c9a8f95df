"""Toom-Cook (Winograd) convolution in one dimension: which scheme a layer takes, and its weights at the points.

F(m, r) gives m outputs of r taps with n = m + r - 1 products instead of m * r (S. Winograd, Arithmetic Complexity of
Computations, 1980; points after Barabasz et al., ACM TOMS 46, 2020). The points are 0, infinity and pairs +-p of
numbers with few bits, so that every coefficient of the two transforms is exact in float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from libsedge_native.ir import Conv1d
from libsedge_native.lowered import Stage

#: pairs of points in quarters: 6, 8 or 10 points with 0 and infinity. More points save no more here, and every pair
#: costs about a decimal digit.
POINTS: tuple[tuple[int, ...], ...] = ((4, 2), (4, 8, 2), (4, 8, 2, 3))

#: a transform's operation loads or stores more than a product's does
TRANSFORM = 1.5

#: estimated share of the direct convolution's time above which the direct one is taken, because it rounds less
WORTH = 0.8

#: output channels from which a tile of products is full on every instruction set, and input channels that a
#: transform needs to spread its stores over
LEAST_CHANNELS = 8


@dataclass(frozen=True)
class Scheme:
    """F(outputs, taps) on the points 0, +-quarters / 4, infinity."""

    outputs: int
    taps: int
    quarters: tuple[int, ...]

    @property
    def points(self) -> int:
        return self.outputs + self.taps - 1

    def roots(self) -> list[float]:
        """The finite points in the order of the weights."""
        return [0.0, *(sign * quarter / 4 for quarter in self.quarters for sign in (1, -1))]

    def inputs(self) -> NDArray[np.float64]:
        """[points, points]: evaluates the tile's input (B transposed), rows with leading coefficient 1."""
        roots = self.roots()
        rows = [np.poly([r for r in roots if r != root])[::-1] for root in roots]
        return np.stack([*(np.append(row, 0.0) for row in rows), np.poly(roots)[::-1]])

    def weights(self) -> NDArray[np.float64]:
        """[points, taps]: evaluates the weights (G)."""
        roots = self.roots()
        rows = [
            [root**k / np.prod([root - r for r in roots if r != root]) for k in range(self.taps)]
            for root in roots
        ]
        return np.array([*rows, [0.0] * (self.taps - 1) + [1.0]])

    def results(self) -> NDArray[np.float64]:
        """[outputs, points]: interpolates the outputs (A transposed)."""
        rows = [
            [*(root**i for root in self.roots()), float(i == self.outputs - 1)] for i in range(self.outputs)
        ]
        return np.array(rows)

    def operations(self) -> tuple[int, int]:
        """Vector operations of the input's transform and of the output's, as include/libsedge/float_toom.inc does."""
        pairs = len(self.quarters)
        return 2 * pairs * (pairs + 1), 2 * pairs + self.outputs * pairs + 2


def cost(scheme: Scheme, inputs: int, outputs: int) -> float:
    """Multiply-adds an output position, transforms included; the direct convolution takes taps * inputs * outputs."""
    first, last = scheme.operations()
    products = scheme.points * inputs * outputs
    return (products + TRANSFORM * (first * inputs + last * outputs)) / scheme.outputs


def choose_scheme(stage: Stage) -> Scheme | None:
    """The scheme with the lowest estimated cost, None where the direct convolution is nearly as fast or needed.

    Legal for stride 1, dilation 1, one group and at least one full tile of outputs, of whole pools.
    """
    conv = stage.conv
    if conv is None or (conv.stride, conv.dilation, conv.groups) != (1, 1, 1):
        return None
    out, inputs, taps = conv.weight.shape
    if min(out, inputs) < LEAST_CHANNELS:
        return None
    best, lowest = None, WORTH * taps * inputs * out
    for quarters in POINTS:
        outputs = 2 * len(quarters) + 3 - taps
        if outputs < 2 or outputs % stage.pool or stage.y.length * stage.pool < outputs:
            continue
        scheme = Scheme(outputs, taps, quarters)
        if cost(scheme, inputs, out) < lowest:
            best, lowest = scheme, cost(scheme, inputs, out)
    return best


def at_points(scheme: Scheme, conv: Conv1d) -> NDArray[np.float64]:
    """float64 [point, input channel, output channel]: the weights evaluated, not yet rounded to float32."""
    return np.einsum("jk,oik->jio", scheme.weights(), conv.weight.astype(np.float64))
