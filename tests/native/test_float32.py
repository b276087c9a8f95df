"""float32 kernels: within the stated tolerance of float64 on every instruction set, and as close as ONNX Runtime."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from libsedge import _core
from libsedge.bundle import TOLERANCE
from libsedge.cli import main
from libsedge.errors import IsaNotBuiltError, ModelError, SelfTestError, UnknownIsaError
from libsedge_native import float_reference, toolchain, verify
from libsedge_native.float_bound import error_bound
from libsedge_native.float_graph import dequantised
from libsedge_native.generate import GeneratedModel, default_goldens, generate
from libsedge_native.ir import REAL, Conv1d, Dense, Flatten, GlobalAveragePool, Graph, MaxPool1d, Tensor
from libsedge_native.lowered import ALIGN
from libsedge_native.onnx_export import to_onnx
from libsedge_native.onnx_float import read_float_onnx
from libsedge_native.passes import lower
from libsedge_native.passes.float_toom import POINTS, Scheme
from libsedge_native.passes.plan_memory import lifetimes
from libsedge_native.random_graph import random_graph
from numpy.typing import NDArray

FAST = ("-O1",)


def generate_float(graph: Graph, isas: tuple[str, ...] | None = None) -> GeneratedModel:
    return generate(graph, isas=isas, precision="float32")


def spectra(graph: Graph, count: int, seed: int = 0) -> NDArray[np.float32]:
    """float32 [count, input_len]: normal noise, a constant, one spike."""
    size = graph.input.channels * graph.input.length
    x = np.random.default_rng(seed).standard_normal((count, size)).astype(np.float32)
    x[0] = 1.0
    x[1] = 0.0
    x[1, size // 2] = 1000.0
    return x


def product_net(length: int = 700, pool: int = 2) -> Graph:
    """The product's layers: every convolution but the first takes a Toom-Cook scheme."""
    rng = np.random.default_rng(length)

    def conv(name: str, out: int, inputs: int, taps: int, stride: int = 1) -> Conv1d:
        weight = rng.standard_normal((out, inputs, taps)) / np.sqrt(inputs * taps)
        bias = rng.standard_normal(out).astype(np.float32)
        return Conv1d(
            name, weight.astype(np.float32), bias, np.ones(out, np.float32), REAL, stride, relu=True
        )

    dense = rng.standard_normal((12, 64)).astype(np.float32)
    ops = (
        *(conv("conv1", 16, 1, 11, 2), MaxPool1d("pool1", pool, pool)),
        *(conv("conv2", 32, 16, 7), MaxPool1d("pool2", pool, pool)),
        *(conv("conv3", 64, 32, 5), MaxPool1d("pool3", pool, pool)),
        *(conv("conv4", 64, 64, 3), GlobalAveragePool("average", REAL), Flatten("flat")),
        Dense("fc", dense, np.zeros(12, np.float32), np.ones(12, np.float32), REAL),
    )
    return Graph("product", Tensor(1, length, REAL), ops)


@cache
def product_so() -> bytes:
    return toolchain.compile_shared(generate_float(product_net()))


