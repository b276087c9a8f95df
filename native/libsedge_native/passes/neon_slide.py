"""Which convolutions the NEON kernels run with windows that slide over loaded registers, and their order of weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from libsedge_native.lowered import Stage
from libsedge_native.passes.tile import Tile, VectorIsa, choose_tile

#: taps are unrolled: more would only make the code longer
TAPS = 8
#: bytes of one load
QUAD = 16


@dataclass(frozen=True)
class Slide:
    """Windows of `taps` positions of `width` bytes; 0 taps: every window is read by itself."""

    taps: int = 0
    width: int = 0

    def order(self, steps: NDArray[np.int8], isa: VectorIsa) -> NDArray[np.int8]:
        """Weights [panel][lane][taps * width / 4][4] in the order in which the kernel reads them, same shape.

        By sixteen input channels, then by tap; whole registers of one output channel each for "quads".
        """
        panels, lanes = steps.shape[:2]
        split = steps.reshape(panels, lanes, self.taps, self.width // QUAD, QUAD // 4, 4)
        turned = split.transpose((0, 3, 2, 1, 4, 5) if isa.slides == "quads" else (0, 1, 3, 2, 4, 5))
        return np.ascontiguousarray(turned).reshape(steps.shape)

    def shape(self) -> dict[str, int]:
        return {"slide": self.taps, "slide_width": self.width}


#: every window is read by itself
READ_ALONE = Slide()


def slide(stage: Stage, width: int, isa: VectorIsa) -> Slide:
    """Legal where one position further means one tap further (stride = dilation) and positions fill whole registers.

    A single position (a dense layer) is one tap of its whole window.
    """
    conv = stage.conv
    assert conv is not None
    taps = int(conv.weight.shape[2])
    if not isa.slides or width % QUAD or (isa.slides == "quads" and stage.pool > isa.rows[4]):
        return READ_ALONE
    if stage.y.length * stage.pool == 1 and conv.dilation == 1:
        return Slide(1, taps * width)
    return Slide(taps, width) if conv.stride == conv.dilation and taps <= TAPS else READ_ALONE


def slide_tile(stage: Stage, found: Slide, registers: int, isa: VectorIsa) -> Tile | None:
    """The register tile: with "quads" one register of channels and as many rows as the kernel keeps of it."""
    if found.taps and isa.slides == "quads":
        return Tile(min(isa.rows[4] // stage.pool, stage.y.length) * stage.pool, 1)
    return choose_tile(isa, registers, stage.y.length, stage.pool)
