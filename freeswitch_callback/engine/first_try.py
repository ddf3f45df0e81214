"""Several engines at one node: which of them tries first when an agent becomes free.

Each of them hears of it at the same moment. Without an order each would try to claim what one of them has
claimed already. So who was overtaken leaves the first try to the other from then on, until that is gone or
too busy; of two who have overtaken each other, to the one whose name comes first, or nobody would have it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from freeswitch_callback.engine.clock import Clock

_SECOND_FOR = 10.0
"""Seconds for which an engine that had a recall or an agent first has the first try at all agents."""
_HEAD_START = (0.1, 0.3)
"""Seconds, as chance has it, that those who have the first try are given."""
_THEY_ARE_SLOW = 5
"""Agents whom nobody has taken in that time, one after the other: then the first try is ours again."""


class FirstTry:
    """Ours, unless another engine was quicker lately."""

    def __init__(self, engine: str, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._second_until = 0.0  # another engine has it (monotonic)
        self._tries_at: float | None = None  # the end of its head start (monotonic)
        self._left_to_us = 0  # agents whom it has not taken within that

    @property
    def ours(self) -> bool:
        return self._clock.monotonic() >= self._second_until

    @property
    def most(self) -> int | None:
        """How many agents to try for at once, None for all: few at first, to see whether they are left to
        us."""
        return None if self.ours else 1 + self._left_to_us

    def head_start(self) -> float:
        """Seconds for which whoever is free is still left to another engine: it takes them, or it does not
        because it is gone or has too much to do."""
        now = self._clock.monotonic()
        if not self.ours:
            if self._tries_at is None:
                self._tries_at = now + random.uniform(*_HEAD_START)
            if now < self._tries_at:
                return self._tries_at - now
        self._tries_at = None
        return 0.0

    def lost(self, to: Iterable[str]) -> None:
        """Another engine was quicker: one of these, who hold agents now, or it is not known which."""
        others = set(to) - {self._engine}
        if others and min(others) > self._engine:
            return  # they will be overtaken, too, and leave it to us
        self._left_to_us = 0
        self._second_until = self._clock.monotonic() + _SECOND_FOR

    def left_to_us(self) -> None:
        """We have claimed one though the first try was not ours."""
        self._left_to_us += 1
        if self._left_to_us >= _THEY_ARE_SLOW:
            self._second_until = 0.0
