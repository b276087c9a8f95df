"""Readers on files made here: conformance of every format, the registry, wavelengths, joining, damage."""

from __future__ import annotations

import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
from astropy.io import fits
from libsedge.errors import AxisError, ConfigError, FileFormatError, SedgeError, SpectrumError
from libsedge_training import readers
from libsedge_training.readers import READERS, base, checks, importing, labels_table
from libsedge_training.spectra import SpectraSet

BY_NAME = {reader.name: reader for reader in READERS}
RNG = np.random.default_rng(11)
pytestmark = pytest.mark.filterwarnings("ignore::libsedge_training.readers.UnprovenReader")


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


@pytest.mark.parametrize("name", [reader.name for reader in READERS])
def test_every_reader_holds_the_contract(tmp_path, name):
    maker, cuts = MAKERS[name]
    (tmp_path / "sound").mkdir()
    (tmp_path / "scratch").mkdir()
    if name == "chemcam-edr":  # so that a damaged copy is refused for its damage
        ccs(tmp_path / "scratch" / "axis.csv", shots=1)
    noise_from = (0, 250) if name == "chemcam-edr" else None  # in the label: raw pixels have no checksum
    path = maker(tmp_path / "sound" / "file")
    checks.check_reader(BY_NAME[name], path, tmp_path / "scratch", cuts=cuts, noise_from=noise_from)


@pytest.mark.parametrize("name", [reader.name for reader in READERS])
def test_flipped_bytes_never_escape_the_typed_errors(tmp_path, name):
    data = MAKERS[name][0](tmp_path / "sound").read_bytes()
    rng = np.random.default_rng(5)
    if name == "chemcam-edr":
        ccs(tmp_path / "axis.csv", shots=1)
    refused = 0
    for _ in range(15 if name.startswith("chemcam") else 100):
        damaged = bytearray(data)
        for at in rng.integers(0, min(len(data), 4000), rng.integers(1, 5)):
            damaged[at] = rng.integers(0, 256)
        (tmp_path / "damaged").write_bytes(damaged)
        try:
            readers.read(tmp_path / "damaged")
        except SedgeError:
            refused += 1
    assert refused > 0


def test_the_conformance_check_can_fail(tmp_path):
    class Gullible(type(BY_NAME["column-text"])):
        def read(self, path, *, medium=None, members=()):
            return SpectraSet(np.ones((1, 3)), [1.0, 3.0, 2.0], specimen=["x"], source=path.name)

    path = two_column(tmp_path / "file")
    with pytest.raises(AssertionError):  # the instance is not the registered one
        checks.check_reader(Gullible(), path, tmp_path)
    (tmp_path / "fine").write_text("1,2\n2,3\n3,4\n")
    with pytest.raises(AssertionError, match="read without an error"):
        checks.check_refused(tmp_path / "fine", "a sound file")


def test_formats_lists_every_reader_once():
    names = [name for name, title in readers.formats() if title]
    assert names == [reader.name for reader in READERS]
    assert len(set(names)) == len(names) == len(MAKERS)


# Wavelengths: air (NIST ASD, standard air) and vacuum of the same line, nm.
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


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_ccs(tmp_path, end):
    spectra = readers.read(
        ccs(tmp_path / "any.name", shots=5, end=end, extra="# TEMPERATURE = 3 , ,\n# X = 1")
    )
    assert spectra.counts.shape == (5, 6144)
    assert spectra.shot.tolist() == [1, 2, 3, 4, 5]
    assert spectra.specimens == ["CCAM02013"]
    assert (spectra.quantity, spectra.instrument) == ("radiance", "ChemCam")
    np.testing.assert_allclose(spectra.distance_m, 2.5)
    expected = np.random.default_rng(1).uniform(1e10, 1e12, (6144, 5))
    np.testing.assert_allclose(spectra.counts.T, expected, rtol=1e-6)


def test_ccs_target_line_wins_and_contradictions_are_refused(tmp_path):
    assert readers.read(ccs(tmp_path / "t", TARGET="Coronation")).specimens == ["Coronation"]
    assert np.isnan(readers.read(ccs(tmp_path / "d", DISTT="0")).distance_m).all()
    with pytest.raises(FileFormatError, match="NSHOTS"):
        readers.read(ccs(tmp_path / "n", NSHOTS="9"))
    with pytest.raises(FileFormatError, match="rows = 6143"):
        readers.read(ccs(tmp_path / "r", rows=6143))
    whole = ccs(tmp_path / "cut").read_bytes()
    for size in (len(whole) - 1, len(whole) - 5):  # inside or behind the last number
        (tmp_path / "cut").write_bytes(whole[:size])
        with pytest.raises(FileFormatError, match="complete rows"):
            readers.read(tmp_path / "cut")
    path = ccs(tmp_path / "w")
    path.write_text(path.read_text().replace("e+02, ", "e+02, oops, ", 1))
    with pytest.raises(FileFormatError, match="line 5"):
        readers.read(path)


