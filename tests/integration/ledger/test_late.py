"""Calls that are told long after they ended: nobody is called who was reached since, too late, or twice."""

from __future__ import annotations

from datetime import timedelta

import gevent
import pytest

from freeswitch_callback.core.facts import ClosedAs, Outcome, Served, Settlement
from freeswitch_callback.ledger import Filter
from tests.integration.ledger.given import (
    ANNA,
    NOON,
    QUEUE,
    claim,
    dialling,
    missed,
    opening,
)

TALKED = Settlement(outcome=Outcome.CONNECTED, closed_as=ClosedAs.RECALLED)
MINUTE = timedelta(minutes=1)


def ago(clock, **time):
    return clock.now - timedelta(**time)


def late(ledger, ended, **said):
    """A call that came in half a minute before its end, recorded now."""
    call = missed(calldate=ended - MINUTE / 2, **said)
    return ledger.record_late(call, opening(expire=3600.0), ended)


def answered(call, ended, number=ANNA, operator="1001", at=None):
    return Served(
        node="fs1",
        call_uuid=call,
        phone=number or "",
        queue=QUEUE,
        operator=operator,
        at=at or ended - MINUTE,
    )


def caught_up(ledger, left, member="m1", **said):
    """What the catch-up makes of a member who left a queue."""
    name = f"member:{member}:{int(left.timestamp())}"
    call = missed(call_uuid=name, member_uuid=member, calldate=left - MINUTE / 2, timewait=30, **said)
    return ledger.record(call, opening())


def names(left, member="m1"):
    return [f"member:{member}:{int(left.timestamp()) + second}" for second in (0, -1, 1)]


def recall(ledger, missed_id):
    return ledger.show(missed_id)["recall"]


def rows(ledger):
    return list(ledger.listing(Filter()))


def test_what_is_too_late_is_recorded_and_closed_at_once(timed, clock):
    call = missed(calldate=ago(clock, days=30))
    told = timed.record_late(call, opening(expire=-1.0), ago(clock, days=30))
    assert told.new
    assert told.closed_as is ClosedAs.EXPIRED
    assert recall(timed, told.missed_id)["closed_as"] == "expired"
    assert timed.due(None, 10) == []


def test_what_is_too_late_leaves_the_recall_of_a_later_call_alone(timed, clock):
    today = timed.record(missed(calldate=clock.now), opening())
    old = timed.record_late(missed(calldate=ago(clock, days=30)), opening(expire=-1.0), ago(clock, days=30))
    assert (old.recall_id, old.closed_as) == (today.recall_id, None)
    assert recall(timed, today.missed_id)["expires_at"] == clock.now + timedelta(days=1)


def test_who_was_called_back_since_is_not_called_again(timed, clock):
    taken = dialling(timed)
    ended = clock.now
    clock.forward(minutes=5)
    timed.connected(taken, clock.now, "1001@default")
    timed.settle(taken, TALKED, clock.now)
    told = late(timed, ended)
    assert (told.new, told.recall_id, told.closed_as) == (True, taken.recall, ClosedAs.RECALLED)
    row = timed.show(told.missed_id)["missed"]
    assert (row["recalldate"], row["recalloperator"]) == (clock.now, "1001@default")
    assert timed.due(None, 10) == []


def test_who_was_called_back_before_is_called_again(timed, clock):
    taken = dialling(timed)
    timed.connected(taken, clock.now, "1001@default")
    timed.settle(taken, TALKED, clock.now)
    clock.forward(minutes=5)
    told = late(timed, ended=clock.now)
    assert told.recall_id != taken.recall
    assert told.closed_as is None


def test_the_talk_of_another_tenant_is_none(timed, clock):
    of_other = timed.record(missed(), opening(scope="elsewhere"))
    taken = claim(timed, of_other.recall_id)
    timed.dialling(taken)
    ended = clock.now
    clock.forward(minutes=5)
    timed.connected(taken, clock.now, "1001@elsewhere")
    timed.settle(taken, TALKED, clock.now)
    assert late(timed, ended).closed_as is None


def test_a_call_before_the_attempt_brings_no_retry_forward(timed, clock):
    first = timed.record(missed(calldate=ago(clock, hours=1)), opening())
    taken = claim(timed, first.recall_id)
    timed.dialling(taken)
    timed.settle(taken, Settlement(outcome=Outcome.BUSY, retry_in=1800.0), clock.now)
    told = late(timed, ended=ago(clock, minutes=6))
    assert told.recall_id == taken.recall
    assert recall(timed, told.missed_id)["due_at"] == clock.now + timedelta(minutes=30)


def test_a_call_before_the_newest_makes_nothing_due_sooner(timed, clock):
    newest = timed.record(missed(calldate=clock.now), opening(delay=1800.0))
    assert late(timed, ended=ago(clock, minutes=6)).recall_id == newest.recall_id
    assert recall(timed, newest.missed_id)["due_at"] == clock.now + timedelta(minutes=30)


