"""float32 models on ARM and on big-endian machines, run under qemu-user: within the tolerance of float64."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from libsedge.bundle import TOLERANCE
from libsedge_native import float_reference, toolchain
from libsedge_native.emulate import Machine
from libsedge_native.float_graph import dequantised
from libsedge_native.generate import generate
from libsedge_native.ir import Graph
from libsedge_native.random_graph import random_graph
from libsedge_native.targets import compiler

#: reads float32 inputs, writes float32 logits of the kernel named; its status is the model's
PROGRAM = """
#include "model.h"
#include <cstdio>
int main(int, char** arguments) {
    alignas(64) static unsigned char arena[SEDGE_NET_ARENA_BYTES];
    static float x[SEDGE_NET_INPUT_LEN], y[SEDGE_NET_CLASSES];
    sedge_model_f32 model;
    int status = sedge_init_f32(&model, &sedge_net_net, arguments[1], arena, sizeof arena);
    if (status == SEDGE_OK)
        status = sedge_self_test_f32(&model);
    if (status == SEDGE_OK)
        status = sedge_scrub_f32(&model);
    while (status == SEDGE_OK && std::fread(x, sizeof x, 1, stdin) == 1) {
        status = sedge_run_f32(&model, x, y);
        std::fwrite(y, sizeof y, 1, stdout);
    }
    return status;
}
"""
#: exit status of a kernel that was not built
NOT_BUILT = 6
BIG_ENDIAN = ("ppc64-linux", "s390x-linux")


def build(graph: Graph, machine: Machine, folder: Path) -> Path:
    generated = generate(graph, isas=machine.target.float_isas, precision="float32")
    toolchain.write_sources(generated, folder)
    (folder / "main.cpp").write_text(PROGRAM)
    flags = ("-std=c++17", "-O1", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-static")
    command = [*compiler(machine.target), *machine.target.flags, *flags, *generated.sources, "main.cpp"]
    toolchain.run([*command, "-o", "program"], folder)
    return folder / "program"


def check(graph: Graph, machine: Machine, folder: Path) -> None:
    program = build(graph, machine, folder)
    noise = np.random.default_rng(7).standard_normal((2, graph.input.channels * graph.input.length))
    x = noise.astype(np.float32)
    want = float_reference.run(graph, x)
    order = ">f4" if machine.target.name in BIG_ENDIAN else "<f4"
    cpu = machine.target.cpus[0][0]
    for isa in (*machine.target.float_isas, "scalar"):
        command = [*machine.command(cpu), str(program), isa]
        done = subprocess.run(command, input=x.astype(order).tobytes(), capture_output=True, check=False)
        assert done.returncode == 0, (isa, done)
        got = np.frombuffer(done.stdout, order).reshape(want.shape)
        assert np.abs(got - want).max() < TOLERANCE * np.abs(want).max()
    missing = "neon" if "neon" not in machine.target.float_isas else "avx2"
    assert subprocess.run([*machine.command(cpu), str(program), missing], check=False).returncode == NOT_BUILT


def test_the_m_net_is_within_the_tolerance(aarch64: Machine, net: Graph, tmp_path: Path) -> None:
    check(replace(dequantised(net), name="net"), aarch64, tmp_path)


@pytest.mark.parametrize("seed", [10, 18])
def test_random_graphs_are_within_the_tolerance(machine: Machine, seed: int, tmp_path: Path) -> None:
    check(dequantised(random_graph(seed)), machine, tmp_path)
