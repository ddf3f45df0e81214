"""What engines hold and lose."""

import pytest

from freeswitch_callback.core.facts import ClosedAs
from freeswitch_callback.core.lifecycle import State
from freeswitch_callback.ledger import Filter, Ledger
from tests.integration.ledger.given import (
    ANNA,
    BORIS,
    NOON,
    RETRY,
    Clock,
    claim,
    claimed,
    dialling,
    parked,
    seconds_until,
    waiting,
)


def test_a_lease_that_ended_makes_a_claim_overdue_until_it_is_renewed(ledger: Ledger):
    lost, kept = claimed(ledger, ANNA, lease=-1.0), claimed(ledger, BORIS, lease=30.0)
    assert ledger.overdue() == [lost]
    assert ledger.renew("engine-1", 100.0) == 2
    assert ledger.overdue() == []
    assert {held.claim for held in ledger.held()} == {lost, kept}
    assert seconds_until(ledger.held()[0].lease_until) == pytest.approx(100, abs=20)


def test_renewing_leaves_other_engines_and_what_is_over_alone(ledger: Ledger):
    claimed(ledger, ANNA, engine="engine-2", lease=-1.0)
    parked(ledger, BORIS)
    assert ledger.renew("engine-1", 100.0) == 0
    assert len(ledger.overdue()) == 1


def test_what_is_held_tells_how_far_each_attempt_came(ledger: Ledger):
    first = claimed(ledger, ANNA, node="fs1")
    second = claimed(ledger, BORIS, node="fs2", engine="engine-2")
    ledger.dialling(second, core_uuid="core-1")
    ledger.answered(second, NOON)
    ledger.connected(second, NOON, "1001")
    assert [held.claim for held in ledger.held(engine="engine-1")] == [first]
    (held,) = ledger.held(node="fs2")
    assert (held.claim, held.state, held.core_uuid) == (second, State.CONNECTED, "core-1")
    assert held.sent_at is not None
    assert (held.answered_at, held.connected_at) == (NOON, NOON)


def test_a_lost_claim_goes_on_under_a_new_fence(ledger: Ledger, other_ledger: Ledger):
    lost = dialling(ledger, agent="1001", lease=-1.0)
    adopted = other_ledger.adopt(lost, "engine-2", 30.0)
    assert adopted is not None
    assert (adopted.fence, adopted.engine, adopted.attempt) == (lost.fence + 1, "engine-2", lost.attempt)
    assert other_ledger.reservations()[0].engine == "engine-2"
    assert other_ledger.adopt(lost, "engine-3", 30.0) is None
    assert other_ledger.overdue() == []
    assert other_ledger.settle(adopted, RETRY, NOON)


def test_a_claim_whose_lease_runs_is_only_adopted_by_its_own_engines_next_run(ledger: Ledger):
    taken = dialling(ledger, lease=30.0)
    assert ledger.adopt(taken, "engine-2", 30.0) is None
    again = ledger.adopt(taken, "engine-1", 30.0)
    assert again is not None
    assert again.fence == taken.fence + 1


def test_a_claim_is_adopted_once_also_by_two_runs_of_one_engine(ledger: Ledger, other_ledger: Ledger):
    taken = dialling(ledger)
    assert ledger.adopt(taken, "engine-1", 30.0)
    assert other_ledger.adopt(taken, "engine-1", 30.0) is None


def test_what_is_over_cannot_be_adopted(ledger: Ledger):
    assert ledger.adopt(parked(ledger), "engine-1", 30.0) is None


def test_reservations_can_be_asked_for_by_node(ledger: Ledger):
    here = claimed(ledger, ANNA, agent="1001", node="fs1")
    claimed(ledger, BORIS, agent="1001", node="fs2")
    assert [(kept.node, kept.agent, kept.engine) for kept in ledger.reservations("fs2")] == [
        ("fs2", "1001", "engine-1")
    ]
    assert ledger.abort(here, released=True)
    assert [kept.node for kept in ledger.reservations()] == ["fs2"]


