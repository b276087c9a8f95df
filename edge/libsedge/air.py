"""Air wavelengths, as spectrometers are usually calibrated in, to the vacuum wavelengths that everything here uses.

The refractive index of standard air (15 °C, 101,325 Pa, dry, 450 ppm CO2) is P. E. Ciddor, Appl. Opt. 35, 1566 (1996),
eq. 1.
"""

from __future__ import annotations

import numpy as np

from libsedge.errors import AxisError

RANGE_NM = (185.0, 1700.0)


def air_to_vacuum(nm: np.ndarray) -> np.ndarray:
    """Vacuum wavelengths of air wavelengths, nm; AxisError outside `RANGE_NM`."""
    air = np.asarray(nm, np.float64)
    bad = ~((air >= RANGE_NM[0]) & (air <= RANGE_NM[1]))
    if bad.any():
        raise AxisError(
            "air wavelengths convert only in 185 to 1700 nm", field="wavelength", value=float(air[bad][0])
        )
    vacuum = air
    for _ in range(4):  # v = nm n(v); n varies so slowly that three rounds reach rounding
        wavenumber2 = (1000.0 / vacuum) ** 2
        vacuum = air * (1.0 + 0.05792105 / (238.0185 - wavenumber2) + 0.00167917 / (57.362 - wavenumber2))
    return np.asarray(vacuum)
