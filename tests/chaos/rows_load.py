"""A long time of load: what an engine holds does not grow."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median

import gevent
from gevent.lock import BoundedSemaphore

from tests import postgres
from tests.chaos.suite import Counts, Given, row
from tests.chaos.watched import Held
from tests.chaos.world import World

_LONG, _SHORT = 900.0, 75.0
"""Seconds of load."""
_WARM_UP = 0.4
"""Of that time: memory, pools and threads come to the size that they need; what ended is remembered for five
minutes (`capture`)."""
_SAMPLES = 100
_EVERY = 0.5
"""Seconds between callers."""
_DISTURBED = 12
"""So often is the connection cut, or the database away for a moment."""
_AWAY = 1.5
_ABANDONED_KEPT = 60
"""Seconds, as FreeSWITCH's own configuration has it: an engine's look at a queue reads all of these."""
_MORE = {"memory": 4096, "descriptors": 2, "threads": 2, "greenlets": 3}
"""By so much (kB of memory) the last quarter after the warm-up may be above the first."""


@row(
    "load",
    "15 minutes of load, with the connection cut and the database away now and then",
    "memory, file descriptors, threads and greenlets stay flat",
    full=1,
    short=1,
    limit=1500.0,
)
def under_load_for_long(given: Given) -> Counts:
    world = World(
        given.folder,
        given.random,
        database="postgresql",
        mode="agent-first",
        lease=10.0,
        abandoned_kept=_ABANDONED_KEPT,
    )
    lasts = given.lasts or (_SHORT if given.short else _LONG)
    try:
        [engine] = world.engines
        engine.start()
        world.wait_up()
        samples: list[Held] = []
        ends = time.monotonic() + lasts
        with world.load(_EVERY), _disturbed(world, lasts / _DISTURBED):
            while time.monotonic() < ends:
                gevent.sleep(lasts / _SAMPLES)
                samples.append(engine.holds())
        grown = list(_grown(samples[int(len(samples) * _WARM_UP) :]))
        counts = world.counts(1)
        counts.stuck += len(grown)
        counts.notes += grown
        return counts
    finally:
        world.close()


@contextmanager
def _disturbed(world: World, every: float) -> Iterator[None]:
    """In turn, the connection to FreeSWITCH is cut, and the database goes away for a moment."""
    server = postgres.server()
    there = BoundedSemaphore()

    def disturb() -> None:
        while True:
            gevent.sleep(every)
            for sim in world.sims:
                sim.cut_connections()
            gevent.sleep(every)
            with there:
                server.stop_at_once()
                gevent.sleep(_AWAY)
                server.start()

    disturbing = gevent.spawn(disturb)
    try:
        yield
    finally:
        with there:  # not while it is away
            disturbing.kill()


def _grown(samples: Sequence[Held]) -> Iterator[str]:
    """What is more at the end than at the beginning, and is not only a moment's."""
    first, last = samples[: len(samples) // 4], samples[-(len(samples) // 4) :]
    for name, more in _MORE.items():
        usual: Callable[[list[int]], float] = median if name == "memory" else min
        before, after = (usual([getattr(one, name) for one in some]) for some in (first, last))
        if after > before + more:
            yield f"{name}: {before:g} became {after:g}; {[getattr(one, name) for one in samples]}"
