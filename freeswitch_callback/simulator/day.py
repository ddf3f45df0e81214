"""A busy time in a contact centre, for the demo and for load.

People call, wait, give up; agents work, decline, go on break; clients who are called back answer, are busy,
or let it ring."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from random import Random

from freeswitch_callback.simulator.calls import Call
from freeswitch_callback.simulator.simulator import Simulator
from freeswitch_callback.simulator.stories import (
    Answers,
    Behaviour,
    Busy,
    ClientRule,
    Declines,
    Silent,
    Unallocated,
)

QUEUE = "support@default"
EXTENSION = "3000"


@dataclass
class Day:
    """What happened so far, as the callers saw it."""

    calls: list[Call] = field(default_factory=list)
    agents: list[str] = field(default_factory=list)

    @property
    def called_in(self) -> int:
        return len(self.calls)

    @property
    def served(self) -> int:
        """Callers who talked to an agent when they called."""
        return sum(call.talking for call in self.calls)

    @property
    def unserved(self) -> int:
        """Callers whose call is over and who talked to nobody."""
        return sum(call.ended.is_set() and not call.talking for call in self.calls)


def busy(
    sim: Simulator,
    seed: int = 0,
    duration: float = 60.0,
    agents: int = 3,
    *,
    callers_per_minute: float = 40.0,
    patience: float = 6.0,
    talk: tuple[float, float] = (3.0, 8.0),
    queue: str = QUEUE,
    extension: str = EXTENSION,
) -> Day:
    """Begin a busy time of `duration` seconds: sets up the queue and the agents, and lets the callers come.

    `patience` is the mean time after which a caller gives up, `talk` the range of the talks, in seconds. The
    same seed gives the same callers at the same moments. In the last third fewer people call, so that the
    recalls find free agents.
    """
    day = Day()
    if queue not in sim.callcenter.queues:
        sim.add_queue(queue, extension=extension, max_wait_time=int(patience * 3), exit_keys="9")
    for position in range(1, agents + 1):
        name = f"{1000 + position}@{queue.partition('@')[2] or 'default'}"
        sim.add_agent(name, wrap_up_time=1, reject_delay_time=2, busy_delay_time=2)
        sim.add_tier(queue, name, position=position)
        day.agents.append(name)
        _work(sim, name, Random(f"{seed} {name}"), duration, talk)
    sim.default_client(_client_rule(talk))
    random = Random(f"{seed} callers")

    def next_caller(moment: float) -> None:
        """Each caller brings the next: a day without an end costs no more than what has come of it."""
        pace = callers_per_minute if moment < duration * 2 / 3 else callers_per_minute / 4
        wait = random.expovariate(pace / 60)
        if moment + wait < duration:
            sim.switch.after(wait, partial(arrive, moment + wait))

    def arrive(moment: float) -> None:
        _arrive(sim, day, random, patience, talk, extension)
        next_caller(moment)

    next_caller(0.0)
    return day


def _arrive(
    sim: Simulator, day: Day, random: Random, patience: float, talk: tuple[float, float], extension: str
) -> None:
    number = f"+1202555{random.randrange(10_000):04}"
    waits = max(0.5, random.expovariate(1 / patience))
    talks = random.uniform(*talk)
    asks = random.random() < 0.05
    call = sim.call(
        number,
        to=extension,
        name=f"Caller {number[-4:]}",
        gives_up_after=waits,
        presses_key=(waits / 2, "9") if asks else None,
        hangs_up_after_talk=talks,
    )
    day.calls.append(call)


def _work(sim: Simulator, name: str, random: Random, duration: float, talk: tuple[float, float]) -> None:
    """An agent's day: usually answers, sometimes declines, now and then takes a break."""

    def go_on(moment: float) -> None:
        behaviour: Behaviour = Answers(after=random.uniform(0.5, 2.0), talks=talk[1] * 3)
        if random.random() < 0.08:
            behaviour = Declines(after=random.uniform(0.5, 1.5))
        sim.set_behaviour(name, behaviour)
        if random.random() < 0.06:
            sim.set_status(name, "On Break")
            sim.switch.after(random.uniform(3.0, 8.0), lambda: sim.set_status(name, "Available"))
        wait = random.uniform(9.0, 15.0)
        if moment + wait < duration:
            sim.switch.after(wait, lambda: go_on(moment + wait))

    go_on(0.0)


def _client_rule(talk: tuple[float, float]) -> ClientRule:
    def reacts(_number: str, random: Random) -> Behaviour:
        chance = random.random()
        if chance < 0.70:
            return Answers(after=random.uniform(0.5, 3.0), talks=random.uniform(*talk))
        if chance < 0.82:
            return Busy()
        if chance < 0.97:
            return Silent()
        return Unallocated()

    return reacts
