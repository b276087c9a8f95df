"""Dynamic strategies in a whole run: resumed to the same bytes, what they see of the net, and the command's list."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from libsedge_training import fit, weighting
from libsedge_training.spectra import SpectraSet
from libsedge_training.weighting.dynamic import Batch

from .own_strategy import Own


def peaks() -> SpectraSet:
    """Three Gaussian peaks a class on a flat background, Poisson noise, 3 distances (made up)."""
    rng = np.random.default_rng(0)
    wavelength = np.linspace(240.5, 849.5, 600)
    rows = [(c, s, d) for c in range(2) for s in range(4) for d in (1.5, 2.5, 4.0) for _ in range(2)]
    signal = [
        5 + 90 * np.exp(-(((wavelength[:, None] - np.array([300, 420, 650]) - 15 * c) / 2) ** 2)).sum(1) / d
        for c, _, d in rows
    ]
    return SpectraSet(
        rng.poisson(signal).astype(np.uint16),
        wavelength,
        specimen=np.array([f"{c}-{s}" for c, s, _ in rows]),
        label=np.array([f"class-{c}" for c, _, _ in rows]),
        distance_m=np.array([d for *_, d in rows]),
        simulated=True,
    )


class Cut(Exception):
    """Stands for a power cut."""


def cut_after_one(record: Mapping[str, Any]) -> None:
    raise Cut


@pytest.mark.parametrize("name", ["mw-net", "group-dro:distance:eta=0.5", "lisa", "jtt:t=1:up=9"])
def test_a_dynamic_run_resumes_to_the_same_bytes(name: str, tmp_path: Path, monkeypatch: Any) -> None:
    config = fit.TrainConfig(
        net="s", weighting=name, epochs=3, batch=8, test_specimens=2, validation_specimens=2
    )
    data = peaks()

    def resumed(folder: str) -> bytes:
        with pytest.raises(Cut):
            fit.train(data, tmp_path / folder, config, threads=1, on_epoch=cut_after_one)
        fit.train(data, tmp_path / folder, config, threads=1, resume=True)
        return (tmp_path / folder / "run.json").read_bytes() + tensors(tmp_path / folder)

    fit.train(data, tmp_path / "whole", config, threads=1)
    want = (tmp_path / "whole" / "run.json").read_bytes() + tensors(tmp_path / "whole")
    assert resumed("cut") == want
    # negative control: without the strategy's state the resumed run ends elsewhere (LISA has none)
    monkeypatch.setattr(fit.Trainer, "load", lambda self, state: None)
    assert (resumed("lost") == want) == (name == "lisa")


def tensors(folder: Path) -> bytes:
    from safetensors.torch import load_file

    found = load_file(folder / "checkpoint.safetensors")
    return b"".join(name.encode() + found[name].contiguous().numpy().tobytes() for name in sorted(found))


def test_the_features_are_what_enters_the_last_layer(tmp_path: Path, monkeypatch: Any) -> None:
    """Last layer of the features = the step's logits."""
    seen: list[Batch] = []

    def record(batch: Batch, calls: list[int]) -> torch.Tensor:
        seen.append(batch)  # checked here: the last layer changes in place after the call
        assert torch.allclose(batch.features @ batch.weight.T + batch.bias, batch.logits, atol=1e-5)
        assert torch.allclose(
            torch.nn.functional.cross_entropy(batch.logits, batch.target, reduction="none"), batch.losses
        )
        assert not batch.features.requires_grad
        return torch.ones(len(batch.rows))

    real = weighting.strategy
    monkeypatch.setattr(weighting, "strategy", lambda n: Own(record) if n == "focal" else real(n))
    config = fit.TrainConfig(
        net="s", weighting="focal", epochs=1, batch=8, test_specimens=2, validation_specimens=2
    )
    fit.train(peaks(), tmp_path / "run", config, threads=1)
    assert len(seen) == 3


def test_the_command_lists_every_strategy_and_says_which_are_dynamic(tmp_path: Path) -> None:
    from click.testing import CliRunner
    from libsedge_training.commands.weights import weights

    listed = CliRunner().invoke(weights, ["--list"])
    assert listed.exit_code == 0
    assert all(f"  {name}\n" in listed.output for name in weighting.listed())
    peaks().save(tmp_path / "set.h5")
    for name, dynamic in (("focal", True), ("per-distance:4=2", False)):
        shown = CliRunner().invoke(
            weights, [str(tmp_path / "set.h5"), "--strategy", name, "--test-specimens", "2"]
        )
        assert shown.exit_code == 0, shown.output
        assert ("dynamic:" in shown.output) == dynamic
