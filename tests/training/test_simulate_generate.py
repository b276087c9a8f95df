"""The generated set: same bytes for the same seed, resumable, refusals, and the distance law end to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from libsedge.errors import ConfigError, FileFormatError, SedgeError
from libsedge.store import StoreReader
from libsedge_training.commands.simulate import simulate
from libsedge_training.simulate import generate, parts
from libsedge_training.simulate.scene import SceneConfig

NAMES = ("calcite", "magnesite", "gypsum")


def _plan(seed: int = 5, **changes: object) -> generate.Plan:
    options: dict[str, object] = {"distances": (2.0, 5.0), "spectra": 3, "materials": NAMES, **changes}
    return generate.make_plan("small", seed, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of `_plan()`, made in this process."""
    return generate.run(_plan(), tmp_path_factory.mktemp("reference") / "set.h5", jobs=1).read_bytes()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreReader]:
    path = tmp_path_factory.mktemp("tiny") / "tiny.h5"
    generate.generate("tiny", path, 1, jobs=1)  # this process has loaded libskit already
    with StoreReader(path) as reader:
        yield reader


def test_the_same_bytes_from_two_processes(tmp_path: Path, reference: bytes) -> None:
    assert generate.run(_plan(), tmp_path / "other_name.h5", jobs=2).read_bytes() == reference
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other_name.h5"]


def test_another_seed_gives_other_bytes(tmp_path: Path, reference: bytes) -> None:
    plan = _plan(seed=6)
    assert plan.digest() != _plan().digest()
    assert generate.run(plan, tmp_path / "set.h5", jobs=1).read_bytes() != reference


def test_a_spectrum_does_not_depend_on_its_company(tmp_path: Path, reference: bytes) -> None:
    (tmp_path / "all.h5").write_bytes(reference)
    generate.run(_plan(materials=("gypsum",), distances=(5.0,)), tmp_path / "one.h5", jobs=1)
    with StoreReader(tmp_path / "all.h5") as whole, StoreReader(tmp_path / "one.h5") as part:
        rows = [r for r in whole if r.specimen == "gypsum" and r.distance_m == 5.0]
        for row, other in zip(rows, part, strict=True):
            np.testing.assert_array_equal(row.counts, other.counts)


#: a run that stops for good before its second material, to be killed there
_RUN = """
import sys, time
from libsedge_training.simulate import generate
plan = generate.make_plan("small", 5, distances=(2.0, 5.0), spectra=3, materials={names!r})
original = generate.simulate_material
generate.simulate_material = lambda p, m: original(p, m) if m is p.materials[0] else time.sleep(600)
generate.run(plan, sys.argv[1], jobs=1)
"""


