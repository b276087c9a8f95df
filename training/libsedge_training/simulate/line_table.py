"""The strongest emission lines of each element, for the board (live page, `simulated:`), which has no libskit.

    python -m libsedge_training.simulate.line_table -o edge/libsedge/lines.json

NIST ASD lines as libskit bundles them (vacuum wavelengths). Relative strength of a line in local thermodynamic
equilibrium, optically thin, at the reference state of `PlasmaConfig`:

    I = n_z / n * g_k A_ki / lambda / U_z(T) * exp(-E_k / kT)         n_z / n: ion stage z by Saha's equation

Lines closer than `MERGE_NM` count as one, at the place of the stronger one.
"""

from __future__ import annotations

import csv
import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import click

from libsedge_training.simulate.plasma import BOLTZMANN, PLANCK, PlasmaConfig, libskit_data, libskit_version

#: those of rocks, soils, ores, and the metals that are sorted; not Zr, whose levels the lines of libskit 0.2 lack
ELEMENTS = (
    *("H", "Li", "C", "O", "Na", "Mg", "Al", "Si", "P", "S", "K", "Ca", "Ti", "V", "Cr", "Mn", "Fe", "Co"),
    *("Ni", "Cu", "Zn", "Sr", "Mo", "Ag", "Sn", "Ba", "Pb"),
)
RANGE_NM = (200.0, 1000.0)
LINES = 12  # an element at most
FLOOR = 0.01  # of the element's strongest line
MERGE_NM = 0.15
ROMAN = {1: "I", 2: "II"}
_EV = 1.602176634e-19
_ELECTRON = 9.1093837015e-31


def _levels(folder: Path) -> dict[str, list[tuple[float, float]]]:
    table: dict[str, list[tuple[float, float]]] = defaultdict(list)
    with open(folder / "levels_processed.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            table[row["Sp. Name"]].append((float(row["g"]), float(row["Level (eV)"])))
    return table


def stage_weights(
    element: str,
    levels: dict[str, list[tuple[float, float]]],
    ionisation_ev: dict[str, float],
    config: PlasmaConfig,
) -> dict[int, float]:
    """n_z / (n U_z) of the neutral (1) and the singly ionised (2) stage."""
    kt = BOLTZMANN * config.temperature_k / _EV
    sums = {
        stage: sum(g * math.exp(-e / kt) for g, e in levels[f"{element} {ROMAN[stage]}"]) or 1.0
        for stage in ROMAN
    }
    de_broglie = PLANCK / math.sqrt(2 * math.pi * _ELECTRON * BOLTZMANN * config.temperature_k)
    ratio = (2 / config.density_m3 / de_broglie**3) * (sums[2] / sums[1])
    ratio *= math.exp(-ionisation_ev[f"{element} I"] / kt)
    return {1: 1 / (1 + ratio) / sums[1], 2: ratio / (1 + ratio) / sums[2]}


def _strongest(lines: list[tuple[float, float, int]]) -> list[tuple[float, float, int]]:
    """The strongest of (strength, wavelength, stage), close ones merged, by wavelength."""
    kept: list[tuple[float, float, int]] = []
    for strength, wavelength, stage in sorted(lines, key=lambda line: (-line[0], line[1])):
        near = next((i for i, other in enumerate(kept) if abs(other[1] - wavelength) < MERGE_NM), None)
        if near is not None:
            kept[near] = (kept[near][0] + strength, *kept[near][1:])
        elif len(kept) < LINES:
            kept.append((strength, wavelength, stage))
    top = max((line[0] for line in kept), default=0.0)
    return sorted((line for line in kept if line[0] >= FLOOR * top), key=lambda line: line[1])


def line_table() -> dict[str, Any]:
    """The document of lines.json."""
    config = PlasmaConfig()
    folder = libskit_data()
    levels = _levels(folder)
    with open(folder / "ionization_energies_processed.csv", encoding="utf-8", newline="") as file:
        energies = {row["Sp. Name"]: float(row["Ionization Energy (b) (eV)"]) for row in csv.DictReader(file)}
    kt = BOLTZMANN * config.temperature_k / _EV
    weights = {element: stage_weights(element, levels, energies, config) for element in ELEMENTS}
    found: dict[str, list[tuple[float, float, int]]] = defaultdict(list)
    with open(folder / "nist_asd_lines_vacuum.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            element, values = row["element"], [row[k] for k in ("Aki(s^-1)", "Ek(eV)", "g_k", "sp_num")]
            position = row["ritz_wl_vac(nm)"] or row["obs_wl_vac(nm)"]
            if element not in weights or not position or not all(values) or int(row["sp_num"]) not in ROMAN:
                continue
            wavelength, stage = float(position), int(row["sp_num"])
            if not RANGE_NM[0] <= wavelength <= RANGE_NM[1]:
                continue
            rate, upper, degeneracy = (float(value) for value in values[:3])
            strength = weights[element][stage] * degeneracy * rate * math.exp(-upper / kt) / wavelength
            found[element].append((strength, wavelength, stage))
    document: dict[str, Any] = {
        "source": f"NIST Atomic Spectra Database, as libskit {libskit_version()} bundles it",
        "made_by": "python -m libsedge_training.simulate.line_table",
        "state": f"LTE, {config.temperature_k:.0f} K, {config.density_m3:.1e} electrons per m^3, optically thin",
        "wavelengths": "nm in vacuum",
        "columns": ["wavelength", "stage", "strength over the element's strongest"],
        "elements": {},
    }
    for element in ELEMENTS:
        lines = _strongest(found[element])
        top = max(line[0] for line in lines)
        document["elements"][element] = [
            [round(wavelength, 3), ROMAN[stage], float(f"{strength / top:.2g}")]
            for strength, wavelength, stage in lines
        ]
    return document


def as_text(document: dict[str, Any]) -> str:
    """JSON with one element a line."""
    lines = [f"  {json.dumps(element)}: {json.dumps(rows)}" for element, rows in document["elements"].items()]
    head = {key: value for key, value in document.items() if key != "elements"}
    return json.dumps(head, indent=1)[:-2] + ',\n "elements": {\n' + ",\n".join(lines) + "\n }\n}\n"


@click.command()
@click.option("-o", "--out", required=True, type=click.Path(), help="The file to write.")
def main(out: str) -> None:
    """Write the table of the strongest lines of each element."""
    Path(out).write_text(as_text(line_table()), encoding="utf-8")


if __name__ == "__main__":
    main()