def test_a_reservation_that_is_taken_over_keeps_the_agent_from_everybody_until_it_is_struck(
    ledger: Ledger, other_ledger: Ledger
):
    over = dialling(ledger, ANNA, agent="1001")
    assert ledger.settle(over, RETRY, NOON)
    (left,) = ledger.reservations()
    assert ledger.take(left.id, over.engine)
    ledger.settle(over, RETRY, NOON, released=True)
    assert ledger.reservations(), "it is not that attempt's any more"
    assert not other_ledger.take(left.id, "engine-2"), "another sees to the agent"
    assert other_ledger.reserve("fs1", "1001", "engine-2") is None
    other = waiting(other_ledger, BORIS).recall_id
    assert claim(other_ledger, other, agent="1001", engine="engine-2") is None
    assert ledger.strike(left.id)
    assert not ledger.take(left.id, over.engine)
    assert claim(other_ledger, other, agent="1001", engine="engine-2") is not None


def test_a_reservation_of_an_engine_that_is_gone_is_taken_over_after_a_while(timed: Ledger, clock: Clock):
    held = timed.reserve("fs1", "1001", "engine-1")
    assert held is not None
    assert not timed.take(held, "engine-2")
    clock.forward(seconds=6)
    assert timed.take(held, "engine-2")
    assert [(kept.engine, kept.attempt) for kept in timed.reservations()] == [("engine-2", None)]


def test_when_the_next_lease_of_another_engine_ends(timed: Ledger, clock: Clock):
    assert timed.next_lease_end("fs1", but="engine-2") is None
    first = dialling(timed, ANNA, lease=30.0)
    claimed(timed, BORIS, lease=20.0, node="fs2")
    assert timed.next_lease_end("fs1", but="engine-1") is None
    assert timed.next_lease_end("fs1", but="engine-2") == 30.0
    clock.forward(seconds=40)
    assert timed.next_lease_end("fs1", but="engine-2") == -10.0
    assert timed.adopt(first, "engine-2", 30.0)
    assert timed.next_lease_end("fs1", but="engine-2") is None
    assert timed.next_lease_end("fs1", but="engine-1") == 30.0


def stranded(ledger: Ledger, *nodes: str) -> list[tuple[str, tuple[int, ...]]]:
    return [(each.node, each.missed) for each in ledger.stranded(nodes)]


def test_what_was_lost_at_a_freeswitch_that_nobody_knows_any_more_is_stranded(timed: Ledger, clock: Clock):
    dialling(timed, ANNA, lease=30.0, node="fs9")
    claimed(timed, BORIS, lease=60.0, node="fs9")
    dialling(timed, "+4930333333", lease=30.0, node="fs1")
    assert stranded(timed, "fs1") == [], "who holds it may know that FreeSWITCH"
    clock.forward(seconds=31)
    assert stranded(timed, "fs1") == [("fs9", (1,))]
    clock.forward(seconds=30)
    assert stranded(timed, "fs1") == [("fs9", (1, 2))]
    assert stranded(timed, "fs1", "fs9") == []
    [told] = timed.stranded(["fs1"])
    assert "2 recalls were being called by fs9" in str(told)
    assert "`close 1 2` or `replay 1 2`" in str(told)


def test_what_was_sent_there_is_unknown_once_it_is_given_up_and_its_engine_writes_no_more(
    timed: Ledger, clock: Clock
):
    taken = dialling(timed, lease=30.0, node="fs9", agent="1001")
    assert timed.give_up(Filter(), ["fs1"], "anna") == 0, "its lease runs"
    clock.forward(seconds=31)
    assert timed.give_up(Filter(), ["fs1", "fs9"], "anna") == 0, "it will be taken over"
    assert timed.give_up(Filter(), ["fs1"], "anna") == 1
    shown = timed.show(1)
    assert (shown["recall"]["state"], shown["attempts"][0]["outcome"]) == ("unknown", "unknown")
    assert shown["journal"][-1]["what"] == "given_up"
    assert not timed.connected(taken, clock.now, "1001")
    assert not timed.settle(taken, RETRY, clock.now)
    assert [kept.agent for kept in timed.reservations("fs9")] == ["1001"], "should it come back"
    assert timed.give_up(Filter(), ["fs1"], "anna") == 0
    assert timed.close_recalls(Filter(), "anna", ClosedAs.CANCELLED) == 1


def test_of_what_nothing_was_sent_waits_again_once_it_is_given_up(timed: Ledger, clock: Clock):
    taken = claimed(timed, lease=30.0, node="fs9")
    clock.forward(seconds=31)
    assert timed.give_up(Filter(), ["fs1"], "anna") == 1
    assert (timed.show(1)["recall"]["state"], timed.show(1)["attempts"]) == ("waiting", [])
    assert not timed.dialling(taken)
    assert claim(timed, taken.recall, node="fs1") is not None
