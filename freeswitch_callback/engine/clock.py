"""The time that an engine decides and waits by; a simulated day brings its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

import gevent
from gevent.event import Event as Flag


class Clock:
    """The computer's clock, which is FreeSWITCH's too: what its events say is comparable."""

    def time(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def now(self) -> datetime:
        """The same in UTC."""
        return datetime.fromtimestamp(self.time(), UTC)

    def monotonic(self) -> float:
        """Seconds since some moment; steps of the computer's clock do not move it."""
        return time.monotonic()

    def within(self, seconds: float) -> Callable[[], bool]:
        """Tells, whenever it is asked, whether no more than that has passed since now."""
        until = self.monotonic() + seconds
        return lambda: self.monotonic() <= until

    def wait(self, flag: Flag, seconds: float | None = None) -> bool:
        """Wait until the flag is set, at most so long (None: as long as it takes); whether it is set."""
        return bool(flag.wait(seconds))

    def sleep(self, seconds: float) -> None:
        gevent.sleep(seconds)


SYSTEM = Clock()
