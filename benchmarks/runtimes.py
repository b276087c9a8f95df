"""The peers, one function each, and ours. A peer that cannot run raises `Absent` with the reason.

Each function takes a graph and returns a `Side`: a call without arguments that runs one spectrum already in the
runtime's own input buffer, and its output for a given input. Every runtime runs on one thread.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import libsedge
import nets
import numpy as np
from libsedge import _core
from libsedge_native import timing, verify
from libsedge_native.ir import Conv1d, Dense, GlobalAveragePool, Graph, MaxPool1d
from libsedge_native.onnx_export import to_onnx
from numpy.typing import NDArray

Int8 = NDArray[np.int8]


class Absent(Exception):
    """A peer did not run; the message is the reason."""


@dataclass(frozen=True)
class Side:
    """One runtime with one model. `answer` maps int8 [input_len] to the logits as int8 steps (float for fp32)."""

    call: Callable[[], object]
    answer: Callable[[Int8], NDArray[Any]]
    dtype: str
    model_bytes: int
    arena_bytes: int | None = None


def need(module: str, package: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise Absent(f"{package} is not installed (pip install -e '.[peers]')")


def real(graph: Graph, x: Int8) -> NDArray[np.float32]:
    q = graph.input.quant
    return ((x.astype(np.float32) - q.zero_point) * np.float32(q.scale)).astype(np.float32)


def steps(graph: Graph, logits: NDArray[Any]) -> NDArray[np.float32]:
    q = graph.output.quant
    return np.asarray(logits, np.float32).reshape(-1) / np.float32(q.scale) + q.zero_point


def _onnxruntime(data: bytes, shape: tuple[int, ...], first: NDArray[Any]) -> tuple[Callable[..., Any], Any]:
    """An IO-bound session: (call, answer of a raw input)."""
    import onnxruntime as ort  # type: ignore[import-untyped]

    session = verify.ort_session(data)
    source = ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(first.reshape(shape)))
    output = session.run(None, {session.get_inputs()[0].name: first.reshape(shape)})[0]
    target = ort.OrtValue.ortvalue_from_numpy(np.zeros_like(output))
    binding = session.io_binding()
    binding.bind_ortvalue_input(session.get_inputs()[0].name, source)
    binding.bind_ortvalue_output(session.get_outputs()[0].name, target)

    def answer(x: NDArray[Any]) -> NDArray[Any]:
        source.update_inplace(np.ascontiguousarray(x.reshape(shape)))
        session.run_with_iobinding(binding)
        return np.asarray(target.numpy()).reshape(-1)

    return (lambda: session.run_with_iobinding(binding)), answer


def ort_int8(graph: Graph) -> Side:
    """ONNX Runtime, uint8 activations and int8 weights: every op quantised, its fastest form on x86."""
    need("onnxruntime", "onnxruntime")
    data = to_onnx(graph, unsigned=True)
    shape = (1, *graph.input.shape)
    call, raw = _onnxruntime(data, shape, np.zeros(shape, np.uint8))

    def answer(x: Int8) -> NDArray[Any]:
        return np.asarray((raw(x.view(np.uint8) ^ np.uint8(0x80)) ^ np.uint8(0x80)).view(np.int8))

    return Side(call, answer, "int8", len(data))


def _ort_fp32(graph: Graph, two_d: bool) -> Side:
    need("onnxruntime", "onnxruntime")
    data = nets.float_onnx(graph, two_d=two_d)
    shape = (1, graph.input.channels, *([1] if two_d else []), graph.input.length)
    call, raw = _onnxruntime(data, shape, np.ones(shape, np.float32))
    return Side(call, lambda x: steps(graph, raw(real(graph, x))), "float32", len(data))


def ort_fp32_conv1d(graph: Graph) -> Side:
    """ONNX Runtime float32 in the spelling that comes out of an exporter."""
    return _ort_fp32(graph, False)


def ort_fp32_conv2d(graph: Graph) -> Side:
    """The same net as Conv2d of height 1: ONNX Runtime's blocked layout applies to four axes only."""
    return _ort_fp32(graph, True)


