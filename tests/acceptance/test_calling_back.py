"""From the call that was missed to the client who was reached, on the simulator and both databases."""

from __future__ import annotations

import re

import pytest
from gevent.event import Event as Flag

from freeswitch_callback.core.capture import CaptureRules, Direct
from freeswitch_callback.core.dispatch import Fairness
from freeswitch_callback.core.facts import Mode
from freeswitch_callback.core.schedule import RetryRules
from freeswitch_callback.engine.daemon import NodeAddress
from freeswitch_callback.errors import DatabaseUnreachable
from freeswitch_callback.ledger import Ledger
from freeswitch_callback.simulator import Answers, Busy, Declines, Silent, Unallocated, Unregistered
from tests.acceptance.conftest import CLIENT, OURS, SUPPORT

AGENT, OTHER = "1001@default", "1002@default"


@pytest.mark.parametrize("mode", [*Mode])
def test_a_caller_who_gave_up_is_called_back_when_an_agent_gets_free(house, sim, mode):
    house.engine(mode=mode)
    house.gave_up()
    row = house.row(state="waiting")
    assert (row["phone"], row["calledid"], row["reason"], row["queue"]) == (
        CLIENT,
        "3000",
        "abandoned",
        SUPPORT,
    )
    assert sim.dialled == []

    house.free()

    row = house.row(state="closed")
    assert (row["closed_as"], row["attempts"], row["recalloperator"]) == ("recalled", 1, AGENT)
    assert row["recalldate"] is not None
    [dialled] = sim.dialled
    assert dialled.number == CLIENT
    house.until(lambda: house.state() == "Waiting")
    house.until(lambda: house.ledger.reservations() == [])
    [attempt] = house.attempts()
    assert (attempt["outcome"], attempt["mode"]) == ("connected", mode)
    assert attempt["sent_at"] <= attempt["ended_at"]
    assert sim.executed == []


@pytest.mark.parametrize("mode", [Mode.AGENT_FIRST, Mode.CLIENT_FIRST])
def test_the_operators_phone_shows_that_it_is_a_recall(house, sim, mode):
    id_ = house.missed(timewait=157, caller_name="Bob',execute_on_answer='system x")
    house.engine(mode=mode)
    house.free()
    house.row(state="closed")
    [ring] = sim.phone_log(AGENT)
    assert ring.caller_id_name == "Recall 2m37s abandoned"
    assert ring.caller_id_number == CLIENT
    assert ring.sip_headers == {
        "X-Callback-Id": str(id_),
        "X-Callback-Wait": "157",
        "X-Callback-Reason": "abandoned",
    }
    [dialled] = sim.dialled
    assert dialled.variables["origination_caller_id_number"] == OURS
    assert not any("Bob" in text for _, text in sim.commands)


@pytest.mark.parametrize("mode", [*Mode])
@pytest.mark.parametrize(
    ("behaviour", "outcome", "state"),
    [
        (Busy(), "busy", "waiting"),
        (Declines(), "client_rejected", "waiting"),
        (Unallocated(), "unallocated", "closed"),
    ],
)
def test_a_client_who_is_not_reached_is_tried_again_or_not(house, sim, mode, behaviour, outcome, state):
    sim.client(CLIENT, behaviour)
    house.missed()
    house.engine(mode=mode)
    house.free()
    house.until(lambda: [a["outcome"] for a in house.attempts()] == [outcome])
    row = house.row(state=state)
    assert row["attempts"] == 1
    house.until(lambda: house.state() == "Waiting")
    house.until(lambda: house.ledger.reservations() == [])
    assert len(sim.dialled) == 1


def test_a_silent_client_rings_out_and_is_due_again_later(house, sim):
    sim.client(CLIENT, Silent())
    house.missed()
    house.engine(mode=Mode.CLIENT_FIRST, ring_timeout=1.0)
    house.free()
    row = house.row(state="waiting", attempts=1)
    assert [a["outcome"] for a in house.attempts()] == ["no_answer"]
    assert row["due_at"] > house.attempts()[0]["ended_at"]


