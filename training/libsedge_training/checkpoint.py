"""Checkpoints of a training run: everything that the next epoch depends on, in one file that is replaced in
one step.

`checkpoint.safetensors` holds the tensors (net, best net, optimizer, RNG states) and, in its metadata, the
JSON state (epoch, history, configuration), so that no crash can leave the two apart. `checkpoint.json` is a
readable copy of that state; resuming does not read it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from libsedge.errors import RunError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import nn

from .files import dump_json, write_atomic

TENSORS, READABLE = "checkpoint.safetensors", "checkpoint.json"


def save(
    run_dir: Path,
    net: nn.Module,
    best: Mapping[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
    rng: torch.Generator,
    state: Mapping[str, Any],
    weighting: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Replace the checkpoint in `run_dir`; `state` is JSON-able, `weighting` is a dynamic strategy's state."""
    tensors = {f"net.{name}": t for name, t in net.state_dict().items()}
    tensors |= {f"best.{name}": t for name, t in best.items()}
    for number, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{slot}": t for slot, t in slots.items()}
    tensors |= {"rng.data": rng.get_state(), "rng.torch": torch.get_rng_state()}
    tensors |= {f"weighting.{name}": t for name, t in (weighting or {}).items()}
    text = dump_json(state)
    whole = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    write_atomic(run_dir / TENSORS, serialise(whole, metadata={"state": text.decode("utf-8")}))
    write_atomic(run_dir / READABLE, text)


def load(
    run_dir: Path,
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    rng: torch.Generator,
    weighting: Callable[[dict[str, torch.Tensor]], None] = lambda state: None,
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Put the checkpoint's states into `net`, `optimizer`, `rng` and torch's global RNG; `weighting` takes
    that of a dynamic strategy.

    Returns (tensors of the best net, state). RunError where the file is missing, damaged or of another net.
    """
    path = run_dir / TENSORS
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        state: dict[str, Any] = json.loads(metadata["state"])
        net.load_state_dict(_part(tensors, "net."))
        rng.set_state(tensors["rng.data"])
        torch.set_rng_state(tensors["rng.torch"])
        slots: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in _part(tensors, "optimizer.").items():
            number, _, slot = name.partition(".")
            slots.setdefault(int(number), {})[slot] = tensor
        _fill(optimizer, slots)
        weighting(_part(tensors, "weighting."))
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError, IndexError) as wrong:
        raise RunError(f"cannot be resumed from: {wrong}", file=path) from wrong
    return _part(tensors, "best."), state


def _part(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(prefix)}


def _fill(optimizer: torch.optim.Optimizer, slots: Mapping[int, Mapping[str, torch.Tensor]]) -> None:
    """Moments take the memory layout of their parameter again, as the optimizer made them (bit-identical
    steps).
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for number, values in slots.items():
        like = parameters[number]
        optimizer.state[like] = {
            slot: torch.empty_like(like).copy_(t) if t.shape == like.shape else t.clone()
            for slot, t in values.items()
        }
