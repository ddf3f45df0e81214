"""A recall is offered to an agent on their page: what they say to it, and what becomes of it then."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from freeswitch_callback.core.facts import ClosedAs, Decision, Result, Say
from freeswitch_callback.engine import gatekeeper, offers
from freeswitch_callback.engine.daemon import Engine
from freeswitch_callback.errors import NotFound
from freeswitch_callback.ledger import Became, Filter
from freeswitch_callback.simulator import Answers, Silent
from tests.acceptance.conftest import CLIENT, House

AGENT, COLLEAGUE = "1001@default", "1002@default"


def offered(house: House, agent: str = AGENT) -> int:
    """The attempt that waits for this agent's word, once there is one and they are reserved."""
    house.until(lambda: house.ledger.at_hand(agent) is not None and house.state(agent) == "Reserved")
    attempt = house.ledger.at_hand(agent)
    assert attempt is not None
    return attempt


def says(engine: Engine, attempt: int, say: Say, agent: str = AGENT, **more: Any) -> bool:
    return engine.decide(agent, Decision(attempt, say, "anna", **more))


@pytest.fixture
def asks(house: House) -> Engine:
    """An engine that asks on the page, and one agent who is free."""
    engine = house.engine(accept_within=30.0)
    house.open_pages(engine, AGENT, COLLEAGUE)
    house.missed()
    house.free(AGENT)
    return engine


def test_nothing_is_dialled_before_the_agent_accepts(house: House, sim: Any, asks: Engine) -> None:
    attempt = offered(house)
    asks.wake()
    house.until(lambda: asks.sites[0].recaller.attempts)
    assert sim.dialled == []
    assert says(asks, attempt, Say.ACCEPT)
    house.row(phone=CLIENT, closed_as="recalled", recalloperator=AGENT)
    assert [dialled.number for dialled in sim.dialled if dialled.number == CLIENT] == [CLIENT]


def test_who_says_nothing_rests_and_a_colleague_is_asked(house: House, sim: Any) -> None:
    engine = house.engine(accept_within=0.2)
    house.open_pages(engine, AGENT, COLLEAGUE)
    house.missed()
    house.free(AGENT)
    offered(house)
    house.free(COLLEAGUE)
    attempt = offered(house, COLLEAGUE)
    house.until(lambda: house.state(AGENT) == "Waiting")
    assert says(engine, attempt, Say.ACCEPT, COLLEAGUE)
    house.row(phone=CLIENT, closed_as="recalled", recalloperator=COLLEAGUE)
    assert engine.sites[0].recaller.switchboard.rests[AGENT] > engine.clock.time()


def test_postponed_it_is_due_when_the_agent_said(house: House, sim: Any, asks: Engine) -> None:
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=15)
    assert says(asks, offered(house), Say.POSTPONE, until=until)
    row = house.row(phone=CLIENT, state="waiting", due_at=until)
    house.until(lambda: house.state(AGENT) == "Waiting" and not house.ledger.reservations())
    assert row["attempts"] == 0
    assert sim.dialled == []


def test_rejected_it_is_closed_with_the_reason(house: House, sim: Any, asks: Engine) -> None:
    assert says(asks, offered(house), Say.REJECT, reason="a known joker")
    row = house.row(phone=CLIENT, closed_as=ClosedAs.REJECTED)
    house.until(lambda: house.state(AGENT) == "Waiting" and not house.ledger.reservations())
    assert row["note"] == "a known joker"
    assert house.ledger.show(row["id"])["recall"]["closed_by"] == "anna"
    assert sim.dialled == []


def test_the_first_word_stands_and_nobody_speaks_for_another(house: House, asks: Engine) -> None:
    attempt = offered(house)
    assert not says(asks, attempt, Say.REJECT, agent=COLLEAGUE)
    assert says(asks, attempt, Say.ACCEPT)
    assert not says(asks, attempt, Say.REJECT)
    house.row(phone=CLIENT, closed_as="recalled")
    assert not says(asks, attempt, Say.REJECT)
    assert not says(asks, attempt + 1000, Say.ACCEPT)


