"""Several engines on one database: one is stopped and wakes up late; four share the work."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

import gevent

from freeswitch_callback.core.facts import Missed, Reason
from freeswitch_callback.core.gates import GateRules, opening
from freeswitch_callback.ledger.leases import Held
from tests import postgres
from tests.chaos.suite import Counts, Given, row
from tests.chaos.world import QUEUE, Program, World

LEASE, SECOND_LOOK = 1.5, 0.5
_ASLEEP = LEASE + SECOND_LOOK + 2.5
"""Seconds for which an engine is stopped: its lease ends, and the other one has looked twice."""
_A_WORLD = 10

# The commit that says "sent" takes a moment: long enough to stop the engine just before it sends.
_SLOW_COMMIT = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.sent_at IS NOT NULL AND OLD.sent_at IS NULL THEN PERFORM pg_sleep(0.1); END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER slow AFTER UPDATE ON attempt DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION slow();
"""

MOMENTS: dict[str, Callable[[Held], object]] = {
    "at random": lambda held: True,
    "claimed": lambda held: held.sent_at is None,
    "sent": lambda held: held.sent_at is not None,
    "answered": lambda held: held.answered_at is not None,
    "connected": lambda held: held.connected_at is not None,
}


@row(
    "stopped",
    "an engine stopped (``SIGSTOP``) past its lease, then continued",
    "another takes over; who wakes up late looks before it dials, and changes nothing",
    full=50,
    short=3,
)
def stopped_past_its_lease(given: Given) -> Counts:
    total = Counts()
    moments = list(MOMENTS)
    while total.runs < given.runs:
        at = total.runs // _A_WORLD
        slow = at % 2 == 0
        world = World(
            given.folder / str(at), given.random,
            database="postgresql" if slow else "sqlite", engines=2, lease=LEASE, second_look=SECOND_LOOK,
            mode=("agent-first", "client-first")[at // 2 % 2],
        )  # fmt: skip
        try:
            if slow:
                postgres.server().run(_SLOW_COMMIT, _name_of(world))
            for engine in world.engines:
                engine.start()
            world.wait_up()
            runs = min(_A_WORLD, given.runs - total.runs)
            for run in range(runs):
                moment = "committing" if slow and run % 3 == 0 else moments[run % len(moments)]
                _stop_one(world, moment)
            total.add(world.counts(runs))
        finally:
            world.close()
    return total


def _name_of(world: World) -> str:
    return world.url.partition("?")[0].rpartition("/")[2]


def _stop_one(world: World, moment: str) -> None:
    """Stop whoever is at this moment, until another has taken over; and wake them."""
    stopped: list[Program] = []

    def reached() -> bool:
        held = world.ledger.held()
        if moment == "committing":
            asleep = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = '{}'"
            if not postgres.server().run(asleep.format(_name_of(world))):
                return False
            held = [one for one in held if one.sent_at is None]
        else:
            held = [one for one in held if MOMENTS[moment](one)]
        pids = {int(one.claim.engine.split(":")[1]) for one in held}
        stopped.extend(engine for engine in world.engines if engine.pid in pids)
        return bool(stopped)

    with world.load(0.3):
        if moment == "at random":
            gevent.sleep(world.random.uniform(0.0, 1.0))
        if not world.until(reached, 20.0):
            stopped.append(world.random.choice(world.engines))
        stopped[0].signal(signal.SIGSTOP)
        gevent.sleep(_ASLEEP)
        stopped[0].signal(signal.SIGCONT)
        gevent.sleep(world.random.uniform(0.0, 0.5))


@row(
    "four-engines",
    "4 engines, 2 nodes, one PostgreSQL, 10,000 recalls",
    "every event seen four times, every agent wanted four times: each client is called once",
    full=10_000,
    short=300,
    busy=True,
    limit=2400.0,
)
def four_engines(given: Given) -> Counts:
    """Nine in ten recalls are there at the start, the others come by calls meanwhile."""
    world = World(
        given.folder, given.random, database="postgresql", nodes=2, engines=4, agents=20,
        lease=10.0, talks=(0.02, 0.2),
    )  # fmt: skip
    try:
        gates = GateRules(min_wait=0.0)
        for at in range(given.runs * 9 // 10):
            now = datetime.now(UTC)
            number = world.number()
            world.wanted.add(number)
            fact = Missed(
                f"fs{at % 2 + 1}", str(uuid.uuid4()), number, now, 30, Reason.ABANDONED, queue=QUEUE
            )
            world.ledger.record(fact, opening(fact, gates, now))
        for engine in world.engines:
            engine.start()
        world.wait_up()
        for _ in range(given.runs - len(world.wanted)):
            world.caller(0.01)
            gevent.sleep(0.02)
        return world.counts(given.runs, timeout=60.0 + given.runs * 0.3)
    finally:
        world.close()
