"""What a supervisor watches, on both databases."""

from __future__ import annotations

from datetime import timedelta

import pytest

from freeswitch_callback.core.facts import ClosedAs
from freeswitch_callback.ledger import Ledger
from tests.integration.ledger.given import NOON, Clock, claim, missed, opening

SALES = "sales@default"


@pytest.fixture
def calls(timed: Ledger, clock: Clock) -> Ledger:
    """At 10, 11, 11:30 somebody was missed, the last of them for sales; the first was reached after 5 min."""
    for number, (minutes, queue) in enumerate(
        [(-120, "support@default"), (-60, "support@default"), (-30, SALES)]
    ):
        came = missed(
            phone=f"+4930000000{number}", call_uuid=f"c{number}", queue=queue, timewait=60,
            calldate=NOON + timedelta(minutes=minutes),
        )  # fmt: skip
        timed.record(came, opening(f"+4930000000{number}", queue=queue))
    at = NOON - timedelta(minutes=114)
    timed.close_served("+49300000000", "default", ClosedAs.SERVED_INBOUND, "fs1", operator="1001", at=at)
    return timed


def test_the_figures_of_a_day(calls: Ledger):
    figures = calls.figures(NOON - timedelta(hours=12))
    assert (figures.missed, figures.reached, figures.median) == (3, 1, 300.0)
    assert figures.recovery == pytest.approx(1 / 3)
    assert (figures.wait, figures.called, figures.unknown) == (2, 0, 0)


def test_of_some_queues_only(calls: Ledger):
    figures = calls.figures(NOON - timedelta(hours=12), ("sales@*",))
    assert (figures.missed, figures.reached, figures.median, figures.wait) == (1, 0, None, 1)
    assert calls.queues_seen() == [SALES, "support@default"]
    assert calls.queues_seen(("sup*",)) == ["support@default"]
    assert calls.figures(NOON, ("none",)).recovery is None


def test_what_is_under_way_is_told_apart(calls: Ledger):
    assert claim(calls, 2) is not None
    figures = calls.figures(NOON - timedelta(hours=12))
    assert (figures.wait, figures.called) == (1, 1)


def test_by_the_hour(calls: Ledger):
    hours = calls.by_hour(NOON - timedelta(hours=12))
    assert hours == [(NOON - timedelta(hours=2), 1, 1), (NOON - timedelta(hours=1), 2, 0)]
    assert calls.by_hour(NOON - timedelta(minutes=45), ("sup*",)) == []
    assert calls.by_hour(NOON - timedelta(hours=12), ("sales@*",)) == [(NOON - timedelta(hours=1), 1, 0)]
