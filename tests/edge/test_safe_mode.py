"""A crash loop ends in safe mode: frames journaled, nothing decided; a mistake of the caller is no crash."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from libsedge.cli import main
from libsedge.errors import ConfigError
from libsedge.frame import FLAG_DARK
from libsedge.journal import Journal
from libsedge.pipeline import Pipeline
from libsedge.safe_mode import CRASH_LIMIT, WINDOW_S, NoModel, Starts
from libsedge.store import write_store
from list_source import ListSource, frame


class Clock:
    now = 1e9

    def __call__(self) -> float:
        return self.now


def begin(path: Path, clock: Clock, limit: int = CRASH_LIMIT) -> bool:
    """A start of a process of its own."""
    return Starts(path, limit, clock).begin()


def test_five_starts_without_a_clean_end(tmp_path: Path) -> None:
    clock = Clock()
    assert [begin(tmp_path / "j", clock) for _ in range(7)] == [False] * 5 + [True] * 2
    Starts(tmp_path / "j", clock=clock).end()
    assert not begin(tmp_path / "j", clock)


def test_old_starts_do_not_count(tmp_path: Path) -> None:
    clock = Clock()
    for _ in range(20):
        assert not begin(tmp_path / "j", clock)
        clock.now += WINDOW_S / 4
    clock.now = 1e9  # set back: all of them count, for nobody knows how old they are
    assert begin(tmp_path / "j", clock)


def test_limit_zero_is_never(tmp_path: Path) -> None:
    assert not any(begin(tmp_path / "j", Clock(), 0) for _ in range(20))
    with pytest.raises(ConfigError, match="crash-limit"):
        Starts(tmp_path / "j", -1)


@pytest.mark.parametrize("data", [b"", b"[1, ", b'{"a": 1}', b'["x"]', b"\xff", b"17"])
def test_a_damaged_file_counts_as_empty(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "j.starts").write_bytes(data)
    assert [begin(tmp_path / "j", Clock()) for _ in range(6)] == [False] * 5 + [True]


def test_a_place_that_cannot_be_written_keeps_nobody_from_running(tmp_path: Path) -> None:
    starts = Starts(tmp_path / "none" / "j")
    assert not any(starts.begin() for _ in range(9))
    starts.end()


def test_frames_of_any_length_are_journaled(tmp_path: Path) -> None:
    frames = [frame(0), frame(1, channels=7), frame(2, flags=FLAG_DARK), frame(3, np.nan)]
    journal = Journal(tmp_path / "j")
    source = ListSource(frames)
    report = Pipeline(source, NoModel(), journal).run()
    rows = list(journal)
    journal.close()
    assert [(row.role, row.label, row.reason) for row in rows] == [
        ("light", None, "safe_mode"),
        ("light", None, "safe_mode"),
        ("dark", None, None),
        ("light", None, "safe_mode"),
    ]
    assert {row.model for row in rows} == {None}
    assert len(source.acknowledged) == 4
    assert report.not_accepted == {"safe_mode": 3}


def call(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


@pytest.fixture
def spectra(tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIBSEDGE_HOME", str(tiny_model.home))
    counts = (500 + np.random.default_rng(0).exponential(2000, (12, 900))).astype(np.uint16)
    axis = np.linspace(235.0, 860.0, 900)
    write_store(tmp_path / "set.h5", counts=counts, wavelength=axis, specimen=["s"] * 12, distance_m=2.0)
    return tmp_path / "set.h5"


def reasons(result: Result) -> dict[str, int]:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["not_accepted"]


def test_a_run_out_of_a_crash_loop(tmp_path: Path, spectra: Path, tiny_model: Any) -> None:
    journal = tmp_path / "run.db"
    for _ in range(CRASH_LIMIT):
        Starts(journal).begin()
    arguments = ("run", tiny_model.path, "--source", f"replay:{spectra}", "--journal", journal, "--json")
    result = call(*arguments)
    assert reasons(result) == {"safe_mode": 12}
    assert "SAFE MODE" in result.stderr
    again = call(*arguments[:-2], tmp_path / "other.db", "--json")
    assert "safe_mode" not in reasons(again)
    after = call("run", tiny_model.path, "--source", f"replay:{spectra}", "--journal", journal, "--json")
    assert "SAFE MODE" not in after.stderr  # the safe run came to a clean end


def test_safe_mode_needs_no_model(tmp_path: Path, spectra: Path) -> None:
    result = call(
        "run", "--safe-mode", "--source", f"replay:{spectra}", "--journal", tmp_path / "j", "--json"
    )
    assert reasons(result) == {"safe_mode": 12}


def test_mistakes_are_no_crashes(tmp_path: Path, spectra: Path, tiny_model: Any) -> None:
    journal = tmp_path / "run.db"
    for _ in range(CRASH_LIMIT + 1):
        assert call("run", tiny_model.path, "--source", "telepathy:1", "--journal", journal).exit_code == 2
    assert Starts(journal).unclean() == 0
    # a model that cannot be used is no mistake of the caller
    broken = tmp_path / "broken.sedge"
    broken.write_bytes(tiny_model.path.read_bytes()[:-1])
    assert call("run", broken, "--source", f"replay:{spectra}", "--journal", journal).exit_code == 2
    assert Starts(journal).unclean() == 1


def test_killed_runs_count_and_stopped_ones_do_not(tmp_path: Path, spectra: Path, tiny_model: Any) -> None:
    journal = tmp_path / "run.db"

    def run(kill: signal.Signals) -> str:
        options = f"--source tcp:0 --journal {journal} --crash-limit 1 --health 127.0.0.1:0".split()
        code = "from libsedge.cli import main; main()"
        process = subprocess.Popen(
            [sys.executable, "-c", code, "run", str(tiny_model.path), *options],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env=dict(os.environ),
        )
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if line.startswith("listening"):
                break
        port = said.split("health on 127.0.0.1:")[1].split()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
            said += page.read().decode()
        process.send_signal(kill)
        process.communicate(timeout=20)
        return said

    assert "libsedge_safe_mode 0" in run(signal.SIGTERM)
    assert "libsedge_safe_mode 0" in run(signal.SIGKILL)
    assert "libsedge_safe_mode 1" in run(signal.SIGTERM)  # out of a loop of one; and ends it
    assert "libsedge_safe_mode 0" in run(signal.SIGTERM)
