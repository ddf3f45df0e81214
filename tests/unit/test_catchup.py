"""Which rows of a queue's list of members are missed calls that nobody has told."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from freeswitch_callback.core.capture import Capture, CaptureRules
from freeswitch_callback.core.catchup import (
    AtTheSwitch,
    Found,
    Heard,
    Limits,
    OnRecord,
    OwnCall,
    Recorded,
    found,
)
from freeswitch_callback.core.facts import Missed, Reached, Reason, Served
from freeswitch_callback.core.numbers import NumberRules
from freeswitch_callback.esl.callcenter import Member
from freeswitch_callback.esl.rows import row_of
from tests import recordings

NOW = 1_795_378_700
ANNA, BOB = "+12025550200", "+12025550201"
SUPPORT, SALES = "support@default", "sales@default"
UP = AtTheSwitch(up_at=NOW + 0.5)


def at(epoch: float) -> datetime:
    return datetime.fromtimestamp(epoch, UTC)


def row(
    joined=-40, left=-20, *, number=ANNA, uuid="m1", queue=SUPPORT, state="Abandoned", **epochs
) -> Member:
    """A member's row; times are seconds after the connection came up, None: never."""
    given = {name: NOW + value for name, value in epochs.items()}
    return Member(
        queue=queue,
        uuid=uuid,
        cid_number=number,
        cid_name="Anna",
        joined_epoch=NOW + joined,
        abandoned_epoch=0 if left is None else NOW + left,
        state=state,
        **({"system_epoch": NOW + joined} | given),
    )


def judge(*rows: Member, record: OnRecord | None = None, switch: AtTheSwitch = UP, wants=None) -> Found:
    rules = NumberRules()
    return found(
        "fs1", rows, record or OnRecord(), switch, wants or (lambda queue: True), lambda queue: rules
    )


def told(*rows: Member, **beside) -> list[tuple[str, int]]:
    return [(missed.phone, missed.timewait) for missed in judge(*rows, **beside).missed]


def objection(*rows: Member, **beside) -> str:
    """The one rule that left all of it out."""
    result = judge(*rows, **beside)
    assert result.missed == []
    [why] = result.left_out
    return why


def recorded(calldate, recorded_at, *, number=ANNA, uuid: str | None = "m1") -> OnRecord:
    return OnRecord(calls=[Recorded(uuid, number, at(NOW + calldate), at(NOW + recorded_at))])


def heard(number=ANNA, *, last, talked=None) -> AtTheSwitch:
    since = None if talked is None else NOW + talked
    return AtTheSwitch(up_at=UP.up_at, heard=[Heard(number, NOW + last, since)])


# --- recorded rows -----------------------------------------------------------------------------------------


def listed(name: str) -> list[Member]:
    """The rows of `queue list members` in a recording, text or JSON."""
    [body] = [
        frame["data"].partition("\n\n")[2]
        for frame in recordings.frames(name)
        if frame["dir"] == "recv" and "Abandoned" in frame["data"]
    ]
    if body.startswith("{"):
        return [row_of(Member, row) for row in json.loads(body)["response"]]
    columns, *lines = body.removesuffix("\n+OK\n").strip().split("\n")
    return [
        row_of(Member, dict(zip(columns.split("|"), line.split("|"), strict=True)))
        for line in lines
        if line.startswith("support@")
    ]


def test_everybody_in_a_recorded_list_who_gave_up_is_told_with_number_wait_and_name():
    result = judge(*listed("members_abandoned"), switch=AtTheSwitch(up_at=1795378831.0))
    assert [(missed.phone, missed.timewait) for missed in result.missed] == [
        ("+12025550100", 3),
        ("+12025550116", 3),
        ("+12025550117", 6),
        ("+12025550118", 3),
        ("+12025550111", 2),
    ]
    second = result.missed[1]
    assert (second.reason, second.queue, second.caller_name) == (Reason.ABANDONED, SUPPORT, "Lab Caller")
    assert second.calldate == at(1795378774), "when the call was answered, not when it came into the queue"
    assert second.member_uuid == "c2d77000-f507-4b4b-af9f-2245bcea0579"
    assert second.call_uuid == "member:c2d77000-f507-4b4b-af9f-2245bcea0579:1795378780"
    assert second.settled


