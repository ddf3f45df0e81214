"""mod_callcenter: reserving, offering, wrap-up, members."""

from __future__ import annotations

import json

import pytest

from freeswitch_callback.simulator import Answers, Busy, Declines, Silent, Unregistered
from tests.unit.simulator.stage import Stage

RESERVE = "callcenter_config agent set state_if_waiting 1001@default Reserved"
NOT_FOUND = "-ERR Agent not found!\n"


def test_of_two_who_reserve_one_gets_the_agent() -> None:
    stage = Stage()
    assert stage.api(RESERVE) == "+OK\n"
    assert stage.api(RESERVE) == NOT_FOUND
    assert stage.agent.state == "Reserved"


@pytest.mark.parametrize("status", ["On Break", "Logged Out"])
def test_nobody_reserves_an_agent_who_is_not_available(status: str) -> None:
    stage = Stage()
    stage.sim.set_status("1001@default", status)
    assert stage.api(RESERVE) == NOT_FOUND


def test_on_demand_is_available() -> None:
    stage = Stage()
    stage.sim.set_status("1001@default", "Available (On Demand)")
    assert stage.api(RESERVE) == "+OK\n"


def test_the_compare_and_set_does_not_look_at_wrap_up() -> None:
    stage = Stage()
    stage.agent.wrap_up_time = 30
    stage.sim.call("+12025550100", hangs_up_after_talk=1.0)
    stage.clock.advance(3)
    assert stage.named("bridge-agent-end")
    assert stage.api(RESERVE) == "+OK\n"


def test_the_release_is_no_compare_and_set() -> None:
    stage = Stage()
    stage.sim.call("+12025550100", hangs_up_after_talk=60.0)
    stage.clock.advance(2)
    assert stage.agent.state == "In a queue call"
    assert stage.api("callcenter_config agent set state 1001@default Waiting") == "+OK\n"
    assert stage.agent.state == "Waiting"


def test_the_queue_leaves_a_reserved_agent_alone_until_released() -> None:
    stage = Stage()
    stage.api(RESERVE)
    stage.sim.call("+12025550100", hangs_up_after_talk=1.0)
    stage.clock.advance(5)
    assert not stage.named("agent-offering")
    stage.api("callcenter_config agent set state 1001@default Waiting")
    stage.clock.advance(1)
    assert len(stage.named("agent-offering")) == 1


@pytest.mark.parametrize("wait", ["wrap_up", "ready_time"])
def test_the_queue_respects_wrap_up_and_ready_time(wait: str) -> None:
    stage = Stage()
    now = int(stage.clock.now())
    if wait == "wrap_up":
        stage.agent.wrap_up_time, stage.agent.last_bridge_end = 10, now
    else:
        stage.api(f"callcenter_config agent set ready_time 1001@default {now + 10}")
    stage.sim.call("+12025550100")
    stage.clock.advance(9.9)
    assert not stage.named("agent-offering")
    stage.clock.advance(0.5)
    assert stage.named("agent-offering")


def test_whoever_reacts_to_the_event_is_faster_than_the_queue() -> None:
    stage = Stage()
    stage.sim.set_status("1001@default", "On Break")
    stage.sim.call("+12025550100")
    stage.clock.advance(1)
    stage.sim.set_status("1001@default", "Available")
    assert stage.api(RESERVE) == "+OK\n"


def test_without_reserve_agents_the_queue_may_take_an_agent_whom_we_hold() -> None:
    stage = Stage(reserve_agents=False)
    stage.sim.call("+12025550100")
    stage.clock.advance(0.105)  # the queue has chosen the agent, and not yet said so
    assert stage.api(RESERVE) == "+OK\n"
    stage.clock.advance(0.1)
    states = [event["CC-Agent-State"] for event in stage.named("agent-state-change")]
    assert states == ["Reserved", "Receiving"]


def test_the_longest_idle_agent_is_offered_the_call() -> None:
    stage = Stage(agents=2)
    stage.sim.agent("1001@default").last_bridge_end = int(stage.clock.now()) - 10
    stage.sim.agent("1002@default").last_bridge_end = int(stage.clock.now()) - 500
    stage.sim.call("+12025550100")
    stage.clock.advance(1)
    assert [event["CC-Agent"] for event in stage.named("agent-offering")] == ["1002@default"]


