"""Shape of the register tile of a vector convolution."""

from __future__ import annotations

from dataclasses import dataclass

from libsedge_native.ir import Conv1d


@dataclass(frozen=True)
class VectorIsa:
    """What the tile choice needs to know of an instruction set."""

    name: str
    #: int32 lanes of a register
    lanes: int
    #: registers of accumulators, by registers of channels a tile holds
    rows: dict[int, int]
    #: in which order the four weights of every lane are stored: as they are, or in "halves"
    order: str = "plain"
    #: weights lie in groups of sixteen channels, the same for all such instruction sets of a machine
    grouped: bool = False
    #: products are of 16-bit values
    widens: bool = False
    #: of a stored activation over q: 128 for uint8 activations, 0 for int8
    byte_offset: int = 128
    #: convolutions may run on matrix tiles (passes/matrix_tiles.py)
    matrix: bool = False
    #: windows of neighbouring positions share loaded registers (passes/neon_slide.py), multiplied by one lane
    #: ("lanes"), whole ("quads") or two by two ("pairs")
    slides: str = ""

    @property
    def widest(self) -> int:
        return max(self.rows)

    @property
    def activation(self) -> str:
        return "uint8" if self.byte_offset else "int8"


#: Accumulators plus weights plus one broadcast fit the register file (32 or 16); at least ten of them hide
#: the five cycles of a dot product on two ports.
VECTOR_ISAS: dict[str, VectorIsa] = {
    "amx": VectorIsa("amx", 16, {1: 24, 2: 12, 3: 8, 4: 6}, grouped=True, matrix=True),
    "avx512vnni": VectorIsa("avx512vnni", 16, {1: 24, 2: 12, 3: 8, 4: 6}, grouped=True),
    "avxvnni": VectorIsa("avxvnni", 8, {1: 12, 2: 6}, grouped=True),
    "avx2": VectorIsa("avx2", 8, {1: 8, 2: 4}, grouped=True, widens=True),
    "sse41": VectorIsa("sse41", 4, {1: 8, 2: 4}, grouped=True, widens=True),
    "i8mm": VectorIsa("i8mm", 4, {1: 12, 2: 8, 4: 6}, byte_offset=0, slides="pairs"),
    "neondot": VectorIsa("neondot", 4, {1: 12, 2: 8, 4: 6}, byte_offset=0, slides="lanes"),
    "neon": VectorIsa("neon", 4, {1: 12, 2: 8, 4: 4}, "halves", byte_offset=0, slides="quads"),
    "mve": VectorIsa("mve", 1, {1: 16}, byte_offset=0),  # sums in memory, four accumulators at a time
    "smlad": VectorIsa("smlad", 1, {1: 4, 2: 2}, byte_offset=0),
    "armv7neon": VectorIsa("armv7neon", 4, {1: 6, 2: 4}, "halves", byte_offset=0),
}


#: Those of the float32 kernels: at least eight accumulators hide the four cycles of a multiply-add on two ports.
FLOAT_ISAS: dict[str, VectorIsa] = {
    "float_avx512": VectorIsa("float_avx512", 16, {1: 24, 2: 12, 3: 8, 4: 6, 8: 1}),
    "float_avx2": VectorIsa("float_avx2", 8, {1: 12, 2: 6, 3: 4, 4: 2, 8: 1}),
    "float_neon": VectorIsa("float_neon", 4, {1: 24, 2: 12, 3: 8, 4: 6, 8: 1}),
}


@dataclass(frozen=True)
class Tile:
    """`rows` convolution outputs (a multiple of the pool) times `vectors` registers of channels."""

    rows: int
    vectors: int


#: most bytes that a tile widens to the stack (include/libsedge/wide_tile.inc)
WIDE = 2048


def reach(conv: Conv1d, width: int, tile: Tile) -> int:
    """Bytes from the first to the last that a tile's windows read; `width` bytes a position."""
    taps = conv.weight.shape[2]
    return ((tile.rows - 1) * conv.stride + (taps - 1) * conv.dilation + 1) * width + 3


def choose_tile(isa: VectorIsa, registers: int, positions: int, pool: int) -> Tile | None:
    """The tile with the fewest loads a dot product, (rows + vectors) / (rows * vectors).

    registers : of output channels; positions : pooled outputs. None where the pool is too wide for any tile.
    """
    best: tuple[float, Tile] | None = None
    for vectors in sorted(isa.rows, reverse=True):
        rows = min(isa.rows[vectors] // pool, positions) * pool
        if vectors > registers or rows == 0:
            continue
        loads = (rows + vectors) / (rows * vectors)
        if registers % vectors:
            loads += 0.5  # a narrower last panel stores register by register
        if best is None or loads < best[0] - 1e-9:
            best = (loads, Tile(rows, vectors))
    return None if best is None else best[1]
