"""While an agent and a client are being brought together, what has become of others waits for a moment."""

from __future__ import annotations

from typing import Any

import pytest
from gevent.event import Event as Flag

from freeswitch_callback.engine import recaller
from freeswitch_callback.simulator import Answers
from tests.acceptance.conftest import CLIENT, House

FIRST, SECOND = "1001@default", "1002@default"
OTHER = "+12025550177"


@pytest.fixture
def one_talks_one_is_ordered(house: House, monkeypatch: pytest.MonkeyPatch) -> tuple[House, Flag, list[str]]:
    """A recall whose client talks, and another that is being claimed until the flag is set; and what the
    ledger is told."""
    go_on, told = Flag(), []
    engine = house.engine()
    ledger = engine.ledger
    claim, settle = ledger.claim, ledger.settle

    def slow_claim(*arguments: Any, **named: Any) -> Any:
        told.append("claiming")
        go_on.wait()
        told.append("claimed")
        return claim(*arguments, **named)

    def noted_settle(*arguments: Any, **named: Any) -> Any:
        told.append("settled")
        return settle(*arguments, **named)

    house.sim.client(CLIENT, Answers(after=0.02, talks=3600.0))
    house.missed()
    house.free(FIRST)
    house.until(lambda: house.row(phone=CLIENT)["state"] == "connected")
    monkeypatch.setattr(ledger, "claim", slow_claim)
    monkeypatch.setattr(ledger, "settle", noted_settle)
    house.missed(phone=OTHER)
    house.free(SECOND)
    house.until(lambda: "claiming" in told)
    return house, go_on, told


def test_the_end_of_a_call_is_written_behind_the_order_of_another(
    one_talks_one_is_ordered: tuple[House, Flag, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    house, go_on, told = one_talks_one_is_ordered
    monkeypatch.setattr(recaller, "_A_MOMENT", 30.0)
    house.hang_up_the_recall()
    house.until(lambda: any(attempt.progress.ended for attempt in attempts_of(house)))
    assert told == ["claiming"]
    go_on.set()
    house.row(phone=CLIENT, state="closed")
    assert told.index("claimed") < told.index("settled")


def test_but_not_for_longer_than_a_moment(
    one_talks_one_is_ordered: tuple[House, Flag, list[str]],
) -> None:
    house, go_on, told = one_talks_one_is_ordered
    house.hang_up_the_recall()
    house.row(phone=CLIENT, state="closed")
    assert told == ["claiming", "settled"]
    go_on.set()


def attempts_of(house: House) -> list[Any]:
    return [
        attempt for engine, *_ in house._running for attempt in engine.sites[0].recaller.attempts.values()
    ]
