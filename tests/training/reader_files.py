"""A small sound file of every format that a reader knows, written to its documented layout."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from astropy.io import fits
from libsedge_training.spectra import SpectraSet

RNG = np.random.default_rng(11)


def ccs(
    path: Path, *, shots: int = 3, rows: int = 6144, extra: str = "", end: str = "\n", **changes: str
) -> Path:
    header = {
        "DARK": "CL1_398645602EDR_F0030004CCAM02013M1.DAT",
        "DISTT": "2500.0",
        "NSHOTS": str(shots),
    } | changes
    lines = [f"# {key} =   {value} , , , ," for key, value in header.items()]
    names = [f"shot{i}" for i in range(1, shots + 1)]
    lines += [*extra.splitlines(), "# wave , " + " , ".join([*names, "median", "mean"])]
    axis = np.linspace(240.0, 905.0, rows)
    values = np.random.default_rng(1).uniform(1e10, 1e12, (rows, shots))
    for nm, row in zip(axis, values, strict=True):
        cells = [nm, *row, np.median(row), row.mean()]
        lines.append(", ".join(f"{cell:.7e}" for cell in cells))
    path.write_bytes((end.join(lines) + end).encode())
    return path


def cl1(
    path: Path, *, shots: int = 4, clipped: tuple[int, int] | None = None, drop: str = "", **cards
) -> Path:
    parts = {"N_UV": 20, "N_VIO": 20, "N_GRE": 10, "N_ORA": 10, "N_RED": 20}
    n = sum(parts.values())
    primary = fits.PrimaryHDU()
    header = {
        "TARGETNM": "Maaz",
        "FOC_DIST": 3126.0,
        "ACTIVES": shots,
        "EMD_SEQN": "scam15210",
        **parts,
        **cards,
    }
    for key, value in header.items():
        primary.header[key] = value
    spectra = np.random.default_rng(2).uniform(1e10, 1e12, (shots, n)).astype(np.float32)
    saturated = np.zeros((shots, n))
    if clipped:
        saturated[clipped] = 1.0

    def hdu(name: str, columns: dict) -> fits.BinTableHDU:
        made = [fits.Column(name=key, format=form, array=values) for key, (form, values) in columns.items()]
        return fits.BinTableHDU.from_columns(made, name=name)

    hdus = [
        hdu("STATISTICS", {"Mean": ("E", spectra.mean(axis=0))}),
        hdu("SATURATION", {f"SaturationMask{i}": ("D", row) for i, row in enumerate(saturated)}),
        hdu("WAVELENGTH", {"Wavelength": ("E", np.linspace(243.0, 853.0, n)), "IRF": ("D", np.ones(n))}),
        hdu("SPECTRA", {f"Spectrum{i}": ("E", row) for i, row in enumerate(spectra)}),
    ]
    fits.HDUList([primary, *[h for h in hdus if h.name != drop]]).writeto(path)
    return path


def ocean(
    path: Path, start: float, *, shots: int = 3, channels: int = 64, t0: int = 1447427674643, pixels: int = 0
) -> Path:
    axis = start + 0.05 * np.arange(channels)
    lines = [
        f"Data from {path.name} Node",
        "",
        "Date: Fri Nov 13 09:14:34 CST 2015",
        "Spectrometer: HR+C0596",
    ]
    lines += [f"Number of Pixels in Spectrum: {pixels or channels}", ">>>>>Begin Spectral Data<<<<<"]
    lines.append("\t\t" + "\t".join(f"{nm:.3f}" for nm in axis))
    for i in range(shots):
        counts = np.round(RNG.normal(100, 50, channels), 2)
        lines.append(f"09:14:{34 + i}.643\t{t0 + 1000 * i}\t" + "\t".join(str(c) for c in counts))
    path.write_bytes(("\r\n".join(lines) + "\r\n").encode())
    return path


def ocean_single(path: Path, *, comma: bool = False, end: bool = True) -> Path:
    rows = [f"{400 + 0.05 * i:.3f}\t{i * 1.5:.2f}" for i in range(50)]
    body = "\n".join(rows).replace(".", ",") if comma else "\n".join(rows)
    text = f"Date: Mon\nNumber of Pixels in Spectrum: 50\n>>>>>Begin Spectral Data<<<<<\n{body}\n"
    path.write_text(text + (">>>>>End Spectral Data<<<<<\n" if end else ""))
    return path


def pyhat(path: Path, *, channels: int = 40, rows: int = 3) -> Path:
    level = ["", "meta", "meta", "comp", *["wvl"] * channels]
    names = ["", "Sample ID", "LIBS ID", "SiO2", *[f"{300 + i * 0.5}" for i in range(channels)]]
    lines = [",".join(level), ",".join(names)]
    for i in range(rows):
        sample = "Unknown" if i else '"CP-5, Basalt"'
        lines.append(",".join([str(i), sample, f"LIB{i}", "", *[f"{i + j * 0.25}" for j in range(channels)]]))
    path.write_text("\n".join(lines))
    return path


def two_column(path: Path) -> Path:
    rows = [f"{240 + 0.1 * i:.3f},{i * 1.5e10:.6e}" for i in range(300)]
    path.write_text("wavelength,intensity\n" + "\n".join(rows) + "\n")
    return path


def store(path: Path) -> Path:
    SpectraSet(np.ones((2, 30), np.uint16), np.linspace(240, 850, 30), specimen=["a", "b"]).save(path)
    return path


def mean_csv(path: Path) -> Path:
    rows = [f"{240 + 0.1 * i:.3f},{i * 1.5e10:.6e},{i * 2.5e10:.6e}" for i in range(300)]
    path.write_text("wave,cl5_398645626ccs_f0030004ccam02013p3,target x\n" + "\n".join(rows) + "\n")
    return path


def avantes(path: Path) -> Path:
    head = [
        "Integration time [ms]: 105,000",
        "Averaging Nr. [scans]: 2",
        "Smoothing Nr. [pixels]: 0",
        "Data measured with spectrometer [name]: 0512042U1",
        "Wavelength ;Dark ;Sample",
        "[nm] ;[counts] ;[counts]",
    ]
    rows = [f"{240 + 0.1 * i:.2f};{700 + i % 3:.3f};{900 + 10 * i:.3f}".replace(".", ",") for i in range(300)]
    path.write_bytes(("\r\n".join([*head, *rows]) + "\r\n").encode())
    return path


def npz(path: Path) -> Path:
    with open(path, "wb") as file:  # a path would get a suffix
        np.savez(file, wavelength_nm=np.linspace(240, 850, 200), intensity=RNG.normal(100, 5, (3, 200)))
    return path


def pds4(path: Path) -> Path:
    """A label with a delimited table beside it; test_readers_pds4.py has more."""
    text = "".join(f"{240 + 0.25 * i:.3f},{i * 3.5:.3f}\r\n" for i in range(40))
    path.with_name("data.2B").write_bytes(text.encode())
    inner = "<name>{}</name><field_number>{}</field_number><data_type>ASCII_Real</data_type>"
    field = f"<Field_Delimited>{inner}</Field_Delimited>"
    path.write_text(
        f"""<Product_Observational xmlns="http://pds.nasa.gov/pds4/pds/v1"><File_Area_Observational>
