"""When a recall is looked at: at once, when its gate opens, or when everything is to be looked at anew."""

from datetime import timedelta

import pytest

from freeswitch_callback.core.facts import Settlement
from freeswitch_callback.core.gates import Gate, Verdict
from freeswitch_callback.ledger import Filter, Ledger
from tests.integration.ledger.given import (
    ANNA,
    BORIS,
    NOON,
    QUEUE,
    RETRY,
    Clock,
    claim,
    dialling,
    judged,
    missed,
    opening,
    waiting,
)

ALL = Filter()
IN_AN_HOUR = Verdict(Gate.HOURS, False, "opens at one", NOON + timedelta(hours=1))
NEVER = Verdict(Gate.COUNTRY, False, "TV is not in numbers.allow", for_good=True)


def numbers(ledger):
    return [due.number for due in ledger.due(None, 10)]


def recall_of(ledger, recorded):
    return ledger.show(recorded.missed_id)["recall"]


def test_a_call_of_the_night_is_looked_at_in_the_morning(timed: Ledger, clock: Clock):
    recorded = waiting(timed, look_in=3600.0, expire=7200.0)
    assert (numbers(timed), timed.next_due(), claim(timed, recorded.recall_id)) == ([], 3600.0, None)
    recall = recall_of(timed, recorded)
    assert (recall["due_at"], recall["look_at"]) == (NOON, NOON + timedelta(hours=1))
    clock.forward(hours=1)
    assert (numbers(timed), timed.next_due()) == ([ANNA], 0.0)
    assert claim(timed, recorded.recall_id)


def test_nothing_is_looked_at_before_it_is_due(timed: Ledger, clock: Clock):
    recorded = waiting(timed, delay=60.0, look_in=0.0)
    assert recall_of(timed, recorded)["look_at"] == NOON + timedelta(seconds=60)
    assert numbers(timed) == []


def test_a_second_call_has_it_looked_at_as_soon_as_either_says(timed: Ledger, clock: Clock):
    waiting(timed, delay=60.0, look_in=3600.0)
    recorded = waiting(timed, delay=120.0, look_in=120.0)
    recall = recall_of(timed, recorded)
    assert recall["due_at"] == NOON + timedelta(seconds=60)
    assert recall["look_at"] == NOON + timedelta(seconds=120)


def test_a_shut_gate_keeps_a_recall_back_until_it_opens(timed: Ledger, clock: Clock):
    recorded, other = waiting(timed), waiting(timed, BORIS)
    assert timed.hold([(recorded.recall_id, IN_AN_HOUR)], "engine-1") == 1
    assert (numbers(timed), claim(timed, recorded.recall_id)) == ([BORIS], None)
    assert recall_of(timed, recorded)["due_at"] == NOON, "the schedule is as it was"
    clock.forward(hours=1)
    assert [due.id for due in timed.due([QUEUE], 9)] == [other.recall_id, recorded.recall_id]


def test_a_gate_that_cannot_say_when_it_opens_is_looked_at_again(timed: Ledger, clock: Clock):
    recorded = waiting(timed)
    assert timed.hold([(recorded.recall_id, Verdict(Gate.BREAKER, False, "stopped"))], "engine-1") == 1
    assert 0 < (timed.next_due() or 0.0) <= 300.0


def test_a_gate_that_should_be_open_by_now_does_not_make_anybody_run_in_circles(timed: Ledger, clock: Clock):
    recorded = waiting(timed)
    late = Verdict(Gate.CAPS, False, "by a clock that is behind", NOON - timedelta(seconds=3))
    assert timed.hold([(recorded.recall_id, late)], "engine-1") == 1
    assert timed.next_due() == 1.0


def test_a_gate_that_never_opens_closes_the_recall_under_its_name(ledger: Ledger):
    recorded = waiting(ledger)
    assert ledger.hold([(recorded.recall_id, NEVER)], "engine-1") == 1
    shown = ledger.show(recorded.missed_id)
    assert (shown["recall"]["closed_as"], shown["recall"]["closed_by"]) == ("blocked", "engine-1")
    assert shown["recall"]["note"] == "country: TV is not in numbers.allow"
    assert [entry["what"] for entry in shown["journal"]] == ["opened", "closed"]


