"""Models compiled for ARM and for big-endian machines, run under qemu-user, equal the reference bit for bit."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from libsedge import bundle
from libsedge.errors import (
    IsaNotBuiltError,
    IsaNotRunnableError,
    KernelError,
    SelfTestError,
    ToolchainError,
    UnknownIsaError,
)
from libsedge_native import emulate, reference, toolchain
from libsedge_native.emulate import Machine, verify_emulated
from libsedge_native.fixed_graphs import ties
from libsedge_native.generate import generate
from libsedge_native.ir import Conv1d, Dense, Flatten, GlobalAveragePool, Graph, MaxPool1d, Quant, Tensor
from libsedge_native.passes import neon_slide
from libsedge_native.random_graph import random_graph, random_inputs
from libsedge_native.targets import TARGETS, Target, compiler, isas_of, target_of

#: the last -O wins; the slow optimiser passes change nothing here
FAST = ("-O1",)
WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Werror")


def build(graph: Graph, machine: Machine, *flags: str) -> bytes:
    generated = generate(graph, isas=isas_of([machine.target.name]))
    return toolchain.compile_shared(generated, machine.target.name, flags)


def test_the_m_net_is_exact_on_every_cpu(machine: Machine, net: Graph) -> None:
    """As shipped: full optimisation, no warning; every CPU takes the kernel that it should."""
    so = build(net, machine, *WARNINGS)
    for cpu, first in machine.target.cpus:
        check = verify_emulated(machine, so, net, cpu=cpu, count=5)
        assert check.equal, check
        assert check.isas[0] == first, check
        assert check.cells == 5 * 12 * len(check.isas)
        assert set(check.isas) | set(check.skipped) == {*machine.target.isas, "scalar"}


def test_random_graphs_are_exact_on_every_isa(machine: Machine, graphs: int) -> None:
    cpu = machine.target.cpus[-1][0]
    for seed in range(graphs):
        graph = random_graph(seed)
        check = verify_emulated(machine, build(graph, machine, *FAST), graph, cpu=cpu, seed=seed)
        assert check.equal, (seed, check)
        assert check.skipped == ()


def test_the_largest_pair_of_products_fits_sixteen_bits(machine: Machine) -> None:
    """Two times -127 * -128 is 32,512: what the widening NEON kernels add in 16 bits."""
    weight = np.full((33, 16, 5), -127, np.int8)
    weight[::3] = 127
    conv = Conv1d(
        "conv", weight, np.zeros(33, np.int32), np.full(33, 1e-4, np.float32), Quant(1.0, 0), pads=(3, 2)
    )
    ops = (conv, GlobalAveragePool("gap", Quant(0.5, 0)))
    graph = Graph("pairs", Tensor(16, 23, Quant(1.0, 5)), ops)
    check = verify_emulated(machine, build(graph, machine, *FAST), graph, cpu=machine.target.cpus[-1][0])
    assert check.equal, check


def test_a_wrong_rounding_rule_is_noticed(machine: Machine) -> None:
    """Negative control: half away from zero instead of half to even in the scalar kernel."""
    graph, inputs = ties()
    cpu = machine.target.cpus[-1][0]
    right = build(graph, machine, *FAST)
    assert verify_emulated(machine, right, graph, inputs, cpu=cpu).equal
    generated = generate(graph, goldens=np.zeros((1, 1), np.int8), isas=())
    flags = (*FAST, "-DSEDGE_TEST_ROUND_HALF_AWAY")
    wrong = toolchain.compile_shared(generated, machine.target.name, flags)
    assert verify_emulated(machine, wrong, graph, inputs, cpu=cpu).different > 50


#: a kernel, a CPU that has its instructions and one that lacks them, and what the kernel asks the CPU
DEMANDS = (
    ("neondot", "cortex-a76", "cortex-a53", "arm::has(arm::hwcap_asimddp) ? 1 : 0"),
    ("i8mm", "max", "cortex-a76", "arm::has(arm::hwcap_asimddp) && arm::has2(arm::hwcap2_i8mm) ? 1 : 0"),
)


@pytest.mark.parametrize(("isa", "having", "lacking", "asks"), DEMANDS, ids=[row[0] for row in DEMANDS])
def test_an_isa_is_a_demand(aarch64: Machine, isa: str, having: str, lacking: str, asks: str) -> None:
    graph = random_graph(6)
    so, x = build(graph, aarch64, *FAST), random_inputs(graph, 0, 1)
    assert (aarch64.run(so, x, isa, having) == reference.run(graph, x)).all()
    with pytest.raises(IsaNotRunnableError, match=lacking):
        aarch64.run(so, x, isa, lacking)
    with pytest.raises(IsaNotBuiltError):
        aarch64.run(so, x, "avx2")
    with pytest.raises(UnknownIsaError):
        aarch64.run(so, x, "neon2")


@pytest.mark.parametrize(("isa", "having", "lacking", "asks"), DEMANDS, ids=[row[0] for row in DEMANDS])
def test_the_emulated_cpu_refuses_what_it_lacks(
    aarch64: Machine, isa: str, having: str, lacking: str, asks: str
) -> None:
    """Negative control: with the CPU's answer overridden, the instruction is an illegal one."""
    graph = windows()
    generated = generate(graph, isas=(isa,))
    assert asks in generated.files[f"{isa}.h"]
    files = {**generated.files, f"{isa}.h": generated.files[f"{isa}.h"].replace(asks, "1")}
    so = toolchain.compile_shared(replace(generated, files=files), aarch64.target.name, FAST)
    x = random_inputs(graph, 0, 1)
    assert (aarch64.run(so, x, isa, having) == reference.run(graph, x)).all()
    with pytest.raises(KernelError, match="exit status -4"):
        aarch64.run(so, x, isa, lacking)


