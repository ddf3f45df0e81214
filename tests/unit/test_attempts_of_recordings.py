"""The recordings of recalls, and what became of each attempt in them."""

from __future__ import annotations

import re
from functools import reduce

import pytest

from freeswitch_callback.core.attempt import Progress, advance, calls_in, outcome
from freeswitch_callback.core.facts import ClosedAs, Mode, Outcome
from freeswitch_callback.core.schedule import RetryRules, settle
from freeswitch_callback.esl.frames import Event
from tests import recordings

AGENT, CLIENT, QUEUE = Mode.AGENT_FIRST, Mode.CLIENT_FIRST, Mode.QUEUE

STORIES = {
    # recording: mode, outcome, FreeSWITCH's word, client's phone rang, whole seconds of talk, operator
    "originate_answered": (CLIENT, Outcome.CLIENT_HUNG_UP, "NORMAL_CLEARING", True, 0, None),
    "originate_busy": (CLIENT, Outcome.BUSY, "USER_BUSY", True, 0, None),
    "originate_missing": (CLIENT, Outcome.UNALLOCATED, "UNALLOCATED_NUMBER", True, 0, None),
    "originate_no_answer": (CLIENT, Outcome.NO_ANSWER, "NO_ANSWER", True, 0, None),
    "originate_no_gateway": (CLIENT, Outcome.FAILED, "INVALID_GATEWAY", False, 0, None),
    "recall_agent_declines": (AGENT, Outcome.AGENT_DECLINED, "CALL_REJECTED", False, 0, None),
    "recall_agent_first_client_busy": (AGENT, Outcome.BUSY, "USER_BUSY", True, 0, None),
    "recall_agent_first_client_hangs_up": (AGENT, Outcome.CONNECTED, "NORMAL_CLEARING", True, 5, None),
    "recall_early_media": (AGENT, Outcome.NO_ANSWER, "NO_ANSWER", True, 0, None),
    "recall_through_the_queue": (QUEUE, Outcome.CONNECTED, "NORMAL_CLEARING", True, 4, "1001@default"),
    "recall_through_the_queue_abandoned": (QUEUE, Outcome.CLIENT_HUNG_UP, "NORMAL_CLEARING", True, 0, None),
    "reserved_recall_agent_first": (AGENT, Outcome.CONNECTED, "NORMAL_CLEARING", True, 5, None),
    "reserved_recall_client_first": (CLIENT, Outcome.CONNECTED, "NORMAL_CLEARING", True, 4, None),
    "duplicate_origination_uuid": (CLIENT, Outcome.CLIENT_HUNG_UP, "NORMAL_CLEARING", True, 0, None),
}


def attempt_of(name, mode):
    """The first originate in the recording, as the engine would have noted it before sending it."""
    events = recordings.events(name)
    command = next(text for text in recordings.sent(name) if text.startswith("bgapi originate"))
    job = next(e.get("Job-UUID") for e in events if e.name == "BACKGROUND_JOB")
    call = re.search(r"origination_uuid=([^,}]+)", command)
    return Progress(mode, call[1] if call else "none", job), events


@pytest.mark.parametrize("name", STORIES)
def test_a_recall_ends_as_its_story_tells(name):
    mode, expected, cause, client_rang, talked, operator = STORIES[name]
    progress, events = attempt_of(name, mode)
    end = reduce(advance, events, progress)
    assert outcome(end) == (expected, cause)
    assert end.client_rang is client_rang
    assert round(end.talked) == talked
    assert end.operator == operator


@pytest.mark.parametrize("name", STORIES)
def test_events_seen_twice_change_nothing(name):
    mode, *_ = STORIES[name]
    progress, events = attempt_of(name, mode)
    twice = [event for event in events for _ in range(2)]
    assert outcome(reduce(advance, twice, progress)) == outcome(reduce(advance, events, progress))


