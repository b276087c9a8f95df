"""The source folder, and models on bare Cortex-M boards that QEMU emulates."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from libsedge.cli import main
from libsedge.errors import ToolchainError
from libsedge_native import counting
from libsedge_native.fixed_graphs import m_net, ties
from libsedge_native.generate import GeneratedModel, generate
from libsedge_native.ir import Graph
from libsedge_native.lowered import Optimise
from libsedge_native.onnx_export import to_onnx
from libsedge_native.passes import lower
from libsedge_native.random_graph import random_graph, random_inputs
from libsedge_native.targets import BARE, BareTarget, compiler, host_compiler, target_of
from libsedge_native.toolchain import compile_object, write_sources

HERE = Path(__file__).parent / "cortexm"
WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Werror")
EMULATOR = (
    "-nographic",
    "-monitor",
    "none",
    "-serial",
    "none",
    "-semihosting-config",
    "enable=on,target=native",
)
GOOD = "every golden vector bit for bit"
BAD_GOLDEN = "an embedded golden vector did not come out bit for bit"


def available_or_skip(target: BareTarget) -> BareTarget:
    missing = [tool for tool in (target.compiler, target.emulator) if not shutil.which(tool)]
    if missing:
        why = f"{', '.join(missing)} not installed (Debian: {' '.join(target.packages)})"
        if os.environ.get("LIBSEDGE_ARM") == "required":
            pytest.fail(why)
        pytest.skip(why)
    return target


@pytest.fixture(params=BARE.values(), ids=BARE)
def board(request: pytest.FixtureRequest) -> BareTarget:
    return available_or_skip(request.param)


def boot(
    board: BareTarget, generated: GeneratedModel, model: bytes, folder: Path, options: tuple[str, ...] = ()
) -> str:
    """Links the firmware, runs it, and returns its verdict; asserts that exit status and verdict agree."""
    (folder / "model.o").write_bytes(model)
    for name in ("model.h", "libsedge.h"):
        (folder / name).write_text(generated.files[name])
    flags = [
        "-std=c++17",
        "-O2",
        *WARNINGS,
        "-fno-exceptions",
        "-fno-rtti",
        "-nostartfiles",
        "-I",
        str(folder),
    ]
    command = [*compiler(board), *board.flags, *flags, f"-DNET_MACRO=SEDGE_{generated.name.upper()}"]
    firmware = [HERE / "main.cpp", folder / "model.o", "-T", HERE / "board.ld", "-lc", "-lgcc"]
    subprocess.run([*command, *firmware, "-o", folder / "firmware.elf"], check=True)
    run = [board.emulator, "-M", board.board, *EMULATOR, *options, "-kernel", folder / "firmware.elf"]
    done = subprocess.run(run, capture_output=True, text=True, check=False, timeout=120)
    verdict = (done.stdout + done.stderr).strip()
    assert (done.returncode == 0) == (verdict == GOOD), done
    return verdict


def test_the_goldens_come_out_on_a_bare_board(board: BareTarget, short_net: Graph, tmp_path: Path) -> None:
    cases: tuple[tuple[Graph, Optimise], ...] = (
        (short_net, "speed"),
        (short_net, "size"),
        (random_graph(4), "speed"),
    )
    for graph, optimise in cases:
        generated = generate(graph, isas=board.isas, optimise=optimise)
        assert boot(board, generated, compile_object(generated, board, WARNINGS), tmp_path) == GOOD


def test_the_object_needs_no_library(board: BareTarget, short_net: Graph, tmp_path: Path) -> None:
    """memcpy and memset at most; without an FPU libgcc's float helpers too."""
    (tmp_path / "model.o").write_bytes(compile_object(generate(short_net, isas=board.isas), board))
    nm = board.compiler.replace("g++", "nm")
    out = subprocess.run([nm, "-u", tmp_path / "model.o"], capture_output=True, text=True, check=True).stdout
    needed = {line.split()[-1] for line in out.splitlines()} - {"memcpy", "memset"}
    helpers = {"f2iz", "fadd", "fcmpeq", "fcmpgt", "fcmplt", "fmul", "i2f"}
    assert needed <= ({f"__aeabi_{name}" for name in helpers} if "-mfloat-abi=soft" in board.flags else set())


