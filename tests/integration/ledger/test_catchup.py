"""What a catch-up asks the record, and one call that is told under two names."""

from __future__ import annotations

from datetime import timedelta

import gevent
import pytest

from freeswitch_callback.core.facts import ClosedAs, Mode
from freeswitch_callback.ledger import Filter, Ledger
from tests.integration.ledger.given import ANNA, BORIS, NOON, missed, opening, waiting

HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
MEMBER = "4568aa60-8418-4e23-92a7-9f2dcf8fc739"
CAUGHT_UP = f"member:{MEMBER}:1772452830"


def told(ledger: Ledger, **said: object) -> int:
    return ledger.record(missed(**({"member_uuid": MEMBER} | said)), opening()).missed_id


def rows(ledger: Ledger) -> list[str]:
    return sorted(row["call_uuid"] for row in ledger.listing(Filter()))


def test_the_calls_of_the_members_and_of_the_numbers_are_found_in_sets_of_any_size(timed):
    told(timed)
    told(timed, member_uuid="m2", phone="anonymous")
    told(timed, member_uuid="m3")
    told(timed, node="fs2")
    timed.record(missed(member_uuid="m4"), opening(BORIS))
    many = [f"uuid-{n}" for n in range(1200)]
    found = timed.on_record("fs1", [*many, "m2"], [*many, ANNA], NOON - HOUR)
    assert sorted(call.member_uuid for call in found.calls) == sorted([MEMBER, "m2", "m3"])
    assert timed.on_record("fs1", [MEMBER], [ANNA], NOON + HOUR).calls == ()


def test_whom_somebody_talked_to_since_is_found(timed, clock):
    told(timed)
    clock.forward(minutes=5)
    timed.close_served(ANNA, "default", ClosedAs.SERVED_INBOUND, "1001")
    assert timed.on_record("fs1", [], [ANNA], NOON).talked == {ANNA: clock.now}
    assert timed.on_record("fs1", [], [ANNA], NOON + HOUR).talked == {}
    assert timed.on_record("fs1", [], [BORIS], NOON).talked == {}


@pytest.mark.parametrize("mode", Mode)
def test_only_recalls_through_a_queue_wait_in_one(timed, mode):
    recall = waiting(timed).recall_id
    timed.claim(
        recall, engine="e", lease=60.0, node="fs1", agent=None, mode=mode, call_uuid="u", job_uuid="j"
    )
    own = timed.on_record("fs1", [], [], NOON).own
    assert [(call.number, call.ended) for call in own] == ([(ANNA, None)] if mode is Mode.QUEUE else [])
    assert timed.on_record("fs2", [], [], NOON).own == []


def test_how_far_a_node_was_heard_only_moves_on_unless_its_clock_was_set_back(ledger):
    def heard(at):
        ledger.note_heard("fs1", at)
        return ledger.on_record("fs1", [], [], NOON).heard_until

    assert ledger.on_record("fs1", [], [], NOON).heard_until is None
    assert heard(NOON) == NOON
    assert heard(NOON + 10 * SECOND) == NOON + 10 * SECOND
    assert heard(NOON + 5 * SECOND) == NOON + 10 * SECOND, "another engine was further"
    assert heard(NOON - HOUR) == NOON - HOUR
    assert ledger.on_record("fs2", [], [], NOON).heard_until is None


def test_a_call_that_was_caught_up_and_is_told_by_itself_is_one_row_under_its_own_name(ledger):
    found = told(ledger, call_uuid=CAUGHT_UP)
    assert told(ledger, call_uuid="call-1", calledid="3000") == found
    [row] = list(ledger.listing(Filter()))
    assert (row["call_uuid"], row["calledid"], row["state"]) == ("call-1", "3000", "waiting")
    assert told(ledger, call_uuid=CAUGHT_UP) == found, "read once more"
    assert rows(ledger) == ["call-1"]


def test_a_call_on_record_is_not_told_again_by_its_member(ledger):
    known = told(ledger, call_uuid="call-1", settled=False, timewait=30)
    assert told(ledger, call_uuid=CAUGHT_UP, timewait=5) == known
    assert next(iter(ledger.listing(Filter())))["timewait"] == 30


def test_the_second_call_of_a_member_who_came_back_is_a_row_of_its_own(timed, clock):
    clock.forward(seconds=31)
    told(timed, call_uuid="call-1")
    clock.forward(seconds=30)
    told(timed, call_uuid=CAUGHT_UP, calldate=NOON + 40 * SECOND, timewait=10)
    assert rows(timed) == ["call-1", CAUGHT_UP]
    told(timed, call_uuid="call-2", calldate=NOON + 39 * SECOND, timewait=10)
    assert rows(timed) == ["call-1", "call-2"]


def test_other_members_and_nodes_are_other_calls(ledger):
    told(ledger, call_uuid=CAUGHT_UP)
    told(ledger, call_uuid="call-2", member_uuid="m2")
    told(ledger, call_uuid="call-3", node="fs2")
    told(ledger, call_uuid="call-4", member_uuid=None)
    assert len(rows(ledger)) == 4


def test_two_engines_that_tell_it_at_once_under_both_names_write_one_row(ledger, other_ledger):
    for n in range(20):
        call = {"member_uuid": f"m{n}"}
        work = [
            gevent.spawn(told, ledger, call_uuid=f"call-{n}", **call),
            gevent.spawn(told, other_ledger, call_uuid=f"member:m{n}:1", **call),
        ]
        gevent.joinall(work, raise_error=True)
    assert rows(ledger) == sorted(f"call-{n}" for n in range(20))
