"""`libsedge search` on made-up peaks: test specimens stay in the file, same trials after kill -9, best.json."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from libsedge.cli import main
from libsedge.errors import ConfigError, FileFormatError, RunError
from libsedge.store import StoreReader
from libsedge_training import weighting
from libsedge_training.search import run, space, work
from libsedge_training.spectra import SpectraSet
from libsedge_training.splits import split_by_specimen

pytest.importorskip("optuna")
CLASSES = ("basalt", "clay", "salt")
RECIPE = work.Recipe("screen", 2, 0, 3, 3, batch=8)
TRIALS = 6


def peaks() -> SpectraSet:
    """Three Gaussian peaks a class, Poisson noise, 2 distances, 2 shots, 4 specimens a class (made up)."""
    rng = np.random.default_rng(0)
    wavelength = np.linspace(240.5, 849.5, 600)
    rows = [(c, s, d) for c in range(3) for s in range(4) for d in (2.0, 4.0) for _ in range(2)]
    rows = [rows[i] for i in rng.permutation(len(rows))]  # specimens are not together in the file
    height = [
        5 + 40 * np.exp(-(((wavelength[:, None] - np.array([300, 420, 650]) - 4 * c) / 3) ** 2)).sum(1) / d
        for c, _, d in rows
    ]
    return SpectraSet(
        rng.poisson(height).astype(np.uint16),
        wavelength,
        specimen=np.array([f"{CLASSES[c]}-{s}" for c, s, _ in rows]),
        label=np.array([CLASSES[c] for c, _, _ in rows]),
        distance_m=np.array([d for *_, d in rows]),
        source="made up",
        simulated=True,
    )


def held_out(data: SpectraSet) -> np.ndarray:
    return split_by_specimen(data.label.tolist(), data.specimen.tolist(), 0, 3, 3)["test"]


def damage(path: Path, rows: np.ndarray) -> None:
    """Make the spectra of `rows` unreadable: their checksums no longer hold."""
    with h5py.File(path, "r") as file:
        places = [file["counts"].id.get_chunk_info_by_coord((int(r), 0)).byte_offset for r in rows]
    with open(path, "r+b") as raw:
        for place in places:
            raw.seek(place + 200)
            raw.write(b"\xff\xfe\xfd")


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set whose test specimens cannot be read at all."""
    path = tmp_path_factory.mktemp("set") / "set.h5"
    data = peaks()
    data.save(path)
    damage(path, held_out(data))
    return path


