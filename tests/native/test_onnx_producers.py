"""Models that others quantised: onnxruntime.quantization's static QDQ, 2-D spellings, branches, Softmax, float ends."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from libsedge.errors import ModelError
from libsedge_native import reference, toolchain, verify
from libsedge_native.generate import generate
from libsedge_native.ir import Add, AveragePool1d, Concat, Conv1d, Dense, GlobalAveragePool
from libsedge_native.onnx_import import from_onnx, read_onnx
from onnx import TensorProto, helper, numpy_helper

quantization = pytest.importorskip("onnxruntime.quantization", reason="onnxruntime is not installed")

POINTS, CLASSES = 240, 5


class Net:
    """A float ONNX model, node by node, with random weights of a sensible size."""

    def __init__(self, two_d: bool) -> None:
        self.two_d, self.rng = two_d, np.random.default_rng(8)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def window(self, kernel: int, stride: int = 1, pads: tuple[int, int] = (0, 0)) -> dict[str, list[int]]:
        if self.two_d:
            return {"kernel_shape": [1, kernel], "strides": [1, stride], "pads": [0, pads[0], 0, pads[1]]}
        return {"kernel_shape": [kernel], "strides": [stride], "pads": list(pads)}

    def conv(self, x: str, name: str, shape: tuple[int, int, int], group: int = 1, **window: int) -> str:
        out, per_group, taps = shape
        weight = self.rng.normal(0, 1 / np.sqrt(per_group * taps), shape).astype(np.float32)
        if self.two_d:
            weight = weight.reshape(out, per_group, 1, taps)
        bias = self.rng.normal(0, 0.2, out).astype(np.float32)
        inputs = [x, self.constant(f"{name}_w", weight), self.constant(f"{name}_b", bias)]
        return self.node("Conv", inputs, name, group=group, **self.window(taps, **window))

    def gemm(self, x: str, name: str, inputs: int, outputs: int) -> str:
        weight = self.rng.normal(0, 1 / np.sqrt(inputs), (outputs, inputs)).astype(np.float32)
        bias = self.rng.normal(0, 0.2, outputs).astype(np.float32)
        names = [x, self.constant(f"{name}_w", weight), self.constant(f"{name}_b", bias)]
        return self.node("Gemm", names, name, transB=1)

    def model(self, shape: list[int], output: str) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "producer",
            [helper.make_tensor_value_info("spectrum", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, [1, CLASSES])],
            self.constants,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def plain(two_d: bool) -> onnx.ModelProto:
    """Conv, pools, Clip, average, dense: ops whose arithmetic equals ONNX Runtime's."""
    net = Net(two_d)
    x = "spectrum"
    if two_d:  # [1, 240] to [1, 1, 1, 240]
        x = net.node("Unsqueeze", [x, net.constant("axes", np.array([1, 2], np.int64))], "image")
    x = net.node("Relu", [net.conv(x, "conv1", (8, 1, 7), stride=2, pads=(3, 3))], "relu1")
    x = net.node("MaxPool", [x], "pool1", **net.window(2, 2, (1, 0)))
    x = net.conv(x, "conv2", (8, 1, 5), group=8)
    bounds = [net.constant("low", np.float32(0)), net.constant("high", np.float32(6))]
    x = net.node("Clip", [x, *bounds], "relu6")
    x = net.node("Relu", [net.conv(x, "conv3", (16, 8, 3))], "relu3")
    x = net.node("GlobalAveragePool", [x], "gap")
    x = net.node("Reshape", [x, net.constant("shape", np.array([1, -1], np.int64))], "flat")
    x = net.node("Relu", [net.gemm(x, "dense1", 16, 24)], "relu4")
    x = net.gemm(x, "logits", 24, CLASSES)
    return net.model([1, POINTS] if two_d else [1, 1, POINTS], x)