def test_a_call_after_the_attempt_makes_the_recall_due(timed, clock):
    taken = dialling(timed)
    clock.forward(minutes=5)
    timed.settle(taken, Settlement(outcome=Outcome.BUSY, retry_in=1800.0), clock.now)
    told = late(timed, ended=ago(clock, minutes=1))
    assert recall(timed, told.missed_id)["due_at"] == clock.now


def test_an_earlier_call_prolongs_what_waits(timed, clock):
    first = timed.record(missed(calldate=clock.now), opening(expire=60.0))
    late(timed, ended=ago(clock, minutes=1))
    assert recall(timed, first.missed_id)["expires_at"] == clock.now + timedelta(hours=1)


def test_a_call_joins_the_recall_that_is_up(timed, clock):
    taken = dialling(timed)
    assert late(timed, ended=ago(clock, minutes=1)).recall_id == taken.recall


def test_a_call_is_told_late_twice_and_recorded_once(timed, clock):
    call = missed(calldate=ago(clock, minutes=10), operator=None)
    told = [timed.record_late(call, opening(), ago(clock, minutes=9)) for _ in range(2)]
    assert [each.new for each in told] == [True, False]
    assert told[0].missed_id == told[1].missed_id


def test_what_events_told_is_completed_only_where_it_is_empty(timed, clock):
    heard = missed(calldate=clock.now, operator="1001@default", hangup_cause="")
    timed.record(heard, opening())
    told = missed(call_uuid=heard.call_uuid, timewait=99, hangup_cause="NORMAL_CLEARING")
    timed.record_late(told, opening(), clock.now)
    [row] = rows(timed)
    assert (row["operator"], row["timewait"], row["hangup_cause"]) == ("1001@default", 30, "NORMAL_CLEARING")


@pytest.mark.parametrize("number", [ANNA, None])
def test_the_row_of_the_catch_up_becomes_the_calls_own(timed, clock, number):
    left = ago(clock, minutes=9)
    blocked = {} if number else {"number": None}
    before = caught_up(timed, left, phone=number or "anonymous")
    call = missed(calldate=ago(clock, minutes=11), timewait=31, calledid="3000", member_uuid="m1")
    told = timed.record_late(call, opening(**blocked), left + MINUTE, names(left + timedelta(seconds=1)))
    assert (told.missed_id, told.new) == (before.missed_id, False)
    [row] = rows(timed)
    assert (row["call_uuid"], row["timewait"], row["calledid"]) == (call.call_uuid, 31, "3000")
    assert row["calldate"] == call.calldate
    again = timed.record_late(call, opening(**blocked), left + MINUTE, names(left))
    assert (again.missed_id, len(rows(timed))) == (before.missed_id, 1)


def test_the_row_of_the_catch_up_is_found_by_the_number_and_the_time(timed, clock):
    """The list that it was read from may have been another queue's than the call's last."""
    before = caught_up(timed, ago(clock, minutes=9), member="first")
    call = missed(calldate=ago(clock, minutes=11), member_uuid="second")
    told = timed.record_late(call, opening(), ago(clock, minutes=5), names(ago(clock, minutes=5), "second"))
    assert (told.missed_id, told.new) == (before.missed_id, False)


@pytest.mark.parametrize("minutes", [20, 2])
def test_another_call_of_the_number_is_another_row(timed, clock, minutes):
    caught_up(timed, ago(clock, minutes=minutes), member="other")
    call = missed(calldate=ago(clock, minutes=11))
    assert timed.record_late(call, opening(), ago(clock, minutes=5), names(ago(clock, minutes=5))).new


def test_a_retry_stays_where_it_is_when_the_row_of_the_catch_up_is_completed(timed, clock):
    left = ago(clock, minutes=9)
    before = caught_up(timed, left)
    taken = claim(timed, before.recall_id)
    timed.dialling(taken)
    timed.settle(taken, Settlement(outcome=Outcome.BUSY, retry_in=1800.0), clock.now)
    timed.record_late(missed(calldate=left - MINUTE), opening(), left, names(left))
    assert recall(timed, before.missed_id)["due_at"] == clock.now + timedelta(minutes=30)


def test_both_rows_of_one_call_become_one(timed, clock):
    left = ago(clock, minutes=9)
    call = missed(calldate=left - MINUTE)
    kept = timed.record(call, opening())
    caught_up(timed, left)
    timed.record_late(call, opening(), left, names(left))
    assert [row["id"] for row in rows(timed)] == [kept.missed_id]


def test_an_answered_call_takes_back_what_the_catch_up_made_of_it(timed, clock):
    left = ago(clock, minutes=9)
    caught_up(timed, left)
    timed.served_late(
        answered("c1", left + MINUTE), ANNA, "default", started=left - MINUTE, ended=left + MINUTE
    )
    assert rows(timed) == []


def test_an_answered_call_closes_the_recall_of_an_earlier_one(timed, clock):
    first = timed.record(missed(calldate=ago(clock, hours=1)), opening())
    at = ago(clock, minutes=30)
    call = answered("c1", at + MINUTE, at=at)
    assert timed.served_late(call, ANNA, "default", started=at, ended=at + MINUTE) == 1
    told = recall(timed, first.missed_id)
    assert (told["closed_as"], told["closed_by"]) == ("served_inbound", "1001")
    row = timed.show(first.missed_id)["missed"]
    assert (row["recalldate"], row["recalloperator"]) == (at, "1001")


