"""The life of a recall; what an ended attempt leads to."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freeswitch_callback.core.attempt import Progress
from freeswitch_callback.core.facts import ClosedAs, Mode, Outcome, Settlement
from freeswitch_callback.core.lifecycle import LIVE, MOVES, OPEN, State, move
from freeswitch_callback.core.schedule import RetryRules, agent_rest, agent_was_away, settle
from freeswitch_callback.errors import IllegalMove


@pytest.mark.parametrize(("state", "to"), list(product(State, State)))
def test_only_the_moves_in_the_table_are_made(state, to):
    if to in MOVES[state]:
        assert move(state, to) is to
    else:
        with pytest.raises(IllegalMove, match=f"a recall that is {state} cannot become {to}"):
            move(state, to)


def test_from_every_state_a_recall_can_come_to_its_end():
    reach = {State.CLOSED}
    while grown := {s for s in State if MOVES[s] & reach} - reach:
        reach |= grown
    assert reach == set(State)
    assert LIVE < OPEN
    assert State.CLOSED not in OPEN


def ended(mode, cause="", *, answered=False, second="", rang=True, talked=None, queue_gave_up=False):
    p = Progress(mode, "u", "j", ended=100.0, cause=cause, second_cause=second, client_rang=rang)
    p = replace(p, answered=1.0 if answered else None, queue_gave_up=queue_gave_up)
    return replace(p, bridged=100.0 - talked, second_answered=1.0) if talked is not None else p


A, C, Q = Mode.AGENT_FIRST, Mode.CLIENT_FIRST, Mode.QUEUE


@pytest.mark.parametrize(
    ("progress", "outcome", "closed_as", "retry_in", "counted"),
    [
        (ended(A, talked=30, answered=True), Outcome.CONNECTED, ClosedAs.RECALLED, None, True),
        (ended(A, talked=2, answered=True), Outcome.CONNECTED, None, 1800, True),
        (ended(C, "USER_BUSY"), Outcome.BUSY, None, 300, True),
        (ended(C, "NO_ANSWER"), Outcome.NO_ANSWER, None, 1800, True),
        (ended(C, "UNALLOCATED_NUMBER"), Outcome.UNALLOCATED, ClosedAs.EXHAUSTED, None, True),
        (ended(C, "CALL_REJECTED"), Outcome.CLIENT_REJECTED, None, 300, True),
        (ended(C, "NORMAL_TEMPORARY_FAILURE"), Outcome.FAILED, None, 900, True),
        (ended(C, "INVALID_GATEWAY", rang=False), Outcome.FAILED, None, 900, False),
        (ended(C, "NORMAL_CLEARING", answered=True), Outcome.CLIENT_HUNG_UP, None, 1800, True),
        (ended(C, "X", answered=True, second="NO_ANSWER"), Outcome.AGENT_NO_ANSWER, None, 300, True),
        (ended(C, "X", answered=True, second="CALL_REJECTED"), Outcome.AGENT_DECLINED, None, 300, True),
        (ended(A, "NO_ANSWER", rang=False), Outcome.AGENT_NO_ANSWER, None, 0, False),
        (ended(A, "USER_BUSY", rang=False), Outcome.AGENT_NO_ANSWER, None, 0, False),
        (ended(A, "CALL_REJECTED", rang=False), Outcome.AGENT_DECLINED, None, 0, False),
        (ended(A, "X", answered=True, second="USER_BUSY"), Outcome.BUSY, None, 300, True),
        (ended(A, "X", answered=True, second="ORIGINATOR_CANCEL"), Outcome.AGENT_DECLINED, None, 300, True),
        (ended(A, "INVALID_GATEWAY", answered=True, rang=False), Outcome.FAILED, None, 900, False),
        (ended(Q, "NORMAL_CLEARING", answered=True), Outcome.CLIENT_HUNG_UP, None, 1800, True),
        (ended(Q, "X", answered=True, queue_gave_up=True), Outcome.AGENT_NO_ANSWER, None, 300, True),
    ],
)
def test_an_ended_attempt_closes_the_recall_or_says_when_it_is_due_again(
    progress, outcome, closed_as, retry_in, counted
):
    result = settle(progress, 0, 0, RetryRules())
    assert (result.outcome, result.closed_as, result.retry_in, result.counted) == (
        outcome,
        closed_as,
        retry_in,
        counted,
    )


def test_delays_grow_with_each_attempt_that_counted_a_day_at_most():
    rules = RetryRules(attempts=99, growth=2.0)
    delays = [settle(ended(C, "USER_BUSY"), n, 0, rules).retry_in for n in (0, 1, 2, 8, 90)]
    assert delays == [300, 600, 1200, 76800, 86400]


@given(st.floats(0, 1), st.sampled_from(["USER_BUSY", "NO_ANSWER"]))
def test_chance_spreads_the_retries_by_a_part_of_the_delay(chance, cause):
    rules = RetryRules(jitter=0.2)
    exact = settle(ended(C, cause), 0, 0, replace(rules, jitter=0.0), chance).retry_in
    spread = settle(ended(C, cause), 0, 0, rules, chance).retry_in
    assert exact * 0.8 <= spread <= exact * 1.2
    assert settle(ended(C, cause), 0, 0, rules, 0.0).retry_in == pytest.approx(exact * 0.8)
    assert settle(ended(C, cause), 0, 0, rules, 1.0).retry_in == pytest.approx(exact * 1.2)


def test_another_agent_is_tried_at_once_without_jitter_or_growth():
    rules = RetryRules(growth=10.0, jitter=1.0, agent_pause=5.0)
    assert settle(ended(A, "NO_ANSWER", rang=False), 2, 3, rules, 1.0).retry_in == 5.0


@pytest.mark.parametrize(("talked", "closed"), [(-3599.7, True), (-0.3, False), (9.9, False), (10.0, True)])
def test_a_talk_that_ended_before_it_began_is_taken_for_long_enough(talked, closed):
    """Its ends were told by clocks that disagree: to call whoever was reached again is the worse mistake."""
    settlement = settle(ended(A, answered=True, talked=talked), 0, 0, RetryRules(min_talk=10.0))
    assert (settlement.closed_as is ClosedAs.RECALLED) is closed


def test_the_last_attempt_that_counts_exhausts_the_recall():
    rules = RetryRules(attempts=3)
    assert settle(ended(C, "USER_BUSY"), 1, 0, rules).closed_as is None
    assert settle(ended(C, "USER_BUSY"), 2, 0, rules).closed_as is ClosedAs.EXHAUSTED


def test_agents_who_are_not_there_cost_the_client_nothing_but_do_not_go_on_for_ever():
    rules = RetryRules(attempts=1, agent_failures=3)
    away = ended(A, "NO_ANSWER", rang=False)
    assert settle(away, 0, 1, rules).closed_as is None
    assert settle(away, 0, 2, rules).closed_as is ClosedAs.EXHAUSTED


@pytest.mark.parametrize(
    ("cause", "rest"),
    [("USER_BUSY", 90), ("CALL_REJECTED", 45), ("NO_ANSWER", 30), ("SUBSCRIBER_ABSENT", 30)],
)
def test_an_agent_who_was_not_there_rests_for_their_own_delay_and_at_least_half_a_minute(cause, rest):
    delays = {"busy_delay_time": 90, "reject_delay_time": 45, "no_answer_delay_time": 0}
    assert agent_rest(cause, delays) == rest


def test_in_queue_mode_mod_callcenter_sees_to_the_agents_rest():
    away = settle(ended(Q, "X", answered=True, queue_gave_up=True), 0, 0, RetryRules())
    assert away.agent_failed
    assert not agent_was_away(away, Q)
    assert agent_was_away(settle(ended(A, "NO_ANSWER", rang=False), 0, 0, RetryRules()), A)


def test_a_settlement_that_says_both_or_nothing_is_refused():
    with pytest.raises(ValueError, match="either closes"):
        Settlement(Outcome.BUSY)
    with pytest.raises(ValueError, match="either closes"):
        Settlement(Outcome.BUSY, closed_as=ClosedAs.RECALLED, retry_in=1)
    with pytest.raises(ValueError, match="parked"):
        Settlement(Outcome.UNKNOWN, retry_in=1)
    with pytest.raises(ValueError, match="goes on"):
        settle(Progress(A, "u", "j"), 0, 0, RetryRules())
