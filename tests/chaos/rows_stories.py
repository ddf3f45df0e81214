"""The same calls, told in another order, several times, or not to the end."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import reduce
from itertools import count
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import structlog
from gevent.event import Event as Flag

from freeswitch_callback.core.attempt import advance, outcome
from freeswitch_callback.core.capture import CaptureRules, Direct
from freeswitch_callback.core.gates import GateRules
from freeswitch_callback.engine.recorder import Recorder
from freeswitch_callback.esl.frames import Event, Framer
from freeswitch_callback.ledger import Ledger
from freeswitch_callback.ledger.models import Missed
from freeswitch_callback.simulator import Answers, Behaviour, Busy, Declines, EarlyMediaOnly, Silent
from tests import recordings
from tests.chaos.suite import Counts, Given, row
from tests.unit.simulator.stage import Stage
from tests.unit.test_attempts_of_recordings import STORIES as RECALLS
from tests.unit.test_attempts_of_recordings import attempt_of

RULES = CaptureRules(direct=(Direct("default", re.compile(r"^[a-z]*[27]\d{3}$"), "support@default"),))
GATES = GateRules(min_wait=0.0)
_TOLD_IN = 8
"""Ways in which each story is told."""

Told = list[Event]


@row(
    "stories",
    "events tripled, reordered across legs, late hangups, a reply that never comes",
    "the same missed calls as in the plain order, each once",
    full=10_000,
    short=300,
    busy=True,
)
def told_otherwise(given: Given) -> Counts:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    counts, chance = Counts(), given.random
    with TemporaryDirectory(dir=_memory(given.folder)) as folder:
        house = _House(Path(folder))
        for name, story in _stories(chance):
            plain = house.rows_of([story])
            counts.missed += len(plain)
            for _ in range(_TOLD_IN):
                if counts.runs == given.runs:
                    house.close()
                    _answers_that_never_come(counts)
                    return counts
                kind = chance.choice(list(_WAYS))
                got = house.rows_of(_WAYS[kind](story, chance))
                counts.runs += 1
                counts.recorded += len(got)
                lost, more = set(plain) - set(got), set(got) - set(plain)
                counts.lost += len(lost)
                counts.doubled += len(got) - len(set(got)) + (len(more) if not lost else 0)
                counts.notes += [f"{name}, {kind}: {plain} became {got}"] * (sorted(plain) != sorted(got))
    raise AssertionError("stories never end")


def _memory(folder: Path) -> Path:
    shared = Path("/dev/shm")
    return shared if shared.is_dir() else folder


class _House:
    """A ledger, and the recorders that write into it; every story is another node's."""

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite://{folder}/callback.db"
        self.ledger = Ledger(self.url)
        self.ledger.migrate()
        self._nodes = count()

    def close(self) -> None:
        self.ledger.close()

    def rows_of(self, tellings: list[Told]) -> list[tuple[object, ...]]:
        """What is on record once each engine has heard its telling, of which they take turns."""
        node = f"n{next(self._nodes)}"
        recorders = [
            Recorder(
                node, self.ledger, RULES, lambda queue: GATES, lambda: None, Flag(),
                min_talk=lambda queue: 0.0, remember_agent=lambda queue: True,
            )
            for _ in tellings
        ]  # fmt: skip
        for step in range(max(map(len, tellings))):
            for recorder, told in zip(recorders, tellings, strict=True):
                if step < len(told):
                    recorder.feed(told[step])
        rows = self.ledger._database.read(lambda t: t.rows(Missed.select().where(Missed.node == node)))
        return sorted(tuple(str(row[column]) for column in _COLUMNS) for row in rows)


_COLUMNS = ("call_uuid", "phone", "calldate", "timewait", "reason", "operator", "queue", "calledid")


# --- other ways to tell -------------------------------------------------------------------------------------


def _leg_of(event: Event) -> str:
    return event.get("Unique-ID") or event.get("CC-Member-Session-UUID") or ""


def _by_leg(story: Told) -> dict[str, Told]:
    legs: dict[str, Told] = {}
    for event in story:
        legs.setdefault(_leg_of(event), []).append(event)
    return legs


def _shuffled(story: Told, chance: Random) -> Told:
    """Only the order within a leg is FreeSWITCH's promise."""
    return _merged(list(_by_leg(story).values()), chance)


def _merged(rows: list[Told], chance: Random) -> Told:
    # Each place goes to a row, as often as the row is long: every order is as likely as any other.
    places = [at for at, told in enumerate(rows) for _ in told]
    chance.shuffle(places)
    heads = [iter(told) for told in rows]
    return [next(heads[at]) for at in places]


def _tripled(story: Told, chance: Random) -> Told:
    return [event for event in _shuffled(story, chance) for _ in range(3)]


def _again(story: Told, chance: Random) -> Told:
    """All of it once more, and a third time, when it is over."""
    return story + _shuffled(story, chance) + story


