"""The HDF5 layout of a set of spectra, written and read by both sides (docs/architecture.md, contract).

Root attributes: ``format = "libsedge-spectra"``, ``version = 1``, ``quantity``, ``saturation``, ``medium =
"vacuum"``, ``instrument``, ``source``, ``simulated``. Datasets: ``counts`` [n, channels] uint16 or float32,
one chunk a spectrum with a Fletcher-32 checksum; ``wavelength_nm`` float64 [channels], strictly increasing;
``mask`` uint8 [channels], 1 = valid; ``dark`` float32 [channels], optional; ``distance_m`` float32 [n];
``specimen``, ``label`` UTF-8 [n]; ``shot`` int32 [n]. Unknown: NaN or ``""``.

The same calls with the same values give the same bytes: no time stamps, no paths. A file becomes visible
under its name only when it is complete. h5py is imported on first use; without it `ConfigError` says so.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, NoReturn

import numpy as np

from .errors import AxisError, ConfigError, FileFormatError, SedgeError, SpectrumError

FORMAT = "libsedge-spectra"
VERSION = 1
QUANTITIES = ("counts", "radiance", "intensity")
_ATTRIBUTES = ("format", "version", "quantity", "saturation", "medium", "instrument", "source", "simulated")
_ROW_FIELDS = ("distance_m", "specimen", "label", "shot")
_BLOCK = 64  # spectra read at a time by iteration


class StoreRow(NamedTuple):
    """One spectrum of a store: ``counts`` [channels] uint16 or float32, and what belongs to it."""

    counts: np.ndarray
    distance_m: float
    specimen: str
    label: str
    shot: int


def _h5py() -> Any:
    try:
        import h5py  # type: ignore[import-untyped,unused-ignore]
    except ImportError as error:
        raise ConfigError("spectra stores need h5py: install libsedge[edge]", field="h5py") from error
    return h5py


def check_axis(wavelength: np.ndarray, *, file: str | os.PathLike[str] | None = None) -> np.ndarray:
    """``wavelength`` as float64 [channels], finite, positive, strictly increasing; else `AxisError`."""
    axis = np.ascontiguousarray(wavelength, dtype=np.float64)
    if axis.ndim != 1 or axis.size == 0:
        raise AxisError(
            "must have one dimension and a value", file=file, field="wavelength", value=axis.shape
        )
    bad = np.flatnonzero(~(np.isfinite(axis) & (axis > 0)))
    if bad.size:
        i = int(bad[0])
        raise AxisError(
            "must be finite and positive", file=file, field=f"wavelength[{i}]", value=float(axis[i])
        )
    back = np.flatnonzero(np.diff(axis) <= 0)
    if back.size:
        i = int(back[0]) + 1
        why = f"the axis must increase strictly, but channel {i - 1} is at {axis[i - 1]} nm"
        raise AxisError(why, file=file, field=f"wavelength[{i}]", value=float(axis[i]))
    return axis


class StoreWriter:
    """Write a store piece by piece; it appears under ``path`` only when the block ends without an error.

    >>> with StoreWriter("set.h5", wavelength=axis, quantity="counts", saturation=65535.0) as store:
    ...     store.append(counts, specimen=names, label=labels, distance_m=d, shot=s)

    wavelength : vacuum nm, float64 [channels], strictly increasing.
    dtype : of the stored counts, ``uint16`` or ``float32``.
    mask : bool [channels], True = valid; None = all valid. dark : float32 [channels] or None.
    quantity : one of `QUANTITIES`. saturation : level at and above which a value is clipped; NaN = unknown.
    compression : 0 = none (fastest), 1 ... 9 = gzip level.

    Raises `AxisError`, `SpectrumError`, `ConfigError`, each naming file, field and value.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        wavelength: np.ndarray,
        dtype: Any = np.uint16,
        mask: np.ndarray | None = None,
        dark: np.ndarray | None = None,
        quantity: str = "counts",
        saturation: float = float("nan"),
        instrument: str = "",
        source: str = "",
        simulated: bool = False,
        compression: int = 0,
    ) -> None:
        self.path = Path(path)
        self._wavelength = check_axis(wavelength, file=self.path)
        self.channels = self._wavelength.size
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.dtype(np.uint16), np.dtype(np.float32)):
            raise ConfigError("must be uint16 or float32", file=self.path, field="dtype", value=str(dtype))
        if quantity not in QUANTITIES:
            raise ConfigError(
                f"must be one of {QUANTITIES}", file=self.path, field="quantity", value=quantity
            )
        if not 0 <= compression <= 9:
            raise ConfigError("must be 0 ... 9", file=self.path, field="compression", value=compression)
        self._mask = np.ones(self.channels, bool) if mask is None else np.asarray(mask, bool)
        self._check_shape("mask", self._mask, self.channels, "channel")
        if not self._mask.any():
            self._refuse("mask", None, "masks every channel")
        self._dark = None if dark is None else np.asarray(dark, np.float32)
        if self._dark is not None:
            self._check_shape("dark", self._dark, self.channels, "channel")
            if not np.isfinite(self._dark).all():
                self._refuse("dark", None, "must be finite")
        values = (FORMAT, VERSION, quantity, float(saturation), "vacuum", instrument, source, bool(simulated))
        self._attributes: dict[str, Any] = dict(zip(_ATTRIBUTES, values, strict=True))
        self._compression = compression or None
        self._rows: dict[str, list[np.ndarray]] = {name: [] for name in _ROW_FIELDS}
        self._count = 0
        self._file: Any = None
        self._temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")

    def _refuse(self, field: str, value: object, why: str) -> NoReturn:
        raise SpectrumError(why, file=self.path, field=field, value=value)

    def _check_shape(self, field: str, values: np.ndarray, size: int, per: str) -> None:
        if values.shape != (size,):
            self._refuse(field, values.shape, f"must have one value a {per} ({size})")

    def __len__(self) -> int:
        return self._count

    def __enter__(self) -> StoreWriter:
        h5py = _h5py()
        try:
            self._file = h5py.File(self._temporary, "w", track_order=False)
        except OSError as error:
            raise FileFormatError(f"cannot be written: {error}", file=self.path) from error
        self._file.create_dataset(
            "counts",
            shape=(0, self.channels),
            maxshape=(None, self.channels),
            chunks=(1, self.channels),
            dtype=self.dtype,
            fletcher32=True,
            compression=self._compression,
            track_times=False,
        )
        return self

    def append(
        self,
        counts: np.ndarray,
        *,
        specimen: Sequence[str] | np.ndarray,
        label: Sequence[str] | np.ndarray | None = None,
        distance_m: np.ndarray | float = float("nan"),
        shot: np.ndarray | None = None,
    ) -> None:
        """Add ``counts`` [k, channels] and one specimen, label, distance (m) and shot number a row.

        ``label`` None = unlabelled; one distance serves all rows; ``shot`` None = numbered on from the rows
        so far. Values that uint16 cannot hold exactly, and non-finite ones, are a `SpectrumError`; a refused
        call writes nothing.
        """
        if self._file is None:
            raise ConfigError("append only inside the `with` block", file=self.path, field="StoreWriter")
        given = np.asarray(counts)
        if given.ndim != 2 or given.shape[1] != self.channels:
            self._refuse("counts", given.shape, f"must be [n, {self.channels}]")
        values = self._stored(given)
        n, first = values.shape[0], self._count
        distance = np.asarray(distance_m, np.float32)
        rows: dict[str, np.ndarray] = {
            "distance_m": np.full(n, distance) if distance.ndim == 0 else distance,
            "specimen": np.asarray(specimen, dtype=np.str_),
            "label": np.full(n, "", np.str_) if label is None else np.asarray(label, dtype=np.str_),
            "shot": np.arange(first, first + n, dtype=np.int32) if shot is None else np.array(shot, np.int32),
        }
        for field, column in rows.items():
            self._check_shape(field, column, n, "spectrum")
        distance = rows["distance_m"]
        bad = np.flatnonzero((distance < 0) | np.isinf(distance))
        if bad.size:
            where = f"distance_m[{first + int(bad[0])}]"
            self._refuse(where, float(distance[bad[0]]), "must be finite and not negative, or NaN = unknown")
        self._file["counts"].resize(first + n, axis=0)
        self._file["counts"][first:] = values
        for field, column in rows.items():
            self._rows[field].append(column.copy())
        self._count += n

    def _stored(self, values: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", over="ignore"):
            stored = values.astype(self.dtype, copy=False)
        if self.dtype == np.float32:
            bad, why = ~np.isfinite(stored), "must be finite"
        elif stored is not values:
            bad, why = stored != values, "does not fit into uint16"
        else:
            return stored  # uint16 all along
        if bad.any():
            row, channel = (int(i) for i in np.argwhere(bad)[0])
            self._refuse(f"counts[{self._count + row}, {channel}]", values[row, channel].item(), why)
        return stored

    def _finish(self, h5py: Any) -> None:
        for name, value in self._attributes.items():
            self._file.attrs[name] = value
        columns = {"wavelength_nm": self._wavelength, "mask": self._mask.astype(np.uint8)}
        if self._dark is not None:
            columns["dark"] = self._dark
        columns["distance_m"] = np.concatenate([np.zeros(0, np.float32), *self._rows["distance_m"]])
        columns["shot"] = np.concatenate([np.zeros(0, np.int32), *self._rows["shot"]])
        for field in ("specimen", "label"):
            encoded = [text.encode() for part in self._rows[field] for text in part.tolist()]
            width = max((len(text) for text in encoded), default=0) or 1
            columns[field] = np.array(encoded, dtype=h5py.string_dtype("utf-8", width))
        for name, column in columns.items():
            self._file.create_dataset(name, data=column, track_times=False)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        file, complete = self._file, False
        try:
            if kind is None:
                self._finish(_h5py())
                file.close()
                with open(self._temporary, "rb") as written:
                    os.fsync(written.fileno())
                os.replace(self._temporary, self.path)
                complete = True
        except OSError as failure:
            raise FileFormatError(f"cannot be written: {failure}", file=self.path) from failure
        finally:
            self._file = None
            if not complete:
                file.close()
                self._temporary.unlink(missing_ok=True)


def write_store(
    path: str | os.PathLike[str],
    *,
    counts: np.ndarray,
    wavelength: np.ndarray,
    specimen: Sequence[str] | np.ndarray,
    label: Sequence[str] | np.ndarray | None = None,
    distance_m: np.ndarray | float = float("nan"),
    shot: np.ndarray | None = None,
    **header: Any,
) -> None:
    """Write a whole set at once; uint16 stays uint16, all else is stored as float32.

    ``header`` : `StoreWriter`'s mask, dark, quantity, saturation, instrument, source, simulated, compression.
    """
    values = np.asarray(counts)
    dtype = np.uint16 if values.dtype == np.uint16 else np.float32
    with StoreWriter(path, wavelength=wavelength, dtype=dtype, **header) as store:
        store.append(values, specimen=specimen, label=label, distance_m=distance_m, shot=shot)


class StoreReader:
    """Open a store, prove its layout, and read spectra when asked for them.

    Attributes: ``channels``; ``wavelength`` float64 [channels]; ``mask`` bool [channels]; ``dark`` float32
    [channels] or None; ``distance_m`` float32 [n]; ``specimen``, ``label`` str [n]; ``shot`` int32 [n];
    ``quantity``, ``saturation``, ``instrument``, ``source``, ``simulated``, ``dtype``.

    Raises `FileFormatError` (not a store, another version, anything missing, of the wrong shape or truncated)
    and `AxisError` (not vacuum, not increasing). A context manager, with ``len()``, `row`, `rows`, iteration.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        h5py = _h5py()
        if not self.path.is_file():
            raise FileFormatError("no such file", file=self.path)
        try:
            self._file = h5py.File(self.path, "r")
        except OSError as error:
            raise FileFormatError(f"not a readable HDF5 file: {error}", file=self.path) from error
        try:
            self._load(h5py)
        except Exception as error:
            self.close()
            if isinstance(error, SedgeError):
                raise
            raise FileFormatError(f"not a usable spectra store: {error}", file=self.path) from error

    def _load(self, h5py: Any) -> None:
        attributes = self._file.attrs
        for name in _ATTRIBUTES:
            if name not in attributes:
                self._bad(name, None, f"this attribute is missing: not a {FORMAT!r} file")
        if attributes["format"] != FORMAT:
            self._bad("format", attributes["format"], f"must be {FORMAT!r}")
        if attributes["version"] != VERSION:
            self._bad("version", int(attributes["version"]), f"this libsedge reads version {VERSION}")
        self.quantity = str(attributes["quantity"])
        if self.quantity not in QUANTITIES:
            self._bad("quantity", self.quantity, f"must be one of {QUANTITIES}")
        medium = str(attributes["medium"])
        if medium != "vacuum":
            raise AxisError("must be 'vacuum'", file=self.path, field="medium", value=medium)
        self.saturation, self.simulated = float(attributes["saturation"]), bool(attributes["simulated"])
        self.instrument, self.source = str(attributes["instrument"]), str(attributes["source"])
        self._counts = self._dataset(h5py, "counts", 2)
        self.dtype = self._counts.dtype
        if self.dtype not in (np.dtype(np.uint16), np.dtype(np.float32)):
            self._bad("counts", str(self.dtype), "must be uint16 or float32")
        self._n, self.channels = (int(size) for size in self._counts.shape)
        self.wavelength = check_axis(self._column(h5py, "wavelength_nm", self.channels), file=self.path)
        mask = self._column(h5py, "mask", self.channels)
        if not np.isin(mask, (0, 1)).all() or not mask.any():
            self._bad("mask", None, "must hold 0 and 1, and at least one valid channel")
        self.mask = mask.astype(bool)
        self.dark = None
        if "dark" in self._file:
            self.dark = self._column(h5py, "dark", self.channels).astype(np.float32)
            if not np.isfinite(self.dark).all():
                self._bad("dark", None, "must be finite")
        self.distance_m = self._column(h5py, "distance_m", self._n).astype(np.float32)
        self.shot = self._column(h5py, "shot", self._n).astype(np.int32)
        self.specimen, self.label = self._texts(h5py, "specimen"), self._texts(h5py, "label")

    def _bad(self, field: str, value: object, why: str) -> NoReturn:
        raise FileFormatError(why, file=self.path, field=field, value=value)

    def _dataset(self, h5py: Any, name: str, ndim: int) -> Any:
        link = self._file.get(name, getlink=True)
        if link is None:
            self._bad(name, None, "this dataset is missing")
        dataset: Any = self._file[name] if isinstance(link, h5py.HardLink) else None
        if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
            self._bad(name, None, "must be a dataset inside this file")
        if dataset.ndim != ndim:
            self._bad(name, dataset.shape, f"must have {ndim} dimension(s)")
        return dataset

    def _column(self, h5py: Any, name: str, size: int) -> np.ndarray:
        dataset = self._dataset(h5py, name, 1)
        if dataset.shape != (size,):
            self._bad(name, dataset.shape, f"must have shape ({size},)")
        return np.asarray(dataset[()])

    def _texts(self, h5py: Any, name: str) -> np.ndarray:
        dataset = self._dataset(h5py, name, 1)
        if dataset.shape != (self._n,) or h5py.check_string_dtype(dataset.dtype) is None:
            self._bad(name, dataset.shape, f"must be {self._n} UTF-8 strings")
        return np.array(dataset.asstr()[()].tolist(), dtype=np.str_).reshape(self._n)

    def __len__(self) -> int:
        return self._n

    def rows(self, rows: slice) -> np.ndarray:
        """Counts of a slice of rows, [k, channels], in the stored dtype; damage is a `FileFormatError`."""
        start, stop, step = rows.indices(self._n)
        if step < 1:
            raise ConfigError("rows are read forwards", file=self.path, field="step", value=step)
        try:
            return np.asarray(self._counts[start:stop:step])
        except (OSError, RuntimeError) as error:
            where = f"counts[{start}:{stop}]"
            raise FileFormatError(f"damaged: {error}", file=self.path, field=where) from error

    def row(self, index: int) -> np.ndarray:
        """Counts of one row, [channels]; `IndexError` outside the set."""
        if not -self._n <= index < self._n:
            raise IndexError(f"row {index} of {self._n}")
        return self.rows(slice(index % self._n, index % self._n + 1))[0]

    def __iter__(self) -> Iterator[StoreRow]:
        for start in range(0, self._n, _BLOCK):
            for i, counts in enumerate(self.rows(slice(start, start + _BLOCK)), start):
                distance, specimen, label = (
                    float(self.distance_m[i]),
                    str(self.specimen[i]),
                    str(self.label[i]),
                )
                yield StoreRow(counts, distance, specimen, label, int(self.shot[i]))

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> StoreReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