def test_our_own_recall_in_a_recorded_list_is_none_and_the_others_are():
    rows = listed("recall_through_the_queue_abandoned")
    switch = AtTheSwitch(up_at=1795382320.0)
    own = OwnCall("+12025550208", at(1795382307.6), at(1795382313.4))
    result = judge(*rows, record=OnRecord(own=[own]), switch=switch)
    assert [m.phone for m in result.missed] == ["+12025550192", "+12025550294", "+12025550124"]
    assert result.left_out == {"our own recall": 1}
    assert len(judge(*rows, switch=switch).missed) == 4, "without it, it looks like all the others"


# --- one rule each -----------------------------------------------------------------------------------------


def test_who_gave_up_while_nobody_listened_is_told():
    assert told(row()) == [(ANNA, 20)]


def test_two_who_read_the_same_row_tell_the_same_call():
    assert judge(row()).missed == judge(row(), row(number=BOB, uuid="m2")).missed[:1]


def test_the_same_row_with_another_end_is_another_call():
    first, later = judge(row(left=-20)).missed, judge(row(left=-10)).missed
    assert first[0].call_uuid != later[0].call_uuid


@pytest.mark.parametrize("state", ["Waiting", "Trying", "Answered"])
def test_who_is_still_there_is_not(state):
    assert objection(row(left=None, state=state)) == "waits or talks"


def test_who_was_being_served_when_freeswitch_died_is_not():
    assert objection(row(left=None, bridge_epoch=-30)) == "was being served"


def test_who_waited_when_freeswitch_died_is_told_as_cut_off():
    [missed] = judge(row(left=None)).missed
    assert (missed.reason, missed.timewait) == (Reason.FAILED, 0)
    [missed] = judge(row(joined=-50, left=-40, rejoined_epoch=-30)).missed
    assert (missed.reason, missed.calldate) == (Reason.FAILED, at(NOW - 30)), "came back, and was cut off"


def test_only_queues_that_are_captured_are_told():
    assert told(row(), wants=lambda queue: queue == SALES) == []


def test_what_was_heard_before_the_connection_was_lost_has_been_told():
    record = OnRecord(heard_until=at(NOW - 10))
    assert objection(row(left=-12), record=record) == "was heard then"
    assert told(row(left=-11), record=record), "in the last second it may have been too late"


def test_a_mark_in_the_future_says_nothing():
    """The clock was set back."""
    assert told(row(), record=OnRecord(heard_until=at(NOW + 3600))) == [(ANNA, 20)]


def test_what_ends_after_the_connection_came_up_is_the_events_business():
    assert objection(row(left=1)) == "is heard now"
    assert told(row(left=0)) == [(ANNA, 40)], "in the very second nobody knows: the record decides"


def test_a_member_that_is_on_record_is_known_whatever_the_call_was():
    assert objection(row(), record=recorded(-200, -20, number="")) == "known"


def test_one_who_came_back_is_known_only_if_that_was_recorded_after_the_second_wait():
    back = row(joined=-40, left=-10, rejoined_epoch=-20)
    assert told(back, record=recorded(-41, -30)) == [(ANNA, 10)], "only the first wait is on record"
    assert objection(back, record=recorded(-21, -10)) == "known"
    assert objection(back, record=recorded(-21, -11.5)) == "known", "at the hangup, a moment before the row"


def test_who_came_back_called_when_they_came_back():
    [missed] = judge(row(joined=-40, left=-10, rejoined_epoch=-20)).missed
    assert (missed.calldate, missed.timewait) == (at(NOW - 20), 10)


