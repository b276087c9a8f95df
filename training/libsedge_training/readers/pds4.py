"""PDS4 products (NASA, CNSA, ISRO): read through their XML label, never through a fixed layout.

The label (``.xml``, CNSA's ``.2BL``) is what is read; it names its data file (``.2B``, ``.csv``, ``.tab``) and says
where every field lies, and pds4-tools follows it. Two shapes of spectra are known:

* a table with a field whose name begins with ``wave``, one row a channel: every other numeric field is a spectrum;
* a table with a group field [rows, channels], one row a spectrum, and anywhere in the product a one-dimensional
  field whose name begins with ``wave`` with as many values: the axis.

* as the second, but the axis is the header line above the table, as many increasing numbers in a row as the group has
  values (ISRO's Chandrayaan-3, calibrated). Rows that a field "Laser Fire Status" says are no plasma are left out;
  the mean of those with "Force Reset Status" 1 is the set's dark.

A product without an axis (Chandrayaan-3 level 0) is refused. Units of the axis: nm, else Angstrom or micrometre, as the
label says. The specimen is the label's target. The medium is vacuum unless the user says otherwise. The layout of
CNSA's MarSCoDe is not public, and no Chandrayaan-3 file with an axis could be had: the layouts are those of programs
that read them (Chandrayaan-3) and of the PDS4 standard.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from libsedge.errors import ConfigError, FileFormatError, SedgeError

from ..spectra import SpectraSet
from .base import Reader
from .text import decode, is_number

_Field = tuple[str, str, np.ndarray]  # name, unit, values

_PRODUCT = b"Product_Observational"
_SPACE = b"pds.nasa.gov/pds4/pds/v1"
_NM = {"nm": 1.0, "nanometer": 1.0, "angstrom": 0.1, "micrometer": 1000.0, "um": 1000.0, "": 1.0}
_FIRED, _RESET = "laser fire status", "force reset status"
#: a label that needs more is none
_LABEL_LIMIT = 16 << 20


class Pds4(Reader):
    name = "pds4"
    title = "PDS4 label with a table of spectra (MarSCoDe .2BL, Chandrayaan-3 LIBS)"
    medium = "vacuum"
    multipart = True
    unproven = "products written to the PDS4 standard; MarSCoDe's layout is not public"

    def sniff(self, head: bytes, path: Path) -> bool:
        return head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<") and _PRODUCT in head and _SPACE in head

    def members(self, path: Path, among: Sequence[Path]) -> list[Path]:
        try:
            names = set(_files(ElementTree.fromstring(path.read_bytes())))
        except (OSError, ElementTree.ParseError):
            return [path]
        return [path, *(p for p in among if p.name in names and p.parent == path.parent)]

    def read(self, path: Path, *, medium: str | None = None, members: Sequence[Path] = ()) -> SpectraSet:
        try:
            return self._read(path, medium)
        except SedgeError:
            raise
        except Exception as error:  # a damaged label or table makes pds4-tools raise nearly anything
            raise FileFormatError(f"not a whole PDS4 product: {error}", file=path) from error

    def _read(self, path: Path, medium: str | None) -> SpectraSet:
        try:
            import pds4_tools  # type: ignore[import-untyped,unused-ignore]
        except ImportError as error:
            raise ConfigError(
                "needs pds4-tools: pip install pds4-tools", file=path, field="format"
            ) from error
        data = path.read_bytes()
        if len(data) > _LABEL_LIMIT or b"<!ENTITY" in data:
            raise FileFormatError("is too large for a label, or defines entities", file=path, value=len(data))
        label = ElementTree.fromstring(data)
        files = _files(label)
        with tempfile.TemporaryDirectory(prefix="libsedge-pds4-") as folder:
            # under the names pds4-tools expects, whatever the archive calls them
            Path(folder, "label.xml").write_bytes(data)
            for name in files:
                beside = path.parent / name
                if Path(name).name != name or not beside.is_file():
                    raise FileFormatError(
                        "its data file is not beside it", file=path, field="file_name", value=name
                    )
                Path(folder, name).symlink_to(beside.resolve())
            product = pds4_tools.read(str(Path(folder, "label.xml")), quiet=True)
            fields = list(_fields(product))
        wavelength, spectra, ids = _spectra(path, fields, _header_axis(path, label))
        spectra, more, notes = _plasma(path, fields, spectra)
        target = next(
            (_text(item, "name") for item in label.iter() if _tag(item) == "Target_Identification"), ""
        )
        instrument = next(
            (
                _text(item, "name")
                for item in label.iter()
                if _tag(item) == "Observing_System_Component" and _text(item, "type").lower() == "instrument"
            ),
            "",
        )
        return self.build(
            [path],
            wavelength=wavelength,
            counts=spectra,
            medium=medium,
            specimen=np.full(len(spectra), target or path.stem),
            quantity="intensity",
            instrument=instrument,
            notes=[f"data in {', '.join(files)}; spectra: {ids}", *notes],
            **more,
        )


def _tag(item: Any) -> str:
    return str(item.tag).rpartition("}")[2]


def _files(label: Any) -> list[str]:
    """The names of the data files, in the label's order."""
    return [_text(item, "file_name") for item in label.iter() if _tag(item) == "File"]


