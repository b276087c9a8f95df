"""One run of a study: a task in, a row out. Runs in any process that can read the set."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from libsedge.errors import RunError
from libsedge_native import reference
from scipy.special import softmax  # type: ignore[import-untyped]

from libsedge_training import evaluate, fit, quantise
from libsedge_training.model import SpectrumNet, fold
from libsedge_training.prepare import weights_by_distance
from libsedge_training.risk import Ranked

from . import published
from .baselines import NETS, is_baseline, probabilities
from .confidence import Answers
from .data import Data, load
from .plan import EQUAL, MORE, SCREEN, Plan, Task, spec_of

#: a net of `model.NETS` on whose points `cnn:b` works: its picture has more than all
WHOLE = "medium"


def perform(task: Task, plan: Plan, path: str, digest: str) -> dict[str, Any]:
    """The row of a task: complete in itself, JSON-able but for `answers` (`confidence.Answers`), which are there where
    the method gives probabilities. `path`: the set, as this process sees it.
    """
    begin = time.perf_counter()
    data = load(path, digest, task.net or (WHOLE if task.method == "cnn:b" else SCREEN.name))
    if task.stage == "timing":
        make = _timed
    elif task.method in NETS:
        make = _published
    else:
        make = _baseline if is_baseline(task.method) else _trained
    try:
        found = make(task, plan, data)
    except RunError as wrong:
        if wrong.field != "loss":
            raise
        found = {"status": "diverged", "why": str(wrong)}
    return {"key": task.key, **asdict(task), **found, "seconds": round(time.perf_counter() - begin, 3)}


def config(task: Task, plan: Plan, share: float = 1.0) -> fit.TrainConfig:
    """The training's configuration; seed and fold both decide the net's first weights. Its `net` is not used:
    the study's screening net is not in the registry.

    share : of its specimens' spectra that a split leaves to learn from; more epochs make up for it, so that nets take
    as many steps in every split.
    """
    name = EQUAL if task.method == MORE else task.method
    epochs = math.ceil(task.epochs / share)
    return fit.TrainConfig(
        weighting=name,
        epochs=epochs,
        patience=epochs,
        batch=plan.batch,
        lr=plan.lr,
        weight_decay=plan.weight_decay,
        augmentation=plan.augmentation,
        seed=1000 * task.seed + task.fold,
    )


def _trained(task: Task, plan: Plan, data: Data) -> dict[str, Any]:
    part = data.divided(task.split, plan.folds, task.seed, task.fold)
    split, run = part.rows, config(task, plan, part.share)
    with fit.torch_settings(run.seed, 1):
        learn, test = split["train"], split["test"]
        if task.stage == "final":
            learn = np.concatenate([learn, split["validation"]])
        trainer = fit.Trainer(run, spec_of(task.net), data.parts({**split, "train": learn}))
        for _ in range(run.epochs):
            trainer.epoch()
        logits = fit.predict(trainer.net, torch.from_numpy(data.values[test]))
        extra: dict[str, Any] = int8(trainer.net, data, split, logits.numpy())
    last = trainer.history[-1]
    if task.stage != "final":  # there the validation specimens were trained on
        extra |= {name: last[name] for name in ("validation_accuracy", "validation_loss")}
    used = trainer.fitted if trainer.dynamic is None else trainer.w.double().numpy()
    return {
        "status": "complete",
        **extra,
        "epoch_seconds": statistics.median(r["seconds"] for r in trainer.history),
        **judged(logits.double().numpy(), data, test),
        "weights": weights_by_distance(used, trainer.part.distance_m),
        "curve": [[round(r["train_loss"], 5), round(r["validation_loss"], 5)] for r in trainer.history],
    }


def int8(net: SpectrumNet, data: Data, split: Mapping[str, np.ndarray], wanted: np.ndarray) -> dict[str, Any]:
    """`int8_accuracy` on the test part and `int8_agreement` with the float logits `wanted` of the same net, by the
    reference of every kernel; quantised after training, with `quantise.choose` on the validation part.
    """
    layers = fold(net.eval())
    held = data.values[split["validation"]]
    choice = quantise.choose(
        layers, data.values[split["train"][::4]], held[:: max(1, len(held) // 48)], reference.run
    )
    test = split["test"]
    inputs = quantise.quantise_input(choice.graph, data.values[test])
    found = quantise.dequantise_logits(choice.graph, reference.run(choice.graph, inputs))
    return {
        "int8_accuracy": float((found.argmax(axis=1) == data.target[test]).mean()),
        "int8_agreement": quantise.agreement(found, wanted),
        "int8_rule": choice.rule,
    }


def _published(task: Task, plan: Plan, data: Data) -> dict[str, Any]:
    split = data.divided(task.split, plan.folds, task.seed, task.fold).rows
    seed = 1000 * task.seed + task.fold
    parts = [(data.values[rows], data.target[rows]) for rows in (split["train"], split["validation"])]
    with fit.torch_settings(seed, 1):
        name = task.method.removeprefix("cnn:")
        net, epochs = published.learn(name, *parts[0], *parts[1], len(data.classes), seed, task.epochs)
        logits = published.logits(net, data.values[split["test"]]).double().numpy()
    return {"status": "complete", "epochs_run": epochs, **judged(logits, data, split["test"])}


def _baseline(task: Task, plan: Plan, data: Data) -> dict[str, Any]:
    split = data.divided(task.split, plan.folds, task.seed, task.fold).rows
    learn = np.concatenate([split["train"], split["validation"]])
    test = split["test"]
    found, calibrated = probabilities(
        task.method.removeprefix("sk:"),
        data.values[learn],
        data.target[learn],
        data.values[test],
        len(data.classes),
        task.seed,
    )
    logits = np.log(np.maximum(found, 1e-12))
    return {"status": "complete", **judged(logits, data, test, calibrated)}


def _timed(task: Task, plan: Plan, data: Data) -> dict[str, Any]:
    """Epochs of `equal` and of the strategy in turn, in one process: whatever else the machine does hits both.

    `ratios` are the strategy's over equal's seconds, round by round; the first round warms up and is left out.
    """
    split = data.divided(task.split, plan.folds, 0, 0).rows
    run = fit.TrainConfig(
        weighting=task.method, epochs=task.epochs + 1, patience=task.epochs + 1, batch=plan.batch
    )
    ratios = []
    with fit.torch_settings(0, 1):
        pair = [
            fit.Trainer(c, spec_of(task.net), data.parts(split))
            for c in (fit.TrainConfig(**{**run.__dict__, "weighting": EQUAL}), run)
        ]
        for turn in range(run.epochs):
            order = pair if turn % 2 == 0 else pair[::-1]
            seconds = {id(trainer): trainer.epoch()["seconds"] for trainer in order}
            ratios.append(seconds[id(pair[1])] / seconds[id(pair[0])])
    return {"status": "complete", "ratios": [round(r, 4) for r in ratios[1:]]}


def judged(logits: np.ndarray, data: Data, test: np.ndarray, sure: bool = True) -> dict[str, Any]:
    """Figures of merit of the test part, and what the summary pools: predictions by specimen and distance, and the
    `answers`. sure : the softmax of the logits is meant as a probability.
    """
    truth, specimen, distance = data.target[test], data.specimen[test], data.distance_m[test]
    found = softmax(logits, axis=1)
    m = evaluate.metrics(truth, found, distance, specimen, data.classes, simulated=False)
    predicted = found.argmax(axis=1)
    mm = np.rint(distance.astype(np.float64) * 1000).astype(int)
    by_specimen = {}
    for name in np.unique(specimen).tolist():
        rows = specimen == name
        cells = []
        for d in np.unique(mm[rows]).tolist():
            here = rows & (mm == d)
            cells.append([d, np.bincount(predicted[here], minlength=len(data.classes)).tolist()])
        by_specimen[name] = {"class": int(truth[rows][0]), "predicted_at_mm": cells}
    return {
        **{key: m[key] for key in ("accuracy", "precision", "recall", "f1", "n")},
        "worst_distance": min(r["accuracy"] for r in m["per_distance"]),
        "ece": Ranked.of(found.max(axis=1), predicted == truth).ece() if sure else None,
        "specimens": by_specimen,
        **({"answers": Answers(logits.astype(np.float32), truth, specimen)} if sure else {}),
    }
