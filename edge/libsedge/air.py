"""Air wavelengths, as spectrometers are usually calibrated in, and the vacuum wavelengths that everything here uses.

The refractive index of standard air (15 °C, 101,325 Pa, dry, 450 ppm CO2) is P. E. Ciddor, Appl. Opt. 35,
1566 (1996), eq. 1. Its fit begins at 230 nm; against the formula behind NIST's tables (Peck and Reeder 1972)
it gives wavelengths within 3e-5 nm from 230 to 1700 nm, 6e-5 nm at 200 nm, 3e-4 nm at 185 nm.
"""

from __future__ import annotations

import numpy as np

from libsedge.errors import AxisError

RANGE_NM = (185.0, 1700.0)


def _index(vacuum_nm: np.ndarray) -> np.ndarray:
    sigma2 = (1000.0 / vacuum_nm) ** 2  # wavenumber squared, 1/um^2
    return 1.0 + 0.05792105 / (238.0185 - sigma2) + 0.00167917 / (57.362 - sigma2)


def _checked(nm: np.ndarray | float) -> np.ndarray:
    values = np.asarray(nm, dtype=np.float64)
    bad = ~((values >= RANGE_NM[0]) & (values <= RANGE_NM[1]))
    if bad.any():
        low, high = RANGE_NM
        first = float(values[bad].flat[0])
        raise AxisError(
            f"air and vacuum convert only in {low:g} ... {high:g} nm", field="wavelength", value=first
        )
    return values


def vacuum_to_air(nm: np.ndarray | float) -> np.ndarray:
    """Air wavelengths (nm, any shape) of vacuum wavelengths: ``nm / n(nm)``; `AxisError` outside 185-1700
    nm."""
    values = _checked(nm)
    return np.asarray(values / _index(values))


def air_to_vacuum(nm: np.ndarray | float) -> np.ndarray:
    """Vacuum wavelengths (nm) of air wavelengths: the inverse of `vacuum_to_air` to better than 1e-9 nm.

    Fixed-point iteration of ``v = nm * n(v)``; n varies so slowly that three rounds reach rounding.
    """
    values = _checked(nm)
    vacuum = values
    for _ in range(4):
        vacuum = values * _index(vacuum)
    return np.asarray(vacuum)