def branched(two_d: bool) -> onnx.ModelProto:
    """A residual sum, a concatenation, an average pool, a Softmax."""
    net = Net(two_d)
    stem = net.node("Relu", [net.conv("spectrum", "conv1", (8, 1, 7), stride=2)], "relu1")
    body = net.node("Relu", [net.conv(stem, "conv2", (8, 8, 3), pads=(1, 1))], "relu2")
    total = net.node("Relu", [net.node("Add", [body, stem], "sum")], "relu3")
    left = net.node("AveragePool", [total], "mean", **net.window(3, 2))
    right = net.node("Relu", [net.conv(total, "conv4", (4, 8, 3), stride=2)], "relu4")
    x = net.node("Concat", [left, right], "cat", axis=1)
    x = net.node("GlobalAveragePool", [x], "gap")
    x = net.gemm(net.node("Flatten", [x], "flat"), "logits", 12, CLASSES)
    return net.model(
        [1, 1, 1, POINTS] if two_d else [1, 1, POINTS], net.node("Softmax", [x], "chances", axis=-1)
    )


def spectra(model: onnx.ModelProto, count: int = 24) -> list[np.ndarray]:
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    rng = np.random.default_rng(3)
    return [rng.gamma(0.7, 0.6, shape).astype(np.float32) for _ in range(count)]


def quantised(model: onnx.ModelProto, folder: Path, activations: str, **options: object) -> bytes:
    """The model after onnxruntime.quantization.quantize_static: QDQ, per channel, int8 weights."""

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self.rows = iter(spectra(model))

        def get_next(self) -> dict[str, np.ndarray] | None:
            row = next(self.rows, None)
            return None if row is None else {"spectrum": row}

    source, target = folder / "float.onnx", folder / "int8.onnx"
    onnx.save(model, source)
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the quantiser's own
        quantization.quantize_static(
            source,
            target,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType[activations],
            **{"per_channel": True, "weight_type": quantization.QuantType.QInt8, **options},
        )
    logging.disable(logging.NOTSET)
    return target.read_bytes()


def logits_of_onnx_runtime(data: bytes, rows: list[np.ndarray]) -> np.ndarray:
    """What the model itself gives, float behind its last DequantizeLinear."""
    session = verify.ort_session(data, int8=True)
    name = session.get_inputs()[0].name
    return np.stack([session.run(None, {name: row})[0].reshape(-1) for row in rows])


def our_logits(data: bytes, rows: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """int8 logits of the reference, and the real numbers that they stand for."""
    graph = from_onnx(data)
    s, z = np.float32(graph.input.quant.scale), graph.input.quant.zero_point
    x = np.stack([np.clip(np.rint(row.reshape(-1) / s) + z, -128, 127).astype(np.int8) for row in rows])
    q = reference.run(graph, x)
    out = graph.output.quant
    return q, (q.astype(np.int32) - out.zero_point).astype(np.float32) * np.float32(out.scale)


@pytest.mark.parametrize("activations", ["QUInt8", "QInt8"])
@pytest.mark.parametrize("two_d", [False, True])
def test_a_model_quantised_by_onnx_runtime_gives_its_logits(
    activations: str, two_d: bool, tmp_path: Path
) -> None:
    data = quantised(plain(two_d), tmp_path, activations)
    rows = spectra(plain(two_d))
    q, real = our_logits(data, rows)
    assert len(np.unique(q)) > 20, "a saturated net proves nothing"
    assert np.array_equal(real, logits_of_onnx_runtime(data, rows))
    graph = from_onnx(data)
    kinds = [type(op) for op in graph.ops]
    assert kinds.count(Conv1d) == 3
    assert kinds.count(Dense) == 2
    assert graph.ops[2].groups == 8  # type: ignore[union-attr]
    assert ("uint8" in " ".join(read_onnx(data).notes)) == (activations == "QUInt8")


@pytest.mark.parametrize("two_d", [False, True])
def test_branches_softmax_and_sums_of_others_import(two_d: bool, tmp_path: Path) -> None:
    data = quantised(branched(two_d), tmp_path, "QUInt8")
    imported = read_onnx(data)
    kinds = [type(op) for op in imported.graph.ops]
    assert {Add, Concat, AveragePool1d, GlobalAveragePool, Dense} <= set(kinds)
    assert "Softmax chances is left to the decision" in imported.notes
    rows = spectra(branched(two_d))
    model = onnx.load_model_from_string(data)
    logits = next(n for n in model.graph.node if n.op_type == "Softmax").input[0]
    model.graph.output[0].name = logits  # the logits instead of the chances
    at = [n.op_type for n in model.graph.node].index("Softmax")
    del model.graph.node[at:]
    cut = model.SerializeToString()
    _, real = our_logits(data, rows)
    want = logits_of_onnx_runtime(cut, rows)
    step = imported.graph.output.quant.scale
    assert np.abs(real - want).max() <= 1.001 * step
    assert (real != want).mean() < 0.02
    assert from_onnx(cut).digest == imported.graph.digest


def test_a_foreign_model_compiles_and_says_what_was_converted(tmp_path: Path) -> None:
    data = quantised(branched(True), tmp_path, "QUInt8")
    generated = generate(data)
    check = verify.verify_kernel(
        toolchain.compile_shared(generated, extra_flags=("-O1",)), from_onnx(data), count=12
    )
    assert check.equal, check
    assert " * Import: uint8 activations are read as int8" in generated.files["model.cpp"]
    assert len(generated.notes) == 3


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"weight_type": quantization.QuantType.QUInt8}, "-128 is refused"),
        (
            {"weight_type": quantization.QuantType.QUInt8, "per_channel": False},
            "asymmetric weights are refused",
        ),
        ({"op_types_to_quantize": ["Conv"]}, "MaxPool must keep scale"),
    ],
)
def test_quantisation_that_is_not_proved_is_refused(options: dict, why: str, tmp_path: Path) -> None:
    data = quantised(plain(False), tmp_path, "QUInt8", **options)
    with pytest.raises(ModelError, match=why) as caught:
        from_onnx(data)
    assert "node '" in str(caught.value)


