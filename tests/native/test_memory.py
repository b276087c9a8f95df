"""Planned memory: streamed layers are exact, the arena is neither too small nor overstated, and the chart shows it."""

from __future__ import annotations

import ctypes
import importlib
import re
import subprocess
import tempfile
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from libsedge import _core
from libsedge.cli import main
from libsedge.errors import KernelError
from libsedge_native import reference, toolchain, verify
from libsedge_native.generate import GeneratedModel, generate
from libsedge_native.ir import (
    Add,
    AveragePool1d,
    Dense,
    Flatten,
    GlobalAveragePool,
    Graph,
    MaxPool1d,
    Quant,
    Tensor,
)
from libsedge_native.lowered import ALIGN, Kernel, Optimise
from libsedge_native.memory_chart import memory_chart
from libsedge_native.onnx_export import to_onnx
from libsedge_native.passes import lower
from libsedge_native.random_graph import random_inputs

from .random_conv import conv

FAST = ("-O1",)
#: tiles, four panels a register tile, 16-bit weights
ISAS = ("amx", "avx512vnni", "avx2")
#: the pass, whose module has the name of its function
stream = importlib.import_module("libsedge_native.passes.stream")


def chain() -> Graph:
    """Whatever can be streamed: strides, dilation, both paddings, pools that overlap and pad, single channels."""
    ops = (
        conv("first", (16, 2, 7), 1, stride=2, pads=(3, 2)),
        MaxPool1d("halves", 2, 2),
        conv("far", (32, 16, 3), 2, dilation=3, pads=(5, 4)),
        MaxPool1d("overlap", 3, 1, (1, 1)),
        conv("single", (32, 1, 5), 3, groups=32, pads=(0, 3)),
        AveragePool1d("mean", 3, 2, Quant(0.8, -20), (1, 0)),
        conv("last", (40, 32, 3), 4, pads=(1, 1)),
        GlobalAveragePool("gap", Quant(0.3, 0)),
        Flatten("flat"),
        Dense(
            "fc",
            np.eye(5, 40, dtype=np.int8),
            np.zeros(5, np.int32),
            np.full(5, 0.2, np.float32),
            Quant(0.1, 3),
        ),
    )
    return Graph("chain", Tensor(2, 700, Quant(0.1, -9)), ops)


def branching() -> Graph:
    """A chain at the front, then a sum of two branches."""
    stem = conv("stem", (32, 1, 5), 1)
    side = conv("side", (16, 16, 3), 3, pads=(1, 1), inputs=("second",))
    ops = (
        stem,
        conv("second", (16, 32, 4), 2, stride=4),
        side,
        Add("sum", Quant(1.1, -128), ("second", "side")),
        GlobalAveragePool("gap", Quant(0.3, 0)),
    )
    return Graph("branching", Tensor(1, 900, Quant(0.1, -9)), ops)


@cache
def built(optimise: Optimise) -> tuple[GeneratedModel, bytes]:
    generated = generate(chain(), isas=ISAS, optimise=optimise)
    return generated, toolchain.compile_shared(generated, extra_flags=FAST)


@pytest.mark.parametrize("optimise", ["speed", "size"])
def test_streamed_layers_are_exact_on_every_isa(optimise: Optimise) -> None:
    graph = chain()
    kernels = lower(graph, ISAS, optimise).kernels
    assert any(k.sweep for k in kernels)
    assert all(k.sweep for k in kernels if optimise == "size" and k.isa != "amx"), (
        "tiles want many rows a round"
    )
    check = verify.verify_kernel(built(optimise)[1], graph, count=12)
    assert check.equal, check
    assert check.layer_cells > 0
    assert len(np.unique(reference.run(graph, random_inputs(graph, 0, 12)))) > 8, (
        "a saturated net proves nothing"
    )


