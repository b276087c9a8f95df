"""The aarch64 wheel, installed by the pip of an arm64 Debian, on emulated Cortex-A53, A72, A76 and `max`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import wheels
from click.testing import CliRunner
from guest import Guest, installed
from libsedge.cli import main
from libsedge_native.targets import TARGETS


def test_the_installed_extensions_are_of_that_machine(guest: Guest) -> None:
    found = sorted(path.name for path in (guest.site / "libsedge").glob("*.so"))
    assert found == [f"{name}.cpython-311-aarch64-linux-gnu.so" for name in ("_core", "_frames")]
    for name in found:
        assert (guest.site / "libsedge" / name).read_bytes()[18:20] == b"\xb7\0"  # e_machine: AArch64


@pytest.mark.parametrize(("cpu", "kernel"), TARGETS["aarch64-linux"].cpus)
def test_goldens_and_decisions_are_those_of_the_host(
    guest: Guest, board: Path, cpu: str, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = guest.libsedge("selftest", board / "model.sedge", "--target", "aarch64-linux", home=board, cpu=cpu)
    assert ran.returncode == 0, ran.stderr
    assert f"4 of 4 goldens bit for bit with {kernel}, " in ran.stdout
    arguments = ["classify", str(board / "model.sedge"), str(board / "spectra.h5"), "--json"]
    there = guest.libsedge(*arguments, home=board, cpu=cpu)
    assert there.returncode == 0, there.stderr
    monkeypatch.setenv("LIBSEDGE_HOME", str(board))
    here = CliRunner().invoke(main, arguments)
    theirs, ours = json.loads(there.stdout), json.loads(here.stdout)
    assert theirs.pop("isa") == kernel
    assert ours.pop("isa") != kernel
    assert theirs == ours
    assert len({shot["confidence"] for file in ours["files"] for shot in file["shots"]}) > 1


@pytest.mark.timeout(1500)  # builds and installs a wheel of its own
def test_the_wheel_for_python_3_13_runs_on_debian_13(board: Path, tmp_path: Path) -> None:
    guest = installed(wheels.debian("aarch64", "3.13"), tmp_path / "site", "3.13")
    found = sorted(path.name for path in (guest.site / "libsedge").glob("*.so"))
    assert found == [f"{name}.cpython-313-aarch64-linux-gnu.so" for name in ("_core", "_frames")]
    ran = guest.libsedge(
        "selftest", board / "model.sedge", "--target", "aarch64-linux", home=board, cpu="max"
    )
    assert ran.returncode == 0, ran.stderr
    assert "4 of 4 goldens bit for bit with i8mm, " in ran.stdout


def test_a_board_emulates_no_other_machine(guest: Guest, board: Path) -> None:
    ran = guest.libsedge("selftest", board / "model.sedge", home=board)
    assert ran.returncode == 0, ran.stderr
    assert "4 of 4 goldens bit for bit with neon, scalar" in ran.stdout
    assert "x86_64-linux: not run here" in ran.stdout
    asked = guest.libsedge("selftest", board / "model.sedge", "--target", "x86_64-linux", home=board)
    assert asked.returncode != 0
    assert "libsedge[native]" in asked.stderr


def test_wrong_goldens_are_seen(guest: Guest, board: Path) -> None:
    """The negative control: one logit of the signed goldens is off by one."""
    ran = guest.libsedge("selftest", board / "wrong.sedge", "--target", "aarch64-linux", home=board)
    assert ran.returncode != 0
    assert "golden vectors [3] of 4 come out different on this machine" in ran.stderr
