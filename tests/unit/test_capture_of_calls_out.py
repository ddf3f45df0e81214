"""Whom somebody of the house has called and talked to: told once, when that talk is over."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from freeswitch_callback.core.capture import Capture, CaptureRules
from freeswitch_callback.core.facts import Missed, Reached, Served
from freeswitch_callback.esl.frames import Event, Framer
from freeswitch_callback.simulator import Answers, Busy, EarlyMediaOnly, ManualClock, Simulator
from tests import recordings

CLIENT = "+12025550200"
OPERATOR = "1001@tenant.example"
LISTEN = (
    b"event plain CHANNEL_CREATE CHANNEL_ANSWER CHANNEL_BRIDGE CHANNEL_UNBRIDGE CHANNEL_HANGUP "
    b"CHANNEL_HANGUP_COMPLETE CUSTOM callcenter::info\n\n"
)


class Story:
    """A house whose time is moved by hand."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.sim = Simulator(clock=self.clock)
        self.sim.add_queue("support@tenant.example", extension="3000")
        for name in (OPERATOR, "1002@tenant.example"):
            self.sim.add_agent(name, status="Logged Out", behaviour=Answers(after=1))
            self.sim.add_tier("support@tenant.example", name)
        self.sim.client(CLIENT, Answers(after=2))
        self._framer = Framer()
        self.sim.attach(self._framer.feed).receive(b"auth ClueCon\n\n" + LISTEN)

    def passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @property
    def events(self) -> list[Event]:
        return [frame for frame in self._framer.frames() if isinstance(frame, Event)]


@pytest.fixture
def story() -> Story:
    return Story()


def facts(events, capture=None):
    capture = capture or Capture("fs1", CaptureRules())
    return [fact for event in events for fact in capture.feed(event)]


def reached(events, capture=None):
    return [fact for fact in facts(events, capture) if isinstance(fact, Reached)]


def talk(story: Story, seconds: float = 30) -> list[Event]:
    """The operator calls the client, who answers after 2 s; they talk."""
    call = story.sim.call_out(OPERATOR, CLIENT)
    story.passes(2 + seconds)
    call.hang_up()
    story.passes(1)
    return story.events


def test_who_called_whom_and_how_long_they_talked_is_told_when_the_talk_is_over(story):
    began = story.clock.now() + 2
    [fact] = facts(talk(story))
    assert (fact.phone, fact.operator, fact.domain) == (CLIENT, OPERATOR, "tenant.example")
    assert (fact.talked, fact.at.timestamp()) == (pytest.approx(30), pytest.approx(began))


def test_it_is_told_at_the_hangup_and_only_there(story):
    capture = Capture("fs1", CaptureRules())
    [event] = [event for event in talk(story) if reached([event], capture)]
    assert (event.name, event.get("Call-Direction")) == ("CHANNEL_HANGUP", "outbound")


@pytest.mark.parametrize("behaviour", [Busy(after=1), EarlyMediaOnly(plays=5)])
def test_a_client_who_did_not_answer_was_not_reached(story, behaviour):
    story.sim.client(CLIENT, behaviour)
    assert facts(talk(story)) == []


def test_a_client_who_is_called_while_nobody_listens_yet_is_told_by_the_legs_own_variables(story):
    """From any event up to the hangup on; who did not hear the bridge knows less of the operator."""
    events = talk(story)
    [whole] = reached(events)
    over = next(
        i
        for i, e in enumerate(events)
        if e.name == "CHANNEL_HANGUP" and e.get("Unique-ID") == whole.call_uuid
    )
    for start in range(over + 1):
        [fact] = reached(events[start:])
        assert (fact.phone, fact.talked) == (CLIENT, pytest.approx(30, abs=0.01))
        assert fact.operator in (OPERATOR, "1001")


