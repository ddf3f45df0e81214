"""Stories that FreeSWITCH can tell and nobody has recorded, told by the simulator or written out by hand."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freeswitch_callback.core.capture import Capture, CaptureRules, Direct
from freeswitch_callback.core.facts import Missed, Reached, Reason, Served
from freeswitch_callback.esl.frames import Event, Framer
from freeswitch_callback.simulator import Answers, EarlyMediaOnly, ManualClock, Silent, Simulator
from tests import recordings

SUPPORT, SHORT = "support@default", "short@default"
RULES = CaptureRules(direct=(Direct("default", re.compile(r"^[a-z]+700\d$"), SUPPORT),))
LISTEN = (
    b"event plain CHANNEL_CREATE CHANNEL_ANSWER CHANNEL_BRIDGE CHANNEL_UNBRIDGE CHANNEL_HANGUP "
    b"CHANNEL_HANGUP_COMPLETE BACKGROUND_JOB CUSTOM callcenter::info callback::missed callback::request\n\n"
)
CALLER = "+12025550100"


class Story:
    """A contact centre whose time is moved by hand; `rows` is what would stand in the ledger."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.sim = Simulator(clock=self.clock)
        self.sim.add_queue(SUPPORT, extension="3000")
        self.sim.add_queue(SHORT, extension="3200", max_wait_time=5, then=(("callcenter", SUPPORT),))
        self.sim.add_agent("1001@default", status="Logged Out", behaviour=Answers(after=1))
        self.sim.add_tier(SUPPORT, "1001@default")
        self._framer = Framer()
        client = self.sim.attach(self._framer.feed)
        client.receive(b"auth ClueCon\n\n" + LISTEN)

    def at_work(self, status: str = "Available") -> None:
        self.sim.set_status("1001@default", status)

    def passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @property
    def events(self) -> list[Event]:
        return [frame for frame in self._framer.frames() if isinstance(frame, Event)]


def rows(events: Iterable[Event], capture: Capture | None = None) -> list[Missed]:
    capture = capture or Capture("fs1", RULES)
    found: dict[str, Missed] = {}
    for event in events:
        for fact in capture.feed(event):
            if isinstance(fact, Served):
                found.pop(fact.call_uuid, None)
            elif isinstance(fact, Reached):
                continue
            elif fact.settled or fact.call_uuid not in found:
                found[fact.call_uuid] = fact
    return list(found.values())


@pytest.fixture
def story() -> Story:
    return Story()


def test_who_times_out_of_one_queue_and_gives_up_in_the_next_has_waited_in_both(story):
    call = story.sim.call(CALLER, to="3200")
    story.passes(9)
    call.hang_up()
    story.passes(1)
    [row] = rows(story.events)
    assert (row.reason, row.queue) == (Reason.ABANDONED, SUPPORT)
    assert row.timewait == pytest.approx(9, abs=1)


def test_who_is_transferred_by_an_agent_and_then_gives_up_has_waited_since_the_talk(story):
    call = story.sim.call(CALLER, to="3000", hangs_up_after_talk=None)
    story.passes(20)
    story.at_work()
    story.passes(10)
    assert call.talking
    story.at_work("On Break")
    call.transfer("3000")
    story.passes(7)
    call.hang_up()
    story.passes(1)
    [row] = rows(story.events)
    assert row.reason is Reason.ABANDONED
    assert row.timewait == pytest.approx(7, abs=1), "not the 20 s before the talk"


@pytest.mark.parametrize("rings", [0.0, 1.0])
def test_that_an_agent_talked_is_told_by_the_callers_leg_alone_too(story, rings):
    """All that the agent's leg tells but its beginning comes after the caller's last event; that it was
    answered is told in whole seconds."""
    story.sim.set_behaviour("1001@default", Answers(after=rings))
    story.passes(0.3)
    call = story.sim.call(CALLER, to="3000", hangs_up_after_talk=None)
    story.at_work()
    story.passes(10)
    assert call.talking
    story.at_work("On Break")
    call.transfer("3000")
    story.passes(7)
    call.hang_up()
    story.passes(1)
    events = story.events
    others = [
        event
        for event in events
        if event.get("Unique-ID") not in (None, call.uuid) and event.name != "CHANNEL_CREATE"
    ]
    of_caller = [event for event in events if event not in others]
    [row] = rows(of_caller)
    assert row.timewait == pytest.approx(7, abs=1)
    assert rows(of_caller + others) == [row]