<File><file_name>data.2B</file_name></File><Table_Delimited><offset unit="byte">0</offset>
<object_length unit="byte">{len(text)}</object_length><parsing_standard_id>PDS DSV 1</parsing_standard_id>
<records>40</records><record_delimiter>Carriage-Return Line-Feed</record_delimiter>
<field_delimiter>Comma</field_delimiter><Record_Delimited><fields>2</fields><groups>0</groups>
{field.format("wavelength", 1)}{field.format("shot", 2)}</Record_Delimited></Table_Delimited>
</File_Area_Observational></Product_Observational>"""
    )
    return path


def emslibs(
    path: Path, *, samples: int = 3, spectra: int = 4, channels: int = 50, transpose: bool = False
) -> Path:
    """A training file in the layout that loaders of the contest's files read."""
    rng = np.random.default_rng(6)
    with h5py.File(path, "w") as file:
        file["Wavelengths/1"] = np.linspace(200.0, 1000.0, channels)
        for sample in range(1, samples + 1):
            block = rng.uniform(0, 1e4, (channels, spectra)).astype(np.float32)
            file[f"Spectra/{sample:03d}"] = block.T if transpose else block
        file["Class/1"] = np.repeat(np.arange(1, samples + 1), spectra).astype(np.float64)
    return path


def edr(path: Path, *, shots: int = 3, record: int = 2056, **changes: str) -> Path:
    """An EDR in the layout that programs read; its pixels are shot * 20000 + place on the detectors, VNIR first."""
    values = {
        "PDS_VERSION_ID": "PDS3",
        "RECORD_TYPE": "FIXED_LENGTH",
        "RECORD_BYTES": str(record),
        "LABEL_RECORDS": "2",
        "SEQUENCE_ID": '"ccam02013"',
        "MSL:INSTRUMENT_FOCUS_DISTANCE": "2673",
        "MSL:LASER_MODE": '"YES"',
    } | changes
    lines = [f"{key:32} = {value}" for key, value in values.items()]
    lines += ["OBJECT = CCAM_LIBS_TABLE", "  OBJECT = CCAM_LIBS_DATA_CONTAINER", f"    REPETITIONS = {shots}"]
    lines += ["    START_BYTE = 101", "    BYTES = 12888", "  END_OBJECT = CCAM_LIBS_DATA_CONTAINER", "END"]
    label = ("\r\n".join(lines) + "\r\n").encode().ljust(2 * record)
    pixels = (np.arange(shots)[:, np.newaxis] * 20000 + np.arange(6444)).astype(">u2")
    path.write_bytes(label + bytes(100) + pixels.tobytes())
    ccs(path.with_name("axis_ccam02013.csv"), shots=1)
    return path


def row_csv(path: Path) -> Path:
    axis = [f"{300 + 0.5 * i:g}" for i in range(40)]
    lines = [",".join(["sample", "formula", *axis])]
    lines += [",".join([f"mineral {i}", "SiO2", *[f"{i + j * 0.25}" for j in range(40)]]) for i in range(3)]
    path.write_text("\n".join(lines))
    return path


MAKERS = {
    "emslibs-hdf5": (emslibs, None),
    "chemcam-edr": (edr, None),
    "row-csv": (row_csv, (0, 300, 700)),
    "pds4": (pds4, None),
    "mean-csv": (mean_csv, (0, 40, 51 + 2 * 34 + 8, 51 + 2 * 34 + 20)),
    "avantes-text": (avantes, (0, 150, 188 + 5 * 24 + 7, 188 + 5 * 24 + 14)),
    "npz": (npz, None),
    "libsedge-hdf5": (store, None),
    "supercam-cl1": (cl1, None),
    "chemcam-ccs": (ccs, None),
    "ocean-text": (lambda path: ocean(path, 224.0), None),
    "pyhat-csv": (pyhat, None),
    # cut before a comma, and right behind one: inside the last number no reader could tell
    "column-text": (two_column, (0, 21 * 11 + 7, 21 * 11 + 8)),
}