def test_a_killed_run_goes_on(tmp_path: Path, reference: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "set.h5"
    note = tmp_path / "set.h5.parts" / "000.json"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen([sys.executable, "-c", _RUN.format(names=NAMES), str(out)], env=environment)
    try:
        limit = time.monotonic() + 120
        while not note.exists() and child.poll() is None and time.monotonic() < limit:
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
    finally:
        child.kill()
        child.wait()
    assert note.exists()
    assert not out.exists()
    computed: list[str] = []
    original = generate.simulate_material

    def counted(plan: generate.Plan, material: generate.table.Material) -> np.ndarray:
        computed.append(material.name)
        return original(plan, material)

    monkeypatch.setattr(generate, "simulate_material", counted)
    generate.run(_plan(), out, jobs=1)
    assert computed == list(NAMES[1:])  # the finished part is not computed again
    assert out.read_bytes() == reference
    assert not note.parent.exists()


@pytest.fixture
def interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An output whose first part is finished and whose run then failed."""
    plan, out = _plan(), tmp_path / "set.h5"
    original = generate.simulate_material

    def fail_after_the_first(plan: generate.Plan, material: generate.table.Material) -> np.ndarray:
        if material is not plan.materials[0]:
            raise KeyboardInterrupt
        return original(plan, material)

    with monkeypatch.context() as patch:
        patch.setattr(generate, "simulate_material", fail_after_the_first)
        with pytest.raises(KeyboardInterrupt):
            generate.run(plan, out, jobs=1)
    return out


class _Deadly(ProcessPoolExecutor):
    """A pool whose workers end at once, as if killed from outside."""

    def submit(self, *_: object, **__: object) -> Future[Any]:
        return super().submit(os._exit, 1)


def test_a_killed_worker_is_a_typed_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "ProcessPoolExecutor", _Deadly)
    with pytest.raises(SedgeError, match="worker process"):
        generate.run(_plan(), tmp_path / "set.h5", jobs=2)
    assert not (tmp_path / "set.h5").exists()


def test_an_output_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "set.h5.parts").write_text("a file")
    with pytest.raises(ConfigError, match="cannot be made"):
        generate.run(_plan(), tmp_path / "set.h5", jobs=1)


def test_parts_of_another_plan_are_refused(interrupted: Path) -> None:
    with pytest.raises(ConfigError, match="another configuration"):
        generate.run(_plan(seed=6), interrupted, jobs=1)
    assert not interrupted.exists()


def test_damaged_parts_are_refused(interrupted: Path) -> None:
    part = interrupted.with_name("set.h5.parts") / "000.npy"
    whole = part.read_bytes()
    part.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(FileFormatError, match="damaged") as caught:
        generate.run(_plan(), interrupted, jobs=1)
    assert caught.value.file == str(part)
    note = part.with_suffix(".json")
    note.write_text("{")
    with pytest.raises(FileFormatError, match="not JSON"):
        generate.run(_plan(), interrupted, jobs=1)


def test_a_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "set.h5.parts"
    folder.mkdir()
    (folder / "thesis.tex").write_text("x")
    with pytest.raises(ConfigError, match="no folder of parts"):
        generate.run(_plan(), tmp_path / "set.h5", jobs=1)
    assert (folder / "thesis.tex").read_text() == "x"


def test_an_existing_output_and_a_missing_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "set.h5").write_text("mine")
    with pytest.raises(ConfigError, match="exists"):
        generate.run(_plan(), tmp_path / "set.h5", jobs=1)
    assert (tmp_path / "set.h5").read_text() == "mine"
    with pytest.raises(ConfigError, match="folder"):
        generate.run(_plan(), tmp_path / "nowhere" / "set.h5", jobs=1)
    with pytest.raises(ConfigError, match="1024"):
        generate.run(_plan(), tmp_path / "other.h5", jobs=0)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"preset": "huge"}, "preset"),
        ({"seed": -1}, "seed"),
        ({"spectra": 0}, "spectra"),
        ({"spectra": 10_001}, "spectra"),
        ({"distances": (1.4,)}, "distances"),
        ({"distances": (2.0, 8.0)}, "distances"),
        ({"distances": (2.0, 2.0001)}, "distances"),
        ({"distances": ()}, "distances"),
        ({"materials": ("unobtainium",)}, "materials"),
    ],
)
def test_values_out_of_range_are_refused(changes: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        generate.make_plan(**{"preset": "small", "seed": 1, **changes})  # type: ignore[arg-type]
    assert caught.value.field == field


def test_the_full_preset_has_the_papers_shape() -> None:
    plan = generate.make_plan("full", 1)
    assert len(plan.materials) * len(plan.distances) * plan.spectra == 17_760
    assert len({material.label for material in plan.materials}) == 6


def test_layout_of_the_tiny_set(tiny: StoreReader) -> None:
    assert tiny.simulated
    assert tiny.instrument == "marscode-like (simulated)"
    assert tiny.saturation == 65535
    assert tiny.dtype == np.uint16
    assert len(tiny) == 18 * 3 * 4
    assert tiny.channels == 5400
    assert len(set(tiny.label)) == 6
    assert len(set(tiny.specimen)) == 18
    np.testing.assert_array_equal(np.unique(tiny.distance_m), np.array([2, 3, 5], np.float32))
    np.testing.assert_array_equal(np.unique(tiny.shot), np.arange(4))


def _exponent(distance: np.ndarray, specimen: np.ndarray, total: np.ndarray) -> float:
    """Mean over materials of the slope of ln(signal) against ln(distance)."""
    slopes = []
    for name in np.unique(specimen):
        rows = specimen == name
        slopes.append(np.polyfit(np.log(distance[rows]), np.log(total[rows]), 1)[0])
    return float(np.mean(slopes))


def test_signal_falls_with_distance(tiny: StoreReader) -> None:
    counts = np.stack([row.counts for row in tiny]).astype(float)
    assert tiny.dark is not None
    total = (counts - tiny.dark).sum(axis=1)
    exponent = _exponent(np.asarray(tiny.distance_m, float), np.asarray(tiny.specimen), total)
    # published: about -1.2; +- 0.15 is three standard errors of 18 targets with 0.1 ln of focus scatter
    assert exponent == pytest.approx(-1.2, abs=0.15)


def test_no_distance_law_no_fall(tmp_path: Path) -> None:
    """Negative control of the test above."""
    flat = replace(SceneConfig(), temperature_exponent=0.0, density_exponent=0.0, signal_exponent=0.0)
    plan = replace(_plan(), scene=flat)
    generate.run(plan, tmp_path / "flat.h5", jobs=1)
    with StoreReader(tmp_path / "flat.h5") as reader:
        assert reader.dark is not None
        total = (np.stack([row.counts for row in reader]).astype(float) - reader.dark).sum(axis=1)
        exponent = _exponent(np.asarray(reader.distance_m, float), np.asarray(reader.specimen), total)
    assert abs(exponent) < 0.6
    assert exponent != pytest.approx(-1.2, abs=0.15)


def test_command(tmp_path: Path, reference: bytes) -> None:
    out = tmp_path / "set.h5"
    arguments = ["-o", str(out), "--seed", "5", "--jobs", "1", "--distances", "2.0,5.0", "--spectra", "3"]
    result = CliRunner().invoke(simulate, [*arguments, "--materials", ", ".join(NAMES)])
    assert result.exit_code == 0, result.output
    assert "18 simulated spectra of 3 materials in 2 classes at 2 distances" in result.output
    assert out.read_bytes() == reference
    listed = CliRunner().invoke(simulate, ["--list-materials"])
    assert len(listed.output.splitlines()) == 37
    assert "typical of its class, not certified" in listed.output


@pytest.mark.parametrize("arguments", [[], ["-o", "x.h5", "--distances", "two"]])
def test_command_refusals(arguments: list[str]) -> None:
    result = CliRunner().invoke(simulate, arguments)
    assert isinstance(result.exception, ConfigError)


def test_more_targets_of_a_material_leave_the_first_as_it_is(tmp_path: Path, reference: bytes) -> None:
    (tmp_path / "one.h5").write_bytes(reference)
    plan = replace(_plan(materials=("calcite",)), targets=3)
    generate.run(plan, tmp_path / "three.h5", jobs=1)
    with StoreReader(tmp_path / "one.h5") as one, StoreReader(tmp_path / "three.h5") as three:
        rows = list(three)
        assert [row.specimen for row in rows[::6]] == ["calcite", "calcite, target 2", "calcite, target 3"]
        first = [row.counts for row in one if row.specimen == "calcite"]
        np.testing.assert_array_equal(first, [row.counts for row in rows[:6]])
        assert not np.array_equal(rows[0].counts, rows[6].counts)
