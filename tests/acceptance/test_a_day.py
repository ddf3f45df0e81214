"""A whole day in a contact centre: what the ledger reports is what the simulator saw, call by call."""

from __future__ import annotations

import logging
import os
import re
import tempfile
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random
from zoneinfo import ZoneInfo

import gevent
import pytest
import structlog

from freeswitch_callback.core.capture import CaptureRules
from freeswitch_callback.core.gates import CapRules, GateRules
from freeswitch_callback.core.hours import Hours, Window
from freeswitch_callback.core.numbers import NumberRules
from freeswitch_callback.core.schedule import RetryRules
from freeswitch_callback.engine.attempts import RecallRules
from freeswitch_callback.engine.daemon import Engine, EngineRules, NodeAddress
from freeswitch_callback.ledger import Ledger
from freeswitch_callback.simulator import (
    Answers,
    Behaviour,
    Busy,
    Call,
    Declines,
    Silent,
    Simulator,
    Talk,
    Unallocated,
)
from freeswitch_callback.simulator.channel import Bridge
from tests.acceptance.a_day import Time
from tests.postgres import TEMPLATE, server

SUPPORT = "support@default"
BERLIN = ZoneInfo("Europe/Berlin")
BEGIN = datetime(2026, 10, 25, tzinfo=BERLIN).astimezone(UTC)  # three hours later it is 02:00 once more
END = BEGIN + timedelta(hours=24)
LAST_CALL = timedelta(hours=23, minutes=30)
OPEN, SHUT = 9, 20
MIN_WAIT, MIN_TALK = 3, 10.0
PER_NUMBER, PER_PREFIX, PREFIX = 2, 10, 4

PEOPLE = (
    ("+4930{:08}", "Europe/Berlin"),
    ("+49151{:08}", "Europe/Berlin"),
    ("+7916{:07}", "Europe/Moscow"),
    ("+7383{:07}", "Europe/Moscow"),  # Novosibirsk; `numbers.zones` says that Russians live in Moscow
    ("+1212{:07}", "America/New_York"),
    ("+1312{:07}", "America/Chicago"),
    ("+1213{:07}", "America/Los_Angeles"),
)
COMPANY = ("+4989321{:04}", "Europe/Berlin")  # many people, one prefix; they call before it opens
REFUSED = ("+44791112{:04}", "+88213{:07}", "+49900{:07}", "+1900{:07}", "110", "+493012345{:010}")
PATIENCE = (*[1.5] * 7, *[3.0] * 6, 25.0)
WITHHELD = ("anonymous", "", "unknown")

GATES = GateRules(
    numbers=NumberRules("DE", frozenset({"DE", "RU", "US"}), zones=(("RU", "Europe/Moscow"),)),
    min_wait=MIN_WAIT,
    hours=Hours((Window(frozenset(range(7)), OPEN * 60, SHUT * 60),)),
    caps=CapRules(per_number=PER_NUMBER, per_prefix=PER_PREFIX, breaker=0, block=PREFIX),
)
RULES = EngineRules(
    CaptureRules(),
    lambda queue: GATES,
    lambda queue: RecallRules(
        "sofia/gateway/main/{number}", "+493012345678", retry=RetryRules(min_talk=MIN_TALK)
    ),
    poll=600.0,  # a safety net only, and a node has nothing to hide here
)


@dataclass(eq=False)
class Person:
    """Somebody who calls; `zone` is None for whoever must never be called back.

    `waits_for`: how many of their calls they want to be called back for. `gone`: nobody has this number.
    """

    number: str
    zone: str | None
    gone: bool = False
    call: Call | None = None
    waits_for: int = 0


