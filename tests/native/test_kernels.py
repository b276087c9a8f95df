"""Every kernel of every instruction set equals the reference, bit for bit."""

from __future__ import annotations

import importlib
import platform
import shutil
import subprocess
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from libsedge import _core
from libsedge.errors import IsaNotBuiltError, KernelError, SelfTestError, ToolchainError, UnknownIsaError
from libsedge_native import generate as generator
from libsedge_native import reference, toolchain, verify
from libsedge_native.fixed_graphs import m_net, ties
from libsedge_native.generate import GeneratedModel, generate
from libsedge_native.ir import (
    Add,
    AveragePool1d,
    Concat,
    Conv1d,
    Dense,
    Flatten,
    GlobalAveragePool,
    Graph,
    MaxPool1d,
    Quant,
    Tensor,
)
from libsedge_native.passes import lower, pack_weights
from libsedge_native.random_graph import random_graph, random_inputs

#: the last -O wins; the slow optimiser passes change nothing here
FAST = ("-O1",)


@pytest.fixture(scope="module")
def m_model() -> tuple[Graph, GeneratedModel, bytes]:
    graph = m_net()
    generated = generate(graph)
    return graph, generated, toolchain.compile_shared(generated)


def test_the_m_net_is_exact_on_every_isa(m_model: tuple[Graph, GeneratedModel, bytes]) -> None:
    graph, _, so = m_model
    check = verify.verify_kernel(so, graph, count=40)
    assert check.equal, check
    assert check.cells == 40 * 12 * len(check.isas)
    assert "scalar" in check.isas
    assert len(np.unique(reference.run(graph, random_inputs(graph, 0, 40)))) > 12, (
        "a saturated net proves nothing"
    )


@pytest.mark.parametrize("seed", range(24))
def test_random_graphs_are_exact_on_every_isa(seed: int) -> None:
    graph = random_graph(seed)
    check = verify.verify_kernel(
        toolchain.compile_shared(generate(graph), extra_flags=FAST), graph, count=8, seed=seed
    )
    assert check.equal, (check, graph)


def dense_only() -> Graph:
    rng = np.random.default_rng(3)
    weight = rng.integers(-127, 128, (70, 3 * 41)).astype(np.int8)
    fc = Dense("fc", weight, np.zeros(70, np.int32), np.full(70, 0.001, np.float32), Quant(0.3, 0))
    return Graph("dense", Tensor(3, 41, Quant(0.1, -5)), (Flatten("flat"), fc))


def extreme() -> Graph:
    """The largest accumulators that a layer of this size can have, on both sides."""
    weight = np.full((17, 16, 12), 127, np.int8)
    weight[::2] = -127
    bias, scale = np.zeros(17, np.int32), np.full(17, 0.001, np.float32)
    ops = (
        Conv1d("conv", weight, bias, scale, Quant(2.0, -128), pads=(11, 11)),
        GlobalAveragePool("gap", Quant(1.0, -128)),
    )
    return Graph("extreme", Tensor(16, 31, Quant(0.1, 127)), ops)


