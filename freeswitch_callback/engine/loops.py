"""What must go round for an engine to do its work, and when each loop will be heard of next."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec

from freeswitch_callback.engine.clock import Clock

P = ParamSpec("P")


class Loop:
    """One of them. It says beforehand how long its next turn may take. `vital`: an engine in which it hangs
    is better started anew."""

    def __init__(self, clock: Clock, *, vital: bool = True) -> None:
        self.vital = vital
        self._clock = clock
        self._since = clock.monotonic()
        self._within: float | None = None

    def turns(self, within: float) -> None:
        """Alive; to be heard of again within so many seconds."""
        self._since = self._clock.monotonic()
        self._within = within

    def rests(self) -> None:
        """Alive, and waits for what may never come."""
        self._within = None

    def watched(self, work: Callable[P, None], within: float) -> Callable[P, None]:
        """`work`, each run of which is a turn that takes that long at most; in between it rests."""

        def turn(*args: P.args, **kwargs: P.kwargs) -> None:
            self.turns(within)
            try:
                work(*args, **kwargs)
            finally:
                self.rests()

        return turn

    def overdue(self, alive_at: float) -> float:
        """Seconds for which it has not been heard of, if it should have been; else 0. `alive_at`: something
        that any of them may have waited for was tried then, in vain (monotonic)."""
        if self._within is None:
            return 0.0
        silent = self._clock.monotonic() - max(self._since, alive_at)
        return silent if silent > self._within else 0.0


class Loops:
    """Those of one engine, by name."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._loops: dict[str, Loop] = {}

    def add(self, name: str, *, vital: bool = True) -> Loop:
        """One that rests until its first turn."""
        self._loops[name] = loop = Loop(self._clock, vital=vital)
        return loop

    def overdue(self, alive_at: float) -> dict[str, float]:
        """Those that stand still, and for how many seconds."""
        silent = {name: loop.overdue(alive_at) for name, loop in self._loops.items()}
        return {name: seconds for name, seconds in silent.items() if seconds}

    def alive(self, alive_at: float) -> bool:
        """Whether no vital one stands still."""
        return not any(loop.vital and loop.overdue(alive_at) for loop in self._loops.values())
