"""Peak memory of the board process: `libsedge run` with numpy, without the dashboard and without h5py."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from libsedge.errors import FileFormatError
from libsedge.frame import encode
from libsedge.sources.axis_reader import axis_of
from libsedge.store import write_store
from runner_tools import AXIS_NM, CHANNELS, frames

SCRIPT = Path(__file__).parents[1] / "system" / "peak_memory.py"
#: the goal; about 52 MiB on x86-64 (docs/operations.md), so a loaded machine does not reach it by chance
MOST_KB = 64 * 1024


def peak_of_run(model: Any, folder: Path, code: str = "", *arguments: str) -> int:
    """Peak kB of a run of 40 frames over TCP; `code` is run first, in that process."""
    program = f"{code}\nimport runpy; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    command = [sys.executable, "-c", program, "run", str(model.path), "--source", "tcp:0"]
    command += ["--journal", str(folder / "run.db"), "--count", "40", *arguments]
    environment = {**os.environ, "LIBSEDGE_HOME": str(model.home)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline()]
        while "listening on" not in lines[-1]:
            assert lines[-1], "".join(lines)
            lines.append(child.stdout.readline())
        port = int(lines[-1].split()[2].rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(b"".join(encode(frame) for frame in frames(40, seed=0)))
            said = child.stdout.read()
        assert child.wait(60) == 0, said
    assert re.search(r"^unaccounted +0$", said, re.MULTILINE), said
    return int(re.findall(r"^peak (\d+) kB$", said, re.MULTILINE)[-1])


def test_the_board_process_stays_below_64_mib(tiny_model: Any, tmp_path: Path) -> None:
    assert 20_000 < peak_of_run(tiny_model, tmp_path) <= MOST_KB


def test_an_axis_of_a_file_costs_nothing_that_stays(tiny_model: Any, tmp_path: Path) -> None:
    """h5py, which reads it, is in a process of its own."""
    axis = tmp_path / "axis.h5"
    write_store(axis, counts=np.zeros((1, CHANNELS), np.uint16), wavelength=AXIS_NM, specimen=["s"])
    assert 20_000 < peak_of_run(tiny_model, tmp_path, "", "--axis", str(axis)) <= MOST_KB


def test_a_needless_import_is_seen(tiny_model: Any, tmp_path: Path) -> None:
    """The negative control: scipy's statistics in the board process."""
    assert peak_of_run(tiny_model, tmp_path, "import scipy.stats") > MOST_KB


@pytest.mark.parametrize("package", ["h5py", "scipy", "onnx", "torch", "jinja2", "starlette", "ssl"])
def test_run_imports_no_package_that_it_does_not_use(package: str) -> None:
    script = f"import sys, libsedge.cli, libsedge.commands.run; sys.exit({package!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_what_is_wrong_with_an_axis_is_said_here(tmp_path: Path) -> None:
    rubbish = tmp_path / "rubbish.h5"
    rubbish.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    for path in (rubbish, tmp_path / "none.h5"):
        with pytest.raises(FileFormatError) as error:
            axis_of(str(path), None)
        assert error.value.file == str(path)