def test_who_is_transferred_within_the_second_of_the_answer_and_gives_up_is_missed(story):
    """The agent's leg tells everything after the caller's last event."""
    story.sim.set_behaviour("1001@default", Answers(after=0.0))
    story.passes(0.3)
    call = story.sim.call(CALLER, to="3000", hangs_up_after_talk=None)
    story.at_work()
    story.passes(0.2)
    assert call.talking
    story.at_work("On Break")
    call.transfer("3000")
    story.passes(7)
    call.hang_up()
    story.passes(1)
    events = story.events
    talk, again = (
        next(
            event.timestamp for event in events if event.name == name and event.get("Unique-ID") == call.uuid
        )
        for name in ("CHANNEL_BRIDGE", "CHANNEL_UNBRIDGE")
    )
    assert int(talk) == int(again)
    others = [event for event in events if event.get("Unique-ID") not in (None, call.uuid)]
    of_caller = [event for event in events if event not in others]
    [row] = rows(of_caller)
    assert row.timewait == pytest.approx(7, abs=1)
    assert rows(of_caller + others) == [row]


def test_who_is_transferred_and_answered_again_is_served(story):
    call = story.sim.call(CALLER, to="3000", hangs_up_after_talk=None)
    story.at_work()
    story.passes(10)
    call.transfer("3000")
    story.passes(10)
    call.hang_up()
    story.passes(1)
    assert rows(story.events) == []


def test_who_is_transferred_out_of_the_queue_and_reaches_nobody_is_missed(story):
    story.sim.add_extension("4000", ("bridge", "sofia/internal/mute7009@127.0.0.1:5090"))
    call = story.sim.call(CALLER, to="3000")
    story.passes(5)
    call.transfer("4000")
    story.passes(3)
    call.hang_up()
    story.passes(1)
    [row] = rows(story.events)
    assert row.queue == SUPPORT
    assert row.timewait == pytest.approx(5, abs=1)


def test_who_gives_up_while_an_agents_phone_rings_names_that_agent(story):
    story.sim.set_behaviour("1001@default", Silent())
    call = story.sim.call(CALLER, to="3000")
    story.at_work()
    story.passes(4)
    call.hang_up()
    story.passes(1)
    [row] = rows(story.events)
    assert (row.reason, row.operator) == (Reason.ABANDONED, "1001@default")


def test_who_cancels_a_direct_call_while_it_rings_is_missed_as_cancelled(story):
    call = story.sim.direct_call(CALLER, "mute7002", rings=30)
    story.passes(6)
    call.hang_up()
    story.passes(1)
    [row] = rows(story.events)
    assert (row.reason, row.operator, row.queue) == (Reason.CANCELLED, "mute7002", SUPPORT)
    assert row.timewait == pytest.approx(6, abs=1)


def test_early_media_that_the_caller_does_not_wait_out_is_cancelled(story):
    call = story.sim.direct_call(CALLER, "early7008", behaviour=EarlyMediaOnly(plays=60), rings=60)
    story.passes(6)
    call.hang_up()
    story.passes(1)
    [row] = rows(story.events)
    assert row.reason in (Reason.CANCELLED, Reason.NO_ANSWER)


def test_a_caller_picked_out_of_the_queue_is_not_missed_in_any_order_of_legs(story):
    call = story.sim.call(CALLER, to="3000")
    story.passes(5)
    call.intercept("agent1002")
    story.passes(3)
    call.hang_up()
    story.passes(1)
    events = story.events
    assert rows(events) == []
    mine = [e for e in events if e.get("Unique-ID") == call.uuid]
    others = [e for e in events if e.get("Unique-ID") != call.uuid]
    assert rows(others + mine) == []
    assert rows(mine + others) == []


