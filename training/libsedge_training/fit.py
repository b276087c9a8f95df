"""A training run: the loop of `trainer.py` with a run folder around it.

The spectra are preprocessed once (`libsedge.preprocess`, the code of the board). The epoch with the highest balanced
accuracy on the validation specimens wins, of equals the one with the lower loss; they are in neither the training nor
the test part. (Not the lowest loss: on specimens that were never seen, the loss grows with the net's confidence while
more of them come out right.) Where the last epochs train with the int8 export's rounding (`TrainConfig.qat`), one of
these wins, and patience counts in them alone.

For one seed, one number of threads and one machine, the run is deterministic, also across an interruption:
every epoch ends with a checkpoint of everything that the next one depends on.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from libsedge.errors import DatasetError, RunError
from libsedge.preprocess import PreprocessConfig
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from . import checkpoint, distributed, splits, weighting
from .files import dump_json, write_atomic
from .model import net_spec, save_weights
from .prepare import preprocessed, weights_by_distance
from .qat import Rounding
from .run_folder import describe, existing
from .spectra import SpectraSet
from .train_config import TrainConfig
from .trainer import Parts, Trainer, predict, torch_settings, weighted_loss

__all__ = ["Loop", "Parts", "TrainConfig", "Trainer", "predict", "torch_settings", "train", "weighted_loss"]


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
        self._say_empty(
            np.concatenate([rows, held]), np.concatenate([values.any(axis=1), held_values.any(axis=1)])
        )
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

    def _say_empty(self, rows: np.ndarray, signal: np.ndarray) -> None:
        """Say which spectra hold nothing for the net: zero, negative or beyond 1e20 at every point of its grid.

        rows : of the set, [n]; signal : bool [n]. DatasetError where no spectrum holds anything.
        """
        if not signal.any():
            raise DatasetError(
                "no spectrum to learn from has a positive signal on the net's grid", field="counts"
            )
        empty = rows[~signal]
        if empty.size and self.console is not None:
            self.console.print(
                f"{empty.size} of {rows.size} spectra to learn from have no positive signal on the net's grid "
                f"(first: row {empty.min()}); they stay in the set",
                highlight=False,
                soft_wrap=True,
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
            if "quantisation" in state:
                self.best_rounding = Rounding.from_json(state["quantisation"], self.net.spec)
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
        state = {
            "epoch": number,
            "config": self.run["config"],
            "history": self.history,
            **self._quantisation(),
        }
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

    def _quantisation(self) -> dict[str, Any]:
        """What the export needs of a kept net that was trained with its rounding."""
        return {} if self.best_rounding is None else {"quantisation": self.best_rounding.to_json()}

    def _stalled(self) -> bool:
        if self.config.qat and len(self.history) <= self.config.epochs - self.config.qat:
            return False
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
        self.net.rounding = self.best_rounding
        save_weights(self.net, self.folder / "model.safetensors")
        kept = self._best_record()
        best = {
            "epoch": kept["epoch"],
            "loss": kept["validation_loss"],
            "accuracy": kept["validation_accuracy"],
        }
        self.run |= {"status": "complete", "epochs_run": len(self.history), "best": best}
        self.run |= self._quantisation()
        self.run["weights"] = self._weight_rows()
        write_atomic(self.folder / "run.json", dump_json(self.run))
        return self.run
