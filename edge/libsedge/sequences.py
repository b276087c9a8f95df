"""Which sequence numbers of a stream came: intervals in bounded memory, and what they say of one (stream, epoch)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import Any


class IntervalSet:
    """A set of integers kept as sorted, disjoint, closed intervals; at most `limit` of them.

    Over the limit the two lowest intervals become one; membership between their ends is then unknown.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.starts: list[int] = []
        self.ends: list[int] = []
        self.unknown_up_to: int | None = None

    def __contains__(self, x: int) -> bool:
        i = bisect_right(self.starts, x) - 1
        return i >= 0 and x <= self.ends[i]

    def knows(self, x: int) -> bool:
        """False where `x` may or may not be a member because of a forced merge."""
        return self.unknown_up_to is None or not self.starts or not self.starts[0] <= x <= self.unknown_up_to

    def add(self, x: int) -> None:
        i = bisect_right(self.starts, x) - 1
        if i >= 0 and x <= self.ends[i]:
            return
        left = i >= 0 and self.ends[i] == x - 1
        right = i + 1 < len(self.starts) and self.starts[i + 1] == x + 1
        if left and right:
            self.ends[i] = self.ends.pop(i + 1)
            del self.starts[i + 1]
        elif left:
            self.ends[i] = x
        elif right:
            self.starts[i + 1] = x
        else:
            self.starts.insert(i + 1, x)
            self.ends.insert(i + 1, x)
        if len(self.starts) > self.limit:
            self.ends[0] = self.ends.pop(1)
            del self.starts[1]
            self.unknown_up_to = self.ends[0]

    def discard(self, x: int) -> None:
        i = bisect_right(self.starts, x) - 1
        if i < 0 or x > self.ends[i]:
            return
        start, end = self.starts[i], self.ends[i]
        parts = [(a, b) for a, b in ((start, x - 1), (x + 1, end)) if a <= b]
        self.starts[i : i + 1] = [a for a, _ in parts]
        self.ends[i : i + 1] = [b for _, b in parts]


class EpochCount:
    """What is known about one (stream, epoch)."""

    def __init__(self, limit: int) -> None:
        self.first = self.last = -1
        self.unique = self.duplicates = 0
        self.exact = True
        self.seen = IntervalSet(limit)
        #: seen, but neither journaled nor in flight (shed, unjournaled, rejected): may come again and count
        self.forfeited = IntervalSet(limit)

    @property
    def expected(self) -> int:
        return self.last - self.first + 1 if self.unique else 0

    @property
    def gaps(self) -> int:
        return self.expected - self.unique

    def arrive(self, x: int, durable: Callable[[], bool] | None) -> bool:
        """Note that `x` arrived; True when its frame is a duplicate."""
        if not self.seen.knows(x):
            self.exact = False
            return durable is not None and durable()
        if x in self.seen:
            if not self.forfeited.knows(x):
                return durable is not None and durable()
            if x in self.forfeited:
                self.forfeited.discard(x)
                return False
            return True
        self.first = min(self.first, x) if self.unique else x
        self.last = max(self.last, x)
        self.unique += 1
        self.seen.add(x)
        return durable is not None and durable()  # journaled by an earlier process

    def extend(self, count: int) -> None:
        """So many more arrived, each with the number after the last one's."""
        self.last += count
        self.unique += count
        self.seen.ends[-1] = self.last

    def row(self) -> dict[str, Any]:
        return {
            "first": self.first,
            "last": self.last,
            "expected": self.expected,
            "unique": self.unique,
            "gaps": self.gaps,
            "duplicates": self.duplicates,
            "exact": self.exact,
        }