def test_cl1(tmp_path):
    spectra = readers.read(cl1(tmp_path / "f", clipped=(2, 17)))
    assert spectra.counts.shape == (4, 80)
    assert spectra.counts.dtype.isnative
    assert spectra.specimens == ["Maaz"]
    np.testing.assert_allclose(spectra.distance_m, 3.126)
    assert np.flatnonzero(~spectra.mask).tolist() == [17]
    assert "1 channel(s) clipped" in spectra.source
    np.testing.assert_array_equal(
        spectra.counts, np.random.default_rng(2).uniform(1e10, 1e12, (4, 80)).astype(np.float32)
    )
    assert readers.read(cl1(tmp_path / "n", TARGETNM="")).specimens == ["scam15210"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"drop": "SATURATION"}, "SATURATION"),
        ({"ACTIVES": 7}, "ACTIVES"),
        ({"N_UV": 21}, "N_UV + ... + N_RED"),
    ],
)
def test_cl1_contradictions_are_refused(tmp_path, changes, field):
    with pytest.raises(FileFormatError) as caught:
        readers.read(cl1(tmp_path / "f", **changes))
    assert caught.value.field == field


def test_ocean_siblings_are_joined_from_any_of_them(tmp_path):
    for part, start in (("UV", 224.0), ("VIS", 384.0), ("NIR", 494.0)):
        ocean(tmp_path / f"Rock_{part}_01.txt", start)
        ocean(tmp_path / f"Ore_{part}_01.txt", start, shots=2, t0=1)
    one, other = (readers.read(tmp_path / f"Rock_{part}_01.txt") for part in ("VIS", "NIR"))
    assert one.counts.shape == (3, 192)
    np.testing.assert_array_equal(one.counts, other.counts)
    assert one.specimens == ["Rock_01"]
    assert "Rock_UV_01.txt, Rock_VIS_01.txt, Rock_NIR_01.txt; axis in air" in one.source
    assert "sorted" not in one.source
    assert np.argwhere(np.diff(one.wavelength) > 1).ravel().tolist() == [63, 127]
    listed = readers.read([tmp_path / "Rock_NIR_01.txt", tmp_path / "Rock_UV_01.txt"])
    assert listed.counts.shape == (3, 128)
    folder = readers.read(tmp_path)
    assert len(folder) == 5
    assert folder.specimens == ["Ore_01", "Rock_01"]


def test_ocean_shots_are_never_paired_by_guess(tmp_path):
    ocean(tmp_path / "Rock_UV_01.txt", 224.0)
    ocean(tmp_path / "Rock_VIS_01.txt", 384.0, t0=1447427674644)
    with pytest.raises(FileFormatError, match="shot time"):
        readers.read(tmp_path / "Rock_UV_01.txt")
    ocean(tmp_path / "Rock_VIS_01.txt", 384.0, shots=2)
    with pytest.raises(FileFormatError, match="shot time"):
        readers.read(tmp_path / "Rock_VIS_01.txt")


@pytest.mark.parametrize("comma", [False, True])
@pytest.mark.parametrize("end", [False, True])
def test_ocean_single_scan(tmp_path, comma, end):
    spectra = readers.read(ocean_single(tmp_path / "s.txt", comma=comma, end=end))
    np.testing.assert_allclose(spectra.counts, 1.5 * np.arange(50)[np.newaxis])
    np.testing.assert_allclose(spectra.wavelength, readers.air_to_vacuum(400 + 0.05 * np.arange(50)))


def test_ocean_pixel_count_must_hold(tmp_path):
    with pytest.raises(FileFormatError, match="Number of Pixels"):
        readers.read(ocean(tmp_path / "f.txt", 224.0, pixels=65))


def test_mean_csv(tmp_path):
    spectra = readers.read(mean_csv(tmp_path / "m.csv"))
    assert spectra.specimens == ["CCAM02013", "target x"]
    assert spectra.quantity == "intensity"  # one name is none of the archive's
    np.testing.assert_allclose(spectra.counts[:, 2], [3e10, 5e10])
    (tmp_path / "twice.csv").write_text("wave,a,a\n240,1,2\n241,1,2\n")
    with pytest.raises(FileFormatError, match="no known format"):
        readers.read(tmp_path / "twice.csv")
    (tmp_path / "empty.csv").write_text("wave,a,b\n")
    with pytest.raises(FileFormatError, match="no rows"):
        readers.read(tmp_path / "empty.csv")