def _litert(graph: Graph, quantised: bool) -> Side:
    need("ai_edge_litert", "ai-edge-litert")
    from ai_edge_litert.interpreter import Interpreter  # type: ignore[import-not-found]
    from tflite_model import to_tflite

    data = to_tflite(graph, quantised=quantised)
    model = Interpreter(model_content=data, num_threads=1)
    model.allocate_tensors()
    source, target = model.get_input_details()[0], model.get_output_details()[0]

    def answer(x: Int8) -> NDArray[Any]:
        value = x if quantised else real(graph, x)
        model.set_tensor(source["index"], value.reshape(source["shape"]))
        model.invoke()
        y = np.asarray(model.get_tensor(target["index"])).reshape(-1)
        return y if quantised else steps(graph, y)

    answer(np.zeros(graph.input.length, np.int8))
    return Side(model.invoke, answer, "int8" if quantised else "float32", len(data))


def litert_int8(graph: Graph) -> Side:
    """LiteRT (TensorFlow Lite) with its XNNPACK delegate, int8 weights per channel."""
    return _litert(graph, True)


def litert_fp32(graph: Graph) -> Side:
    """LiteRT with XNNPACK, float32."""
    return _litert(graph, False)


def _openvino(
    data: bytes, first: NDArray[Any], precision: str = "f32"
) -> tuple[Callable[[], object], Callable[..., Any]]:
    import openvino as ov  # type: ignore[import-not-found]

    core = ov.Core()
    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
    hints["INFERENCE_PRECISION_HINT"] = precision
    request = core.compile_model(core.read_model(data), "CPU", hints).create_infer_request()
    tensor = ov.Tensor(first)
    request.set_input_tensor(tensor)
    request.infer()

    def answer(x: NDArray[Any]) -> NDArray[Any]:
        tensor.data[:] = x.reshape(tensor.data.shape)
        request.infer()
        return np.asarray(request.get_output_tensor().data).reshape(-1)

    return request.infer, answer


def openvino_int8(graph: Graph) -> Side:
    """OpenVINO reading the same QDQ ONNX with uint8 activations."""
    need("openvino", "openvino")
    data = to_onnx(graph, unsigned=True)
    call, raw = _openvino(data, np.zeros((1, *graph.input.shape), np.uint8))

    def answer(x: Int8) -> NDArray[Any]:
        return np.asarray((raw(x.view(np.uint8) ^ np.uint8(0x80)).copy() ^ np.uint8(0x80)).view(np.int8))

    return Side(call, answer, "int8", len(data))


def _openvino_float(graph: Graph, precision: str, dtype: str) -> Side:
    need("openvino", "openvino")
    data = nets.float_onnx(graph, two_d=False)
    call, raw = _openvino(data, np.ones((1, *graph.input.shape), np.float32), precision)
    return Side(call, lambda x: steps(graph, raw(real(graph, x))), dtype, len(data))


def openvino_fp32(graph: Graph) -> Side:
    """OpenVINO, float32 throughout."""
    return _openvino_float(graph, "f32", "float32")


def openvino_bf16(graph: Graph) -> Side:
    """OpenVINO, the same model in bfloat16, its own default where the CPU has AMX; not float32 arithmetic."""
    return _openvino_float(graph, "bf16", "bfloat16")


def _torch(graph: Graph, compiled: bool) -> Side:
    need("torch", "torch")
    import torch
    from torch.nn import functional as f

    torch.set_num_threads(1)
    weights = {
        op.name: [torch.from_numpy(v) for v in nets.real_weights(op, x)]
        for op, x in zip(graph.ops, graph.tensors, strict=False)
        if isinstance(op, (Conv1d, Dense))
    }

    def forward(x: Any) -> Any:
        for op in graph.ops:
            if isinstance(op, Conv1d):
                x = f.relu(f.conv1d(x, *weights[op.name], stride=op.stride))
            elif isinstance(op, MaxPool1d):
                x = f.max_pool1d(x, op.kernel, op.stride)
            elif isinstance(op, Dense):
                x = f.linear(x, *weights[op.name])
                x = f.relu(x) if op.relu else x
            else:
                x = x.mean(dim=2, keepdim=True) if isinstance(op, GlobalAveragePool) else x.flatten(1)
        return x

    source = torch.ones(1, *graph.input.shape)
    call = torch.compile(forward, dynamic=False) if compiled else forward

    def run(x: Any = source) -> Any:
        with torch.inference_mode():
            return call(x)

    try:
        run()
    except Exception as why:  # the compiler of torch.compile raises many types
        raise Absent(f"torch.compile failed: {type(why).__name__}: {str(why).splitlines()[0]}") from why

    def answer(x: Int8) -> NDArray[Any]:
        return steps(graph, run(torch.from_numpy(real(graph, x)).reshape(1, 1, -1)).numpy())

    return Side(run, answer, "float32", sum(4 * v.numel() for pair in weights.values() for v in pair))