def test_the_attempts_end_and_the_recall_is_exhausted(house, sim):
    sim.client(CLIENT, Busy())
    house.missed()
    house.engine(retry=RetryRules(attempts=3, retry={"busy": 0.0, "no_answer": 0.0, "failed": 0.0}))
    house.free()
    row = house.row(state="closed")
    assert (row["closed_as"], row["attempts"]) == ("exhausted", 3)
    assert len(sim.dialled) == 3
    assert sim.most_live_calls(CLIENT) <= 1


def test_a_talk_that_was_too_short_is_tried_again(house, sim):
    house.missed()
    house.engine(retry=RetryRules(attempts=2, min_talk=30.0))
    house.free()
    row = house.row(state="waiting", attempts=1)
    assert row["recalloperator"] == AGENT
    assert [a["outcome"] for a in house.attempts()] == ["connected"]


@pytest.mark.parametrize(
    ("behaviour", "outcome"),
    [
        (Declines(), "agent_declined"),
        (Unregistered(), "agent_no_answer"),
        (Busy(), "agent_no_answer"),
    ],
)
def test_an_agent_who_is_not_there_rests_and_another_one_takes_it(house, sim, behaviour, outcome):
    sim.set_behaviour(AGENT, behaviour)
    house.missed()
    house.engine()
    house.free(AGENT)
    house.until(lambda: [a["outcome"] for a in house.attempts()] == [outcome])
    row = house.row(state="waiting")
    assert row["attempts"] == 0, "it costs the client nothing"
    assert sim.dialled == [], "the client's phone did not ring"
    house.until(lambda: house.state(AGENT) == "Waiting")
    house.free(OTHER)
    assert house.row(state="closed")["recalloperator"] == OTHER
    assert len(sim.phone_log(AGENT)) <= 1


def test_two_calls_of_one_number_are_one_recall(house, sim):
    house.engine()
    house.gave_up()
    house.gave_up()
    assert [r["state"] for r in house.rows()] == ["waiting", "waiting"]
    assert len({r["recall"] for r in house.rows()}) == 1
    house.free()
    house.until(lambda: [r["state"] for r in house.rows()] == ["closed", "closed"])
    assert len(sim.dialled) == 1


def test_several_clients_are_called_at_once_as_many_as_there_are_free_agents(house, sim):
    numbers = [f"+1202555020{i}" for i in range(1, 4)]
    for number in numbers:
        sim.client(number, Answers(after=0.01))
        house.missed(phone=number)
    house.engine()
    house.free(AGENT)
    house.free(OTHER)
    sim.wait_for(lambda: sum(sim.live_calls(n) for n in numbers) == 2)
    assert {house.state(AGENT), house.state(OTHER)} == {"Reserved"}
    house.until(lambda: [r["state"] for r in house.rows()].count("connected") == 2)
    assert len(sim.dialled) == 2


def test_callers_who_wait_now_come_first(house, sim):
    house.missed()
    house.engine()
    live = sim.call("+12025550111", to="3000", hangs_up_after_talk=0.1)
    assert sim.wait_for(lambda: house.waits(live))
    house.free()
    assert sim.wait_for(lambda: live.talking)
    assert sim.dialled == []
    live.ended.wait(timeout=5)
    assert house.row(state="closed")["recalloperator"] == AGENT


def test_recall_first_takes_the_agent_from_the_line_when_it_is_told_to(house, sim):
    house.missed()
    house.engine(fairness=Fairness.RECALL_FIRST)
    live = sim.call("+12025550111", to="3000")
    assert sim.wait_for(lambda: house.waits(live))
    house.free()
    house.row(state="closed", recalloperator=AGENT)
    live.hang_up()


def test_an_agent_in_wrap_up_is_called_when_it_ends_though_no_event_tells(house, sim):
    agent = sim.agent(AGENT)
    agent.wrap_up_time, agent.last_bridge_end = 2, int(sim.clock.now())
    house.missed()
    house.engine()
    house.free()
    house.row(state="closed")
    [ring] = sim.phone_log(AGENT)
    assert ring.at >= agent.last_bridge_end + 2


def test_wrap_up_after_a_recall_is_kept_and_ends_in_time(house, sim):
    sim.agent(AGENT).wrap_up_time = 2
    sim.client("+12025550201", Answers(after=0.02, talks=0.1))
    house.missed()
    house.missed(phone="+12025550201")
    house.engine()
    house.free()
    house.until(lambda: [r["state"] for r in house.rows()] == ["closed", "closed"])
    first, second = sim.phone_log(AGENT)
    ended = house.attempts(1)[0]["ended_at"].timestamp()
    assert int(ended) + 2 <= second.at < ended + 4
    whats = [entry["what"] for id_ in (1, 2) for entry in house.ledger.show(id_)["journal"]]
    assert "aborted" not in whats
    assert first.at < second.at