def test_avantes(tmp_path):
    path = avantes(tmp_path / "a.ttt")
    spectra = readers.read(path)
    assert spectra.dark is not None
    np.testing.assert_allclose(spectra.counts[0, :2], [900, 910])
    np.testing.assert_allclose(spectra.dark[:4], [700, 701, 702, 700])
    assert spectra.wavelength[0] == pytest.approx(240.0 + 0.0735, abs=1e-3)  # air to vacuum
    assert spectra.instrument == "Avantes 0512042U1"
    assert "proven on no real file" in spectra.source
    assert "average of 2 scans" in spectra.source
    plain = path.read_text().replace(";Dark", "").replace("[counts] ;", "").replace(",", ".")
    rows = [line.split(";") for line in plain.splitlines()]
    rows = [";".join([r[0], r[2]]) if len(r) == 3 else ";".join(r) for r in rows]
    path.write_text("\n".join(rows))
    assert readers.read(path).dark is None
    np.testing.assert_array_equal(readers.read(path).counts, spectra.counts)
    path.write_text("\n".join(rows).replace("240.10;", "240,10;"))
    with pytest.raises(FileFormatError, match="mixes"):
        readers.read(path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"intensity": np.ones((3, 9))}, "channels"),
        ({"intensity": np.ones(10)}, "channels"),
        ({"intensity": np.ones((3, 10), complex)}, "real numbers"),
        ({"intensity": np.full((3, 10), object())}, "not a whole"),
        ({"label": np.array(["a"])}, "one value a spectrum"),
        ({"intensity": np.full((3, 10), np.inf)}, "finite"),
    ],
)
def test_npz_refusals(tmp_path, changes, says):
    arrays = {"wavelength": np.linspace(240, 250, 10), "intensity": np.ones((3, 10)), **changes}
    np.savez(tmp_path / "s.npz", **arrays)
    with pytest.raises((FileFormatError, SpectrumError), match=says) as caught:
        readers.read(tmp_path / "s.npz")
    assert caught.value.file is not None


def test_npz_takes_ids_labels_and_distances_and_leaves_other_archives_alone(tmp_path):
    np.savez(
        tmp_path / "s.npz",
        wavelength=np.linspace(240, 250, 10)[::-1],
        counts=np.arange(20).reshape(2, 10),
        id=np.array(["a", "b"]),
        label=np.array(["x", ""]),
        distance_m=np.array([2.0, np.nan]),
    )
    spectra = readers.read(tmp_path / "s.npz")
    assert (spectra.specimens, spectra.classes, spectra.quantity) == (["a", "b"], ["x"], "counts")
    assert spectra.counts[0].tolist() == list(range(10))[::-1]
    np.savez(tmp_path / "other.npz", weights=np.ones(3))
    with pytest.raises(FileFormatError, match="no known format"):
        readers.read(tmp_path / "other.npz")


def test_sciaps_shots_of_one_test_are_one_specimen(tmp_path):
    """SciAps Z-9xx CSV has the content of any two columns (layout known from code only): only its name says that the
    shots are of one test. Other names say nothing."""
    for shot in (1, 2):
        two_column(tmp_path / f"steel_2024_05_03_101112_{shot}.csv")
        two_column(tmp_path / f"rock_{shot}.csv")
    spectra = readers.read(tmp_path)
    assert spectra.specimen.tolist() == ["rock_1", "rock_2", "steel", "steel"]
    assert spectra.shot.tolist() == [0, 0, 1, 2]
    assert readers.read(tmp_path, specimen="any").specimens == ["any"]


def test_pyhat_specimens_and_medium(tmp_path):
    path = pyhat(tmp_path / "f.csv")
    spectra = readers.read(path)
    assert spectra.specimen.tolist() == ["CP-5, Basalt", "LIB1", "LIB2"]
    np.testing.assert_allclose(spectra.counts[2], 2 + 0.25 * np.arange(40))
    np.testing.assert_allclose(spectra.wavelength, readers.air_to_vacuum(300 + 0.5 * np.arange(40)))
    vacuum = readers.read(path, medium="vacuum")
    np.testing.assert_array_equal(vacuum.wavelength, 300 + 0.5 * np.arange(40))
    assert "axis in air (by format), converted to vacuum" in spectra.source
    assert "axis in vacuum (given)" in vacuum.source
    with pytest.raises(ConfigError, match="medium"):
        readers.read(path, medium="water")


