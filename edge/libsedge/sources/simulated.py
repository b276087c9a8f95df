"""`simulated:seed=1,count=1000,...`: frames that look like LIBS, for trying a board without an instrument.

| key | default | meaning |
|---|---|---|
| `seed` | 1 | 0 to 2^32 - 1 |
| `count` | 1000 | frames, darks included |
| `rate` | none | frames a second; without it as fast as they are taken (`--rate` says the same) |
| `channels` | 5400 | pixels of an even axis from 240 to 850 nm; not together with `--axis` |
| `elements` | Mg+Si+Ca+Fe | of the table of lines (`libsedge.line_table`) |

Every hundredth frame is a dark, the first one too. Ten shots make a target: its elements have amounts of their own,
its distance is the next of `DISTANCES_MM`, and the signal falls with the square of it. A shot is Lorentz-shaped lines
at the table's strengths, a continuum, a pulse energy that varies by 10 %, shot and read noise, and a dark level, in
16-bit counts. It is no physics of a plasma; `libsedge simulate` on the host is nearer to that.

The same seed, axis and elements are the same stream with the same bytes on every machine: only operations that IEEE 754
rounds exactly and raw random bits are used. The time of a frame is 0 (unknown) for that reason.
"""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections.abc import Iterator

import numpy as np

from libsedge.errors import ConfigError
from libsedge.frame import FLAG_DARK, MAX_CHANNELS, Frame
from libsedge.line_table import read_table
from libsedge.sources.base import Axis, Source, SourceOptions
from libsedge.sources.pace import until

DISTANCES_MM = (1600, 2000, 2500, 3000, 4000, 5000, 7000)
SHOTS, DARK_EVERY = 10, 100
INTEGRATION_US = 1000
_START_NM, _STOP_NM = 240.0, 850.0
_DARK_LEVEL, _READ_NOISE = 500.0, 6.0
#: counts of an element's strongest line and of the continuum, at 2 m
_LINE, _CONTINUUM = 9000.0, 400.0
_ELEMENTS = "Mg+Si+Ca+Fe"
_LARGEST_SEED = 2**32 - 1


def _normal(bits: np.random.PCG64, count: int) -> np.ndarray:
    """Noise of mean 0 and variance 1, float64 [count]: the sum of four even numbers."""
    sums = bits.random_raw(count).astype("<u8").view("<u2").reshape(count, 4).sum(axis=1, dtype=np.int64)
    return np.asarray((sums - 131070) / math.sqrt((65536**2 - 1) / 3))


def _even(bits: np.random.PCG64, count: int) -> np.ndarray:
    """Evenly distributed in [0, 1), float64 [count]."""
    return np.asarray((bits.random_raw(count) >> np.uint64(11)) / 2.0**53)


class Scene:
    """What the frames hold: `frame(sequence)` is a function of the seed, the axis and the elements."""

    def __init__(self, axis: Axis, elements: tuple[str, ...], seed: int) -> None:
        wavelength = axis.wavelength_nm
        self._seed = seed
        self._lines = np.zeros((len(elements), wavelength.size))
        table = read_table()
        for row, element in zip(self._lines, elements, strict=True):
            for line in table:
                if line.element == element:
                    half_width = 0.1 + 0.0002 * line.wavelength_nm
                    offset = (wavelength - line.wavelength_nm) / half_width
                    row += line.strength / (1.0 + offset * offset)
        bump = (wavelength - 450.0) / 200.0
        self._continuum = _CONTINUUM / (1.0 + bump * bump)
        self._pattern = _DARK_LEVEL + 10.0 * _normal(self._bits(0, 0), wavelength.size)
        self._target = -1
        self._signal = np.zeros(wavelength.size)
        text = hashlib.sha256(repr((1, seed, elements)).encode())
        text.update(np.ascontiguousarray(wavelength, "<f8").tobytes())
        self.stream_id = int.from_bytes(text.digest()[:4], "little") or 1

    def _bits(self, kind: int, number: int) -> np.random.PCG64:
        return np.random.PCG64([self._seed, kind, number])

    def _aim(self, target: int) -> None:
        """Make `_signal` that of a target."""
        if target == self._target:
            return
        amounts = 0.2 + 0.8 * _even(self._bits(1, target), len(self._lines))
        self._signal = self._continuum.copy()
        for amount, lines in zip(amounts, self._lines, strict=True):
            self._signal += (_LINE * amount) * lines
        distance = 2000.0 / DISTANCES_MM[target % len(DISTANCES_MM)]
        self._signal *= distance * distance
        self._target = target

    def frame(self, sequence: int) -> Frame:
        bits = self._bits(2, sequence)
        pulse = 0.9 + 0.2 * float(_even(bits, 1)[0])
        noise = _normal(bits, self._pattern.size)
        block, place = divmod(sequence, DARK_EVERY)
        if place == 0:
            flags, distance, signal = FLAG_DARK, 0, np.zeros(self._pattern.size)
        else:
            target = (block * (DARK_EVERY - 1) + place - 1) // SHOTS
            self._aim(target)
            flags, distance = 0, DISTANCES_MM[target % len(DISTANCES_MM)]
            signal = pulse * self._signal
        counts = self._pattern + signal + noise * np.sqrt(_READ_NOISE * _READ_NOISE + signal)
        values = np.clip(np.rint(counts), 0, 65535).astype(np.uint16)
        return Frame(self.stream_id, 0, sequence, 0, INTEGRATION_US, distance, flags, values)


