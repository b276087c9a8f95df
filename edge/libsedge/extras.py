"""Packages that a board has only where it asked for them, imported on use: extras of libsedge, with an error that says
how to get them, and plug-ins that join through entry points."""

from __future__ import annotations

import importlib
import importlib.util
from importlib.metadata import entry_points
from typing import Any

from libsedge.errors import ConfigError


def check(package: str, extra: str) -> None:
    """ConfigError naming the extra where `package` is not installed; imports nothing."""
    if importlib.util.find_spec(package) is None:
        raise ConfigError(f"is not installed; install libsedge[{extra}]", field="package", value=package)


def plugin(group: str, name: str) -> Any:
    """What the entry point `name` of `group` names; ConfigError where it cannot be imported, or two claim it."""
    found = list(entry_points(group=group, name=name))
    if len(found) != 1:
        raise ConfigError(f"{len(found)} installed packages have it; one must", field=group, value=name)
    try:
        return found[0].load()
    except Exception as error:  # whatever somebody else's module does on import
        raise ConfigError(
            f"its package cannot be used: {type(error).__name__}: {error}", field=group, value=name
        ) from error


def load(package: str, extra: str) -> Any:
    """The module `package`; ConfigError naming the extra of libsedge that brings it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ConfigError(
            f"is not installed; install libsedge[{extra}]", field="package", value=package
        ) from error
