"""Recalls whose time comes by itself, while an agent is free and no event tells of anything."""

from __future__ import annotations

from typing import Any

import gevent
import pytest

from freeswitch_callback.simulator import Simulator
from tests.acceptance.conftest import CLIENT, House

LONG_BEFORE_THE_POLL = 10.0


@pytest.fixture(autouse=True)
def _rarely_polled(house: House) -> None:
    house.poll = 60.0


def test_a_recall_is_made_when_it_comes_due_though_others_are_due_for_whom_nobody_is_there(
    house: House, sim: Simulator
) -> None:
    house.missed(phone="+12025550777", queue="nobody's@default")
    late = house.missed(delay=2.0)
    house.free()
    engine = house.engine()
    house.until(lambda: engine._next_look == 0.0)
    house.until(lambda: house.attempts(late), timeout=LONG_BEFORE_THE_POLL)
    house.row(phone=CLIENT, state="closed")
    assert [call.number for call in sim.dialled] == [CLIENT]


def test_a_recall_that_comes_due_while_it_is_looked_what_is_due_is_made(
    house: House, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By another process; on SQLite nobody tells of it."""
    engine = house.engine()
    due, next_due, missed = engine.ledger.due, engine.ledger.next_due, []

    def and_now_one_is_missed(*asked: Any) -> Any:
        found = due(*asked)
        if not missed:
            missed.append(house.missed())
        return found

    def asked_in_a_slow_hour(*asked: Any, **since: Any) -> Any:
        gevent.sleep(0.05)
        return next_due(*asked, **since)

    monkeypatch.setattr(engine.ledger, "due", and_now_one_is_missed)
    monkeypatch.setattr(engine.ledger, "next_due", asked_in_a_slow_hour)
    house.free()
    house.until(lambda: missed and house.attempts(missed[0]), timeout=LONG_BEFORE_THE_POLL)
