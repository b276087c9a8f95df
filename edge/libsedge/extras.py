"""Packages that a board has only where it asked for them: imported on use, with an error that says how to get
them."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from libsedge.errors import ConfigError


def check(package: str, extra: str) -> None:
    """ConfigError naming the extra where `package` is not installed; imports nothing."""
    if importlib.util.find_spec(package) is None:
        raise ConfigError(f"is not installed; install libsedge[{extra}]", field="package", value=package)


def load(package: str, extra: str) -> Any:
    """The module `package`; ConfigError naming the extra of libsedge that brings it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ConfigError(
            f"is not installed; install libsedge[{extra}]", field="package", value=package
        ) from error
