"""A run folder: what run.json says, whether an earlier run may be continued, and a finished run read back."""

from __future__ import annotations

import json
import platform
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from libsedge import __version__
from libsedge.errors import ConfigError, ModelError, RunError
from libsedge.preprocess import PreprocessConfig

from . import splits
from .model import NetSpec, SpectrumNet, build, load_weights, net_spec
from .prepare import data_digest, segments_for
from .qat import Rounding
from .spectra import SpectraSet
from .train_config import TrainConfig

RUN_FORMAT = "libsedge-run"
RUN_VERSION = 1


def describe(
    data: SpectraSet, config: TrainConfig, data_file: str | None, steps: PreprocessConfig | None = None
) -> dict[str, Any]:
    """run.json of a run that begins; ``steps`` None = the default grid."""
    spec = net_spec(config.net)
    steps = steps or segments_for(spec)
    classes = list(splits.specimens_by_class(data.label.tolist(), data.specimen.tolist()))
    return {
        "format": RUN_FORMAT,
        "version": RUN_VERSION,
        "status": "running",
        "simulated": bool(data.simulated),
        "config": config.to_json(),
        "net": spec.to_json(),
        "channels": steps.points,
        "classes": classes,
        "preprocess": steps.to_json(),
        "data": {
            "digest": data_digest(data),
            "file": data_file,
            "spectra": len(data),
            "quantity": data.quantity,
            "instrument": data.instrument,
            "source": data.source,
        },
        "threads": None,
        "versions": {
            "libsedge": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }


def existing(folder: Path, run: dict[str, Any], resume: bool) -> dict[str, Any] | None:
    """What an earlier call left in `folder`, None if nothing; RunError where it must not be continued."""
    path = folder / "run.json"
    if not path.exists():
        if folder.exists() and any(folder.iterdir()):
            raise RunError("the folder is not empty and holds no run; name a new one", file=folder)
        return None
    before = read_run(folder)
    if not resume:
        raise RunError("holds a run already; continue it with --resume or name a new folder", file=folder)
    if before["status"] == "diverged":
        raise RunError("the run diverged and would do so again; start a new one", file=path)
    # an option that is newer than the run has its default in it
    before["config"] = TrainConfig.from_json(before.get("config", {})).to_json()
    for name in ("config", "net", "preprocess", "classes"):
        if before.get(name) != run[name]:
            mine, theirs = run[name], before.get(name)
            if isinstance(mine, dict) and isinstance(theirs, dict):
                key = next(k for k in {**mine, **theirs} if mine.get(k) != theirs.get(k))
                name, mine, theirs = f"{name}.{key}", mine.get(key), theirs.get(key)
            raise RunError(f"the run was started with {theirs!r}", file=path, field=name, value=mine)
    if before["data"]["digest"] != run["data"]["digest"]:
        raise RunError("the run was started with other spectra", file=path, field="data.digest")
    return before


def read_run(run_dir: str | PathLike[str]) -> dict[str, Any]:
    """The contents of RUN/run.json; RunError where it is missing, damaged or of another version."""
    path = Path(run_dir) / "run.json"
    try:
        run = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise RunError("no training run here (run.json is missing)", file=run_dir) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as wrong:
        raise RunError(f"cannot be read: {wrong}", file=path) from wrong
    if not isinstance(run, dict) or run.get("format") != RUN_FORMAT:
        raise RunError("not a training run", file=path, field="format")
    if run.get("version") != RUN_VERSION:
        raise RunError(
            f"this libsedge reads version {RUN_VERSION}", file=path, field="version", value=run["version"]
        )
    return run


def load_run(run_dir: str | PathLike[str]) -> tuple[SpectrumNet, dict[str, Any]]:
    """(net with the best epoch's weights, and with its export's rounding where it was trained so, in eval mode;
    contents of run.json) of a finished run.

    Raises RunError where it is missing, unfinished, diverged or damaged, or its weights are of another net.
    """
    path = Path(run_dir) / "run.json"
    run = read_run(run_dir)
    status = run.get("status")
    if status != "complete":
        why = (
            "the run diverged" if status == "diverged" else "the run is unfinished; continue it with --resume"
        )
        raise RunError(why, file=path, field="status", value=status)
    try:
        net = build(NetSpec.from_json(run["net"]), int(run["channels"]), len(run["classes"]))
        if "quantisation" in run:
            net.rounding = Rounding.from_json(run["quantisation"], net.spec)
    except (KeyError, TypeError, ValueError, ConfigError, ModelError) as wrong:
        raise RunError(f"no usable network description: {wrong}", file=path) from wrong
    return load_weights(net, Path(run_dir) / "model.safetensors").eval(), run
