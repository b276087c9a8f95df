"""The board's table of lines is what libskit's lines give, and says what every spectroscopist knows."""

from __future__ import annotations

import json
from pathlib import Path

from libsedge_training.simulate import line_table

TABLE = Path(__file__).parents[2] / "edge" / "libsedge" / "lines.json"


def test_the_file_is_made_by_its_command() -> None:
    assert line_table.as_text(line_table.line_table()) == TABLE.read_text(encoding="utf-8")


def test_well_known_lines() -> None:
    """NIST ASD by hand, vacuum: the strongest line of each, and who is weaker."""
    table = json.loads(TABLE.read_text(encoding="utf-8"))["elements"]
    strongest = {element: max(rows, key=lambda row: row[2]) for element, rows in table.items()}
    known = {
        "Na": (589.158, "I"),
        "Ca": (393.478, "II"),
        "Mg": (279.635, "II"),
        "Li": (670.961, "I"),
        "H": (656.46, "I"),
    }
    known |= {"K": (766.701, "I"), "Sr": (407.886, "II"), "Ba": (455.531, "II"), "Cu": (324.847, "I")}
    for element, (wavelength, stage) in known.items():
        assert abs(strongest[element][0] - wavelength) < 0.02, element
        assert strongest[element][1] == stage, element
    second = next(row for row in table["Na"] if row[0] == 589.756)
    assert second[2] == 0.5  # the doublet's ratio, optically thin
