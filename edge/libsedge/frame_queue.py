"""The bounded queue between the reader's thread and the worker's, and what happens when it is full."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any, NamedTuple

from libsedge.errors import ConfigError
from libsedge.frame import Frame
from libsedge.ledger import Key

#: what happens when the queue is full: the source waits, or the oldest or the newest frame is shed
POLICIES = ("block", "drop-oldest", "drop-newest")


class Item(NamedTuple):
    """A frame on its way; `at` is time.monotonic() of its arrival, `seen` whether memory knows its key
    already."""

    key: Key
    frame: Frame
    at: float
    seen: bool


class FrameQueue:
    """At most `capacity` items between reader and worker. Every method is called under `lock`."""

    def __init__(self, capacity: int, policy: str, lock: Any) -> None:
        if policy not in POLICIES:
            raise ConfigError(f"must be one of {', '.join(POLICIES)}", field="policy", value=policy)
        if capacity < 1:
            raise ConfigError("must be at least 1", field="capacity", value=capacity)
        self.capacity, self.policy = capacity, policy
        self.aborted = False
        self.items: deque[Item] = deque()
        self._changed = threading.Condition(lock)

    def __len__(self) -> int:
        return len(self.items)

    def put(self, item: Item) -> Item | None:
        """Add `item`; returns the one that was shed for it, if any. Waits where the policy is `block`."""
        shed = None
        while len(self.items) >= self.capacity and self.policy == "block" and not self.aborted:
            self._changed.wait(0.5)
        if len(self.items) >= self.capacity:
            if self.policy == "drop-newest":
                return item
            shed = self.items.popleft()
        self.items.append(item)
        self._changed.notify_all()
        return shed

    def get(self, timeout: float) -> Item | None:
        """The oldest item, or None after `timeout` seconds without one."""
        if not self.items and timeout > 0:
            self._changed.wait(timeout)
        if not self.items:
            return None
        item = self.items.popleft()
        self._changed.notify_all()
        return item

    def wake(self) -> None:
        """Let everybody who waits look again."""
        self._changed.notify_all()