class Day:
    """The callers and the operators of one day, and everything that became of them.

    `results`: the missed calls by what became of them, in the ledger's words, counted as a bystander would.
    """

    def __init__(self, sim: Simulator, seed: int, calls: int) -> None:
        self.sim = sim
        self.random = Random(seed)
        self.people: dict[str, Person] = {}
        self.results: Counter[str] = Counter()
        self.hours: Counter[int] = Counter()  # in Berlin, of the calls that were missed
        self.talks: list[Talk] = []  # of recalls
        self._recent: list[Person] = []
        self._callers: dict[str, Person] = {}  # by call uuid
        self._talk_is_over, sim.switch.talked = sim.switch.talked, self._talked
        sim.add_queue(SUPPORT, extension="3000", max_wait_time=40, exit_keys="9")
        for position in range(30):
            self._operator(position)
        sim.default_client(self._reacts)
        for _ in range(calls):
            self._at(self.random.uniform(0.0, LAST_CALL.total_seconds()), self._somebody_calls)
        for number in range(3 * PER_PREFIX):
            at = timedelta(hours=9) + self.random.random() * timedelta(minutes=50)
            self._at(at.total_seconds(), partial(self._calls, self._known(*COMPANY, number), 8.0))

    def _at(self, seconds: float, action: Callable[[], object]) -> None:
        """`seconds` from the day's begin."""
        self.sim.clock.after(seconds, action)

    def _operator(self, position: int) -> None:
        """Three shifts, each with a break; in one hour some of them decline."""
        name, begin = f"{1001 + position}@default", position % 3 * 8.0
        answers, declines = Answers(after=2.0 + position % 4), Declines(after=1.0)
        self.sim.add_agent(name, status="Logged Out", wrap_up_time=5, behaviour=answers)
        self.sim.add_tier(SUPPORT, name, position=position + 1)
        for hour, status in (0.0, "Available"), (3.5, "On Break"), (4.0, "Available"), (7.7, "Logged Out"):
            self._at((begin + hour) * 3600, partial(self.sim.set_status, name, status))
        if position % 5 == 0:
            self._at((begin + 2.0) * 3600, partial(self.sim.set_behaviour, name, declines))
            self._at((begin + 3.0) * 3600, partial(self.sim.set_behaviour, name, answers))

    # Who calls

    def _somebody_calls(self) -> None:
        self._calls(self._somebody(), self.random.uniform(0.2, 2.0) * self.random.choice(PATIENCE))

    def _calls(self, person: Person, waits: float) -> None:
        if person.call is not None or self.sim.live_calls(person.number):
            return  # on the phone
        by_key = self.random.random() < 0.05
        person.call = call = self.sim.call(
            person.number,
            name="",
            gives_up_after=None if by_key else waits,
            presses_key=(waits, "9") if by_key else None,
            hangs_up_after_talk=self.random.uniform(15.0, 60.0),
        )
        self._callers[call.uuid] = person
        over = partial(self._call_is_over, person, call, self.sim.clock.now(), by_key)
        call.ended.rawlink(lambda _: over())

    def _somebody(self) -> Person:
        chance = self.random.random()
        if chance < 0.3:
            return Person(self.random.choice(WITHHELD), None)
        if chance < 0.6:
            return Person(self.random.choice(REFUSED).format(self.random.randrange(10_000)), None)
        if chance < 0.83 and self._recent:
            return self.random.choice(self._recent)
        pattern, zone = self.random.choice(PEOPLE)
        person = self._known(pattern, zone, self.random.randrange(2_000_000, 9_000_000))
        self._recent = [*self._recent[-200:], person]
        return person

    def _known(self, pattern: str, zone: str, digits: int) -> Person:
        number = pattern.format(digits)
        return self.people.setdefault(number, Person(number, zone, gone=digits % 20 == 7))

    def _call_is_over(self, person: Person, call: Call, begin: float, by_key: bool) -> None:
        person.call = None
        seconds = int(self.sim.clock.now()) - int(begin)  # as FreeSWITCH counts them
        if call.talking:
            self._result(person, "served_inbound")
            return
        self.hours[datetime.fromtimestamp(begin, BERLIN).hour] += 1
        if person.zone is None or (seconds < MIN_WAIT and not by_key):
            self.results["blocked"] += 1
        else:
            person.waits_for += 1

    # Who is called back

    def _reacts(self, number: str, _random: Random) -> Behaviour:
        person, random = self.people[number], Random(f"{number} {self.sim.clock.now()}")
        if person.gone:
            self._result(person, "exhausted")
            return Unallocated()
        if person.call is not None:
            return Busy()
        chance = random.random()
        if chance < 0.7:
            return Answers(after=random.uniform(2.0, 9.0), talks=random.uniform(12.0, 40.0))
        if chance < 0.8:
            return Answers(after=4.0, talks=3.0)  # a machine
        return Busy() if chance < 0.9 else Silent()

    def _talked(self, bridge: Bridge, ended: float) -> None:
        self._talk_is_over(bridge, ended)
        if bridge.a.uuid in self._callers or bridge.b.uuid in self._callers:
            return
        talk = self.sim.talks[-1]
        self.talks.append(talk)
        if talk.seconds >= MIN_TALK:
            self._result(self.people[talk.number], "recalled")

    def _result(self, person: Person, result: str) -> None:
        """All that they wait for has come to this."""
        self.results[result] += person.waits_for
        person.waits_for = 0

    @property
    def missed(self) -> Counter[str]:
        """All calls that were missed, by what became of them."""
        waiting = sum(person.waits_for for person in self.people.values())
        return +(self.results + Counter(open=waiting))