def test_a_call_that_was_recorded_under_its_second_queue_is_known_by_number_and_time():
    record = recorded(-60, -19, uuid="m2")
    assert objection(row(joined=-40, left=-20), record=record) == "known"
    assert told(row(joined=-40, left=-20, number=BOB), record=record) == [(BOB, 20)]


def test_an_earlier_call_of_the_number_does_not_hide_a_later_one():
    assert told(row(), record=recorded(-300, -280, uuid="m0")) == [(ANNA, 20)]


def test_the_number_may_be_written_in_another_way():
    assert objection(row(number="2025550200"), record=recorded(-60, -19, uuid=None)) == "known"


def test_callers_without_a_number_are_not_known_by_it():
    record = recorded(-60, -19, uuid="m2", number="anonymous")
    assert told(row(number="anonymous"), record=record) == [("anonymous", 20)]


def test_two_callers_without_a_number_who_share_a_member_are_told_once_each_time():
    """B got A's row; A is on record, B is not."""
    shared = row(number="anonymous", joined=-60, rejoined_epoch=-30, left=-10)
    assert told(shared, record=recorded(-60, -45, number="anonymous")) == [("anonymous", 20)]
    assert objection(shared, record=recorded(-30, -10, number="anonymous")) == "known"


@pytest.mark.parametrize(
    "dialled", ["+12025550200", "12025550200", "0112025550200", "9912025550200", "5550200"]
)
def test_our_own_recall_is_known_by_the_number_as_it_was_dialled(dialled):
    own = OnRecord(own=[OwnCall(ANNA, at(NOW - 45), at(NOW - 20.2))])
    assert objection(row(number=dialled), record=own) == "our own recall"


@pytest.mark.parametrize(
    ("number", "began", "ended"), [(BOB, -45, -20), (ANNA, -100, -41), (ANNA, -10, None)]
)
def test_a_recall_of_another_number_or_time_is_no_reason(number, began, ended):
    over = None if ended is None else at(NOW + ended)
    assert told(row(), record=OnRecord(own=[OwnCall(number, at(NOW + began), over)])) == [(ANNA, 20)]


def test_a_recall_that_nobody_has_seen_the_end_of_may_be_it():
    own = OnRecord(own=[OwnCall(ANNA, at(NOW - 45), None)])
    assert objection(row(), record=own) == "our own recall"


@pytest.mark.parametrize("text", [ANNA, "2025550200", "1 (202) 555-0200"])
def test_who_is_on_the_line_is_not_told(text):
    assert objection(row(), switch=AtTheSwitch(UP.up_at, live=[text])) == "on the line"
    assert told(row(number=BOB), switch=AtTheSwitch(UP.up_at, live=[text])) == [(BOB, 20)]


def test_a_caller_without_a_number_who_is_on_the_line_may_be_the_one():
    switch = AtTheSwitch(UP.up_at, live=["anonymous"])
    assert objection(row(number="anonymous"), switch=switch) == "on the line"


def test_a_call_of_which_events_told_later_is_theirs_to_tell():
    assert objection(row(), switch=heard(last=-19)) == "was heard since"
    assert told(row(), switch=heard(last=-20)) == [(ANNA, 20)], "its joining was heard, its end was not"
    assert told(row(), switch=heard(BOB, last=-5)) == [(ANNA, 20)]


def test_who_was_picked_up_in_the_second_in_which_the_connection_was_lost_was_served():
    assert objection(row(), switch=heard(last=-20, talked=-20)) == "served"


def test_who_talked_to_somebody_before_they_waited_was_not_served():
    assert told(row(), switch=heard(last=-41, talked=-41)) == [(ANNA, 20)]


def test_whom_the_record_knows_to_have_been_talked_to_since_was_served():
    assert objection(row(), record=OnRecord(talked={ANNA: at(NOW - 5)})) == "served"
    assert told(row(), record=OnRecord(talked={ANNA: at(NOW - 50)})) == [(ANNA, 20)]


