"""The peers, one function each, and ours. A peer that cannot run raises `Absent` with the reason.

Each function takes a graph and returns a `Side`: a call without arguments that runs one spectrum already in the
runtime's own input buffer, and its output for a given input. Every runtime runs on one thread.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import nets
import numpy as np
from libsedge import _core
from libsedge_native import toolchain, verify
from libsedge_native.generate import generate
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


def _need(module: str, package: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise Absent(f"{package} is not installed (pip install -e '.[peers]')")


def _real(graph: Graph, x: Int8) -> NDArray[np.float32]:
    q = graph.input.quant
    return ((x.astype(np.float32) - q.zero_point) * np.float32(q.scale)).astype(np.float32)


def _steps(graph: Graph, logits: NDArray[Any]) -> NDArray[np.float32]:
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
    _need("onnxruntime", "onnxruntime")
    data = to_onnx(graph, unsigned=True)
    shape = (1, *graph.input.shape)
    call, raw = _onnxruntime(data, shape, np.zeros(shape, np.uint8))

    def answer(x: Int8) -> NDArray[Any]:
        return np.asarray((raw(x.view(np.uint8) ^ np.uint8(0x80)) ^ np.uint8(0x80)).view(np.int8))

    return Side(call, answer, "int8", len(data))


def _ort_fp32(graph: Graph, two_d: bool) -> Side:
    _need("onnxruntime", "onnxruntime")
    data = nets.float_onnx(graph, two_d=two_d)
    shape = (1, graph.input.channels, *([1] if two_d else []), graph.input.length)
    call, raw = _onnxruntime(data, shape, np.ones(shape, np.float32))
    return Side(call, lambda x: _steps(graph, raw(_real(graph, x))), "float32", len(data))


def ort_fp32_conv1d(graph: Graph) -> Side:
    """ONNX Runtime float32 in the spelling that comes out of an exporter."""
    return _ort_fp32(graph, False)


def ort_fp32_conv2d(graph: Graph) -> Side:
    """The same net as Conv2d of height 1: ONNX Runtime's blocked layout applies to four axes only."""
    return _ort_fp32(graph, True)


def _litert(graph: Graph, quantised: bool) -> Side:
    _need("ai_edge_litert", "ai-edge-litert")
    from ai_edge_litert.interpreter import Interpreter  # type: ignore[import-not-found]
    from tflite_model import to_tflite

    data = to_tflite(graph, quantised=quantised)
    model = Interpreter(model_content=data, num_threads=1)
    model.allocate_tensors()
    source, target = model.get_input_details()[0], model.get_output_details()[0]

    def answer(x: Int8) -> NDArray[Any]:
        value = x if quantised else _real(graph, x)
        model.set_tensor(source["index"], value.reshape(source["shape"]))
        model.invoke()
        y = np.asarray(model.get_tensor(target["index"])).reshape(-1)
        return y if quantised else _steps(graph, y)

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
    _need("openvino", "openvino")
    data = to_onnx(graph, unsigned=True)
    call, raw = _openvino(data, np.zeros((1, *graph.input.shape), np.uint8))

    def answer(x: Int8) -> NDArray[Any]:
        return np.asarray((raw(x.view(np.uint8) ^ np.uint8(0x80)).copy() ^ np.uint8(0x80)).view(np.int8))

    return Side(call, answer, "int8", len(data))


def _openvino_float(graph: Graph, precision: str, dtype: str) -> Side:
    _need("openvino", "openvino")
    data = nets.float_onnx(graph, two_d=False)
    call, raw = _openvino(data, np.ones((1, *graph.input.shape), np.float32), precision)
    return Side(call, lambda x: _steps(graph, raw(_real(graph, x))), dtype, len(data))


def openvino_fp32(graph: Graph) -> Side:
    """OpenVINO, float32 throughout."""
    return _openvino_float(graph, "f32", "float32")


def openvino_bf16(graph: Graph) -> Side:
    """OpenVINO, the same model in bfloat16, its own default where the CPU has AMX; not float32 arithmetic."""
    return _openvino_float(graph, "bf16", "bfloat16")


def torch_eager(graph: Graph) -> Side:
    """PyTorch, float32, one thread, the functional form without a module around it."""
    _need("torch", "torch")
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

    def run(x: Any = source) -> Any:
        with torch.inference_mode():
            return forward(x)

    def answer(x: Int8) -> NDArray[Any]:
        return _steps(graph, run(torch.from_numpy(_real(graph, x)).reshape(1, 1, -1)).numpy())

    return Side(run, answer, "float32", sum(4 * v.numel() for pair in weights.values() for v in pair))


def _not_measured(reason: str) -> Callable[[Graph], Side]:
    def peer(graph: Graph) -> Side:
        raise Absent(reason)

    return peer


#: row -> (function, distribution whose installed size is reported)
PEERS: dict[str, tuple[Callable[[Graph], Side], str]] = {
    "onnxruntime int8": (ort_int8, "onnxruntime"),
    "onnxruntime fp32 conv1d": (ort_fp32_conv1d, "onnxruntime"),
    "onnxruntime fp32 conv2d": (ort_fp32_conv2d, "onnxruntime"),
    "litert int8": (litert_int8, "ai-edge-litert"),
    "litert fp32": (litert_fp32, "ai-edge-litert"),
    "openvino int8": (openvino_int8, "openvino"),
    "openvino fp32": (openvino_fp32, "openvino"),
    "openvino bf16": (openvino_bf16, "openvino"),
    "ncnn": (
        _not_measured("not tried here: needs a converter (pnnx) and, for int8, tools built from source"),
        "ncnn",
    ),
    "mnn": (_not_measured("not tried here (its int8 converter is reported to abort on 1-D nets)"), "MNN"),
    "tvm": (_not_measured("not tried here: needs hours of tuning to be a fair peer"), "apache-tvm"),
    "executorch": (_not_measured("not installed here; imports torch"), "executorch"),
    "pytorch eager fp32": (torch_eager, "torch"),
}


def ours(graph: Graph) -> tuple[dict[str, Side], str]:
    """Our kernel compiled now: one side for every instruction set that this machine runs, and the default one."""
    so = toolchain.compile_shared(generate(graph))
    x = np.zeros(graph.input.length, np.int8)
    sides = {}
    for isa, runnable in _core.Model(so, "scalar").isas:
        if runnable:
            model = _core.Model(so, isa)
            sides[isa] = Side(lambda model=model: model.run(x), model.run, "int8", len(so), model.arena_bytes)
    return sides, _core.Model(so).isa


def installed_mib(distribution: str) -> float | None:
    """Size of an installed distribution's files, without what it depends on."""
    try:
        files = metadata.files(distribution) or []
    except metadata.PackageNotFoundError:
        return None
    total = sum(p.stat().st_size for f in files if (p := f.locate()).is_file())  # type: ignore[attr-defined]
    return round(total / 2**20, 1)
