"""What is done to many calls: told first how many, then done a portion at a time, while calls go on.

The work is a greenlet of the engine's process. Each portion is done whole or not at all; whoever stops the
engine in between stops it there, and the rest is as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import gevent
import structlog

from freeswitch_callback.errors import CallbackError

log = structlog.get_logger(__name__)

Tell = Callable[[int], None]

MOST_AT_ONCE = 2
_KEPT = 50
"""Of which somebody may still ask what became of them."""


class Work:
    """`calls` it is about, and how many were `gone_through`; `failed`: why it ended before."""

    def __init__(self, number: int, who: str, what: str, calls: int) -> None:
        self.number = number
        self.who = who
        self.what = what
        self.calls = calls
        self.gone_through = 0
        self.done = False
        self.failed = ""

    def tell(self, gone_through: int) -> None:
        self.gone_through = gone_through

    def run(self, do: Callable[[Tell], None]) -> None:
        try:
            do(self.tell)
        except CallbackError as error:
            log.warning("not_all_done", what=self.what, who=self.who, error=str(error))
            self.failed = str(error)
        self.done = True


class Portions:
    """All that is being done, of one site."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._works: dict[int, Work] = {}

    def begin(self, who: str, what: str, calls: int, do: Callable[[Tell], None]) -> Work | None:
        """None while `MOST_AT_ONCE` are at work."""
        if sum(not work.done for work in self._works.values()) >= MOST_AT_ONCE:
            return None
        work = Work(next(self._numbers), who, what, calls)
        self._works[work.number] = work
        for old in [old.number for old in self._works.values() if old.done][: -_KEPT or None]:
            del self._works[old]
        gevent.spawn(work.run, do)
        return work

    def of(self, number: int, who: str) -> Work | None:
        """Everybody is told of their own."""
        work = self._works.get(number)
        return work if work is not None and work.who == who else None
