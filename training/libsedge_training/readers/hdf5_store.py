"""libsedge's own HDF5 store of spectra (`libsedge.store`): always vacuum, everything explicit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from libsedge.errors import ConfigError

from ..spectra import SpectraSet
from .base import HDF5_MAGIC, Reader
from .emslibs_hdf5 import EmslibsHdf5


class Hdf5Store(Reader):
    """Claims every HDF5 file that no other reader knows, so that a damaged one is told what is wrong with it."""

    name = "libsedge-hdf5"
    title = "libsedge spectra store (HDF5)"
    medium = "vacuum"

    def sniff(self, head: bytes, path: Path) -> bool:
        return head.startswith(HDF5_MAGIC) and not EmslibsHdf5().sniff(head, path)

    def read(self, path: Path, *, medium: str | None = None, members: Sequence[Path] = ()) -> SpectraSet:
        if medium not in (None, "vacuum"):
            raise ConfigError("a store is always in vacuum", file=path, field="medium", value=medium)
        return SpectraSet.load(path)
