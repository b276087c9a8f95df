"""`libsedge reclassify` on a small archive: exactly once, the same bytes for any workers, damage, kill -9."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from libsedge.bundle import Bundle, target
from libsedge.classifier import Classifier
from libsedge.cli import main
from libsedge.errors import RunError
from libsedge.store import StoreReader, write_store
from libsedge_native.toolchain import HOST_TARGET
from libsedge_training.reclassify import run, work

parquet = pytest.importorskip("pyarrow.parquet")
pytestmark = pytest.mark.skipif(
    target() != HOST_TARGET, reason=f"models are compiled for {HOST_TARGET} only, this is {target()}"
)
SIZES = {"2026/a.h5": 23, "b.h5": 10, "c.h5": 1}
AXIS = np.linspace(241, 849, 500)
BLOCK = 8


def counts(seed: int, n: int) -> np.ndarray:
    """Ten lines each at random places; every fourth spectrum is noise."""
    rng = np.random.default_rng(seed)
    centre, height = rng.uniform(245, 845, (n, 1, 10)), rng.uniform(500, 5000, (n, 1, 10))
    height[::4] = 0
    lines = (height * np.exp(-(((AXIS[:, None] - centre) / 2) ** 2))).sum(axis=2)
    return np.asarray(rng.poisson(50 + lines), np.uint16)


def shard(path: Path, seed: int, n: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    distance = np.where(np.arange(n) % 5 == 0, np.nan, 2.5).astype(np.float32)
    write_store(
        path,
        counts=counts(seed, n),
        wavelength=AXIS,
        specimen=[f"s{i % 3}" for i in range(n)],
        distance_m=distance,
        simulated=True,
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = importlib.util.spec_from_file_location(
        "edge_conftest", Path(__file__).parents[1] / "edge" / "conftest.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return Path(module.build_tiny_model(tmp_path_factory.mktemp("bundle")).path)


@pytest.fixture(autouse=True)
def home(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIBSEDGE_HOME", str(model.parent))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive") / "spectra"
    for seed, (name, n) in enumerate(SIZES.items()):
        shard(folder / name, seed, n)
    (folder / "README.txt").write_text("not spectra")
    return folder


@pytest.fixture(scope="module")
def alone(archive: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Re-classified in one process, without interruption."""
    out = tmp_path_factory.mktemp("alone") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIBSEDGE_HOME", str(model.parent))
        run.reclassify([archive], model, out, jobs=1, block_rows=BLOCK)
    return out


def everything(out: Path) -> dict[str, bytes]:
    """All that a run leaves, by name."""
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def table(out: Path) -> list[dict[str, Any]]:
    return [row for p in sorted(out.glob("parts/*.parquet")) for row in parquet.read_table(p).to_pylist()]


def test_every_spectrum_has_one_row_and_the_classifiers_answer(
    archive: Path, model: Path, alone: Path
) -> None:
    rows = table(alone)
    assert [(r["shard"], r["row"]) for r in rows] == [(n, i) for n in sorted(SIZES) for i in range(SIZES[n])]
    bundle = Bundle.open(model)
    judge = Classifier(bundle).bind(AXIS)
    expected = []
    for seed, (name, n) in sorted(enumerate(SIZES.items()), key=lambda item: item[1][0]):
        expected += judge.classify_many(counts(seed, n))
        assert name in {r["shard"] for r in rows}
    for row, one in zip(rows, expected, strict=True):
        assert (row["label"], row["confidence"], row["accepted"], row["reason"]) == (
            one.label,
            one.confidence,
            one.accepted,
            one.reason,
        )
        assert (None if row["probabilities"] is None else tuple(row["probabilities"])) == one.probabilities
        assert row["model"] == bundle.digest
        assert row["specimen"] == f"s{row['row'] % 3}"
        assert row["distance_m"] == (None if row["row"] % 5 == 0 else 2.5)
    assert len({r["label"] for r in rows} - {None}) > 1, "a net that says one thing proves little"
    manifest = json.loads((alone / "manifest.json").read_text())
    assert manifest["spectra"] == sum(SIZES.values())
    assert {s["name"]: (s["verdict"], s["rows"]) for s in manifest["shards"]} == {
        name: ("whole", n) for name, n in SIZES.items()
    }
    assert manifest["left_out"] == ["README.txt"]
    assert not any("tmp" in name for name in everything(alone))


