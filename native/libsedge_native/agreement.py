"""How far ONNX Runtime's arithmetic is from ours, measured: `python -m libsedge_native.agreement [GRAPHS]`.

Needs onnxruntime. Prints the figures of docs/quant_spec.md, section 5: random graphs whose ops all follow ONNX Runtime,
and one op at a time for the two that do not. About a minute for 150 graphs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np

from libsedge_native.ir import Add, AveragePool1d, GlobalAveragePool, Graph, Quant, Tensor
from libsedge_native.random_graph import random_graph
from libsedge_native.verify import OrtCheck, verify_ort

#: ops whose arithmetic is ours, at most one step from ONNX Runtime's in any cell
OURS = (Add, AveragePool1d)


def graphs_that_agree(count: int) -> Iterator[tuple[int, Graph]]:
    """The first `count` random graphs, with their seeds, that have none of OURS."""
    seed = 0
    while count > 0:
        graph = random_graph(seed)
        if not any(isinstance(op, OURS) for op in graph.ops):
            yield seed, graph
            count -= 1
        seed += 1


def one_op(seed: int, kind: type, channels: int = 1000, simple: bool = False) -> Graph:
    """One average pool, or the sum of two global averages, over `channels` channels; scales and zero points at random.

    `simple` makes all scales simple ratios of one, so that many results lie on a tie, or beside it by a rounding.

    The window is not all of the input: ONNX Runtime would take its global average.
    """
    rng = np.random.default_rng(seed)

    def quant(low: float, high: float) -> Quant:
        scale = 0.01 * float(rng.choice([1, 2, 3, 4, 5, 8])) if simple else rng.uniform(low, high)
        return Quant(float(scale), int(rng.integers(-128, 128)))

    kernel = int(rng.integers(2, 7))
    pads = (int(rng.integers(0, 2)), 0)
    first = Tensor(channels, kernel + 1 - sum(pads), quant(0.02, 0.05))
    pool = AveragePool1d(
        "pool", kernel, kernel, quant(0.01, 0.05), pads, bool(rng.random() < 0.5), ("input",)
    )
    if kind is AveragePool1d:
        return Graph("mean", first, (pool,))
    means = tuple(GlobalAveragePool(n, quant(0.01, 0.05), ("input",)) for n in ("a", "b"))
    return Graph("sum", first, (*means, Add("sum", quant(0.03, 0.1), ("a", "b"))))


def _line(name: str, checks: list[OrtCheck]) -> str:
    cells, different = sum(c.cells for c in checks), sum(c.different for c in checks)
    plain = sum(c.float_different for c in checks)
    return (
        f"{name}: {cells} cells (int8 and uint8 runs), {different} differ, by at most "
        f"{max(c.max_difference for c in checks)}; unoptimised {cells // 2} cells, {plain} differ, by at most "
        f"{max(c.float_max_difference for c in checks)}"
    )


def main(count: int) -> None:
    """Print the table."""
    checks = [verify_ort(graph, count=8, seed=seed) for seed, graph in graphs_that_agree(count)]
    print(_line(f"{count} random graphs without Add and AveragePool", checks))
    for kind in OURS:
        checks = [verify_ort(one_op(seed, kind), count=6, seed=seed) for seed in range(count)]
        print(_line(f"{kind.__name__} alone, {count} times scales at random", checks))
        checks = [verify_ort(one_op(seed, kind, simple=True), count=6, seed=seed) for seed in range(count)]
        print(_line(f"{kind.__name__} alone, {count} times scales in simple ratios", checks))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 150)