def equal(model: onnx.ModelProto, data: bytes) -> bool:
    """Whether the import gives ONNX Runtime's logits on every spectrum."""
    rows = spectra(model)
    q, real = our_logits(data, rows)
    assert len(np.unique(q)) > 15, "a saturated net proves nothing"
    return np.array_equal(real, logits_of_onnx_runtime(data, rows))


@pytest.mark.parametrize(
    "options",
    [
        {"ActivationSymmetric": True},  # a Relu between two quantisations
        {"DedicatedQDQPair": True},  # a result quantised once for each reader
        {"AddQDQPairToWeight": True},  # float weights and their QuantizeLinear, as PyTorch exports them
        {"QuantizeBias": False},
        {"UseQDQContribOps": True},
    ],
    ids=lambda options: next(iter(options)),
)
def test_other_ways_to_write_the_same_quantisation(options: dict[str, bool], tmp_path: Path) -> None:
    model = branched(False)
    del model.graph.node[-1]  # the Softmax
    model.graph.output[0].name = "logits"
    assert equal(model, quantised(model, tmp_path, "QInt8", extra_options=options))


def test_float_biases_are_rounded_and_said_so(tmp_path: Path) -> None:
    data = quantised(plain(False), tmp_path, "QInt8", extra_options={"QuantizeBias": False})
    assert "float biases are rounded to int32 with scale s_x * s_w" in read_onnx(data).notes


def test_a_relu_on_a_quantised_result_that_another_node_reads_is_refused(tmp_path: Path) -> None:
    net = Net(False)
    body = net.conv("spectrum", "conv1", (8, 1, 7))
    total = net.node("Add", [body, net.node("Relu", [body], "relu1")], "sum")
    x = net.node("Flatten", [net.node("GlobalAveragePool", [total], "gap")], "flat")
    model = net.model([1, 1, POINTS], net.gemm(x, "logits", 8, CLASSES))
    data = quantised(model, tmp_path, "QInt8", extra_options={"ActivationSymmetric": True})
    with pytest.raises(ModelError, match=r"node 'relu1'.*that nothing else reads"):
        read_onnx(data)