def test_a_lost_a_foreign_and_a_wrong_part_are_found(archive: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run.reclassify([archive], model, out, jobs=1, block_rows=BLOCK)
    whole = everything(out)
    first, second = sorted(out.glob("parts/*.parquet"))[:2]
    first.unlink()
    second.write_bytes(first.with_name(second.name).read_bytes()[:-40])  # torn
    run.reclassify([archive], model, out, jobs=1, block_rows=BLOCK)
    assert everything(out) == whole
    second.write_bytes(whole[f"parts/{first.name}"])  # another block's rows: some twice, some never
    run.reclassify([archive], model, out, jobs=1, block_rows=BLOCK)
    assert everything(out) == whole
    (out / "parts" / "part-9.parquet").write_bytes(whole[f"parts/{first.name}"])
    with pytest.raises(RunError, match="part-9"):
        run.reclassify([archive], model, out, jobs=1, block_rows=BLOCK)
    with pytest.raises(RunError, match="block_rows"):
        run.reclassify([archive], model, out, jobs=1, block_rows=BLOCK + 1)


def test_damage_costs_its_own_rows_and_the_exit_code_says_so(
    archive: Path, model: Path, alone: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "spectra"
    for seed, (name, n) in enumerate(SIZES.items()):
        shard(folder / name, seed, n)
    with h5py.File(folder / "2026/a.h5", "r") as file:
        place = file["counts"].id.get_chunk_info_by_coord((11, 0)).byte_offset
    with open(folder / "2026/a.h5", "r+b") as raw:
        raw.seek(place + 100)
        raw.write(b"\xff\x00\xff")
    (folder / "b.h5").write_bytes((folder / "b.h5").read_bytes()[:3000])
    (folder / "zero.h5").write_bytes(bytes(4096))
    out = tmp_path / "out"
    arguments = ["reclassify", str(folder), "--model", str(model), "--out", str(out)]
    result = CliRunner().invoke(main, [*arguments, "--jobs", "1", "--block-rows", str(BLOCK)])
    assert result.exit_code == 1, result.output
    shards = {s["name"]: s for s in json.loads((out / "manifest.json").read_text())["shards"]}
    assert {n: (s["verdict"], s["rows"], s["unreadable"]) for n, s in shards.items()} == {
        "2026/a.h5": ("damaged", 23, 1),
        "b.h5": ("not opened", 0, 0),
        "c.h5": ("whole", 1, 0),
        "zero.h5": ("not opened", 0, 0),
    }
    assert all(s["error"]["type"] == "FileFormatError" for s in shards.values() if s["verdict"] != "whole")
    assert str(tmp_path) not in (out / "manifest.json").read_text()
    rows = {(r["shard"], r["row"]): r for r in table(out)}
    assert rows.pop(("2026/a.h5", 11))["reason"] == work.UNREADABLE
    assert rows == {
        k: r for r in table(alone) if (k := (r["shard"], r["row"])) != ("2026/a.h5", 11) and k[0] != "b.h5"
    }


def die_once(block: Any, bundle: str, digest: str) -> dict[str, Any]:
    """`perform`, whose first worker is killed in the middle of a block."""
    marker = Path(os.environ["LIBSEDGE_TEST_MARKER"])
    if block.start > 0 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return work.perform(block, bundle, digest)


def test_kill_9_of_the_command_and_of_a_worker_gives_the_same_bytes(
    archive: Path, model: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between two parts with one worker, gone on with by two workers of Dask, of which one is killed."""
    out = tmp_path / "out"
    code = (
        "import os, signal, sys\n"
        "from libsedge_training.reclassify import run\n"
        "write, parts = run.write_atomic, []\n"
        "def dying(path, data):\n"
        "    if path.suffix == '.parquet':\n"
        "        parts.append(path)\n"
        "        if len(parts) == 4:\n"
        "            path.with_name(f'.{path.name}.tmp').write_bytes(data[:50])\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "    write(path, data)\n"
        "run.write_atomic = dying\n"
        f"run.reclassify([{str(archive)!r}], {str(model)!r}, {str(out)!r}, jobs=1, block_rows={BLOCK})\n"
    )
    killed = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    left = list(out.glob("parts/*.parquet"))
    assert len(left) == 3
    assert not (out / "manifest.json").exists()
    before = {p: p.stat().st_mtime_ns for p in left}
    time.sleep(0.01)
    monkeypatch.setenv("LIBSEDGE_TEST_MARKER", str(tmp_path / "marker"))
    monkeypatch.setattr(run, "perform", die_once)
    run.reclassify([archive], model, out, jobs=2, block_rows=BLOCK)
    assert (tmp_path / "marker").exists(), "no worker was killed"
    assert all(p.stat().st_mtime_ns == t for p, t in before.items()), "a finished part was done again"
    assert everything(out) == everything(alone)


def test_a_folder_that_changes_meanwhile_is_refused(
    archive: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "spectra"
    shard(folder / "a.h5", 0, 9)

    def changing(block: Any, bundle: str, digest: str) -> dict[str, Any]:
        found = work.perform(block, bundle, digest)
        shard(folder / "a.h5", 1, 9)
        return found

    monkeypatch.setattr(run, "perform", changing)
    with pytest.raises(RunError, match="changed while"):
        run.reclassify([folder], model, tmp_path / "out", jobs=1, block_rows=BLOCK)
    with StoreReader(folder / "a.h5") as store:
        assert len(store) == 9
    monkeypatch.undo()
    monkeypatch.setenv("LIBSEDGE_HOME", str(model.parent))
    with pytest.raises(RunError, match="shards"):
        run.reclassify([folder], model, tmp_path / "out", jobs=1, block_rows=BLOCK)
