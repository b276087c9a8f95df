"""The vote of several shots of one target."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from libsedge.classifier import Decision


@dataclass(frozen=True)
class Vote:
    """The label with the most accepted shots; of equals the one with the larger summed probability, then the
    first in the bundle's order. None where no shot was accepted.

    votes : shots for the label; probabilities : mean over the accepted shots, one a class; None without one.
    """

    label: str | None
    shots: int
    accepted: int
    votes: int = 0
    index: int | None = None
    probabilities: tuple[float, ...] | None = None


def vote(decisions: Iterable[Decision]) -> Vote:
    """The vote over accepted decisions; see `Vote`."""
    total = accepted = 0
    shots: Counter[int] = Counter()
    weight: dict[int, float] = {}
    names: dict[int, str] = {}
    for decision in decisions:
        total += 1
        if decision.accepted and decision.index is not None and decision.probabilities is not None:
            accepted += 1
            shots[decision.index] += 1
            names[decision.index] = str(decision.label)
            for index, probability in enumerate(decision.probabilities):
                weight[index] = weight.get(index, 0.0) + probability
    if not accepted:
        return Vote(None, total, 0)
    best = min(shots, key=lambda index: (-shots[index], -weight[index], index))
    mean = tuple(weight[index] / accepted for index in range(len(weight)))
    return Vote(names[best], total, accepted, shots[best], best, mean)
