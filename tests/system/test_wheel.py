"""The wheel as a board gets it: built in isolation, installed without the host's packages, and usable."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOST_PACKAGES = ("torch", "onnx", "onnxruntime", "scipy", "sklearn", "matplotlib", "jinja2", "h5py")


def run(*command: str | Path, **kwargs: object) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, **kwargs
    )  # type: ignore[call-overload]
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return str(done.stdout)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    source = out / "source"
    run("git", "clone", "-q", ROOT, source)
    changed = run("git", "-C", ROOT, "ls-files", "--modified", "--others", "--exclude-standard").split()
    for name in changed:  # what is being worked on counts, too
        target = source / name
        if (ROOT / name).is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
        else:
            target.unlink(missing_ok=True)
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", out, source)
    (built,) = out.glob("libsedge-*.whl")
    return built


@pytest.fixture(scope="session")
def board(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of a virtual environment that holds the wheel and a board's three dependencies."""
    folder = tmp_path_factory.mktemp("board")
    run(sys.executable, "-m", "venv", folder)
    run(folder / "bin" / "python", "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel)
    return folder / "bin"


def test_wheel_holds_every_file_that_the_source_tree_needs(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = [
        path.relative_to(folder).as_posix()
        for folder in (ROOT / "edge", ROOT / "native", ROOT / "training")
        for pattern in (
            "libsedge*/**/*.py",
            "libsedge*/**/*.j2",
            "libsedge*/**/*.h",
            "libsedge*/**/*.inc",
            "libsedge*/**/*.cpp",
            "libsedge*/**/*.csv",
            "libsedge*/py.typed",
        )
        for path in folder.glob(pattern)
        if path.is_file()
    ]
    assert len(wanted) > 50
    assert sorted(set(wanted) - names) == []
    assert {name.split(".")[0] for name in names if name.endswith(".so")} == {
        "libsedge/_core",
        "libsedge/_frames",
    }


def test_build_runner_finds_its_sources_in_the_wheel(wheel: Path, tmp_path: Path) -> None:
    """Not those of this checkout: the wheel comes first on the path, and its package says where they are."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    script = (
        "from libsedge_native.runner import FOLDERS, SOURCE_TREE\n"
        "for folder in FOLDERS:\n"
        "    for file in (SOURCE_TREE / folder).glob('*'):\n"
        "        print(file)"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    printed = run(sys.executable, "-c", script, cwd=tmp_path, env=environment).split()
    packed = tmp_path / "site" / "libsedge_native" / "native"
    names = {Path(name).relative_to(packed): Path(name).read_bytes() for name in printed}
    folders = [ROOT / "native" / name for name in ("src", "runner")]
    wanted = {file.relative_to(ROOT / "native"): file for folder in folders for file in folder.glob("*.*")}
    assert len(wanted) > 10
    assert names == {name: file.read_bytes() for name, file in wanted.items()}


def test_board_runs_without_the_host_part(board: Path, tmp_path: Path) -> None:
    script = (
        "import sys, libsedge._core, libsedge._frames, libsedge.bundle, libsedge.pipeline, libsedge.classifier\n"
        f"print([name for name in {HOST_PACKAGES!r} if name in sys.modules])"
    )
    assert run(board / "python", "-c", script, cwd=tmp_path).strip() == "[]"
    listing = run(board / "libsedge", "--help", cwd=tmp_path)
    for command in ("run", "classify", "verify", "inspect", "keygen", "stream-test"):
        assert f"  {command} " in listing


def test_host_command_on_the_board_says_what_to_install(board: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [board / "libsedge", "train", "x.h5", "-o", "run"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode != 0
    assert "libsedge[training]" in done.stderr
    assert "Traceback" not in done.stderr
