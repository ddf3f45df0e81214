"""Catch-up while calls go on."""

from __future__ import annotations

import structlog

from tests.chaos import catching_up
from tests.chaos.suite import Counts, Given, row


@row(
    "catch-up",
    "catch-up while calls go on: timeouts into a second queue, pick-ups, own recalls in queue mode, resumed "
    "and anonymous callers",
    "no false miss, nobody twice, and who must be told is told",
    full=1_000,
    short=20,
    busy=True,
)
def caught_up_while_calls_go_on(given: Given) -> Counts:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    counts, found = catching_up.play(given.random.randrange(10**9), given.runs)
    if not found["caught up"] or not found["heard"]:
        counts.stuck += 1
        counts.notes.append(f"the stories show nothing: {dict(found)}")
    return counts