@dataclass(frozen=True)
class Recall:
    """One originate that made a client's phone ring, seen from the simulator. Times are epoch seconds."""

    number: str
    sent: float
    rang: float


def recalls(sim: Simulator) -> list[Recall]:
    sent = {job[1]: at for at, frame in sim.commands if (job := re.search(r"^Job-UUID: (\S+)", frame, re.M))}
    return [Recall(dialled.number, sent[dialled.job_uuid], dialled.at) for dialled in sim.dialled]


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    return Time(BEGIN, monkeypatch)


@pytest.fixture
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty database that waits for no disk: a day writes as much as fits into it."""
    if request.param == "postgresql":
        yield server().url(server().create(template=TEMPLATE))
        return
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield f"sqlite://{folder}/callback.db"


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("database", "missed"), [("sqlite", 10_000), ("postgresql", 500)], indirect=["database"]
)
def test_a_day_with_a_change_of_daylight_saving_time(time: Time, database: str, missed: int) -> None:
    sim = Simulator(seed=1, clock=time.manual, world_legs=False, heartbeat=3600.0, pace=5.0)
    day = Day(sim, 1, calls=round(missed * 1.1))
    ledger, watched = time.ledger(database)
    address = NodeAddress("fs1", "127.0.0.1", sim.start(), sim.password)
    engine = Engine(watched, [address], RULES, clock=time.engine)
    running = gevent.spawn(engine.run)
    try:
        while not engine.sites[0].up:
            gevent.idle()
        time.pass_until(END)
        the_figures_are_the_same(ledger, sim, day, missed)
        nobody_was_called_who_may_not_be(sim, day)
        everything_is_as_before(ledger, sim)
    finally:
        engine.stop()
        running.get(timeout=10)
        sim.stop()
        ledger.close()


def the_figures_are_the_same(ledger: Ledger, sim: Simulator, day: Day, missed: int) -> None:
    report, summary = ledger.report(BEGIN, END, zone=BERLIN), ledger.summary()
    told = Counter(
        recalled=report.recalled,
        served_inbound=report.served_inbound,
        served_outbound=report.served_outbound,
        open=report.open,
        **report.closed,
    )
    assert +told == day.missed
    assert set(day.missed) == {"recalled", "served_inbound", "open", "exhausted", "blocked"}
    assert report.missed == day.missed.total() >= missed
    assert +Counter(report.by_hour) == day.hours
    reached = [talk for talk in day.talks if talk.seconds >= MIN_TALK]
    assert report.answered == summary.by_outcome["connected"] == len(day.talks) > len(reached)
    assert summary.called_back == len(reached) > 0
    assert sum(summary.by_outcome.values()) == sum("originate" in frame for _, frame in sim.commands)
    assert summary.by_outcome["agent_declined"] > 0
    rang = {outcome: n for outcome, n in summary.by_outcome.items() if not outcome.startswith("agent_")}
    assert sum(rang.values()) == len(sim.dialled)
    assert set(rang) == {"connected", "busy", "no_answer", "unallocated"}


def nobody_was_called_who_may_not_be(sim: Simulator, day: Day) -> None:
    made = recalls(sim)
    zones = {number: ZoneInfo(person.zone) for number, person in day.people.items() if person.zone}
    local = [datetime.fromtimestamp(recall.sent, zones[recall.number]) for recall in made]
    assert all(OPEN <= at.hour < SHUT for at in local)
    assert all(recall.rang - recall.sent < 30.0 for recall in made)  # for so long an operator's phone rings
    first_minute = {at.tzinfo for at in local if (at.hour, at.minute) == (OPEN, 0)}
    assert BERLIN in first_minute  # nobody loses an hour either
    assert max(sim.most_live_calls(recall.number) for recall in made) == 1
    assert max(Counter(recall.number for recall in made).values()) == PER_NUMBER
    by_prefix = defaultdict(list)
    for recall in made:
        by_prefix[recall.number[:-PREFIX]].append(recall.sent)
    assert max(most_within(3600.0, times) for times in by_prefix.values()) == PER_PREFIX


def most_within(seconds: float, times: Sequence[float]) -> int:
    """The most of them that lie within any stretch of this length.

    A cap opens to the microsecond when the oldest leaves the window; a float is not as exact.
    """
    times = sorted(times)
    return max(bisect_left(times, begin + seconds - 0.001) - at for at, begin in enumerate(times))


def everything_is_as_before(ledger: Ledger, sim: Simulator) -> None:
    assert sim.switch.channels == {}
    assert ledger.reservations() == []
    assert {agent.state for agent in sim.roster.agents.values()} == {"Waiting"}
    assert sim.executed == []