def windows(two_d: bool, kind: str, taps: int, **given: object) -> onnx.ModelProto:
    """One convolution or pool with the attributes given, and what makes logits of it."""
    net = Net(two_d)
    axes = {"kernel_shape": [1, taps] if two_d else [taps]}
    for name in ("strides", "pads"):
        if name in given:
            along = given.pop(name)
            axes[name] = [0, along[0], 0, along[1]] if two_d and name == "pads" else [1, *along]  # type: ignore[index, misc]
            axes[name] = axes[name] if two_d else list(along)  # type: ignore[call-overload]
    x = "spectrum"
    if kind == "Conv":
        weight = net.rng.normal(0, 0.4, (8, 1, 1, taps) if two_d else (8, 1, taps)).astype(np.float32)
        x = net.node(kind, [x, net.constant("w", weight)], "window", **axes, **given)
    else:
        x = net.node(kind, [net.conv(x, "stem", (8, 1, 5), stride=2)], "window", **axes, **given)
    x = net.node("Relu", [net.conv(x, "behind", (8, 8, 3))], "relu")
    x = net.node("Dropout", [net.node("Identity", [x], "same")], "dropped")
    x = net.node("Flatten", [net.node("GlobalAveragePool", [x], "gap")], "flat", axis=0 if not two_d else 1)
    return net.model([1, 1, 1, POINTS] if two_d else [1, 1, POINTS], net.gemm(x, "logits", 8, CLASSES))


@pytest.mark.parametrize("two_d", [False, True])
@pytest.mark.parametrize(
    ("kind", "taps", "given"),
    [
        ("Conv", 4, {"auto_pad": "SAME_UPPER", "strides": [1]}),
        ("Conv", 6, {"auto_pad": "SAME_LOWER", "strides": [5]}),
        ("Conv", 4, {"auto_pad": "VALID", "strides": [3]}),
        ("MaxPool", 4, {"auto_pad": "SAME_LOWER", "strides": [3]}),
        ("MaxPool", 2, {"ceil_mode": 1, "strides": [3]}),
        ("MaxPool", 4, {"ceil_mode": 1, "strides": [3], "pads": [2, 1]}),
        ("AveragePool", 3, {"ceil_mode": 1, "strides": [4], "pads": [1, 0]}),
    ],
)
def test_padding_that_is_only_named(kind: str, taps: int, given: dict, two_d: bool, tmp_path: Path) -> None:
    model = windows(two_d, kind, taps, **given)
    assert equal(model, quantised(model, tmp_path, "QUInt8"))


def constants_as_nodes(model: onnx.ModelProto) -> None:
    """Initialisers as Constant nodes, every second one read through an Identity."""
    made = []
    for i, tensor in enumerate(model.graph.initializer):
        name = f"of_{tensor.name}" if i % 2 else tensor.name
        made.append(helper.make_node("Constant", [], [name], value=tensor))
        made += [helper.make_node("Identity", [name], [tensor.name])] if i % 2 else []
    nodes = [*made, *model.graph.node]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.node.extend(nodes)


def without_zero_points(model: onnx.ModelProto) -> None:
    zero = {t.name for t in model.graph.initializer if not numpy_helper.to_array(t).any()}
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.input[2] in zero:
            del node.input[2:]


def newest(model: onnx.ModelProto) -> None:
    model.ir_version, model.opset_import[0].version = onnx.IR_VERSION, onnx.defs.onnx_opset_version()


def uint8_weights(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if "_w_" in tensor.name and values.dtype == np.int8:
            flipped = (values.view(np.uint8) ^ 128).reshape(values.shape)
            tensor.CopyFrom(numpy_helper.from_array(flipped, tensor.name))


@pytest.mark.parametrize("change", [constants_as_nodes, without_zero_points, newest, uint8_weights])
def test_other_spellings_are_the_same_graph(
    change: Callable[[onnx.ModelProto], None], tmp_path: Path
) -> None:
    data = quantised(plain(False), tmp_path, "QUInt8")
    model = onnx.load_model_from_string(data)
    change(model)
    changed = model.SerializeToString()
    assert changed != data
    assert from_onnx(changed).digest == from_onnx(data).digest


def test_operator_form_is_refused_by_name(tmp_path: Path) -> None:
    folder = tmp_path
    onnx.save(plain(False), folder / "float.onnx")
    model = onnx.load_model_from_string(quantised(plain(False), folder, "QUInt8"))
    conv = next(n for n in model.graph.node if n.op_type == "Conv")
    conv.op_type = "QLinearConv"
    with pytest.raises(ModelError, match=r"conv1.*QLinearConv.*not supported"):
        from_onnx(model.SerializeToString())