@pytest.mark.parametrize("name", STORIES)
def test_what_is_told_of_other_calls_changes_nothing(name):
    mode, *_ = STORIES[name]
    progress, events = attempt_of(name, mode)
    ours = [e for e in events if e.name == "BACKGROUND_JOB" or progress.call_uuid in calls_in(e)]
    assert len(ours) < len(events)
    assert reduce(advance, ours, progress) == reduce(advance, events, progress)


def test_a_client_who_refuses_at_once_was_rung_though_the_hangup_is_told_before_the_leg():
    """Order is kept within a leg only most of the time: seen on a running FreeSWITCH with busy clients."""
    name = "recall_agent_first_client_busy"
    progress, events = attempt_of(name, AGENT)
    hangup = next(e for e in events if e.name == "CHANNEL_HANGUP" and e.get("Hangup-Cause") == "USER_BUSY")
    of_leg = [e for e in events if e.get("Unique-ID") == hangup.get("Unique-ID") and e is not hangup]
    others = [e for e in events if e not in of_leg and e is not hangup]
    end_at = next(
        i for i, e in enumerate(others) if e.get("Unique-ID") == progress.call_uuid and "HANGUP" in e.name
    )
    for late in ([], of_leg):  # never told of, or told of afterwards
        told = [*others[:end_at], hangup, *late, *others[end_at:]]
        end = reduce(advance, told, progress)
        assert (outcome(end), end.client_rang) == ((Outcome.BUSY, "USER_BUSY"), True)


@pytest.mark.parametrize("told_by", ["last_bridge_hangup_cause", "the agent's own hangup"])
def test_a_client_who_refuses_was_rung_though_nothing_was_told_of_their_leg_before_the_agents_end(told_by):
    """Seen twice in 181 attempts on a running FreeSWITCH: all legs hang up in the same moment."""
    refused = {"v_last_bridge_hangup_cause": "USER_BUSY"} if told_by == "last_bridge_hangup_cause" else {}
    told = [
        event("CHANNEL_CREATE", 1),
        event("CHANNEL_ANSWER", 2),
        event("CHANNEL_HANGUP", 3, Hangup_Cause="USER_BUSY", **refused),
    ]
    end = reduce(advance, told, Progress(AGENT, "first", "job"))
    assert (outcome(end), end.client_rang) == ((Outcome.BUSY, "USER_BUSY"), True)


@pytest.mark.parametrize("mode", [CLIENT, QUEUE])
@pytest.mark.parametrize("first", ["CHANNEL_HANGUP", "BACKGROUND_JOB"])
def test_a_client_who_is_called_first_and_refuses_at_once_was_rung_whatever_is_told_first(mode, first):
    """Seen with 3 of 13 busy clients on a running FreeSWITCH: the leg's CREATE was told last."""
    name = "originate_busy"
    progress, events = attempt_of(name, mode)
    own = (progress.call_uuid, progress.job_uuid)
    at = next(
        i
        for i, e in enumerate(events)
        if e.name == first and (e.get("Unique-ID") in own or e.get("Job-UUID") in own)
    )
    told = [events[at], *events[:at], *events[at + 1 :]]
    end = reduce(advance, told, progress)
    assert (outcome(end), end.client_rang) == ((Outcome.BUSY, "USER_BUSY"), True)
    assert settle(end, 0, 0, RetryRules(attempts=1)).closed_as is ClosedAs.EXHAUSTED


def test_an_agent_who_hangs_up_meanwhile_has_not_rung_the_client():
    told = [event("CHANNEL_ANSWER", 2), event("CHANNEL_HANGUP", 3, Hangup_Cause="NORMAL_CLEARING")]
    end = reduce(advance, told, Progress(AGENT, "first", "job"))
    assert (outcome(end), end.client_rang) == ((Outcome.AGENT_DECLINED, "NORMAL_CLEARING"), False)