def test_a_wrong_weight_is_noticed(board: BareTarget, short_net: Graph, tmp_path: Path) -> None:
    """Negative control of the board's self-test; the weights of two kernels may lie in the same order."""
    kernel = lower(short_net, board.isas).kernels[0]
    weight = next(c.values for step in kernel.steps for c in step.constants if c.name == "fc_weight")
    generated = generate(short_net, isas=board.isas)
    broken = bytearray(compile_object(generated, board))
    image = weight.tobytes()[:256]
    assert image in broken
    while (at := broken.find(image)) >= 0:
        broken[at : at + 64] = bytes((byte + 40) % 256 for byte in broken[at : at + 64])
    assert boot(board, generated, bytes(broken), tmp_path) == BAD_GOLDEN


def test_a_wrong_rounding_rule_is_noticed(board: BareTarget, tmp_path: Path) -> None:
    """Negative control: half away from zero instead of half to even."""
    graph, inputs = ties()
    generated = generate(graph, inputs, board.isas)
    assert boot(board, generated, compile_object(generated, board), tmp_path) == GOOD
    wrong = compile_object(generated, board, ("-DSEDGE_TEST_ROUND_HALF_AWAY",))
    assert boot(board, generated, wrong, tmp_path) == BAD_GOLDEN


@pytest.mark.parametrize("off_by", [0, 1])
def test_four_results_at_once_are_those_of_one(short_net: Graph, tmp_path: Path, off_by: int) -> None:
    """Helium's requantisation over 400,000 accumulators: ties, saturation, multipliers down to the subnormal."""
    board = available_or_skip(BARE["cortex-m55"])
    generated = generate(short_net, isas=board.isas)
    write_sources(generated, tmp_path)
    flags = ["-std=c++17", "-O2", *WARNINGS, f"-DSEDGE_TEST_OFF_BY={off_by}", "-I", tmp_path, "-c"]
    command = [
        *compiler(board),
        *board.flags,
        *flags,
        HERE / "requantise_four.cpp",
        "-o",
        tmp_path / "four.o",
    ]
    subprocess.run(command, check=True)
    wanted = "four results differ from one" if off_by else GOOD
    assert boot(board, generated, (tmp_path / "four.o").read_bytes(), tmp_path) == wanted


def test_a_short_arena_is_noticed(board: BareTarget, short_net: Graph, tmp_path: Path) -> None:
    """Negative control of the firmware's canaries."""
    generated = generate(short_net, isas=board.isas)
    real, short = (f"ARENA_BYTES {generated.arena_bytes - less}\n" for less in (0, 64))
    assert real in generated.files["model.h"]
    lying = replace(
        generated, files={**generated.files, "model.h": generated.files["model.h"].replace(real, short)}
    )
    assert boot(board, lying, compile_object(lying, board), tmp_path) == "the arena was overrun"


#: bytes that the small net takes at most with this compiler, by what it is optimised for and its kernels: flash,
#: goldens included (`arm-none-eabi-size`), and arena
SMALL_COMPILER = "12.2.1"
SMALL: dict[tuple[Optimise, tuple[str, ...]], tuple[int, int]] = {
    ("speed", ("scalar",)): (42_000, 16_384),
    ("speed", ("smlad", "scalar")): (75_500, 16_384),
    ("size", ("scalar",)): (42_500, 8_192),
    ("size", ("smlad", "scalar")): (76_000, 8_192),
}


def test_the_small_net_fits_a_small_part(tmp_path: Path) -> None:
    """1,800 inputs on the Cortex-M4: flash and arena within their budgets, nothing else in RAM but the stack."""
    board, small = available_or_skip(BARE["cortex-m4"]), m_net(1800)
    asked = [*compiler(board), "-dumpfullversion"]
    version = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    if version != SMALL_COMPILER:
        pytest.skip(f"the budget is for {SMALL_COMPILER}, this is {version}")
    for (optimise, kernels), (most, arena) in SMALL.items():
        generated = generate(small, isas=kernels[:-1], optimise=optimise)
        (tmp_path / "model.o").write_bytes(compile_object(generated, board))
        size = [board.compiler.replace("g++", "size"), tmp_path / "model.o"]
        out = subprocess.run(size, capture_output=True, text=True, check=True).stdout
        text, data, bss = map(int, out.splitlines()[1].split()[:3])
        print(optimise, kernels, text, generated.arena_bytes)
        assert 0.97 * most < text < most, "a budget that is far off is no budget"
        assert data == bss == 0
        assert 0.8 * arena < generated.arena_bytes < arena


