"""Model stores in a certain state, and what is in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from libsedge.model_store import ModelStore


def digest_of(store: ModelStore, version: str) -> str:
    return store.state().versions[version].digest


def on_trial(release: Callable[..., Path], root: Path) -> ModelStore:
    """1.0.0 before, 1.1.0 current and on trial."""
    store, _ = ModelStore.install(release("1.0.0", 1), root)
    store.activate("1.0.0")
    ModelStore.install(release("1.1.0", 2), root)
    store.activate("1.1.0")
    return store
