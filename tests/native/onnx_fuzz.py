"""Real model files, damaged at random: the importer answers with a graph or a ModelError, in bounded time and memory.

    python tests/native/onnx_fuzz.py --count 20000

The files are onnxruntime.quantization's (int8, uint8, 2-D spelling, branches) and our own. A mutation is a seed: some
change fields of the protobuf (dimensions, scales, types, names, inputs, attributes, order), some bytes, some cut the
file off. The process may not map more than MEMORY beyond what it had, and a file may not take more than SECONDS.
"""

from __future__ import annotations

import argparse
import importlib.util
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from libsedge.errors import ModelError
from libsedge_native.onnx_export import to_onnx
from libsedge_native.onnx_import import read_onnx
from libsedge_native.random_graph import random_graph
from onnx import ModelProto, helper, numpy_helper

SECONDS = 20
#: bytes of address space beyond the start; a damaged file of some tens of kilobytes needs a fraction
MEMORY = 1 << 30
NUMBERS = (0, 1, -1, 2, 3, 127, 4096, 1 << 20, 1 << 31, 1 << 40, (1 << 62), -(1 << 62))
SCALES = (0.0, -1.0, float("nan"), float("inf"), 1e-45, 3e38, 0.013)


def files(folder: Path) -> list[bytes]:
    """What the mutations start from."""
    spec = importlib.util.spec_from_file_location(
        "producers", Path(__file__).with_name("test_onnx_producers.py")
    )
    assert spec is not None
    assert spec.loader is not None
    producers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(producers)
    found = [
        producers.quantised(producers.plain(False), folder, "QInt8"),
        producers.quantised(producers.plain(True), folder, "QUInt8"),
        producers.quantised(producers.branched(False), folder, "QUInt8"),
    ]
    options = {"AddQDQPairToWeight": True, "QuantizeBias": False, "ActivationSymmetric": True}
    other = onnx.load_model_from_string(
        producers.quantised(producers.plain(False), folder, "QInt8", extra_options=options)
    )
    found.append(other.SerializeToString())
    producers.constants_as_nodes(other)  # one initialiser stays: what damages files asks for one
    other.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "unread"))
    found.append(other.SerializeToString())
    return [*found, *(to_onnx(random_graph(seed)) for seed in (4, 8, 12))]


def _field(rng: np.random.Generator, model: ModelProto) -> None:
    """One change to the model's fields."""
    graph = model.graph
    node, tensor = (
        graph.node[rng.integers(len(graph.node))],
        graph.initializer[rng.integers(len(graph.initializer))],
    )
    other = graph.node[rng.integers(len(graph.node))]
    number = int(rng.choice(np.array(NUMBERS, object)))
    kind = int(rng.integers(14))
    if kind == 0 and tensor.dims:
        tensor.dims[int(rng.integers(len(tensor.dims)))] = number
    elif kind == 1:
        tensor.data_type = int(rng.integers(0, 24))
    elif (
        kind == 2
        and tensor.data_type == onnx.TensorProto.FLOAT
        and np.prod(tensor.dims) * 4 == len(tensor.raw_data)
    ):
        values = numpy_helper.to_array(tensor).copy().reshape(-1)
        values[int(rng.integers(values.size))] = rng.choice(SCALES)
        tensor.CopyFrom(numpy_helper.from_array(values.reshape(tuple(tensor.dims)), tensor.name))
    elif kind == 3:
        graph.initializer.remove(tensor)
    elif kind == 4:
        graph.node.remove(node)
    elif kind == 5 and node.input and other.output:  # often a cycle
        node.input[int(rng.integers(len(node.input)))] = other.output[0]
    elif kind == 6:
        node.op_type = other.op_type
    elif kind == 7 and node.attribute:
        attribute = node.attribute[int(rng.integers(len(node.attribute)))]
        if attribute.ints:
            attribute.ints[int(rng.integers(len(attribute.ints)))] = number
        else:
            attribute.i = number
    elif kind == 8:
        size = graph.input[0].type.tensor_type.shape.dim
        size[int(rng.integers(len(size)))].dim_value = number
    elif kind == 9:
        tensor.data_location = onnx.TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", "/etc/passwd"
    elif kind == 10:
        model.opset_import[0].version = number
    elif kind == 11:
        node.attribute.append(helper.make_attribute("surprise", [1.5] * 3))
    elif kind == 12:
        order = rng.permutation(len(graph.node))
        nodes = [onnx.NodeProto.FromString(graph.node[i].SerializeToString()) for i in order]
        del graph.node[:]
        graph.node.extend(nodes)
    else:
        tensor.raw_data = tensor.raw_data[: int(rng.integers(0, 4))] * int(rng.integers(1, 5))


def mutated(seed: int, bases: list[bytes]) -> bytes:
    """The damaged file of a seed."""
    rng = np.random.default_rng(seed)
    data = bases[int(rng.integers(len(bases)))]
    if rng.random() < 0.7:
        model = onnx.load_model_from_string(data)
        for _ in range(int(rng.integers(1, 4))):
            if model.graph.node and model.graph.initializer:
                _field(rng, model)
        data = model.SerializeToString()
    raw = bytearray(data)
    if rng.random() < 0.4:
        for at in rng.integers(0, len(raw), int(rng.integers(1, 8))):
            raw[at] = int(rng.integers(256))
    if rng.random() < 0.2:
        del raw[int(rng.integers(len(raw))) :]
    return bytes(raw)


def _late(*_: Any) -> None:
    raise TimeoutError(f"more than {SECONDS} s")


def run(first: int, count: int, bases: list[bytes], progress: bool = False) -> Counter[str]:
    """How many files were refused or read, and the slowest; raises AssertionError naming the seed of another end."""
    found: Counter[str] = Counter()
    signal.signal(signal.SIGALRM, _late)
    for seed in range(first, first + count):
        data = mutated(seed, bases)
        begin = time.perf_counter()
        signal.alarm(SECONDS)
        try:
            read_onnx(data)
            found["read"] += 1
        except ModelError as why:
            found["refused"] += 1
            found["refused by node, op or constant"] += any(
                mark in str(why) for mark in ("node '", "initialiser", "input '", " '")
            )
        except BaseException as other:
            raise AssertionError(f"seed {seed} ended with {type(other).__name__}: {other}") from other
        finally:
            signal.alarm(0)
        found["slowest_us"] = max(found["slowest_us"], int(1e6 * (time.perf_counter() - begin)))
        if progress and (seed + 1) % 500 == 0:
            print(f"{seed + 1:,} files: {dict(found)}", flush=True)
    return found


def limit_memory(more: int) -> None:
    """Let this process map at most `more` bytes beyond what it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument(
        "--first", type=int, default=0, help="the first seed: one failing file is --first N --count 1"
    )
    parser.add_argument("--memory", type=int, default=MEMORY)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sedge-") as folder:
        bases = files(Path(folder))
    limit_memory(arguments.memory)
    found = run(arguments.first, arguments.count, bases, progress=arguments.count > 500)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{arguments.count:,} files: {dict(found)}, peak resident {grown} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
