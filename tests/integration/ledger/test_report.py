"""The figures of a period."""

from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest

from freeswitch_callback.core.facts import ClosedAs, Mode, Outcome, Reason, Settlement
from freeswitch_callback.ledger import Filter, Ledger
from tests.integration.ledger.given import ANNA, BORIS, NOON, RETRY, Clock, claim, missed, opening, waiting

DAY = timedelta(days=1)
RECALLED = Settlement(Outcome.CONNECTED, closed_as=ClosedAs.RECALLED)
HUNG_UP = Settlement(Outcome.CLIENT_HUNG_UP, closed_as=ClosedAs.EXHAUSTED)
NOBODY = Settlement(Outcome.AGENT_NO_ANSWER, closed_as=ClosedAs.EXHAUSTED)


def called(ledger, number, settlement, *, connected=None, answered=None, mode=Mode.CLIENT_FIRST, **said):
    """A missed call of noon with one attempt."""
    recorded = ledger.record(missed(**said), opening(number))
    taken = claim(ledger, recorded.recall_id, mode=mode)
    assert taken is not None
    ledger.dialling(taken)
    if answered is not None:
        ledger.answered(taken, answered)
    if connected is not None:
        ledger.connected(taken, connected, "1001")
    assert ledger.settle(taken, settlement, NOON)
    return recorded


def report(ledger, since=NOON, until=NOON + DAY, **said):
    return ledger.report(since, until, **said)


def test_nothing_happened(ledger: Ledger):
    figures = report(ledger)
    assert (figures.missed, figures.open, figures.answered, figures.hung_up) == (0, 0, 0, 0)
    assert figures.recovery_rate is figures.median_time is figures.p90_time is figures.hung_up_rate is None
    assert (figures.closed, figures.by_reason, figures.by_hour[12]) == ({}, {}, 0)


def test_what_became_of_those_who_were_missed(timed: Ledger):
    called(timed, "+1", RECALLED, connected=NOON + timedelta(seconds=90))
    for number, closed_as in (("+2", ClosedAs.SERVED_INBOUND), ("+3", ClosedAs.SERVED_OUTBOUND)):
        timed.record(missed(), opening(number))
        timed.close_served(number, "default", closed_as, "fs1")
    timed.record(missed(), opening("+3", scope="other"))
    for _ in range(2):
        timed.record(missed(), opening("+4"))
    timed.close_recalls(Filter(number="+4"), "admin", ClosedAs.EXPIRED)
    for _ in range(3):
        timed.record(missed(reason=Reason.BUSY, queue="sales@default"), opening("+5"))
    for number in range(4):
        timed.record(missed(reason=Reason.NO_ANSWER, queue=None), opening(f"+6{number}", blocked="own"))
    waiting(timed, "+7")
    timed.record(missed(calldate=NOON + DAY), opening("+8"))
    timed.record(missed(calldate=NOON - timedelta(seconds=1)), opening("+9"))

    figures = report(timed)
    assert (figures.since, figures.until) == (NOON, NOON + DAY)
    assert (figures.missed, figures.recalled, figures.open) == (14, 1, 5)
    assert (figures.served_inbound, figures.served_outbound) == (1, 1)
    assert figures.closed == {"blocked": 4, "expired": 2}
    assert figures.by_reason == {"abandoned": 7, "no_answer": 4, "busy": 3}
    assert figures.by_queue == {"support@default": 7, "": 4, "sales@default": 3}
    assert figures.recovery_rate == pytest.approx(3 / 10)
    of_sales = report(timed, queue="sales@default")
    assert (of_sales.missed, of_sales.open, of_sales.by_reason) == (3, 3, {"busy": 3})


@pytest.mark.parametrize(
    ("zone", "hours"),
    [
        ("UTC", {12: 2, 13: 1}),
        ("Europe/Berlin", {13: 2, 14: 1}),
        ("Asia/Kathmandu", {17: 1, 18: 2}),  # 5:45 ahead
    ],
)
def test_the_hour_of_the_day_is_local(ledger: Ledger, zone: str, hours: dict[int, int]):
    for minute in (10, 20, 70):
        ledger.record(missed(calldate=NOON + timedelta(minutes=minute)), opening())
    by_hour = report(ledger, zone=ZoneInfo(zone)).by_hour
    assert list(by_hour) == list(range(24))
    assert {hour: count for hour, count in by_hour.items() if count} == hours