def test_what_was_told_as_missed_is_taken_back_when_the_other_leg_tells_of_a_talk():
    """The bridge is told under the other leg's name, and may come after the caller's hangup."""
    events = recordings.events("intercepted_from_the_queue")
    mine = next(e.get("Unique-ID") for e in events if e.get("CC-Action") == "member-queue-start")
    late = [e for e in events if e.name == "CHANNEL_BRIDGE"]
    rest = [e for e in events if e.name != "CHANNEL_BRIDGE"]
    capture = Capture("fs1", RULES)
    facts = [fact for event in [*rest, *late] for fact in capture.feed(event)]
    assert isinstance(facts[-1], Served)
    assert facts[-1].call_uuid == mine


# --- written out by hand ------------------------------------------------------------------------------------


def event(name: str, at: float, **headers: str) -> Event:
    lines = [f"Event-Name: {name}", f"Event-Date-Timestamp: {int((1_795_378_680 + at) * 1e6)}"]
    lines += [
        f"{key.replace('_', '-')}: {value}" for key, value in headers.items() if not key.startswith("v_")
    ]
    lines += [f"variable_{key[2:]}: {value}" for key, value in headers.items() if key.startswith("v_")]
    return Event(("\n".join(lines) + "\n\n").encode())


def leg(name: str, at: float, uuid: str = "a", **headers: str) -> Event:
    base = {"Unique_ID": uuid, "Call_Direction": "inbound", "Caller_Context": "default"}
    number = {"Caller_Caller_ID_Number": CALLER, "Caller_Destination_Number": "3000"}
    return event(name, at, **(base | number | headers))


def joined(at: float, queue: str = SUPPORT, member: str = "m", uuid: str = "a", **headers: str) -> Event:
    said = {"Event_Subclass": "callcenter%3A%3Ainfo", "CC_Action": "member-queue-start"}
    whose = {"CC_Queue": queue, "CC_Member_UUID": member, "v_cc_side": "member"}
    epoch = str(1_795_378_680 + int(at))
    return leg("CUSTOM", at, uuid, v_cc_queue_joined_epoch=epoch, **said, **whose, **headers)


@pytest.mark.parametrize("cause", ["ATTENDED_TRANSFER", "BLIND_TRANSFER"])
def test_a_transfer_ends_a_leg_and_not_a_clients_wait(cause):
    story = [leg("CHANNEL_CREATE", 0), joined(1), leg("CHANNEL_HANGUP", 5, Hangup_Cause=cause)]
    story.append(leg("CHANNEL_HANGUP_COMPLETE", 5, Hangup_Cause=cause))
    assert rows(story) == []


def test_a_caller_is_who_waits_as_a_member_whatever_the_direction_of_the_leg():
    outbound = {"Call_Direction": "outbound"}
    story = [
        leg("CHANNEL_CREATE", 0, **outbound),
        joined(1, CC_Member_CID_Number="+12025550155", **outbound),
        leg("CHANNEL_HANGUP", 9, Hangup_Cause="NORMAL_CLEARING", **outbound),
    ]
    [row] = rows(story)
    assert (row.phone, row.timewait) == ("+12025550155", 8)


def test_the_number_is_the_callers_though_we_hear_of_them_after_they_were_picked_up():
    """From then on their leg shows the number of whoever picked them up (`intercepted_from_the_queue`)."""
    swapped = {"Caller_Caller_ID_Number": "agent1002", "Caller_Orig_Caller_ID_Number": CALLER}
    [row] = rows([joined(60, **swapped), leg("CHANNEL_HANGUP", 70, **swapped)])
    assert row.phone == CALLER


