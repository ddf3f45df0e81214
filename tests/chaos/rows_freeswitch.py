"""FreeSWITCH is killed with calls up, or is away while callers give up."""

from __future__ import annotations

import gevent
import structlog

from freeswitch_callback.core.facts import Mode
from freeswitch_callback.engine.clock import Clock
from freeswitch_callback.ledger import Ledger
from freeswitch_callback.simulator.clock import RealClock
from tests.chaos.inside import Inside
from tests.chaos.suite import Counts, Given, row

HOUR = 3600.0


@row(
    "freeswitch",
    "FreeSWITCH killed with calls up; away with misses meanwhile, once for an hour by all clocks",
    "what can be known is recorded, what cannot is parked, nobody is called twice",
    full=50,
    short=4,
)
def freeswitch_goes_away(given: Given) -> Counts:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    total = Counts()
    for run in range(given.runs):
        mode = list(Mode)[run // 2 % 3]
        house = Inside(given.folder / str(run), given.random, mode=mode)
        try:
            kind = "away" if run % 2 else "killed"
            if run % 2:
                _away(house, HOUR if run == 1 else 0.0)
            else:
                _killed(house, while_it_rings=run % 4 == 2)
            total.add(house.counts(f"run {run}, {kind}, {mode}"))
        finally:
            house.close()
    return total


def _some_are_called_back(house: Inside) -> None:
    """Some were missed before, and are called back now."""
    for _ in range(house.random.randrange(1, 4)):
        house.gives_up()
    house.until(house.all_on_record)
    house.work()


def _killed(house: Inside, while_it_rings: bool) -> None:
    """At random, or at the moment of which nobody can know more than that a client was dialled."""
    house.engine()
    house.sim.add_queue("nobody@default", extension="3100", discard_abandoned_after=7200)
    waiting = [house.sim.call(house.number(), to="3100") for _ in range(house.random.randrange(3))]
    house.until(lambda: all(house.waits(call) for call in waiting))
    site = house._running[0][0].sites[0]
    house.until(lambda: site.recorder._capture.legs >= len(waiting))  # their events have come
    _some_are_called_back(house)
    if while_it_rings:
        house.sim.wait_for(lambda: house.sim.dialled)
    else:
        gevent.sleep(house.random.uniform(0.0, 0.6))
    house.sim.crash()
    house.missed += [call.number for call in waiting]
    house.until(lambda: not site.node.up.is_set())
    gevent.sleep(house.random.uniform(0.0, 0.4))
    house.sim.restart()
    house.until(lambda: site.up)
    house.work(False)
    house.gives_up()
    house.work()


class _Later(Clock):
    """The computer's clock, some time later."""

    def __init__(self) -> None:
        self.passed = 0.0

    def time(self) -> float:
        return super().time() + self.passed

    def monotonic(self) -> float:
        return super().monotonic() + self.passed


def _away(house: Inside, passes: float) -> None:
    """`passes`: seconds that pass meanwhile for everybody, beside those that really do."""
    clock = _Later()
    house.engine(ledger=Ledger(house.url, clock=clock.now), clock=clock)
    house.sim.add_queue("nobody@default", extension="3100", discard_abandoned_after=7200)
    _some_are_called_back(house)
    gevent.sleep(house.random.uniform(0.0, 0.6))
    site = house._running[0][0].sites[0]
    waiting = [house.sim.call(house.number(), to="3100") for _ in range(house.random.randrange(3))]
    house.until(lambda: all(house.waits(call) for call in waiting))
    house.sim.refuse_connections()
    house.sim.cut_connections()
    house.work(False)
    for call in waiting:
        house.gives_up(call)
    for _ in range(house.random.randrange(1, 4)):
        house.gives_up()
    gevent.sleep(house.random.uniform(0.0, 0.8))
    clock.passed = passes
    assert isinstance(house.sim.clock, RealClock)
    house.sim.clock.pass_by(passes)
    house.sim.refuse_connections(False)
    house.until(lambda: site.up)
    house.work()