def test_an_agent_whose_phone_is_in_use_is_left_alone(house, sim):
    sim.set_behaviour(AGENT, Answers(after=0.01))
    call = sim.direct_call("+12025550122", "1001", behaviour=None, hangs_up_after_talk=None)
    assert sim.wait_for(lambda: call.talking)
    house.missed()
    house.engine()
    house.free()
    house.until(lambda: any("agent list" in text for _, text in sim.commands))
    assert sim.dialled == []
    call.hang_up()
    assert house.row(state="closed")["recalloperator"] == AGENT


def test_an_agent_who_turns_out_not_to_be_free_after_all_is_given_back(house, sim):
    """+OK tells only that the row was Waiting: it says so in wrap-up, too, and no event had told of that."""
    house.poll = 60.0
    house.missed()
    house.engine()
    sim.agent(AGENT).ready_time = int(sim.clock.now()) + 3600
    house.free()
    assert sim.wait_for(lambda: any("state_if_waiting" in text for _, text in sim.commands))
    house.until(lambda: house.state() == "Waiting")
    house.until(lambda: house.ledger.reservations() == [])
    house.row(state="waiting")
    assert sim.dialled == []
    assert sim.phone_log(AGENT) == []


def test_an_agent_whom_the_queue_reserves_meanwhile_is_the_queues(house, sim):
    house.poll = 60.0
    house.missed()
    house.engine()
    sim.agent(AGENT).state = "Reserved"
    house.free()
    assert sim.wait_for(lambda: any("state_if_waiting" in text for _, text in sim.commands))
    house.until(lambda: house.ledger.reservations() == [])
    assert house.state() == "Reserved", "somebody else holds them"
    assert sim.dialled == []


def test_one_node_that_is_away_does_not_hurt_the_other(house, sim):
    house.other_nodes = [NodeAddress("fs2", "127.0.0.1", 1, "x")]
    house.engine()
    house.gave_up()
    house.free()
    assert house.row(state="closed")["closed_as"] == "recalled"


def test_events_that_make_no_sense_stop_nothing(house, sim):
    house.engine()
    for number in (
        "Bob%0AEvent-Name: FORGED",
        "Bob\n\napi system x",
        "\x0b\x1c\u2028X: 1",
        "a" * 70_000,
        "%zz",
    ):
        house.gave_up(number, name=number[:500])
    house.missed()
    house.free()
    assert house.row(closed_as="recalled")["phone"] == CLIENT
    assert [d.number for d in sim.dialled] == [CLIENT]
    assert sim.executed == []
    assert not any("system" in text or "FORGED" in text for _, text in sim.commands)


def test_a_gateway_that_is_not_there_is_said_and_not_tried_over_and_over(house, sim):
    house.missed()
    house.missed(phone="+12025550201")
    engine = house.engine(mode=Mode.CLIENT_FIRST, dial_string="sofia/gateway/nowhere/{number}")
    house.free()
    house.until(lambda: any(a["outcome"] for a in house.attempts(1) + house.attempts(2)))
    [attempt] = [a for a in house.attempts(1) + house.attempts(2) if a["outcome"]]
    assert (attempt["outcome"], attempt["hangup_cause"]) == ("failed", "INVALID_GATEWAY")
    assert all(row["attempts"] == 0 for row in house.rows())
    house.until(lambda: house.state() == "Waiting")
    house.until(lambda: house.ledger.reservations() == [])
    recaller = engine.sites[0].recaller
    house.until(lambda: not recaller.ours)
    recaller.round()
    assert not recaller.ours, "every other recall would fail the same way"


def test_an_agent_whom_somebody_has_changed_meanwhile_is_left_as_they_are(house, sim):
    house.missed()
    house.engine()
    sim.client(CLIENT, Answers(after=0.01))
    house.free()
    house.row(state="connected")
    sim.api(f"callcenter_config agent set state {AGENT} Idle")
    house.hang_up_the_recall()
    house.row(state="closed")
    house.until(lambda: house.ledger.reservations() == [])
    assert house.state() == "Idle"


