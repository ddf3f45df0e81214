"""Time for the simulator: an agenda of what happens when, by the real clock or by hand.

Everything in the simulator happens inside an entry of the agenda or inside a command that a client sent, and
nothing in it ever blocks; so with a `ManualClock` a whole busy day runs in a moment, and twice the same way.
"""

from __future__ import annotations

import heapq
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import count

import gevent
from gevent.event import Event


class Timer:
    """An entry of the agenda; `cancel` takes it out again."""

    __slots__ = ("action",)

    def __init__(self, action: Callable[[], object]) -> None:
        self.action: Callable[[], object] | None = action

    def cancel(self) -> None:
        self.action = None


class Clock(ABC):
    """An agenda: what is due at the same time happens in the order in which it was entered."""

    def __init__(self) -> None:
        self._agenda: list[tuple[float, int, Timer]] = []
        self._entries = count()

    @abstractmethod
    def now(self) -> float:
        """Seconds since 1970."""

    def after(self, seconds: float, action: Callable[[], object]) -> Timer:
        timer = Timer(action)
        heapq.heappush(self._agenda, (self.now() + seconds, next(self._entries), timer))
        return timer

    def _run_one(self) -> None:
        _, _, timer = heapq.heappop(self._agenda)
        action, timer.action = timer.action, None
        if action is not None:
            action()

    def start(self) -> None:  # noqa: B027 - a clock that is moved by hand has nothing to start
        """Begin to run the agenda."""

    def stop(self) -> None:  # noqa: B027
        """Stop running the agenda; what is left in it stays there."""


class ManualClock(Clock):
    """Stands still until somebody calls `advance`."""

    def __init__(self, now: float = 1_795_378_680.0) -> None:
        super().__init__()
        self._now = now

    def now(self) -> float:
        return self._now

    def advance(self, seconds: float = 0.0) -> None:
        """Let `seconds` pass, with everything that is due meanwhile, each at its own time."""
        self._advance_to(self._now + seconds)

    def _advance_to(self, until: float) -> None:
        while self._agenda and self._agenda[0][0] <= until:
            self._now = max(self._now, self._agenda[0][0])
            self._run_one()
        self._now = until

    def step(self, until: float) -> bool:
        """Jump to the next entry and do all that is due then; False if there is none before `until`, which it
        is then."""
        while self._agenda and self._agenda[0][2].action is None:
            heapq.heappop(self._agenda)  # it was cancelled: nothing happens then
        if self._agenda and self._agenda[0][0] < until:
            self._advance_to(max(self._now, self._agenda[0][0]))
            return True
        self._advance_to(max(self._now, until))
        return False


class RealClock(Clock):
    """The computer's own time; a greenlet runs the agenda."""

    def __init__(self) -> None:
        super().__init__()
        # Steps of the computer's clock must not reorder the agenda.
        self._offset = time.time() - time.monotonic()
        self._new_entry = Event()
        self._greenlet: gevent.Greenlet | None = None

    def now(self) -> float:
        return time.monotonic() + self._offset

    def after(self, seconds: float, action: Callable[[], object]) -> Timer:
        timer = super().after(seconds, action)
        if self._agenda[0][2] is timer:
            self._new_entry.set()
        return timer

    def pass_by(self, seconds: float) -> None:
        """It is so much later, with all that was due meanwhile."""
        self._offset += seconds
        self._new_entry.set()

    def start(self) -> None:
        if self._greenlet is None or self._greenlet.dead:
            self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        if self._greenlet is not None:
            self._greenlet.kill()
            self._greenlet = None

    def _run(self) -> None:
        done = 0
        while True:
            wait = self._agenda[0][0] - self.now() if self._agenda else None
            if wait is not None and wait <= 0:
                self._run_one()
                done += 1
                if done % 100 == 0:
                    gevent.sleep(0)  # a long queue of things due must not keep the sockets waiting
                continue
            self._new_entry.clear()
            self._new_entry.wait(wait)
