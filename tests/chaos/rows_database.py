"""PostgreSQL is killed under load, and is away."""

from __future__ import annotations

from collections.abc import Callable

import gevent

from tests import postgres
from tests.chaos.suite import Counts, Given, row
from tests.chaos.world import World

_A_WORLD = 10


@row(
    "postgres-killed",
    "PostgreSQL killed (immediate) under load, restarted",
    "what happened meanwhile is recorded; nobody is called twice; no agent is held",
    full=50,
    short=2,
)
def killed_under_load(given: Given) -> Counts:
    total = Counts()
    while total.runs < given.runs:
        runs = min(_A_WORLD, given.runs - total.runs)
        total.add(_without_a_database(given, total.runs // _A_WORLD, runs, lambda: given.random.random()))
    return total


@row(
    "postgres-away",
    "PostgreSQL away for a minute",
    "recording goes on in the spool; recalls pause, and go on",
    full=1,
    short=1,
)
def away_for_long(given: Given) -> Counts:
    return _without_a_database(given, 0, given.runs, lambda: 8.0 if given.short else 60.0)


def _without_a_database(given: Given, at: int, runs: int, away: Callable[[], float]) -> Counts:
    """`away`: for how many seconds."""
    world = World(
        given.folder / str(at), given.random, database="postgresql",
        mode=("agent-first", "client-first")[at % 2],
    )  # fmt: skip
    server = postgres.server()
    try:
        [engine] = world.engines
        engine.start()
        world.wait_up()
        with world.load():
            for _ in range(runs):
                gevent.sleep(given.random.uniform(0.5, 1.5))
                server.stop_at_once()
                gevent.sleep(away())
                server.start()
                gevent.sleep(given.random.uniform(1.0, 3.0))
        return world.counts(runs)
    finally:
        world.close()
