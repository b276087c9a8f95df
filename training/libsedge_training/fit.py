"""The one training loop.

The spectra are preprocessed once (`libsedge.preprocess`, the code of the board), varied anew in every epoch
(`augment.py`), and the loss of a batch is `mean(w_i * CE_i)` with the weights of a strategy (`weighting/`).
The epoch with the highest balanced accuracy on the validation specimens wins, of equals the one with the
lower loss; they are in neither the training nor the test part. (Not the lowest loss: on specimens that were
never seen, the loss grows with the net's confidence while more of them come out right.)

For one seed, one number of threads and one machine, the run is deterministic, also across an interruption:
every epoch ends with a checkpoint of everything that the next one depends on.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from libsedge.errors import ConfigError, RunError
from libsedge.preprocess import PreprocessConfig
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch import nn

from . import checkpoint, distributed, splits, weighting
from .augment import Augmentation, Augmenter
from .files import dump_json, write_atomic
from .model import NetSpec, SpectrumNet, build, net_spec, save_weights
from .prepare import preprocessed, weights_by_distance
from .run_folder import describe, existing
from .spectra import SpectraSet
from .weighting.dynamic import Batch

_BLOCK = 256


@dataclass(frozen=True)
class TrainConfig:
    """Everything a run depends on besides the data. Adam with cosine decay of `lr` to 0 over all steps; L2
    `weight_decay`.
    """

    net: str = "m"
    weighting: str = "equal"
    epochs: int = 40
    patience: int = 8
    batch: int = 64
    lr: float = 1e-3
    weight_decay: float = 1e-4
    seed: int = 0
    test_specimens: int = 9
    validation_specimens: int | None = None
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        for name, low in (("epochs", 1), ("patience", 1), ("batch", 2), ("seed", 0)):
            if getattr(self, name) < low:
                raise ConfigError(f"must be at least {low}", field=name, value=getattr(self, name))
        if not 0 < self.lr < math.inf:
            raise ConfigError("must be positive", field="lr", value=self.lr)
        if not 0 <= self.weight_decay < math.inf:
            raise ConfigError("must not be negative", field="weight_decay", value=self.weight_decay)
        net_spec(self.net)
        weighting.strategy(self.weighting)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TrainConfig:
        """Inverse of `to_json`; ConfigError names what is wrong."""
        try:
            varied = dict(data["augmentation"])
            varied["gaps"] = tuple((float(low), float(high)) for low, high in varied["gaps"])
            return cls(**{**data, "augmentation": Augmentation(**varied)})
        except (KeyError, TypeError, ValueError) as wrong:
            raise ConfigError(f"not a training configuration: {wrong}", field="config") from wrong

    def to_json(self) -> dict[str, Any]:
        """JSON-able dict, tuples as lists; the weighting by its canonical name."""
        named = replace(self, weighting=weighting.strategy(self.weighting).name)
        return dict(json.loads(json.dumps(asdict(named))))


def weighted_loss(
    logits: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor,
    mean: Callable[[torch.Tensor], torch.Tensor] = torch.mean,
) -> torch.Tensor:
    """mean(w_i * CE_i) over the batch: divided by the number of spectra, not by the sum of the weights."""
    return mean(weight * nn.functional.cross_entropy(logits, target, reduction="none"))


def train(
    data: SpectraSet,
    run_dir: str | PathLike[str],
    config: TrainConfig | None = None,
    *,
    resume: bool = False,
    threads: int | None = None,
    data_file: str | None = None,
    steps: PreprocessConfig | None = None,
    console: Console | None = None,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
    loop: type[Loop] | None = None,
) -> dict[str, Any]:
    """Train a net on `data`, fill the run folder (docs/architecture.md, "Run folder") and return run.json's
    contents.

    Parameters
    ----------
    data : labelled spectra with specimens.
    run_dir : made where missing; refused (RunError) where it holds a run, unless `resume`.
    resume : continue after the last whole epoch; a finished run is returned as it is. RunError where data or
        configuration differ, naming what.
    threads : of torch; None = torch's own choice. Results are bit-identical for the same number only.
    data_file : how to find the data again, relative to `run_dir`; written into run.json.
    steps : the model's grid and preprocessing; None = the default grid with the net's number of points.
    console : shows progress; None = silent. on_epoch : called with each epoch's record after its checkpoint.
    loop : a `Loop` with another split; None = `Loop`.

    `best` of the result is {epoch, loss, accuracy} of the validation part at the kept epoch (unweighted).
    Raises DatasetError (splits, weights), ConfigError, RunError (a loss not finite: the run is "diverged").
    """
    config = config or TrainConfig()
    folder = Path(run_dir)
    run = describe(data, config, data_file, steps)
    before = existing(folder, run, resume)
    if before is not None and before["status"] == "complete":
        return before
    with torch_settings(config.seed, threads), distributed.ranks().folder(folder) as own:
        return (loop or Loop)(data, own, config, run, console, on_epoch).run_all(resume)


@contextmanager
def torch_settings(seed: int, threads: int | None) -> Iterator[None]:
    """Seeded, deterministic, `threads` threads; everything as before afterwards."""
    if threads is not None and threads < 1:
        raise ConfigError("must be at least 1", field="threads", value=threads)
    old_threads, old_mode = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True)
        if threads is not None:
            torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(old_mode)
            torch.set_num_threads(old_threads)


@dataclass(frozen=True, eq=False)
class Parts:
    """Spectra preprocessed and split, ready to be trained on.

    target : class numbers of `train`, int64 [n]. held, held_target : the validation part, float32 [m, points]
    and int64 [m]. grid_mask : bool [points], the points that the instrument sees. classes : how many.
    """

    train: weighting.TrainPart
    target: np.ndarray
    held: np.ndarray
    held_target: np.ndarray
    steps: PreprocessConfig
    grid_mask: np.ndarray
    classes: int


class Trainer:
    """Epochs over `Parts`, in memory; `train` puts a run folder around it.

    Call it under `torch_settings`. `history` holds the epochs' records, `best` the tensors of the epoch with
    the best validation figures. Raises RunError where a loss is not finite.
    """

    def __init__(self, config: TrainConfig, spec: NetSpec, parts: Parts) -> None:
        self.config, self.part, self.classes = config, parts.train, parts.classes
        strategy = weighting.strategy(config.weighting)
        self.x, self.y = torch.from_numpy(parts.train.values), torch.from_numpy(parts.target)
        self.fitted = strategy.fit(parts.train)
        self.w = torch.from_numpy(self.fitted.astype(np.float32))
        self.dynamic = strategy.start(parts.train, config.seed)
        self.held_x, self.held_y = torch.from_numpy(parts.held), torch.from_numpy(parts.held_target)
        self.augment = Augmenter(config.augmentation, parts.steps.segments, parts.grid_mask)
        self.rng = torch.Generator().manual_seed(config.seed)
        self.net: SpectrumNet = build(spec, parts.steps.points, parts.classes)
        self.ranks = distributed.ranks()
        self.forward = self.ranks.wrap(self.net)
        self.features = torch.empty(0)
        if self.dynamic is not None:
            self.net.dense.register_forward_pre_hook(self._keep_features)
        self.optimizer = torch.optim.Adam(
            self.net.parameters(), lr=config.lr, weight_decay=config.weight_decay
        )
        self.steps_per_epoch = math.ceil(len(self.x) / config.batch)
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, torch.Tensor] = {}

    def _keep_features(self, layer: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        self.features = inputs[0].detach()

    def epoch(self, advance: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """One more epoch and its validation; `advance` is called after every step. Returns its record."""
        number, total = len(self.history) + 1, self.config.epochs
        begin = time.perf_counter()
        self.net.train()
        order = torch.randperm(len(self.x), generator=self.rng)
        summed = 0.0
        for step, rows in enumerate(order.split(self.config.batch)):
            done = (number - 1) * self.steps_per_epoch + step
            lr = self.config.lr * 0.5 * (1 + math.cos(math.pi * done / (self.steps_per_epoch * total)))
            for group in self.optimizer.param_groups:
                group["lr"] = lr
            x = self.x[rows]
            if self.dynamic is not None:
                x = self.dynamic.mix(x, rows, self.rng)
            mine = self.ranks.share(len(rows))
            logits = self.forward(self.augment(x, self.rng)[mine])
            if self.dynamic is not None:
                self.w[rows] = self._asked(rows, self.ranks.whole(logits.detach(), len(rows)), number)
            loss = weighted_loss(logits, self.y[rows][mine], self.w[rows][mine], self.ranks.mean)
            value = self.ranks.total(loss)
            if not math.isfinite(value):
                self._diverged(number, value)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            summed += value * len(rows)
            advance()
        if self.dynamic is not None:
            self.dynamic.end_epoch(number)
        record: dict[str, Any] = {"epoch": number, "train_loss": summed / len(self.x), "lr": lr}
        record |= self._validate(number)
        record["seconds"] = round(time.perf_counter() - begin, 3)
        self.history.append(record)
        if self._best_record() is record:
            self.best = {name: t.detach().clone() for name, t in self.net.state_dict().items()}
        return record

    def _asked(self, rows: torch.Tensor, logits: torch.Tensor, number: int) -> torch.Tensor:
        """The dynamic strategy's weights for this step; all 1 where a loss is not finite."""
        assert self.dynamic
        losses = nn.functional.cross_entropy(logits, self.y[rows], reduction="none")
        if not bool(torch.isfinite(losses).all()):
            return torch.ones_like(losses)
        last = self.net.dense
        batch = Batch(
            rows,
            self.y[rows],
            losses,
            logits,
            self.ranks.whole(self.features, len(rows)),
            last.weight.detach(),
            last.bias.detach(),
            number,
        )
        return self.dynamic.update(batch)

    def _validate(self, number: int) -> dict[str, float]:
        """Unweighted mean cross-entropy and balanced accuracy (mean recall of the classes) of the
        validation part.
        """
        logits = predict(self.net, self.held_x)
        loss = float(nn.functional.cross_entropy(logits.double(), self.held_y))
        if not math.isfinite(loss):
            self._diverged(number, loss)
        hit = (logits.argmax(1) == self.held_y).double()
        recalls = [float(hit[self.held_y == c].mean()) for c in range(self.classes)]
        return {"validation_loss": loss, "validation_accuracy": sum(recalls) / len(recalls)}

    def _best_record(self) -> dict[str, Any]:
        return max(self.history, key=lambda r: (r["validation_accuracy"], -r["validation_loss"], -r["epoch"]))

    def _diverged(self, epoch: int, loss: float) -> None:
        raise RunError(f"the loss became {loss} in epoch {epoch}; try a smaller --lr", field="loss")

    def state(self) -> dict[str, torch.Tensor]:
        """What a checkpoint holds of a dynamic strategy; {} for a static one."""
        if self.dynamic is None:
            return {}
        return {"weights": self.w} | {f"own.{name}": t for name, t in self.dynamic.state().items()}

    def load(self, state: dict[str, torch.Tensor]) -> None:
        """Inverse of `state`; KeyError, ValueError or RuntimeError where it is another strategy's."""
        if self.dynamic is not None:
            self.w.copy_(state["weights"])
            self.dynamic.load({name[4:]: t for name, t in state.items() if name.startswith("own.")})