def test_a_backward_axis_is_sorted_and_a_double_one_refused(tmp_path):
    path = tmp_path / "seam.csv"
    path.write_text("400,1\n401,2\n402,3\n401.5,4\n403,5\n")
    spectra = readers.read(path)
    assert spectra.wavelength.tolist() == [400, 401, 401.5, 402, 403]
    assert spectra.counts.tolist() == [[1, 2, 4, 3, 5]]
    assert "axis sorted, 1 step(s) went back" in spectra.source
    path.write_text("403,5\n402,3\n401,2\n")
    assert readers.read(path).counts.tolist() == [[2, 3, 5]]
    path.write_text("400,1\n401,2\n401,3\n")
    with pytest.raises(AxisError, match=r"seam\.csv: wavelength\[2\] = 401"):
        readers.read(path)


def test_what_the_user_says_wins(tmp_path):
    path = two_column(tmp_path / "x.csv")
    spectra = readers.read(path, distance_m=4.25, specimen="BHVO-2", label="basalt")
    np.testing.assert_allclose(spectra.distance_m, 4.25)
    assert spectra.specimens == ["BHVO-2"]
    assert spectra.classes == ["basalt"]
    assert "distance 4.25 m (given)" in spectra.source
    assert np.isnan(readers.read(path).distance_m).all()
    with pytest.raises(ConfigError, match="distance_m"):
        readers.read(path, distance_m=-1.0)


@pytest.mark.parametrize(
    ("name", "distance"),
    [
        ("supercam_1545mm_loc1.csv", 1.545),
        ("a-1545mm.csv", 1.545),
        ("b 4.25m.csv", 4.25),
        ("3m", 3.0),
        ("3mg", np.nan),
        ("loc3_m2.csv", np.nan),
        ("0m.csv", np.nan),
    ],
)
def test_distance_from_name(name, distance):
    assert base.distance_from_name(name) == pytest.approx(distance, nan_ok=True)


def test_two_distances_in_a_name_are_refused():
    with pytest.raises(ConfigError, match="more than one"):
        base.distance_from_name("a_2m_and_3m.csv")


def test_unknown_missing_and_unlike_files(tmp_path):
    (tmp_path / "notes.csv").write_text("material,element\nbasalt,Si\n")
    with pytest.raises(FileFormatError, match="no known format"):
        readers.read(tmp_path / "notes.csv")
    with pytest.raises(FileFormatError, match=r"absent\.csv"):
        readers.read(tmp_path / "absent.csv")
    with pytest.raises(FileFormatError, match="holds no file"):
        readers.read(tmp_path)
    with pytest.raises(FileFormatError, match="no file was given"):
        readers.read([])
    two_column(tmp_path / "a.csv")
    assert "left out: notes.csv" in readers.read(tmp_path).source
    (tmp_path / "b.csv").write_text("1,2\n2,3\n")
    with pytest.raises(AxisError, match=r"b\.csv"):
        readers.read(tmp_path)


def test_several_files_on_one_axis_become_one_set_and_unlike_ones_do_not(tmp_path):
    paths = [two_column(tmp_path / name) for name in ("a.csv", "b.csv")]
    assert readers.read(paths).specimens == ["a", "b"]
    SpectraSet(np.ones((1, 2)), [1.0, 2.0], specimen=["s"], quantity="radiance").save(tmp_path / "c.h5")
    (tmp_path / "d.csv").write_text("1,2\n2,3\n")
    with pytest.raises(SpectrumError, match=r"d\.csv: concat\[1\]\.quantity"):
        readers.read([tmp_path / "c.h5", tmp_path / "d.csv"])


def test_a_store_is_always_in_vacuum(tmp_path):
    with pytest.raises(ConfigError, match="medium"):
        readers.read(store(tmp_path / "s.h5"), medium="air")


@pytest.mark.parametrize("name", [reader.name for reader in READERS])
def test_every_format_can_be_imported(tmp_path, name):
    (tmp_path / "files").mkdir()
    path = MAKERS[name][0](tmp_path / "files" / "spectra.dat")
    (tmp_path / "labels.csv").write_text("file,label,specimen,distance_m\nspectra.dat,salt,halite,2.5\n")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", labels_table.ImportNote)
        spectra, left = importing.import_folder(tmp_path / "files", tmp_path / "labels.csv")
    np.testing.assert_array_equal(spectra.counts, readers.read(path).counts)
    assert (spectra.classes, spectra.specimens) == (["salt"], ["halite"])
    assert (spectra.distance_m == 2.5).all()
    assert left == (["axis_ccam02013.csv"] if name == "chemcam-edr" else [])


def test_the_page_lists_every_format_and_what_is_unproven():
    page = (Path(__file__).parents[2] / "docs" / "readers.md").read_text()
    rows = {line.split("|")[1].strip(" `"): line for line in page.splitlines() if line.startswith("| `")}
    assert sorted(rows) == sorted(BY_NAME)
    for name, reader in BY_NAME.items():
        assert ("**no real file**" in rows[name]) == bool(reader.unproven), name
