"""Grouped convolutions beside ONNX Runtime: 64 channels in 1, 4 and 8 groups, whose zeros our vector kernels multiply.

python benchmarks/groups.py                    one pinned core, one thread, in turn
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from libsedge import _core
from libsedge_native import timing, toolchain
from libsedge_native.generate import generate
from libsedge_native.ir import Conv1d, Dense, Flatten, GlobalAveragePool, Graph, Op, Quant, Tensor

CHANNELS, LENGTH, TAPS, LAYERS, CLASSES = 64, 1350, 7, 3, 12


def net(groups: int) -> Graph:
    """A first layer of stride 4, then `LAYERS` grouped ones of the same size; random weights."""
    rng, quant = np.random.default_rng(1), Quant(0.05, -128)

    def parameters(*shape: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        weight = rng.integers(-127, 128, shape).astype(np.int8)
        return weight, np.zeros(shape[0], np.int32), np.full(shape[0], 0.003, np.float32)

    first = Conv1d("first", *parameters(CHANNELS, 1, TAPS), quant, stride=4, pads=(3, 3), relu=True)
    grouped = [
        Conv1d(
            f"grouped{i}",
            *parameters(CHANNELS, CHANNELS // groups, TAPS),
            quant,
            pads=(3, 3),
            groups=groups,
            relu=True,
        )
        for i in range(LAYERS)
    ]
    dense = Dense("dense", *parameters(CLASSES, CHANNELS), Quant(0.1, 0))
    ops: tuple[Op, ...] = (first, *grouped, GlobalAveragePool("average", quant), Flatten("flatten"), dense)
    return Graph(f"groups{groups}", Tensor(1, 4 * LENGTH, Quant(0.03, -128)), ops)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=12)
    arguments = parser.parse_args()
    timing.pin_to_one_core()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    x = np.random.default_rng(2).integers(-128, 128, 4 * LENGTH).astype(np.int8)
    sides: dict[str, Callable[[], object]] = {}
    for groups in (1, 4, 8):
        generated = generate(net(groups))
        shared = toolchain.compile_shared(generated)
        best = _core.Model(shared)
        for model in (best, _core.Model(shared, "avx512vnni"), _core.Model(shared, "avx2")):
            sides[f"{groups} groups, libsedge {model.isa}"] = partial(model.run, x)
        session = onnxruntime.InferenceSession(generated.onnx, options)
        asked = session.get_inputs()[0]
        whole = x if "int8" in asked.type else x.astype(np.float32)
        feed = {asked.name: whole.reshape(1, 1, -1)}
        sides[f"{groups} groups, ONNX Runtime {onnxruntime.__version__}"] = partial(session.run, None, feed)
    for name, found in timing.interleaved(sides, rounds=arguments.rounds, burst=8, warmup=2).items():
        print(f"{name:40} median {found.median_us:9.1f} us   min {found.min_us:9.1f} us")


if __name__ == "__main__":
    main()
