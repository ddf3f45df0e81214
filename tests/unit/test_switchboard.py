"""What is known of one node's agents, from its events."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from freeswitch_callback.core import dispatch
from freeswitch_callback.engine.switchboard import Switchboard, phone_of
from freeswitch_callback.esl.callcenter import Agent
from freeswitch_callback.simulator import Answers, ManualClock, Simulator
from tests import recordings

AGENT = "1001@default"


@pytest.mark.parametrize(
    ("endpoint", "phone"),
    [
        ("user/1001", "1001"),
        ("user/1001@house.example", "1001"),
        ("[leg_timeout=10]sofia/internal/1001@127.0.0.1:5090", "1001"),
        ("{a=b}[c=d]user/1001@house", "1001"),
        ("sofia/internal/sip:1001@192.0.2.7:5060", "1001"),
        ("sofia/internal/sip:1001@192.0.2.7:5060;transport=tcp", "1001"),
        ("sofia/gateway/pbx/1001", "1001"),
        ("loopback/1001/agents", "1001"),
        ("loopback/1001-a", "1001"),
        ("loopback/1001-b", "1001"),
        ("sofia/internal/%2B12025550100%40192.0.2.1", "+12025550100"),
        ("", ""),
    ],
)
def test_the_same_phone_is_known_by_contact_and_by_channel(endpoint, phone):
    assert phone_of(endpoint) == phone


def board(**changes):
    switchboard = Switchboard()
    switchboard.agents = {AGENT: Agent(name=AGENT, status="Available", state="Waiting", **changes)}
    switchboard.tiers = {AGENT: {"support@default": (1, 1)}}
    return switchboard


def feed(switchboard, name):
    return [event for event in recordings.events(name) if switchboard.feed(event)]


def test_an_agent_who_has_talked_is_free_when_wrap_up_ends():
    switchboard = board(wrap_up_time=30, contact="sofia/internal/agent1001@127.0.0.1:5090")
    events = recordings.events("answered")
    for event in events:
        switchboard.feed(event)
        if event.get("CC-Agent-State") == "Waiting":
            break
    [operator] = switchboard.operators(())
    ended = int(event.timestamp)
    assert operator.free_from == ended + 30
    assert dispatch.free([operator], ended + 29) == []
    assert dispatch.free([operator], ended + 30) == [operator]


def test_an_agent_who_logs_out_or_is_called_by_the_queue_is_free_no_more():
    switchboard = board()
    feed(switchboard, "answered")
    [operator] = switchboard.operators(())
    assert (operator.status, operator.state) == ("Logged Out", "Waiting")
    assert operator.free_at() is None


def test_the_engine_is_woken_when_an_agent_may_have_become_free():
    woken = feed(board(), "answered")
    assert any(event.get("CC-Agent-State") == "Waiting" for event in woken)
    assert not any(event.get("CC-Agent-State") == "Receiving" for event in woken)


def test_an_agent_on_a_direct_call_is_busy_until_the_channel_is_gone():
    switchboard = board(contact="sofia/internal/agent7004@127.0.0.1:5090")
    busy = []
    for event in recordings.events("direct_answered"):
        switchboard.feed(event)
        busy.append(switchboard.operators(())[0].busy)
    assert any(busy)
    assert not busy[-1]


def test_an_agent_of_ours_is_not_free_for_another_recall():
    assert board().operators({AGENT})[0].busy


def test_an_agent_without_a_queue_is_nobodys():
    switchboard = board()
    switchboard.tiers = {}
    assert switchboard.operators(()) == []


def test_what_freeswitch_says_replaces_what_was_known():
    sim = Simulator(clock=ManualClock())
    sim.add_queue("support@default", extension="3000")
    sim.add_agent(AGENT, status="On Break", wrap_up_time=7, behaviour=Answers())
    sim.add_tier("support@default", AGENT, level=2, position=3)
    sim.call("+12025550100", to="3000")
    sim.clock.advance(1)
    switchboard = board()
    node = SimpleNamespace(api=lambda command: sim.api(command.removeprefix("api ").strip()))
    switchboard.sync(node)
    [operator] = switchboard.operators(())
    assert (operator.status, operator.tiers) == ("On Break", {"support@default": (2, 3)})
    assert switchboard.callers.waiting("support@default") == 1


def test_what_events_tell_while_freeswitch_is_read_counts_more_than_what_was_read():
    """The answer was on its way when the call came in."""
    sim = Simulator(clock=ManualClock())
    sim.add_queue("support@default", extension="3000")
    sim.add_agent(AGENT, contact="sofia/internal/agent7004@127.0.0.1:5090", behaviour=Answers())
    sim.add_tier("support@default", AGENT)
    switchboard = board()
    created = next(
        e for e in recordings.events("direct_answered") if "agent7004" in (e.get("Channel-Name") or "")
    )

    def api(command):
        answer = sim.api(command.removeprefix("api ").strip())
        if "show channels" in command:
            switchboard.feed(created)
        return answer

    switchboard.sync(SimpleNamespace(api=api))
    assert switchboard.operators(())[0].busy