# --- more than one row of a person -------------------------------------------------------------------------


def test_who_timed_out_into_another_queue_and_waits_there_is_not_told():
    rows = row(), row(joined=-20, left=None, state="Waiting", uuid="m2", queue=SALES)
    assert objection(*rows) == "waits or talks"


def test_one_call_through_two_queues_is_one_with_the_sum_of_the_waits():
    rows = row(joined=-40, left=-20), row(joined=-20, left=-5, uuid="m2", queue=SALES)
    [missed] = judge(*rows).missed
    assert (missed.queue, missed.timewait, missed.calldate) == (SALES, 35, at(NOW - 40))
    assert missed.member_uuid == "m2"


def test_a_call_that_went_on_into_a_queue_that_is_not_captured_is_told_for_the_one_that_is():
    rows = row(joined=-40, left=-20), row(joined=-20, left=-5, uuid="m2", queue=SALES)
    [missed] = judge(*rows, wants=lambda queue: queue == SUPPORT).missed
    assert (missed.queue, missed.timewait) == (SUPPORT, 35)


def test_who_called_twice_and_gave_up_twice_is_told_once_by_the_newer_call():
    assert told(row(joined=-58, left=-50), row(joined=-30, left=-22, uuid="m2")) == [(ANNA, 8)]


def test_one_call_of_which_any_stay_is_known_is_known():
    rows = row(joined=-40, left=-20), row(joined=-20, left=-5, uuid="m2", queue=SALES)
    assert objection(*rows, record=recorded(-41, -5, number="")) == "known"


def test_who_waited_as_long_as_the_queue_allows_may_have_been_answered_in_the_next():
    """The row in the next queue is deleted after the talk."""
    limits = {SUPPORT: Limits(max_wait=20)}
    answered = AtTheSwitch(UP.up_at, limits=limits, last_answer=NOW - 20)
    assert objection(row(), switch=answered) == "may have been answered elsewhere"
    nobody = AtTheSwitch(UP.up_at, limits=limits, last_answer=NOW - 21)
    [missed] = judge(row(), switch=nobody).missed
    assert missed.reason is Reason.TIMEOUT
    assert told(row(left=-21), switch=answered) == [(ANNA, 19)], "gave up before"
    alone = AtTheSwitch(UP.up_at, limits={SUPPORT: Limits(no_agent=15)}, last_answer=NOW - 20)
    assert objection(row(), switch=alone) == "may have been answered elsewhere"


def test_each_queue_reads_numbers_by_its_own_rules():
    german = NumberRules(default_region="DE", allow=frozenset({"DE"}))
    rules = {SUPPORT: NumberRules(), SALES: german}
    rows = row(number="2025550200"), row(number="03012345678", uuid="m2", queue=SALES)
    switch = AtTheSwitch(UP.up_at, live=["+493012345678"])
    result = found("fs1", rows, OnRecord(), switch, lambda queue: True, lambda queue: rules[queue])
    assert [missed.phone for missed in result.missed] == ["2025550200"]


# --- events that were lost in the middle of a call ---------------------------------------------------------


def test_who_was_answered_while_the_connection_was_lost_was_served_by_what_their_leg_tells_at_its_end():
    """Both legs were there before; nothing was heard of the answer and the bridge."""
    listener = Capture("fs1", CaptureRules())
    facts = []
    lost = ("CHANNEL_ANSWER", "CHANNEL_BRIDGE")
    for event in recordings.events("answered"):
        if event.name in lost or event.get("CC-Action") == "bridge-agent-start":
            listener.interrupted()
            continue
        facts += listener.feed(event)
    assert [type(fact) for fact in facts if not isinstance(fact, Reached)][-1] is Served
    assert not any(isinstance(fact, Missed) and fact.settled for fact in facts)
