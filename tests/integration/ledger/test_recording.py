"""A missed call is one row and belongs to one recall, however it is told."""

from datetime import timedelta

import pytest

from freeswitch_callback.core.facts import ClosedAs, Reason
from freeswitch_callback.ledger import NO_NUMBER, Filter, Ledger
from tests.integration.ledger.given import (
    ANNA,
    BORIS,
    NOON,
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


def rows(ledger):
    return list(ledger.listing(Filter()))


def test_what_is_recorded_comes_back_as_it_was_told(ledger: Ledger):
    call = missed(
        calledid="+12025551000",
        operator="1001@default",
        member_uuid="m-1",
        caller_name="Anna",
        hangup_cause="ORIGINATOR_CANCEL",
        extra={"language": "de", "crm_id": ""},
    )
    recorded = ledger.record(call, opening())
    (row,) = rows(ledger)
    for column in ("phone", "calldate", "calledid", "timewait", "reason", "operator", "node", "call_uuid"):
        assert row[column] == getattr(call, column)
    for column in ("member_uuid", "queue", "caller_name", "hangup_cause", "extra"):
        assert row[column] == getattr(call, column)
    assert (row["number"], row["state"], row["attempts"]) == (ANNA, "waiting", 0)
    assert (recorded.new, recorded.blocked, recorded.missed_id) == (True, None, row["id"])


def test_the_same_call_told_again_is_one_row(ledger: Ledger):
    call = missed()
    first, second = ledger.record(call, opening()), ledger.record(call, opening())
    assert (first.new, second.new) == (True, False)
    assert (first.missed_id, first.recall_id) == (second.missed_id, second.recall_id)
    assert len(rows(ledger)) == 1


def test_the_same_uuid_on_another_node_is_another_call(ledger: Ledger):
    call = missed(call_uuid="same")
    ledger.record(call, opening())
    ledger.record(missed(call_uuid="same", node="fs2"), opening())
    assert len(rows(ledger)) == 2


def test_an_unsettled_fact_never_overwrites(ledger: Ledger):
    first = missed(settled=False, caller_name="Anna")
    ledger.record(first, opening())
    ledger.record(
        missed(call_uuid=first.call_uuid, settled=False, caller_name="other", timewait=99), opening()
    )
    (row,) = rows(ledger)
    assert (row["caller_name"], row["timewait"]) == ("Anna", 30)


def test_a_settled_fact_completes_an_unsettled_one_and_keeps_what_it_does_not_know(ledger: Ledger):
    first = missed(settled=False, caller_name="Anna", operator="1001", extra={"language": "de", "a": "1"})
    ledger.record(first, opening())
    completed = missed(
        call_uuid=first.call_uuid,
        reason=Reason.TIMEOUT,
        timewait=31,
        hangup_cause="NORMAL_CLEARING",
        extra={"language": "", "b": "2"},
    )
    assert not ledger.record(completed, opening()).new
    (row,) = rows(ledger)
    assert (row["reason"], row["timewait"], row["hangup_cause"]) == ("timeout", 31, "NORMAL_CLEARING")
    assert (row["caller_name"], row["operator"]) == ("Anna", "1001")
    assert row["extra"] == {"language": "de", "a": "1", "b": "2"}


def test_a_settled_row_is_not_changed_by_an_unsettled_fact(ledger: Ledger):
    first = missed(reason=Reason.TIMEOUT)
    ledger.record(first, opening())
    ledger.record(missed(call_uuid=first.call_uuid, settled=False, operator="1001"), opening(BORIS))
    (row,) = rows(ledger)
    assert (row["reason"], row["operator"], row["number"]) == ("timeout", None, ANNA)


def test_a_second_settled_fact_only_fills_what_is_empty(ledger: Ledger):
    first = missed(caller_name="Anna", timewait=30, extra={"a": "1"})
    ledger.record(first, opening())
    again = missed(
        call_uuid=first.call_uuid, caller_name="X", timewait=99, operator="1002", extra={"a": "9", "b": "2"}
    )
    ledger.record(again, opening(BORIS))
    (row,) = rows(ledger)
    assert (row["caller_name"], row["timewait"], row["operator"]) == ("Anna", 30, "1002")
    assert (row["extra"], row["number"]) == ({"a": "1", "b": "2"}, ANNA)


def test_a_second_settled_fact_that_knows_the_number_opens_the_recall(ledger: Ledger):
    first = missed(phone="")
    blocked = ledger.record(first, opening(None))
    assert blocked.blocked == NO_NUMBER
    told = ledger.record(missed(call_uuid=first.call_uuid), opening())
    (row,) = rows(ledger)
    assert (told.blocked, row["number"], row["phone"], row["state"]) == (None, ANNA, ANNA, "waiting")
    assert ledger.summary().by_state == {"waiting": 1}


def test_two_calls_of_one_number_share_one_recall(ledger: Ledger):
    first = ledger.record(missed(calldate=NOON, timewait=5), opening())
    second = ledger.record(missed(calldate=NOON + timedelta(minutes=5), timewait=7), opening())
    assert first.recall_id == second.recall_id
    (due,) = ledger.due(None, 10)
    assert (due.missed_id, due.timewait, due.called_at) == (second.missed_id, 7, NOON)


def test_tenants_do_not_meet(ledger: Ledger):
    first = ledger.record(missed(), opening(scope="a"))
    second = ledger.record(missed(), opening(scope="b"))
    assert first.recall_id != second.recall_id


def test_joining_brings_the_recall_forward_and_its_expiry_back(ledger: Ledger):
    ledger.record(missed(), opening(delay=600.0, expire=1000.0, priority=1))
    recorded = ledger.record(missed(), opening(delay=60.0, expire=5000.0))
    recall = ledger.show(recorded.missed_id)["recall"]
    assert seconds_until(recall["due_at"]) == pytest.approx(60, abs=20)
    assert seconds_until(recall["expires_at"]) == pytest.approx(5000, abs=20)
    ledger.record(missed(), opening(delay=600.0, expire=10.0))
    assert ledger.show(recorded.missed_id)["recall"] == recall


def test_joining_a_live_recall_leaves_it_as_it_is(ledger: Ledger):
    taken = dialling(ledger)
    before = ledger.show(1)["recall"]
    assert waiting(ledger).recall_id == taken.recall
    assert ledger.show(1)["recall"] == before


def test_a_closed_recall_is_not_joined(ledger: Ledger):
    first = waiting(ledger)
    ledger.close_served(ANNA, "default", ClosedAs.SERVED_INBOUND, "fs1")
    assert waiting(ledger).recall_id != first.recall_id


def test_a_blocked_call_has_a_closed_recall_that_names_the_gate(ledger: Ledger):
    recorded = ledger.record(missed(), opening("+18765551234", blocked="country"))
    row = rows(ledger)[0]
    assert recorded.blocked == "country"
    assert (row["state"], row["closed_as"], row["note"], row["number"]) == (
        "closed",
        "blocked",
        "country",
        "+18765551234",
    )
    assert ledger.due(None, 10) == []


def test_completing_with_another_number_moves_the_call_to_that_numbers_recall(ledger: Ledger):
    first = missed(settled=False)
    ledger.record(first, opening(ANNA))
    of_boris = waiting(ledger, BORIS)
    told = ledger.record(missed(call_uuid=first.call_uuid), opening(BORIS))
    assert told.recall_id == of_boris.recall_id
    assert [due.number for due in ledger.due(None, 10)] == [BORIS]


def test_completing_with_a_shut_gate_closes_and_without_it_opens(ledger: Ledger):
    first = missed(settled=False)
    ledger.record(first, opening())
    assert ledger.record(missed(call_uuid=first.call_uuid), opening(blocked="min_wait")).blocked == "min_wait"
    assert ledger.summary().by_state == {"closed": 1}

    second = missed(settled=False)
    ledger.record(second, opening(blocked="min_wait"))
    assert ledger.record(missed(call_uuid=second.call_uuid), opening()).blocked is None
    assert ledger.summary().by_state == {"closed": 1, "waiting": 1}


def test_completing_what_is_blocked_by_the_same_gate_changes_no_recall(ledger: Ledger):
    first = missed(settled=False)
    before = ledger.record(first, opening(blocked="own"))
    after = ledger.record(missed(call_uuid=first.call_uuid), opening(blocked="own"))
    assert (after.recall_id, after.blocked) == (before.recall_id, "own")


def test_completing_a_call_whose_recall_was_closed_meanwhile_does_not_open_another(ledger: Ledger):
    first = missed(settled=False)
    before = ledger.record(first, opening())
    ledger.close_served(ANNA, "default", ClosedAs.SERVED_INBOUND, "fs1")
    assert ledger.record(missed(call_uuid=first.call_uuid), opening()).recall_id == before.recall_id
    assert ledger.due(None, 10) == []


def test_a_tried_recall_whose_call_turned_out_anothers_waits_no_longer(ledger: Ledger):
    first = missed(settled=False)
    recorded = ledger.record(first, opening(ANNA))
    taken = claim(ledger, recorded.recall_id)
    assert taken is not None
    ledger.dialling(taken)
    ledger.settle(taken, RETRY, NOON)
    ledger.record(missed(call_uuid=first.call_uuid), opening(BORIS))
    assert [due.number for due in ledger.due(None, 10)] == [BORIS]
    assert ledger.summary().by_closed_as == {"cancelled": 1}


def test_a_call_that_was_served_after_all_leaves_nothing(ledger: Ledger):
    call = missed(settled=False)
    ledger.record(call, opening())
    assert ledger.retract("fs1", call.call_uuid)
    assert rows(ledger) == []
    assert ledger.summary().by_state == {}
    assert not ledger.retract("fs1", call.call_uuid)


def test_retracting_one_of_two_calls_keeps_the_recall(ledger: Ledger):
    call = missed()
    ledger.record(call, opening())
    kept = waiting(ledger)
    assert ledger.retract("fs1", call.call_uuid)
    assert [due.missed_id for due in ledger.due(None, 10)] == [kept.missed_id]


def test_a_blocked_call_can_be_retracted(ledger: Ledger):
    call = missed()
    ledger.record(call, opening(blocked="min_wait"))
    assert ledger.retract("fs1", call.call_uuid)
    assert ledger.summary().by_state == {}


def test_a_call_that_was_tried_stays_when_it_is_retracted(ledger: Ledger):
    claimed(ledger)
    (row,) = rows(ledger)
    assert not ledger.retract(row["node"], row["call_uuid"])
    assert len(rows(ledger)) == 1


def test_a_client_who_was_served_is_not_called(ledger: Ledger):
    recorded = waiting(ledger)
    assert ledger.close_served(ANNA, "other", ClosedAs.SERVED_INBOUND, "fs1") == 0
    assert ledger.close_served(ANNA, "default", ClosedAs.SERVED_INBOUND, "fs1") == 1
    shown = ledger.show(recorded.missed_id)
    assert (shown["recall"]["closed_as"], shown["recall"]["closed_by"]) == ("served_inbound", "fs1")
    assert [entry["what"] for entry in shown["journal"]] == ["opened", "closed"]


def test_being_served_does_not_close_what_is_live_or_unknown(ledger: Ledger):
    dialling(ledger, ANNA)
    parked(ledger, BORIS)
    for number in (ANNA, BORIS):
        assert ledger.close_served(number, "default", ClosedAs.SERVED_INBOUND, "fs1") == 0
