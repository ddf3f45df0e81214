"""Waiting for the database: what must be written while it is away is written later."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar

import structlog
from gevent.event import Event

from freeswitch_callback.engine.clock import Clock
from freeswitch_callback.errors import DatabaseUnreachable

log = structlog.get_logger(__name__)

T = TypeVar("T")


def patiently(work: Callable[[], T], *, what: str, stopping: Event, clock: Clock) -> T:
    """`work`'s result, tried again with a growing, jittered delay while the database is out of reach.

    Raises `DatabaseUnreachable` only once the engine is stopping: then nobody is left to wait.
    """
    delay, said = 0.1, False
    while True:
        try:
            result = work()
        except DatabaseUnreachable as error:
            if stopping.is_set():
                raise
            if not said:
                log.warning("waits_for_database", to=what, error=str(error))
                said = True
            clock.wait(stopping, delay * random.uniform(0.5, 1.0))
            delay = min(delay * 2, 5.0)
        else:
            if said:
                log.info("database_back", after_waiting_to=what)
            return result
