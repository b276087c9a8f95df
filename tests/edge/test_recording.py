"""Recordings: what was recorded comes back bit for bit, with its identity and its time, and a crash costs one frame."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner, Result
from libsedge.cli import main
from libsedge.errors import ConfigError, FileFormatError, SourceError
from libsedge.frame import FLAG_DARK, FLAG_TRIGGER, Frame, encode
from libsedge.journal import Journal
from libsedge.pipeline import Pipeline
from libsedge.recording import Recording, write_recording
from libsedge.sinks.record import Recorder
from libsedge.sources import SourceOptions, open_source
from libsedge.sources.base import Axis
from libsedge.store import write_store
from list_source import ListSource, frame
from mean_classifier import MeanClassifier


def frames() -> list[Frame]:
    """Two lengths, two types, every flag, and numbers of 64 bits."""
    rng = np.random.default_rng(0)
    plain = [
        Frame(7, 1, i, 10**18 + i * 10**7, 50, 3000, 0, rng.integers(0, 4000, 9).astype(np.uint16))
        for i in range(5)
    ]
    return [
        Frame(
            7,
            1,
            2**64 - 1,
            2**64 - 1,
            2**32 - 1,
            2**32 - 1,
            FLAG_TRIGGER,
            np.array([np.nan, -0.0, 3e38], np.float32),
        ),
        Frame(7, 0, 0, 0, 0, 0, FLAG_DARK, rng.random(9).astype(np.float32)),
        *plain,
    ]


def same(first: list[Frame], second: list[Frame]) -> bool:
    return [encode(f) for f in first] == [encode(f) for f in second]


def test_frames_come_back_bit_for_bit(tmp_path: Path) -> None:
    axis = Axis(np.linspace(240, 850, 9), np.arange(9) != 4, 65535.0)
    assert write_recording(tmp_path / "r.h5", frames(), axis, simulated=True) == 7
    recording = Recording(tmp_path / "r.h5")
    assert same(list(recording), frames())
    assert recording.axis is not None
    assert np.array_equal(recording.axis.wavelength_nm, axis.wavelength_nm)
    assert np.array_equal(recording.axis.mask, axis.mask)
    assert (recording.axis.saturation, recording.simulated, recording.streams) == (65535.0, True, [7])
    recording.close()
    changed = frames()
    changed[3].values[2] ^= 1
    assert not same(changed, frames())  # the comparison sees one bit


def test_a_run_records_what_it_journals(tmp_path: Path) -> None:
    given = [frame(i, 50 + 100 * (i % 2)) for i in (0, 1, 2, 2, 5)] + [frame(6, channels=7)]
    sink = Recorder(str(tmp_path / "r.h5"))
    journal = Journal(tmp_path / "j")
    Pipeline(ListSource(given), MeanClassifier(), journal, [sink]).run()
    sink.close()
    recording = Recording(tmp_path / "r.h5")
    assert same(list(recording), [given[i] for i in (0, 1, 2, 4)])  # no duplicate, nothing rejected
    recording.close()
    rows = list(journal)
    journal.close()
    source = open_source(f"replay:{tmp_path / 'r.h5'}")
    again = Journal(tmp_path / "again")
    report = Pipeline(source, MeanClassifier(), again).run()
    assert report.ledger["journaled"] == 4
    assert [(r.key, r.label, r.frame_crc) for r in again] == [(r.key, r.label, r.frame_crc) for r in rows]
    again.close()


def test_a_crash_costs_at_most_the_frame_it_tore(tmp_path: Path) -> None:
    first = Recorder(str(tmp_path / "r.h5"))
    first.write_frames(frames()[:4])
    assert first._spool is not None
    first._spool.close()  # as the end of the process would; `first.close` would finish the recording
    spool = tmp_path / ".r.h5.spool"
    assert not (tmp_path / "r.h5").exists()
    with open(spool, "ab") as file:  # the process dies in the middle of the fifth
        file.write(encode(frames()[4])[:60])
    second = Recorder(str(tmp_path / "r.h5"))
    second.write_frames(frames()[5:])
    second.close()
    recording = Recording(tmp_path / "r.h5")
    assert same(list(recording), [f for i, f in enumerate(frames()) if i != 4])
    recording.close()
    assert not spool.exists()
    with pytest.raises(ConfigError, match="finished recording"):
        Recorder(str(tmp_path / "r.h5"))


def test_original_timing(tmp_path: Path) -> None:
    write_recording(tmp_path / "r.h5", frames()[2:])  # 10 ms apart

    def seconds(speed: float | None) -> float:
        source = open_source(f"replay:{tmp_path / 'r.h5'}", SourceOptions(speed=speed))
        begin = time.monotonic()
        assert len([f for f in source if f is not None]) == 5
        source.close()
        return time.monotonic() - begin

    assert seconds(0.2) >= 0.2  # four gaps of 50 ms
    assert seconds(1.0) >= 0.04
    assert seconds(None) < 0.2


def test_what_cannot_be_played_is_refused(tmp_path: Path) -> None:
    write_recording(tmp_path / "two.h5", [frame(0), frame(1, stream=6)])
    with pytest.raises(SourceError, match="several streams"):
        open_source(f"replay:{tmp_path / 'two.h5'}")
    write_recording(tmp_path / "none.h5", [])
    with pytest.raises(SourceError, match="no spectra"):
        open_source(f"replay:{tmp_path / 'none.h5'}")
    axis = np.linspace(240, 850, 9)
    write_store(tmp_path / "set.h5", counts=np.ones((2, 9), np.uint16), wavelength=axis, specimen=["s"] * 2)
    with pytest.raises(ConfigError, match="no times"):
        open_source(f"replay:{tmp_path / 'set.h5'}", SourceOptions(speed=1.0))
    write_recording(tmp_path / "one.h5", [frame(0)])
    with pytest.raises(ConfigError, match="not both"):
        open_source(f"replay:{tmp_path / 'one.h5'}", SourceOptions(rate_hz=1.0, speed=1.0))


@pytest.mark.parametrize("damage", ["version", "frames", "values", "bits", "tail"])
def test_damaged_recordings_are_typed_errors(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "r.h5"
    write_recording(path, frames())
    if damage == "tail":
        os.truncate(path, path.stat().st_size // 2)
    elif damage == "bits":
        data = bytearray(path.read_bytes())
        values = frames()[3].values.tobytes()
        data[data.index(values) + 3] ^= 4
        path.write_bytes(data)
    else:
        with h5py.File(path, "r+") as file:
            if damage == "version":
                file.attrs["version"] = 99
            else:
                del file[damage]
    with pytest.raises(FileFormatError) as error:
        list(Recording(path))
    assert error.value.file == str(path)


def call(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def test_record_and_replay_on_the_command_line(
    tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIBSEDGE_HOME", str(tiny_model.home))
    axis = np.linspace(235.0, 860.0, 900)
    counts = (500 + np.random.default_rng(0).exponential(2000, (12, 900))).astype(np.uint16)
    write_store(tmp_path / "set.h5", counts=counts, wavelength=axis, specimen=["s"] * 12, distance_m=2.0)
    recorded = call("record", "--source", f"replay:{tmp_path / 'set.h5'}", "-o", tmp_path / "r.h5", "--json")
    assert recorded.exit_code == 0, recorded.output
    account = json.loads(recorded.stdout)
    assert (account["frames"], account["ledger"]["journaled"], account["ledger"]["unaccounted"]) == (
        12,
        12,
        0,
    )
    assert call("record", "--source", "replay:x", "-o", tmp_path / "r.h5").exit_code == 2
    outputs = []
    for source in ("set.h5", "r.h5"):
        options = ("--source", f"replay:{tmp_path / source}", "--jsonl", tmp_path / f"{source}.jsonl")
        result = call("run", tiny_model.path, *options, "--journal", tmp_path / f"{source}.db")
        assert result.exit_code == 0, result.output
        outputs.append((tmp_path / f"{source}.jsonl").read_text())
    assert outputs[0] == outputs[1]


def test_a_disk_that_refuses_is_counted_and_the_journal_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = Recorder(str(tmp_path / "r.h5"))
    assert sink._spool is not None

    def full(given: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sink._spool, "append", full)
    journal = Journal(tmp_path / "j")
    report = Pipeline(ListSource([frame(i) for i in range(5)]), MeanClassifier(), journal, [sink]).run()
    journal.close()
    assert (report.ledger["journaled"], report.sink_errors) == (5, 5)
    sink.close()


def test_a_recording_that_cannot_be_finished_does_not_take_the_account_along(
    tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full when the run ends: the account is told, the error is one line, the frames stay."""
    monkeypatch.setenv("LIBSEDGE_HOME", str(tiny_model.home))

    def full(*args: Any, **given: Any) -> None:
        raise OSError("Unable to create file\n(errno = 28,\nfilename = 'x')")

    monkeypatch.setattr(h5py, "File", full)
    options = ("--source", "simulated:seed=1,count=5,rate=200", "--journal", tmp_path / "j.db", "--json")
    result = call("run", tiny_model.path, *options, "--sink", f"record:{tmp_path / 'r.h5'}")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["ledger"]["journaled"] == 5
    errors = [line for line in result.stderr.splitlines() if "error" in line]
    why = "cannot be written: Unable to create file (errno = 28, filename = 'x'); the frames stay in .r.h5.spool"
    assert errors == [f"error: {tmp_path / 'r.h5'}: {why}, to go on with"]
    assert (tmp_path / ".r.h5.spool").stat().st_size > 5 * 56
    assert not (tmp_path / "j.db.starts").exists(), "a full disk is no crash loop"