def block(name: str, source: str, shape: tuple[int, int, int], seed: int, **changes: object) -> Conv1d:
    weight = np.random.default_rng(seed).integers(-127, 128, shape).astype(np.int8)
    fields: dict = {"pads": (shape[2] // 2, shape[2] // 2), "inputs": (source,), **changes}
    scale = np.full(shape[0], 0.004, np.float32)
    return Conv1d(name, weight, np.zeros(shape[0], np.int32), scale, Quant(0.8, -128), **fields)


def residual() -> Graph:
    """A source read by a convolution, a dilated one, a sum and a pool: four margins in one buffer."""
    ops = (
        block("stem", "input", (24, 3, 5), 1),
        block("near", "stem", (24, 24, 3), 2),
        block("far", "stem", (24, 24, 3), 3, dilation=4, pads=(4, 4)),
        Add("sum", Quant(1.1, -128), ("stem", "near")),
        Add("all", Quant(1.3, 4), ("sum", "far")),
        MaxPool1d("pool", 3, 1, (1, 1), ("stem",)),
        Concat("cat", Quant(1.3, 4), ("pool", "all")),
        GlobalAveragePool("gap", Quant(0.3, 0)),
    )
    return Graph("residual", Tensor(3, 70, Quant(0.1, -10)), ops)


def depthwise() -> Graph:
    """Single-channel groups: strided and padded, pooled behind, dilated; then groups of several channels."""
    ops = (
        block("wide", "input", (37, 2, 3), 1),
        block("one", "wide", (37, 1, 5), 2, groups=37, stride=2),
        MaxPool1d("pool", 2, 2),
        block("two", "pool", (37, 1, 3), 3, groups=37, dilation=3, pads=(0, 5)),
        block("three", "two", (40, 37, 1), 4),
        block("four", "three", (60, 8, 3), 5, groups=5),
        AveragePool1d("mean", 4, 2, Quant(0.5, -20), (1, 2)),
        GlobalAveragePool("gap", Quant(0.3, 0)),
    )
    return Graph("depthwise", Tensor(2, 150, Quant(0.1, 7)), ops)


def wide_pool() -> Graph:
    weight = np.random.default_rng(9).integers(-127, 128, (40, 2, 5)).astype(np.int8)
    conv = Conv1d("conv", weight, np.zeros(40, np.int32), np.full(40, 0.01, np.float32), Quant(0.5, -128))
    return Graph(
        "wide",
        Tensor(2, 160, Quant(0.1, 0)),
        (conv, MaxPool1d("pool", 30, 30), GlobalAveragePool("g", Quant(0.3, 0))),
    )


@pytest.mark.parametrize("build", [dense_only, extreme, wide_pool, residual, depthwise])
def test_corner_graphs_are_exact(build: object) -> None:
    graph = build()  # type: ignore[operator]
    check = verify.verify_kernel(toolchain.compile_shared(generate(graph), extra_flags=FAST), graph, count=12)
    assert check.equal, check


def test_depthwise_layers_are_exact_channel_by_channel_on_every_isa(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default the cost model takes zeros or loops; here every vector kernel takes the loops."""
    passes = importlib.import_module("libsedge_native.passes.single_channels")
    graph = depthwise()
    chosen = [k.isa for k in lower(graph).kernels if any(s.kind == "depthwise" for s in k.steps)]
    assert "avx2" in chosen
    assert "avx512vnni" not in chosen
    monkeypatch.setattr(passes, "LOOP", -1e9)
    kernels = lower(graph).kernels
    assert all(any(s.kind == "depthwise" for s in k.steps) for k in kernels if k.isa != "scalar")
    so = toolchain.compile_shared(generate(graph), extra_flags=FAST)
    assert verify.verify_kernel(so, graph, count=12).equal


def edge(bias: int) -> Graph:
    """One layer whose largest accumulator is 188 * 127 * 255 + bias + 15."""
    conv = Conv1d(
        "conv",
        np.full((16, 188, 1), 127, np.int8),
        np.full(16, bias, np.int32) + np.arange(16, dtype=np.int32),
        np.linspace(0.0001, 0.002, 16, dtype=np.float32),
        Quant(5.0, -128),
    )
    return Graph("edge", Tensor(188, 7, Quant(0.5, -128)), (conv, GlobalAveragePool("gap", Quant(2.0, -128))))


def edge_inputs(graph: Graph) -> np.ndarray:
    rng = np.random.default_rng(0)
    near_top = np.where(rng.random((16, graph.input.channels * 7)) < 0.05, 120, 127).astype(np.int8)
    return np.concatenate([random_inputs(graph, 1, 8), near_top])


@pytest.mark.parametrize(("bias", "biased"), [(-4_000_000, 1), (2_300_212, 1), (2_300_213, 0)])
def test_accumulators_around_two_to_the_23_are_exact(bias: int, biased: int) -> None:
    """From 2^23 on the biased float (quant_spec.md, section 6) is not exact, so the plain path is taken."""
    graph = edge(bias)
    vector = lower(graph).kernels[0]
    step = next(s for s in vector.steps if s.kind == "conv1d")
    assert dict(step.shape)["biased"] == biased
    so = toolchain.compile_shared(generate(graph), extra_flags=FAST)
    assert verify.verify_kernel(so, graph, edge_inputs(graph)).equal


def test_biasing_where_it_is_not_proved_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: the same layer with the proof switched off."""
    graph = edge(3_500_000)
    monkeypatch.setattr(pack_weights, "can_be_biased", lambda *args: True)
    so = toolchain.compile_shared(generate(graph), extra_flags=FAST)
    check = verify.verify_kernel(so, graph, edge_inputs(graph))
    assert check.different > 0 or check.isas == ("scalar",)


def test_the_scalar_kernel_needs_no_vector_extension(tmp_path: Path) -> None:
    """No register beyond baseline x86-64 outside the functions that carry a target attribute."""
    if platform.machine() != "x86_64" or not shutil.which("objdump"):
        pytest.skip("needs an x86-64 machine and objdump (binutils)")

    def registers(isas: tuple[str, ...]) -> str:
        (tmp_path / "model.so").write_bytes(toolchain.compile_shared(generate(random_graph(3), isas=isas)))
        command = ["objdump", "-d", "--no-show-raw-insn", tmp_path / "model.so"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    scalar = registers(())
    assert "%xmm" in scalar
    assert "%ymm" not in scalar
    assert "%zmm" not in scalar
    assert "%zmm" in registers(("avx512vnni",)), "negative control"


def test_contraction_into_fused_multiply_adds_changes_nothing() -> None:
    graph = random_graph(2)
    flags = ("-O3", "-ffp-contract=fast", "-march=native")
    check = verify.verify_kernel(
        toolchain.compile_shared(generate(graph), extra_flags=flags), graph, count=16
    )
    assert check.equal, check


def test_fast_math_is_a_compile_error() -> None:
    with pytest.raises(ToolchainError, match="do not compile them with -ffast-math"):
        toolchain.compile_shared(generate(random_graph(1)), extra_flags=("-ffast-math",))


def test_a_wrong_rounding_rule_is_noticed() -> None:
    """Negative control: half away from zero instead of half to even in the scalar kernel."""
    graph, inputs = ties()
    right = toolchain.compile_shared(generate(graph, isas=()), extra_flags=FAST)
    assert verify.verify_kernel(right, graph, inputs).equal
    wrong = toolchain.compile_shared(
        generate(graph, isas=()), extra_flags=(*FAST, "-DSEDGE_TEST_ROUND_HALF_AWAY")
    )
    assert verify.verify_kernel(wrong, graph, inputs).different > 50


def test_a_flipped_weight_fails_scrub_and_self_test(m_model: tuple[Graph, GeneratedModel, bytes]) -> None:
    """Negative control: one weight of the last layer changed in the compiled file, on every kernel."""
    graph, _, so = m_model
    fc = graph.ops[-1]
    assert isinstance(fc, Dense)
    at = so.find(fc.weight.tobytes())  # the scalar kernel's copy; the vector kernels' is in another order
    assert at >= 0
    broken = bytearray(so)
    broken[at : at + fc.weight.size] = bytes(((int(v) + 3) % 100) for v in fc.weight.reshape(-1))
    with pytest.raises(SelfTestError):
        _core.Model(bytes(broken), "scalar").self_test()
    with pytest.raises(SelfTestError):
        _core.Model(bytes(broken), "scalar").scrub()
    one = bytearray(so)
    one[at] ^= 0x01
    with pytest.raises(SelfTestError):
        _core.Model(bytes(one), "scalar").scrub()
    sound = _core.Model(so, "scalar")
    sound.self_test()
    sound.scrub()


def test_scrub_covers_every_constant_of_every_kernel(m_model: tuple[Graph, GeneratedModel, bytes]) -> None:
    from libsedge_native.constants import image

    graph, _, so = m_model
    for kernel in lower(graph).kernels:
        data = image(kernel, "<")
        at = so.find(data)
        assert at >= 0, kernel.isa
        if dict(_core.Model(so, "scalar").isas)[kernel.isa]:
            for position in (at, at + len(data) // 2):
                broken = bytearray(so)
                broken[position] ^= 0x10
                with pytest.raises(SelfTestError):
                    _core.Model(bytes(broken), kernel.isa).scrub()


def test_an_isa_is_a_demand(m_model: tuple[Graph, GeneratedModel, bytes]) -> None:
    _, generated, so = m_model
    with pytest.raises(UnknownIsaError):
        _core.Model(so, "avx1024")
    with pytest.raises(IsaNotBuiltError):
        _core.Model(so, "neon")
    model = _core.Model(so)
    assert model.isa == next(name for name, runnable in model.isas if runnable)
    assert [name for name, _ in model.isas] == list(generated.isas)


def test_only_the_api_is_exported_and_only_memory_functions_are_needed(
    m_model: tuple[Graph, GeneratedModel, bytes], tmp_path: Path
) -> None:
    (tmp_path / "model.so").write_bytes(m_model[2])
    if not shutil.which("nm"):
        pytest.skip("nm (binutils) is not installed")
    out = subprocess.run(
        ["nm", "-D", tmp_path / "model.so"], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split() for line in out.splitlines()]
    undefined = {row[-1].split("@")[0] for row in rows if row[-2] in "Uw"}
    defined = {row[-1] for row in rows if row[-2] not in "Uw"}
    assert undefined <= {"memcpy", "memset"}
    assert defined == {
        f"sedge_{n}"
        for n in ("init", "net_entry", "run", "run_steps", "scrub", "self_test", "status_text", "trace")
    }


def test_the_arena_is_exact(m_model: tuple[Graph, GeneratedModel, bytes]) -> None:
    """The plan cannot be smaller, the macro is what the library says, and the kernels fill it (canaries: verify)."""
    graph, generated, so = m_model
    assert _core.Model(so).arena_bytes == generated.arena_bytes == 43072
    for kernel in lower(graph, optimise="layers").kernels:
        sizes = [-(-b.bytes // 64) * 64 for b in kernel.buffers]
        assert kernel.arena_bytes == max(a + b for a, b in pairwise(sizes))
        for a, b in pairwise(kernel.buffers):
            assert a.offset + a.bytes <= b.offset or b.offset + b.bytes <= a.offset


def test_in_a_graph_that_branches_no_two_live_buffers_overlap() -> None:
    """By brute force over the steps, and the arena is no larger than all buffers, no smaller than any moment needs."""
    branching = [random_graph(s) for s in range(40)]
    branching = [g for g in branching if any(len(op.inputs) > 1 for op in g.ops)]
    assert len(branching) > 10
    shared = 0
    for graph in branching:
        for kernel in lower(graph).kernels:
            touched = [{p.buffer for p in (*s.sources, s.target) if p.buffer >= 0} for s in kernel.steps]
            need = 0
            for i in range(len(kernel.steps)):
                alive = sorted(set.union(*touched[: i + 1]) & set.union(*touched[i:]))
                spans = sorted((kernel.buffers[b].offset, kernel.buffers[b].bytes) for b in alive)
                assert all(a + size <= b for (a, size), (b, _) in pairwise(spans)), (kernel.isa, i)
                assert all(offset % 64 == 0 and offset + size <= kernel.arena_bytes for offset, size in spans)
                need = max(need, sum(-(-size // 64) * 64 for _, size in spans))
            total = sum(-(-b.bytes // 64) * 64 for b in kernel.buffers)
            assert need <= kernel.arena_bytes <= total
            shared += kernel.arena_bytes < total
    assert shared > 0


def test_a_plan_that_forgets_a_second_reader_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: the sum of a residual block read from memory that was given away gives other logits."""
    graph = residual()
    right = toolchain.compile_shared(generate(graph), extra_flags=FAST)
    assert verify.verify_kernel(right, graph, count=8).equal
    planner = importlib.import_module("libsedge_native.passes.plan_memory")
    real = planner.lifetimes
    monkeypatch.setattr(planner, "lifetimes", lambda kernel: [(a, a + 1) for a, _ in real(kernel)])
    wrong = toolchain.compile_shared(generate(graph), extra_flags=FAST)
    assert verify.verify_kernel(wrong, graph, count=8).different > 0


def test_a_smaller_arena_is_noticed(
    m_model: tuple[Graph, GeneratedModel, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control of the canaries: a plan that promises too little is caught when the model runs."""
    real = generator.lower

    def short(*args: object) -> object:
        program = real(*args)  # type: ignore[arg-type]
        return replace(
            program, kernels=tuple(replace(k, arena_bytes=k.arena_bytes - 64) for k in program.kernels)
        )

    monkeypatch.setattr(generator, "lower", short)
    so = toolchain.compile_shared(generate(m_model[0]), extra_flags=FAST)
    x = random_inputs(m_model[0], 0, 1)[0]
    with pytest.raises(KernelError, match=r"arena|canar"):
        _core.Model(so).run(x)


def test_compiler_errors_are_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    generated = generate(random_graph(1))
    broken = replace(generated, files={**generated.files, "model.cpp": "int main( {"})
    with pytest.raises(ToolchainError, match=r"model\.cpp"):
        toolchain.compile_shared(broken)
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ToolchainError, match="no-such-compiler"):
        toolchain.compile_shared(generated)
    with pytest.raises(ToolchainError, match="target"):
        toolchain.compile_shared(generated, target="pdp11")


def test_strict_warnings_are_clean() -> None:
    flags = ("-Wall", "-Wextra", "-Wconversion", "-Werror", *FAST)
    assert toolchain.compile_shared(generate(random_graph(4)), extra_flags=flags)
