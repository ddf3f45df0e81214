"""The conversation on the Event Socket."""

from __future__ import annotations

import json

from tests.unit.simulator.stage import Stage


def test_nothing_is_answered_before_the_password() -> None:
    stage = Stage(listens=False)
    assert stage.send("api status") == "-ERR command not found"
    assert stage.send("auth wrong").startswith("-ERR invalid")
    assert stage.closed


def test_a_background_job_takes_the_name_that_it_is_given() -> None:
    stage = Stage()
    stage.send("bgapi status\nJob-UUID: mine")
    assert "Job-UUID: mine" in stage.frames[0]
    job = stage.named("BACKGROUND_JOB")[0]
    assert job["Job-UUID"] == "mine"
    assert job["Job-Command"] == "status"
    assert job["_body"].startswith("UP 0 years")


def test_the_inner_body_has_a_length_of_its_own() -> None:
    stage = Stage()
    stage.send("bgapi echo hällo\nJob-UUID: j")
    frame = stage.frames[-1]
    outer, _, text = frame.partition("\n\n")
    assert f"Content-Length: {len(text.encode())}" in outer
    headers, _, body = text.partition("\n\n")
    assert headers.endswith(f"Content-Length: {len('hällo'.encode())}")
    assert body == "hällo"


def test_the_reply_comes_before_the_events_of_its_command() -> None:
    stage = Stage()
    stage.api("callcenter_config agent set status 1001@default 'On Break'")
    assert "api/response" in stage.frames[0]
    assert "agent-status-change" in stage.frames[1]


def test_the_reply_comes_before_what_other_connections_hear_of_the_command() -> None:
    stage = Stage(listens=False)
    said: list[bytes] = []
    asks, hears = (stage.sim.attach(said.append, lambda: None) for _ in range(2))
    asks.receive(b"auth ClueCon\n\n")
    hears.receive(b"auth ClueCon\n\nevent plain CUSTOM callcenter::info\n\n")
    said.clear()
    command = b"api callcenter_config agent set status 1001@default"
    asks.receive(b"%s 'On Break'\n\n%s Available\n\n" % (command, command))
    assert ["api/response" in frame.decode() for frame in said] == [True, True, False, False]


def test_a_command_holds_back_those_behind_it_and_the_events_of_its_connection() -> None:
    stage = Stage()
    stage.client.receive(b"api msleep 3000\n\nbgapi originate sofia/gateway/main/+12025550200 &park()\n\n")
    stage.sim.set_status("1001@default", "On Break")
    stage.clock.advance(2.9)
    assert stage.frames == []
    assert stage.sim.dialled == []
    stage.clock.advance(0.1)
    assert stage.named("agent-status-change")
    assert [dialled.number for dialled in stage.sim.dialled] == ["+12025550200"]


def test_what_was_received_runs_although_the_client_has_gone() -> None:
    stage = Stage()
    stage.client.receive(b"api msleep 3000\n\nbgapi originate sofia/gateway/main/+12025550200 &park()\n\n")
    stage.client.part()
    stage.clock.advance(4)
    assert len(stage.sim.dialled) == 1
    assert stage.frames == []


def test_a_newline_starts_a_header_and_a_blank_line_the_next_command() -> None:
    stage = Stage()
    stage.send("bgapi echo Bob\nJob-UUID: forged\n\napi system touch x")
    assert stage.named("BACKGROUND_JOB")[0]["Job-UUID"] == "forged"
    assert stage.sim.executed == ["system touch x"]
    assert [text for _, text in stage.sim.commands[-2:]] == [
        "bgapi echo Bob\nJob-UUID: forged",
        "api system touch x",
    ]


def test_an_originate_in_the_foreground_is_answered_when_the_leg_is() -> None:
    stage = Stage()
    assert (
        stage.api("originate {origination_uuid=U,ignore_early_media=true}sofia/gateway/main/1 &park()") == ""
    )
    stage.clock.advance(1)
    assert stage.replies == ["+OK U\n"]
    assert stage.api("show channels").endswith("\n2 total.\n")


def test_commands_may_arrive_in_pieces() -> None:
    stage = Stage()
    for byte in b"api echo x\n\n":
        stage.client.receive(bytes([byte]))
    assert stage.replies == ["x"]


def test_only_what_was_asked_for_is_sent() -> None:
    stage = Stage(listens=False)
    stage.send("auth ClueCon")
    stage.send("event plain CHANNEL_HANGUP CUSTOM callback::missed")
    stage.sim.direct_call("+12025550100", "busy7001", hook=True)
    stage.clock.advance(10)
    assert {event["Event-Name"] for event in stage.events} == {"CHANNEL_HANGUP", "CUSTOM"}
    stage.send("nixevent CHANNEL_HANGUP")
    stage.frames.clear()
    stage.sim.direct_call("+12025550100", "busy7001", hook=True)
    stage.clock.advance(10)
    assert {event["Event-Name"] for event in stage.events} == {"CUSTOM"}


def test_a_filter_lets_only_its_events_through() -> None:
    stage = Stage()
    assert (
        stage.send("filter CC-Action agent-status-change")
        == "+OK filter added. [CC-Action]=[agent-status-change]"
    )
    stage.sim.call("+12025550100", gives_up_after=0.05)
    stage.sim.set_status("1001@default", "On Break")
    stage.clock.advance(3)
    assert [event["CC-Action"] for event in stage.events] == ["agent-status-change"]


def test_a_value_is_encoded_once_whatever_it_holds() -> None:
    stage = Stage()
    stage.sim.call("+12025550100", name="100% \n☎ a:b%20", gives_up_after=1)
    stage.clock.advance(2)
    created = next(frame for frame in stage.frames if "CHANNEL_CREATE" in frame)
    assert "Caller-Caller-ID-Name: 100%25%20%0A%E2%98%8E%20a%3Ab%2520\n" in created


def test_events_in_json() -> None:
    stage = Stage(listens=False)
    stage.send("auth ClueCon")
    stage.send("event json BACKGROUND_JOB")
    stage.send("bgapi echo ☎")
    head, _, body = stage.frames[-1].partition("\n\n")
    assert head == f"Content-Length: {len(body.encode())}\nContent-Type: text/event-json"
    event = json.loads(body)
    assert (event["Event-Name"], event["_body"]) == ("BACKGROUND_JOB", "☎")


def test_exit_is_answered_with_a_notice() -> None:
    stage = Stage()
    stage.send("exit")
    assert stage.replies[0] == "+OK bye"
    assert "text/disconnect-notice" in stage.frames[-1]
    assert stage.closed


def test_replies_can_be_held_back_while_events_go_out() -> None:
    stage = Stage()
    stage.sim.hold_replies()
    stage.api("callcenter_config agent set state_if_waiting 1001@default Reserved")
    assert stage.replies == []
    assert stage.agent.state == "Reserved"
    assert stage.named("agent-state-change")
    stage.sim.release_replies()
    assert stage.replies == ["+OK\n"]