@pytest.mark.parametrize("seed", range(10))
def test_the_order_between_legs_does_not_matter(story, seed):
    chance = random.Random(seed)
    legs: dict[str, list[Event]] = {}
    events = talk(story)
    for event in events:
        legs.setdefault(event.get("Unique-ID") or "", []).append(event)
    shuffled = []
    while legs:
        key = chance.choice(list(legs))
        shuffled.append(legs[key].pop(0))
        if not legs[key]:
            del legs[key]
    [whole], [fact] = reached(events), reached(shuffled)
    assert replace(fact, operator=None, domain="") == replace(whole, operator=None, domain="")
    assert fact.operator in (OPERATOR, "1001")


def test_a_tracked_agent_is_named_as_the_agent(story):
    """`callcenter_track` on the operator's own leg says whose it is, whatever their phone is called."""
    story.sim.add_extension(
        "9",
        ("set", "cc_tracked_agent=5f0c-agent"),
        ("set", "hangup_after_bridge=true"),
        ("bridge", f"sofia/gateway/main/{CLIENT}"),
    )
    call = story.sim.call("1001", to="9")
    story.passes(20)
    call.hang_up()
    story.passes(1)
    [fact] = reached(story.events)
    assert (fact.phone, fact.operator) == (CLIENT, "5f0c-agent")


def test_a_talk_that_goes_on_at_another_phone_counts_from_its_beginning(story):
    call = story.sim.call_out(OPERATOR, CLIENT)
    story.passes(12)
    client = next(leg for leg in story.sim.switch.channels.values() if leg.name == f"sofia/external/{CLIENT}")
    story.sim.switch.take_away(client)
    story.sim.house.send_to(client, "1002")
    story.passes(11)
    call.hang_up()
    story.sim.api(f"uuid_kill {client.uuid}")
    story.passes(1)
    fact = next(fact for fact in reached(story.events) if fact.call_uuid == client.uuid)
    assert (fact.phone, fact.operator) == (CLIENT, OPERATOR)
    assert fact.talked == pytest.approx(21, abs=1)


def test_when_freeswitch_dies_whoever_talked_has_talked(story):
    story.sim.call_out(OPERATOR, CLIENT)
    story.passes(22)
    capture = Capture("fs1", CaptureRules())
    facts(story.events, capture)
    [fact] = capture.end_all(story.clock.now())
    assert isinstance(fact, Reached)
    assert fact.talked == pytest.approx(20)


def test_an_agent_whom_the_queue_calls_is_nobody_who_was_called_out(story):
    call = story.sim.call("+12025550100", to="3000", hangs_up_after_talk=None)
    story.sim.set_status(OPERATOR, "Available")
    story.passes(20)
    call.hang_up()
    story.passes(1)
    assert {type(fact) for fact in facts(story.events)} == {Served}


@pytest.mark.parametrize("name", recordings.NAMES)
def test_the_recordings_have_nobody_of_the_house_who_calls_a_client(name):
    """Neither a recall of ours (`callback_entry`), nor a queue's agent, nor a caller is one."""
    for fact in reached(recordings.events(name)):
        assert fact.phone.startswith("agent"), "only phones of the house that were called directly"


def test_of_a_direct_call_it_is_told_what_the_recording_shows():
    [fact] = reached(recordings.events("direct_answered"))
    assert (fact.phone, fact.operator, fact.domain) == ("agent7004", "+12025550110", "")
    assert fact.talked == pytest.approx(3.04, abs=0.01)


@pytest.mark.parametrize("name", ["recall_agent_first_client_hangs_up", "recall_through_the_queue"])
def test_our_own_recall_is_no_call_of_an_operator(name):
    """The mark on either leg is enough."""
    assert reached(recordings.events(name)) == []


def test_a_client_who_was_called_and_then_gives_up_in_a_queue_is_missed(story):
    """An operator transfers them there: the dialled number is theirs."""
    story.sim.call_out(OPERATOR, CLIENT)
    story.passes(12)
    client = next(leg for leg in story.sim.switch.channels.values() if leg.name == f"sofia/external/{CLIENT}")
    story.sim.switch.take_away(client)
    story.sim.house.send_to(client, "3000")
    story.passes(7)
    story.sim.api(f"uuid_kill {client.uuid}")
    story.passes(1)
    told = facts(story.events)
    assert {(type(fact), fact.phone) for fact in told} == {(Missed, CLIENT)}
