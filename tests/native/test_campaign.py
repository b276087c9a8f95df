"""`make campaign`: a sample of it, resumed, and a broken kernel that turns it red."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from libsedge_native import campaign
from libsedge_native.generate import GeneratedModel
from libsedge_native.ir import Dense, Graph


def test_a_campaign_goes_on_where_it_stopped(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "graphs.jsonl"
    key = campaign.key()
    monkeypatch.setattr(campaign, "key", lambda: key)  # somebody may edit the generator while this runs
    monkeypatch.setattr(campaign, "PLANS", ("size",))
    assert campaign.run(1, out, jobs=2) == 0
    first = out.read_bytes()
    assert campaign.run(2, out, jobs=1) == 0
    assert out.read_bytes().startswith(first)
    said = capfd.readouterr().out
    assert "1 of 2 graphs were done" in said
    assert "2 graphs, " in said
    rows = campaign.Pieces(out, key).done
    assert len(rows) == 2
    for row in rows.values():
        assert row["cells"] > 100
        assert set(row["plans"]) == {name for name, _ in campaign.models(0)}
        assert all("scalar" in plan["isas"] for plan in row["plans"].values())


def test_another_nets_kernel_turns_it_red(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative controls: a kernel whose last layer has another bias, and a compiler that fails."""
    real = campaign.generate

    def other_bias(graph: Graph, **plan: Any) -> GeneratedModel:
        last = graph.ops[-1]
        assert isinstance(last, Dense)
        return real(replace(graph, ops=(*graph.ops[:-1], replace(last, bias=last.bias + 3000))), **plan)

    seed = next(s for s in range(20) if isinstance(campaign.random_graph(s).ops[-1], Dense))
    monkeypatch.setattr(campaign, "generate", other_bias)
    row = campaign.check(seed)
    assert row["failed"] == 0
    assert row["different"] > 0
    assert campaign.check(seed, flags=("-include", "no-such-header.h"))["failed"] == len(campaign.PLANS)
