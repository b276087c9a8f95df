"""Sources and sinks without a network: replay, files, registries, JSON lines."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from libsedge.errors import ConfigError, FileFormatError, JournalError, SourceError
from libsedge.journal import Record
from libsedge.journal_reader import JournalReader
from libsedge.ledger import Key
from libsedge.sinks import open_sink
from libsedge.sinks.jsonl import JsonLines, export_jsonl, read_jsonl
from libsedge.sources import SourceOptions, open_source
from libsedge.sources.files import open_spectra
from libsedge.store import write_store

AXIS = np.linspace(240.0, 850.0, 200)


def make_set(path: Path, n: int = 10, *, dark: bool = True, seed: int = 1) -> Path:
    rng = np.random.default_rng(seed)
    write_store(
        path,
        counts=rng.integers(100, 5000, (n, AXIS.size)).astype(np.uint16),
        wavelength=AXIS,
        specimen=[f"s{i}" for i in range(n)],
        label=["basalt"] * n,
        distance_m=np.array([2.5, np.nan] * (n // 2) + [1.0] * (n % 2), np.float32),
        dark=np.full(AXIS.size, 90.5, np.float32) if dark else None,
        saturation=65535.0,
        simulated=True,
    )
    return path


def test_replay_gives_the_file_dark_first(tmp_path: Path) -> None:
    path = make_set(tmp_path / "set.h5")
    source = open_source(f"replay:{path}")
    frames = [frame for frame in source if frame is not None]
    source.close()
    assert [frame.sequence for frame in frames] == list(range(11))
    assert [frame.dark for frame in frames] == [True] + [False] * 10
    assert (frames[0].values == np.float32(90.5)).all()
    expected = np.random.default_rng(1).integers(100, 5000, (10, AXIS.size))
    assert all((frame.values == row).all() for frame, row in zip(frames[1:], expected, strict=True))
    assert [frame.distance_mm for frame in frames] == [0] + [2500, 0] * 5
    assert {frame.stream_id for frame in frames} == {source.stream_id}
    assert source.axis is not None
    assert (source.axis.wavelength_nm == AXIS).all()
    assert source.axis.saturation == 65535.0


def test_stream_id_is_the_content(tmp_path: Path) -> None:
    ids = {}
    for name, arguments in {
        "a": {},
        "same": {},
        "other": {"seed": 2},
        "no_dark": {"dark": False},
        "shorter": {"n": 9},
    }.items():
        spectra = open_spectra(make_set(tmp_path / f"{name}.h5", **arguments))
        ids[name] = spectra.stream_id()
        spectra.close()
    assert ids["a"] == ids["same"]
    assert len(set(ids.values())) == 4
    assert all(0 < stream < 1 << 32 for stream in ids.values())


def test_rate_is_kept_and_stop_ends_it(tmp_path: Path) -> None:
    path = make_set(tmp_path / "set.h5", 10)
    source = open_source(f"replay:{path}", SourceOptions(rate_hz=100.0))
    begin = time.monotonic()
    assert sum(frame is not None for frame in source) == 11
    assert time.monotonic() - begin >= 0.1
    source.close()
    slow = open_source(f"replay:{path}", SourceOptions(rate_hz=0.01))
    frames = iter(slow)
    assert next(frames) is not None
    assert next(frames) is None  # nothing for a long time: a chance to look at the clocks
    slow.stop()
    assert list(frames) == []
    slow.close()


@pytest.mark.parametrize(
    ("spec", "error", "text"),
    [
        ("carrier-pigeon:1", SourceError, "known sources are ccsds, folder, replay, seabreeze, serial"),
        ("replay:", SourceError, "needs an argument"),
        ("tcp", SourceError, "needs an argument"),
        ("tcp:http", ConfigError, "port = 'http'"),
        ("tcp:70000", ConfigError, "port = 70000"),
        ("tcp:0.0.0.0:5600", ConfigError, r"host = '0\.0\.0\.0'.*loopback"),
        ("tcp:192.168.1.4:5600", ConfigError, "loopback"),
        ("tcp:[::]:5600", ConfigError, "loopback"),
        ("tcp:example.org:5600", ConfigError, "loopback"),
        ("replay:/no/such/file.h5", FileFormatError, r"/no/such/file\.h5"),
    ],
)
def test_bad_specs_are_typed_errors(spec: str, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        open_source(spec)


def test_bad_rate_and_empty_file(tmp_path: Path) -> None:
    path = make_set(tmp_path / "set.h5")
    for rate in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="rate"):
            open_source(f"replay:{path}", SourceOptions(rate_hz=rate))
    make_set(tmp_path / "none.h5", 0)
    with pytest.raises(SourceError, match=r"none\.h5.*no spectra"):
        open_source(f"replay:{tmp_path / 'none.h5'}")


def test_damaged_store_and_text_are_typed_errors(tmp_path: Path) -> None:
    path = make_set(tmp_path / "set.h5")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(FileFormatError, match=r"set\.h5"):
        open_spectra(path)
    text = tmp_path / "notes.txt"
    text.write_text("no spectra in here\n")
    with pytest.raises(FileFormatError, match=r"notes\.txt"):
        open_spectra(text)


def test_a_pipe_or_device_is_refused_at_once(tmp_path: Path) -> None:
    """Opening a pipe waits until somebody writes to it."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero")):
        with pytest.raises(FileFormatError, match=f"{path}: is not a regular file"):
            open_source(f"replay:{path}")
        with pytest.raises(FileFormatError, match="is not a regular file"):
            open_spectra(path)
        with pytest.raises(JournalError, match="is not a regular file"):
            JournalReader(path)