def _text(item: Any, name: str) -> str:
    found = next((child.text for child in item if _tag(child) == name), None)
    return (found or "").strip()


def _fields(product: Any) -> Iterator[_Field]:
    """(name, unit, values) of every numeric field of every table; group fields are [rows, repetitions]."""
    for structure in product:
        if not structure.is_table():
            continue
        for field in structure.fields:
            values = np.asarray(field)
            if values.dtype.kind in "fiu":
                meta = field.meta_data
                yield str(meta["name"]), str(meta.get("unit") or ""), values.astype(np.float64)


def _header_axis(path: Path, label: Any) -> np.ndarray | None:
    """The longest run of numbers in a header of the label's files, nm; None where there is none."""
    best = np.empty(0)
    for area in (item for item in label.iter() if _tag(item).startswith("File_Area")):
        files = _files(area)
        for header in (item for item in area if _tag(item) == "Header"):
            start, size = int(_text(header, "offset") or 0), int(_text(header, "object_length") or 0)
            text = (path.parent / files[0]).read_bytes()[start : start + size]
            cells = re.split(r"[,;\t]", decode(text).strip())
            run = max(
                ([float(c) for c in cells] for sound, cells in groupby(cells, is_number) if sound),
                key=len,
                default=[],
            )
            best = np.array(run) if len(run) > best.size else best
    return best if best.size > 1 else None


def _plasma(
    path: Path, fields: Sequence[_Field], spectra: np.ndarray
) -> tuple[np.ndarray, dict[str, Any], list[str]]:
    """The rows with plasma, their dark, and what to say: all rows where no field says which are which."""
    status = {
        name.lower(): values
        for name, _, values in fields
        if name.lower() in (_FIRED, _RESET) and values.shape == (len(spectra),)
    }
    if _FIRED not in status:
        return spectra, {}, []
    fired = status[_FIRED] == 1
    dark = ~fired & (status.get(_RESET, np.zeros(len(spectra))) == 1)
    if not fired.any():
        raise FileFormatError("the laser never fired: no spectrum of a plasma", file=path, field=_FIRED)
    more = {"dark": spectra[dark].mean(axis=0)} if dark.any() else {}
    said = f"{int((~fired).sum())} row(s) without plasma left out, {int(dark.sum())} of them in the dark"
    return spectra[fired], more, [said]


def _spectra(
    path: Path, fields: Sequence[_Field], header: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, str]:
    """Axis (nm) [channels], spectra [n, channels], and which fields they are."""
    axes = [item for item in fields if re.match(r"wave", item[0], re.IGNORECASE)]
    if not axes and header is not None:
        axes = [("header line", "nm", header)]
    if not axes:
        names = sorted({name for name, _, _ in fields})
        raise FileFormatError(
            "has no field whose name begins with 'wave': no axis", file=path, value=names[:8]
        )
    if len(axes) > 1:
        raise FileFormatError(
            "has several axes", file=path, field="wave...", value=[name for name, *_ in axes]
        )
    name, unit, values = axes[0]
    axis = values[0] if values.ndim == 2 and len(values) == 1 else values
    if axis.ndim != 1:
        raise FileFormatError("must be one axis", file=path, field=name, value=values.shape)
    if unit.lower().rstrip("s") not in _NM:
        raise FileFormatError("is no unit of wavelength known here", file=path, field=name, value=unit)
    axis = axis * _NM[unit.lower().rstrip("s")]
    others = [item for item in fields if item is not axes[0]]
    groups = [(n, v) for n, _, v in others if v.ndim == 2 and v.shape[1] == axis.size]
    columns = [(n, v) for n, _, v in others if v.ndim == 1 and v.size == axis.size]
    if len(groups) == 1:
        return axis, groups[0][1], groups[0][0]
    if groups or not columns:
        found = [n for n, _ in groups] or [n for n, *_ in others]
        raise FileFormatError(
            f"one group field of {axis.size} values belongs", file=path, field="fields", value=found
        )
    return axis, np.stack([v for _, v in columns]), ", ".join(n for n, _ in columns)
