"""Which recalls are due, who may call them, and what becomes of them."""

import itertools
from datetime import timedelta

import pytest

from freeswitch_callback.core.facts import ClosedAs, Mode, Outcome, Settlement
from freeswitch_callback.core.lifecycle import MOVES, State
from freeswitch_callback.ledger import Filter, Ledger
from tests.integration.ledger.given import (
    ANNA,
    BORIS,
    NOON,
    PARKED,
    QUEUE,
    RETRY,
    claim,
    claimed,
    dialling,
    missed,
    opening,
    parked,
    seconds_until,
    waiting,
)

CONNECTED = Settlement(outcome=Outcome.CONNECTED, closed_as=ClosedAs.RECALLED)


def numbers(ledger, queues=None, limit=10):
    return [due.number for due in ledger.due(queues, limit)]


def recall_of(ledger):
    return ledger.show(next(iter(ledger.listing(Filter())))["id"])["recall"]


def test_priority_goes_first_then_who_has_been_due_longest(ledger: Ledger):
    for number, priority, delay in (
        ("+1", 0, -10),
        ("+2", 0, -20),
        ("+3", 5, -1),
        ("+4", -3, -99),
        ("+5", 5, 60),
    ):
        ledger.record(missed(), opening(number, priority=priority, delay=delay))
    assert numbers(ledger) == ["+3", "+2", "+1", "+4"]
    assert numbers(ledger, limit=2) == ["+3", "+2"]


def test_only_the_queues_that_were_asked_for(ledger: Ledger):
    for number, queue in (("+1", "a"), ("+2", "b"), ("+3", "c"), ("+4", None)):
        ledger.record(missed(), opening(number, queue=queue, delay=-int(number)))
    assert numbers(ledger, ["a", "c"]) == ["+3", "+1"]
    assert numbers(ledger, []) == []
    assert numbers(ledger, None) == ["+4", "+3", "+2", "+1"]
    assert numbers(ledger, ["a", "b", "c"], limit=2) == ["+3", "+2"]


def test_what_is_not_due_yet_or_expired_is_not_offered(ledger: Ledger):
    waiting(ledger, "+1", delay=60.0)
    waiting(ledger, "+2", expire=-1.0)
    assert numbers(ledger) == []


def test_how_long_until_the_next_one(ledger: Ledger):
    assert ledger.next_due() is None
    waiting(ledger, "+1", delay=600.0)
    assert ledger.next_due() == pytest.approx(600, abs=20)
    waiting(ledger, "+2", delay=-30.0)
    assert ledger.next_due() == pytest.approx(-30, abs=20)
    assert ledger.next_due(due_for=60.0) == pytest.approx(-30, abs=20)
    assert ledger.next_due(due_for=0.001) == pytest.approx(600, abs=20)


def test_what_nobody_could_call_in_time_expires(ledger: Ledger):
    late = waiting(ledger, "+1", expire=-1.0)
    waiting(ledger, "+2")
    assert (ledger.expire(), ledger.expire()) == (1, 0)
    recall = ledger.show(late.missed_id)["recall"]
    assert (recall["state"], recall["closed_as"]) == ("closed", "expired")
    assert numbers(ledger) == ["+2"]