def test_the_agent_is_free_again_though_the_database_is_away(house, sim, monkeypatch):
    """The outcome waits for the database; the agent does not."""
    sim.client(CLIENT, Answers(after=0.01))
    house.missed()
    engine = house.engine()
    house.free()
    house.row(state="connected")
    away = Flag()

    def settle(*args, **named):
        if away.is_set():
            return Ledger.settle(engine.ledger, *args, **named)
        raise DatabaseUnreachable("the database is away")

    monkeypatch.setattr(engine.ledger, "settle", settle)
    house.hang_up_the_recall()
    house.until(lambda: house.state() == "Waiting")
    assert house.row()["state"] == "connected"
    away.set()
    assert house.row(state="closed")["closed_as"] == "recalled"
    house.until(lambda: house.ledger.reservations() == [])


def test_a_recall_that_somebody_else_has_is_not_asked_for_over_and_over(house, sim):
    """An agent whom another engine's row holds: one look, then a pause, and somebody else takes it."""
    house.missed()
    recall = house.missed(phone="+12025550299")
    claim = house.ledger.claim(
        house.ledger.show(recall)["recall"]["id"], engine="other", lease=60.0, node="fs1", agent=AGENT,
        mode=Mode.AGENT_FIRST, call_uuid="c", job_uuid="j",
    )  # fmt: skip
    assert claim is not None
    engine = house.engine()
    claims = []
    original = engine.ledger.claim
    engine.ledger.claim = lambda *args, **kwargs: claims.append(kwargs["agent"]) or original(*args, **kwargs)
    house.free(AGENT)
    house.until(lambda: claims)
    for _ in range(300):  # takes a while, in which a loop would go round many times
        house.rows()
    assert len(claims) < 4
    house.free(OTHER)
    assert house.row(closed_as="recalled")["recalloperator"] == OTHER


def test_a_client_who_calls_again_and_is_answered_is_not_called_back(house, sim):
    house.missed()
    house.engine()
    call = sim.call(CLIENT, to="3000", hangs_up_after_talk=0.05)
    assert sim.wait_for(lambda: house.waits(call))
    house.free()
    assert house.row(state="closed")["closed_as"] == "served_inbound"
    assert sim.dialled == []


def test_a_recall_that_the_client_ends_in_the_queue_is_no_new_missed_call(house, sim):
    sim.client(CLIENT, Answers(after=0.01, hangs_up=0.3))
    sim.set_behaviour(AGENT, Silent())
    house.missed()
    house.engine(mode=Mode.QUEUE)
    house.free()
    house.row(state="waiting", attempts=1)
    assert [a["outcome"] for a in house.attempts()] == ["client_hung_up"]
    assert len(house.rows()) == 1


@pytest.mark.parametrize(
    ("extension", "behaviour", "reason"), [("busy7001", None, "busy"), ("desk7002", Silent(), "no_answer")]
)
def test_a_call_straight_to_an_extension_is_called_back_by_its_queue(
    house, sim, extension, behaviour, reason
):
    house.capture = CaptureRules(direct=(Direct("default", re.compile(r"^[a-z]+700\d$"), SUPPORT),))
    house.engine()
    sim.direct_call(CLIENT, extension, behaviour=behaviour, rings=1)
    row = house.row(state="waiting")
    assert (row["reason"], row["operator"], row["queue"]) == (reason, extension, SUPPORT)
    house.free()
    assert house.row(state="closed")["closed_as"] == "recalled"


def test_what_may_not_be_called_is_recorded_with_the_reason_and_never_dialled(house, sim):
    house.engine()
    for number in ("anonymous", "+18765551234", "+1900\nEvent-Name", "100,loopback/900"):
        house.gave_up(number)
    house.free()
    house.missed()
    house.row(closed_as="recalled")
    blocked = {row["phone"]: row["note"] for row in house.rows() if row["closed_as"] == "blocked"}
    assert set(blocked) == {"anonymous", "+18765551234", "+1900\nEvent-Name", "100,loopback/900"}
    assert all(blocked.values())
    assert [d.number for d in sim.dialled] == [CLIENT]
    assert sim.executed == []
