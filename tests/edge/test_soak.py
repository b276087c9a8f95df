"""The soak's own arithmetic, on a few hundred frames; the long run is `make soak`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("libsedge_native.generate", reason="the generator is not installed")

import soak

KEYS = "sent received journaled duplicate rejected shed gaps unaccounted swaps frames_per_s latency rss_start rss_end"


def test_small_soak_equals_the_truth(tmp_path: Path) -> None:
    result = soak.soak(601, tmp_path / "out")
    assert result["ok"], [part["differences"] for part in result["parts"]]
    assert json.loads((tmp_path / "out" / "soak.json").read_text()) == result
    assert {*KEYS.split()} <= result.keys()
    assert (result["sent"], result["unaccounted"]) == (601, 0)
    assert result["received"] == result["journaled"] + result["duplicate"] + sum(result["rejected"].values())
    assert [part["sent"] for part in result["parts"]] == [201, 200, 200]


def test_negative_control_a_frame_that_is_counted_and_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = soak.damaged

    def short(*arguments: Any) -> Iterator[bytes]:
        for index, piece in enumerate(real(*arguments)):
            if index != 20:
                yield piece

    monkeypatch.setattr(soak, "damaged", short)
    monkeypatch.setattr(soak, "DAMAGE", (0.0,))
    result = soak.soak(50, tmp_path)
    assert not result["ok"]
    differences = result["parts"][0]["differences"]
    assert differences["journaled"] == {"truth": 50, "found": 49}
    assert differences["gaps"] == {"truth": 0, "found": 1}