def test_our_own_recall_is_never_a_miss():
    story = [leg("CHANNEL_CREATE", 0, v_callback_entry="7"), joined(1), leg("CHANNEL_HANGUP", 9)]
    assert rows(story) == []


def test_a_channel_whose_creation_is_told_after_its_answer_is_the_same_channel():
    """Seen on a running FreeSWITCH: neighbours change places now and then, even on one channel."""
    story = [
        leg("CHANNEL_ANSWER", 0),
        leg("CHANNEL_CREATE", 0),
        joined(1),
        leg("CHANNEL_ANSWER", 5, "b", Call_Direction="outbound"),
        leg("CHANNEL_CREATE", 4, "b", Call_Direction="outbound"),
        leg("CHANNEL_BRIDGE", 5, Bridge_A_Unique_ID="a", Bridge_B_Unique_ID="b"),
        leg("CHANNEL_HANGUP", 20, Hangup_Cause="NORMAL_CLEARING"),
    ]
    assert rows(story) == []


def test_early_media_that_is_answered_in_the_end_is_a_talk():
    direct = {"Caller_Destination_Number": "early7008"}
    bridge = {"Bridge_A_Unique_ID": "a", "Bridge_B_Unique_ID": "b"}
    story = [
        leg("CHANNEL_CREATE", 0, **direct),
        leg("CHANNEL_CREATE", 0, "b", Call_Direction="outbound"),
        leg("CHANNEL_BRIDGE", 1, **direct, **bridge),
        leg("CHANNEL_ANSWER", 4, "b", Call_Direction="outbound"),
        leg("CHANNEL_HANGUP", 30, Hangup_Cause="NORMAL_CLEARING", **direct),
    ]
    assert rows(story) == []
    assert len(rows([e for e in story if e.name != "CHANNEL_ANSWER"])) == 1


def talk(at: float) -> list[Event]:
    """The caller's leg `a` talks to `b` from then on."""
    return [
        leg("CHANNEL_CREATE", at - 1, "b", Call_Direction="outbound"),
        leg("CHANNEL_ANSWER", at, "b", Call_Direction="outbound"),
        leg("CHANNEL_BRIDGE", at, Bridge_A_Unique_ID="a", Bridge_B_Unique_ID="b"),
    ]


def hook(at: float, subclass: str = "callback%3A%3Arequest", **headers: str) -> Event:
    return leg("CUSTOM", at, Event_Subclass=subclass, **headers)


def left(at: float, reason: str) -> Event:
    said = {"Event_Subclass": "callcenter%3A%3Ainfo", "CC_Action": "member-queue-end", "CC_Queue": SUPPORT}
    return leg("CUSTOM", at, CC_Member_UUID="m", CC_Cause="Cancel", CC_Cancel_Reason=reason, **said)


def test_who_talked_and_then_asks_to_be_called_back_is_called_back():
    story = [leg("CHANNEL_CREATE", 0), joined(1), *talk(5), hook(30), leg("CHANNEL_HANGUP", 35)]
    assert [row.reason for row in rows(story)] == [Reason.REQUESTED]
    assert rows([leg("CHANNEL_CREATE", 0), joined(1), hook(3), *talk(5), leg("CHANNEL_HANGUP", 35)]) == []


def test_that_somebody_is_served_is_told_when_they_talk_and_not_when_they_have_talked():
    """Or a client would be called back while talking to us."""
    capture = Capture("fs1", RULES)
    facts = [fact for e in [leg("CHANNEL_CREATE", 0), joined(1), *talk(5)] for fact in capture.feed(e)]
    assert [type(fact) for fact in facts] == [Served]
    again = [joined(60, member="m2"), leg("CHANNEL_HANGUP", 70)]
    assert [type(fact) for e in again for fact in capture.feed(e)] == [Missed], "transferred, and gave up"