def test_ring_all_rings_everybody_and_one_answers() -> None:
    stage = Stage(agents=3)
    stage.sim.callcenter.queues["support@default"].strategy = "ring-all"
    stage.sim.set_behaviour("1002@default", Answers(after=0.2))
    stage.sim.call("+12025550100", hangs_up_after_talk=1.0)
    stage.clock.advance(5)
    assert len(stage.named("agent-offering")) == 3
    assert [event["CC-Agent"] for event in stage.named("bridge-agent-start")] == ["1002@default"]
    assert {event["CC-Hangup-Cause"] for event in stage.named("bridge-agent-fail")} == {"LOSE_RACE"}
    assert {stage.sim.agent(name).state for name in stage.sim.roster.agents} == {"Waiting"}


@pytest.mark.parametrize(
    ("behaviour", "cause", "delay"),
    [(Busy(), "USER_BUSY", 4), (Declines(), "CALL_REJECTED", 7), (Unregistered(), "SUBSCRIBER_ABSENT", 5)],
)
def test_an_agent_who_does_not_take_the_call_is_left_alone_for_a_while(
    behaviour: object, cause: str, delay: int
) -> None:
    stage = Stage()
    stage.agent.busy_delay_time, stage.agent.reject_delay_time = 4, 7
    stage.sim.set_behaviour("1001@default", behaviour)  # type: ignore[arg-type]
    stage.sim.call("+12025550100")
    stage.clock.advance(1)
    assert [event["CC-Hangup-Cause"] for event in stage.named("bridge-agent-fail")] == [cause]
    assert stage.agent.ready_time == int(stage.named("bridge-agent-fail")[0]["CC-Agent-Aborted-Time"]) + delay
    assert stage.agent.state == "Waiting"


def test_an_agent_who_never_answers_is_sent_on_break() -> None:
    stage = Stage()
    stage.agent.contact = "[leg_timeout=2]" + stage.agent.contact
    stage.agent.max_no_answer = 2
    stage.sim.set_behaviour("1001@default", Silent())
    stage.sim.call("+12025550100")
    stage.clock.advance(8)
    assert stage.agent.status == "On Break"
    assert stage.named("agent-max-no-answer")[0]["CC-Agent-No-Answer-Count"] == "2"


def test_an_agent_on_demand_is_idle_after_a_talk() -> None:
    stage = Stage()
    stage.sim.set_status("1001@default", "Available (On Demand)")
    stage.sim.call("+12025550100", hangs_up_after_talk=1.0)
    stage.clock.advance(5)
    assert stage.agent.state == "Idle"


def test_the_agents_row_counts_the_talk() -> None:
    stage = Stage()
    stage.sim.call("+12025550100", hangs_up_after_talk=4.0)
    stage.clock.advance(8)
    agent = stage.agent
    assert (agent.calls_answered, agent.talk_time, agent.no_answer_count) == (1, 4, 0)
    assert agent.last_bridge_end == int(stage.named("bridge-agent-end")[0]["CC-Bridge-Terminated-Time"])


def test_a_call_outside_of_the_queue_counts_and_keeps_the_queue_away() -> None:
    stage = Stage()
    stage.send(
        "bgapi originate sofia/internal/1001@127.0.0.1:5090 'callcenter_track:1001@default,park:' inline"
    )
    stage.clock.advance(1)
    assert stage.agent.external_calls_count == 1
    stage.sim.call("+12025550100")
    stage.clock.advance(2)
    assert not stage.named("agent-offering")
    stage.api(f"uuid_kill {next(iter(stage.sim.switch.channels))}")
    stage.clock.advance(1)
    assert stage.agent.external_calls_count == 0


def test_who_left_is_remembered_for_as_long_as_the_queue_says() -> None:
    stage = Stage(agents=0)
    stage.sim.call("+12025550100", name="A|B", gives_up_after=2.0)
    stage.clock.advance(3)
    data = {"arguments": "queue list members", "queue_name": "support@default"}
    request = json.dumps({"command": "callcenter_config", "data": data})
    row = json.loads(stage.api(f"json {request}"))["response"][0]
    assert (row["state"], row["session_uuid"], row["cid_name"]) == ("Abandoned", "", "A|B")
    assert int(row["abandoned_epoch"]) - int(row["joined_epoch"]) == 2
    stage.clock.advance(60)
    assert json.loads(stage.api(f"json {request}"))["response"] == []


