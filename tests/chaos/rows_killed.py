"""An engine is killed, and started again."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial

import gevent
from gevent.event import Event

from freeswitch_callback.ledger import Filter
from tests.chaos.suite import Counts, Given, row
from tests.chaos.world import World

DATABASES = ("sqlite", "postgresql")
MODES = ("agent-first", "client-first", "agent-first", "queue")
_A_WORLD = 25
"""Kills, after which everything has to settle."""


@row(
    "kill",
    "``kill -9`` at random under load, restart",
    "nothing lost, nobody called twice, no agent held",
    full=500,
    short=15,
)
def killed_at_random(given: Given) -> Counts:
    total = Counts()
    per_world = min(_A_WORLD, -(-given.runs // 2))
    for at in range(-(-given.runs // per_world)):
        runs = min(per_world, given.runs - total.runs)
        world = World(
            given.folder / str(at), given.random, database=DATABASES[at % 2], mode=MODES[at % len(MODES)]
        )
        try:
            [engine] = world.engines
            with world.load():
                for _ in range(runs):
                    engine.start()
                    if given.random.random() < 0.8:
                        world.wait_up()
                    gevent.sleep(given.random.uniform(0.0, 2.0))
                    engine.kill()
            engine.start()
            total.add(world.counts(runs))
        finally:
            world.close()
    return total


# --- at a named step ----------------------------------------------------------------------------------------


class Step:
    """A moment in the life of a recall: something reaches FreeSWITCH, happens there, or is in the database.

    `path`: what must be seen one after the other, commands by a piece of their text and events by their name;
    the last one is the moment.
    """

    def __init__(self, *path: str, lost: bool = False, record: Callable[[World], object] | None = None):
        self._path, self._lost, self._record = path, lost, record

    def wait(self, world: World, strike: Callable[[], None], timeout: float = 10.0) -> bool:
        """Wait for the moment, in which `strike` is called; False if it has not come. `lost`: the command
        never arrived; else it ran, and nobody has its reply."""
        [sim] = world.sims
        left, came = list(self._path), Event()

        def seen(text: str, last: bool = True) -> bool:
            """Whether `text` is what the path ends with; `last` tells whether it may be."""
            if came.is_set() or not left or left[0] not in text or (len(left) == 1 and not last):
                return False
            left.pop(0)
            if not left and self._record is None:
                strike()
                came.set()
                return True
            return False

        sim.before = lambda command: seen(command, last=self._lost)
        sim.after = lambda command: None if self._lost else seen(command)
        sim.fired = seen
        try:
            for _ in range(3):  # a caller may have been served after all
                world.caller(0.03)
                if self._record is not None and world.until(partial(self._record, world), timeout, 0.001):
                    strike()
                    return True
                if self._record is None and came.wait(timeout):
                    return True
            return False
        finally:
            sim.before, sim.after, sim.fired = (lambda _: False), (lambda _: None), (lambda _: None)


RESERVE, READ, ORIGINATE = "set state_if_waiting", "agent list", "bgapi originate"
RELEASE, FORGET = " Waiting", "db delete/callback"


def _waiting(world: World) -> object:
    return world.ledger.open_by_state().get("waiting")


def _settled(world: World) -> object:
    rows = world.ledger.listing(Filter(number=world.calls[-1].number))
    return any(row["state"] == "closed" for row in rows)


STEPS = {
    "the call ends": Step("CHANNEL_HANGUP_COMPLETE"),
    "before the intent": Step(record=_waiting),
    "after the intent": Step(RESERVE, lost=True),
    "reserve": Step(RESERVE),
    "the second look": Step(RESERVE, READ),
    "before the originate": Step(ORIGINATE, lost=True),
    "originate": Step(ORIGINATE),
    "reply": Step(ORIGINATE, "CHANNEL_CREATE"),
    "answer": Step(ORIGINATE, "CHANNEL_ANSWER"),
    "connected": Step(ORIGINATE, "CHANNEL_BRIDGE"),
    "hangup": Step(ORIGINATE, "CHANNEL_HANGUP"),
    "before the release": Step(ORIGINATE, RELEASE, lost=True),
    "release": Step(ORIGINATE, RELEASE),
    "result": Step(record=_settled),
    "after the result": Step(ORIGINATE, FORGET, lost=True),
}


@row(
    "steps",
    "``kill -9`` at each named step: " + ", ".join(STEPS),
    "whatever was begun is followed, undone or called again; nobody is called twice",
    full=20 * len(STEPS),
    short=2 * len(STEPS),
)
def killed_at_each_step(given: Given) -> Counts:
    total = Counts()
    for at in range(len(DATABASES) * 2):
        rounds = [*STEPS.items()] * -(-given.runs // len(STEPS))
        mine = rounds[: given.runs][at::4]
        if mine:
            world = World(
                given.folder / str(at), given.random, database=DATABASES[at % 2], mode=MODES[at // 2],
                second_look=0.5,
            )  # fmt: skip
            total.add(_killed_at(world, mine))
    return total


def _killed_at(world: World, steps: list[tuple[str, Step]]) -> Counts:
    never: list[str] = []
    killed_at: dict[str, str] = {}
    try:
        [engine] = world.engines
        for name, step in steps:
            engine.start()
            world.wait_up()
            known = len(world.calls)
            if not step.wait(world, lambda: engine.signal(signal.SIGKILL)):
                never.append(f"{name}: the moment never came")
            killed_at |= {call.number: name for call in world.calls[known:]}
            engine.kill()
        engine.start()
        counts = world.counts(len(steps))
        counts.notes = [f"{killed_at.get(note.partition(':')[0], '')}: {note}" for note in counts.notes]
        counts.stuck += len(never)
        counts.notes += never
        return counts
    finally:
        world.close()
