"""Whom to call next is known before an agent becomes free, and not called if it is not right any more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from freeswitch_callback.core.facts import ClosedAs
from freeswitch_callback.core.gates import DoNotCall
from freeswitch_callback.engine.daemon import Engine
from freeswitch_callback.ledger import Filter, Ledger
from freeswitch_callback.simulator import Answers, Simulator
from tests.acceptance.conftest import CLIENT, SUPPORT, House

FIRST, SECOND = "1001@default", "1002@default"
BORIS = "+12025550177"


@pytest.fixture
def engine(house: House, sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """One with an agent who talks for the rest of the story. The line is read seldom, and of what others
    change the engine hears when the story says so (`Engine.wake`), not a moment later by the database."""
    house.poll = 60.0
    monkeypatch.setattr(Ledger, "listen", lambda *_: None)
    sim.default_client(Answers(after=0.02, talks=3600.0))
    house.missed(phone="+12025550166")
    engine = house.engine()
    house.free(FIRST)
    house.row(phone="+12025550166", state="connected")
    return engine


def next_ones(engine: Engine) -> list[str]:
    return [recall.number for recall in engine.line.first([SUPPORT], 10)]


def wait_in_line(house: House, engine: Engine, *numbers: str) -> None:
    """Missed calls of another process, of which this engine is told."""
    for number in numbers:
        house.missed(phone=number)
    engine.wake()
    house.until(lambda: next_ones(engine) == list(numbers))


def test_an_agent_who_becomes_free_waits_for_no_look_at_the_line(
    house: House, sim: Simulator, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_in_line(house, engine, CLIENT, BORIS)

    def never(*asked: Any) -> Any:
        raise AssertionError("the line is known")

    monkeypatch.setattr(engine.ledger, "due", never)
    house.free(SECOND)
    house.row(phone=CLIENT, state="connected")
    assert [call.number for call in sim.dialled[1:]] == [CLIENT]
    house.until(lambda: next_ones(engine) == [BORIS])


def test_an_agent_whose_recall_is_over_waits_for_none_either(
    house: House, sim: Simulator, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim.client(CLIENT, Answers(after=0.02, talks=0.05))
    wait_in_line(house, engine, CLIENT, BORIS)
    looks: list[str] = []
    monkeypatch.setattr(engine.ledger, "due", lambda queues, limit: looks.append(str(queues)) or [])
    house.free(SECOND)
    house.row(phone=CLIENT, closed_as="recalled")
    house.row(phone=BORIS, state="connected")
    assert looks == []


def test_who_calls_meanwhile_and_is_more_urgent_comes_first(
    house: House, sim: Simulator, engine: Engine
) -> None:
    wait_in_line(house, engine, CLIENT)
    house.gates = replace(house.gates, priority=9)
    house.gave_up(BORIS)
    house.free(SECOND)
    house.row(phone=BORIS, state="connected")
    assert [call.number for call in sim.dialled[1:]] == [BORIS]


def test_who_was_taken_out_of_the_line_unheard_is_not_called_and_nobody_waits_for_it(
    house: House, sim: Simulator, engine: Engine
) -> None:
    wait_in_line(house, engine, CLIENT, BORIS)
    house.ledger.close_recalls(Filter(number=CLIENT), "supervisor", ClosedAs.CANCELLED)
    assert next_ones(engine) == [CLIENT, BORIS]
    house.free(SECOND)
    house.row(phone=BORIS, state="connected")
    assert [call.number for call in sim.dialled[1:]] == [BORIS]
    assert engine.sites[0].recaller._first_try.ours  # nobody was quicker


def test_who_must_not_be_called_any_more_is_not(house: House, sim: Simulator, engine: Engine) -> None:
    wait_in_line(house, engine, CLIENT, BORIS)
    house.ledger.forbid([DoNotCall(CLIENT)], by="supervisor")
    house.free(SECOND)
    house.row(phone=BORIS, state="connected")
    assert [call.number for call in sim.dialled[1:]] == [BORIS]
