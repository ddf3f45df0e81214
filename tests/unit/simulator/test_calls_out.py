"""Agents who call somebody outside from their own phones."""

from __future__ import annotations

from freeswitch_callback.simulator import Answers
from tests.recordings import events
from tests.unit.simulator.stage import Stage

AGENT, CLIENT = "1001@default", "+12025550200"


def stage_with_a_client() -> Stage:
    stage = Stage()
    stage.sim.client(CLIENT, Answers(after=1))
    return stage


def test_an_agent_and_a_client_talk_and_no_command_was_needed() -> None:
    stage = stage_with_a_client()
    call = stage.sim.call_out(AGENT, CLIENT, hangs_up_after_talk=20)
    stage.clock.advance(30)
    (talk,) = stage.sim.talks
    assert (talk.number, talk.agent, round(talk.seconds, 3)) == (CLIENT, AGENT, 20.0)
    assert call.ended.is_set()
    assert stage.sim.dialled == []


def test_the_legs_tell_what_those_of_a_call_straight_to_a_phone_tell() -> None:
    """But for who calls and who is called (`direct_answered`)."""

    def told(seen: list[tuple[str, str, str]]) -> list[tuple[str, str]]:
        return sorted((direction, name) for name, direction, context in seen if context == "default")

    stage = stage_with_a_client()
    stage.sim.call_out(AGENT, CLIENT, hangs_up_after_talk=3)
    stage.clock.advance(10)
    legs = [e for e in stage.events if e["Event-Name"].startswith("CHANNEL_")]
    ours = [(e["Event-Name"], e["Call-Direction"], e["Caller-Context"]) for e in legs]
    theirs = [
        (e.name, e.get("Call-Direction") or "", e.get("Caller-Context") or "")
        for e in events("direct_answered")
        if e.name.startswith("CHANNEL_")
    ]
    assert told(ours) == told(theirs)
    (operator,) = stage.named("CHANNEL_BRIDGE")
    assert (operator["variable_user_name"], operator["variable_domain_name"]) == ("1001", "default")
    assert (operator["Caller-Caller-ID-Number"], operator["Caller-Destination-Number"]) == ("1001", CLIENT)


def test_whoever_calls_out_is_busy_for_the_queue() -> None:
    stage = stage_with_a_client()
    call = stage.sim.call_out(AGENT, CLIENT)
    waits = stage.sim.call("+12025550100", to="3000")
    stage.clock.advance(20)
    assert call.talking
    assert not waits.talking
    call.hang_up()
    stage.clock.advance(10)
    assert waits.talking


def test_after_a_crash_nobody_is_busy() -> None:
    stage = stage_with_a_client()
    stage.sim.call_out(AGENT, CLIENT)
    stage.clock.advance(5)
    stage.sim.crash()
    assert stage.sim.phones.at("1001").calls == 0