def on_every_isa(so: bytes, x: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    out = {}
    for isa, runnable in _core.FloatModel(so, "scalar").isas:
        if runnable:
            model = _core.FloatModel(so, isa)
            model.self_test()
            out[isa] = model.run_batch(x)
            model.check_canaries()
    return out


def off(got: NDArray[Any], want: NDArray[np.float64]) -> float:
    """Largest difference by the largest logit of its spectrum."""
    largest = np.maximum(np.abs(want).max(axis=1, keepdims=True), 1e-30)
    return float((np.abs(got - want) / largest).max())


def test_the_product_net_is_within_the_tolerance_of_float64_and_of_onnx_runtime() -> None:
    graph = product_net()
    x = spectra(graph, 16)
    want = float_reference.run(graph, x)
    session = verify.ort_session(to_onnx(graph))
    ort = np.stack([session.run(None, {"input": row.reshape(1, 1, -1)})[0].reshape(-1) for row in x])
    got = on_every_isa(product_so(), x)
    assert "scalar" in got
    for logits in got.values():
        assert off(logits, want) < TOLERANCE / 4
        assert off(logits, ort.astype(np.float64)) < TOLERANCE


def test_every_convolution_of_stride_one_takes_a_scheme_and_only_those() -> None:
    kernel = lower(product_net()).kernels[0]
    words = [line.split(":")[0] for step in kernel.steps for line in step.comment if "Toom-Cook" in line]
    assert [line.split(", ")[1] for line in words] == ["7)", "5)", "3)"]
    assert not any("Toom-Cook" in line for s in lower(product_net()).kernels[-1].steps for line in s.comment)


def test_scratch_takes_memory_only_while_its_step_runs() -> None:
    """No two buffers in use at once overlap, and the arena is what the hungriest step needs, whatever runs before."""
    for kernel in lower(product_net(1800)).kernels:
        spans, places = lifetimes(kernel), [(b.offset, b.offset + b.bytes) for b in kernel.buffers]
        needs = []
        for i in range(len(kernel.steps)):
            alive = sorted(p for p, (first, last) in zip(places, spans, strict=True) if first <= i <= last)
            assert all(end <= start for (_, end), (start, _) in pairwise(alive))
            needs.append(sum(-(-(end - start) // ALIGN) * ALIGN for start, end in alive))
        assert kernel.arena_bytes == max(needs)
    scratch = [step.scratch for step in lower(product_net(1800)).kernels[0].steps]
    assert sum(place is not None for place in scratch) == 3


@pytest.mark.parametrize("length", [179, 333])
def test_lengths_that_no_tile_divides(length: int) -> None:
    graph = product_net(length)
    x = spectra(graph, 3, length)
    so = toolchain.compile_shared(generate_float(graph), extra_flags=FAST)
    for logits in on_every_isa(so, x).values():
        assert off(logits, float_reference.run(graph, x)) < TOLERANCE / 4


@settings(max_examples=4, deadline=None, derandomize=True)
@given(st.integers(100, 1 << 30))
def test_random_graphs_stay_within_their_error_bound(seed: int) -> None:
    graph = dequantised(random_graph(seed, max_length=80))
    so = toolchain.compile_shared(generate_float(graph), extra_flags=FAST)
    x = spectra(graph, 3, seed)
    want = float_reference.run(graph, x)
    bound = np.stack([error_bound(graph, row) for row in x])
    for logits in on_every_isa(so, x).values():
        assert np.all(np.abs(logits - want) <= bound)
        assert off(logits, want) < 10 * TOLERANCE  # where logits cancel, more than TOLERANCE


@pytest.mark.parametrize("seed", range(12))
def test_the_importer_reads_what_the_exporter_wrote(seed: int) -> None:
    graph = dequantised(random_graph(seed))
    assert read_float_onnx(to_onnx(graph)).graph.digest == graph.digest


@pytest.mark.parametrize("quarters", POINTS)
def test_a_scheme_is_a_convolution_and_its_transforms_are_exact(quarters: tuple[int, ...]) -> None:
    for taps in range(2, 2 * len(quarters) + 2):
        scheme = Scheme(2 * len(quarters) + 3 - taps, taps, quarters)
        rng = np.random.default_rng(taps)
        d, g = rng.standard_normal(scheme.points), rng.standard_normal(taps)
        got = scheme.results() @ ((scheme.weights() @ g) * (scheme.inputs() @ d))
        assert np.allclose(got, np.convolve(d, g[::-1], "valid"), atol=1e-9)
        for matrix in (scheme.inputs(), scheme.results()):
            assert np.array_equal(matrix, matrix.astype(np.float32))


@pytest.mark.parametrize("taps", [3, 5, 7])
def test_the_bound_of_one_layer_is_narrow_enough_to_see_a_wrong_weight(taps: int) -> None:
    """Below 1 % of the largest output (a proof in the worst case; measured errors are a thousandth of that)."""
    rng = np.random.default_rng(taps)
    weight = (rng.standard_normal((32, 16, taps)) / np.sqrt(16 * taps)).astype(np.float32)
    conv = Conv1d("conv", weight, np.zeros(32, np.float32), np.ones(32, np.float32), REAL)
    graph = Graph("one", Tensor(16, 100, REAL), (conv, MaxPool1d("pool", 101 - taps, 101 - taps)))
    x = spectra(graph, 3)
    want = float_reference.run(graph, x)
    bound = error_bound(graph, x[2])
    assert bound.max() < 0.01 * np.abs(want[2]).max()
    wrong = Graph("one", graph.input, (replace(conv, weight=weight * np.float32(1.05)), graph.ops[1]))
    assert np.any(np.abs(float_reference.run(wrong, x)[2] - want[2]) > bound)


def test_an_isa_is_a_demand() -> None:
    so = toolchain.compile_shared(generate_float(product_net(), isas=()))
    assert _core.FloatModel(so).isa == "scalar"
    with pytest.raises(IsaNotBuiltError):
        _core.FloatModel(so, "avx512")
    with pytest.raises(UnknownIsaError):
        _core.FloatModel(so, "avx1024")


def test_the_self_test_and_the_scrub_see_a_wrong_weight() -> None:
    """One weight of conv2, by 0.1 %: the CRC sees it, and so do the goldens."""
    generated = generate_float(product_net(), isas=())
    text = generated.files["model.cpp"]
    at = (
        text.index("{ /* conv2_weight */")
        if "{ /* conv2_weight */" in text
        else text.index("{ /* pool2_weight */")
    )
    first = text.index("\n", at) + 1
    broken = text[:first] + "        0x1p+4F," + text[text.index(",", first) + 1 :]
    so = toolchain.compile_shared(replace(generated, files={**generated.files, "model.cpp": broken}))
    model = _core.FloatModel(so)
    with pytest.raises(SelfTestError):
        model.self_test()
    with pytest.raises(SelfTestError):
        model.scrub()


def test_a_logit_that_is_not_a_number_fails_the_self_test() -> None:
    generated = generate_float(product_net(), isas=())
    begin = "void run(const float* input, float* logits, void* arena) {"
    broken = 'if (input) { for (int i = 0; i < 12; ++i) logits[i] = __builtin_nanf(""); return; }'
    text = generated.files["model.cpp"].replace(begin, f"{begin}\n{broken}")
    assert broken in text
    so = toolchain.compile_shared(replace(generated, files={**generated.files, "model.cpp": text}))
    with pytest.raises(SelfTestError):
        _core.FloatModel(so).self_test()


def test_buffers_of_another_type_are_refused() -> None:
    model = _core.FloatModel(product_so())
    with pytest.raises(TypeError):
        model.run(np.zeros(700))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="shape"):
        model.run(np.zeros(699, np.float32))
    with pytest.raises(ValueError, match="contiguous"):
        model.run(np.zeros(1400, np.float32)[::2])


def test_the_two_precisions_are_not_taken_for_each_other() -> None:
    with pytest.raises(ModelError, match="must be float32"):
        generate_float(random_graph(3))
    with pytest.raises(ModelError, match="quantis"):
        generate(product_net())
    int8_input, ops = random_graph(0).input, product_net(700).ops
    with pytest.raises(ModelError, match="mixes"):
        Graph("net", Tensor(1, 700, int8_input.quant), ops)


def test_the_goldens_are_the_same_on_every_machine() -> None:
    x = default_goldens(product_net())
    assert x.shape == (2, 700)
    assert x.min() >= 0
    assert x.max() < 1
    assert x[0, :2].tolist() == [float(v) for v in x[0, :2]]


def test_the_sources_compile_without_warnings_and_need_only_memcpy_and_memset(tmp_path: Path) -> None:
    generated = generate_float(product_net(190), isas=("avx2",))
    toolchain.write_sources(generated, tmp_path)
    flags = ("-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-fno-exceptions", "-fno-rtti")
    command = [*toolchain.host_compiler(), *flags, "-r", "-nostdlib", *generated.sources, "-o", "model.o"]
    subprocess.run(command, cwd=tmp_path, check=True)
    found = subprocess.run(["nm", "-u", "model.o"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert {line.split()[-1] for line in found.stdout.splitlines()} <= {"memcpy", "memset"}


def test_the_command_writes_a_folder_that_compiles_as_it_says(tmp_path: Path) -> None:
    graph = dequantised(random_graph(5))
    (tmp_path / "model.onnx").write_bytes(to_onnx(graph))
    arguments = ["sources", str(tmp_path / "model.onnx"), "-o", str(tmp_path / "drop")]
    refused = CliRunner().invoke(main, arguments)
    assert refused.exit_code == 2
    assert "quantisation" in refused.output
    result = CliRunner().invoke(main, [*arguments, "--precision", "float32"])
    assert result.exit_code == 0, result.output
    assert "avx512, avx2, neon, scalar" in result.output
    (tmp_path / "drop" / "main.cpp").write_text(
        '#include "model.h"\nint main() {\n    alignas(64) static uint8_t arena[SEDGE_NET_ARENA_BYTES];\n'
        "    sedge_model_f32 model;\n"
        "    if (sedge_init_f32(&model, &sedge_net_net, 0, arena, sizeof arena) != SEDGE_OK)\n        return 1;\n"
        "    return sedge_self_test_f32(&model) == SEDGE_OK ? 0 : 2;\n}\n"
    )
    sources = sorted((tmp_path / "drop").glob("*.cpp"))
    flags = ["-std=c++17", "-O2", "-o", str(tmp_path / "program")]
    command = [*toolchain.host_compiler(), *flags, *map(str, sources)]
    subprocess.run(command, check=True)
    assert subprocess.run([tmp_path / "program"], check=False).returncode == 0
