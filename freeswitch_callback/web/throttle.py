"""How often somebody may try, in bounded memory."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable

MOST_KEYS = 10_000


class Throttle:
    """`limit` tries within so many seconds, for each key. Of more than `MOST_KEYS` keys those are forgotten
    that have not tried for longest."""

    def __init__(
        self, limit: int, within: float, clock: Callable[[], float] = time.monotonic, keys: int = MOST_KEYS
    ) -> None:
        self._limit = limit
        self._within = within
        self._clock = clock
        self._keys = keys
        self._tries: OrderedDict[str, deque[float]] = OrderedDict()

    def take(self, key: str) -> float:
        """Counts a try; 0.0, or the seconds until there may be another one."""
        now = self._clock()
        tries = self._tries.setdefault(key, deque(maxlen=self._limit))
        self._tries.move_to_end(key)
        while len(self._tries) > self._keys:
            self._tries.popitem(last=False)
        if len(tries) == self._limit and (left := tries[0] + self._within - now) > 0:
            return left
        tries.append(now)
        return 0.0

    def forgive(self, key: str) -> None:
        """The last try does not count: it was right."""
        if tries := self._tries.get(key):
            tries.pop()

    def __len__(self) -> int:
        return len(self._tries)
