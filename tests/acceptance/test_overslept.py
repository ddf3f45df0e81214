"""An engine stood still just before it reserved an agent, for so long that another took its recall over."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from freeswitch_callback.core.facts import Claim, ClosedAs, Mode, Outcome, Settlement
from freeswitch_callback.engine import recaller, reconciler
from freeswitch_callback.engine.daemon import Engine
from tests.acceptance.conftest import CLIENT, House

AGENT = "1001@default"
OTHER = "+12025550177"


@pytest.fixture
def stands_still(house: House, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Once, before it reserves: another engine takes the recall over, finds that nothing was sent, gives it
    back, and strikes the reservation, of which FreeSWITCH knows nothing yet."""

    def arrange(engine: Engine, and_then: Callable[[int], object] = lambda _recall: None) -> None:
        reserve = recaller.callcenter.reserve_and_read

        def late(node: Any, agent: str, **how: Any) -> Any:
            monkeypatch.setattr(recaller.callcenter, "reserve_and_read", reserve)
            house.ledger.renew(engine.name, 0.0)
            for attempt in engine.sites[0].recaller.attempts.values():
                attempt.held_until = 0.0
            [held] = house.ledger.held()
            taken_over = house.ledger.adopt(held.claim, "another", 30.0)
            assert taken_over is not None
            house.ledger.abort(taken_over, unsent=True, released=True)
            and_then(taken_over.recall)
            return reserve(node, agent, **how)

        monkeypatch.setattr(recaller.callcenter, "reserve_and_read", late)

    return arrange


def test_the_agent_whom_it_reserves_afterwards_is_let_go(house: House, sim: Any, stands_still: Any) -> None:
    engine = house.engine()
    stands_still(engine)
    house.missed()
    house.free(AGENT)
    assert sim.wait_for(lambda: house.state(AGENT) == "Reserved")
    house.until(lambda: house.state(AGENT) == "Waiting" and house.ledger.reservations() == [])


def test_an_agent_whom_the_other_engine_has_claimed_since_stays_reserved(
    house: House, sim: Any, stands_still: Any
) -> None:
    engine = house.engine()

    def claims_with_the_same_agent(recall: int) -> None:
        claim = house.ledger.claim(
            recall, engine="another", lease=30.0, node="fs1", agent=AGENT, mode=Mode.AGENT_FIRST,
            call_uuid="c", job_uuid="j",
        )  # fmt: skip
        assert isinstance(claim, Claim)

    stands_still(engine, claims_with_the_same_agent)
    house.missed()
    house.free(AGENT)
    assert sim.wait_for(lambda: house.state(AGENT) == "Reserved")
    house.until(lambda: not engine.sites[0].recaller.ours)
    assert house.state(AGENT) == "Reserved"
    assert [one.engine for one in house.ledger.reservations()] == ["another"]


def test_an_agent_whom_another_engine_has_got_since_they_were_looked_at_is_not_let_go(
    house: House, sim: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine stood still at the end of a recall, between its look at the agent and letting them go."""
    engine = house.engine()
    read = recaller.callcenter.read_agent

    def and_then_stands_still(node: Any, agent: str) -> Any:
        monkeypatch.setattr(recaller.callcenter, "read_agent", read)
        row = read(node, agent)
        assert row is not None
        assert row.state == "Reserved"
        house.ledger.renew(engine.name, 0.0)
        for attempt in engine.sites[0].recaller.attempts.values():
            attempt.held_until = 0.0
        [held] = house.ledger.held()
        taken_over = house.ledger.adopt(held.claim, "another", 30.0)
        assert taken_over is not None
        house.ledger.settle(
            taken_over,
            Settlement(Outcome.CONNECTED, closed_as=ClosedAs.RECALLED),
            datetime.now(UTC),
            released=True,
        )
        house.missed(phone=OTHER)
        [other] = [row["recall"] for row in house.rows() if row["phone"] == OTHER]
        claim = house.ledger.claim(
            other, engine="another", lease=30.0, node="fs1", agent=AGENT, mode=Mode.AGENT_FIRST,
            call_uuid="c", job_uuid="j",
        )  # fmt: skip
        assert isinstance(claim, Claim)
        return row

    monkeypatch.setattr(recaller.callcenter, "read_agent", and_then_stands_still)
    house.missed()
    house.free(AGENT)
    house.row(phone=CLIENT, closed_as="recalled")
    house.until(lambda: not engine.sites[0].recaller.ours)
    assert house.state(AGENT) == "Reserved"
    assert [one.engine for one in house.ledger.reservations()] == ["another"]


def test_an_agent_whom_a_new_recall_has_reserved_is_not_taken_for_a_forgotten_one(
    house: House, sim: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reservation was still on record when the reconciler looked, and the agent free; a moment later they
    are Reserved for somebody else."""
    engine = house.engine()
    assert house.ledger.reserve("fs1", AGENT, engine.name) is not None
    house.free(AGENT)
    read, reads = reconciler.callcenter.read_agent, []

    def and_then_reserved(node: Any, agent: str) -> Any:
        row = read(node, agent)
        sim.roster.set_state(agent, "Reserved", if_waiting=True)
        reads.append(row.state)
        return row

    monkeypatch.setattr(reconciler.callcenter, "read_agent", and_then_reserved)
    engine.sites[0].reconciler.run(0.0)
    assert reads == ["Waiting"]
    assert house.state(AGENT) == "Reserved"
    assert house.ledger.reservations() == []
