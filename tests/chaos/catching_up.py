"""Minutes in a small contact centre, on a clock that is moved by hand, while engines come and go.

Callers give up, time out into another queue, press the exit key, are picked up, come back, have no number;
recalls of ours wait in a queue; agents come and go. Meanwhile engines lose the connection, or are started
anew and know nothing.

What is true, the story knows from the simulator: which call was ever served.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from gevent.event import Event as Flag

from freeswitch_callback.core import capture
from freeswitch_callback.core.capture import CaptureRules
from freeswitch_callback.core.facts import Claim, Missed, Mode, Outcome, Reason, Settlement
from freeswitch_callback.core.gates import GateRules, opening
from freeswitch_callback.engine.catchup import CatchUp
from freeswitch_callback.engine.clock import Clock
from freeswitch_callback.engine.recorder import Recorder
from freeswitch_callback.engine.switchboard import Switchboard
from freeswitch_callback.esl import commands
from freeswitch_callback.esl.frames import Event, Framer
from freeswitch_callback.ledger import Filter, Ledger
from freeswitch_callback.simulator import Answers, Call, ManualClock, Simulator
from tests.chaos.suite import Counts

POLL, SETTLE = 5.0, 1.0
LENGTH, TAIL = 60.0, 40.0
NOTED_AFTER = 3 * POLL
_ENDS = 0.1
"""Seconds that a talk takes to end: one leg first, then the other."""
"""Seconds after which an engine has noted what it heard, so that a crash does not forget it."""
GATES = GateRules(min_wait=0.0)
_MEMORY = Path("/dev/shm")
_NUMBERS = 32
"""That many of its own has each story."""
_JUST_BEFORE = 2.0
"""Seconds before an engine connects, in which somebody gives up."""


class ByHand(Clock):
    """The simulator's clock as an engine's, which may be set to another time (`ahead`, seconds)."""

    def __init__(self, clock: ManualClock, ahead: float) -> None:
        self._clock = clock
        self._ahead = ahead

    def time(self) -> float:
        return self._clock.now() + self._ahead

    def monotonic(self) -> float:
        return self._clock.now()


class Line:
    """What an engine calls a node; commands are answered at once."""

    def __init__(self, name: str, sim: Simulator) -> None:
        self.name = name
        self.sim = sim

    def api(self, text: str) -> str:
        return self.sim.api(text.strip().removeprefix("api "))


class Listener:
    """As much of an engine as listens: one process, which is connected from time to time."""

    def __init__(self, story: Story) -> None:
        self.story = story
        clock = ByHand(story.clock, ahead=story.random.choice([0.0, 0.0, 0.6, -0.6, 90.0, -90.0]))
        line = Line(story.name, story.sim)
        self.line = line
        self.recorder = Recorder(
            line.name, story.ledger, CaptureRules(), lambda queue: GATES, lambda: None, Flag(), clock,
            min_talk=lambda queue: 0.0,
        )  # fmt: skip
        self.switchboard = Switchboard(clock)
        self.catchup = CatchUp(
            line,  # type: ignore[arg-type]
            story.ledger,
            record=self.recorder.take,
            behind=lambda: 0,
            capture=CaptureRules,
            numbers=lambda queue: GATES.numbers,
            live=lambda: self.switchboard.numbers.values(),
            channels=lambda: self.switchboard.numbers,
            heard=self.recorder.heard,
            last_answer=lambda: self.switchboard.last_answer,
            settle=POLL + SETTLE,
            clock=clock,
        )
        self._session: Any = None
        self._framer = Framer()
        self._slow = story.random.choice([0.0, 0.0, 0.3, 2.5])
        """Seconds between receiving an event and having taken it in."""
        self._received: deque[Event] = deque()

    @property
    def connected(self) -> bool:
        return self._session is not None

    def connect(self) -> None:
        self.recorder.interrupted()
        self._framer = Framer()
        self._session = self.story.sim.attach(partial(self._receive, self._framer))
        self._session.receive(f"auth {self.story.sim.password}\n\n".encode())
        subscribe = commands.event_plain(("HEARTBEAT", *capture.EVENTS), capture.SUBCLASSES)
        self._session.receive(f"{subscribe}\n\n".encode())
        self.catchup.came_up()
        self.look()
        self._poll(self._session)
        self._judge(self._session)

    def lose(self) -> None:
        if self._session is not None:
            self._session.part()
            self._session = None
            while self._received:  # is handled before the loss is told
                self._take_in_one()
            if self.story.random.random() < 0.5:
                self.catchup.finish()

    def look(self) -> None:
        self.switchboard.sync(self.line)
        self.catchup.run()

    def _poll(self, session: Any) -> None:
        def again() -> None:
            if self._session is session:
                self.look()
                self._poll(session)

        self.story.clock.after(POLL, again)

    def _judge(self, session: Any) -> None:
        self.story.clock.after(
            POLL + SETTLE + 0.01, lambda: self.look() if self._session is session else None
        )

    def _receive(self, framer: Framer, data: bytes) -> None:
        if framer is not self._framer or (self._session is not None and self._session.gone):
            return
        framer.feed(data)
        for frame in framer.frames():
            if isinstance(frame, Event):
                self._received.append(frame)
                self.catchup.takes_in()
                if self._slow:
                    self.story.clock.after(self._slow, self._take_in_one)
                else:
                    self._take_in_one()

    def _take_in_one(self) -> None:
        if self._received:
            event = self._received.popleft()
            self.recorder.feed(event)
            self.switchboard.feed(event)
            self.catchup.took_in(event.timestamp)
            if self._received:
                self.catchup.takes_in()


@dataclass
class Person:
    """One call, and what really became of it."""

    call: Call
    number: str
    called: float
    plain: bool
    """Waits in one queue, and gives up"""
    members: list[str] = field(default_factory=list)
    served: bool = False
    talked: float = 0.0
    ended: float = 0.0
    went_elsewhere: bool = False
    """Picked up, or pressed the exit key"""


class Story:
    """One minute, all of it decided by its number and the seed."""

    def __init__(self, seed: int, number: int, ledger: Ledger, clock: ManualClock) -> None:
        self.random = Random(f"{seed} {number}")
        self.name = f"story {seed} {number}"
        self.ledger = ledger
        self.clock = clock
        self.began = clock.now()
        self.people: dict[str, Person] = {}
        self.judged: list[float] = []
        self.up: list[tuple[float, float, Listener]] = []
        self.engines = 1
        self.sim = sim = Simulator(seed=self.random.randrange(10**9), clock=clock, world_legs=False)
        sim.add_queue("support@default", extension="3000", exit_keys="9")
        sim.add_queue("resumes@default", extension="3100", abandoned_resume_allowed=True)
        sim.add_queue("second@default")
        sim.add_queue(
            "first@default", extension="3200", exit_keys="9", max_wait_time=self.random.randint(3, 9),
            then=(("callcenter", "second@default"),),
        )  # fmt: skip
        for name in ("1001", "1002", "1003"):
            agent = f"{name}@default"
            sim.add_agent(agent, status="Logged Out", behaviour=Answers(after=0.4))
            for queue in self.random.sample(sorted(sim.callcenter.queues), 3):
                sim.add_tier(queue, agent)
        # No two stories have a number in common, so that each has its own clients in the ledger.
        numbers = [f"+1202{2000000 + number * _NUMBERS + n}" for n in range(_NUMBERS)]
        self.shared, self.recalled, self.own = numbers[:5], numbers[5:7], iter(numbers[7:])
        self._joins = sim.callcenter.join
        sim.callcenter.join = self._join  # type: ignore[method-assign, assignment]

    # The people

    def _join(self, leg: Any, queue: str, left: Any) -> bool:
        joined = self._joins(leg, queue, left)
        person = self.people.get(leg.uuid)
        if person is not None and joined:
            person.members.append(leg.variables["cc_member_uuid"])
        return joined

    def calls(self) -> None:
        r = self.random
        number = "anonymous" if r.random() < 0.15 else r.choice(self.shared)
        patience = r.uniform(0.5, 20.0)
        person = self.person(number, r.choice(["3000", "3000", "3100", "3200"]), patience)
        call = person.call
        what = r.random()
        if what < 0.15:
            person.plain = False
            self.clock.after(r.uniform(0.2, patience), partial(self.picks_up, person))
        elif what < 0.25:
            person.plain = False
            person.went_elsewhere = True
            self.clock.after(r.uniform(0.2, patience), partial(call.press, "9"))

    def person(self, number: str, to: str, patience: float) -> Person:
        call = self.sim.call(
            number, to=to, gives_up_after=patience, hangs_up_after_talk=self.random.uniform(0.5, 15.0)
        )
        person = Person(call, number, self.clock.now(), plain=to != "3200")
        self.people[call.uuid] = person
        self.watch(person)
        return person

    def gives_up_at(self, at: float) -> None:
        """Somebody who has never called before, and will not again."""
        patience = self.random.uniform(0.5, 6.0)
        number = next(self.own, None)
        if at > patience and number is not None:
            to = self.random.choice(["3000", "3100"])
            self.clock.after(at - patience, lambda: self.person(number, to, patience))

    def picks_up(self, person: Person) -> None:
        if self.waits(person):
            person.went_elsewhere = True
            person.call.intercept("agent1009")

    def waits(self, person: Person) -> bool:
        return any(
            m.leg is not None and m.leg.uuid == person.call.uuid and m.state == "Waiting"
            for m in self.sim.callcenter.members
        )

    def watch(self, person: Person) -> None:
        """Look what becomes of the call, in small steps."""
        if person.call.talking and not person.served:
            person.served, person.talked = True, self.clock.now()
        if not person.call.ended.is_set():
            self.clock.after(0.05, partial(self.watch, person))
        else:
            person.ended = self.clock.now()

    def agent_comes_or_goes(self) -> None:
        agent = self.random.choice(sorted(self.sim.roster.agents))
        status = self.sim.agent(agent).status
        self.sim.set_status(agent, "Logged Out" if status == "Available" else "Available")

    def recall_through_the_queue(self, number: str) -> None:
        """We call a client, who waits for an agent and gives up."""
        fact = Missed(
            self.name, f"earlier-{number}", number, datetime.fromtimestamp(self.began, UTC), 5,
            Reason.ABANDONED, queue="support@default",
        )  # fmt: skip
        recall = self.ledger.record(fact, opening(fact, GATES, datetime.now(UTC))).recall_id
        uuid = f"recall-{number}"
        claim = self.ledger.claim(
            recall, engine="e", lease=600.0, node=self.name, agent=None, mode=Mode.QUEUE,
            call_uuid=uuid, job_uuid=uuid,
        )  # fmt: skip
        assert isinstance(claim, Claim)
        assert self.ledger.dialling(claim)
        self.sim.client(number, Answers(after=0.2, hangs_up=self.random.uniform(1.0, 12.0)))
        self.sim.commands_run(
            f"originate {{origination_uuid={uuid},callback_entry={claim.attempt}}}"
            f"sofia/gateway/main/{number} &callcenter(support@default)",
            lambda _reply: None,
        )
        if self.random.random() < 0.5:  # an engine followed it; else nobody did
            self.clock.after(
                20.0,
                lambda: self.ledger.settle(
                    claim, Settlement(Outcome.CLIENT_HUNG_UP, retry_in=600.0),
                    datetime.fromtimestamp(self.clock.now(), UTC),
                ),
            )  # fmt: skip

    # The engines

    def engine(self) -> None:
        """One that loses its connection now and then; half of the time with its memory."""
        listener = Listener(self)
        at = self.random.choice([0.0, 0.0, self.random.uniform(0, 30)])
        while at < LENGTH:
            until = min(at + self.random.uniform(0.5, 25.0), LENGTH)
            self.connects(listener, at)
            self.clock.after(until, listener.lose)
            self.up.append((self.began + at, self.began + until, listener))
            if self.random.random() < 0.5:  # it crashes
                listener = Listener(self)
            at = until + self.random.choice([0.05, self.random.uniform(0.1, 25.0)])
        at = LENGTH + self.random.uniform(0.1, 5.0)
        self.connects(listener, at)
        self.up.append((self.began + at, self.began + LENGTH + TAIL, listener))

    def connects(self, listener: Listener, at: float) -> None:
        """Whoever gives up at this moment, it has just not heard, or just heard."""
        self.clock.after(at, listener.connect)
        if self.random.random() < 0.7:
            self.gives_up_at(at - self.random.uniform(-0.3, _JUST_BEFORE))

    def play(self) -> None:
        r = self.random
        self.clock.advance(0)
        self.engines = r.choice([1, 1, 2])
        for _ in range(self.engines):
            self.engine()
        for _ in range(r.randint(3, 10)):
            self.clock.after(r.uniform(0.0, LENGTH - 5), self.calls)
        for _ in range(r.randint(0, 6)):
            self.clock.after(r.uniform(0.0, LENGTH), self.agent_comes_or_goes)
        for number in self.recalled:
            if r.random() < 0.3:
                self.clock.after(r.uniform(0.0, LENGTH - 15), partial(self.recall_through_the_queue, number))
        self.clock.advance(LENGTH + TAIL)
        assert not self.sim.calls

    # What came of it

    def unseen(self, person: Person) -> bool:
        """A talk out of a queue, by a pick-up or an exit key, that nobody remembers: nobody came while it
        lasted, and who heard it begin, if anybody, crashed before it was noted. The row that it leaves is
        that of a caller who gave up."""
        remembered = any(
            person.talked < up < person.ended - _ENDS
            or (up <= person.talked <= down and self.noted(person.talked, at))
            for at, (up, down, _) in enumerate(self.up)
        )
        return person.went_elsewhere and not remembered

    def noted(self, talked: float, heard_in: int) -> bool:
        """Whether the engine that heard of it lived on for long enough; of two the other may be faster."""
        process = self.up[heard_in][2]
        return any(
            other is process and down - max(up, talked) >= NOTED_AFTER
            for at, (up, down, other) in enumerate(self.up)
            if at == heard_in or (at > heard_in and self.engines == 1)
        )

    def rows(self) -> Iterator[tuple[Any, Person]]:
        """The ledger's rows of this story, each with the call that it is about."""
        for row in self.ledger.listing(Filter(since=datetime.fromtimestamp(self.began - 1, UTC))):
            if row["node"] != self.name or row["call_uuid"].startswith("earlier-"):
                continue
            person = self.people.get(row["call_uuid"])
            if person is None:
                member, left = row["call_uuid"].removeprefix("member:").rsplit(":", 1)
                those = [
                    p for p in self.people.values() if member in p.members and int(p.called) <= int(left)
                ]
                if not those:
                    raise AssertionError(f"{self.name}: a row of nobody's: {row}")
                person = max(those, key=lambda p: p.called)
            yield row, person