def test_file_of_another_format_goes_through_the_host_readers(tmp_path: Path) -> None:
    pytest.importorskip("libsedge_training.readers", reason="the host part is not installed")
    path = tmp_path / "two_columns.csv"
    path.write_text("wavelength_nm,intensity\n" + "".join(f"{w:.4f},{100 + i}\n" for i, w in enumerate(AXIS)))
    spectra = open_spectra(path)
    assert len(spectra) == 1
    assert spectra.rows(slice(0, 1)).dtype in (np.uint16, np.float32)
    assert spectra.rows(slice(0, 1)).shape == (1, 200)
    assert spectra.stream_id() > 0


def test_without_host_readers_another_format_is_a_typed_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("libsedge.sources.files.entry_points", lambda group: [])
    path = tmp_path / "two_columns.csv"
    path.write_text("1,2\n")
    with pytest.raises(FileFormatError, match="no other reader is installed"):
        open_spectra(path)


def record(sequence: int) -> Record:
    return Record(Key(7, 0, sequence), 5, None, "light", "gabbro", 0.5, True, None, (0.5, 0.5), "ab", 99)


def test_jsonl_is_a_line_a_frame_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    for first in (0, 2):
        sink = open_sink(f"jsonl:{path}")
        sink.write([record(first), record(first + 1)])
        assert len(read_jsonl(path)) == first + 2  # flushed before close
        sink.close()
        sink.close()
    rows = read_jsonl(path)
    assert [row["sequence"] for row in rows] == [0, 1, 2, 3]
    assert rows[0]["label"] == "gabbro"
    assert rows[0]["probabilities"] == [0.5, 0.5]


@pytest.mark.parametrize("keep", range(1, 12))
def test_torn_last_line_is_tolerated_and_cut(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "out.jsonl"
    sink = JsonLines(path)
    sink.write([record(0), record(1)])
    sink.close()
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    path.write_bytes(whole[: first + keep * (len(whole) - first - 1) // 12])
    assert [row["sequence"] for row in read_jsonl(path)] == [0]
    again = JsonLines(path)
    again.write([record(1)])
    again.close()
    assert path.read_bytes() == whole


def test_bad_line_in_the_middle_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    sink = JsonLines(path)
    sink.write([record(0)])
    sink.close()
    path.write_bytes(path.read_bytes() + b'{"broken": \n' + path.read_bytes())
    with pytest.raises(FileFormatError, match="line = 2"):
        read_jsonl(path)


@pytest.mark.parametrize("content", [b"dear diary\nsecond line\n", b"dear diary", b'{"a": 1}\n'])
def test_somebody_elses_file_is_not_touched(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "diary.txt"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"diary\.txt"):
        JsonLines(path)
    assert path.read_bytes() == content


def test_export_is_whole_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "export.jsonl"
    assert export_jsonl([record(0), record(1)], path) == 2
    before = path.read_bytes()

    def breaks():
        yield record(0)
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError):
        export_jsonl(breaks(), path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["export.jsonl"]
    assert json.loads(before.splitlines()[1])["sequence"] == 1


def test_unknown_sink() -> None:
    with pytest.raises(ConfigError, match="known sinks are ccsds, jsonl"):
        open_sink("telegram:x")