def test_members_are_counted_while_they_wait() -> None:
    stage = Stage(agents=0)
    for number in ("+12025550100", "+12025550101"):
        stage.sim.call(number, gives_up_after=2.0)
    stage.clock.advance(5)
    assert [event["CC-Count"] for event in stage.named("members-count")] == ["1", "2", "1", "0"]


def test_a_reload_makes_everybody_waiting_and_tells_nobody() -> None:
    stage = Stage()
    core = stage.api("global_getvar core_uuid")
    stage.api(RESERVE)
    stage.frames.clear()
    assert "+OK module loaded" in stage.api("reload mod_callcenter")
    assert stage.agent.state == "Waiting"
    assert not stage.events
    assert stage.api("eval ${core_uuid}") == core


def test_no_agent_logged_in_is_another_reason_than_waiting_too_long() -> None:
    stage = Stage()
    queue = stage.sim.callcenter.queues["support@default"]
    queue.max_wait_time, queue.max_wait_time_with_no_agent = 4, 2
    stage.api(RESERVE)
    stage.sim.call("+12025550100")
    stage.clock.advance(5)
    stage.sim.set_status("1001@default", "Logged Out")
    stage.sim.call("+12025550101")
    stage.clock.advance(5)
    assert [event["CC-Cancel-Reason"] for event in stage.named("member-queue-end")] == [
        "TIMEOUT",
        "NO_AGENT_TIMEOUT",
    ]


def test_a_caller_transferred_out_of_a_talk_and_giving_up_in_the_second_queue() -> None:
    stage = Stage()
    stage.sim.add_queue("sales@default", extension="3100")
    call = stage.sim.call("+12025550100", hangs_up_after_talk=None)
    stage.clock.advance(3)
    call.transfer(to="3100")
    stage.clock.advance(3)
    call.hang_up()
    stage.clock.advance(3)
    of_queues = [
        (event["CC-Action"], event["CC-Queue"], event.get("CC-Cause"))
        for event in stage.events
        if event.get("CC-Action", "").startswith("member-queue")
    ]
    assert of_queues == [
        ("member-queue-start", "support@default", None),
        ("member-queue-start", "sales@default", None),
        ("member-queue-end", "support@default", "Terminated"),
        ("member-queue-end", "sales@default", "Cancel"),
    ]
    hangup = next(event for event in stage.named("CHANNEL_HANGUP") if event["Unique-ID"] == call.uuid)
    assert hangup["variable_cc_cause"] == "answered"
    assert hangup["variable_cc_queue_joined_epoch"] > hangup["variable_cc_queue_answered_epoch"]
    assert stage.agent.state == "Waiting"


def test_an_agent_who_answers_in_the_moment_in_which_the_caller_gives_up_is_free_again() -> None:
    rehearsal = Stage(tick=0.02)
    rehearsal.sim.call("+12025550100", hangs_up_after_talk=1.0)
    rehearsal.clock.advance(5)
    moment = rehearsal.sim.talks[0].started - Stage().clock.now()

    stage = Stage(tick=0.02)
    stage.clock.after(moment, lambda: stage.sim.api(f"uuid_kill {call.uuid}"))
    call = stage.sim.call("+12025550100")
    stage.clock.advance(5)
    assert [event["CC-Hangup-Cause"] for event in stage.named("bridge-agent-fail")] == ["ORIGINATOR_CANCEL"]
    assert stage.agent.state == "Waiting"
    assert stage.sim.switch.channels == {}


def test_in_queue_mode_the_agents_leg_leaves_the_mark_that_the_client_leg_carries() -> None:
    stage = Stage()
    stage.send(
        "bgapi originate {origination_uuid=11111111-2222-3333-4444-555555555555,ignore_early_media=true,"
        "cc_export_vars=nolocal:api_on_answer,nolocal:api_on_answer='db insert/callback/U.second/1',"
        "api_on_answer='db insert/callback/U.answered/1',api_hangup_hook='db insert/callback/U.ended/1'}"
        "sofia/gateway/main/+12025550200 &callcenter(support@default)"
    )
    stage.clock.advance(0.5)
    assert stage.api("db select/callback/U.answered") == "1"
    assert stage.api("db select/callback/U.second") == "-ERR no reply\n"
    stage.clock.advance(1)
    assert stage.api("db select/callback/U.second") == "1"
    assert stage.api("db select/callback/U.ended") == "-ERR no reply\n"
    stage.clock.advance(10)
    assert stage.api("db select/callback/U.ended") == "1"
    assert stage.sim.executed == []
