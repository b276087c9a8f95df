"""`libsedge build-runner`: programs of other machines, what it refuses to build, and its sources built by CMake."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from libsedge.bundle import Bundle
from libsedge.errors import BundleError, ToolchainError
from libsedge.frame_key import FrameKey
from libsedge.senders.ccsds import Packets
from libsedge.senders.truth import Whole
from runner_tools import AXIS, address_of, frames, run_stdin, running, send_datagrams, send_tcp, stream_bytes

pytest.importorskip("libsedge_native.runner", reason="the generator is not installed")


@pytest.fixture
def opened(tiny_model: Any) -> Bundle:
    return tiny_model.open()


#: the others with LIBSEDGE_ALL_TARGETS=1: they take a while to compile
FOREIGN = ["aarch64-linux", "armv7-linux", "s390x-linux", "ppc64-linux"]


@pytest.mark.parametrize("name", FOREIGN if os.environ.get("LIBSEDGE_ALL_TARGETS") else FOREIGN[:1])
def test_static_program_of_another_machine_decides_the_same(
    runner_program: Path, opened: Bundle, tmp_path: Path, name: str
) -> None:
    """Under qemu-user; s390x and ppc64 are big-endian."""
    from libsedge_native.runner import build, emulator
    from libsedge_native.targets import TARGETS

    machine = TARGETS[name]
    if machine.native or None in (shutil.which(machine.compiler), shutil.which(machine.emulator)):
        pytest.skip(f"{machine.compiler} and {machine.emulator} are needed, on another machine")
    out = tmp_path / "foreign"
    build(opened, out, axis=AXIS, static=True, target=name)
    data = stream_bytes(frames(100, 8), 0.3, 8)
    host = run_stdin(runner_program, data)
    for isa in (*machine.isas, "scalar"):
        foreign = run_stdin(out, data, "--isa", isa, prefix=emulator(machine))
        assert (foreign.rows, foreign.account) == (host.rows, host.account), isa
    assert len(foreign.rows) > 50
    packets = b"".join(packet for frame in frames(30, 8) for packet in Packets(packet_bytes=900).units(frame))
    seen = []
    for run, prefix in ((runner_program, []), (out, emulator(machine))):
        with running(run, "--source", "ccsds:tcp:0", prefix=prefix) as (process, end):
            send_tcp(address_of(process), packets)
            seen.append(end())
    assert (seen[0].rows, seen[0].account, seen[0].source) == (seen[1].rows, seen[1].account, seen[1].source)
    key = tmp_path / "key"
    key.touch(mode=0o600)
    key.write_text(f"hmac-sha256 {'2a' * 32}\n")
    with running(out, "--source", "udp:0", "--hmac-key", key, prefix=emulator(machine)) as (process, end):
        send_datagrams(address_of(process), Whole(FrameKey(b"*" * 32)).units(frames(1, 8)[0]) * 2)
        signed = end()
    assert ([row["sequence"] for row in signed.rows], signed.account["rejected"]) == ([1000], {"replayed": 1})


def test_a_rule_that_the_runner_has_not_is_refused_by_name(
    opened: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never a program that decides differently without a word; `max_error` is a promise and no rule."""
    from libsedge_native.runner import check_known, write_folder

    check_known(replace(opened, calibration=opened.calibration | {"max_error": 0.1}))
    stricter = replace(opened, calibration=opened.calibration | {"max_energy": 2.0})
    with pytest.raises(BundleError, match=r"calibration\.json, max_energy.*does not have this"):
        write_folder(stricter, tmp_path)
    config = opened.preprocess
    monkeypatch.setattr(type(config), "to_json", lambda self: {"whiten": True, "scale": self.scale})
    with pytest.raises(BundleError, match=r"preprocess\.json, whiten"):
        write_folder(opened, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_is_verified_first_and_a_failed_build_leaves_nothing(
    opened: Bundle, tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from click.testing import CliRunner
    from libsedge_native.runner import build, build_runner

    monkeypatch.setenv("LIBSEDGE_HOME", str(tiny_model.home))
    changed = bytearray(tiny_model.path.read_bytes())
    changed[len(changed) // 2] ^= 1
    (tmp_path / "changed.sedge").write_bytes(changed)
    out = tmp_path / "libsedge-run"
    result = CliRunner().invoke(build_runner, [str(tmp_path / "changed.sedge"), "-o", str(out)])
    assert result.exit_code != 0
    assert not out.exists()
    with pytest.raises(ToolchainError, match="native"):
        build(opened, out, source_tree=tmp_path)
    monkeypatch.setenv("CXX", "false")
    with pytest.raises(ToolchainError, match="failed"):
        build(opened, out)
    monkeypatch.delenv("CXX")
    with pytest.raises(ToolchainError, match="must be one of"):
        build(opened, out, target="abacus")
    assert not out.exists()
    arguments = [str(tiny_model.path), "-o", str(tmp_path / "new"), "--emit", "--isas", "scalar"]
    emitted = CliRunner().invoke(build_runner, arguments)
    assert emitted.exit_code == 0, emitted.output
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    cmake, ninja = (shutil.which(name, path=path) for name in ("cmake", "ninja"))
    if cmake is None or ninja is None:
        pytest.skip("cmake and ninja are needed for the last part")
    flags = (
        "-DCMAKE_BUILD_TYPE=Debug",
        "-DSEDGE_PYTHON=OFF",
        "-DSEDGE_TESTS=OFF",
        f"-DSEDGE_RUNNER_DIR={tmp_path / 'new'}",
    )
    root = Path(__file__).parents[2]
    built = tmp_path / "build"
    for command in (
        (cmake, "-S", root, "-B", built, "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}", *flags),
        (cmake, "--build", built, "--target", "libsedge-run"),
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    check = subprocess.run([built / "libsedge-run", "--check"], capture_output=True, text=True, check=True)
    assert "isa      scalar\n" in check.stdout
