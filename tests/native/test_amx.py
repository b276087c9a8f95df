"""The AMX kernel: exact for every shape that tiles take, inside its memory, and never without the system's leave."""

from __future__ import annotations

import ctypes
import importlib
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from libsedge import _core
from libsedge_native import toolchain, verify
from libsedge_native.generate import generate
from libsedge_native.ir import Conv1d, GlobalAveragePool, Graph, MaxPool1d, Op, Quant, Tensor
from libsedge_native.lowered import Kernel
from libsedge_native.passes import lower
from libsedge_native.random_graph import random_graph

tiles = importlib.import_module("libsedge_native.passes.matrix_tiles")
vector = importlib.import_module("libsedge_native.passes.lower_vector")

FAST = ("-O1",)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles wherever they are legal, whatever they cost."""
    monkeypatch.setattr(tiles, "gain", lambda stage: 1e9)


def net(
    inputs: int,
    outputs: int,
    length: int,
    pool: int,
    *,
    taps: int = 3,
    zero: int = -128,
    average: bool = True,
    **conv: object,
) -> Graph:
    """A convolution of `length` outputs, a pool, and perhaps the average behind it; then one more layer."""
    rng = np.random.default_rng(inputs * 1000 + outputs + length)

    def layer(name: str, out: int, channels: int, k: int, zero_point: int, **more: object) -> Conv1d:
        weight = rng.integers(-127, 128, (out, channels, k)).astype(np.int8)
        bias = rng.integers(-9000, 9000, out).astype(np.int32)
        scale = rng.uniform(0.0002, 0.001, out).astype(np.float32)
        return Conv1d(name, weight, bias, scale, Quant(0.4 * np.sqrt(channels * k), zero_point), **more)  # type: ignore[arg-type]

    first = layer("conv", outputs, inputs, taps, zero, **conv)
    span = first.dilation * (taps - 1) + 1
    x = Tensor(inputs, (length - 1) * first.stride + span - sum(first.pads), Quant(0.5, -7))
    ops: list[Op] = [first]
    if pool > 1:
        ops.append(MaxPool1d("pool", pool, pool))
    if average:
        ops.append(GlobalAveragePool("mean", Quant(3.0, -128)))
        return Graph("net", x, tuple(ops))
    rest = length // pool
    ops.append(layer("last", 5, outputs, rest, 3))
    return Graph("net", x, tuple(ops))


WIDE = net(64, 64, 400, 1)


@cache
def wide_model() -> bytes:
    return toolchain.compile_shared(generate(WIDE, isas=("amx", "avx512vnni")), extra_flags=FAST)


def here() -> bool:
    """This machine runs the AMX kernel."""
    return dict(_core.Model(wide_model(), "scalar").isas)["amx"]


SHAPES = {
    "one_block": net(16, 32, 32, 1),
    "one_more_position": net(16, 32, 33, 1),
    "one_less_than_two_blocks": net(16, 16, 63, 1),
    "two_blocks": net(3, 16, 64, 2),
    "odd_registers": net(16, 48, 70, 2, average=False),
    "odd_registers_summed": net(16, 80, 70, 2),
    "pool_4": net(32, 32, 100, 4, average=False),
    "pool_8_summed": net(5, 20, 104, 8),
    "pool_8": net(5, 16, 104, 8, average=False),
    "padded": net(16, 64, 90, 2, taps=9, pads=(4, 7), average=False),
    "dilated": net(17, 32, 75, 1, taps=5, dilation=3, pads=(2, 6)),
    "strided": net(2, 64, 65, 1, taps=11, stride=3),
    "no_relu": net(33, 33, 47, 1, zero=11, average=False),
    "long_window": net(64, 32, 40, 1, taps=12),
}


@pytest.mark.parametrize("name", list(SHAPES))
def test_every_shape_is_exact(always: None, name: str) -> None:
    graph = SHAPES[name]
    kernel = lower(graph, ("amx",)).kernels[0]
    assert kernel.isa == "amx"
    assert kernel.steps[1].kind == "conv1d_tiles"
    so = toolchain.compile_shared(generate(graph, isas=("amx",)), extra_flags=FAST)
    check = verify.verify_kernel(so, graph, count=12)
    assert check.equal, check
    if not dict(_core.Model(so, "scalar").isas)["amx"]:
        pytest.skip("this machine has no AMX: compiled and lowered, not run")


@pytest.mark.parametrize("seed", [204, 207, 217, 223])
def test_random_graphs_are_exact_on_tiles(always: None, seed: int) -> None:
    graph = random_graph(seed)
    so = toolchain.compile_shared(generate(graph, isas=("amx",)), extra_flags=FAST)
    assert verify.verify_kernel(so, graph, count=8, seed=seed).equal


def test_weights_that_are_not_padded_are_noticed(always: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: what lies behind a window must meet zero weights."""
    if not here():
        pytest.skip("needs a machine with AMX")
    real = vector.pack

    def ones(*args: object) -> object:
        packed = real(*args)
        flat = packed.weight.reshape(-1, 16, 16, 4)
        flat[:, 15][flat[:, 15] == 0] = 1
        return packed

    monkeypatch.setattr(vector, "pack", ones)
    graph = SHAPES["one_more_position"]
    so = toolchain.compile_shared(generate(graph, isas=("amx",)), extra_flags=FAST)
    assert verify.verify_kernel(so, graph, count=8).different > 0


