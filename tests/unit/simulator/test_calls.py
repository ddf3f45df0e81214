"""What the people outside see, and what the simulator says that it was told to do."""

from __future__ import annotations

import json

import pytest

from freeswitch_callback.simulator import (
    Answers,
    Busy,
    Congested,
    Declines,
    EarlyMediaOnly,
    Silent,
    Unallocated,
    Unregistered,
)
from tests.unit.simulator.stage import Stage

UUID = "11111111-2222-4333-8444-555555555555"
CLIENT = "sofia/gateway/main/+12025550200"
AGENT = "sofia/internal/1001@127.0.0.1:5090"


def recall(first: str = AGENT, second: str = CLIENT, **variables: str) -> str:
    given = {"origination_uuid": UUID, "ignore_early_media": "true", "originate_timeout": "10", **variables}
    text = ",".join(f"{name}={value}" for name, value in given.items())
    return f"bgapi originate {{{text}}}{first} &bridge({{ignore_early_media=true}}{second})\nJob-UUID: job-1"


def test_the_agent_is_called_first_and_then_talks_to_the_client() -> None:
    stage = Stage()
    stage.sim.client("+12025550200", Answers(after=0.4, talks=5.0))
    stage.send(recall(origination_caller_id_name="'Recall 37s'", origination_caller_id_number="+12025550200"))
    stage.clock.advance(0.8)
    assert stage.jobs() == [f"+OK {UUID}\n"]
    assert stage.sim.live_calls("+12025550200") == 1
    stage.clock.advance(20)
    (dialled,) = stage.sim.dialled
    assert (dialled.number, dialled.job_uuid) == ("+12025550200", "job-1")
    assert dialled.command_text.startswith("bgapi originate {")
    (talk,) = stage.sim.talks
    assert (talk.number, talk.agent, round(talk.seconds, 3)) == ("+12025550200", "1001@default", 5.0)
    assert stage.sim.live_calls("+12025550200") == 0
    assert stage.sim.most_live_calls("+12025550200") == 1
    assert stage.sim.switch.channels == {}


def test_the_agents_phone_shows_the_caller_id_and_our_headers() -> None:
    stage = Stage()
    number = {"origination_caller_id_name": "'Recall 37s'", "origination_caller_id_number": "+12025550200"}
    stage.send(recall(**number, **{"sip_h_X-Callback-Id": "7"}))
    stage.clock.advance(20)
    (ring,) = stage.sim.phone_log("1001@default")
    assert (ring.caller_id_name, ring.caller_id_number) == ("Recall 37s", "+12025550200")
    assert ring.sip_headers == {"X-Callback-Id": "7"}
    assert ring.answered


@pytest.mark.parametrize(("copies", "seen"), [("", {"X-Callback-Id": "7"}), ("false", {})])
def test_headers_of_the_first_leg_reach_the_second_unless_forbidden(
    copies: str, seen: dict[str, str]
) -> None:
    stage = Stage()
    more = {"sip_copy_custom_headers": copies} if copies else {}
    stage.send(recall(**{"sip_h_X-Callback-Id": "7"}, **more))
    stage.clock.advance(2)
    variables = stage.sim.dialled[0].variables
    assert {name[6:]: value for name, value in variables.items() if name.startswith("sip_h_")} == seen


@pytest.mark.parametrize(
    ("behaviour", "job"),
    [
        (Busy(), "-ERR USER_BUSY\n"),
        (Declines(), "-ERR CALL_REJECTED\n"),
        (Unallocated(), "-ERR UNALLOCATED_NUMBER\n"),
        (Congested(), "-ERR NORMAL_TEMPORARY_FAILURE\n"),
        (Silent(), "-ERR NO_ANSWER\n"),
        (EarlyMediaOnly(), "-ERR NO_ANSWER\n"),
        (Unregistered("USER_NOT_REGISTERED"), "-ERR USER_NOT_REGISTERED\n"),
    ],
)
def test_a_client_who_does_not_answer_fails_the_job(behaviour: object, job: str) -> None:
    stage = Stage()
    stage.sim.client("+12025550200", behaviour)  # type: ignore[arg-type]
    stage.send(recall(CLIENT, AGENT))
    stage.clock.advance(15)
    assert stage.jobs() == [job]
    assert stage.sim.phone_log("1001@default") == []
    assert stage.sim.switch.channels == {}


@pytest.mark.parametrize(
    ("ending", "job"),
    [
        ("0486", "-ERR USER_BUSY\n"),
        ("0404", "-ERR UNALLOCATED_NUMBER\n"),
        ("0480", "-ERR NO_ANSWER\n"),
        ("0503", "-ERR NORMAL_TEMPORARY_FAILURE\n"),
        ("0183", "-ERR NO_ANSWER\n"),
        ("0100", f"+OK {UUID}\n"),
    ],
)
def test_unknown_numbers_behave_by_their_last_digits(ending: str, job: str) -> None:
    stage = Stage()
    stage.send(recall(f"sofia/gateway/main/+1202555{ending}"))
    stage.clock.advance(15)
    assert stage.jobs() == [job]


