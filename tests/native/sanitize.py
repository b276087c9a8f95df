"""AddressSanitizer and UndefinedBehaviorSanitizer over everything that is C++ and reads bytes from outside.

    python tests/native/sanitize.py --graphs 60

Generated kernels (goldens and random graphs, every instruction set of this machine), the stream decoder, preprocessing
and CRC-32C with their own hostile inputs (tests/native/cpp), and libsedge-run over damaged streams,
packets and blocks. Any report ends a program with an error. Exit code 1 where something was reported.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import numpy as np
from libsedge_native import runner, toolchain
from libsedge_native.generate import generate
from libsedge_native.ir import Graph
from libsedge_native.passes import matrix_tiles
from libsedge_native.random_graph import random_graph, random_inputs

ROOT = Path(__file__).parents[2]
FLAGS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g", "-O1")
ENVIRONMENT = {
    **os.environ,
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "ASAN_OPTIONS": "detect_stack_use_after_return=1",
}


class Reported(Exception):
    """A sanitizer, or the checked program itself, found something; the message is what was said."""


def call(command: Sequence[str | Path], folder: Path, stdin: bytes = b"", codes: Sequence[int] = (0,)) -> str:
    """Run a program built with sanitizers; its output. Raises Reported unless it ends with one of `codes`."""
    done = subprocess.run(command, cwd=folder, input=stdin, capture_output=True, env=ENVIRONMENT, timeout=600)
    said = done.stderr.decode(errors="replace")
    if done.returncode not in codes or "Sanitizer" in said or "runtime error" in said:
        raise Reported(f"{shlex.join(map(str, command))} ended with {done.returncode}:\n{said}")
    return done.stdout.decode(errors="replace")


def check_graph(
    graph: Graph,
    seed: int = 0,
    extra: Sequence[str] = (),
    *,
    tiles: bool = False,
    isas: tuple[str, ...] | None = None,
) -> list[str]:
    """A net's kernels on its goldens, which are extremes and noise; the instruction sets that ran."""
    with mock.patch.object(matrix_tiles, "gain", return_value=1e9 if tiles else -1.0):
        generated = generate(graph, goldens=random_inputs(graph, seed, 8), isas=isas)
    with tempfile.TemporaryDirectory(prefix="sedge-") as name:
        folder = Path(name)
        toolchain.write_sources(generated, folder)
        main = Path(__file__).with_name("sanitize_main.cpp")
        command = [*toolchain.host_compiler(), "-std=c++17", *FLAGS, *extra, "-I.", *generated.sources, main]
        subprocess.run([*command, "-o", "check"], cwd=folder, check=True)
        return call([folder / "check"], folder).split()


def check_core(folder: Path) -> str:
    """The C++ tests of decoder, preprocessing and CRC-32C, built with sanitizers in `folder`."""
    flags = f"-DCMAKE_CXX_FLAGS={' '.join(FLAGS)}"
    environment = {**ENVIRONMENT, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    said = ""
    for command in (
        ["cmake", "-S", ROOT, "-B", folder, "-G", "Ninja", "-DSEDGE_PYTHON=OFF", flags],
        ["cmake", "--build", folder],
        ["ctest", "--test-dir", folder, "--output-on-failure", "--no-tests=error"],
    ):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Reported(done.stdout + done.stderr)
        said = done.stdout
    return next(line for line in said.splitlines() if "tests passed" in line)


def check_runner(streams: int, folder: Path) -> int:
    """libsedge-run of a small net over streams of damaged frames and of garbage; how many bytes it read."""
    sys.path.insert(0, str(ROOT / "tests" / "edge"))
    import runner_tools
    from conftest import build_tiny_model

    opened = build_tiny_model(folder).open()
    (folder / "run").mkdir()
    runner.write_folder(opened, folder / "run", runner_tools.AXIS)
    names = sorted(path.name for path in (folder / "run").glob("*.cpp"))
    command = [*toolchain.host_compiler(), "-std=c++17", *FLAGS, *names, "-o", "libsedge-run"]
    subprocess.run(command, cwd=folder / "run", check=True)
    program, total = folder / "run" / "libsedge-run", 0
    call([program, "--check"], folder)
    for seed in range(streams):
        rng = np.random.default_rng(seed)
        damaged = runner_tools.stream_bytes(runner_tools.frames(60, seed), (0.1, 0.5, 1.0)[seed % 3], seed)
        garbage = rng.integers(0, 256, 20_000, dtype=np.uint8).tobytes() + b"SEDG" * 500
        for stream in (
            damaged,
            damaged[: int(rng.integers(len(damaged)))],
            garbage + damaged + garbage,
            garbage,
        ):
            call([program], folder, stream)
            total += len(stream)
        total += check_inputs(program, seed, garbage)
    return total


def check_inputs(program: Path, seed: int, garbage: bytes) -> int:
    """The same program fed in packets over TCP, in blocks over a pseudo-terminal and in signed datagrams; how many
    bytes it read."""
    import runner_tools
    from libsedge.frame_key import FrameKey
    from libsedge.senders.serial import Blocks
    from libsedge.senders.truth import Whole

    blocks = garbage + b"".join(runner_tools.units(Blocks(), 0.5, seed, 30))
    key = program.with_name("key")
    key.touch(mode=0o600)
    key.write_text(f"hmac-sha256 {'2a' * 32}\n")
    datagrams = [garbage, *runner_tools.units(Whole(FrameKey(b"*" * 32)), 0.5, seed, 30)] * 2
    packets = runner_tools.odd_packets(seed) + garbage
    with runner_tools.running(program, "--source", "ccsds:tcp:0", "--follow-drift") as (process, end):
        runner_tools.send_tcp(runner_tools.address_of(process), packets)
        told = [end()]
    line = runner_tools.Line()
    with runner_tools.running(program, "--source", f"serial:{line.device}", "--bad-pixels", "5") as (_, end):
        line.send(blocks)
        told.append(end())
    line.close()
    with runner_tools.running(program, "--source", "udp:0", "--hmac-key", key) as (process, end):
        runner_tools.send_datagrams(runner_tools.address_of(process), datagrams)
        told.append(end())
    for said in told:
        if said.code != 0 or said.stderr:
            raise Reported(f"{program} ended with {said.code}:\n{said.stderr}")
    return len(packets) + len(blocks) + sum(map(len, datagrams))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--graphs", type=int, default=60)
    parser.add_argument("--streams", type=int, default=12)
    arguments = parser.parse_args()
    failed = 0

    def step(name: str, work: object) -> None:
        nonlocal failed
        try:
            print(f"{name}: {work()}", flush=True)  # type: ignore[operator]
        except (Reported, subprocess.CalledProcessError) as why:
            failed += 1
            print(f"{name}: REPORTED\n{why}", flush=True)

    with tempfile.TemporaryDirectory(prefix="sedge-") as name:
        (Path(name) / "core").mkdir()
        (Path(name) / "bundle").mkdir()
        step("C++ core", lambda: check_core(Path(name) / "core"))
        step("libsedge-run, bytes read", lambda: check_runner(arguments.streams, Path(name) / "bundle"))
        for seed in range(arguments.graphs):
            step(
                f"graph {seed}", lambda seed=seed: check_graph(random_graph(seed), seed, tiles=seed % 2 == 1)
            )
    print(f"{failed} reported")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