def test_what_somebody_has_by_now_or_is_to_be_looked_at_later_is_not_held(timed: Ledger, clock: Clock):
    taken = dialling(timed, "+1")
    later = waiting(timed, "+2", look_in=60.0)
    closed = waiting(timed, "+3")
    timed.hold([(closed.recall_id, NEVER)], "engine-1")
    shut = [(recall, NEVER) for recall in (taken.recall, later.recall_id, closed.recall_id, 999)]
    assert timed.hold(shut, "engine-1") == 0
    assert timed.hold([], "engine-1") == 0
    assert timed.settle(taken, RETRY, NOON)


def test_after_a_change_everything_is_looked_at_anew_but_nothing_before_it_is_due(
    timed: Ledger, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("freeswitch_callback.ledger.recalls.BATCH", 2)
    held = [waiting(timed, f"+{number}") for number in range(5)]
    timed.hold([(recorded.recall_id, IN_AN_HOUR) for recorded in held], "engine-1")
    waiting(timed, "+8")
    waiting(timed, "+9", delay=60.0, look_in=3600.0)
    assert numbers(timed) == ["+8"]
    assert (timed.reconsider(), timed.reconsider()) == (6, 0)
    assert sorted(numbers(timed)) == ["+0", "+1", "+2", "+3", "+4", "+8"]
    clock.forward(seconds=60)
    assert "+9" in numbers(timed)


def test_a_retry_is_looked_at_when_it_is_due(timed: Ledger, clock: Clock):
    taken = dialling(timed)
    timed.settle(taken, Settlement(RETRY.outcome, retry_in=300.0), NOON)
    assert timed.next_due() == 300.0
    clock.forward(seconds=300)
    assert claim(timed, taken.recall)


def test_what_is_postponed_is_looked_at_then(timed: Ledger, clock: Clock):
    recorded = waiting(timed)
    timed.hold([(recorded.recall_id, IN_AN_HOUR)], "engine-1")
    assert timed.postpone(ALL, NOON + timedelta(minutes=5), "admin") == 1
    assert timed.next_due() == 300.0


def test_a_judge_refuses_a_claim_and_the_recall_is_held(timed: Ledger, clock: Clock):
    recorded = waiting(timed)
    asked = []

    def judge(case, now):
        asked.append((case.number, case.queue, now))
        return IN_AN_HOUR

    assert judged(timed, recorded.recall_id, judge=judge) == IN_AN_HOUR
    assert asked == [(ANNA, QUEUE, NOON)] * 2
    assert (timed.reservations(), timed.held(), timed.next_due()) == ([], [], 3600.0)


def test_a_judge_can_close_it_for_good(ledger: Ledger):
    recorded = waiting(ledger)
    assert judged(ledger, recorded.recall_id, judge=lambda case, now: NEVER) == NEVER
    assert recall_of(ledger, recorded)["closed_as"] == "blocked"


def test_a_judge_who_has_nothing_against_it(ledger: Ledger):
    assert claim(ledger, waiting(ledger).recall_id, judge=lambda case, now: None)


def test_whom_the_client_talked_to_last_is_known_when_they_are_due(ledger: Ledger):
    waiting(ledger, ANNA)
    ledger.record(missed(phone=ANNA), opening(ANNA, scope="elsewhere"))
    ledger.note_talk(ANNA, "default", "1001@default")
    ledger.note_talk(ANNA, "default", "1002@default")
    assert {(due.scope, due.last_agent) for due in ledger.due(None, 9)} == {
        ("default", "1002@default"),
        ("elsewhere", None),
    }


def test_a_recall_that_connects_is_a_talk_too(ledger: Ledger):
    taken = dialling(ledger)
    assert ledger.connected(taken, NOON, "1003@default")
    ledger.settle(taken, RETRY, NOON)
    (due,) = ledger.due(None, 9)
    assert due.last_agent == "1003@default"


def test_whom_a_client_talked_to_is_purged_with_the_recall(ledger: Ledger):
    waiting(ledger, ANNA)
    ledger.note_talk(ANNA, "default", "1001")
    ledger.note_talk(BORIS, "default", "1002")
    ledger.hold([(recorded.id, NEVER) for recorded in ledger.due(None, 9)], "engine-1")
    assert ledger.purge(ALL, "admin") == 1
    waiting(ledger, ANNA)
    waiting(ledger, BORIS)
    assert {due.number: due.last_agent for due in ledger.due(None, 9)} == {ANNA: None, BORIS: "1002"}
