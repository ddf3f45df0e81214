"""Several engines at one node: which of them tries first when an agent becomes free.

Each of them hears of it at the same moment. Without an order each would try to claim what one of them has
claimed already. So who was overtaken leaves the first try to the other from then on, until that is gone or
too busy; of two who have overtaken each other, to the one whose name comes first, or nobody would have it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping

from freeswitch_callback.engine.clock import Clock

_SECOND_FOR = 10.0
"""Seconds for which an engine that had a recall or an agent first has the first try at all agents."""
_HEAD_START = (0.1, 0.3)
"""Seconds, as chance has it, for which an agent who is free is left to who has the first try, and for which
that may take nobody meanwhile."""
_LEFT_AT_MOST = 1.0
"""Seconds for which an agent is left to it if it takes one after the other, and has not come to this one."""
_THEY_ARE_SLOW = 5
"""Agents whom it has left to us one after the other: then the first try is ours again."""
SOME_MORE_IN = 0.1
"""Seconds between the tries of an engine that does not have the first one."""


class FirstTry:
    """Ours, unless another engine was quicker lately."""

    def __init__(self, engine: str, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._second_until = 0.0  # another engine has it (monotonic)
        self._free: dict[tuple[str, float], tuple[float, float]] = {}  # agents: seen when, their head start
        self._at_work_at = 0.0  # when another engine last took anybody (monotonic)
        self._left_to_us = 0  # agents whom it has not taken
        self._next_try = 0.0

    @property
    def ours(self) -> bool:
        return self._clock.monotonic() >= self._second_until

    @property
    def most(self) -> int | None:
        """How many agents to try for at once, None for all: few at first, to see whether they are left to us;
        then `SOME_MORE_IN` later."""
        return None if self.ours else 1 + self._left_to_us

    @property
    def rest(self) -> float:
        """Seconds until it is worth another try: whoever is free since the last is left to another engine."""
        return 0.0 if self.ours else max(0.0, self._next_try - self._clock.monotonic())

    def tries(self) -> None:
        """We look at all who are free."""
        self._next_try = self._clock.monotonic() + SOME_MORE_IN

    def left(self, free: Mapping[str, float]) -> dict[str, float]:
        """Of the agents who are free, with the moment in which each became it, those who are still left to
        another engine, and for how many seconds. It takes them, or it does not because it is gone or has too
        much to do."""
        now = self._clock.monotonic()
        self._free = {
            agent: self._free.get(agent) or (now, random.uniform(*_HEAD_START)) for agent in free.items()
        }
        left: dict[str, float] = {}
        for (name, _), (since, head_start) in self._free.items():
            until = min(max(since, self._at_work_at) + head_start, since + _LEFT_AT_MOST)
            if until > now:
                left[name] = until - now
        return left

    def nothing_is_due(self) -> None:
        """The recall that comes next is left to it, too, whoever was free before."""
        self._free.clear()

    def others_at_work(self) -> None:
        """Somebody else has reserved an agent just now."""
        self._at_work_at = self._clock.monotonic()

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
