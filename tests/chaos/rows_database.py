"""PostgreSQL is killed under load, and is away."""

from __future__ import annotations

from collections.abc import Callable

import gevent

from freeswitch_callback.ledger import Filter
from freeswitch_callback.simulator import Call
from tests import postgres
from tests.chaos.suite import Counts, Given, row
from tests.chaos.world import EXTENSION, World

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


@row(
    "postgres-away",
    "PostgreSQL away for a minute, while some of those who wait to be called call again and are served",
    "recording goes on in the spool; recalls pause until it is drained: who was served is not called",
    full=1,
    short=1,
)
def away_for_long(given: Given) -> Counts:
    world = _TheyCallAgain(given.folder, given.random, database="postgresql")
    server = postgres.server()
    try:
        [engine] = world.engines
        engine.start()
        world.wait_up()
        with world.load():
            for _ in range(given.runs):
                gevent.sleep(given.random.uniform(0.5, 1.5))
                world.work("On Break")
                waiting = [world.caller(0.05) for _ in range(8)]
                world.until(lambda: set(map(_number, waiting)) <= world.on_record(), 20.0)  # noqa: B023
                server.stop_at_once()
                world.work("Available")
                for call in waiting:
                    world.calls_again(call)
                gevent.sleep(8.0 if given.short else 60.0)
                server.start()
                gevent.sleep(given.random.uniform(1.0, 3.0))
        return world.counts(given.runs)
    finally:
        world.close()


def _number(call: Call) -> str:
    return call.number


class _TheyCallAgain(World):
    """Some of those who were missed call again, and are served by an agent then."""

    def work(self, status: str) -> None:
        for sim in self.sims:
            for name in sim.roster.agents:
                sim.set_status(name, status)

    def on_record(self) -> set[str]:
        return {row["phone"] for row in self.ledger.listing(Filter())}

    def calls_again(self, call: Call) -> None:
        self.again.add(call.number)
        self.calls.append(self.sims[0].call(call.number, to=EXTENSION, hangs_up_after_talk=0.1))

    def counts(self, runs: int, timeout: float = 60.0) -> Counts:
        counts = super().counts(runs, timeout)
        if not any(row["closed_as"] == "served_inbound" for row in self.ledger.listing(Filter())):
            counts.stuck += 1
            counts.notes.append("nobody who called again was served")
        return counts
