"""Two processes under torchrun and gloo give the weights of one with the same global batch.

This file is also what torchrun starts: `cases` trains in either, and leaves the nets in a folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from libsedge.cli import main
from libsedge.preprocess import PreprocessConfig, Segment
from libsedge_training import distributed, fit
from libsedge_training.augment import Augmentation
from libsedge_training.model import Block, NetSpec, build, fold
from libsedge_training.spectra import SpectraSet
from libsedge_training.weighting import TrainPart
from safetensors.torch import load_file, save_file
from torch import nn

#: in batches of 16, 49 rows leave one row for the last step: one of two ranks has none
ROWS, POINTS, BATCH, EPOCHS = 49, 120, 16, 2
TINY = NetSpec("tiny", (Block(4, 7, stride=2), Block(6, 3, pool=2)), head="dense", hidden=8, points=POINTS)
DROPPING = NetSpec("dropping", TINY.blocks, dropout=0.4, head="dense", hidden=8, points=POINTS)
#: case -> (net, strategy, last epochs with the int8 export's rounding)
CASES = {
    "static": (TINY, "distance:p=2", 0),
    "dropout": (DROPPING, "equal", 0),
    "focal": (TINY, "focal:gamma=2", 0),
    "mw-net": (TINY, "mw-net:lr=0.001:a=0.1", 0),
    "rounding": (DROPPING, "mw-net:lr=0.001:a=0.1", 1),
}
#: case -> what is broken in it, on purpose
BROKEN = {"own-statistics": TINY, "own-mean": TINY}


def parts() -> fit.Parts:
    rng = np.random.default_rng(3)
    target = np.arange(ROWS) % 3
    values = rng.uniform(0, 2, (ROWS, POINTS)).astype(np.float32)
    values[np.arange(ROWS), 20 + 30 * target] += 3
    label = np.array([f"class-{t}" for t in target])
    specimen = np.array([f"{t}-{i % 4}" for i, t in enumerate(target)])
    distance = np.array([2.0, 3.0, 5.0])[np.arange(ROWS) % 3 - 1].astype(np.float32)
    segments = (Segment(240.0, 850.0, POINTS),)
    part = TrainPart(values, label, specimen, distance, segments)
    held = values[:6]
    return fit.Parts(part, target, held, target[:6], PreprocessConfig(segments), np.ones(POINTS, bool), 3)


def trained(net: NetSpec, strategy: str, qat: int = 0) -> fit.Trainer:
    config = fit.TrainConfig(
        weighting=strategy, epochs=EPOCHS, batch=BATCH, qat=qat, augmentation=Augmentation(gaps=())
    )
    with fit.torch_settings(0, 1):
        trainer = fit.Trainer(config, net, parts())
        for _ in range(EPOCHS):
            trainer.epoch()
    return trainer


def broken(case: str) -> fit.Trainer:
    """A training whose ranks keep their statistics, or divide by their own number of rows."""
    with pytest.MonkeyPatch.context() as patch:
        if case == "own-statistics":
            patch.setattr(distributed, "AllReducedBatchNorm", lambda like, ranks: like)
        else:
            patch.setattr(distributed.Ranks, "mean", lambda self, values: values.sum() / max(1, len(values)))
        return trained(BROKEN[case], "distance:p=2")


def cases(out: Path, first: bool) -> None:
    """Train every case; the first rank keeps the nets and the losses."""
    losses = {}
    for case, (net, strategy, qat) in CASES.items():
        trainer = trained(net, strategy, qat)
        losses[case] = [r["train_loss"] for r in trainer.history]
        if first:
            save_file(
                {n: t.contiguous() for n, t in trainer.net.state_dict().items()}, out / f"{case}.safetensors"
            )
            fold(trainer.net.eval())  # the export still knows the layers
    if first:
        (out / "losses.json").write_text(json.dumps(losses))


def spectra() -> SpectraSet:
    rng = np.random.default_rng(0)
    axis = np.linspace(240.5, 849.5, 600)
    rows = [(c, s, d) for c in range(2) for s in range(3) for d in (2.0, 4.0) for _ in range(2)]
    height = [5 + 40 * np.exp(-(((axis - 300 - 100 * c) / 3) ** 2)) / d for c, _, d in rows]
    return SpectraSet(
        rng.poisson(height).astype(np.uint16),
        axis,
        specimen=np.array([f"{c}-{s}" for c, s, _ in rows]),
        label=np.array([f"class-{c}" for c, _, _ in rows]),
        distance_m=np.array([d for *_, d in rows]),
        simulated=True,
    )


def command(folder: Path) -> list[str]:
    few = ["--net", "s", "--epochs", "2", "--batch", "7", "--lr", "2e-4", "--threads", "1"]
    return ["train", str(folder / "set.h5"), "-o", str(folder / "run"), *few, "--test-specimens", "2"]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """(folder of one process, folder of two, what the two printed)."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    for folder in (one, two):
        spectra().save(folder / "set.h5")
    cases(one, True)
    main(command(one), standalone_mode=False)
    started = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}
    done = subprocess.run(
        [*started, __file__, str(two)], check=False, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return one, two, done.stdout


def difference(one: Path, two: Path) -> float:
    """Largest difference of any tensor's values."""
    a, b = load_file(one), load_file(two)
    assert a.keys() == b.keys()
    return max(float((a[n].double() - b[n].double()).abs().max()) for n in a)


@pytest.mark.parametrize("case", CASES)
def test_two_processes_give_the_weights_of_one(both: tuple[Path, Path, str], case: str) -> None:
    one, two, _ = both
    assert difference(one / f"{case}.safetensors", two / f"{case}.safetensors") < 1e-5
    mine, theirs = (json.loads((folder / "losses.json").read_text())[case] for folder in (one, two))
    assert mine == pytest.approx(theirs, abs=1e-5)


def test_training_moved_every_weight(both: tuple[Path, Path, str]) -> None:
    """Weights that stayed where they began would agree for nothing."""
    with fit.torch_settings(0, 1):
        begin = build(TINY, POINTS, 3).state_dict()
    end = load_file(both[0] / "static.safetensors")
    assert all(float((begin[n].double() - end[n].double()).abs().max()) > 1e-3 for n in end)


@pytest.mark.parametrize("case", BROKEN)
def test_broken_ranks_are_noticed(both: tuple[Path, Path, str], case: str) -> None:
    """Negative control: without global statistics or the global mean, two processes do not give one's weights."""
    one, two, _ = both
    assert difference(one / "static.safetensors", two / f"{case}.safetensors") > 1e-4


def test_the_command_keeps_one_run_folder(both: tuple[Path, Path, str]) -> None:
    one, two, printed = both
    assert difference(one / "run" / "model.safetensors", two / "run" / "model.safetensors") < 1e-5
    assert sorted(p.name for p in (one / "run").iterdir()) == sorted(p.name for p in (two / "run").iterdir())
    mine, theirs = (json.loads((folder / "run" / "run.json").read_text()) for folder in (one, two))
    assert mine["config"] == theirs["config"]
    assert mine["specimens"] == theirs["specimens"]
    assert printed.count("kept, validation loss") == 1, "every rank reported"


def test_dropout_of_one_rank_is_torchs_own() -> None:
    class One:
        rows = 5

        def share(self, rows: int) -> slice:
            return slice(0, rows)

    x = torch.rand(5, 7)
    ours: Any = distributed.SharedDropout(nn.Dropout(0.3), One())  # type: ignore[arg-type]
    torch.manual_seed(4)
    wanted = nn.functional.dropout(x, 0.3)
    torch.manual_seed(4)
    assert torch.equal(ours(x), wanted)


if __name__ == "__main__":
    with distributed.joined() as place:
        cases(Path(sys.argv[1]), place.first)
        for name in BROKEN:
            net = broken(name).net
            if place.first:
                save_file(
                    {n: t.contiguous() for n, t in net.state_dict().items()},
                    Path(sys.argv[1]) / f"{name}.safetensors",
                )
        main(command(Path(sys.argv[1])), standalone_mode=False)
