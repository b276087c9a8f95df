"""`sedge_run_steps` and `Model.layer_times`: the bits of a run, and every step of the kernel that ran, by name."""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from libsedge import _core
from libsedge.errors import KernelError
from libsedge_native import reference, toolchain
from libsedge_native.float_graph import dequantised
from libsedge_native.generate import GeneratedModel, generate
from libsedge_native.ir import GlobalAveragePool, Graph, MaxPool1d, Quant, Tensor
from libsedge_native.lowered import Kernel
from libsedge_native.passes import lower
from libsedge_native.random_graph import random_graph, random_inputs

from .random_conv import conv

ISAS = ("avx512vnni", "avx2")
FAST = ("-O1",)
OK, E_NULL, E_NO_STEPS = 0, 1, 11
_Done = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_char_p)


class _Model(ctypes.Structure):
    _fields_ = (("net", ctypes.c_void_p), ("kernel", ctypes.c_void_p), ("arena", ctypes.c_void_p))
    _fields_ += (("arena_bytes", ctypes.c_size_t),)


def chain() -> Graph:
    """Streamed by every kernel at `size`: convolutions, pools and sums of an average."""
    ops = (
        conv("first", (16, 1, 7), 1, stride=2),
        MaxPool1d("halves", 2, 2),
        conv("last", (32, 16, 3), 2),
        GlobalAveragePool("average", Quant(0.5, -20)),
    )
    return Graph("net", Tensor(1, 700, Quant(0.05, -128)), ops)


class Library:
    """A compiled model through its C API."""

    def __init__(self, so: bytes, generated: GeneratedModel, isa: str) -> None:
        with tempfile.TemporaryDirectory() as name:
            (Path(name) / "model.so").write_bytes(so)
            self.library = ctypes.CDLL(str(Path(name) / "model.so"))
        self.suffix = "_f32" if generated.files["model.h"].count("sedge_net_f32") else ""
        self.generated, self.model = generated, _Model()
        self.memory = np.zeros(generated.arena_bytes + generated.arena_align, np.uint8)
        arena = self.memory.ctypes.data + -self.memory.ctypes.data % generated.arena_align
        entry = self.library[f"sedge_net{self.suffix}_entry"]
        entry.restype = ctypes.c_void_p
        init = self.library[f"sedge_init{self.suffix}"]
        model, net = ctypes.byref(self.model), ctypes.c_void_p(entry())
        size = ctypes.c_size_t(generated.arena_bytes)
        assert init(model, net, isa.encode(), ctypes.c_void_p(arena), size) == OK

    def run(self, x: np.ndarray, callback: Any) -> tuple[int, np.ndarray]:
        logits = np.zeros(self.generated.classes, x.dtype)
        pointers = (x.ctypes.data_as(ctypes.c_void_p), logits.ctypes.data_as(ctypes.c_void_p))
        call = self.library[f"sedge_run_steps{self.suffix}"]
        return call(ctypes.byref(self.model), *pointers, callback, None), logits


def calls_of(kernel: Kernel) -> list[str]:
    """The names that a run must show, in order."""
    names = [step.name for step in kernel.steps]
    if kernel.sweep is None:
        return names
    return names[: kernel.sweep.steps] * kernel.sweep.count + names[kernel.sweep.steps :]


def check(graph: Graph, isas: Sequence[str], optimise: Any, wanted: np.ndarray | None, x: np.ndarray) -> int:
    """Every kernel that runs here; how many of them are streamed."""
    precision: Any = "float32" if graph.is_float else "int8"
    generated = generate(graph, isas=tuple(isas), optimise=optimise, precision=precision)
    so = toolchain.compile_shared(generated, extra_flags=FAST)
    shell = _core.FloatModel if graph.is_float else _core.Model
    runnable = {name for name, runs in shell(so, "scalar").isas if runs}
    streamed = 0
    for kernel in lower(graph, tuple(isas), optimise).kernels:
        if kernel.name not in runnable:
            continue
        shown: list[str] = []
        library = Library(so, generated, kernel.name)
        status, logits = library.run(x, _Done(lambda _, name, shown=shown: shown.append(name.decode())))
        model = shell(so, kernel.name)
        assert status == OK
        assert np.array_equal(logits, model.run(x) if wanted is None else wanted)
        assert shown == calls_of(kernel)
        times = model.layer_times(x)
        assert [name for name, _ in times] == [step.name for step in kernel.steps]
        assert all(ns >= 0 for _, ns in times)
        assert sum(ns for _, ns in times) > 0
        streamed += kernel.sweep is not None
    return streamed


def test_the_steps_of_whole_layers() -> None:
    graph = random_graph(12)
    x = random_inputs(graph, 12, 1)[0]
    check(graph, ISAS, "layers", reference.run(graph, x), x)


def test_streamed_steps_are_shown_in_every_round() -> None:
    graph = chain()
    x = random_inputs(graph, 1, 1)[0]
    assert check(graph, ISAS, "size", reference.run(graph, x), x) > 1


def test_float32_kernels_too() -> None:
    graph = dequantised(random_graph(12))
    x = np.random.default_rng(0).random(graph.input.channels * graph.input.length, np.float32)
    check(graph, ("avx2",), "layers", None, x)


def test_a_run_that_shows_its_steps_needs_somebody_to_show_them_to() -> None:
    graph = random_graph(4)
    generated = generate(graph, isas=())
    library = Library(toolchain.compile_shared(generated, extra_flags=FAST), generated, "scalar")
    assert library.run(random_inputs(graph, 0, 1)[0], None)[0] == E_NULL


def test_a_model_compiled_without_steps_says_so() -> None:
    graph = random_graph(4)
    generated = generate(graph, isas=())
    so = toolchain.compile_shared(generated, extra_flags=(*FAST, "-DSEDGE_RUN_STEPS=0"))
    x = random_inputs(graph, 0, 1)[0]
    assert Library(so, generated, "scalar").run(x, _Done(lambda *_: None))[0] == E_NO_STEPS
    with pytest.raises(KernelError, match="SEDGE_RUN_STEPS 0"):
        _core.Model(so).layer_times(x)


def test_a_model_compiled_before_there_were_steps_is_refused_by_layer_times_alone() -> None:
    graph = random_graph(4)
    generated = generate(graph, isas=())
    old = generated.files["model_api.cpp"].replace(
        "sedge_status sedge_run_steps(", "static sedge_status former("
    )
    flags = (*FAST, "-Wno-unused-function")
    so = toolchain.compile_shared(
        replace(generated, files={**generated.files, "model_api.cpp": old}), extra_flags=flags
    )
    x = random_inputs(graph, 0, 1)[0]
    model = _core.Model(so)
    assert np.array_equal(model.run(x), reference.run(graph, x))
    with pytest.raises(KernelError, match=r"layer_times: .*show no steps"):
        model.layer_times(x)
    with pytest.raises(ValueError, match="input: shape"):
        model.layer_times(x[:-1])
