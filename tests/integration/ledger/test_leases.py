"""What engines hold and lose."""

import pytest

from freeswitch_callback.core.lifecycle import State
from freeswitch_callback.ledger import Ledger
from tests.integration.ledger.given import ANNA, BORIS, NOON, RETRY, claimed, dialling, parked, seconds_until


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
    claimed(ledger, ANNA, agent="1001", node="fs1")
    claimed(ledger, BORIS, agent="1001", node="fs2")
    assert [(kept.node, kept.agent, kept.engine) for kept in ledger.reservations("fs2")] == [
        ("fs2", "1001", "engine-1")
    ]
    assert ledger.release("fs1", "1001")
    assert [kept.node for kept in ledger.reservations()] == ["fs2"]
