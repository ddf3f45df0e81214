"""Snapshots of mod_callcenter, read from the recorded answers and from answers that are none."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from freeswitch_callback.errors import CommandFailed, ProtocolError, UnsafeValue
from freeswitch_callback.esl import callcenter
from freeswitch_callback.esl.callcenter import Agent, Member, Queue, Tier
from freeswitch_callback.esl.frames import Framer
from tests import recordings


class Answering:
    """A FreeSWITCH that gives one answer to everything, and keeps what it was asked."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def api(self, text: str, may: Callable[[], bool] = lambda: True) -> str:
        assert may()
        self.asked.append(text.strip())
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def apis(self, *texts: str, meanwhile: Callable[[], None] = lambda: None) -> list[str]:
        meanwhile()
        return [self.api(text) for text in texts]


COLUMNS = "name|instance_id|uuid|type|contact|status|state|ready_time|external_calls_count"


def recorded(name: str, question: str) -> str:
    """What FreeSWITCH answered to the first question of a recording that contains this."""
    asked = False
    for frame in recordings.frames(name):
        if frame["dir"] == "send":
            asked = asked or question in frame["data"]
        elif asked and "api/response" in frame["data"][:40]:
            framer = Framer()
            framer.feed(frame["data"].encode())
            return next(framer.frames()).body.decode()
    raise AssertionError(f"nobody asked {question} in {name}")


def rows(*response: Any, **more: Any) -> str:
    return json.dumps(
        {"command": "callcenter_config", "status": "success", "response": list(response), **more}
    )


def test_agents_as_recorded() -> None:
    node = Answering(recorded("agent_states", "json {"))
    agents = callcenter.agents(node)
    assert [agent.name for agent in agents] == ["1001@default", "1002@default", "1003@default"]
    assert agents[0] == Agent(
        name="1001@default",
        contact="[leg_timeout=8]sofia/internal/agent1001@127.0.0.1:5090",
        status="Available",
        state="Waiting",
        wrap_up_time=2,
        reject_delay_time=3,
        busy_delay_time=3,
        max_no_answer=3,
        last_bridge_start=1795378765,
        last_bridge_end=1795378770,
        last_offered_call=1795378790,
        last_status_change=1795378825,
    )
    assert agents[2].no_answer_count == 2
    assert node.asked == ['api json {"command":"callcenter_config","data":{"arguments":"agent list"}}']


def test_members_as_recorded() -> None:
    members = callcenter.members(
        Answering(recorded("recall_through_the_queue_abandoned", "json {")), "support@default"
    )
    assert members[-1] == Member(
        queue="support@default",
        uuid="811912e9-17d5-4150-a9ab-7613cde3d9d5",
        cid_number="+12025550208",
        cid_name="+12025550208",
        system_epoch=1795382308,
        joined_epoch=1795382308,
        abandoned_epoch=1795382313,
        state="Abandoned",
    )


def test_channels_as_recorded() -> None:
    first, second = callcenter.channels(Answering(recorded("duplicate_origination_uuid", "show channels")))
    assert first.uuid == "15c4893a-6011-41fc-bc42-a0776bf99b4d"
    assert (first.direction, first.callstate, first.context) == ("outbound", "ACTIVE", "default")
    assert first.created_epoch == 1795378920
    assert (second.direction, second.dest, second.context) == ("inbound", "+12025550205", "pstn")


def test_no_channels_is_an_empty_list() -> None:
    assert callcenter.channels(Answering('{"row_count":0}')) == []


def test_tiers_and_queues() -> None:
    tier = {"queue": "q", "agent": "a", "state": "No Answer", "level": "2", "position": "3"}
    assert callcenter.tiers(Answering(rows(tier))) == [
        Tier(queue="q", agent="a", state="No Answer", level=2, position=3)
    ]
    queue = {
        "name": "q",
        "strategy": "ring-all",
        "discard_abandoned_after": "600",
        "abandoned_resume_allowed": "true",
        "max_wait_time": "12",
    }
    assert callcenter.queues(Answering(rows(queue))) == [
        Queue(
            name="q",
            strategy="ring-all",
            discard_abandoned_after=600,
            abandoned_resume_allowed=True,
            max_wait_time=12,
        )
    ]


def test_columns_that_an_older_freeswitch_lacks_get_their_defaults() -> None:
    row = {"name": "a", "external_calls_count": None, "ready_time": "", "new_column": "x"}
    assert callcenter.agents(Answering(rows(row))) == [Agent(name="a")]