def test_an_answered_call_leaves_the_recall_of_a_later_one(timed, clock):
    timed.record(missed(calldate=ago(clock, minutes=5)), opening())
    at = ago(clock, minutes=30)
    call = answered("c1", at + MINUTE, at=at)
    assert timed.served_late(call, ANNA, "default", started=at, ended=at + MINUTE) == 0


def test_who_talked_and_then_asked_to_be_called_back_is(timed, clock):
    """The request came by an event; the CDR of the same call tells of the talk only."""
    begun = ago(clock, minutes=10)
    asked = timed.record(missed(call_uuid="c1", calldate=begun), opening())
    call = answered("c1", clock.now, at=begun + MINUTE)
    assert timed.served_late(call, ANNA, "default", started=begun, ended=clock.now) == 0
    assert recall(timed, asked.missed_id)["state"] == "waiting"


def test_a_call_that_events_had_not_told_to_its_end_was_answered_after_all(timed, clock):
    begun = ago(clock, minutes=10)
    timed.record(missed(call_uuid="c1", calldate=begun, settled=False), opening())
    timed.served_late(answered("c1", clock.now), None, "default", started=begun, ended=clock.now)
    assert rows(timed) == []


def test_two_who_import_the_same_calls_record_each_once(ledger, other_ledger):
    calls = [missed(calldate=NOON, phone=f"+49301111{n:02}") for n in range(20)]

    def take_in(one):
        return [one.record_late(call, opening(call.phone), NOON) for call in calls]

    told = [
        job.get() for job in gevent.joinall([gevent.spawn(take_in, each) for each in (ledger, other_ledger)])
    ]
    assert sum(each.new for all_of_one in told for each in all_of_one) == 20
    assert len(rows(ledger)) == 20


def test_the_list_says_never(timed, clock):
    told = timed.record_late(missed(), opening(blocked="short rings: …"), clock.now)
    assert told.closed_as is ClosedAs.BLOCKED


def test_which_calls_are_on_record(timed):
    told = [missed() for _ in range(3)]
    for call in told[:2]:
        timed.record(call, opening())
    asked = {call.call_uuid for call in told}
    assert timed.known_calls("fs1", asked) == {call.call_uuid for call in told[:2]}
    assert timed.known_calls("fs2", asked) == set()
    assert timed.known_calls("fs1", set()) == set()


def talked(ledger, at, ended=None, **said):
    """An answered call that closes nothing; nobody is called back for it."""
    ended = ended or at + MINUTE
    call = answered("answered", ended, at=at, **said)
    assert ledger.served_late(call, ANNA, "default", started=at - MINUTE, ended=ended) == 0


def test_who_talked_without_a_recall_is_known_to_the_catch_up(timed, clock):
    at = ago(clock, minutes=9)
    talked(timed, at)
    assert timed.on_record("fs1", [], [ANNA], at - MINUTE).talked == {ANNA: at}
    assert timed.on_record("fs1", [], [ANNA], at + MINUTE).talked == {}


@pytest.mark.parametrize("after_the_end", [MINUTE, timedelta(0), -MINUTE / 4])
def test_who_talked_since_is_not_called_for_a_call_that_is_told_after_that(timed, clock, after_the_end):
    """Also during the same wait: by another leg's record."""
    ended = ago(clock, minutes=9)
    talked(timed, ended + after_the_end)
    told = late(timed, ended)
    assert (told.new, told.closed_as) == (True, ClosedAs.SERVED_INBOUND)
    row = timed.show(told.missed_id)["missed"]
    assert (row["recalldate"], row["recalloperator"]) == (ended + after_the_end, "1001")
    assert timed.due(None, 10) == []


def test_who_talked_and_then_waited_in_vain_is_called(timed, clock):
    """In one call; `timewait` is only what they waited after the talk."""
    ended = ago(clock, minutes=9)
    talked(timed, ended - MINUTE, ended)
    call = missed(calldate=ended - 3 * MINUTE, timewait=30)
    assert timed.record_late(call, opening(), ended).closed_as is None


def test_who_was_answered_by_nobody_in_particular_has_talked_too(timed, clock):
    ended = ago(clock, minutes=9)
    talked(timed, ended, operator=None)
    told = late(timed, ended)
    assert told.closed_as is ClosedAs.SERVED_INBOUND
    assert timed.show(told.missed_id)["missed"]["recalloperator"] is None


def test_a_talk_with_another_tenant_closes_nothing(timed, clock):
    ended = ago(clock, minutes=9)
    call = answered("answered", ended, at=ended)
    timed.served_late(call, ANNA, "elsewhere", started=ended, ended=ended)
    assert late(timed, ended).closed_as is None


def test_an_earlier_talk_that_is_told_later_is_not_the_last_one(timed, clock):
    ended = ago(clock, minutes=9)
    for at in (ended, ended - 60 * MINUTE):
        talked(timed, at)
    assert late(timed, ended).closed_as is ClosedAs.SERVED_INBOUND
