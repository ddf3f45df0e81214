"""What is known of one node's agents, from its events."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from freeswitch_callback.core import dispatch
from freeswitch_callback.core.numbers import NumberRules
from freeswitch_callback.engine.clock import Clock
from freeswitch_callback.engine.switchboard import Switchboard, phone_of
from freeswitch_callback.esl.callcenter import Agent
from freeswitch_callback.esl.frames import Event
from freeswitch_callback.simulator import Answers, ManualClock, Simulator
from tests import recordings

AGENT = "1001@default"
US = NumberRules()
CLIENT = "+12025550200"
FOR_LONG = 1e12


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
    switchboard.seen(Agent(name=AGENT, status="Available", state="Waiting", **changes))
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


# --- who is on the line -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("abandoned", "+12025550100"),  # in a queue
        ("direct_no_answer", "+12025550108"),
        ("originate_answered", CLIENT),
        ("reserved_recall_client_first", "+12025550201"),
        ("reserved_recall_agent_first", "+12025550202"),
        ("intercepted_from_the_queue", "+12025550124"),  # their leg shows who picked them up, then
    ],
)
def test_a_number_is_on_the_line_from_its_first_channel_to_the_end_of_its_last(name, number):
    switchboard, told = Switchboard(), ""
    for event in recordings.events(name):
        switchboard.feed(event)
        told += "x" if switchboard.on_the_line(number, US) else "."
        assert not switchboard.on_the_line("+12025550999", US)
    assert re.fullmatch(r"\.*x{6,}\.*", told), "without a gap"
    assert told.endswith("."), "and no longer"


@pytest.mark.parametrize(
    "text", ["+12025550200", "12025550200", "2025550200", "(202) 555-0200", "%2B12025550200"]
)
def test_whatever_way_the_network_writes_it_it_is_one_number(text):
    switchboard = Switchboard()
    switchboard.feed(channel("CHANNEL_CREATE", "a", Caller_Caller_ID_Number=text.replace(" ", "%20")))
    assert switchboard.on_the_line(CLIENT, US)
    assert not switchboard.on_the_line("+13035550200", US), "not another that ends alike"


def test_a_caller_without_a_number_is_nobody():
    switchboard = Switchboard()
    for at, text in enumerate(["anonymous", "_undef_", "%0A", "+12025550200;ext=9"]):
        switchboard.feed(channel("CHANNEL_CREATE", str(at), Caller_Caller_ID_Number=text))
    assert not switchboard.on_the_line(CLIENT, US)


def test_a_caller_of_the_house_is_on_the_line_by_their_extension():
    rules = NumberRules(extensions=(re.compile(r"10\d\d"),))
    switchboard = Switchboard()
    switchboard.feed(channel("CHANNEL_CREATE", "a", Caller_Caller_ID_Number="1002"))
    assert switchboard.on_the_line("1002", rules)
    assert not switchboard.on_the_line("1003", rules)


def test_two_calls_of_one_number_are_two():
    switchboard = Switchboard()
    for uuid in "ab":
        switchboard.feed(channel("CHANNEL_CREATE", uuid, Caller_Caller_ID_Number=CLIENT))
    switchboard.feed(channel("CHANNEL_HANGUP_COMPLETE", "a"))
    assert switchboard.on_the_line(CLIENT, US)
    switchboard.feed(channel("CHANNEL_HANGUP_COMPLETE", "b"))
    assert not switchboard.on_the_line(CLIENT, US)


def test_a_channel_that_is_told_of_twice_is_one():
    switchboard = Switchboard()
    for number in ("+12025550999", CLIENT):
        switchboard.feed(channel("CHANNEL_CREATE", "a", Caller_Caller_ID_Number=number))
    assert not switchboard.on_the_line("+12025550999", US)
    switchboard.feed(channel("CHANNEL_HANGUP_COMPLETE", "a"))
    assert not switchboard.on_the_line(CLIENT, US)
    assert not switchboard.on_the_line("+12025550999", US)


def test_who_is_on_the_line_is_read_from_freeswitch_and_replaces_what_was_known():
    sim = Simulator(clock=ManualClock(), world_legs=False)
    sim.add_queue("support@default", extension="3000")
    sim.add_agent(AGENT, behaviour=Answers())
    sim.client(CLIENT, Answers(after=1))
    call = sim.call("+12025550100", to="3000", hangs_up_after_talk=None)
    sim.call_out(AGENT, CLIENT)
    sim.clock.advance(2)
    call.intercept(by="agent1002")  # from now on their leg shows that number
    sim.clock.advance(2)
    clock = StandingClock()
    switchboard = Switchboard(clock)
    switchboard.feed(channel("CHANNEL_CREATE", "gone", Caller_Caller_ID_Number="+12025550999"))
    clock.now += 3.0
    switchboard.sync(SimpleNamespace(api=lambda command: sim.api(command.removeprefix("api ").strip())))
    assert [
        number
        for number in ("+12025550100", CLIENT, "+12025550999", "+12025559999")
        if switchboard.on_the_line(number, US)
    ] == ["+12025550100", CLIENT]


class StandingClock(Clock):
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


def test_freeswitchs_table_is_behind_its_events():
    """A leg was in it for 0.6 s after its end, and another not for 0.2 s after its begin."""
    sim = Simulator(clock=ManualClock(), world_legs=False)
    sim.add_queue("support@default", extension="3000")
    ended = sim.call(CLIENT, to="3000", hangs_up_after_talk=None)
    sim.clock.advance(2)
    clock = StandingClock()
    switchboard = Switchboard(clock)
    switchboard.feed(channel("CHANNEL_HANGUP_COMPLETE", ended.uuid))
    switchboard.feed(channel("CHANNEL_CREATE", "new", Caller_Caller_ID_Number="+12025550999"))
    line = SimpleNamespace(api=lambda command: sim.api(command.removeprefix("api ").strip()))
    switchboard.sync(line)
    assert not switchboard.on_the_line(CLIENT, US)
    assert switchboard.on_the_line("+12025550999", US)
    clock.now += 3.0
    switchboard.sync(line)
    assert switchboard.on_the_line(CLIENT, US), "by then the table is right"
    assert not switchboard.on_the_line("+12025550999", US)


def test_a_thousand_calls_leave_nothing_behind():
    clock = StandingClock()
    switchboard = Switchboard(clock)
    for call in range(1000):
        clock.now += 0.01
        switchboard.feed(channel("CHANNEL_CREATE", f"u{call}", Caller_Caller_ID_Number=f"+1202555{call:04}"))
        switchboard.feed(channel("CHANNEL_HANGUP_COMPLETE", f"u{call}"))
    assert not switchboard.channels
    assert not any(vars(switchboard._lines).values())
    assert len(switchboard._lately) <= 402, "of the last two seconds"


def channel(name, uuid, **headers):
    lines = [f"Event-Name: {name}", f"Unique-ID: {uuid}", "Call-Direction: inbound"]
    lines += [f"{key.replace('_', '-')}: {value}" for key, value in headers.items()]
    return Event(("\n".join(lines) + "\n\n").encode())


def test_of_many_agents_those_are_taken_out_who_could_be_free():
    switchboard = board()
    states = {"1001": "Waiting", "1002": "In a queue call", "1003": "Waiting", "1004": "Idle"}
    for name, state in states.items():
        switchboard.seen(Agent(name=name, status="Available", state=state))
    switchboard.tiers = {name: {"support@default": (1, 1)} for name in states}
    everybody = switchboard.operators(())
    assert [operator.name for operator in everybody] == list(states)
    assert switchboard.operators_who_wait(()) == [everybody[0], everybody[2]]
    assert switchboard.operators_named(["1002", "nobody"], ()) == [everybody[1]]


def state_change(state):
    lines = ("Event-Name: CUSTOM", "Event-Subclass: callcenter%3A%3Ainfo", "CC-Action: agent-state-change")
    text = "\n".join([*lines, f"CC-Agent: {AGENT}", f"CC-Agent-State: {state}", "Event-Date-Timestamp: 1"])
    return Event(f"{text}\n\n".encode())


@pytest.mark.parametrize(
    ("why", "then"), [("elsewhere", 0.0), ("rests", FOR_LONG)], ids=["another engine has them", "missed one"]
)
def test_how_long_an_agent_is_left_alone_though_an_event_tells_that_they_wait(why, then):
    """Whom another engine had, it has no more; who has missed a recall, has missed it."""
    switchboard = board()
    getattr(switchboard, why)[AGENT] = FOR_LONG
    [operator] = switchboard.operators_who_wait(())
    assert operator.rests_until == FOR_LONG
    for state in ("Reserved", "Waiting"):
        switchboard.feed(state_change(state))
    [operator] = switchboard.operators_who_wait(())
    assert operator.rests_until == then
