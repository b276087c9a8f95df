"""A watched folder: whole files only, in their order, once, and never through a link."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from libsedge.errors import SourceError
from libsedge.frame import encode
from libsedge.senders import open_sender
from libsedge.sources import open_source
from libsedge.sources.folder import FolderSource
from served import check_counts, decisions, frames, rows, serving


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    (tmp_path / "inbox").mkdir()
    return tmp_path / "inbox"


def put(folder: Path, name: str, data: bytes) -> None:
    (folder / f".{name}.part").write_bytes(data)
    os.rename(folder / f".{name}.part", folder / name)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


@pytest.mark.parametrize(("damage", "seed"), [(0.0, 0), (0.1, 1), (0.5, 2), (1.0, 3)])
def test_counts_equal_the_truth(tmp_path: Path, inbox: Path, damage: float, seed: int) -> None:
    sent = frames(200)
    with serving(tmp_path / "run.db", FolderSource(inbox)) as served:
        sender = open_sender(f"folder:{inbox}")
        truth = sender.send(sent, damage=damage, seed=seed, rate_hz=None, wait_s=5).truth
        deadline = time.monotonic() + 20
        while served.pipeline.ledger.ended < truth.intact + truth.repeat and time.monotonic() < deadline:
            time.sleep(0.01)
        served.quiet(0.45)
        report = served.finish()
    # as over TCP, damage without a magic is bytes and not a frame: every byte is counted instead
    ledger, size = report.ledger, len(encode(sent[0]))
    assert ledger["journaled"] == truth.intact
    assert ledger["duplicate"] == truth.repeat
    assert ledger["unaccounted"] == ledger["in_flight"] == 0
    in_frames = size * (truth.intact + truth.repeat)
    assert in_frames + report.source["garbage_bytes"] + report.source["truncated_bytes"] == truth.bytes
    assert rows(tmp_path / "run.db") == decisions(sent, truth)
    if damage == 0:
        check_counts(report, truth)
    # whole files are in done/, damaged ones in damaged/, none is left
    whole, bad = truth.intact + truth.repeat, truth.flip + truth.cut + truth.garbage
    assert (len(names(inbox / "done")), len(names(inbox / "damaged"))) == (whole, bad)
    assert names(inbox) == (["damaged", "done"] if bad else ["done"])


def test_order_is_that_of_the_names_and_of_the_frames_in_them(inbox: Path) -> None:
    sent = frames(9)
    for number, name in enumerate(["b.sedg", "a.sedg", "c.sedg"]):
        put(inbox, name, b"".join(encode(frame) for frame in sent[3 * number : 3 * number + 3]))
    source = FolderSource(inbox)
    got = []
    for frame in source:
        if frame is None and len(got) == 9:
            source.stop()
        elif frame is not None:
            got.append(frame.sequence)
    assert got == [3, 4, 5, 0, 1, 2, 6, 7, 8]


def test_what_is_not_a_finished_file_is_left_alone(tmp_path: Path, inbox: Path) -> None:
    data = encode(frames(1)[0])
    secret = tmp_path / "secret.sedg"
    secret.write_bytes(data)
    (inbox / "link.sedg").symlink_to(secret)
    (inbox / "dangling.sedg").symlink_to(tmp_path / "none")
    (inbox / "folder.sedg").mkdir()
    os.mkfifo(inbox / "pipe.sedg")
    (inbox / ".hidden.sedg").write_bytes(data)
    (inbox / "growing.part").write_bytes(data[:30])
    with serving(tmp_path / "run.db", FolderSource(inbox)) as served:
        served.quiet(0.45)
        counters = served.source.counters()
        report = served.finish()
    assert report.ledger["received"] == 0
    assert (counters["links_refused"], counters["not_files_refused"], counters["files"]) == (2, 2, 0)
    assert len(names(inbox)) == 6


def test_file_is_read_once_until_it_is_another_file(tmp_path: Path, inbox: Path) -> None:
    sent = frames(3)
    with serving(tmp_path / "run.db", FolderSource(inbox)) as served:
        put(inbox, "x.sedg", encode(sent[0]))
        served.quiet(0.45)
        put(inbox, "x.sedg", encode(sent[1]))  # the same name again, another file
        served.quiet(0.45)
        report = served.finish()
    assert report.ledger["journaled"] == 2
    assert len(names(inbox / "done")) == 2
    assert report.source["files"] == 2


def test_file_with_a_frame_that_was_not_journaled_stays_and_comes_again(tmp_path: Path, inbox: Path) -> None:
    sent = frames(40)
    put(inbox, "x.sedg", b"".join(encode(frame) for frame in sent))
    source = FolderSource(inbox)
    with serving(tmp_path / "one.db", source, delay_s=0.05, policy="drop-newest", capacity=4) as served:
        time.sleep(0.3)
        report = served.finish()
    assert sum(report.ledger["shed"].values()) > 0
    assert names(inbox) == ["x.sedg"]
    with serving(tmp_path / "one.db", FolderSource(inbox)) as served:
        served.quiet(0.45)
        again = served.finish()
    assert report.ledger["journaled"] + again.ledger["journaled"] == 40
    assert again.ledger["duplicate"] == report.ledger["journaled"]
    assert names(inbox) == ["done"]


def test_large_file_is_read_in_pieces(tmp_path: Path, inbox: Path) -> None:
    sent = frames(300, 5400)
    put(inbox, "x.sedg", b"".join(encode(frame) for frame in sent))
    with serving(tmp_path / "run.db", FolderSource(inbox), channels=5400) as served:
        served.quiet(0.45)
        report = served.finish()
    assert report.ledger["journaled"] == 300
    assert report.source["done"] == 1


def test_folder_that_cannot_be_written_is_said(tmp_path: Path, inbox: Path) -> None:
    put(inbox, "x.sedg", encode(frames(1)[0]))
    (inbox / "done").write_text("in the way")
    with serving(tmp_path / "run.db", FolderSource(inbox)) as served:
        served.quiet(0.45)
        report = served.finish()
    assert (report.ledger["journaled"], report.source["not_moved"], report.source["done"]) == (1, 1, 0)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is not a folder"):
        open_source(f"folder:{tmp_path / 'none'}")
    with pytest.raises(SourceError, match="is not a folder"):
        open_sender(f"folder:{tmp_path / 'none'}").send([], damage=0, seed=0, rate_hz=None, wait_s=1)