def test_who_answered_is_known_when_they_talk_though_another_was_rung_after_them():
    """From the agent's own leg: all are rung at once, and `bridge-agent-start` comes later (`answered`)."""
    agent = {"Call_Direction": "outbound", "v_cc_side": "agent", "v_cc_agent": "1001@default"}
    other = {
        "Event_Subclass": "callcenter%3A%3Ainfo",
        "CC_Action": "agent-offering",
        "CC_Agent": "1002@default",
    }
    story = [
        leg("CHANNEL_CREATE", 0),
        joined(1),
        leg("CHANNEL_CREATE", 2, "b", **agent),
        event("CUSTOM", 2, CC_Member_Session_UUID="a", **other),
        leg("CHANNEL_ANSWER", 5, "b", **agent),
        leg("CHANNEL_BRIDGE", 5, Bridge_A_Unique_ID="a", Bridge_B_Unique_ID="b"),
    ]
    capture = Capture("fs1", RULES)
    [served] = [fact for e in story for fact in capture.feed(e)]
    assert isinstance(served, Served)
    assert served.operator == "1001@default"


def test_the_queues_reason_stays_when_the_dialplan_tells_of_the_call_afterwards():
    told = hook(21, "callback%3A%3Amissed", Callback_Operator="7005")
    story = [leg("CHANNEL_CREATE", 0), joined(1), left(20, "TIMEOUT"), told, leg("CHANNEL_HANGUP", 22)]
    [row] = rows(story)
    assert (row.reason, row.operator, row.queue) == (Reason.TIMEOUT, "7005", SUPPORT)


def test_an_event_that_no_call_sent_is_no_call():
    assert rows([event("CUSTOM", 1, Event_Subclass="callback%3A%3Arequest")]) == []


def test_who_waits_when_freeswitch_dies_was_missed():
    capture = Capture("fs1", RULES)
    up = [leg("CHANNEL_CREATE", 0), joined(1), leg("CHANNEL_CREATE", 0, "t"), joined(1, member="n", uuid="t")]
    talking = [
        leg("CHANNEL_CREATE", 3, "u", Call_Direction="outbound"),
        leg("CHANNEL_ANSWER", 4, "u", Call_Direction="outbound"),
        leg("CHANNEL_BRIDGE", 4, "t", Bridge_A_Unique_ID="t", Bridge_B_Unique_ID="u"),
    ]
    for e in up + talking:
        capture.feed(e)
    told = capture.end_all(1_795_378_680 + 30)
    [fact] = [fact for fact in told if isinstance(fact, Missed)]
    assert (fact.call_uuid, fact.reason, fact.timewait, fact.settled) == ("a", Reason.FAILED, 29, True)
    assert capture.legs == 0


def test_legs_whose_end_nobody_heard_are_forgotten_once_freeswitch_does_not_know_them():
    capture = Capture("fs1", RULES)
    rows(
        [leg("CHANNEL_CREATE", 0, "gone"), leg("CHANNEL_CREATE", 0, "up"), leg("CHANNEL_CREATE", 99, "new")],
        capture,
    )
    capture.keep({"up"}, before=1_795_378_680 + 50)
    assert capture.legs == 2


def test_legs_that_have_ended_are_forgotten_after_a_while():
    capture = Capture("fs1", RULES)
    for call in range(2000):
        rows(
            [leg("CHANNEL_CREATE", call, f"u{call}"), leg("CHANNEL_HANGUP_COMPLETE", call, f"u{call}")],
            capture,
        )
    assert capture.legs < 400


@given(
    st.text(max_size=20), st.sampled_from(["cc_queue_joined_epoch", "cc_queue_canceled_epoch", "end_epoch"])
)
def test_a_value_that_is_no_number_where_one_should_be_loses_no_call(text, variable):
    odd = {f"v_{variable}": "".join(f"%{byte:02X}" for byte in text.encode())}
    story = [leg("CHANNEL_CREATE", 0), joined(1), leg("CHANNEL_HANGUP", 9, v_cc_side="member", **odd)]
    story.append(leg("CHANNEL_HANGUP_COMPLETE", 9, v_cc_side="member", **odd))
    assert [row.phone for row in rows(story)] == [CALLER]