def verdicts(story: Story) -> tuple[Counts, Counter[str]]:
    """What the story came to, and how often what was found in it.

    Counted as missed are those of whom it is sure that they have to be told: who waited in one queue, gave
    up, and shared their number with nobody.
    """
    counts, found = Counts(runs=1), Counter[str]()
    told: dict[int, Any] = {}
    for row, person in story.rows():
        if id(person) in told:
            counts.doubled += 1
            counts.notes.append(f"{story.name}: twice: {row} and {told[id(person)]}")
        told[id(person)] = row
        if story.unseen(person):
            found["cannot be known"] += 1
        elif person.served:
            counts.doubled += 1
            counts.notes.append(f"{story.name}: a false miss: {row}, {person}")
        else:
            found["caught up" if row["call_uuid"].startswith("member:") else "heard"] += 1
    numbers = Counter(person.number for person in story.people.values())
    for person in story.people.values():
        found["served" if person.served else "missed"] += 1
        if person.plain and not person.served and numbers[person.number] == 1 and person.members:
            counts.missed += 1
            if id(person) in told:
                counts.recorded += 1
            else:
                counts.lost += 1
                counts.notes.append(f"{story.name}: nobody told of {person}")
    return counts, found


def play(seed: int, stories: int) -> tuple[Counts, Counter[str]]:
    """So many stories, one after the other, in one database."""
    clock = ManualClock()
    total, all_found = Counts(), Counter[str]()
    with ExitStack() as closed:
        folder = closed.enter_context(TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None))
        ledger = Ledger(
            f"sqlite://{folder}/callback.db", clock=lambda: datetime.fromtimestamp(clock.now(), UTC)
        )
        closed.callback(ledger.close)
        ledger.migrate()
        for number in range(stories):
            clock = ManualClock(clock.now())  # what is left in the other's agenda would go on
            story = Story(seed, number, ledger, clock)
            story.play()
            counts, found = verdicts(story)
            total.add(counts)
            all_found += found
    return total, all_found