def test_a_word_that_was_written_by_another_process_is_heard(house: House, asks: Engine) -> None:
    """PostgreSQL tells at once; else it is found when the record is asked again."""
    assert house.ledger.decide(AGENT, Decision(offered(house), Say.ACCEPT, "anna"))
    house.row(phone=CLIENT, closed_as="recalled")


def test_a_client_who_was_served_meanwhile_is_not_called(house: House, sim: Any, asks: Engine) -> None:
    attempt = offered(house)
    row = house.row(phone=CLIENT)
    recall = house.ledger.show(row["id"])["recall"]
    house.ledger.close_served(
        recall["number"], recall["scope"], ClosedAs.SERVED_INBOUND, "fs1", operator=COLLEAGUE
    )
    assert not says(asks, attempt, Say.ACCEPT)
    house.row(phone=CLIENT, closed_as="served_inbound", recalloperator=COLLEAGUE)
    house.until(lambda: house.state(AGENT) == "Waiting" and not house.ledger.reservations())
    assert sim.dialled == []


def test_an_agent_who_left_before_they_accepted_is_not_rung(house: House, sim: Any, asks: Engine) -> None:
    attempt = offered(house)
    sim.set_status(AGENT, "On Break")
    assert says(asks, attempt, Say.ACCEPT)
    house.row(phone=CLIENT, state="waiting")
    house.until(lambda: not house.ledger.reservations())
    assert sim.dialled == []


def test_a_stopping_engine_does_not_wait_for_a_word(house: House, sim: Any, asks: Engine) -> None:
    offered(house)
    house.stop(asks, within=3.0)
    assert house.row(phone=CLIENT)["state"] == "waiting"
    assert house.state(AGENT) == "Waiting"
    assert house.ledger.reservations() == []


@pytest.mark.parametrize(
    ("say", "becomes"), [(Say.REJECT, {"closed_as": "rejected"}), (Say.POSTPONE, {"state": "waiting"})]
)
def test_the_phone_that_rings_for_it_is_hung_up(house: House, sim: Any, say: Say, becomes: Any) -> None:
    sim.set_behaviour(AGENT, Silent())
    engine = house.engine()
    house.missed()
    house.free(AGENT)
    attempt = offered(house)
    assert sim.wait_for(lambda: sim.switch.channels)
    house.until(lambda: house.attempts()[0]["sent_at"] is not None)
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=5)
    assert says(engine, attempt, say, until=until if say is Say.POSTPONE else None)
    row = house.row(phone=CLIENT, **becomes)
    house.until(lambda: house.state(AGENT) == "Waiting" and not sim.switch.channels)
    assert row["attempts"] == 0
    assert AGENT not in engine.sites[0].recaller.switchboard.rests
    if say is Say.POSTPONE:
        assert abs(row["due_at"] - until) < timedelta(seconds=2)


# --- after the call ------------------------------------------------------------------------------------


@pytest.fixture
def called(house: House) -> int:
    """An attempt of the agent that is over: the client was reached, as far as FreeSWITCH can tell."""
    house.engine()
    house.missed()
    house.free(AGENT)
    house.row(phone=CLIENT, closed_as="recalled", recalloperator=AGENT)
    house.until(lambda: house.ledger.latest(AGENT) is not None)
    attempt = house.ledger.latest(AGENT)
    assert attempt is not None
    house.sim.set_status(AGENT, "Logged Out")
    return attempt


RULES: dict[str, Any] = {"retry_in": 1800.0, "most": 3, "expire": 3600.0}


def test_whoever_reached_a_machine_has_the_client_called_again(house: House, called: int) -> None:
    became = house.ledger.note_result(called, AGENT, Result.VOICEMAIL, "anna", **RULES)
    assert became is Became.WAITS
    row = house.row(phone=CLIENT, state="waiting")
    assert (row["attempts"], row["note"], row["recalldate"]) == (1, "voicemail", None)
    assert row["due_at"] - datetime.now(UTC) > timedelta(minutes=29)
    assert house.attempts()[0]["result"] == "voicemail"


