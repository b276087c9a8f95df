"""Power cuts at every write of the journal: a sample. The campaign is `make powerloss`."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("apsw", reason="apsw is not installed")

from power_loss import NAME, Folder, campaign, write_and_record


def test_no_acknowledged_row_is_lost(tmp_path: Path) -> None:
    verdicts = campaign(600, 3, "FULL")
    assert verdicts == {"ok": 600}


@pytest.mark.parametrize(("synchronous", "expected"), [("NORMAL", "lost"), ("OFF", "corrupt")])
def test_negative_control_a_weaker_setting_is_caught(synchronous: str, expected: str) -> None:
    assert campaign(200, 3, synchronous)[expected] > 10


def test_the_record_holds_what_the_cuts_are_about(tmp_path: Path) -> None:
    """Syncs before acknowledgements, checkpoints into the database, a WAL that starts again; and replaying
    the record without a cut gives the files that are there."""
    log = write_and_record(tmp_path, 5, 12, "FULL")
    kinds = [operation[0] for operation in log.operations]
    assert kinds.count("ack") == 24
    wal = f"{NAME}-wal"
    assert sum(operation[:3] == ("write", NAME, 0) for operation in log.operations) > 2  # checkpoints
    assert sum(operation[:3] == ("write", wal, 0) for operation in log.operations) > 2  # the WAL begins anew
    for at, kind in enumerate(kinds):
        if kind == "ack":
            before = [operation[:2] for operation in log.operations[:at]]
            unsynced = before[::-1].index(("write", wal)) if ("write", wal) in before else 0
            assert before[::-1].index(("sync", wal)) < unsynced
    folder = Folder()
    for operation in log.operations:
        if operation[0] != "ack":
            folder.do(operation)
    for file in folder.now.values():
        file.sync()
    there = {path.name: path.read_bytes() for path in tmp_path.iterdir() if not path.name.endswith("-shm")}
    assert {name: file.certain for name, file in folder.now.items()} == there