def instructions(board: BareTarget, net: Graph, isa: str, folder: Path) -> float:
    """Of one inference, counted, not timed: three more goldens of a whole firmware."""
    plugin = counting.build_plugin(folder)
    executed = []
    for goldens in (1, 4):
        generated = generate(net, random_inputs(net, 0, goldens), () if isa == "scalar" else (isa,))
        options = ("-plugin", f"{folder / plugin},out={folder / 'count.txt'}")
        assert boot(board, generated, compile_object(generated, board), folder, options) == GOOD
        executed.append(int((folder / "count.txt").read_text()))
    return (executed[1] - executed[0]) / 3


@pytest.mark.usefixtures("long_run")
@pytest.mark.parametrize(
    ("name", "isa", "beside", "products", "times"),
    [("cortex-m4", "smlad", "scalar", 2, 2), ("cortex-m55", "mve", "smlad", 16, 5)],
)
def test_a_kernel_takes_fewer_instructions(
    short_net: Graph, tmp_path: Path, name: str, isa: str, beside: str, products: int, times: int
) -> None:
    board = available_or_skip(BARE[name])
    ours, other = (instructions(board, short_net, kernel, tmp_path) for kernel in (isa, beside))
    print(isa, ours, beside, other)
    assert short_net.macs / products < ours < other / times


def test_a_missing_bare_compiler_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolchainError, match="gcc-arm-none-eabi"):
        compile_object(generate(random_graph(1), isas=()), BARE["cortex-m4"])
    with pytest.raises(ToolchainError, match="source folder"):
        target_of("cortex-m4")


def test_the_source_folder_compiles_as_it_says(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(to_onnx(random_graph(5)))
    arguments = ["sources", str(tmp_path / "model.onnx"), "-o", str(tmp_path / "drop")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "i8mm, neondot, neon, armv7neon, scalar" in result.output
    (tmp_path / "drop" / "main.cpp").write_text(
        '#include "model.h"\nint main() {\n    alignas(64) static uint8_t arena[SEDGE_NET_ARENA_BYTES];\n'
        "    sedge_model model;\n    if (sedge_init(&model, &sedge_net_net, 0, arena, sizeof arena) != SEDGE_OK)\n"
        "        return 1;\n    return sedge_self_test(&model) == SEDGE_OK ? 0 : 2;\n}\n"
    )
    sources = sorted((tmp_path / "drop").glob("*.cpp"))
    command = [*host_compiler(), "-std=c++17", "-O2", *sources, "-o", tmp_path / "program"]
    subprocess.run(command, check=True)
    assert subprocess.run([tmp_path / "program"], check=False).returncode == 0
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 2
    assert "exists already" in again.output
    assert sorted(p.name for p in tmp_path.iterdir()) == ["drop", "model.onnx", "program"]


def test_one_kernel_of_a_source_folder(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(to_onnx(random_graph(5)))
    arguments = ["sources", str(tmp_path / "model.onnx"), "-o", str(tmp_path / "drop"), "--isa"]
    assert "kernels scalar\n" in CliRunner().invoke(main, [*arguments, "scalar"]).output
    refused = CliRunner().invoke(main, [*arguments, "mmx", "--target", "aarch64-linux"])
    assert refused.exit_code == 2
    assert "i8mm, neondot, neon, scalar" in refused.output


def test_a_source_folder_for_a_bare_board_has_its_object(board: BareTarget, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(to_onnx(random_graph(5)))
    arguments = [
        "sources",
        str(tmp_path / "model.onnx"),
        "-o",
        str(tmp_path / "drop"),
        "--target",
        board.name,
    ]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert f"kernels {', '.join((*board.isas, 'scalar'))}\n" in result.output
    names = {path.name for path in (tmp_path / "drop").iterdir()}
    assert {"libsedge.h", "model.cpp", "model.h", "model.o", "scalar.h"} <= names
    assert {f"{isa}.h" for isa in ("mve", "smlad")} & names == {f"{isa}.h" for isa in board.isas}