def torch_eager(graph: Graph) -> Side:
    """PyTorch, float32, one thread, the functional form without a module around it."""
    return _torch(graph, False)


def torch_compiled(graph: Graph) -> Side:
    """The same through torch.compile (inductor, C++)."""
    return _torch(graph, True)


Peers = dict[str, tuple[Callable[[Graph], Side], str]]


def _not_measured(reason: str) -> Callable[[Graph], Side]:
    def peer(graph: Graph) -> Side:
        raise Absent(reason)

    return peer


#: row -> (function, distribution whose installed size is reported)
PEERS: Peers = {
    "onnxruntime int8": (ort_int8, "onnxruntime"),
    "onnxruntime fp32 conv1d": (ort_fp32_conv1d, "onnxruntime"),
    "onnxruntime fp32 conv2d": (ort_fp32_conv2d, "onnxruntime"),
    "litert int8": (litert_int8, "ai-edge-litert"),
    "litert fp32": (litert_fp32, "ai-edge-litert"),
    "openvino int8": (openvino_int8, "openvino"),
    "openvino fp32": (openvino_fp32, "openvino"),
    "openvino bf16": (openvino_bf16, "openvino"),
    "pytorch eager fp32": (torch_eager, "torch"),
    "pytorch compiled fp32": (torch_compiled, "torch"),
    "tvm": (
        _not_measured(
            "without hours of tuning no fair peer: 0.27.0 took 3,287 us on S (least of 50, 2026-11-22)"
        ),
        "apache-tvm",
    ),
    "executorch": (
        _not_measured(
            "brings 27 packages along (coremltools, torchao, tokenizers); in a folder of its own 1.5.1 with XNNPACK "
            "took 71 us on S in float32 as Conv2d (least of 300, 2026-11-22)"
        ),
        "executorch",
    ),
}


def ours(net: str) -> tuple[dict[str, Side], str]:
    """Our kernel compiled now: one side for every instruction set that this machine runs, and the default one."""
    so = nets.compiled(net)
    x = np.zeros(nets.NETS[net].length, np.int8)
    sides = {}
    for isa, runnable in _core.Model(so, "scalar").isas:
        if runnable:
            model = _core.Model(so, isa)
            sides[isa] = Side(lambda model=model: model.run(x), model.run, "int8", len(so), model.arena_bytes)
    return sides, _core.Model(so).isa


def binding_us(net: str) -> float:
    """What a call from Python adds to the C call: one call less its share of a batch of 64, least of many."""
    model = _core.Model(nets.compiled(net))
    x = np.zeros((64, nets.NETS[net].length), np.int8)
    out = model.run_batch(x)
    sides: dict[str, Callable[[], object]] = {
        "one": lambda: [model.run(x[0]) for _ in range(64)] and None,
        "batch": lambda: model.run_batch(x, out),
    }
    times = timing.interleaved(sides, rounds=20, burst=10, warmup=2)
    return (times["one"].min_us - times["batch"].min_us) / 64


def installed_mib(distribution: str) -> float | None:
    """Size of an installed distribution's files, without what it depends on."""
    if distribution == "libsedge":  # installed in place here: what the board's wheel holds
        board = Path(libsedge.__file__).parent.rglob("*")
        return round(sum(f.stat().st_size for f in board if f.is_file() and f.suffix != ".pyc") / 2**20, 1)
    try:
        files = metadata.files(distribution) or []
    except metadata.PackageNotFoundError:
        return None
    total = sum(p.stat().st_size for f in files if (p := f.locate()).is_file())  # type: ignore[attr-defined]
    return round(total / 2**20, 1)