def _late(story: Told, chance: Random) -> Told:
    """The hangups of some legs, with all that the leg tells behind them, come last of all."""
    legs = [uuid for uuid in _by_leg(story) if chance.random() < 0.5]
    late: dict[str, Told] = {}
    plain = []
    for event in _shuffled(story, chance):
        uuid = _leg_of(event)
        if uuid in legs and (uuid in late or event.name == "CHANNEL_HANGUP"):
            late.setdefault(uuid, []).append(event)
        else:
            plain.append(event)
    return plain + _merged(list(late.values()), chance)


def _without_jobs(story: Told, chance: Random) -> Told:
    return [event for event in _shuffled(story, chance) if event.name != "BACKGROUND_JOB"]


_WAYS: dict[str, Callable[[Told, Random], list[Told]]] = {
    "reordered": lambda story, chance: [_shuffled(story, chance)],
    "tripled": lambda story, chance: [_tripled(story, chance)],
    "told again": lambda story, chance: [_again(story, chance)],
    "late hangups": lambda story, chance: [_late(story, chance)],
    "no reply": lambda story, chance: [_without_jobs(story, chance)],
    "three engines": lambda story, chance: [_shuffled(story, chance) for _ in range(3)],
    "engines, late and tripled": lambda story, chance: [_late(story, chance), _tripled(story, chance)],
}


def _answers_that_never_come(counts: Counts) -> None:
    """Of recalls: the job's end is not told; the legs tell how it ended, where there was one."""
    for name, (mode, expected, *_) in RECALLS.items():
        progress, events = attempt_of(name, mode)
        if all(event.get("Unique-ID") != progress.call_uuid for event in events):
            continue  # without a leg only the job can tell; else the reconciler asks
        end = reduce(advance, [event for event in events if event.name != "BACKGROUND_JOB"], progress)
        counts.runs += 1
        told = outcome(end)
        if told is None or told[0] is not expected:
            counts.stuck += 1
            counts.notes.append(f"{name} without the end of its job: {told}, not {expected}")


# --- where stories come from --------------------------------------------------------------------------------


def _stories(chance: Random) -> Iterator[tuple[str, Told]]:
    """For ever: a recording, and two of the simulator's."""
    recorded = [(name, recordings.events(name)) for name in recordings.NAMES]
    recorded = [(name, events) for name, events in recorded if events]
    for number in count():
        yield recorded[number % len(recorded)]
        for seed in (2 * number, 2 * number + 1):
            story = _simulated(Random(chance.random()), seed)
            if story:
                yield f"simulated {seed}", story


def _simulated(chance: Random, seed: int) -> Told:
    """A few people call within some seconds; what becomes of them is chance."""
    stage = Stage(agents=2, seed=seed, tick=chance.choice([0.0, 0.02]))
    sim = stage.sim
    sim.callcenter.queues["support@default"].strategy = chance.choice(["longest-idle-agent", "ring-all"])
    sim.add_queue("second@default", extension="3300", max_wait_time=3, exit_keys="9")
    sim.add_queue(
        "first@default", extension="3200", max_wait_time=2, then=(("callcenter", "second@default"),)
    )
    sim.add_tier("second@default", "1002@default")
    for agent in ("1001@default", "1002@default"):
        sim.agent(agent).contact = "[leg_timeout=3]" + sim.agent(agent).contact
        sim.set_behaviour(agent, _phone(chance))
        if chance.random() < 0.4:
            sim.set_status(agent, "On Break")
    for number in range(chance.randrange(1, 6)):
        stage.clock.after(
            chance.uniform(0, 6), _somebody(stage, chance, f"+1202555{seed % 90:02}{number:02}")
        )
    stage.clock.advance(25)
    stage.api("hupall")
    stage.clock.advance(2)
    framer = Framer()
    framer.feed("".join(stage.frames).encode())
    return [frame for frame in framer.frames() if isinstance(frame, Event)]


def _phone(chance: Random) -> Behaviour:
    answers = Answers(after=chance.uniform(0, 2), talks=chance.uniform(0.1, 3))
    phones: list[Behaviour] = [answers, answers, Busy(), Declines(), Silent(), EarlyMediaOnly()]
    return chance.choice(phones)


def _somebody(stage: Stage, chance: Random, number: str) -> Callable[[], object]:
    sim, patience, talk = stage.sim, chance.uniform(0.1, 8), chance.uniform(0.1, 3)

    def calls() -> None:
        to = chance.choice(["3000", "3000", "3200", "3300"])
        keys = (patience / 2, "9") if to == "3300" and chance.random() < 0.5 else None
        call = sim.call(number, to=to, gives_up_after=patience, hangs_up_after_talk=talk, presses_key=keys)
        if chance.random() < 0.2:
            stage.clock.after(patience / 2, lambda: call.intercept(by="1002@default"))
        elif chance.random() < 0.2:
            stage.clock.after(patience / 2, lambda: call.transfer(to="3300"))

    def calls_an_extension() -> None:
        hook = chance.random() < 0.3
        sim.direct_call(
            number,
            "7002",
            behaviour=_phone(chance),
            gives_up_after=patience,
            hangs_up_after_talk=talk,
            hook=hook,
        )

    return calls if chance.random() < 0.75 else calls_an_extension