@pytest.mark.parametrize("chunk", [1, 23])
def test_any_number_of_rows_a_round_is_exact(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    """Rounds of one row and of many; where a kernel's tile has more rows, it takes a multiple."""
    monkeypatch.setattr(stream, "_chunks", lambda flow: [-(-chunk // flow.unit) * flow.unit])
    monkeypatch.setattr(stream, "SLOWER", 1e9)
    monkeypatch.setattr(stream, "ROUNDS", 4096)
    graph = chain()
    so = toolchain.compile_shared(generate(graph, isas=("avx2",), optimise="size"), extra_flags=FAST)
    assert verify.verify_kernel(so, graph, count=6).equal


def test_a_row_too_few_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: windows one row shorter than they are."""
    needed = stream._needed
    monkeypatch.setattr(stream, "_needed", lambda flow, made, length: max(0, needed(flow, made, length) - 1))
    graph = chain()
    so = toolchain.compile_shared(generate(graph, isas=(), optimise="size"), extra_flags=FAST)
    assert not verify.verify_kernel(so, graph, count=6).equal


def test_behind_a_branch_layers_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "SLOWER", 1e9)
    graph = branching()
    kernels = lower(graph, ("avx2",), "size").kernels
    assert [k.steps[k.sweep.steps - 1].name for k in kernels if k.sweep] == ["second", "second"]
    assert all(k.reason == "streamed up to second; second is read 2 times" for k in kernels)
    so = toolchain.compile_shared(generate(graph, isas=("avx2",), optimise="size"), extra_flags=FAST)
    assert verify.verify_kernel(so, graph, count=6).equal


# --- the arena


class _Model(ctypes.Structure):
    _fields_ = (
        ("net", ctypes.c_void_p),
        ("kernel", ctypes.c_void_p),
        ("arena", ctypes.c_void_p),
        ("bytes", ctypes.c_size_t),
    )


def loaded(so: bytes) -> ctypes.CDLL:
    with tempfile.NamedTemporaryFile(suffix=".so") as file:
        file.write(so)
        file.flush()
        library = ctypes.CDLL(file.name)
    library.sedge_net_entry.restype = ctypes.c_void_p
    return library


def touched(so: bytes, graph: Graph, isa: str, room: int) -> np.ndarray:
    """Whether a run writes a byte: of `room` bytes of arena and as many behind it; two patterns tell."""
    library = loaded(so)
    x = random_inputs(graph, 3, 1)[0]
    logits = np.zeros(graph.output.channels, np.int8)
    changed = np.zeros(2 * room, bool)
    for pattern in (0x5A, 0xA5):
        memory = np.full(2 * room + 2 * ALIGN, pattern, np.uint8)
        first = -memory.ctypes.data % ALIGN
        model = _Model()
        net = ctypes.c_void_p(library.sedge_net_entry())
        status = library.sedge_init(
            ctypes.byref(model),
            net,
            isa.encode(),
            ctypes.c_void_p(memory.ctypes.data + first),
            ctypes.c_size_t(room),
        )
        assert status == 0, status
        pointers = (ctypes.c_void_p(array.ctypes.data) for array in (x, logits))
        assert library.sedge_run(ctypes.byref(model), *pointers) == 0
        changed |= memory[first : first + 2 * room] != pattern
    assert (logits == reference.run(graph, x[None])[0]).all()
    return changed


def slack(kernel: Kernel) -> int:
    """Bytes that are only read, behind a buffer."""
    return max((step.flow.slack for step in kernel.steps if step.flow), default=0)


def check_arena(kernel: Kernel, so: bytes, graph: Graph, room: int) -> None:
    """Nothing behind the kernel's arena is written, and the last bytes of it are used."""
    changed = touched(so, graph, kernel.isa, room)
    last = int(np.flatnonzero(changed)[-1]) + 1
    assert last <= kernel.arena_bytes, f"{kernel.isa} writes {last} bytes of {kernel.arena_bytes}"
    assert kernel.arena_bytes - last < ALIGN + slack(kernel), (
        f"{kernel.isa} needs {last} of {kernel.arena_bytes}"
    )


@pytest.mark.parametrize("optimise", ["speed", "size"])
def test_the_arena_is_exact(optimise: Optimise) -> None:
    graph = chain()
    generated, so = built(optimise)
    kernels = lower(graph, ISAS, optimise).kernels
    assert generated.arena_bytes == max(k.arena_bytes for k in kernels)
    header = generated.files["model.h"]
    assert f"#define SEDGE_CHAIN_ARENA_BYTES {generated.arena_bytes}\n" in header
    runnable = dict(_core.Model(so, "scalar").isas)
    for kernel in kernels:
        if runnable[kernel.isa]:
            check_arena(kernel, so, graph, generated.arena_bytes)


def test_a_wrong_arena_is_noticed() -> None:
    """Negative controls: a kernel that claims a line less, and one that claims two more."""
    graph = chain()
    generated, so = built("size")
    kernel = lower(graph, ISAS, "size").kernels[-1]
    with pytest.raises(AssertionError, match="scalar writes"):
        check_arena(replace(kernel, arena_bytes=kernel.arena_bytes - ALIGN), so, graph, generated.arena_bytes)
    with pytest.raises(AssertionError, match="scalar needs"):
        check_arena(
            replace(kernel, arena_bytes=kernel.arena_bytes + 2 * ALIGN), so, graph, generated.arena_bytes
        )


def test_the_canaries_catch_a_header_that_lies() -> None:
    generated = generate(chain(), isas=(), optimise="size")
    real, short = (f"ARENA_BYTES {generated.arena_bytes - less}\n" for less in (0, ALIGN))
    lying = replace(
        generated, files={**generated.files, "model.h": generated.files["model.h"].replace(real, short)}
    )
    model = _core.Model(toolchain.compile_shared(lying, extra_flags=FAST), "scalar")
    with pytest.raises(KernelError, match="outside its arena"):
        model.self_test()


def test_tracing_in_a_small_arena_is_refused() -> None:
    """Whole layers need more than a run: SEDGE_<MODEL>_TRACE_BYTES."""
    generated = generate(chain(), isas=(), optimise="size")
    so = toolchain.compile_shared(generated, extra_flags=FAST)
    found = re.search(r"TRACE_BYTES (\d+)", generated.files["model.h"])
    assert found is not None
    whole = int(found[1])
    assert whole > generated.arena_bytes
    library = loaded(so)
    show = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, *[ctypes.c_size_t] * 2)(lambda *_: None)
    x = random_inputs(chain(), 3, 1)[0]
    for room, wanted in ((generated.arena_bytes, 3), (whole - ALIGN, 3), (whole, 0)):
        memory = np.zeros(room + ALIGN, np.uint8)
        arena = ctypes.c_void_p(memory.ctypes.data + -memory.ctypes.data % ALIGN)
        model = _Model()
        net = ctypes.c_void_p(library.sedge_net_entry())
        assert library.sedge_init(ctypes.byref(model), net, b"scalar", arena, ctypes.c_size_t(room)) == 0
        assert (
            library.sedge_trace(ctypes.byref(model), x.ctypes.data_as(ctypes.c_void_p), show, None) == wanted
        )


# --- what it comes to


def product_net(length: int) -> Graph:
    """The shapes of the product's network; the weights do not matter here."""
    ops = (
        conv("conv1", (16, 1, 11), 1, stride=2),
        MaxPool1d("pool1", 2, 2),
        conv("conv2", (32, 16, 7), 2),
        MaxPool1d("pool2", 2, 2),
        conv("conv3", (64, 32, 5), 3),
        MaxPool1d("pool3", 2, 2),
        conv("conv4", (64, 64, 3), 4),
        GlobalAveragePool("gap", Quant(0.3, 0)),
        Flatten("flat"),
        Dense(
            "fc",
            np.ones((12, 64), np.int8),
            np.zeros(12, np.int32),
            np.full(12, 0.2, np.float32),
            Quant(0.1, 3),
        ),
    )
    return Graph("m", Tensor(1, length, Quant(0.1, -128)), ops)


def test_the_arena_of_the_product_net() -> None:
    graph = product_net(5400)
    arenas = {
        o: {k.isa: k.arena_bytes for k in lower(graph, optimise=o).kernels}
        for o in ("layers", "speed", "size")
    }
    assert min(arenas["layers"].values()) > 40 * 1024
    assert max(arenas["size"].values()) <= 16 * 1024
    assert min(arenas["size"].values()) > 2 * 1024, "an arena too good to be true"
    for isa, size in arenas["size"].items():
        assert size <= arenas["speed"][isa] <= arenas["layers"][isa] + 64


def text_bytes(generated: GeneratedModel, folder: Path) -> int:
    """Machine code of the object as it is linked: every section that holds instructions, without constants."""
    toolchain.write_sources(generated, folder)
    flags = (*toolchain.COMPILE_FLAGS, "-c", "model.cpp", "-o", "model.o")
    toolchain.run([*toolchain.host_compiler(), *flags], folder)
    command = ["objdump", "-hw", folder / "model.o"]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return sum(int(line.split()[2], 16) for line in listing.splitlines() if "CODE" in line)


@pytest.mark.parametrize(
    ("optimise", "isa", "least", "most"), [("speed", "avx512vnni", 4, 48), ("size", "amx", 4, 16)]
)
def test_machine_code_of_the_product_net(
    optimise: Optimise, isa: str, least: int, most: int, tmp_path: Path
) -> None:
    """KiB of the kernel and of the scalar one that every model has."""
    scalar = tmp_path / "scalar"
    both = tmp_path / "both"
    scalar.mkdir()
    both.mkdir()
    graph = product_net(5400)
    of_scalar = text_bytes(generate(graph, isas=(), optimise=optimise), scalar)
    size = text_bytes(generate(graph, isas=(isa,), optimise=optimise), both) - of_scalar
    assert least * 1024 <= size <= most * 1024, f"{isa} {size:,} bytes"
    assert least * 1024 <= of_scalar <= most * 1024, f"scalar {of_scalar:,} bytes"


def test_large_tables_are_strings_and_the_same_bytes() -> None:
    generated = generate(product_net(300), isas=())
    text = generated.files["model.cpp"]
    assert re.search(r'/\* conv4_weight \*/\n +"', text)
    assert re.search(r"/\* pool1_weight \*/\n +-?\d", text), "small ones stay lists"
    model = _core.Model(toolchain.compile_shared(generated, extra_flags=FAST), "scalar")
    model.scrub()  # the CRC-32C is of the bytes that the generator meant
    model.self_test()


# --- the chart


def test_the_chart_shows_every_kernel_and_no_overlap(tmp_path: Path) -> None:
    onnx = tmp_path / "chain.onnx"
    onnx.write_bytes(to_onnx(chain()))
    done = CliRunner().invoke(
        main, ["inspect", str(onnx), "--memory", "--optimise", "size"], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    kernels = lower(chain(), optimise="size").kernels
    for kernel in kernels:
        assert f"{kernel.isa}: {kernel.arena_bytes:,} bytes; {kernel.reason}" in done.output
    blocks = done.output.split("\n\n")[1:]
    assert len(blocks) == len(kernels)
    for text, kernel in zip(blocks, kernels, strict=True):
        rows = re.findall(r"^  (\w+) +([\d,]+) +([\d,]+)  .*? ([#.]+)$", text, re.MULTILINE)
        assert len(rows) == len(kernel.buffers), text
        for column in range(len(rows[0][3])):
            alive = sorted(
                (int(offset.replace(",", "")), int(size.replace(",", "")))
                for _, offset, size, drawn in rows
                if drawn[column] == "#"
            )
            assert all(a + size <= b for (a, size), (b, _) in pairwise(alive)), text
            assert all(a + size <= kernel.arena_bytes for a, size in alive)


def test_the_chart_needs_a_model_and_says_so(tmp_path: Path) -> None:
    wrong = tmp_path / "x.onnx"
    wrong.write_bytes(b"no model")
    for command in (
        ["inspect", str(wrong), "--memory"],
        ["sources", str(wrong), "-o", str(tmp_path / "drop")],
    ):
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 2
        assert done.output.startswith(f"error: {wrong}: model: not an ONNX model")
    assert "streamed" in memory_chart(to_onnx(chain()), "size", ["x86_64-linux"])
