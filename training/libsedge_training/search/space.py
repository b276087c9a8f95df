"""Where the parameters of each strategy are sought. A new tunable strategy is one row in `SPACES`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from libsedge.errors import ConfigError

from .. import weighting
from ..weighting.cc_bcd import FORMULAS, REFERENCES
from ..weighting.dynamic import GROUPS


class Range(NamedTuple):
    """low ... high; `log`: tried evenly in the logarithm; `whole`: integers."""

    low: float
    high: float
    log: bool = False
    whole: bool = False


#: family -> parameter -> where to look. The strategies' own limits are wider.
SPACES: dict[str, dict[str, Range]] = {
    "distance": {"p": Range(-3, 3)},
    "cc-bcd": {
        "a": Range(0.5, 16, log=True),
        "b": Range(0.5, 16, log=True),
        "d": Range(0.5, 20, log=True),
    },
    "focal": {"gamma": Range(0, 5)},
    "group-dro": {"eta": Range(1e-4, 0.3, log=True), "c": Range(0, 5)},
    "vrex": {"beta": Range(0.1, 1000, log=True), "warm": Range(0, 10, whole=True)},
    "jtt": {"t": Range(1, 10, whole=True), "up": Range(1, 20, log=True)},
    "lisa": {"a": Range(1, 4, whole=True), "p": Range(0, 1)},
    "mw-net": {"lr": Range(1e-5, 1e-2, log=True), "a": Range(1e-2, 1, log=True)},
    "virtual": {
        "n": Range(4, 64, log=True, whole=True),
        "p": Range(0.3, 1),
        "foreign": Range(0, 1),
        "sigma": Range(0.3, 3, log=True),
    },
    "per-distance": {},  # a weight a distance, see `suggest`
}
#: family -> the words of its name, in order, where they are not given
_WORDS: dict[str, tuple[tuple[str, Sequence[str]], ...]] = {
    "cc-bcd": (("formula", tuple(FORMULAS)), ("reference", tuple(REFERENCES))),
    "group-dro": (("groups", GROUPS),),
    "vrex": (("groups", GROUPS),),
}
_FREE = Range(0.1, 10, log=True)


def suggest(trial: Any, name: str, distances_m: Sequence[float]) -> str:
    """The canonical name of `name` with every parameter that it does not give taken from an Optuna trial.

    distances_m : of the training spectra, for `per-distance`. ConfigError for a strategy without parameters to tune.
    """
    family, *parts = name.split(":")
    if family not in SPACES:
        raise ConfigError(f"has nothing to tune; known: {', '.join(SPACES)}", field="strategy", value=name)
    words = [part for part in parts if "=" not in part]
    given = [part for part in parts if "=" in part]
    for key, choices in _WORDS.get(family, ())[len(words) :]:
        words.append(trial.suggest_categorical(key, list(choices)))
    space = SPACES[family]
    if family == "per-distance":
        space = {f"{d:g}": _FREE for d in distances_m}
    elif family == "cc-bcd":  # formula and reference say which of them count
        used = weighting.strategy(":".join([family, *words])).parameters
        space = {key: where for key, where in space.items() if key in used}
    fixed = {part.partition("=")[0] for part in given}
    found = [f"{key}={_value(trial, key, where)}" for key, where in space.items() if key not in fixed]
    return weighting.strategy(":".join([family, *words, *given, *found])).name


def _value(trial: Any, key: str, where: Range) -> str:
    if where.whole:
        return str(trial.suggest_int(key, int(where.low), int(where.high), log=where.log))
    return f"{trial.suggest_float(key, where.low, where.high, log=where.log):.4g}"


def check(name: str) -> None:
    """ConfigError where `name` has nothing to tune or a part that its strategy does not know."""
    trial = _First()
    suggest(trial, name, [0.001])
    if not trial.asked:
        raise ConfigError("gives every parameter: nothing is left to tune", field="strategy", value=name)


class _First:
    """A trial that answers with the lowest value or the first choice."""

    asked = False

    def suggest_float(self, key: str, low: float, high: float, log: bool) -> float:
        self.asked = True
        return low

    def suggest_int(self, key: str, low: int, high: int, log: bool) -> int:
        self.asked = True
        return low

    def suggest_categorical(self, key: str, choices: Sequence[str]) -> str:
        self.asked = True
        return choices[0]
