"""Each recording is a story with an ending that was written out by hand from what happened in it.

The recordings run with `direct` matching context `default`, destination `^[a-z]+700\\d$`.
"""

from __future__ import annotations

import itertools
import random
import re
from datetime import UTC, datetime

import pytest

from freeswitch_callback.core.capture import Capture, CaptureRules, Direct
from freeswitch_callback.core.cdr import from_cdr
from freeswitch_callback.core.facts import Missed, Reached, Reason, Served
from freeswitch_callback.errors import ProtocolError
from tests import recordings

RULES = CaptureRules(
    direct=(Direct("default", re.compile(r"^[a-z]+700\d$"), "support@default"),), variables=("language",)
)

SUPPORT, SALES = "support@default", "sales@default"


def row(number, calledid, timewait, reason, operator, cause="NORMAL_CLEARING", queue=SUPPORT):
    return {
        "phone": number,
        "calledid": calledid,
        "timewait": timewait,
        "reason": Reason(reason),
        "operator": operator,
        "hangup_cause": cause,
        "queue": queue,
    }


EXPECTED = {
    "abandoned": [row("+12025550100", "3000", 3, "abandoned", None)],
    "abandoned_before_answer": [row("+12025550117", "3300", 6, "abandoned", None)],
    "abandoned_then_resumed": [
        row("+12025550106", "3100", 2, "abandoned", None, queue=SALES),
        row("+12025550106", "3100", 2, "abandoned", None, queue=SALES),
    ],
    "abandoned_while_ringing": [row("+12025550101", "3100", 3, "abandoned", "1003@default", queue=SALES)],
    "agent_states": [],
    "answered": [],
    "did_transferred_abandoned": [row("+12025550121", "+12025551000", 3, "abandoned", None)],
    "direct_answered": [],
    "direct_busy": [row("+12025550107", "busy7001", 0, "busy", "busy7001", "USER_BUSY")],
    "direct_early_media": [row("+12025550123", "early7008", 3, "no_answer", "early7008")],
    "direct_no_answer": [row("+12025550108", "mute7002", 5, "no_answer", "mute7002")],
    "disconnect": [],
    "duplicate_origination_uuid": [],
    "errors": [],
    "exit_with_key": [row("+12025550104", "3100", 2, "exit_key", None, queue=SALES)],
    "hook_missed": [row("+12025550119", "3400", 3, "no_answer", "7005", "NO_ANSWER", queue=None)],
    "hook_request": [row("+12025550120", "3500", 2, "requested", None)],
    "intercepted_from_the_queue": [],
    "members_abandoned": [row("+12025550111", "3000", 2, "abandoned", None)],
    "odd_caller_id": [
        row("anonymous", "3000", 2, "abandoned", None),
        row("+12025550113", "3000", 2, "abandoned", None),
        row("+1900\nEvent-Name", "3000", 2, "abandoned", None),
    ],
    "originate_answered": [],
    "originate_busy": [],
    "originate_missing": [],
    "originate_no_answer": [],
    "originate_no_gateway": [],
    "overflow_answered": [],
    "queue_timeout": [row("+12025550103", "3100", 12, "timeout", "1003@default", queue=SALES)],
    "queue_timeout_no_agent": [row("+12025550102", "3100", 9, "abandoned", None, queue=SALES)],
    "recall_agent_declines": [],
    "recall_agent_first_client_busy": [],
    "recall_agent_first_client_hangs_up": [],
    "recall_early_media": [],
    "recall_through_the_queue": [],
    "recall_through_the_queue_abandoned": [],
    "reserved_agent_is_skipped_by_queue": [row("+12025550112", "3000", 4, "abandoned", None)],
    "reserved_recall_agent_first": [],
    "reserved_recall_client_first": [],
    "shutdown": [],
}


def ledger_of(events, capture=None):
    """What would stand in the ledger: the last word on each call, those that were served taken out."""
    capture = capture or Capture("fs1", RULES)
    rows: dict[str, Missed] = {}
    for event in events:
        for fact in capture.feed(event):
            assert fact.node == "fs1"
            if isinstance(fact, Served):
                rows.pop(fact.call_uuid, None)
            elif isinstance(fact, Reached):
                continue
            elif fact.settled or fact.call_uuid not in rows:
                rows[fact.call_uuid] = fact
    return list(rows.values())


def told(fact: Missed):
    return {name: getattr(fact, name) for name in row("", "", 0, "busy", None)}


def test_every_recording_has_its_story():
    assert set(EXPECTED) == set(recordings.NAMES)


@pytest.mark.parametrize("name", recordings.NAMES)
def test_a_recording_gives_the_rows_that_its_story_tells(name):
    rows = ledger_of(recordings.events(name))
    assert [told(fact) for fact in rows] == EXPECTED[name]
    assert all(fact.settled for fact in rows)


