"""Which convolutions run on the matrix tiles of AMX, and whether a net has an AMX kernel at all."""

from __future__ import annotations

from dataclasses import replace

from libsedge_native.lowered import Program, Stage
from libsedge_native.passes.single_channels import channel_by_channel
from libsedge_native.passes.tile import VECTOR_ISAS, VectorIsa

#: positions that are multiplied at a time; the last block overlaps the one before it
BLOCK = 32
#: bytes of a tile's row: every run of a window is padded to a multiple with zero weights
ROW = 64

#: cycles, measured on one core with AMX and AVX-512 VNNI (docs/performance.md): a tile product takes 16, of which a
#: block needs two for every register of channels and every row of its windows; the rest of the block costs about 50;
#: VNNI does 128 multiply-accumulates a cycle at about 80 %; configuring and releasing the tiles costs about 200 once
PRODUCTS, BLOCK_END, VNNI_MACS, SETUP = 2 * 16, 50, 102, 200


def _window(stage: Stage, unit: int) -> int:
    """Bytes of a window, every run padded to `unit`, channels to whole registers in all but the first layer."""
    assert stage.conv is not None
    channels, taps = stage.x.channels, stage.conv.weight.shape[2]
    width = channels if channels < 16 else -(-channels // 16) * 16
    runs, run = (1, taps * width) if stage.conv.dilation == 1 else (taps, width)
    return runs * -(-run // unit) * unit


def gain(stage: Stage) -> float:
    """Estimated cycles that tiles save over VNNI."""
    positions, registers = stage.y.length * stage.pool, -(-stage.y.channels // 16)
    tiles = -(-positions // BLOCK) * registers * (_window(stage, ROW) / ROW * PRODUCTS + BLOCK_END)
    return positions * registers * 16 * _window(stage, 4) / VNNI_MACS - tiles


def on_tiles(stage: Stage, isa: VectorIsa) -> bool:
    """Legal where whole blocks of positions exist and no pooled position crosses two blocks; done where it pays."""
    return (
        isa.matrix
        and stage.conv is not None
        and not channel_by_channel(stage.conv, isa)
        and stage.pool in (1, 2, 4, 8)
        and stage.y.length * stage.pool >= BLOCK
        and gain(stage) > 0
    )


def run_unit(stage: Stage, isa: VectorIsa) -> int:
    """Bytes to a multiple of which every run of a window is read."""
    return ROW if on_tiles(stage, isa) else 4


def drop_idle_tiles(program: Program) -> Program:
    """Without tiles, or where configuring them costs more than they save, an AMX kernel would be the VNNI kernel
    again, and slower: such a net has none.

    Legal always: the kernels that stay are complete.
    """
    saved = sum(gain(s) for s in program.stages if on_tiles(s, VECTOR_ISAS["amx"]))
    if saved > SETUP:
        return program
    return replace(program, isas=tuple(name for name in program.isas if name != "amx"))
