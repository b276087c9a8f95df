"""Wavelengths in air and in vacuum, against NIST ASD and an independent formula."""

from __future__ import annotations

import numpy as np
import pytest
from libsedge.errors import AxisError
from libsedge_training import readers

# Air (NIST ASD, standard air) and vacuum of the same line, nm.
LINES = [
    (393.3663, 393.4777),
    (588.9950, 589.1583),
    (656.2819, 656.4632),
    (279.5528, 279.6352),
    (766.4899, 766.7009),
]


@pytest.mark.parametrize(("air", "vacuum"), LINES)
def test_known_lines(air, vacuum):
    assert readers.air_to_vacuum(air) == pytest.approx(vacuum, abs=3e-4)
    assert readers.vacuum_to_air(vacuum) == pytest.approx(air, abs=3e-4)
    assert abs(readers.air_to_vacuum(air) - air) > 0.05


def test_against_the_published_inverse_formula():
    """N. Piskunov's air-to-vacuum fit of the VALD database, an independent formula, agrees within 2e-5 nm."""
    air = np.linspace(230.0, 1000.0, 500)
    s2 = (1000.0 / air) ** 2
    n = (
        1
        + 0.00008336624212083
        + 0.02408926869968 / (130.1065924522 - s2)
        + 0.0001599740894897 / (38.92568793293 - s2)
    )
    np.testing.assert_allclose(readers.air_to_vacuum(air), air * n, rtol=0, atol=2e-5)


def test_air_and_vacuum_are_inverse_and_bounded():
    nm = np.linspace(190.0, 1600.0, 1000)
    np.testing.assert_allclose(readers.vacuum_to_air(readers.air_to_vacuum(nm)), nm, rtol=0, atol=1e-9)
    for bad in (100.0, 2000.0, np.nan):
        with pytest.raises(AxisError):
            readers.air_to_vacuum([300.0, bad])