@pytest.fixture(scope="module")
def done(stored: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("search") / "one"
    return out, run.search(stored, "focal", out, RECIPE, trials=TRIALS, seeds=1, jobs=1)


def test_spectra_of_test_specimens_are_never_read(
    stored: Path, done: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    data = peaks()
    best = done[1]  # went through although none of them can be read
    with StoreReader(stored) as store:
        for row in held_out(data):  # negative control: whoever reads one is told so
            with pytest.raises(FileFormatError, match="damaged"):
                store.row(int(row))
    names = best["specimens"]
    assert names["test (not loaded)"] == sorted(set(data.specimen[held_out(data)].tolist()))
    assert not set(names["test (not loaded)"]) & {*names["train"], *names["validation"]}
    assert {n for group in names.values() for n in group} == set(data.specimens)
    # negative control: one damaged validation spectrum stops the search
    other = tmp_path / "set.h5"
    data.save(other)
    damage(other, split_by_specimen(data.label.tolist(), data.specimen.tolist(), 0, 3, 3)["validation"][:1])
    with pytest.raises(FileFormatError, match="damaged"):
        run.search(other, "focal", tmp_path / "out", RECIPE, trials=1, seeds=1, jobs=1)
    # and what was loaded are the others, each under its own name
    loaded, _, _ = work.without_test(str(stored), RECIPE)
    kept = np.setdiff1d(np.arange(len(data)), held_out(data))
    assert np.array_equal(loaded.counts, data.counts[kept])
    assert loaded.specimen.tolist() == data.specimen[kept].tolist()


def test_best_json_is_the_best_trial_and_a_weighting(
    stored: Path, done: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    out, best = done
    assert json.loads((out / "best.json").read_text()) == best
    rows = [json.loads(p.read_text()) for p in sorted(out.glob("runs/trial-*.json"))]
    assert len(rows) == TRIALS
    assert len({r["weighting"] for r in rows}) == TRIALS
    assert best["validation_accuracy"] == max(r["validation_accuracy"] for r in rows)
    assert best["weighting"] in {
        r["weighting"] for r in rows if r["validation_accuracy"] == best["validation_accuracy"]
    }
    whole = tmp_path / "set.h5"
    peaks().save(whole)
    arguments = ["train", str(whole), "-o", str(tmp_path / "run"), "--weighting", str(out / "best.json")]
    few = ["--net", "s", "--epochs", "1", "--test-specimens", "3", "--validation-specimens", "3"]
    result = CliRunner().invoke(main, [*arguments, *few])
    assert result.exit_code == 0, result.output
    trained = json.loads((tmp_path / "run" / "run.json").read_text())
    assert trained["config"]["weighting"] == best["weighting"]
    (tmp_path / "wrong.json").write_text("{}")
    result = CliRunner().invoke(main, [*arguments[:-1], str(tmp_path / "wrong.json")])
    assert result.exit_code != 0


def test_kill_9_of_the_search_changes_nothing(
    stored: Path, done: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """Killed in the second generation with half a line in Optuna's journal, it ends as if it had not been."""
    best = done[1]
    again = tmp_path / "again"
    code = (
        "import os, signal\n"
        "from libsedge_training.search import run, work\n"
        "keep = run.write_atomic\n"
        "def dying(path, data):\n"
        "    if path.name.startswith('trial-0005'):\n"
        f"        open({str(again / 'optuna.log')!r}, 'ab').write(b'{{\"op_c')\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    keep(path, data)\n"
        "run.write_atomic = dying\n"
        f"run.search({str(stored)!r}, 'focal', {str(again)!r}, work.{RECIPE!r}, trials={TRIALS}, seeds=1, jobs=1)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (again / "best.json").exists()
    assert len(list(again.glob("runs/trial-*.json"))) == 5
    before = {p: p.stat().st_mtime_ns for p in again.glob("runs/*.json")}
    assert run.search(stored, "focal", again, RECIPE, trials=TRIALS, seeds=1, jobs=1) == best
    assert all(p.stat().st_mtime_ns == t for p, t in before.items()), "a net was trained twice"
    with pytest.raises(RunError, match="strategy"):
        run.search(stored, "distance", again, RECIPE, trials=TRIALS, seeds=1, jobs=1)
    assert os.path.getsize(again / "optuna.log") > 0


class Seen:
    """A trial that answers with the upper end and notes what it was asked."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def suggest_float(self, key: str, low: float, high: float, log: bool) -> float:
        self.keys.append(key)
        return high

    def suggest_int(self, key: str, low: int, high: int, log: bool) -> int:
        self.keys.append(key)
        return high

    def suggest_categorical(self, key: str, choices: list[str]) -> str:
        self.keys.append(key)
        return choices[-1]


@pytest.mark.parametrize("family", sorted(space.SPACES))
def test_every_space_gives_names_that_strategies_know(family: str) -> None:
    space.check(family)
    trial = Seen()
    name = space.suggest(trial, family, [2.0, 4.0])
    assert weighting.strategy(name).name == name
    assert trial.keys
    with pytest.raises(ConfigError, match="nothing is left"):
        space.check(name + (":0.001=1" if family == "per-distance" else ""))


def test_what_is_given_stays() -> None:
    trial = Seen()
    assert space.suggest(trial, "cc-bcd:w3:r1:a=2", [2.0]) == "cc-bcd:w3:r1:a=2:b=16"
    assert trial.keys == ["b"]
    for name in ("equal", "l2rw", "permuted:focal:gamma=2"):
        with pytest.raises(ConfigError, match="nothing to tune"):
            space.check(name)
    with pytest.raises(ConfigError, match="takes gamma="):
        space.check("focal:a=2")
