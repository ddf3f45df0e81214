"""The clock jumps, while somebody is called back and others wait."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import datetime

import gevent
import structlog
from gevent.event import Event as Flag

from freeswitch_callback.core.facts import Mode
from freeswitch_callback.core.hours import Hours, Window
from freeswitch_callback.core.numbers import NumberRules
from freeswitch_callback.engine.clock import Clock
from freeswitch_callback.ledger import Ledger
from freeswitch_callback.simulator import Answers
from tests.chaos.inside import Inside
from tests.chaos.suite import Counts, Given, row

HOUR, YEAR = 3600.0, 365 * 86400.0
_JUMPS = (HOUR, -HOUR, YEAR, -YEAR)


class Jumping(Clock):
    """The computer's clock after somebody has set it; what passes is told as before."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def time(self) -> float:
        return time.time() + self.ahead

    def database(self) -> datetime:
        """The same, as the clock of a ledger."""
        return self.now()


@dataclass(frozen=True)
class _Case:
    """`engine`, `database`: by how many seconds whose clock jumps. `zone`: where a change of daylight saving
    time comes while they call, at `begins`, and of those who call."""

    engine: float = 0.0
    database: float = 0.0
    zone: str = ""
    begins: datetime | None = None


_CASES = (
    *(_Case(engine=jump) for jump in _JUMPS),
    *(_Case(database=jump) for jump in (HOUR, -HOUR)),
    *(_Case(engine=jump, database=jump) for jump in (HOUR, -HOUR)),  # both on one computer
    *(
        _Case(zone=zone, begins=datetime.fromisoformat(f"{begins}+00:00"))
        for zone, begins in (
            ("Europe/Berlin", "2027-03-28T00:59:59"),
            ("Europe/Berlin", "2027-10-31T00:59:59"),
            ("America/New_York", "2027-03-14T06:59:59"),
            ("America/New_York", "2027-11-07T05:59:59"),
        )
    ),
)


_NUMBERS = {"Europe/Berlin": "+4930555", "America/New_York": "+1202555"}


@row(
    "clock",
    "the clock jumps by an hour or a year, or daylight saving time begins or ends",
    "nobody is called twice, nothing is lost; leases go by the database's clock",
    full=24,
    short=5,
)
def clock_jumps(given: Given) -> Counts:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    total = Counts()
    # However few runs, an hour, a year and a change of daylight saving time are among them.
    cases = _CASES if given.runs >= len(_CASES) else _CASES[:: max(1, len(_CASES) // given.runs)]
    for run in range(given.runs):
        case = cases[run % len(cases)]
        house = Inside(given.folder / str(run), given.random, mode=list(Mode)[run % len(Mode)])
        try:
            total.add(_story(house, case, run))
        finally:
            house.close()
        if case.engine:
            house = Inside(given.folder / f"{run}-lost", given.random, mode=list(Mode)[run % len(Mode)])
            try:
                total.add(_between_two_looks(house, case.engine, f"run {run}: {case}, between two looks"))
            finally:
                house.close()
    return total


def _story(house: Inside, case: _Case, run: int) -> Counts:
    what = f"run {run}: {case}"
    engines, ledgers = (Jumping(), Jumping()), Jumping()
    if case.begins is not None:
        for clock in (*engines, ledgers):
            clock.ahead = case.begins.timestamp() - time.time()
        every_night = Hours((Window(frozenset(range(7)), 0, 5 * 60),))
        house.gates = replace(
            house.gates, hours=every_night, numbers=NumberRules(allow=frozenset({"DE", "US"}))
        )
        house.prefix = _NUMBERS[case.zone]
    if not case.database:  # longer than until an engine looks whose leases are over
        house.sim.default_client(lambda _number, chance: Answers(0.05, chance.uniform(1.5, 2.0)))
    one, other = [
        house.engine(ledger=Ledger(house.url, clock=ledgers.database), clock=clock) for clock in engines
    ]
    house.gives_up()
    house.gives_up()
    house.until(house.all_on_record)
    house.work()
    gevent.sleep(house.random.uniform(0.0, 0.4))  # waiting, claimed, ringing, talking, or over
    for clock in engines[run % 2 :]:  # both engines', or one's alone
        clock.ahead += case.engine
    ledgers.ahead += case.database
    gevent.sleep(0.2)
    house.gives_up()
    # What was due before a database's clock was put back an hour is due again an hour later.
    put_back = case.database < 0
    counts = house.counts(what, all_recalled=not put_back)
    if put_back:
        ledgers.ahead -= case.database
        counts = house.counts(what, all_recalled=True)
    if not case.database and (taken := _taken_over(house)):
        counts.doubled += taken
        counts.notes.append(f"{what}: {taken} taken over from an engine that lives")
    assert one.name != other.name
    return counts


def _taken_over(house: Inside) -> int:
    journals = [house.ledger.show(row["id"])["journal"] for row in house.rows()]
    return sum(entry["what"] == "adopted" for journal in journals for entry in journal)


def _between_two_looks(house: Inside, jump: float, what: str) -> Counts:
    """The connection is lost with an originate under way. Whether that was dialled is known only by a second
    look, some time after the first, and in between the clock jumps: forward, and the originate is carried out
    late; or back, and it never is."""
    clock = Jumping()
    engine = house.engine(clock=clock, second_look=1.0)
    house.gives_up()
    house.until(house.all_on_record)
    sent, dial = Flag(), house.sim.background
    orders: list[tuple[str, str, str]] = []

    def lose(command: str, job: str, frame: str) -> None:
        house.sim.background = dial  # type: ignore[method-assign]
        orders.append((command, job, frame))
        house.sim.cut_connections()
        sent.set()

    house.sim.background = lose  # type: ignore[method-assign]
    house.work()
    [site] = engine.sites
    looked = sent.wait(10.0) and house.until(lambda: site.up and site.reconciler._nothing_found)
    clock.ahead += jump
    if jump > 0:
        gevent.sleep(0.4)  # time for a second look that would come too early
        dial(*orders[0])
    counts = house.counts(what, all_recalled=True)
    if not looked:
        counts.stuck += 1
        counts.notes.append(f"{what}: nobody looked")
    return counts
