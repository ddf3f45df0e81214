"""The recorder: what capture tells is on disk, and what it takes back is not any more."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime

import pytest
from gevent.event import Event as Flag

from freeswitch_callback.core.capture import CaptureRules
from freeswitch_callback.core.facts import Missed, Reached, Reason
from freeswitch_callback.core.gates import GateRules
from freeswitch_callback.core.numbers import NumberRules
from freeswitch_callback.engine.recorder import Recorder
from freeswitch_callback.errors import DatabaseUnreachable
from freeswitch_callback.ledger import Filter, Ledger
from tests import recordings


@pytest.fixture
def ledger(ledger_url):
    with closing(Ledger(ledger_url)) as ledger:
        yield ledger


def recorder(ledger, woken=lambda: None, remember_agent=False, **numbers):
    gates = GateRules(min_wait=0.0, numbers=NumberRules(**numbers))
    return Recorder(
        "fs1",
        ledger,
        CaptureRules(),
        lambda queue: gates,
        woken,
        Flag(),
        min_talk=lambda queue: 10.0,
        remember_agent=lambda queue: remember_agent,
    )


def rows(ledger):
    return list(ledger.listing(Filter()))


def test_a_missed_call_is_on_disk_at_its_hangup_and_its_recall_is_due_when_all_is_told(ledger):
    woken = []
    recorded = recorder(ledger, lambda: woken.append(ledger.due(None, 10)))
    for event in recordings.events("abandoned"):
        recorded.feed(event)
        if event.name == "CHANNEL_HANGUP" and event.get("Call-Direction") == "inbound":
            [row] = rows(ledger)
            assert (row["reason"], ledger.due(None, 10)) == ("abandoned", [])
    assert [len(due) for due in woken] == [1]


def test_what_was_told_as_missed_is_taken_back_with_its_recall(ledger):
    events = recordings.events("intercepted_from_the_queue")
    recorded = recorder(ledger)
    for event in [e for e in events if e.name != "CHANNEL_BRIDGE"]:
        recorded.feed(event)
    assert len(rows(ledger)) == 1
    for event in [e for e in events if e.name == "CHANNEL_BRIDGE"]:
        recorded.feed(event)
    assert rows(ledger) == []
    assert ledger.due(None, 10) == []


def test_two_engines_that_hear_the_same_call_write_one_row(ledger, ledger_url):
    with closing(Ledger(ledger_url)) as other:
        one, two = recorder(ledger), recorder(other)
        for event in recordings.events("abandoned_while_ringing"):
            one.feed(event)
            two.feed(event)
        late = recorder(other)  # and one that was started in the middle
        for event in recordings.events("abandoned_while_ringing")[-8:]:
            late.feed(event)
    [row] = rows(ledger)
    assert (row["operator"], row["timewait"]) == ("1003@default", 3)


def test_with_the_database_away_it_waits_and_loses_nothing(ledger, monkeypatch):
    tries = []
    take_all = Ledger.take_all

    def away(self, *args):
        tries.append(args)
        if len(tries) < 3:
            raise DatabaseUnreachable("the database is away")
        return take_all(self, *args)

    monkeypatch.setattr(Ledger, "take_all", away)
    recorded = recorder(ledger)
    for event in recordings.events("abandoned"):
        recorded.feed(event)
    assert len(rows(ledger)) == 1
    assert len(tries) > 3


def missed(phone, **values):
    given = {"call_uuid": "c", "calldate": datetime.now(UTC), "timewait": 30, "queue": "support@default"}
    return Missed(node="fs1", phone=phone, reason=Reason.ABANDONED, **(given | values))


def reached(phone, talked, domain="default"):
    return Reached("fs1", "c2", phone, "1001@default", domain, datetime.now(UTC), talked)


def test_who_was_reached_for_less_than_min_talk_was_not_reached(ledger):
    recorded = recorder(ledger)
    recorded.take(missed("+12025550100"))
    recorded.take(reached("12025550100", 9.9))
    assert [row["state"] for row in rows(ledger)] == ["waiting"]
    recorded.take(reached("12025550100", 10.0))  # as the gateway wants it, and as long as it takes
    assert [row["closed_as"] for row in rows(ledger)] == ["served_outbound"]


@pytest.mark.parametrize("phone", ["1002", "agent1001", "anonymous", "+12025550101"])
def test_a_call_to_anybody_else_closes_nothing(ledger, phone):
    recorded = recorder(ledger)
    recorded.take(missed("+12025550100"))
    recorded.take(reached(phone, 60))
    assert [row["state"] for row in rows(ledger)] == ["waiting"]


def test_of_a_companys_number_the_call_is_taken_back_and_nothing_closed(ledger):
    recorded = recorder(ledger, remember_agent=True, shared=frozenset({"+12025550124"}))
    recorded.take(missed("+12025550124"))
    for event in recordings.events("intercepted_from_the_queue"):
        recorded.feed(event)
    recorded.take(reached("+12025550124", 60))
    [row] = rows(ledger)
    assert (row["call_uuid"], row["state"]) == ("c", "waiting")


@pytest.mark.parametrize("remembered", [True, False])
def test_whom_a_client_talked_to_is_kept_where_the_rules_ask_for_it(ledger, remembered):
    recorded = recorder(ledger, remember_agent=remembered)
    for event in recordings.events("answered"):
        recorded.feed(event)
    recorded.take(missed("+12025550105"))
    [due] = ledger.due(None, 10)
    assert due.last_agent == ("1001@default" if remembered else None)