def test_a_client_who_was_reached_stays_so(house: House, called: int) -> None:
    assert house.ledger.note_result(called, AGENT, Result.REACHED, "anna", **RULES) is Became.NOTED
    house.row(phone=CLIENT, closed_as="recalled", recalloperator=AGENT)


def test_after_the_last_attempt_the_wrong_person_is_the_end(house: House, called: int) -> None:
    became = house.ledger.note_result(called, AGENT, Result.WRONG_PERSON, "anna", **(RULES | {"most": 1}))
    assert became is Became.EXHAUSTED
    house.row(phone=CLIENT, closed_as="exhausted", note="wrong_person")


def test_who_has_called_again_since_has_one_recall_and_not_two(house: House, called: int) -> None:
    house.missed()
    assert house.ledger.note_result(called, AGENT, Result.VOICEMAIL, "anna", **RULES) is Became.NOTED
    assert house.ledger.open_by_state() == {"waiting": 1}


def test_nobody_tells_the_result_of_another_ones_call(house: House, called: int) -> None:
    with pytest.raises(NotFound):
        house.ledger.note_result(called, COLLEAGUE, Result.VOICEMAIL, "bert", **RULES)


def test_the_card_tells_all_that_went_before(house: House, called: int) -> None:
    recall = house.ledger.card(called).recall["id"]
    house.ledger.remark(recall, "anna", "asks for Ms. 山田")
    house.missed(timewait=77)
    newer = house.ledger.card(called)
    assert [call["timewait"] for call in newer.calls] == [77, 30]
    assert [attempt["id"] for attempt in newer.attempts] == [called]
    assert [(one["who"], one["text"]) for one in newer.remarks] == [("anna", "asks for Ms. 山田")]
    house.ledger.close_recalls(Filter(), "anna", ClosedAs.CANCELLED)
    house.ledger.purge(Filter(), "anna")
    with pytest.raises(NotFound):
        house.ledger.remark(recall, "anna", "gone")


def test_an_agents_word_is_asked_for_again_even_if_nobody_tells(
    house: House, sim: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offers, "_ASK_AGAIN", 0.1)
    engine = house.engine(accept_within=30.0)
    house.open_pages(engine, AGENT, COLLEAGUE)
    monkeypatch.setattr(engine.sites[0].recaller, "hear_decisions", lambda: None)
    sim.client(CLIENT, Answers(after=0.02, talks=0.1))
    house.missed()
    house.free(AGENT)
    assert house.ledger.decide(AGENT, Decision(offered(house), Say.ACCEPT, "anna"))
    house.row(phone=CLIENT, closed_as="recalled")


def test_nobody_is_asked_who_has_no_page_open(house: House, sim: Any) -> None:
    """Their time would run out again and again; it is offered to whoever has one, served by any engine."""
    engine = house.engine(accept_within=30.0)
    house.missed()
    house.free(AGENT)
    house.free(COLLEAGUE)
    switchboard = engine.sites[0].recaller.switchboard
    house.until(lambda: len([o for o in switchboard.operators(()) if o.free_at() is not None]) == 2)
    engine.wake()
    due = house.ledger.recall(1)
    assert due is not None

    def why() -> str:
        rules = engine.rules
        look = gatekeeper.look(
            due, {"fs1": switchboard}, rules.gates(None), lambda q: rules.recall(q).queue, engine.clock.now()
        )
        return next(str(verdict) for verdict in look if not verdict.open)

    assert why() == "agent: none of the 2 agents on duty has the page open"
    assert house.attempts() == []
    house.ledger.people.pages_open([COLLEAGUE], lasts=60.0)  # as another engine says it
    attempt = offered(house, COLLEAGUE)
    assert says(engine, attempt, Say.ACCEPT, COLLEAGUE)
    house.row(phone=CLIENT, closed_as="recalled", recalloperator=COLLEAGUE)
    assert [one["agent"] for one in house.attempts()] == [COLLEAGUE]