def test_early_media_counts_as_answered_unless_it_is_ignored() -> None:
    stage = Stage()
    stage.sim.client("+12025550200", EarlyMediaOnly())
    stage.send(recall(CLIENT, AGENT, ignore_early_media="false"))
    stage.clock.advance(1)
    assert stage.jobs() == [f"+OK {UUID}\n"]
    assert stage.sim.talks == []


@pytest.mark.parametrize(
    ("endpoint", "cause"),
    [
        ("sofia/gateway/nowhere/+12025550200", "INVALID_GATEWAY"),
        ("sofia/nosuch/+12025550200@127.0.0.1", "INVALID_PROFILE"),
        ("user/4711", "SUBSCRIBER_ABSENT"),
        ("nosuch/1", "CHAN_NOT_IMPLEMENTED"),
    ],
)
def test_a_fault_of_the_configuration_makes_no_channel_and_no_marks(endpoint: str, cause: str) -> None:
    stage = Stage()
    stage.send(recall(endpoint, api_hangup_hook="'db insert/callback/U.ended/1'"))
    stage.clock.advance(1)
    assert stage.jobs() == [f"-ERR {cause}\n"]
    assert not stage.named("CHANNEL_CREATE")
    assert stage.sim.dialled == []
    assert stage.api("db list/callback") == "-ERR no reply\n"


def test_a_second_call_with_the_same_uuid_is_refused() -> None:
    stage = Stage()
    for _ in range(2):
        stage.send(recall(CLIENT, AGENT))
        stage.clock.advance(1)
    assert stage.jobs()[1] == "-ERR DESTINATION_OUT_OF_ORDER\n"
    assert stage.api(f"uuid_exists {UUID}") == "true"
    assert len(stage.sim.dialled) == 1


def test_one_uuid_for_two_destinations_dials_the_first_and_shows_the_attempt() -> None:
    stage = Stage()
    stage.send(recall("sofia/gateway/main/100,loopback/900", AGENT))
    stage.clock.advance(1)
    assert [dialled.number for dialled in stage.sim.dialled] == ["100"]
    assert stage.sim.executed[0] == "extra leg loopback/900"


def test_two_destinations_are_both_dialled_and_the_first_to_answer_wins() -> None:
    stage = Stage()
    stage.sim.client("+12025550201", Answers(after=2.0))
    stage.send(f"bgapi originate {CLIENT},sofia/gateway/main/+12025550201 &park()")
    stage.clock.advance(1)
    assert {dialled.number for dialled in stage.sim.dialled} == {"+12025550200", "+12025550201"}
    assert stage.sim.live_calls("+12025550201") == 0
    assert stage.sim.most_live_calls("+12025550201") == 1


def test_a_leg_timeout_ends_one_leg_and_the_next_destination_is_tried() -> None:
    stage = Stage()
    stage.sim.client("+12025550201", Silent())
    stage.send(f"bgapi originate [leg_timeout=2]sofia/gateway/main/+12025550201|{CLIENT} &park()")
    stage.clock.advance(5)
    assert [dialled.number for dialled in stage.sim.dialled] == ["+12025550201", "+12025550200"]
    assert stage.jobs()[0].startswith("+OK ")


def test_an_application_that_nobody_should_run_is_only_noted() -> None:
    stage = Stage()
    stage.send("bgapi originate sofia/gateway/main/100 '&system(touch x)' XML")
    stage.clock.advance(2)
    assert stage.sim.executed == ["system touch x"]


def test_the_mailbox_tells_afterwards_what_became_of_a_call() -> None:
    stage = Stage()
    stage.sim.client("+12025550200", Busy())
    hooks = {
        "api_on_answer": "'db insert/callback/U.answered/1'",
        "api_hangup_hook": "'db insert/callback/U.ended/1'",
    }
    stage.send(recall(AGENT, CLIENT, **hooks))
    stage.clock.advance(5)
    assert stage.api("db list/callback") == "U.answered,U.ended"
    assert stage.api("db delete/callback") == "+OK"
    assert stage.api("db delete/callback/U.ended") == "+OK"
    assert stage.api("db exists/callback/U.ended") == "false"
    assert stage.api("db select/callback/U.answered") == "1"


def test_a_long_list_is_cut_in_the_middle_of_a_key() -> None:
    stage = Stage()
    for number in range(200):
        stage.api(f"db insert/callback/{number:036}/1")
    assert len(stage.api("db list/callback")) == 4095


def test_a_caller_who_cancels_while_an_extension_rings() -> None:
    stage = Stage()
    call = stage.sim.direct_call("+12025550100", "mute7002", gives_up_after=2.0)
    stage.clock.advance(3)
    hangup, complete = (
        next(event for event in stage.named(name) if event["Unique-ID"] == call.uuid)
        for name in ("CHANNEL_HANGUP", "CHANNEL_HANGUP_COMPLETE")
    )
    assert hangup["Hangup-Cause"] == "ORIGINATOR_CANCEL"
    assert hangup["variable_originate_disposition"] == "failure"
    assert hangup["variable_sip_hangup_disposition"] == "recv_cancel"
    assert complete["variable_originate_disposition"] == "ORIGINATOR_CANCEL"
    assert call.ended.is_set()


