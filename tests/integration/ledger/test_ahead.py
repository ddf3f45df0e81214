"""What a queue's line begins with, and for how long nothing comes before it by time alone."""

from datetime import timedelta
from math import inf
from random import Random

import pytest

from freeswitch_callback.ledger import Ledger
from tests.integration.ledger.given import ANNA, BORIS, QUEUE, Clock, claimed, waiting

MANY = 20


def numbers(ledger: Ledger, limit: int = MANY) -> list[str]:
    return [recall.number for recall in ledger.ahead(QUEUE, limit).recalls]


def number(n: int) -> str:
    return f"+1202555{n:04}"


def test_nothing_waits(timed: Ledger) -> None:
    ahead = timed.ahead(QUEUE, MANY)
    assert (list(ahead.recalls), ahead.good_for) == ([], inf)


def test_those_that_are_due_however_long_one_looks_at_the_same_line(timed: Ledger, clock: Clock) -> None:
    waiting(timed, ANNA)
    clock.forward(seconds=1)
    waiting(timed, BORIS)
    waiting(timed, "+12025550177", delay=60.0)  # comes behind them
    ahead = timed.ahead(QUEUE, MANY)
    assert list(ahead.recalls) == timed.due([QUEUE], MANY)
    assert ([recall.number for recall in ahead.recalls], ahead.good_for) == ([ANNA, BORIS], inf)


def test_no_more_than_asked_for_whatever_their_number(timed: Ledger) -> None:
    for n in range(5):
        waiting(timed, number(n))
    assert len(numbers(timed, 2)) == 2


def test_a_more_urgent_one_that_comes_due_later_ends_it(timed: Ledger, clock: Clock) -> None:
    waiting(timed, ANNA)
    waiting(timed, BORIS, delay=60.0, priority=5)
    ahead = timed.ahead(QUEUE, MANY)
    assert ([recall.number for recall in ahead.recalls], ahead.good_for) == ([ANNA], 60.0)
    clock.forward(seconds=60)
    ahead = timed.ahead(QUEUE, MANY)
    assert ([recall.number for recall in ahead.recalls], ahead.good_for) == ([BORIS], inf)


def test_nothing_is_due_until_the_first_is(timed: Ledger) -> None:
    waiting(timed, ANNA, delay=90.0)
    waiting(timed, BORIS, delay=60.0, priority=-1)
    ahead = timed.ahead(QUEUE, MANY)
    assert (list(ahead.recalls), ahead.good_for) == ([], 60.0)


def test_what_is_claimed_or_over_is_not_in_the_line(timed: Ledger, clock: Clock) -> None:
    claimed(timed, ANNA)
    waiting(timed, BORIS, expire=30.0, priority=9)
    clock.forward(seconds=31)
    waiting(timed, "+12025550177")
    assert numbers(timed) == ["+12025550177"]


@pytest.mark.parametrize("seed", range(8))
def test_as_long_as_it_is_good_the_line_begins_with_it(timed: Ledger, clock: Clock, seed: int) -> None:
    random = Random(seed)
    for n in range(12):
        delay = random.choice((0.0, 0.0, random.uniform(1.0, 100.0)))
        waiting(timed, number(n), delay=delay, priority=random.choice((0, 0, 1, 5)), expire=86400.0)
    for _ in range(4):
        ahead = timed.ahead(QUEUE, 3)
        clock.forward(seconds=min(ahead.good_for - 0.001, random.uniform(0.0, 50.0)))
        assert timed.due([QUEUE], MANY)[: len(ahead.recalls)] == list(ahead.recalls)
        clock.now += timedelta(seconds=0.002)