@pytest.mark.parametrize("name", [n for n in STORIES if n.startswith("reserved_recall")])
def test_a_long_enough_talk_closes_the_recall_and_a_short_one_is_tried_again(name):
    progress, events = attempt_of(name, STORIES[name][0])
    end = reduce(advance, events, progress)
    assert settle(end, 0, 0, RetryRules(min_talk=3)).closed_as is ClosedAs.RECALLED
    again = settle(end, 0, 0, RetryRules(min_talk=10))
    assert (again.closed_as, again.retry_in, again.counted) == (None, 1800.0, True)
    assert settle(end, 2, 0, RetryRules(min_talk=10)).closed_as is ClosedAs.EXHAUSTED


# --- stories that nobody has recorded -----------------------------------------------------------------------


def event(name, at, uuid="first", **headers):
    lines = [f"Event-Name: {name}", f"Event-Date-Timestamp: {int(at * 1e6)}", f"Unique-ID: {uuid}"]
    lines += [
        f"{key.replace('_', '-')}: {value}" for key, value in headers.items() if not key.startswith("v_")
    ]
    lines += [f"variable_{key[2:]}: {value}" for key, value in headers.items() if key.startswith("v_")]
    return Event(("\n".join(lines) + "\n\n").encode())


def both_answer(at=10):
    second = {"Call_Direction": "outbound", "Other_Leg_Unique_ID": "first"}
    return [
        event("CHANNEL_CREATE", 1),
        event("CHANNEL_ANSWER", 2),
        event("CHANNEL_CREATE", 3, "second", **second),
        event("CHANNEL_ANSWER", at, "second", **second),
        event("CHANNEL_BRIDGE", at, Bridge_A_Unique_ID="first", Bridge_B_Unique_ID="second"),
    ]


def after(mode, *events):
    return reduce(advance, events, Progress(mode, "first", "job"))


def test_who_is_passed_on_to_a_colleague_has_talked_since_the_first_word():
    colleague = event("CHANNEL_BRIDGE", 310, Bridge_A_Unique_ID="first", Bridge_B_Unique_ID="colleague")
    end = after(
        CLIENT, *both_answer(), colleague, event("CHANNEL_HANGUP", 314, Hangup_Cause="NORMAL_CLEARING")
    )
    assert end.talked == 304


def test_a_client_whom_the_agent_transfers_is_no_call_of_ours_any_more():
    """The client's leg lives on; the agent is free."""
    end = after(CLIENT, *both_answer(), event("CHANNEL_HANGUP", 60, "second", Hangup_Cause="BLIND_TRANSFER"))
    assert outcome(end) == (Outcome.CONNECTED, "BLIND_TRANSFER")
    assert end.talked == 50


@pytest.mark.parametrize("legs", [("first", "picker"), ("picker", "first")])
def test_a_client_whom_somebody_else_picks_up_was_reached(legs):
    ringing = both_answer()[:3]
    picked = event("CHANNEL_BRIDGE", 8, legs[0], Bridge_A_Unique_ID=legs[0], Bridge_B_Unique_ID=legs[1])
    cancelled = event("CHANNEL_HANGUP", 8, "second", Hangup_Cause="PICKED_OFF")
    end = after(
        CLIENT, *ringing, picked, cancelled, event("CHANNEL_HANGUP", 40, Hangup_Cause="NORMAL_CLEARING")
    )
    assert outcome(end) == (Outcome.CONNECTED, "NORMAL_CLEARING")
    assert end.talked == 32


def test_a_bridge_is_no_answer():
    silent = [e for e in both_answer() if not (e.name == "CHANNEL_ANSWER" and e.get("Unique-ID") == "second")]
    refused = {"Hangup_Cause": "NORMAL_CLEARING", "v_last_bridge_hangup_cause": "NO_ANSWER"}
    end = after(AGENT, *silent, event("CHANNEL_HANGUP", 40, **refused))
    assert outcome(end) == (Outcome.NO_ANSWER, "NO_ANSWER")
