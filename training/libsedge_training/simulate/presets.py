"""Spectrometers by name: the axes, gaps and line spread that a set is simulated with.

``marscode`` is the default (`instrument.CHANNELS`). ``supercam`` and ``chemcam`` have the ends, pixel numbers and
dispersion of the detectors of the real files (first and last wavelength and least-squares bend of each detector's
axis), ``handheld`` those of three joined Ocean Optics HR2000+; the jump between two detectors is a gap that holds no
pixel. Line spread: SuperCam 0.12, 0.12, 0.35 nm and ChemCam 0.15, 0.20, 0.65 nm are published, the handheld's are
the narrowest isolated lines of its real basalt. Axis drift: SuperCam's and ChemCam's real files, whose axes are
calibrated for every product, have Ca II K within 0.018 nm of its place, so 0.02 nm for ChemCam. SuperCam's axis moved
by 0.006, 0.002 and 0.018 nm (UV, violet, red; cross-correlation) from the pellet's near session to its far one and not
at all from location to location: 0.007 nm. From shot to shot their narrow lines move by 0.0002 to 0.0006 nm.
Sensitivity, noise and dark level are assumptions everywhere; SuperCam and ChemCam collect more electrons a count than
MarSCoDe. The archived spectra of SuperCam are denoised: what sets a pixel apart from its neighbours scatters from shot
to shot (Maaz, over the total) by 0.65e-6 in the violet and 0.14e-6 in the red, on ChemCam's 9.5 electrons a count by
1.77e-6 and 0.98e-6, on 16 times as many by 0.48e-6 and 0.25e-6; ten times as many are taken.
"""

from __future__ import annotations

from libsedge.errors import ConfigError

from libsedge_training.simulate.instrument import Channel, InstrumentConfig

INSTRUMENTS: dict[str, InstrumentConfig] = {
    "marscode": InstrumentConfig(),
    "supercam": InstrumentConfig(
        name="supercam",
        channels=(
            Channel(243.789, 341.364, 2040, 0.12, 0.099, 0.5),
            Channel(379.259, 464.541, 2037, 0.12, 0.139, 1.0),
            Channel(537.567, 619.824, 1237, 0.35, 0.211, 0.9),
            Channel(620.079, 712.143, 1114, 0.35, 0.131, 0.9),
            Channel(712.173, 852.773, 1505, 0.35, 0.210, 0.8),
        ),
        electrons=0.38,
        electrons_per_count=95.0,
        drift_cell_nm=0.007,
        drift_shot_nm=0.0005,
    ),
    "chemcam": InstrumentConfig(
        name="chemcam",
        channels=(
            Channel(240.811, 340.797, 2048, 0.15, 0.099, 0.5),
            Channel(382.138, 469.090, 2048, 0.20, 0.134, 1.0),
            Channel(473.184, 905.573, 2048, 0.65, 0.078, 0.8),
        ),
        electrons=0.038,
        electrons_per_count=9.5,
        drift_cell_nm=0.02,
        drift_shot_nm=0.0005,
    ),
    "handheld": InstrumentConfig(
        name="handheld",
        channels=(
            Channel(224.406, 327.010, 2048, 0.12, 0.101, 0.5),
            Channel(384.134, 472.660, 2048, 0.12, 0.152, 1.0),
            Channel(494.755, 933.146, 2048, 0.45, 0.083, 0.8),
        ),
        electrons_per_count=12.0,
        dark_level_counts=300.0,
        saturation_counts=16383,
    ),
}


def instrument(name: str) -> InstrumentConfig:
    """The preset called ``name``; `ConfigError` for an unknown one."""
    if name not in INSTRUMENTS:
        raise ConfigError(f"must be one of {sorted(INSTRUMENTS)}", field="instrument", value=name)
    return INSTRUMENTS[name]