class Loop(Trainer):
    """A `Trainer` with a run folder; `run_all` goes through the epochs."""

    def __init__(
        self,
        data: SpectraSet,
        folder: Path,
        config: TrainConfig,
        run: dict[str, Any],
        console: Console | None,
        on_epoch: Callable[[dict[str, Any]], None] | None,
    ) -> None:
        self.folder, self.run, self.on_epoch, self.console = folder, run, on_epoch, console
        labels, specimens = data.label.tolist(), data.specimen.tolist()
        split = self._split(data, config)
        run["specimens"] = {name: sorted({specimens[i] for i in rows}) for name, rows in split.items()}
        run["spectra"] = {name: len(rows) for name, rows in split.items()}
        steps = PreprocessConfig.from_json(run["preprocess"])
        # Only these two parts are ever preprocessed here: the test part cannot leak into the run.
        rows, held = split["train"], split["validation"]
        values, grid_mask = preprocessed(data.select(rows), steps)
        held_values = preprocessed(data.select(held), steps)[0]
        number = {name: i for i, name in enumerate(run["classes"])}
        target = np.array([number[label] for label in labels], dtype=np.int64)
        columns = (values, data.label[rows], data.specimen[rows], data.distance_m[rows])
        part = weighting.TrainPart(*columns, steps.segments)
        parts = Parts(part, target[rows], held_values, target[held], steps, grid_mask, len(run["classes"]))
        super().__init__(config, net_spec(config.net), parts)
        run["weights"] = self._weight_rows()

    def _split(self, data: SpectraSet, config: TrainConfig) -> splits.Split:
        """Rows of the parts; called first."""
        return splits.split_by_specimen(
            data.label.tolist(),
            data.specimen.tolist(),
            config.seed,
            config.test_specimens,
            config.validation_specimens,
        )

    def _weight_rows(self) -> list[dict[str, Any]]:
        """The weights by distance: the static ones, or those that a dynamic strategy gave last."""
        given = self.fitted if self.dynamic is None else self.w.double().numpy()
        return weights_by_distance(given, self.part.distance_m)

    def run_all(self, resume: bool) -> dict[str, Any]:
        from torch.utils.tensorboard import SummaryWriter

        if resume and (self.folder / checkpoint.TENSORS).exists():
            self.best, state = checkpoint.load(self.folder, self.net, self.optimizer, self.rng, self.load)
            self.history = state["history"]
        self.folder.mkdir(parents=True, exist_ok=True)
        self.run["threads"] = torch.get_num_threads()
        write_atomic(self.folder / "run.json", dump_json(self.run))
        self._write_history()
        board = SummaryWriter(str(self.folder / "tensorboard"), purge_step=len(self.history) + 1)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(
            *columns, console=self.console, disable=self.console is None, transient=True
        ) as progress:
            try:
                while len(self.history) < self.config.epochs and not self._stalled():
                    record = self._epoch(progress)
                    for name in ("train_loss", "validation_loss", "validation_accuracy", "lr"):
                        board.add_scalar(name, record[name], record["epoch"])
                    if self.on_epoch is not None:
                        self.on_epoch(record)
            finally:
                board.close()
        return self._finish()

    def _epoch(self, progress: Progress) -> dict[str, Any]:
        number, total = len(self.history) + 1, self.config.epochs
        task = progress.add_task(f"epoch {number}/{total}", total=self.steps_per_epoch)
        record = self.epoch(lambda: progress.advance(task))
        state = {"epoch": number, "config": self.run["config"], "history": self.history}
        checkpoint.save(self.folder, self.net, self.best, self.optimizer, self.rng, state, self.state())
        self._write_history()
        progress.remove_task(task)
        if self.console is not None:
            self.console.print(
                f"epoch {number}/{total}: loss {record['train_loss']:.4f}, "
                f"validation loss {record['validation_loss']:.4f}, "
                f"balanced accuracy {record['validation_accuracy']:.3f}, {record['seconds']:.1f} s",
                soft_wrap=True,
            )
        return record

    def _stalled(self) -> bool:
        return bool(self.history) and len(self.history) - self._best_record()["epoch"] >= self.config.patience

    def _diverged(self, epoch: int, loss: float) -> None:
        self.run |= {"status": "diverged", "diverged_in_epoch": epoch}
        write_atomic(self.folder / "run.json", dump_json(self.run))
        raise RunError(
            f"the loss became {loss} in epoch {epoch}; try a smaller --lr", file=self.folder, field="loss"
        )

    def _write_history(self) -> None:
        lines = "".join(json.dumps(record) + "\n" for record in self.history)
        write_atomic(self.folder / "history.jsonl", lines.encode())

    def _finish(self) -> dict[str, Any]:
        self.net.load_state_dict(self.best)
        save_weights(self.net, self.folder / "model.safetensors")
        kept = self._best_record()
        best = {
            "epoch": kept["epoch"],
            "loss": kept["validation_loss"],
            "accuracy": kept["validation_accuracy"],
        }
        self.run |= {"status": "complete", "epochs_run": len(self.history), "best": best}
        self.run["weights"] = self._weight_rows()
        write_atomic(self.folder / "run.json", dump_json(self.run))
        return self.run


def predict(net: SpectrumNet, x: torch.Tensor) -> torch.Tensor:
    """Logits float32 [n, classes] in eval mode for preprocessed spectra float32 [n, points]; the mode is
    put back.
    """
    was = net.training
    net.eval()
    with torch.no_grad():
        logits = torch.cat([net(x[start : start + _BLOCK]) for start in range(0, len(x), _BLOCK)])
    net.train(was)
    return logits
