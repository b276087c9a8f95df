"""Peers made for phones, ncnn and MNN; as in runtimes.py, and in the spelling that suits them: Conv2d of height 1."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import nets
import numpy as np
from libsedge_native.ir import Graph
from libsedge_native.onnx_export import to_onnx
from ncnn_model import to_ncnn
from numpy.typing import NDArray
from runtimes import Absent, Int8, Peers, Side, need, real, steps

#: MNN's own command line installs a package and reports to its makers at every start; this is the call inside it
_MNNCONVERT = "import sys, _tools; _tools.mnnconvert(sys.argv)"


def _ncnn(graph: Graph, quantised: bool) -> Side:
    need("ncnn", "ncnn")
    import ncnn  # type: ignore[import-not-found]

    text, weights = to_ncnn(graph, quantised=quantised)
    net = ncnn.Net()
    net.opt.num_threads = 1
    with tempfile.TemporaryDirectory(prefix="sedge-") as folder:
        param, binary = Path(folder) / "net.param", Path(folder) / "net.bin"
        param.write_text(text, encoding="utf-8")
        binary.write_bytes(weights)
        if net.load_param(str(param)) != 0 or net.load_model(str(binary)) != 0:
            raise Absent("ncnn refuses the model file")

    def run(source: Any) -> NDArray[Any]:
        extractor = net.create_extractor()
        extractor.input("input", source)
        return np.asarray(extractor.extract("logits")[1])

    def mat(x: Int8) -> Any:
        return ncnn.Mat(real(graph, x).reshape(1, 1, -1)).clone()

    first = mat(np.zeros(graph.input.length, np.int8))
    dtype = "int8" if quantised else "float32"
    return Side(lambda: run(first), lambda x: steps(graph, run(mat(x))), dtype, len(weights) + len(text))


def ncnn_int8(graph: Graph) -> Side:
    """ncnn, int8 by layer; symmetric, so an activation behind a ReLU has seven of the eight bits."""
    return _ncnn(graph, True)


def ncnn_fp32(graph: Graph) -> Side:
    """ncnn, float32."""
    return _ncnn(graph, False)


def _mnn_file(onnx: bytes) -> bytes:
    """The model after MNN's converter, which may abort: in a process of its own."""
    need("MNN", "MNN")
    with tempfile.TemporaryDirectory(prefix="sedge-") as name:
        folder = Path(name)
        (folder / "net.onnx").write_bytes(onnx)
        options = ["-f", "ONNX", "--modelFile", "net.onnx", "--MNNModel", "net.mnn", "--bizCode", "bench"]
        command = [sys.executable, "-c", _MNNCONVERT, *options]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
        if done.returncode != 0 or not (folder / "net.mnn").exists():
            last = done.stderr.strip().splitlines()[-1:] or ["no message"]
            raise Absent(f"MNN's converter ended with {done.returncode}: {last[0].strip()}")
        return (folder / "net.mnn").read_bytes()


def _mnn(graph: Graph, onnx: bytes, dtype: str) -> Side:
    data = _mnn_file(onnx)
    import MNN  # type: ignore[import-not-found]

    with tempfile.TemporaryDirectory(prefix="sedge-") as folder:
        path = Path(folder) / "net.mnn"
        path.write_bytes(data)
        net = MNN.Interpreter(str(path))
    session = net.createSession({"numThread": 1, "precision": "high"})
    source = net.getSessionInput(session)

    def answer(x: Int8) -> NDArray[Any]:
        shape = source.getShape()
        values = real(graph, x).reshape(shape)
        source.copyFrom(MNN.Tensor(shape, MNN.Halide_Type_Float, values, MNN.Tensor_DimensionType_Caffe))
        net.runSession(session)
        return steps(graph, np.array(net.getSessionOutput(session).getNumpyData()))

    answer(np.zeros(graph.input.length, np.int8))
    return Side(lambda: net.runSession(session), answer, dtype, len(data))


def mnn_fp32(graph: Graph) -> Side:
    """MNN, float32."""
    return _mnn(graph, nets.float_onnx(graph, two_d=True), "float32")


def mnn_int8(graph: Graph) -> Side:
    """MNN of the same quantised ONNX as ONNX Runtime's."""
    return _mnn(graph, to_onnx(graph, unsigned=True), "int8")


PEERS: Peers = {
    "ncnn int8": (ncnn_int8, "ncnn"),
    "ncnn fp32": (ncnn_fp32, "ncnn"),
    "mnn int8": (mnn_int8, "MNN"),
    "mnn fp32": (mnn_fp32, "MNN"),
}