def overreads(kernel: Kernel) -> Iterator[int]:
    """Bytes that every tile step reads behind its source buffer (0 or less: inside)."""
    for step in kernel.steps:
        if step.kind == "conv1d_tiles":
            s = dict(step.shape)
            last = (s["out_length"] * s["pool"] - 1) * s["x_stride"] + (s["runs"] - 1) * s["run_stride"]
            source = step.sources[0]
            yield source.skip + last + s["run_steps"] * 4 - kernel.buffers[source.buffer].bytes


def test_tiles_read_inside_their_buffers(always: None, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = [*SHAPES.values(), *(random_graph(seed) for seed in range(40))]

    def worst() -> int:
        return max(o for g in graphs for k in lower(g, ("amx",)).kernels[:1] for o in overreads(k))

    assert worst() == 0, "exactly to the end somewhere, and nowhere beyond"
    real = vector._margins
    monkeypatch.setattr(vector, "_margins", lambda *args: {**real(*args), "y_slack": 0})
    assert worst() > 0, "negative control: without the slack they would read beyond"


def test_tiles_run_only_where_they_pay() -> None:
    """The default is the one that was measured fastest; a net with nothing for tiles has no AMX kernel."""
    assert [k.isa for k in lower(WIDE).kernels][:2] == ["amx", "avx512vnni"]
    tiny = net(1, 3, 40, 1)
    assert "amx" not in [k.isa for k in lower(tiny).kernels]
    assert "amx" not in generate(tiny).isas


STATE = """
#include <cstdint>
alignas(64) static uint8_t config[64];
extern "C" unsigned in_use() { /* XINUSE: bit 17 tile configuration, bit 18 tile data */
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(1));
    return low >> 17 & 3u;
}
extern "C" unsigned use() {
    config[0] = 1, config[16] = 64, config[48] = 16;
    __asm__ volatile("ldtilecfg %0\\n\\ttilezero %%tmm0" ::"m"(config));
    const unsigned state = in_use();
    __asm__ volatile("tilerelease" ::);
    return state;
}
"""


def test_the_tiles_are_given_back_after_every_run(tmp_path: Path) -> None:
    """Held tiles would be saved and restored, 8 KiB, at every switch to another thread."""
    if not here():
        pytest.skip("needs a machine with AMX")
    (tmp_path / "state.cpp").write_text(STATE)
    command = [*toolchain.host_compiler(), "-O1", "-shared", "-fPIC", "state.cpp", "-o", "state.so"]
    subprocess.run(command, cwd=tmp_path, check=True)
    state = ctypes.CDLL(str(tmp_path / "state.so"))
    model = _core.Model(wide_model(), "amx")
    model.run(np.zeros(WIDE.input.channels * WIDE.input.length, np.int8))
    assert state.in_use() == 0
    assert state.use() == 3, "negative control: the probe sees tiles that are held"


REFUSED = """
import ctypes, sys
class Stack(ctypes.Structure):
    _fields_ = [("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]
room = ctypes.create_string_buffer(8192)
libc = ctypes.CDLL(None, use_errno=True)
if sys.argv[2] == "small":  # Linux refuses tiles while a thread's signal stack could not hold them
    assert libc.sigaltstack(ctypes.byref(Stack(ctypes.addressof(room), 0, 8192)), None) == 0
from libsedge import _core
from libsedge.errors import IsaNotRunnableError
so = open(sys.argv[1], "rb").read()
print(_core.Model(so).isa)
try:
    print(_core.Model(so, "amx").isa)
except IsaNotRunnableError:
    print("refused")
"""


def test_without_the_systems_leave_the_kernel_is_refused(tmp_path: Path) -> None:
    if not here():
        pytest.skip("needs a machine with AMX")
    path = tmp_path / "model.so"
    path.write_bytes(wide_model())

    def ask(stack: str) -> list[str]:
        command = [sys.executable, "-c", REFUSED, str(path), stack]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    assert ask("small") == ["avx512vnni", "refused"]
    assert ask("usual") == ["amx", "amx"]