def test_a_contact_or_a_name_with_a_bar_in_it_moves_no_column() -> None:
    member = {"queue": "q", "uuid": "u", "cid_name": "A|B|Waiting", "state": "Abandoned"}
    assert callcenter.members(Answering(rows(member)), "q")[0].cid_name == "A|B|Waiting"


def test_lone_surrogates_and_replaced_bytes_are_text_that_can_be_stored() -> None:
    answer = rows({"queue": "q", "uuid": "u", "cid_name": "BOB"}).replace("BOB", "\\ud800\ufffd")
    name = callcenter.members(Answering(answer), "q")[0].cid_name
    assert name.encode().decode() == "\\ud800\ufffd"


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "+OK\n",
        "[]",
        '{"status":"success"}',
        '{"status":"success","response":{}}',
        rows("not a row"),
        rows({"status": "a row without a name"}),
        rows({"name": "", "uuid": "", "queue": "", "agent": ""}),
        rows(
            {
                "name": "a",
                "queue": "q",
                "agent": "a",
                "uuid": "u",
                "level": "x",
                "ready_time": "x",
                "joined_epoch": "x",
            }
        ),
        rows({"name": "a"})[:-5],
    ],
)
@pytest.mark.parametrize(
    "ask",
    [callcenter.agents, callcenter.tiers, lambda node: callcenter.members(node, "q")],
    ids=["agents", "tiers", "members"],
)
def test_an_answer_that_is_none_is_a_protocol_error(ask: Callable[[Any], Any], answer: str) -> None:
    with pytest.raises((ProtocolError, CommandFailed)) as error:
        ask(Answering(answer))
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("figure", ["9" * 30, "1.5", "٣", "1e3", "--1"])
def test_a_figure_that_no_database_takes_is_none(figure: str) -> None:
    with pytest.raises(ProtocolError, match="wrap_up_time"):
        callcenter.agents(Answering(rows({"name": "a", "wrap_up_time": figure})))


@pytest.mark.parametrize(
    "answer", ["-ERR json Command not found!\n", '{"status":"error","message":"no such queue"}']
)
def test_a_refusal_is_told_as_one(answer: str) -> None:
    with pytest.raises(CommandFailed):
        callcenter.agents(Answering(answer))