def windows(**changes: Any) -> Graph:
    """32 channels in, 21 out, five taps: windows that the NEON kernels slide over registers."""
    rng = np.random.default_rng(3)
    weight = rng.integers(-127, 128, (21, 32, 5)).astype(np.int8)
    bias = rng.integers(-3000, 3000, 21).astype(np.int32)
    conv = Conv1d("conv", weight, bias, np.full(21, 1e-3, np.float32), Quant(0.05, -128), pads=(3, 2))
    conv, pool, x = replace(conv, **changes), MaxPool1d("pool", 2, 2), Tensor(32, 29, Quant(0.5, -7))
    shape = (9, 21 * pool.output(conv.output(x)).length)
    fc = rng.integers(-127, 128, shape).astype(np.int8)
    dense = Dense("fc", fc, np.zeros(9, np.int32), np.full(9, 2e-4, np.float32), Quant(0.05, 3))
    return Graph("windows", x, (conv, pool, Flatten("flat"), dense))


CHANGES: dict[str, dict[str, Any]] = {
    "plain": {},
    "no relu": {"relu": False, "quant": Quant(0.05, 4)},
    "stride and dilation": {"stride": 2, "dilation": 2},
    "stride": {"stride": 3},
    "dilation": {"dilation": 3},
}


def check_windows(aarch64: Machine, **changes: Any) -> None:
    graph = windows(**changes)
    check = verify_emulated(aarch64, build(graph, aarch64, *FAST), graph, cpu="max", count=4)
    assert check.equal, check
    assert check.skipped == ()


def test_sliding_windows_are_exact(aarch64: Machine) -> None:
    check_windows(aarch64)


@pytest.mark.usefixtures("long_run")
@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_windows_of_every_kind_are_exact(aarch64: Machine, changes: dict[str, Any]) -> None:
    """Windows that slide and, with another stride than dilation, windows that do not."""
    check_windows(aarch64, **changes)


