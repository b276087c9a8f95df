"""Energy as the kernel counts it (Linux' powercap, RAPL on x86): of a whole package, with all that runs on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path("/sys/class/powercap")


def packages(root: Path = ROOT) -> list[Path]:
    """The zones of whole packages; `core`, `dram` and `psys` are parts of one, or more than one."""
    return [
        zone
        for zone in sorted(root.glob("intel-rapl:*"))  # that is its name on AMD too
        if (zone / "name").is_file() and (zone / "name").read_text().startswith("package")
    ]


def measure(work: Callable[[], object], count: int, root: Path = ROOT) -> dict[str, Any]:
    """Microjoules a call over `count` calls: `uj_per_call` and the `zones` summed, or `why` there is no figure.

    The counter is of the whole package: quote it from an idle machine only. It goes round; a round within the calls
    is seen, several are not.
    """
    zones = packages(root)
    if not zones:
        return {"uj_per_call": None, "why": f"this kernel shows no energy counter under {root}"}
    try:
        before = [int((zone / "energy_uj").read_text()) for zone in zones]
        for _ in range(count):
            work()
        spent = 0
        for zone, start in zip(zones, before, strict=True):
            used = int((zone / "energy_uj").read_text()) - start
            spent += used if used >= 0 else used + int((zone / "max_energy_range_uj").read_text())
    except (OSError, ValueError) as error:
        return {"uj_per_call": None, "why": f"the energy counter cannot be read: {error}"}
    if spent == 0:
        return {"uj_per_call": None, "why": "the counter did not move: too few calls"}
    return {"uj_per_call": spent / count, "zones": [(zone / "name").read_text().strip() for zone in zones]}