def test_more_than_one_batch_expires(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("freeswitch_callback.ledger.recalls.BATCH", 2)
    for number in range(5):
        waiting(ledger, f"+{number}", expire=-1.0)
    assert ledger.expire() == 5


def test_a_claim_holds_recall_and_agent(ledger: Ledger):
    recorded = waiting(ledger)
    taken = claim(ledger, recorded.recall_id, agent="1001", call_uuid="c", job_uuid="j")
    assert taken is not None
    assert (taken.fence, taken.number, taken.queue, taken.mode) == (1, ANNA, QUEUE, Mode.AGENT_FIRST)
    assert numbers(ledger) == []
    (held,) = ledger.held()
    assert (held.claim, held.state, held.sent_at) == (taken, State.CLAIMED, None)
    assert [(kept.agent, kept.attempt) for kept in ledger.reservations()] == [("1001", taken.attempt)]


def test_a_recall_is_claimed_once(ledger: Ledger, other_ledger: Ledger):
    recorded = waiting(ledger)
    assert claim(ledger, recorded.recall_id)
    assert claim(other_ledger, recorded.recall_id, engine="engine-2") is None
    assert len(ledger.reservations()) == 1


def test_a_reserved_agent_is_not_taken_again_on_that_node(ledger: Ledger, other_ledger: Ledger):
    claimed(ledger, ANNA, agent="1001", node="fs1")
    recorded = waiting(ledger, BORIS)
    assert claim(other_ledger, recorded.recall_id, agent="1001", node="fs1", engine="engine-2") is None
    assert numbers(ledger) == [BORIS]
    assert claim(ledger, recorded.recall_id, agent="1001", node="fs2")


def test_a_recall_through_the_queue_reserves_nobody(ledger: Ledger):
    assert claimed(ledger, agent=None, mode=Mode.QUEUE).agent is None
    assert ledger.reservations() == []


@pytest.mark.parametrize("said", [{"delay": 60.0}, {"expire": -1.0}])
def test_what_is_not_due_or_expired_cannot_be_claimed(ledger: Ledger, said):
    assert claim(ledger, waiting(ledger, **said).recall_id) is None


def test_an_attempt_that_was_never_sent_is_as_if_it_had_not_been(ledger: Ledger):
    taken = claimed(ledger)
    assert ledger.abort(taken)
    assert (numbers(ledger), ledger.held()) == ([ANNA], [])
    assert [(r.agent, r.attempt) for r in ledger.reservations()] == [(taken.agent, None)]
    assert ledger.strike(ledger.reservations()[0].id)
    assert ledger.show(1)["attempts"] == []
    again = claim(ledger, taken.recall)
    assert again is not None
    assert again.fence == taken.fence + 1


def test_a_recall_that_reached_its_client(ledger: Ledger):
    earlier = waiting(ledger)
    taken = dialling(ledger, agent="1001")
    at = NOON + timedelta(minutes=1)
    assert ledger.answered(taken, at)
    assert ledger.answered(taken, at + timedelta(seconds=5))
    assert ledger.connected(taken, at + timedelta(seconds=9), "1001@default")
    assert ledger.settle(taken, CONNECTED, at + timedelta(seconds=99))
    shown = ledger.show(earlier.missed_id)
    for row in (shown["missed"], *shown["others"]):
        assert (row["recalldate"], row["recalloperator"]) == (at + timedelta(seconds=9), "1001@default")
    (attempt,) = shown["attempts"]
    assert attempt["sent_at"] is not None
    assert (attempt["answered_at"], attempt["ended_at"]) == (at, at + timedelta(seconds=99))
    assert (attempt["outcome"], shown["recall"]["closed_as"]) == ("connected", "recalled")
    assert (shown["recall"]["closed_by"], shown["recall"]["claimed_by"]) == ("engine-1", None)
    assert [entry["what"] for entry in shown["journal"]] == [
        "opened",
        "called again",
        "claimed",
        "dialling",
        "connected",
        "closed",
    ]


def test_the_reservation_outlives_the_attempt_until_the_agent_is_released(ledger: Ledger):
    taken = dialling(ledger, agent="1001")
    ledger.settle(taken, RETRY, NOON)
    assert [kept.agent for kept in ledger.reservations("fs1")] == ["1001"]
    ledger.settle(taken, RETRY, NOON, released=True)
    assert ledger.reservations() == []


def test_a_busy_client_is_due_again_after_the_delay(ledger: Ledger):
    taken = dialling(ledger)
    again = Settlement(outcome=Outcome.BUSY, hangup_cause="USER_BUSY", retry_in=300.0, note="busy")
    assert ledger.settle(taken, again, NOON)
    recall = recall_of(ledger)
    assert (recall["state"], recall["attempts"], recall["note"]) == ("waiting", 1, "busy")
    assert seconds_until(recall["due_at"]) == pytest.approx(300, abs=20)
    assert ledger.show(1)["attempts"][0]["hangup_cause"] == "USER_BUSY"


def test_agents_who_are_not_there_cost_the_client_nothing(ledger: Ledger):
    absent = Settlement(outcome=Outcome.AGENT_NO_ANSWER, retry_in=0.0, counted=False, agent_failed=True)
    taken = dialling(ledger)
    ledger.settle(taken, absent, NOON)
    (due,) = ledger.due(None, 1)
    assert (due.attempts, due.failures) == (0, 1)
    for settlement, counts in ((absent, (0, 2)), (RETRY, (1, 0)), (absent, (1, 1))):
        again = claim(ledger, due.id)
        assert again is not None
        assert ledger.dialling(again)
        assert ledger.settle(again, settlement, NOON)
        (due,) = ledger.due(None, 1)
        assert (due.attempts, due.failures) == counts


def test_an_unknown_outcome_is_parked_and_not_offered_again(ledger: Ledger):
    taken = parked(ledger)
    assert numbers(ledger) == []
    assert claim(ledger, taken.recall) is None
    assert ledger.show(1)["attempts"][0]["outcome"] == "unknown"
    assert waiting(ledger).recall_id == taken.recall, "a new call joins it and opens no second recall"
    assert numbers(ledger) == []


@pytest.mark.parametrize("successor", ["engine-2", "engine-1"])
def test_an_overtaken_claim_changes_nothing(ledger: Ledger, other_ledger: Ledger, successor: str):
    """Also when it was the next run of the same engine that took over."""
    old = dialling(ledger, lease=-1.0)
    new = other_ledger.adopt(old, successor, 30.0)
    assert new is not None
    before = ledger.show(1)
    assert not ledger.dialling(old)
    assert not ledger.answered(old, NOON)
    assert not ledger.connected(old, NOON, "1001")
    assert not ledger.abort(old)
    assert not ledger.settle(old, RETRY, NOON)
    assert ledger.show(1) == before
    assert other_ledger.settle(new, RETRY, NOON)


def test_a_settled_claim_settles_once(ledger: Ledger):
    taken = dialling(ledger)
    assert ledger.settle(taken, RETRY, NOON)
    before = ledger.show(1)
    assert not ledger.settle(taken, CONNECTED, NOON)
    assert ledger.show(1) == before


STEPS = {
    "dialling": (State.DIALLING, lambda ledger, taken: ledger.dialling(taken)),
    "connected": (State.CONNECTED, lambda ledger, taken: ledger.connected(taken, NOON, "1001")),
    "closed": (State.CLOSED, lambda ledger, taken: ledger.settle(taken, CONNECTED, NOON)),
    "retried": (State.WAITING, lambda ledger, taken: ledger.settle(taken, RETRY, NOON)),
    "parked": (State.UNKNOWN, lambda ledger, taken: ledger.settle(taken, PARKED, NOON)),
}


def test_only_the_moves_of_the_lifecycle_are_made(ledger: Ledger):
    """Every step from every live state; one that the table does not have is refused and changes nothing."""
    numbers = itertools.count(1)
    for state, (to, make) in itertools.product(
        (State.CLAIMED, State.DIALLING, State.CONNECTED), STEPS.values()
    ):
        taken = claimed(ledger, f"+{next(numbers)}")
        if state is not State.CLAIMED:
            assert ledger.dialling(taken)
        if state is State.CONNECTED:
            assert ledger.connected(taken, NOON, "1001")
        before = ledger.show(taken.recall)  # the first call of each: the ids are the same
        made = make(ledger, taken)
        after = ledger.show(taken.recall)
        assert made == (to in MOVES[state]), (state, to)
        if made:
            assert after["recall"]["state"] == to
        else:
            assert after == before


def test_a_claim_may_say_at_once_that_its_call_is_about_to_be_sent(ledger: Ledger):
    """All in one transaction: there is no claim of which it is not known."""
    recorded = waiting(ledger)
    taken = claim(ledger, recorded.recall_id, sent_to="core-1")
    [held] = ledger.held()
    assert (held.claim, held.state, held.core_uuid) == (taken, State.DIALLING, "core-1")
    assert held.sent_at == held.made_at
    what = [entry["what"] for entry in ledger.show(recorded.missed_id)["journal"]]
    assert what[-2:] == ["claimed", "dialling"]
    assert not ledger.dialling(taken)
    assert not ledger.abort(taken)  # it may have been sent, as far as anybody else can know
    assert ledger.connected(taken, NOON, "1001")


def test_whoever_was_about_to_send_takes_it_back(ledger: Ledger):
    taken = dialling(ledger)
    assert ledger.abort(taken, unsent=True, released=True)
    assert ledger.reservations() == [], "in the same transaction: nobody finds the attempt without it"
    shown = ledger.show(1)
    assert (shown["recall"]["state"], shown["recall"]["attempts"], shown["attempts"]) == ("waiting", 0, [])
    again = claim(ledger, taken.recall)
    assert ledger.dialling(again)
    assert not ledger.abort(taken, unsent=True)  # overtaken
    assert ledger.show(1)["recall"]["state"] == "dialling"


def test_only_a_claim_that_was_not_sent_can_be_aborted(ledger: Ledger):
    taken = dialling(ledger)
    before = ledger.show(1)
    assert not ledger.abort(taken)
    assert ledger.show(1) == before
