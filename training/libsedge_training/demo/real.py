"""Real instrument files through the demo's model: every shot decided or refused with a reason, and all accounted.

No file here is labelled for our classes. Whatever class comes out is reported as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from libsedge.bundle import Bundle
from libsedge.classifier import Classifier, Decision
from libsedge.commands.classify import decide
from libsedge.errors import SedgeError
from libsedge.sources.files import open_spectra
from libsedge.voting import Vote, vote

#: Distances that a file's own header does not give but its name does: millimetres, or the ChemCam laboratory's 3 m.
_NAMED_MM = re.compile(r"_(\d{3,5})mm_")
_NAMED = {"chemcam_bhvo2_": 3.0}


@dataclass(frozen=True)
class RealFile:
    """One file's result; `why` is set where no reader knows the file, and the rest is empty then."""

    name: str
    specimen: str = ""
    distance_m: float | None = None
    distance_from: str = ""
    decisions: list[Decision] = field(default_factory=list)
    vote: Vote | None = None
    wavelength: np.ndarray | None = None
    mean: np.ndarray | None = None
    why: str | None = None

    def row(self) -> dict[str, Any]:
        """What report.json says about this file."""
        assert self.vote is not None
        refused = [decision.reason for decision in self.decisions if not decision.accepted]
        return {
            "file": self.name,
            "specimen": self.specimen,
            "distance_m": self.distance_m,
            "distance_from": self.distance_from,
            "shots": len(self.decisions),
            "accepted": self.vote.accepted,
            "not_accepted": {str(reason): refused.count(reason) for reason in sorted(set(map(str, refused)))},
            "vote": self.vote.label,
            "labels": [decision.label for decision in self.decisions],
            "confidence": [decision.confidence for decision in self.decisions],
            "accepted_shots": [decision.accepted for decision in self.decisions],
        }


def distance_from_name(name: str) -> float | None:
    """Stand-off distance in metres that a file's name states, None where it states none."""
    if found := _NAMED_MM.search(name):
        return int(found.group(1)) / 1000.0
    return next((metres for start, metres in _NAMED.items() if name.startswith(start)), None)


def classify_folder(bundle: Bundle, folder: Path) -> Iterator[RealFile]:
    """Every file below `folder`, in the order of the paths; a file that no reader knows comes with its reason."""
    if not folder.is_dir():
        raise SedgeError("is no folder", field="real data", file=folder)
    classifier = Classifier(bundle)
    seen: dict[int, str] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix not in {".md"}:
            yield _classify(classifier, path, str(path.relative_to(folder)), seen)


def _classify(classifier: Classifier, path: Path, name: str, seen: dict[int, str]) -> RealFile:
    try:
        spectra = open_spectra(path)
    except SedgeError as error:
        return RealFile(name, why=error.why)
    try:
        first = seen.setdefault(spectra.stream_id(), name)
        if first != name:  # one measurement in several files, read whole from the first of them
            return RealFile(name, why=f"belongs to {first}")
        decisions = list(decide(classifier, spectra, None))
        inside = np.asarray(spectra.distance_m, dtype=np.float64)
        known = inside[np.isfinite(inside)]
        stated = distance_from_name(path.name)
        distance = float(known.mean()) if known.size else stated
        return RealFile(
            name=name,
            specimen=", ".join(sorted(set(map(str, spectra.specimen)) - {""})),
            distance_m=distance,
            distance_from="file" if known.size else "file name" if stated is not None else "",
            decisions=decisions,
            vote=vote(decisions),
            wavelength=spectra.axis.wavelength_nm,
            mean=np.nanmean(np.asarray(spectra.rows(slice(0, len(spectra))), dtype=np.float64), axis=0),
        )
    except SedgeError as error:
        return RealFile(name, why=error.why)
    finally:
        spectra.close()
