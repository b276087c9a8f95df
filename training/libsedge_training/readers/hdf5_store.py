"""libsedge's own HDF5 store of spectra (`libsedge.store`): always vacuum, everything explicit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from libsedge.errors import ConfigError

from ..spectra import SpectraSet
from .base import Reader


class Hdf5Store(Reader):
    name = "libsedge-hdf5"
    title = "libsedge spectra store (HDF5)"
    medium = "vacuum"

    def sniff(self, head: bytes, path: Path) -> bool:
        return head.startswith(b"\x89HDF\r\n\x1a\n")

    def read(self, path: Path, *, medium: str | None = None, members: Sequence[Path] = ()) -> SpectraSet:
        if medium not in (None, "vacuum"):
            raise ConfigError("a store is always in vacuum", file=path, field="medium", value=medium)
        return SpectraSet.load(path)
