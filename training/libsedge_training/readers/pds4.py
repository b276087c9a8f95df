"""PDS4 products (NASA, CNSA, ISRO): read through their XML label, never through a fixed layout.

The label (``.xml``, CNSA's ``.2BL``) is what is read; it names its data file (``.2B``, ``.csv``, ``.tab``) and says
where every field lies, and pds4-tools follows it. Two shapes of spectra are known:

* a table with a field whose name begins with ``wave``, one row a channel: every other numeric field is a spectrum;
* a table with a group field [rows, channels], one row a spectrum, and anywhere in the product a one-dimensional
  field whose name begins with ``wave`` with as many values: the axis.

A product without an axis (ISRO's Chandrayaan-3 level 0) is refused. Units of the axis: nm, else Angstrom or micrometre,
as the label says. The specimen is the label's target. The medium is vacuum unless the user says otherwise. CNSA's
MarSCoDe layout is not public: proven on products written to the PDS4 standard, on no real file, and ``source`` says so.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from libsedge.errors import ConfigError, FileFormatError, SedgeError

from ..spectra import SpectraSet
from .base import Reader

_PRODUCT = b"Product_Observational"
_SPACE = b"pds.nasa.gov/pds4/pds/v1"
_NM = {"nm": 1.0, "nanometer": 1.0, "angstrom": 0.1, "micrometer": 1000.0, "um": 1000.0, "": 1.0}
#: a label that needs more is none
_LABEL_LIMIT = 16 << 20


class Pds4(Reader):
    name = "pds4"
    title = "PDS4 label with a table of spectra (proven on no real file)"
    medium = "vacuum"

    def sniff(self, head: bytes, path: Path) -> bool:
        return head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<") and _PRODUCT in head and _SPACE in head

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
        files = [_text(item, "file_name") for item in label.iter() if _tag(item) == "File"]
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
        wavelength, spectra, ids = _spectra(path, fields)
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
            notes=[
                f"data in {', '.join(files)}; spectra: {ids}",
                "PDS4 by its label, proven on no real file",
            ],
        )


def _tag(item: Any) -> str:
    return str(item.tag).rpartition("}")[2]


def _text(item: Any, name: str) -> str:
    found = next((child.text for child in item if _tag(child) == name), None)
    return (found or "").strip()


def _fields(product: Any) -> Iterator[tuple[str, str, np.ndarray]]:
    """(name, unit, values) of every numeric field of every table; group fields are [rows, repetitions]."""
    for structure in product:
        if not structure.is_table():
            continue
        for field in structure.fields:
            values = np.asarray(field)
            if values.dtype.kind in "fiu":
                meta = field.meta_data
                yield str(meta["name"]), str(meta.get("unit") or ""), values.astype(np.float64)


def _spectra(path: Path, fields: Sequence[tuple[str, str, np.ndarray]]) -> tuple[np.ndarray, np.ndarray, str]:
    """Axis (nm) [channels], spectra [n, channels], and which fields they are."""
    axes = [item for item in fields if re.match(r"wave", item[0], re.IGNORECASE)]
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
