"""`make campaign`: a sample of it, resumed, and broken kernels that turn it red."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from libsedge_native import campaign, reference
from libsedge_native.generate import GeneratedModel
from libsedge_native.ir import Dense, Graph
from libsedge_native.random_graph import random_inputs, small_graph
from libsedge_native.resume import Pieces


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Fixed: somebody may edit the generator while this runs."""
    found = campaign.key()
    monkeypatch.setattr(campaign, "key", lambda: found)
    return found


@pytest.fixture
def generator(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[Callable[[GeneratedModel], GeneratedModel]], None]:
    """Puts a change behind the campaign's generator."""
    real = campaign.generate

    def install(change: Callable[[GeneratedModel], GeneratedModel]) -> None:
        monkeypatch.setattr(campaign, "generate", lambda graph, **plan: change(real(graph, **plan)))

    return install


def broken(model: GeneratedModel, header: str, old: str, new: str) -> GeneratedModel:
    assert old in model.files[header]
    return replace(model, files={**model.files, header: model.files[header].replace(old, new)})


def test_a_campaign_goes_on_where_it_stopped(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], key: dict[str, str]
) -> None:
    out = tmp_path / "graphs.jsonl"
    assert campaign.run(2, out, jobs=2) == 0
    first = out.read_bytes()
    assert campaign.run(4, out, jobs=1) == 0
    assert out.read_bytes().startswith(first)
    said = capfd.readouterr().out
    assert "2 of 4 graphs were done" in said
    assert "4 graphs, " in said
    rows = Pieces(out, key).done
    assert len(rows) == 4
    assert set(rows["0"]["plans"]) == set(campaign.PLANS)
    assert {plan for row in rows.values() for plan in row["plans"]} == set(campaign.PLANS)
    for row in rows.values():
        assert row["cells"] > 40
        assert all("scalar" in plan["isas"] for plan in row["plans"].values())
    assert not (tmp_path / "failed").exists()


def test_another_nets_kernel_turns_it_red(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a kernel whose last layer has another bias."""
    real = campaign.generate

    def other_bias(graph: Graph, **plan: Any) -> GeneratedModel:
        last = graph.ops[-1]
        assert isinstance(last, Dense)
        return real(replace(graph, ops=(*graph.ops[:-1], replace(last, bias=last.bias + 3000))), **plan)

    seed = next(s for s in range(21, 40) if isinstance(campaign.graph_of(s).ops[-1], Dense))
    assert campaign.check([seed])[seed]["different"] == 0
    monkeypatch.setattr(campaign, "generate", other_bias)
    row = campaign.check([seed])[seed]
    assert row["failed"] == 0
    assert row["different"] > 0


def test_a_compiler_that_fails_turns_it_red() -> None:
    """A small graph and one of several layers, which has two plans."""
    rows = campaign.check((1, 20), flags=("-include", "no-such-header.h"))
    assert [row["failed"] for row in rows.values()] == [1, 2]


def test_one_broken_instruction_set_is_found_and_its_graph_kept(
    generator: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Negative control: the 256-bit kernels round as C does, that is, towards zero."""
    generator(lambda model: broken(model, "ymm.inc", "_mm256_cvtps_epi32", "_mm256_cvttps_epi32"))
    out = tmp_path / "graphs.jsonl"
    assert campaign.run(2, out, jobs=1) == 2
    said = capfd.readouterr().out
    assert (
        f"seed 1 FAILED: python -m libsedge_native.campaign --seed 1 --onnx {tmp_path}/failed/1.onnx" in said
    )
    graph = campaign.read_onnx((tmp_path / "failed" / "1.onnx").read_bytes()).graph
    x = random_inputs(graph, 0, 3)
    assert (reference.run(graph, x) == reference.run(campaign.graph_of(1), x)).all()


def test_a_kernel_that_kills_its_process_is_named(
    generator: Any, tmp_path: Path, key: dict[str, str]
) -> None:
    """Negative control: the scalar kernel of one of two nets executes an illegal instruction."""

    def trap(model: GeneratedModel) -> GeneratedModel:
        start = "void run(const int8_t* input, int8_t* logits, void* arena) {"
        return (
            broken(model, "model.cpp", start, f"{start}\n    __builtin_trap();")
            if "net2_" in model.name
            else model
        )

    generator(trap)
    out = tmp_path / "graphs.jsonl"
    assert campaign.run(3, out, jobs=1) == 1
    failed = {seed for seed, row in Pieces(out, key).done.items() if row["failed"]}
    assert failed == {"2"}


def test_a_small_graph_shows_its_activations() -> None:
    """Of many graphs the logits are the last layer's activations; the layer that shows them changes nothing."""
    shown = [g for g in map(small_graph, range(60)) if g.ops[-1].name == "shown"]
    assert len(shown) > 15
    for graph in shown:
        layers = reference.layers(graph, random_inputs(graph, 1, 5)[-1])
        assert np.array_equal(layers["shown"], layers["flat"])
