"""`SpectraSet`: the one container of spectra on the host.

A detector gap is a mask or a jump of the axis, never an interpolated line.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from libsedge.errors import SedgeError, SpectrumError
from libsedge.store import QUANTITIES, StoreReader, check_axis, write_store

_BLOCK = 512  # spectra checked at a time
_PER_ROW = ("distance_m", "specimen", "label", "shot")


@dataclass(frozen=True, eq=False)
class SpectraSet:
    """``n`` spectra on one axis.

    counts : uint16 or float32 [n, channels]; other number types become float32.
    wavelength : float64 [channels], vacuum nm, strictly increasing.
    distance_m : float32 [n], stand-off in metres, NaN = unknown (default).
    specimen : str [n], the physical thing that was shot, ``""`` = unknown (default); splits never cut it.
    label : str [n], the class, ``""`` = unlabelled (default).
    shot : int32 [n], default 0 ... n - 1. mask : bool [channels], True = valid (default).
    quantity : ``counts``, ``radiance`` or ``intensity``. saturation : clipping level, NaN = unknown.
    dark : float32 [channels], still to be subtracted, or None.
    instrument, source : where the spectra come from and what a reader assumed. simulated : not measured.

    The constructor fills defaults and fixes dtypes and shapes (`SpectrumError`); `validate` proves contents.
    """

    counts: np.ndarray
    wavelength: np.ndarray
    distance_m: np.ndarray = None  # type: ignore[assignment]  # None only on the way in
    specimen: np.ndarray = None  # type: ignore[assignment]
    label: np.ndarray = None  # type: ignore[assignment]
    shot: np.ndarray = None  # type: ignore[assignment]
    mask: np.ndarray = None  # type: ignore[assignment]
    quantity: str = "counts"
    saturation: float = float("nan")
    dark: np.ndarray | None = None
    instrument: str = ""
    source: str = ""
    simulated: bool = False

    def __post_init__(self) -> None:
        counts = np.asarray(self.counts)
        if counts.ndim != 2:
            raise SpectrumError("must be [n, channels]", field="counts", value=counts.shape)
        n, channels = counts.shape
        if counts.dtype != np.uint16:
            with np.errstate(over="ignore"):  # becomes infinite, which validate() refuses
                counts = counts.astype(np.float32, copy=False)
        fixed: dict[str, Any] = {
            "counts": counts,
            "wavelength": np.asarray(self.wavelength, np.float64),
            "distance_m": _column(self.distance_m, np.float32, np.full(n, np.nan, np.float32)),
            "specimen": _column(self.specimen, np.str_, np.full(n, "", np.str_)),
            "label": _column(self.label, np.str_, np.full(n, "", np.str_)),
            "shot": _column(self.shot, np.int32, np.arange(n, dtype=np.int32)),
            "mask": _column(self.mask, np.bool_, np.ones(channels, bool)),
            "saturation": float(self.saturation),
            "simulated": bool(self.simulated),
        }
        if self.dark is not None:
            fixed["dark"] = np.asarray(self.dark, np.float32)
        for name, value in fixed.items():
            object.__setattr__(self, name, value)
        for name, size in (*((name, n) for name in _PER_ROW), ("wavelength", channels), ("mask", channels)):
            self._check_shape(name, size)
        if self.dark is not None:
            self._check_shape("dark", channels)

    def _check_shape(self, name: str, size: int) -> None:
        shape = getattr(self, name).shape
        if shape != (size,):
            raise SpectrumError(
                f"must have shape ({size},) beside counts {self.counts.shape}", field=name, value=shape
            )

    def __len__(self) -> int:
        return int(self.counts.shape[0])

    @property
    def channels(self) -> int:
        return int(self.counts.shape[1])

    @property
    def classes(self) -> list[str]:
        """Labels that occur, sorted; unlabelled rows count for nothing."""
        return sorted(set(self.label.tolist()) - {""})

    @property
    def specimens(self) -> list[str]:
        """Specimens that occur, sorted."""
        return sorted(set(self.specimen.tolist()))

    def validate(self) -> SpectraSet:
        """Prove the contents, return self; `AxisError`, `SpectrumError` name the first bad field and row."""
        check_axis(self.wavelength)
        if self.quantity not in QUANTITIES:
            raise SpectrumError(f"must be one of {QUANTITIES}", field="quantity", value=self.quantity)
        if not self.mask.any():
            raise SpectrumError("masks every channel", field="mask")
        if np.isinf(self.saturation) or self.saturation <= 0:
            raise SpectrumError(
                "must be positive, or NaN = unknown", field="saturation", value=self.saturation
            )
        if self.dark is not None and not np.isfinite(self.dark).all():
            channel = int(np.flatnonzero(~np.isfinite(self.dark))[0])
            raise SpectrumError("must be finite", field=f"dark[{channel}]", value=float(self.dark[channel]))
        bad = np.flatnonzero(np.isinf(self.distance_m) | (self.distance_m < 0))
        if bad.size:
            row = int(bad[0])
            raise SpectrumError(
                "must be finite and not negative, or NaN = unknown",
                field=f"distance_m[row {row}]",
                value=float(self.distance_m[row]),
            )
        if self.counts.dtype != np.uint16:
            self._check_finite()
        return self

    def _check_finite(self) -> None:
        for start in range(0, len(self), _BLOCK):
            finite = np.isfinite(self.counts[start : start + _BLOCK])
            if not finite.all():
                row, channel = (int(i) for i in np.argwhere(~finite)[0])
                row += start
                raise SpectrumError(
                    f"must be finite (at {self.wavelength[channel]:.3f} nm)",
                    field=f"counts[row {row}, channel {channel}]",
                    value=float(self.counts[row, channel]),
                )

    def select(self, index: Any) -> SpectraSet:
        """The rows that ``index`` (slice, integers or bool [n]) picks, in its order; the axis is shared."""
        if not isinstance(index, slice):
            index = np.atleast_1d(np.asarray(index))
            if index.size == 0:
                index = index.astype(np.intp)
        return replace(
            self, counts=self.counts[index], **{name: getattr(self, name)[index] for name in _PER_ROW}
        )

    @staticmethod
    def concat(sets: Sequence[SpectraSet]) -> SpectraSet:
        """One set out of several on the same axis, mask, dark, quantity and saturation; else `SpectrumError`.

        Instruments and sources that differ are joined by ``"; "`` in order of first appearance; the result is
        simulated if any part is.
        """
        if not sets:
            raise SpectrumError("needs at least one set", field="concat", value=0)
        first = sets[0]
        for i, other in enumerate(sets[1:], 1):
            for name in ("wavelength", "mask", "dark", "quantity", "saturation"):
                if not _same(getattr(first, name), getattr(other, name)):
                    raise SpectrumError("differs from the first set's", field=f"concat[{i}].{name}")
        joined: dict[str, Any] = {"simulated": any(s.simulated for s in sets)}
        for name in ("counts", *_PER_ROW):
            joined[name] = np.concatenate([getattr(s, name) for s in sets])
        for name in ("instrument", "source"):
            joined[name] = "; ".join(dict.fromkeys(getattr(s, name) for s in sets))
        return replace(first, **joined)

    def save(self, path: str | os.PathLike[str], *, compression: int = 0) -> None:
        """Validate, then write an HDF5 store (`libsedge.store`): same set, same bytes."""
        self.validate()
        write_store(
            path,
            counts=self.counts,
            wavelength=self.wavelength,
            specimen=self.specimen,
            label=self.label,
            distance_m=self.distance_m,
            shot=self.shot,
            mask=self.mask,
            dark=self.dark,
            quantity=self.quantity,
            saturation=self.saturation,
            instrument=self.instrument,
            source=self.source,
            simulated=self.simulated,
            compression=compression,
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SpectraSet:
        """Read a whole HDF5 store into memory and validate it; errors as `libsedge.store.StoreReader`."""
        with StoreReader(path) as store:
            loaded = cls(
                counts=store.rows(slice(None)),
                wavelength=store.wavelength,
                distance_m=store.distance_m,
                specimen=store.specimen,
                label=store.label,
                shot=store.shot,
                mask=store.mask,
                quantity=store.quantity,
                saturation=store.saturation,
                dark=store.dark,
                instrument=store.instrument,
                source=store.source,
                simulated=store.simulated,
            )
        try:
            return loaded.validate()
        except SedgeError as error:
            raise type(error)(error.why, file=path, field=error.field, value=error.value) from error


def _column(values: Any, dtype: Any, default: np.ndarray) -> np.ndarray:
    return default if values is None else np.asarray(values, dtype=dtype)


def _same(a: Any, b: Any) -> bool:
    if a is None or b is None:
        return a is b
    return bool(np.array_equal(np.asarray(a), np.asarray(b), equal_nan=np.asarray(a).dtype.kind == "f"))
