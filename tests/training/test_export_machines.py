"""`libsedge export --target`: a bundle for other machines too, proved there under emulation, or nothing at all."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from libsedge.bundle import Bundle, target
from libsedge.cli import main
from libsedge.errors import SelfTestError, ToolchainError
from libsedge_native import emulate, ir, onnx_import
from libsedge_native.generate import GeneratedModel, generate
from libsedge_native.passes import VECTOR_ISAS
from libsedge_native.targets import BARE, TARGETS
from libsedge_native.toolchain import HOST_TARGET, compile_shared
from libsedge_training import export

from .line_run import nothing_written

pytestmark = [
    pytest.mark.skipif(
        target() != HOST_TARGET, reason=f"models are compiled for {HOST_TARGET} only, this is {target()}"
    ),
    pytest.mark.usefixtures("signing_home"),
]


def test_an_unknown_or_unbuildable_target_is_refused_first(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []

    def refused(name: str, match: str) -> None:
        with pytest.raises(ToolchainError, match=match):
            export.export_run(
                *(trained / "run", tmp_path / "a.sedge"),
                targets=[name],
                say=lambda step, text: steps.append(step),
            )

    refused("pdp11", "aarch64-linux")
    monkeypatch.setenv("CXX_ARMV7_LINUX", "no-such-compiler")
    refused("armv7-linux", "no-such-compiler")
    assert steps == []
    nothing_written(tmp_path)


def needs(name: str) -> None:
    if why := emulate.available(TARGETS[name]):
        pytest.skip(why)


def test_a_bundle_for_two_machines_runs_on_both(trained: Path, tmp_path: Path) -> None:
    """The other machine is emulated with qemu-user."""
    needs("aarch64-linux")
    out = tmp_path / "two.sedge"
    result = CliRunner().invoke(
        main, ["export", str(trained / "run"), "-o", str(out), "--target", "aarch64-linux"]
    )
    assert result.exit_code == 0, result.output
    for cpu in (
        "cortex-a53 (neon, scalar)",
        "cortex-a76 (neondot, neon, scalar)",
        "max (i8mm, neondot, neon, scalar)",
    ):
        assert f"aarch64-linux, emulated {cpu}: 0 of " in result.output
    bundle = Bundle.open(out)
    assert bundle.targets == ["aarch64-linux", "x86_64-linux"]
    assert bundle.model().isa in VECTOR_ISAS
    ran = CliRunner().invoke(main, ["selftest", str(out), "--target", "aarch64-linux"])
    assert ran.exit_code == 0, ran.output
    assert len(ran.output.splitlines()) == 4
    assert "cortex-a53: 8 of 8 goldens bit for bit with neon, scalar; it lacks i8mm, neondot" in ran.output
    other = CliRunner().invoke(main, ["selftest", str(out), "--target", "armv7-linux"])
    assert other.exit_code == 2
    assert "has no compiled model for it; it has aarch64-linux, x86_64-linux" in other.output


def test_a_bundle_carries_the_sources_for_a_machine_without_linux(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `libsedge sources --target` writes them; a compiler that refuses them refuses the bundle."""
    if shutil.which(BARE["cortex-m7"].compiler) is None:
        pytest.skip(f"{BARE['cortex-m7'].compiler} is not installed")
    out, drop = tmp_path / "bare.sedge", tmp_path / "drop"
    command = ["export", str(trained / "run"), "-o", str(out), "--target", "cortex-m7"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    bundle = Bundle.open(out)
    assert (bundle.targets, bundle.source_targets) == (["x86_64-linux"], ["cortex-m7"])
    written = CliRunner().invoke(main, ["sources", str(out), "-o", str(drop), "--target", "cortex-m7"])
    assert written.exit_code == 0, written.output
    (drop / "model.o").unlink()
    assert {f"kernel/cortex-m7/{file.name}": file.read_bytes() for file in drop.iterdir()} == {
        name: data for name, data in bundle.members.items() if name.startswith("kernel/cortex-m7/")
    }
    assert "sources for" in CliRunner().invoke(main, ["inspect", str(out)]).output
    out.unlink()
    monkeypatch.setenv("CXX_CORTEX_M7", "false")
    assert CliRunner().invoke(main, command).exit_code == 2
    assert not out.exists()


def test_a_kernel_that_is_wrong_on_another_machine_is_never_written(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: the other machine gets the kernel of a network with one weight changed."""
    needs("aarch64-linux")

    def miscompile(generated: GeneratedModel, name: str) -> bytes:
        if name == "aarch64-linux":
            graph = onnx_import.from_onnx(generated.onnx)
            last = graph.ops[-1]
            assert isinstance(last, ir.Dense)
            weight = last.weight.copy()
            weight[0] = -weight[0]
            other = replace(graph, ops=(*graph.ops[:-1], replace(last, weight=weight)))
            generated = generate(other, isas=generated.isas[:-1])
        return compile_shared(generated, name, ("-O1",))

    monkeypatch.setattr(export, "compile_shared", miscompile)
    with pytest.raises(SelfTestError, match=r"aarch64-linux: differs .* emulated cortex-a53"):
        export.export_run(trained / "run", tmp_path / "a.sedge", targets=["aarch64-linux"])
    nothing_written(tmp_path)
