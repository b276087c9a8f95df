"""The whole emulated board with 128 MB: the wheel and libsedge-run on Linux, and how much memory they take at most."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import board_model
import machine
import pytest
from guest import Guest
from libsedge.bundle import Bundle
from libsedge.keys import read_trusted
from libsedge_native import runner

#: kB; the goals are 64 MiB and, beside the model, 4 MiB
MOST = {"classify": 65_536, "run": 65_536, "runner": 4_096}


@pytest.fixture(scope="module")
def said(guest: Guest, board: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each step of job.sh printed."""
    files = tmp_path_factory.mktemp("disk")
    shutil.copytree(guest.site, files / "site")
    for name in ("model.sedge", "damaged.sedge", "trusted.keys", "spectra.h5"):
        shutil.copy(board / name, files)
    (files / "frames.bin").write_bytes(board_model.frames_of(board / "spectra.h5"))
    shutil.copy(Path(__file__).parents[2] / "system" / "peak_memory.py", files)
    shutil.copy(Path(__file__).with_name("job.sh"), files)
    opened = Bundle.open(files / "model.sedge", read_trusted(files / "trusted.keys"))
    runner.build(opened, files / "libsedge-run", static=True, target="aarch64-linux")
    text = machine.run(guest.root, files)
    assert "BOARD booted aarch64" in text, text
    assert "BOARD job 0 " in text, text
    steps = re.split(r"^=== (?!rc)(\w+)\n", text, flags=re.MULTILINE)
    return dict(zip(steps[1::2], steps[2::2], strict=True))


def code(text: str) -> int:
    return int(re.findall(r"^=== rc (\d+)$", text, re.MULTILINE)[-1])


def test_goldens_on_the_board(said: dict[str, str]) -> None:
    assert "4 of 4 goldens bit for bit with neon, scalar; it lacks " in said["selftest"]
    assert code(said["damaged"]) != 0  # the negative control: one bit of the bundle


def test_a_stream_is_decided_and_accounted_for(said: dict[str, str]) -> None:
    assert code(said["run"]) == 0
    account = json.loads(re.search(r"^\{.*^\}", said["run"], re.DOTALL | re.MULTILINE).group())  # type: ignore[union-attr]
    assert account["ledger"]["journaled"] == 8
    assert account["ledger"]["unaccounted"] == 0


@pytest.mark.parametrize("step", MOST)
def test_peak_memory(said: dict[str, str], step: str, record_property: pytest.RecordProperty) -> None:
    assert code(said[step]) == 0, said[step]
    peak = int(re.findall(r"^peak (\d+) kB", said[step], re.MULTILINE)[-1])
    print(f"{step}: peak {peak:,} kB of 128 MB")
    assert 0 < peak <= MOST[step]
