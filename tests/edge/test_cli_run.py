"""`libsedge classify`, `run` and `stream-test` as a user calls them, with a real compiled bundle."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from libsedge.classifier import Decision
from libsedge.cli import main
from libsedge.journal import Journal
from libsedge.ledger import Ledger
from libsedge.sinks.jsonl import read_jsonl
from libsedge.store import StoreReader, write_store
from libsedge.voting import vote

AXIS = np.linspace(235.0, 860.0, 900)


def plasma(n: int, seed: int) -> np.ndarray:
    """Lines on a noisy background, counts uint16 [n, 900]; nothing physical."""
    rng = np.random.default_rng(seed)
    counts = rng.normal(500.0, 10.0, (n, AXIS.size))
    for row in counts:
        for centre, height in zip(rng.uniform(250, 840, 40), rng.uniform(500, 20000, 40), strict=True):
            row += height * np.exp(-(((AXIS - centre) / 0.8) ** 2))
    return counts.astype(np.uint16)


@pytest.fixture(autouse=True)
def home(tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIBSEDGE_HOME", str(tiny_model.home))


@pytest.fixture
def spectra(tmp_path: Path) -> Path:
    """60 shots; 10 of them are noise without lines, 5 are clipped."""
    counts = plasma(60, 0)
    counts[10:20] = np.random.default_rng(1).normal(500, 10, (10, AXIS.size)).astype(np.uint16)
    counts[30:35, 100:140] = 65535
    write_store(
        tmp_path / "set.h5",
        counts=counts,
        wavelength=AXIS,
        specimen=["one"] * 60,
        distance_m=np.full(60, 2.5, np.float32),
        dark=np.full(AXIS.size, 480, np.float32),
        saturation=65535.0,
        simulated=True,
    )
    return tmp_path / "set.h5"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def server(*arguments: object) -> tuple[subprocess.Popen[str], int]:
    """`libsedge run ...` in a process of its own, and the port it listens on."""
    process = subprocess.Popen(
        [sys.executable, "-c", "from libsedge.cli import main; main()", "run", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    assert process.stderr is not None
    for line in process.stderr:
        if match := re.match(r"listening on 127\.0\.0\.1:(\d+)", line):
            return process, int(match[1])
    raise AssertionError(process.communicate())


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    running: list[subprocess.Popen[str]] = []
    yield running
    for process in running:
        process.kill()
        process.communicate()


def test_classify_accounts_for_every_shot(tiny_model: Any, spectra: Path) -> None:
    result = call("classify", tiny_model.path, spectra, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert (document["read"], document["unaccounted"]) == (60, 0)
    (file,) = document["files"]
    assert file["simulated"] is True
    reasons = [shot["reason"] for shot in file["shots"]]
    assert reasons[10:20] == ["too_dim"] * 10
    assert reasons[30:35] == ["saturated"] * 5
    assert file["accepted"] + sum(file["not_accepted"].values()) == 60
    assert {shot["distance_m"] for shot in file["shots"]} == {2.5}
    text = call("classify", tiny_model.path, spectra, "--distance", 4.25)
    assert text.exit_code == 0
    assert text.stdout.count("  4.25 m") == 60
    assert f"vote: {file['vote']}  ({file['accepted']} of 60 shots accepted" in text.stdout
    assert "(simulated)" in text.stdout
    assert text.stdout.endswith("unaccounted 0\n")
    twice = call("classify", tiny_model.path, spectra, "--json")
    assert twice.stdout_bytes == result.stdout_bytes


def test_classify_votes_over_the_files_of_one_specimen(
    tiny_model: Any, spectra: Path, tmp_path: Path
) -> None:
    """The joint vote counts shots, not files: a long file outvotes two short ones that say otherwise."""
    document = json.loads(call("classify", tiny_model.path, spectra, "--json").stdout)
    assert "vote" not in document
    answers = [(n, s["label"]) for n, s in enumerate(document["files"][0]["shots"]) if s["accepted"]]
    counted = Counter(label for _, label in answers)
    (many, _), (few, _) = counted.most_common(2)
    majority = [n for n, label in answers if label == many][:3]
    minority = [n for n, label in answers if label == few][:1]
    files = [
        shots_of(spectra, tmp_path / f"{k}.h5", rows) for k, rows in enumerate((minority, minority, majority))
    ]
    result = call("classify", tiny_model.path, *files, "--together", "--json")
    assert result.exit_code == 0, result.output
    joint = json.loads(result.stdout)
    assert [file["vote"] for file in joint["files"]] == [few, few, many]
    assert joint["vote"] == many
    text = call("classify", tiny_model.path, *files, "--together")
    assert f"vote of all files: {many}  (3 of 5 accepted)" in text.stdout


def shots_of(spectra: Path, path: Path, rows: list[int]) -> Path:
    """A file of some of the shots."""
    with StoreReader(spectra) as store:
        counts = np.stack([store.row(n) for n in rows])
        fields = {"wavelength": store.wavelength, "dark": store.dark, "saturation": store.saturation}
    write_store(path, counts=counts, specimen=["one"] * len(rows), distance_m=[2.5] * len(rows), **fields)
    return path


def test_classify_names_the_file_whose_axis_misses_the_grid(tiny_model: Any, tmp_path: Path) -> None:
    far = tmp_path / "far.h5"
    write_store(
        far,
        counts=np.ones((1, 20), np.uint16),
        wavelength=np.linspace(1900.0, 1919.0, 20),
        specimen=["x"],
        label=[""],
        distance_m=[2.0],
        shot=[0],
    )
    result = call("classify", tiny_model.path, far)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {far}: wavelength")


def test_classify_gives_the_same_on_every_instruction_set(tiny_model: Any, spectra: Path) -> None:
    files = []
    for isa in [isa for isa, runs in tiny_model.open().model().isas if runs]:
        result = call("classify", tiny_model.path, spectra, "--json", "--isa", isa)
        files.append(json.loads(result.stdout)["files"])
    assert files
    assert all(file == files[0] for file in files)


def accepted(index: int, *probabilities: float) -> Decision:
    return Decision("abc"[index], index, probabilities[index], probabilities, True, None)


def test_vote() -> None:
    low = Decision("c", 2, 0.4, (0.3, 0.3, 0.4), False, "low_confidence")
    assert vote([]).label is None
    assert vote([low]).label is None
    assert (vote([low]).shots, vote([low]).accepted) == (1, 0)
    assert vote([low, low, accepted(0, 1.0, 0.0, 0.0)]).label == "a"
    assert vote([accepted(1, 0.4, 0.6, 0), accepted(1, 0.4, 0.6, 0), accepted(0, 1.0, 0.0, 0)]).label == "b"
    assert vote([accepted(0, 0.6, 0.4, 0), accepted(1, 0.1, 0.9, 0)]).label == "b"  # tie: 1.3 against 0.7
    assert (
        vote([accepted(1, 0.3, 0.7, 0), accepted(0, 0.7, 0.3, 0)]).label == "a"
    )  # full tie: the first label


def test_replay_run_then_again_then_another_file(tiny_model: Any, spectra: Path, tmp_path: Path) -> None:
    arguments = ("run", tiny_model.path, "--source", f"replay:{spectra}", "--journal", tmp_path / "run.db")
    first = call(*arguments, "--jsonl", tmp_path / "out.jsonl", "--json")
    assert first.exit_code == 0, first.output
    report = json.loads(first.stdout)
    ledger = report["ledger"]
    assert (ledger["received"], ledger["journaled"], ledger["unaccounted"]) == (61, 61, 0)
    assert report["simulated"] is True
    assert report["roles"] == {"dark": 1, "light": 60}
    assert report["not_accepted"]["too_dim"] == 10
    assert report["not_accepted"]["saturated"] == 5
    journal = Journal(tmp_path / "run.db")
    rows = list(journal)
    assert journal.models() == [tiny_model.open().digest]
    journal.close()
    lines = read_jsonl(tmp_path / "out.jsonl")
    assert [line["sequence"] for line in lines] == [row.key.sequence for row in rows] == list(range(61))
    # the same decisions as `classify` on the same file
    shots = json.loads(call("classify", tiny_model.path, spectra, "--json").stdout)["files"][0]["shots"]
    assert [(row.label, row.accepted, row.reason) for row in rows[1:]] == [
        (shot["label"], shot["accepted"], shot["reason"]) for shot in shots
    ]
    again = call(*arguments)
    assert again.exit_code == 0
    assert re.search(r"^journaled +0$", again.stdout, re.M)
    assert re.search(r"^duplicate +61$", again.stdout, re.M)
    assert re.search(r"^unaccounted +0$", again.stdout, re.M)
    other = tmp_path / "other.h5"
    write_store(other, counts=plasma(3, 9), wavelength=AXIS, specimen=["x"] * 3)
    refused = call("run", tiny_model.path, "--source", f"replay:{other}", "--journal", tmp_path / "run.db")
    assert refused.exit_code == 2
    assert "run.db: stream = " in refused.stderr
    assert "Traceback" not in refused.output


def test_stream_test_to_run_and_back(
    tiny_model: Any, spectra: Path, tmp_path: Path, processes: list[subprocess.Popen[str]]
) -> None:
    arguments = ("--source", "tcp:0", "--journal", tmp_path / "run.db", "--axis", spectra, "--json")
    process, port = server(tiny_model.path, *arguments)
    processes.append(process)
    sent = call("stream-test", spectra, "--to", f"127.0.0.1:{port}", "--damage", 0.5, "--seed", 2, "--json")
    assert sent.exit_code == 0, sent.output
    truth = json.loads(sent.stdout)
    clean = call("stream-test", spectra, "--to", f"127.0.0.1:{port}")
    assert clean.exit_code == 0, clean.output
    assert "acknowledged 61 of 61 intact frames (61 records), unacknowledged 0" in clean.stdout
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    report = json.loads(out)
    ledger, table = report["ledger"], truth["sent"]
    assert truth["acknowledged"] == table["intact"] < 61
    assert ledger["journaled"] == 61  # the clean run brought what was damaged before
    assert ledger["duplicate"] == table["repeat"] + table["intact"]
    assert sum(ledger["rejected"].values()) == table["flip"] + table["cut"] - table["no_magic"]
    assert (ledger["unaccounted"], ledger["in_flight"]) == (0, 0)
    # what came over the wire is decided as the file is (seed 2 leaves the dark, the first frame, whole)
    shots = json.loads(call("classify", tiny_model.path, spectra, "--json").stdout)["files"][0]["shots"]
    journal = Journal(tmp_path / "run.db")
    rows = [row for row in journal if row.role == "light"]
    journal.close()
    assert [row.key.sequence for row in rows] == list(range(1, 61))
    assert [(row.label, row.accepted, row.reason) for row in rows] == [
        (shot["label"], shot["accepted"], shot["reason"]) for shot in shots
    ]


def test_interrupt_ends_a_run_with_everything_committed(
    tiny_model: Any, spectra: Path, tmp_path: Path, processes: list[subprocess.Popen[str]]
) -> None:
    process, port = server(
        tiny_model.path, "--source", "tcp:0", "--journal", tmp_path / "run.db", "--axis", spectra
    )
    processes.append(process)
    sent = call("stream-test", spectra, "--to", f"127.0.0.1:{port}", "--rate", 200, "--count", 20)
    assert sent.exit_code == 0, sent.output
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert re.search(r"^received +20$", out, re.M)
    assert re.search(r"^in_flight +0$", out, re.M)
    assert "decision latency: p50" in out


def test_idle_exit_and_count(tiny_model: Any, spectra: Path, tmp_path: Path) -> None:
    begin = time.monotonic()
    idle = call(
        "run", tiny_model.path, "--source", "tcp:0", "--journal", tmp_path / "a.db", "--idle-exit", 0.3
    )
    assert idle.exit_code == 0
    assert time.monotonic() - begin < 20
    some = call(
        *(
            "run",
            tiny_model.path,
            "--source",
            f"replay:{spectra}",
            "--journal",
            tmp_path / "b.db",
            "--count",
            5,
        )
    )
    assert re.search(r"^journaled +5$", some.stdout, re.M)


def test_mistakes_are_one_line_and_exit_code_2(tiny_model: Any, spectra: Path, tmp_path: Path) -> None:
    busy = socket.create_server(("127.0.0.1", 0))
    port = busy.getsockname()[1]
    model, journal = tiny_model.path, tmp_path / "run.db"
    calls = [
        ("run", model, "--source", f"tcp:{port}", "--journal", journal),
        ("run", model, "--source", "tcp:0.0.0.0:0", "--journal", journal),
        ("run", model, "--source", "pigeon:1", "--journal", journal),
        ("run", model, "--source", f"replay:{tmp_path / 'none.h5'}", "--journal", journal),
        ("run", model, "--source", f"replay:{spectra}", "--journal", spectra),
        ("run", model, "--source", f"replay:{spectra}", "--journal", journal, "--isa", "abacus"),
        ("run", model, "--source", f"replay:{spectra}", "--journal", journal, "--count", 0),
        ("run", model, "--source", f"replay:{spectra}", "--journal", journal, "--saturation", 3),
        ("run", spectra, "--source", f"replay:{spectra}", "--journal", journal),
        ("classify", model, tmp_path / "none.h5"),
        ("classify", model, spectra, "--distance", -1),
        ("classify", model, spectra, "--isa", "abacus"),
        ("stream-test", spectra, "--to", "nowhere"),
        ("stream-test", spectra, "--to", "127.0.0.1:1", "--damage", 2),
        ("stream-test", tmp_path / "none.h5", "--to", f"127.0.0.1:{port}"),
    ]
    for arguments in calls:
        result = call(*arguments)
        assert result.exit_code == 2, (arguments, result.output)
        assert result.stderr.startswith("error: "), (arguments, result.stderr)
        assert result.stderr.count("\n") == 1, (arguments, result.stderr)
    busy.close()


def test_unaccounted_frame_is_exit_code_1(
    tiny_model: Any, spectra: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: a ledger that forgets one end must not pass as a good run."""
    real = Ledger.end_journaled

    def forgetful(self: Ledger, key: Any) -> None:
        if key.sequence != 7:
            real(self, key)

    monkeypatch.setattr(Ledger, "end_journaled", forgetful)
    result = call("run", tiny_model.path, "--source", f"replay:{spectra}", "--journal", tmp_path / "run.db")
    assert result.exit_code == 1
    assert re.search(r"^unaccounted +1$", result.stdout, re.M)
    assert "error: unaccounted = 1" in result.stderr