class TestReserving:
    def test_ok_is_ours(self) -> None:
        node = Answering(recorded("agent_states", "state_if_waiting"))
        assert callcenter.reserve(node, "1001@default") is True
        assert node.asked == ["api callcenter_config agent set state_if_waiting 1001@default Reserved"]

    def test_not_found_means_somebody_was_faster(self) -> None:
        assert callcenter.reserve(Answering("-ERR Agent not found!\n"), "1001@default") is False

    def test_anything_else_is_told(self) -> None:
        with pytest.raises(CommandFailed, match="Invalid"):
            callcenter.reserve(Answering("-ERR Invalid Agent State!\n"), "1001@default")

    def test_an_agent_name_that_would_be_two_words_asks_nothing(self) -> None:
        node = Answering("+OK\n")
        with pytest.raises(UnsafeValue):
            callcenter.reserve(node, "1001@default Reserved")
        assert node.asked == []

    def test_releasing_to_waiting_or_idle(self) -> None:
        node = Answering("+OK\n")
        callcenter.release(node, "1001@default", lambda: True)
        callcenter.release(node, "1001@default", lambda: True, to="Idle")
        callcenter.set_ready_at(node, "1001@default", 1795378825)
        assert node.asked == [
            "api callcenter_config agent set state 1001@default Waiting",
            "api callcenter_config agent set state 1001@default Idle",
            "api callcenter_config agent set ready_time 1001@default 1795378825",
        ]

    def test_releasing_an_agent_who_is_gone_is_told(self) -> None:
        with pytest.raises(CommandFailed):
            callcenter.release(Answering("-ERR Agent not found!\n"), "1001@default", lambda: True)

    def test_one_agent_is_asked_for_alone(self) -> None:
        """As mod_callcenter prints it (1.10.12, source): what was never set is `(null)`."""
        node = Answering(
            f"{COLUMNS}\n1002@default|single_box|(null)|callback|user/1002|Available|Waiting|7|0\n+OK\n"
        )
        assert callcenter.read_agent(node, "1002@default") == Agent(
            name="1002@default", contact="user/1002", status="Available", state="Waiting", ready_time=7
        )
        assert node.asked == ["api callcenter_config agent list 1002@default"]
        assert callcenter.read_agent(Answering("+OK\n"), "nobody") is None

    @pytest.mark.parametrize(
        "row",
        [
            "1002@default|single_box||callback|user/1|2|Available|Waiting|7|0",  # a contact with a separator
            "1002@default|single_box||callback|user/1\n1002@default||||||||0|Available|Waiting|7|0",
            "1003@default|single_box||callback|user/1002|Available|Waiting|7|0",
            "1002@default|Available|Waiting",
        ],
    )
    def test_an_answer_that_can_be_read_in_two_ways_is_not_read(self, row: str) -> None:
        contact = {"name": "1002@default", "contact": "user/1|2", "status": "Logged Out"}
        node = Answering(f"{COLUMNS}\n{row}\n+OK\n", rows({"name": "1001@default"}, contact))
        agent = callcenter.read_agent(node, "1002@default")
        assert agent == Agent(name="1002@default", contact="user/1|2", status="Logged Out")

    def test_of_all_agents_as_recorded_one_is_found(self) -> None:
        node = Answering("printed otherwise", recorded("agent_states", "json {"))
        agent = callcenter.read_agent(node, "1002@default")
        assert agent is not None
        assert agent.status == "Logged Out"
        assert callcenter.read_agent(Answering("?", recorded("agent_states", "json {")), "nobody") is None

    def test_a_refusal_to_tell_of_an_agent_is_an_error(self) -> None:
        with pytest.raises(CommandFailed):
            callcenter.read_agent(Answering("-ERR command not found\n"), "1002@default")

    def test_an_agent_is_reserved_and_read_in_one(self) -> None:
        row = "1002@default|single_box||callback|user/1002|Available|Reserved|7|0"
        node = Answering("+OK\n", f"{COLUMNS}\n{row}\n+OK\n")
        reserved, agent = callcenter.reserve_and_read(node, "1002@default")
        assert reserved
        assert agent is not None
        assert agent.state == "Reserved"
        assert node.asked == [
            "api callcenter_config agent set state_if_waiting 1002@default Reserved",
            "api callcenter_config agent list 1002@default",
        ]


class TestChannelsAndMarks:
    @pytest.mark.parametrize(("answer", "exists"), [("true", True), ("false", False)])
    def test_a_channel_is_there_or_not(self, answer: str, exists: bool) -> None:
        assert callcenter.uuid_exists(Answering(answer), "U") is exists

    def test_neither_is_no_answer(self) -> None:
        with pytest.raises(ProtocolError):
            callcenter.uuid_exists(Answering("-ERR no reply\n"), "U")

    @pytest.mark.parametrize(("answer", "left"), [("1", True), ("-ERR no reply\n", False), ("", False)])
    def test_a_mark_is_there_or_not(self, answer: str, left: bool) -> None:
        node = Answering(answer)
        assert bool(callcenter.mark(node, "U", "second")) is left
        assert node.asked == ["api db select/callback/U.second"]

    def test_the_mailbox_tells_how_it_ended_and_when_they_began_to_talk(self) -> None:
        assert callcenter.mailbox("NORMAL_CLEARING.1795442453.1795442456") == callcenter.Mailbox(
            "NORMAL_CLEARING", 1795442453, 1795442456
        )
        assert callcenter.mailbox("NO_USER_RESPONSE.0.1795442512") == callcenter.Mailbox(
            "NO_USER_RESPONSE", 0, 1795442512
        )

    @pytest.mark.parametrize(
        "text", ["", "1", "..", "X.1", "X.-1.1795442456", "x.0.1795442456", "X.0.0", "X.٣.1"]
    )
    def test_what_is_no_mailbox_tells_nothing(self, text: str) -> None:
        assert callcenter.mailbox(text) is None

    def test_marks_are_forgotten_one_by_one(self) -> None:
        node = Answering("+OK\n")
        callcenter.forget_marks(node, "U")
        assert node.asked == [
            f"api db delete/callback/U.{event}" for event in ("answered", "second", "ended")
        ]

    @pytest.mark.parametrize(("answer", "was_there"), [("+OK\n", True), ("-ERR No such channel!\n", False)])
    def test_ending_a_call(self, answer: str, was_there: bool) -> None:
        assert callcenter.uuid_kill(Answering(answer), "U") is was_there
