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
#: kernels that multiply whole registers: registers of four channels a tile; and its rows
WHOLE = {"quads": 1, "pairs": 4}
ROWS = 4


@dataclass(frozen=True)
class Slide:
    """Windows of `taps` positions of `width` bytes; 0 taps: every window is read by itself."""

    taps: int = 0
    width: int = 0

    def order(self, steps: NDArray[np.int8], isa: VectorIsa) -> NDArray[np.int8]:
        """Weights [register][lane][taps * width / 4][4] in the order in which the kernel reads them, same shape.

        By sixteen input channels, then by tap. "quads": a register an output channel, four channels a panel; "pairs":
        eight bytes of two channels a register, sixteen channels a panel.
        """
        registers, lanes = steps.shape[:2]
        quads = self.width // QUAD
        if isa.slides == "pairs":
            split = steps.reshape(registers * lanes // 16, 8, 2, self.taps, quads, 2, 8)
            turned = split.transpose(0, 4, 3, 5, 1, 2, 6)
        elif isa.slides == "quads":
            turned = steps.reshape(registers, lanes, self.taps, quads, QUAD).transpose(0, 3, 2, 1, 4)
        else:
            turned = steps.reshape(registers, lanes, self.taps, quads, 4, 4).transpose(0, 1, 3, 2, 4, 5)
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
    if not isa.slides or width % QUAD or (isa.slides in WHOLE and stage.pool > ROWS):
        return READ_ALONE
    if stage.y.length * stage.pool == 1 and conv.dilation == 1:
        return Slide(1, taps * width)
    return Slide(taps, width) if conv.stride == conv.dilation and taps <= TAPS else READ_ALONE


def slide_tile(stage: Stage, found: Slide, registers: int, isa: VectorIsa) -> Tile | None:
    """The register tile: whole registers take one panel of channels, and as many rows as the kernel keeps of it."""
    if found.taps and isa.slides in WHOLE:
        return Tile(min(ROWS // stage.pool, stage.y.length) * stage.pool, WHOLE[isa.slides])
    return choose_tile(isa, registers, stage.y.length, stage.pool)
