"""Greenlets that have done their work wait for the next.

To begin one takes 0.15 ms in a process that has rested, one that waits goes on after 0.05: gevent's pool is
code that nothing else has used lately, and a flag is what the reader of events has set a moment before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event as Flag
from gevent.lock import Semaphore

_IDLE = 20
"""So many wait at most; of others the stack is given back."""

_Work = tuple[Callable[..., None], tuple[Any, ...]]


class Crew:
    """At most so many at work. What work raises shows itself as any greenlet's error does, and costs no
    place."""

    def __init__(self, most: int, idle: int = _IDLE) -> None:
        self._room = Semaphore(most)
        self._most_idle = idle
        self._idle: list[_Hand] = []

    def free_count(self) -> int:
        """How many more may be at work."""
        return int(self._room.counter)

    def spawn(self, work: Callable[..., None], *arguments: object) -> None:
        """Have it done; waits as long as nobody more may be at work."""
        self._room.acquire()
        if self._idle:
            self._idle.pop().go_on((work, arguments))
        else:
            gevent.spawn(_Hand((work, arguments)).live, self)

    def done(self, hand: _Hand) -> bool:
        """One has done its work. Whether it waits for more."""
        self._room.release()
        if len(self._idle) >= self._most_idle:
            return False
        self._idle.append(hand)
        return True

    def left(self, hand: _Hand) -> None:
        """One was ended, perhaps while it waited."""
        if hand in self._idle:
            self._idle.remove(hand)


class _Hand:
    """One greenlet."""

    def __init__(self, work: _Work) -> None:
        self._work = work
        self._called = Flag()

    def go_on(self, work: _Work) -> None:
        self._work = work
        self._called.set()

    def live(self, crew: Crew) -> None:
        waits = True
        try:
            while waits:
                self._called.clear()
                try:
                    self._do()
                finally:
                    waits = crew.done(self)
                if waits:
                    self._called.wait()
        finally:
            crew.left(self)

    def _do(self) -> None:
        (work, arguments), self._work = self._work, (_nothing, ())  # it keeps nobody's objects while it waits
        work(*arguments)


def _nothing() -> None: ...
