"""`simulated:`: repeatable to the byte, of the elements that were asked for, and a run decides on it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from libsedge.cli import main
from libsedge.dashboard.lines import Identifier
from libsedge.errors import SedgeError
from libsedge.frame import Frame, encode
from libsedge.sources import SourceOptions, open_source
from libsedge.sources.base import Axis

PROGRAM = """
import hashlib
from libsedge.frame import encode
from libsedge.sources import open_source
digest = hashlib.sha256()
for frame in open_source("simulated:seed=7,count=130,channels=600"):
    digest.update(encode(frame))
print(digest.hexdigest())
"""


def frames(spec: str, options: SourceOptions | None = None) -> list[Frame]:
    source = open_source(spec, options)
    got = [frame for frame in source if frame is not None]
    source.close()
    return got


def digest(some: list[Frame]) -> str:
    return hashlib.sha256(b"".join(map(encode, some))).hexdigest()


def test_same_seed_same_bytes() -> None:
    here = frames("simulated:seed=7,count=130,channels=600")
    there = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert digest(here) == there.stdout.strip()
    assert digest(frames("simulated:seed=7,count=13,channels=600")) == digest(here[:13])
    assert [frame.sequence for frame in here] == list(range(130))
    assert len({frame.stream_id for frame in here}) == 1


def test_bytes_without_vector_instructions() -> None:
    """numpy's plain loops give the same bytes as those it takes here."""
    from numpy._core._multiarray_umath import __cpu_dispatch__

    plain = {"NPY_DISABLE_CPU_FEATURES": " ".join(__cpu_dispatch__)}
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM],
        capture_output=True,
        text=True,
        env=os.environ | plain,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == digest(frames("simulated:seed=7,count=130,channels=600"))


def test_another_seed_element_or_axis_is_another_stream() -> None:
    specs = ["seed=1", "seed=2", "seed=1,elements=Fe+Ca", "seed=1,elements=Ca+Fe", "seed=1,channels=601"]
    ids = {frames(f"simulated:count=1,{spec}")[0].stream_id for spec in specs}
    assert len(ids) == len(specs)
    one, two = (frames(f"simulated:count=2,seed={seed}") for seed in (1, 2))
    assert not np.array_equal(one[1].values, two[1].values)


def test_darks_targets_and_distances() -> None:
    some = frames("simulated:seed=3,count=203,channels=900")
    assert [frame.sequence for frame in some if frame.dark] == [0, 100, 200]
    light = [frame for frame in some if not frame.dark]
    distances = [frame.distance_mm for frame in light]
    assert distances[:10] == [1600] * 10
    assert distances[10:20] == [2000] * 10
    assert set(distances) == {1600, 2000, 2500, 3000, 4000, 5000, 7000}
    dark = np.mean([frame.values for frame in some if frame.dark], axis=0)
    near, far = (
        np.mean([frame.values - dark for frame in light if frame.distance_mm == d]) for d in (1600, 7000)
    )
    assert 5 < near / far < 60  # (7 / 1.6)^2 = 19, times what the amounts differ
    noise = np.std([frame.values.astype(float) - dark for frame in some if frame.dark])
    assert 3 < noise < 8


@pytest.mark.parametrize(("asked", "absent"), [("Ca+Na", {"Cu", "Mg"}), ("Cu+Mg", {"Ca", "Na"})])
def test_the_live_page_sees_the_elements_that_were_asked_for(asked: str, absent: set[str]) -> None:
    source = open_source(f"simulated:seed=5,count=11,elements={asked}")
    light = [frame.values for frame in source if frame is not None and not frame.dark]
    assert source.axis is not None
    seen = Identifier(source.axis.wavelength_nm).seen(np.mean(light, axis=0))
    shown = {element for element, row in seen.items() if row["shown"]}
    assert shown >= set(asked.split("+"))
    assert not shown & absent


def test_on_a_given_axis() -> None:
    axis = Axis(np.linspace(300.0, 500.0, 321))
    (frame,) = frames("simulated:count=1", SourceOptions(axis=axis))
    assert frame.values.size == 321


def test_rate_and_stop() -> None:
    begin = time.monotonic()
    assert len(frames("simulated:count=21,rate=100,channels=10")) == 21
    assert time.monotonic() - begin >= 0.2
    source = open_source("simulated:count=100,rate=0.5,channels=10")
    got = iter(source)
    assert isinstance(next(got), Frame)
    assert next(got) is None  # a look at the clocks while nothing comes
    source.stop()
    assert next(got, "ended") == "ended"


def test_run(tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIBSEDGE_HOME", str(tiny_model.home))
    command = ["run", str(tiny_model.path), "--source", "simulated:seed=1,count=60", "--json"]
    first, again = (
        CliRunner().invoke(main, [*command, "--journal", str(tmp_path / "run.db")]) for _ in range(2)
    )
    assert first.exit_code == 0, first.output
    report = json.loads(first.stdout)
    assert report["simulated"]
    assert (report["ledger"]["journaled"], report["roles"]) == (60, {"dark": 1, "light": 59})
    assert sum(report["labels"].values()) > 40
    assert json.loads(again.stdout)["ledger"]["duplicate"] == 60


@pytest.mark.parametrize(
    "argument",
    [
        *("", "seed", "seed=", "seed=-1", "seed=4294967296", "seed=1,seed=1", "seed=1,", "count=0", "rate=0"),
        *(
            "rate=nan",
            "rate=fast",
            "channels=1",
            "channels=65537",
            "elements=Xx",
            "elements=Fe+Fe",
            "elements=",
        ),
        *("colour=red", "seed=\u0661", "replay:x"),
    ],
)
def test_arguments(argument: str) -> None:
    with pytest.raises(SedgeError):
        open_source(f"simulated:{argument}")


def test_contradictions() -> None:
    for argument, options in (
        ("rate=5", SourceOptions(rate_hz=5.0)),
        ("seed=1", SourceOptions(rate_hz=0.0)),
        ("channels=3", SourceOptions(axis=Axis(np.arange(1.0, 4.0)))),
    ):
        with pytest.raises(SedgeError):
            open_source(f"simulated:{argument}", options)