class SimulatedSource(Source):
    """`count` frames of a scene; `rate_hz` None = as fast as they are taken."""

    def __init__(
        self, axis: Axis, elements: tuple[str, ...], seed: int, count: int, rate_hz: float | None
    ) -> None:
        self._scene = Scene(axis, elements, seed)
        super().__init__(axis=axis, stream_id=self._scene.stream_id, simulated=True)
        self._count, self._period = count, 0.0 if rate_hz is None else 1 / rate_hz
        self._stopped = threading.Event()

    def __iter__(self) -> Iterator[Frame | None]:
        due = time.monotonic()
        for sequence in range(self._count):
            frame = self._scene.frame(sequence)
            yield from until(due, self._stopped)
            if self._stopped.is_set():
                return
            due += self._period
            yield frame

    def stop(self) -> None:
        self._stopped.set()

    def close(self) -> None:
        self._stopped.set()


def _number(key: str, text: str, smallest: int, largest: int) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 12 or not smallest <= int(text) <= largest:
        raise ConfigError(f"must be {smallest} to {largest}", field=f"simulated: {key}", value=text)
    return int(text)


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not 0 < rate < math.inf:
        raise ConfigError("must be above 0", field="simulated: rate", value=text)
    return rate


def _elements(text: str) -> tuple[str, ...]:
    known = list(dict.fromkeys(line.element for line in read_table()))
    elements = tuple(text.split("+"))
    if len(set(elements)) != len(elements) or not set(elements) <= set(known):
        raise ConfigError(f"must be of {'+'.join(known)}, each once", field="simulated: elements", value=text)
    return elements


def open_simulated(argument: str, options: SourceOptions) -> SimulatedSource:
    """`simulated:KEY=VALUE,...`; ConfigError for what is no key of the module's table, or a value out of range."""
    given: dict[str, str] = {}
    keys = ("seed", "count", "rate", "channels", "elements")
    for setting in argument.split(","):
        key, equals, value = setting.partition("=")
        if key not in keys or not equals or key in given:
            raise ConfigError(
                f"must be KEY=VALUE, each once, of {', '.join(keys)}", field="simulated", value=setting
            )
        given[key] = value
    axis, rate = options.axis, options.rate_hz
    if axis is not None and "channels" in given:
        raise ConfigError("the axis has them already", field="simulated: channels", value=given["channels"])
    if axis is None:
        channels = _number("channels", given.get("channels", "5400"), 2, MAX_CHANNELS)
        step = (_STOP_NM - _START_NM) / channels
        axis = Axis(_START_NM + step * (np.arange(channels) + 0.5), None, 65535.0)
    if "rate" in given:
        if rate is not None:
            raise ConfigError("give it here or with --rate", field="simulated: rate", value=given["rate"])
        rate = _rate(given["rate"])
    elif rate is not None:
        rate = _rate(str(rate))
    seed = _number("seed", given.get("seed", "1"), 0, _LARGEST_SEED)
    count = _number("count", given.get("count", "1000"), 1, 10**11)
    return SimulatedSource(axis, _elements(given.get("elements", _ELEMENTS)), seed, count, rate)
