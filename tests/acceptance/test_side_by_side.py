"""Several agents become free, or several engines look, at the same moment: nobody waits for nothing.

An agent whose recall fails for no known reason is left alone for 10 s; in these stories there is a reason.
"""

from __future__ import annotations

from typing import Any

import pytest
from gevent.event import Event as Flag

from freeswitch_callback.core.facts import Claim, Mode
from freeswitch_callback.ledger import Ledger
from freeswitch_callback.simulator import Answers
from tests.acceptance.conftest import CLIENT, House

FIRST, SECOND = "1001@default", "1002@default"
NEXT_CLIENT = "+12025550299"


def test_an_agent_who_gets_free_while_a_recall_is_being_claimed_gets_the_next(house: House, sim: Any):
    for number in (CLIENT, NEXT_CLIENT):
        sim.client(number, Answers(after=0.02, talks=0.5))
        house.missed(phone=number)
    engine = house.engine()
    claiming, go_on = Flag(), Flag()
    claim = engine.ledger.claim
    wanted: list[int] = []

    def slowly(recall: int, **options: Any) -> Any:
        wanted.append(recall)
        claiming.set()
        go_on.wait()
        return claim(recall, **options)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(engine.ledger, "claim", slowly)
        house.free(FIRST)
        assert claiming.wait(5)
        house.free(SECOND)
        house.until(lambda: len(engine.sites[0].recaller.ours) == 2)
        go_on.set()
        house.until(lambda: len(sim.dialled) == 2, timeout=5.0)
    house.until(lambda: [row["state"] for row in house.rows()] == ["closed", "closed"])
    assert {row["recalloperator"] for row in house.rows()} == {FIRST, SECOND}
    assert len(wanted) == len(set(wanted)) == 2


def test_an_agent_whose_recall_another_engine_has_taken_meanwhile_gets_the_next(house: House, sim: Any):
    sim.client(NEXT_CLIENT, Answers(after=0.02, talks=0.1))
    house.missed(phone=CLIENT)
    house.missed(phone=NEXT_CLIENT)
    engine = house.engine()
    other, claim = Ledger(house.url), engine.ledger.claim
    taken: list[Any] = []

    def too_late(recall: int, **options: Any) -> Any:
        if not taken:
            named: dict[str, Any] = {"call_uuid": "c", "job_uuid": "j", "mode": Mode.QUEUE}
            taken.append(other.claim(recall, engine="other", lease=30.0, node="fs2", agent=None, **named))
        return claim(recall, **options)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(engine.ledger, "claim", too_late)
        house.free(FIRST)
        house.until(lambda: [one.number for one in sim.dialled] == [NEXT_CLIENT], timeout=5.0)
    house.row(phone=NEXT_CLIENT, state="closed")
    assert isinstance(taken[0], Claim)
    other.close()


def test_a_recall_waits_for_the_agent_whom_the_client_knows_while_that_one_talks(house: House, sim: Any):
    sim.set_behaviour(FIRST, Answers(after=0.01))
    house.ledger.note_talk(CLIENT, "default", FIRST)
    caller = sim.call("+12025550377", to="3000", hangs_up_after_talk=None)
    house.free(FIRST)
    assert sim.wait_for(lambda: caller.talking)
    house.missed(phone=CLIENT)
    engine = house.engine(prefer_agent=60.0)
    sim.client(NEXT_CLIENT, Answers(after=0.02, talks=0.1))
    house.missed(phone=NEXT_CLIENT)
    house.free(SECOND)
    house.row(phone=NEXT_CLIENT, state="closed")
    assert [one.number for one in sim.dialled] == [NEXT_CLIENT]
    caller.hang_up()
    assert house.row(phone=CLIENT, state="closed")["recalloperator"] == FIRST
    house.stop(engine)