def test_weights_in_the_wrong_order_are_noticed(aarch64: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: the order of weights that windows read by themselves take."""
    monkeypatch.setattr(neon_slide.Slide, "order", lambda self, steps, isa: steps)
    graph = windows()
    so = build(graph, aarch64, *FAST)
    x = random_inputs(graph, 0, 1)
    for isa in ("i8mm", "neondot", "neon"):
        with pytest.raises(SelfTestError):
            aarch64.run(so, x, isa, "max")
    assert (aarch64.run(so, x, "scalar", "max") == reference.run(graph, x)).all()


def test_a_flipped_weight_is_noticed(machine: Machine) -> None:
    """Negative control: scrub counts in the machine's own byte order, so a big-endian one is tried too."""
    from libsedge_native.constants import image
    from libsedge_native.passes import lower

    graph = random_graph(7)
    so = bytearray(build(graph, machine, *FAST))
    first = lower(graph, machine.target.isas).kernels[0]
    at = max(so.find(image(first, "<")), so.find(image(first, ">")))
    assert at >= 0
    x, cpu = random_inputs(graph, 0, 1), machine.target.cpus[-1][0]
    assert (machine.run(bytes(so), x, first.isa, cpu) == reference.run(graph, x)).all()
    so[at] ^= 0x10
    with pytest.raises(SelfTestError):
        machine.run(bytes(so), x, first.isa, cpu)


def test_canaries_catch_a_short_arena(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control of the runner's canaries: two layers that fill whole lines, one line less."""
    from libsedge_native import generate as generator

    real = generator.lower

    def short(*args: object) -> object:
        program = real(*args)  # type: ignore[arg-type]
        kernels = tuple(replace(k, arena_bytes=k.arena_bytes - 64) for k in program.kernels)
        return replace(program, kernels=kernels)

    monkeypatch.setattr(generator, "lower", short)
    parameters = np.ones((64, 64, 1), np.int8), np.zeros(64, np.int32), np.full(64, 0.01, np.float32)
    convs = tuple(Conv1d(f"conv{i}", *parameters, Quant(1.0, 0)) for i in range(3))
    graph = Graph("full", Tensor(64, 8, Quant(1.0, 0)), (*convs, GlobalAveragePool("gap", Quant(1.0, 0))))
    so = toolchain.compile_shared(generate(graph, isas=()), machine.target.name, FAST)
    with pytest.raises(KernelError, match="arena"):
        machine.run(so, random_inputs(graph, 0, 1), "scalar", machine.target.cpus[-1][0])


def test_only_the_api_is_exported_and_almost_nothing_is_needed(machine: Machine, tmp_path: Path) -> None:
    nm = machine.target.compiler.replace("g++", "nm")
    if not shutil.which(nm):
        pytest.skip(f"{nm} is not installed")
    (tmp_path / "model.so").write_bytes(build(random_graph(3), machine, *FAST))
    out = subprocess.run([nm, "-D", tmp_path / "model.so"], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in out.splitlines()]
    undefined = {row[-1].split("@")[0] for row in rows if row[-2] in "Uw"}
    defined = {row[-1].split("@")[0] for row in rows if row[-2] in "TD"}
    assert undefined <= {"memcpy", "memset", *(["getauxval"] if machine.target.isas else [])}
    names = ("init", "net_entry", "run", "run_steps", "scrub", "self_test", "status_text", "trace")
    assert defined == {f"sedge_{name}" for name in names}


def test_the_same_sources_give_the_same_bytes(machine: Machine) -> None:
    assert build(random_graph(1), machine, *FAST) == build(random_graph(1), machine, *FAST)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_a_missing_compiler_is_named_with_its_package(
    target: Target, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.delenv(target.variable, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        ToolchainError, match=r"install" if target.native else target.packages[0].replace("+", r"\+")
    ):
        compiler(target)
    monkeypatch.setenv(target.variable, "no-such-compiler --flag")
    with pytest.raises(ToolchainError, match="no-such-compiler"):
        compiler(target)
    if not target.native:
        assert emulate.available(target) is not None
        with pytest.raises(ToolchainError):
            Machine(target.name)


def test_an_unknown_target_lists_the_known_ones() -> None:
    with pytest.raises(ToolchainError, match="aarch64-linux"):
        target_of("pdp11")


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_a_board_finds_its_model_under_every_name_that_its_system_gives(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in target.machines:
        monkeypatch.setattr("platform.machine", lambda name=name: name)
        assert bundle.target() == target.name
        assert target.native