def test_time_to_recall_is_from_the_end_of_the_first_call_to_the_first_talk(timed: Ledger):
    timed.record(missed(calldate=NOON - DAY, timewait=60), opening("+100"))
    called(timed, "+100", RECALLED, connected=NOON)
    for n in range(1, 10):
        called(timed, f"+{n}", RECALLED, connected=NOON + timedelta(seconds=30 + 10 * n))
    called(timed, "+200", RETRY, connected=NOON)  # talked, and was not done with
    figures = report(timed)
    assert figures.recalled == 10
    assert figures.median_time == 55.0  # of 10, 20 … 90, and a day less a minute
    assert figures.p90_time == 90.0


def test_clients_who_answered_and_found_nobody(timed: Ledger, clock: Clock):
    clock.now = NOON - timedelta(days=31)
    called(timed, "+1", HUNG_UP, answered=NOON)
    clock.now = NOON - timedelta(days=29)
    called(timed, "+2", HUNG_UP, answered=NOON)
    clock.now = NOON
    called(timed, "+3", RECALLED, answered=NOON, connected=NOON, mode=Mode.AGENT_FIRST)
    called(timed, "+4", RECALLED, answered=NOON, connected=NOON)
    called(timed, "+5", NOBODY, answered=NOON)
    called(timed, "+6", RETRY)
    called(timed, "+7", RETRY, answered=NOON, mode=Mode.AGENT_FIRST)  # it was the agent who answered
    under_way = claim(timed, waiting(timed, "+8").recall_id, mode=Mode.QUEUE)
    assert under_way is not None
    timed.dialling(under_way)
    timed.answered(under_way, NOON)
    figures = report(timed)
    assert (figures.answered, figures.hung_up, figures.hung_up_rate) == (5, 1, 0.2)
    assert report(timed, queue="nobody's").answered == 0
    assert report(timed, queue="support@default").answered == 5


def test_an_operator_who_reaches_the_client_closes_the_recall_of_their_domain(ledger: Ledger):
    mine, other = waiting(ledger, ANNA), waiting(ledger, ANNA, scope="other")
    assert ledger.close_reached(ANNA, "default", "fs1", operator="1001", at=NOON) == 1
    shown = ledger.show(mine.missed_id)
    assert (shown["recall"]["closed_as"], shown["recall"]["closed_by"]) == ("served_outbound", "fs1")
    assert (shown["missed"]["recalldate"], shown["missed"]["recalloperator"]) == (NOON, "1001")
    left = ledger.show(other.missed_id)
    assert (left["recall"]["state"], left["missed"]["recalldate"]) == ("waiting", None)


def test_an_operator_of_another_domain_closes_the_only_recall_there_is(ledger: Ledger):
    waiting(ledger, ANNA)
    waiting(ledger, BORIS)
    waiting(ledger, BORIS, scope="other")
    assert ledger.close_reached(ANNA, "", "fs1") == 1
    assert ledger.close_reached(BORIS, "", "fs1") == 0, "whose would it be?"
    assert ledger.close_reached("+1", "default", "fs1") == 0


def test_an_operator_who_calls_while_an_engine_does_changes_nothing(ledger: Ledger):
    recorded = waiting(ledger)
    assert claim(ledger, recorded.recall_id)
    waiting(ledger, scope="other")
    assert ledger.close_reached(ANNA, "default", "fs1", operator="1001") == 0
    assert ledger.show(recorded.missed_id)["missed"]["recalldate"] is None


def test_a_client_who_was_answered_has_been_reached(timed: Ledger):
    first, second = waiting(timed), waiting(timed)
    assert timed.close_served(ANNA, "default", ClosedAs.SERVED_INBOUND, "fs1", operator="1002") == 1
    for recorded in (first, second):
        row = timed.show(recorded.missed_id)["missed"]
        assert (row["recalldate"], row["recalloperator"]) == (NOON, "1002")
