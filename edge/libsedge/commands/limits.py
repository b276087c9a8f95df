"""What an option's number may be: a callback of click, so that a command and `config --check` refuse the same."""

from __future__ import annotations

import math
from collections.abc import Callable

import click

from libsedge.errors import ConfigError

Check = Callable[[click.Context, click.Parameter, float | None], float | None]


def within(low: float, high: float = math.inf) -> Check:
    """At least `low` and, where given, at most `high`."""
    meaning = f"must be {low:g} or more" if math.isinf(high) else f"must be {low:g} to {high:g}"
    return _check(lambda value: low <= value <= high, meaning)


def above_zero(high: float = math.inf) -> Check:
    """Finite, above 0 and, where given, at most `high`."""
    meaning = "must be above 0" + ("" if math.isinf(high) else f" and at most {high:g}")
    return _check(lambda value: 0 < value <= high and not math.isinf(value), meaning)


def _check(holds: Callable[[float], bool], meaning: str) -> Check:
    def check(context: click.Context, param: click.Parameter, value: float | None) -> float | None:
        if value is not None and not holds(value):
            name = max(param.opts, key=len).lstrip("-")
            raise ConfigError(meaning, field=name, value=value)
        return value

    return check
