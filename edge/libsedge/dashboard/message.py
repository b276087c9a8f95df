"""One message: a JSON object and float32 numbers after it; from the pipeline to the page, and from there to a browser.

u32 (little-endian) length of the JSON text, the text (UTF-8), filled up with spaces to a multiple of 4, the numbers
"""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

_LENGTH = struct.Struct("<I")
#: values of one spectrum at most; a longer one is thinned before it crosses over
MAX_POINTS = 8192
#: bytes of one message at most, below the smallest send buffer of Linux
MAX_BYTES = 150_000


def pack(head: dict[str, Any], numbers: np.ndarray | None = None) -> bytes:
    """The message's bytes. ValueError where `head` holds a number that is not finite."""
    text = json.dumps(head, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    body = b"" if numbers is None else np.ascontiguousarray(numbers, "<f4").tobytes()
    return _LENGTH.pack(len(text)) + text + body


def unpack(data: bytes) -> tuple[dict[str, Any], np.ndarray]:
    """The inverse of `pack`; ValueError for anything else."""
    if len(data) < 4:
        raise ValueError("no length")
    end = 4 + _LENGTH.unpack_from(data)[0]
    if end > len(data) or (len(data) - end) % 4:
        raise ValueError("cut off")
    head = json.loads(data[4:end])
    if not isinstance(head, dict):
        raise ValueError("no object")
    return head, np.frombuffer(data, "<f4", offset=end)


def thin_values(values: np.ndarray) -> np.ndarray:
    """At most MAX_POINTS float32: of each group of neighbours the lowest and the highest, so that no line is lost."""
    values = np.asarray(values, np.float32)
    if values.size <= MAX_POINTS:
        return values
    rows = _groups(values)
    return np.stack([rows.min(axis=1), rows.max(axis=1)], axis=1).reshape(-1)


def thin_axis(axis: np.ndarray) -> np.ndarray:
    """The axis of `thin_values`: each group's first and middle place."""
    axis = np.asarray(axis, np.float64)
    if axis.size <= MAX_POINTS:
        return axis
    rows = _groups(axis)
    return np.stack([rows[:, 0], rows[:, rows.shape[1] // 2]], axis=1).reshape(-1)


def _groups(values: np.ndarray) -> np.ndarray:
    """[groups, n]; the last group is filled up with the last value."""
    n = -(-values.size // (MAX_POINTS // 2))
    return np.pad(values, (0, -values.size % n), mode="edge").reshape(-1, n)
