"""Our float32 kernels as rows beside the peers (peers.py)."""

from __future__ import annotations

from typing import Any

import numpy as np
import runtimes
from libsedge import _core
from libsedge_native import timing, toolchain
from libsedge_native.float_graph import dequantised
from libsedge_native.generate import generate
from libsedge_native.ir import Conv1d, Dense, Graph
from libsedge_native.targets import target_of
from numpy.typing import NDArray

#: the loop of libsedge_native.peak that bounds each instruction set. Toom-Cook multiplies less than the MACs that
#: the share of that limit is taken of, so it may exceed 1.
BOUND = {"avx512": "peak fma zmm", "avx2": "peak fma ymm"}

#: whose logits ours are compared with; the output's zero point is 0, so that a step is a multiple of a logit
PEER = "onnxruntime fp32 conv1d"

#: weights from which only the first instruction set is built: the source of M_fc has 35 MB a kernel
MANY = 1 << 20


def ours(graph: Graph) -> dict[str, runtimes.Side]:
    """The int8 graph's float32 twin compiled now: one side for every instruction set that this machine runs."""
    isas = target_of(toolchain.HOST_TARGET).float_isas
    weights = sum(op.weight.size for op in graph.ops if isinstance(op, (Conv1d, Dense)))
    if weights > MANY:
        isas = isas[:1]
    generated = generate(dequantised(graph), isas=isas, precision="float32")
    so = toolchain.compile_shared(generated)
    x = np.ones(generated.input_len, np.float32)
    sides = {}
    for isa, runnable in _core.FloatModel(so, "scalar").isas:
        if runnable:
            model = _core.FloatModel(so, isa)
            model.self_test()
            sides[isa] = runtimes.Side(
                lambda model=model: model.run(x),
                lambda row, model=model: runtimes.steps(graph, model.run(runtimes.real(graph, row))),
                "float32",
                len(so),
                model.arena_bytes,
            )
    return sides


def details(
    isa: str,
    side: runtimes.Side,
    peers: dict[str, runtimes.Side],
    x: NDArray[np.int8],
    times: dict[str, timing.Timing],
    min_us: float,
) -> dict[str, Any]:
    """Memory, share of the multiply-add limit, and the difference from ONNX Runtime by the largest logit."""
    row: dict[str, Any] = {"arena_bytes": side.arena_bytes, "model_bytes": side.model_bytes}
    bound = BOUND.get(isa)
    if bound in times:
        row |= {"bound": bound, "peak_fraction": round(times[bound].min_us / min_us, 3)}
    if PEER in peers:
        pairs = [(side.answer(spectrum), peers[PEER].answer(spectrum)) for spectrum in x]
        worst = max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs)
        row["difference_to_onnxruntime"] = float(f"{worst:.2g}")
    return row


def ratios(peers: list[dict[str, Any]], ours_: list[dict[str, Any]]) -> dict[str, float | None]:
    """Fastest float32 peer by our fastest float32 row, by median and by minimum, of the rows of one net."""
    found: dict[str, float | None] = {}
    for stat in ("median", "min"):
        theirs, mine = (
            [row[f"{stat}_us"] for row in rows if row["dtype"] == "float32"] for rows in (peers, ours_)
        )
        found[f"fastest_peer_fp32_{stat}"] = round(min(theirs) / min(mine), 2) if theirs and mine else None
    return found