@pytest.mark.parametrize("name", [name for name, rows in EXPECTED.items() if rows])
def test_a_missed_call_is_told_at_its_hangup(name):
    capture = Capture("fs1", RULES)
    untold = {fact.call_uuid for fact in ledger_of(recordings.events(name))}
    for event in recordings.events(name):
        told_now = {fact.call_uuid for fact in capture.feed(event)}
        untold -= told_now
        if event.name == "CHANNEL_HANGUP":
            assert event.get("Unique-ID") not in untold
    assert not untold


@pytest.mark.parametrize("name", [name for name, rows in EXPECTED.items() if rows])
def test_the_same_call_seen_twice_is_told_once(name):
    events = recordings.events(name)
    twice = list(itertools.chain.from_iterable((event, event) for event in events))
    assert [told(fact) for fact in ledger_of(twice)] == EXPECTED[name]
    again = Capture("fs1", RULES)
    assert [told(fact) for fact in ledger_of(events + events, again)] == EXPECTED[name]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", recordings.NAMES)
def test_the_order_between_legs_does_not_matter(name, seed):
    """Only the order within a leg is FreeSWITCH's promise; the legs are shuffled into each other."""
    chance = random.Random(f"{name}{seed}")
    legs: dict[str, list] = {}
    for event in recordings.events(name):
        legs.setdefault(event.get("Unique-ID") or event.get("CC-Member-Session-UUID") or "", []).append(event)
    shuffled = []
    while legs:
        key = chance.choice(list(legs))
        shuffled.append(legs[key].pop(0))
        if not legs[key]:
            del legs[key]
    rows = sorted(ledger_of(shuffled), key=lambda fact: fact.calldate)
    assert [told(fact) for fact in rows] == EXPECTED[name]


@pytest.mark.parametrize("name", recordings.NAMES)
def test_who_starts_to_listen_in_the_middle_sees_no_miss_that_was_none(name):
    """From any event on: never a row for a call that was served, and none that the whole story has not."""
    events = recordings.events(name)
    whole = {r["phone"] for r in EXPECTED[name]}
    for start in range(len(events)):
        for fact in ledger_of(events[start:]):
            assert fact.phone in whole, f"from event {start}: {fact}"


@pytest.mark.parametrize("name", [name for name, rows in EXPECTED.items() if rows])
def test_who_starts_to_listen_at_the_hangup_still_gets_the_row(name):
    hangups = {
        event.get("Unique-ID"): index
        for index, event in enumerate(recordings.events(name))
        if event.name == "CHANNEL_HANGUP"
    }
    for fact in ledger_of(recordings.events(name)):
        if fact.call_uuid in hangups and fact.reason is not Reason.REQUESTED and fact.queue:
            late = ledger_of(recordings.events(name)[hangups[fact.call_uuid] :])
            same = next(f for f in late if f.call_uuid == fact.call_uuid)
            assert (same.phone, same.timewait, same.reason) == (fact.phone, fact.timewait, fact.reason)


CDR_STORIES = [name for name in recordings.CDRS if not name.startswith("recall_")]


@pytest.mark.parametrize("name", CDR_STORIES)
def test_a_cdr_gives_the_same_row_as_the_events(name):
    fact = from_cdr(recordings.cdr(name), "fs1", RULES)
    expected = ledger_of(recordings.events(name))
    if not expected:
        assert isinstance(fact, Served)
        return
    assert isinstance(fact, Missed)
    [row_] = expected
    without_operator = {k: v for k, v in told(row_).items() if k != "operator"}
    assert {k: v for k, v in told(fact).items() if k != "operator"} == without_operator
    assert (fact.call_uuid, fact.calldate, fact.member_uuid) == (
        row_.call_uuid,
        row_.calldate,
        row_.member_uuid,
    )


@pytest.mark.parametrize("name", [name for name in recordings.CDRS if name.startswith("recall_")])
def test_the_cdr_of_our_own_recall_is_no_miss(name):
    assert from_cdr(recordings.cdr(name), "fs1", RULES) is None


def test_a_call_bears_the_moment_it_came_in():
    [fact] = ledger_of(recordings.events("abandoned"))
    assert fact.calldate == datetime(2026, 11, 22, 20, 18, 0, 26707, UTC)
    assert fact.member_uuid == "9d8e6d88-2abd-409e-89f7-6329732bf858"
    assert fact.caller_name == "Lab Caller"


def test_queues_that_are_not_ours_are_left_alone():
    only_sales = Capture("fs1", CaptureRules(queues=("sales@*",)))
    assert ledger_of(recordings.events("abandoned"), only_sales) == []


@pytest.mark.parametrize("damage", ["variables", "callflow", None])
def test_what_is_no_cdr_is_said_so(damage):
    cdr = recordings.cdr("abandoned") if damage else {}
    cdr.pop(damage, None)
    with pytest.raises(ProtocolError, match="not a record of mod_json_cdr"):
        from_cdr(cdr, "fs1", RULES)
