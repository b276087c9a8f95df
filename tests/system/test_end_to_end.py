"""The whole path by its commands, on the tiny simulated set: what a stranger types, and what must come out.

The trained net is far too small a study to say anything about accuracy; it only has to run through every joint.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REAL_DATA = Path(os.environ.get("LIBSEDGE_REAL_DATA", ROOT.parent / "shared" / "data"))
LIBSEDGE = Path(sys.executable).with_name("libsedge")

#: what issue A promises of report.json
KEYS = [
    "accuracy.equal",
    "accuracy.weighted",
    "accuracy.int8",
    "accuracy.float",
    "kernel.exact",
    "kernel.us",
    "onnxruntime.us",
    "bundle.bytes",
    "arena.bytes",
    "frames.received",
    "frames.journaled",
    "frames.unaccounted",
    "simulated",
]

#: real files of the acceptance list: path, shots, distance in metres
REAL_FILES = [
    ("chemcam/CL5_398645626CCS_F0030004CCAM02013P3.csv", 30, 2.673),
    ("supercam/scam_0012_0668002890_477_cl1_scam15210_maaz_________________01p01.fits", 30, 3.126),
    *[(f"bhvo2/supercam_1545mm_loc{k}_spectrum.csv", 1, 1.545) for k in (1, 2, 3)],
    *[(f"bhvo2/chemcam_bhvo2_loc{k}_spectrum.csv", 1, 3.0) for k in (1, 2, 3, 4)],
    *[(f"bhvo2/supercam_4250mm_loc{k}_spectrum.csv", 1, 4.25) for k in (1, 2, 3)],
]


def libsedge(*arguments: str | Path, home: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(part) for part in (LIBSEDGE, *arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LIBSEDGE_HOME": str(home)},
    )
    assert done.returncode == code, f"{arguments}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `libsedge demo` leaves on the tiny set, with the real files where they are present."""
    out = tmp_path_factory.mktemp("demo") / "out"
    real = [] if not REAL_DATA.is_dir() else ["--real-data", str(REAL_DATA)]
    home = out.parent / "home"
    libsedge(
        "demo", "--out", out, "--preset", "tiny", "--epochs", "2", "--test-specimens", "6", *real, home=home
    )
    return out


@pytest.fixture(scope="session")
def report(demo: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((demo / "report.json").read_text())
    return found


def value(report: dict[str, object], key: str) -> object:
    found: object = report
    for part in key.split("."):
        assert isinstance(found, dict)
        found = found[part]
    return found


@pytest.mark.parametrize("key", KEYS)
def test_report_has_the_promised_keys(report: dict[str, object], key: str) -> None:
    assert value(report, key) is not None


def test_report_figures_hold_together(report: dict[str, object]) -> None:
    assert value(report, "simulated") is True
    assert value(report, "kernel.exact") is True
    assert value(report, "onnxruntime.different") == 0
    assert value(report, "frames.unaccounted") == 0
    assert value(report, "frames.received") == value(report, "frames.journaled")
    for name in ("equal", "weighted", "int8", "float"):
        accuracy = value(report, f"accuracy.{name}")
        assert isinstance(accuracy, float)
        assert 0 <= accuracy <= 1


def test_journal_holds_every_frame_that_was_sent(demo: Path, report: dict[str, object]) -> None:
    """Counted in the database itself: one dark frame and every spectrum of the test part."""
    with closing(sqlite3.connect(demo / "journal.db")) as db:
        (rows,) = db.execute("SELECT count(*) FROM frames").fetchone()
    spectra = value(report, "test.spectra")
    assert isinstance(spectra, int)
    assert rows == spectra + 1


def test_page_is_self_contained(demo: Path) -> None:
    page = (demo / "report.html").read_text(encoding="utf-8")
    assert page.count("<img") >= 5
    assert page.count("alt=") >= page.count("<img")
    for outside in ("http://", "https://", "<script", "<link"):
        assert outside not in page
    assert "simulated" in page


def test_changed_bundle_is_refused(demo: Path, tmp_path: Path) -> None:
    """One byte in the middle of the bundle: exit code 2, one line, no traceback."""
    data = bytearray((demo / "model.sedge").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "changed.sedge").write_bytes(data)
    for command in (["verify"], ["classify"], ["run"]):
        tail = {"classify": [demo / "test.h5"], "run": ["--source", "replay:x", "--journal", tmp_path / "j"]}
        done = libsedge(
            *command, tmp_path / "changed.sedge", *tail.get(command[0], []), home=demo / "home", code=2
        )
        assert done.stderr.startswith("error: ")
        assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "j").exists()


def test_replay_into_the_same_journal_gives_duplicates_only(demo: Path, tmp_path: Path) -> None:
    home = demo / "home"
    command = ("run", demo / "model.sedge", "--source", f"replay:{demo / 'test.h5'}", "--json")
    first = json.loads(libsedge(*command, "--journal", tmp_path / "j.db", home=home).stdout)["ledger"]
    again = json.loads(libsedge(*command, "--journal", tmp_path / "j.db", home=home).stdout)["ledger"]
    assert first["journaled"] == first["received"] == again["duplicate"] == again["received"] > 0
    assert again["journaled"] == first["duplicate"] == 0
    other = (
        "run",
        demo / "model.sedge",
        "--source",
        f"replay:{demo / 'set.h5'}",
        "--journal",
        tmp_path / "j.db",
    )
    assert "stream" in libsedge(*other, home=home, code=2).stderr


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason=f"real instrument files are not at {REAL_DATA}")
@pytest.mark.parametrize(
    ("name", "shots", "distance"), REAL_FILES, ids=[n.rsplit("/")[-1] for n, _, _ in REAL_FILES]
)
def test_real_files_have_every_shot_accounted_for(
    report: dict[str, object], name: str, shots: int, distance: float
) -> None:
    files = value(report, "real.files")
    assert isinstance(files, list)
    (row,) = [one for one in files if one["file"] == name]
    assert row["shots"] == shots == len(row["labels"])
    assert row["accepted"] + sum(row["not_accepted"].values()) == shots
    assert row["distance_m"] == pytest.approx(distance, abs=1e-4)