def test_an_agent_in_a_call_is_busy_for_the_next() -> None:
    stage = Stage()
    stage.sim.direct_call("+12025550100", "1001", hangs_up_after_talk=60.0)
    stage.clock.advance(2)
    stage.send(recall())
    stage.clock.advance(2)
    assert stage.jobs()[-1] == "-ERR USER_BUSY\n"
    assert [ring.answered for ring in stage.sim.phone_log("1001@default")] == [True, False]
    rows = json.loads(stage.api("show channels as json"))["rows"]
    assert "sofia/internal/1001@127.0.0.1:5090" in [row["name"] for row in rows]


def test_a_changed_behaviour_does_not_forget_the_call_that_is_up() -> None:
    stage = Stage()
    stage.sim.direct_call("+12025550100", "1001", hangs_up_after_talk=60.0)
    stage.clock.advance(2)
    stage.sim.set_behaviour("1001@default", Answers(after=0.1))
    stage.send(recall())
    stage.clock.advance(2)
    assert stage.jobs()[-1] == "-ERR USER_BUSY\n"


def test_somebody_picked_out_of_the_queue_has_talked() -> None:
    stage = Stage(agents=0)
    stage.sim.add_agent("1002@default", status="Logged Out")
    call = stage.sim.call("+12025550100", hangs_up_after_talk=3.0)
    stage.clock.advance(1)
    call.intercept(by="1002@default")
    stage.clock.advance(10)
    assert [(talk.number, talk.agent) for talk in stage.sim.talks] == [("+12025550100", "1002@default")]
    assert stage.named("member-queue-end")[0]["CC-Cancel-Reason"] == "BREAK_OUT"
    assert call.ended.is_set()


def test_uuid_bridge_connects_a_waiting_caller() -> None:
    stage = Stage(agents=0)
    stage.sim.add_agent("1002@default", status="Logged Out")
    call = stage.sim.call("+12025550100", hangs_up_after_talk=3.0)
    stage.send(f"bgapi originate {{origination_uuid={UUID}}}sofia/internal/1002@127.0.0.1:5090 &park()")
    stage.clock.advance(2)
    assert stage.api(f"uuid_bridge {UUID} {call.uuid}") == f"+OK {call.uuid}\n"
    stage.clock.advance(10)
    assert [talk.number for talk in stage.sim.talks] == ["+12025550100"]
    assert stage.sim.switch.channels == {}


def test_a_request_to_be_called_back() -> None:
    stage = Stage(agents=0)
    stage.sim.call("+12025550100", presses_key=(2.0, "1"), requests_callback=True)
    stage.clock.advance(5)
    (request,) = [event for event in stage.events if event.get("Event-Subclass") == "callback::request"]
    assert request["variable_cc_cancel_reason"] == "EXIT_WITH_KEY"


def test_the_dialplan_reports_a_missed_direct_call() -> None:
    stage = Stage()
    call = stage.sim.direct_call("+12025550100", "mute7005", hook=True, rings=3)
    stage.clock.advance(5)
    (missed,) = [event for event in stage.events if event.get("Event-Subclass") == "callback::missed"]
    assert (missed["Callback-Operator"], missed["Unique-ID"]) == ("7005", call.uuid)
    assert missed["variable_originate_disposition"] == "NO_ANSWER"
    assert stage.api("db list/callback") == call.uuid


def test_without_legs_of_the_world_only_ours_are_seen() -> None:
    stage = Stage(world_legs=False)
    stage.sim.call("+12025550100", hangs_up_after_talk=1.0)
    stage.clock.advance(5)
    assert {event["Caller-Context"] for event in stage.named("CHANNEL_CREATE")} == {"default"}
    assert [event["Channel-Name"].split("/")[1] for event in stage.named("CHANNEL_CREATE")] == [
        "internal",
        "internal",
    ]
    assert len(stage.sim.talks) == 1
    assert stage.jobs() == []


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("uuid_exists nobody", "false"),
        ("uuid_kill nobody", "-ERR No such channel!\n"),
        ("uuid_getvar nobody x", "-ERR No such channel!\n"),
        ("module_exists mod_callcenter", "true"),
        ("module_exists mod_nosuch", "false"),
        ("hostname", "sim1"),
        ("show channels as json", '{"row_count":0}'),
        ("show calls count", "\n0 total.\n"),
        ("hash insert/a/b/c", "+OK"),
        ("hash select/a/nothing", "-ERR no reply\n"),
        ("callcenter_config nonsense", "-ERR Invalid!\n"),
        ("nosuchapi", "-ERR nosuchapi Command not found!\n"),
        ("json nonsense", "-ERR Invalid JSON!\n"),
        ("originate nonsense", "-USAGE: <call url> "),
    ],
)
def test_commands_that_a_person_would_try(command: str, answer: str) -> None:
    assert Stage().api(command).startswith(answer)
