"""A client whom somebody talked to meanwhile is not called back, and nobody else is meant by that."""

from __future__ import annotations

from dataclasses import replace

import pytest

from freeswitch_callback.core.gates import GateRules
from freeswitch_callback.core.numbers import NumberRules
from freeswitch_callback.core.schedule import RetryRules
from freeswitch_callback.simulator import Answers
from tests.acceptance.conftest import CLIENT, House

OTHERS = "+12025550201"
OPERATOR = "1001@default"
NEIGHBOUR = "2001@other.example"


@pytest.fixture
def house(house: House) -> House:
    """Nobody is free for a recall; who is called on purpose answers at once."""
    house.sim.client(CLIENT, Answers(after=0.02))
    house.sim.add_agent(NEIGHBOUR, status="Logged Out")
    return house


def calls_again(house: House, number: str = CLIENT) -> None:
    """The client calls in once more, is answered by the operator, and hangs up."""
    call = house.sim.call(number, to="3000", hangs_up_after_talk=None)
    house.sim.set_behaviour(OPERATOR, Answers(after=0.02))
    house.free(OPERATOR)
    assert house.sim.wait_for(lambda: call.talking)
    house.sim.set_status(OPERATOR, "Logged Out")
    call.hang_up()


def is_called(house: House, by: str = OPERATOR, number: str = CLIENT) -> None:
    """An operator calls the client from their own phone, and they talk."""
    call = house.sim.call_out(by, number)
    assert house.sim.wait_for(lambda: call.talking)
    call.hang_up()
    house.sim.wait_for(lambda: not house.sim.switch.channels)


def what_came_before_is_known(house: House) -> None:
    """Events are taken in one after the other: once a later call is on record, so is all before it."""
    house.gave_up("+12025550299")


def test_who_calls_again_and_is_answered_is_not_called_back(house: House):
    missed = house.missed()
    house.engine()
    calls_again(house)
    row = house.row(id=missed, state="closed")
    assert (row["closed_as"], row["recalloperator"]) == ("served_inbound", OPERATOR)
    assert row["recalldate"] >= row["calldate"]
    assert house.sim.dialled == []


def test_that_somebody_of_a_company_is_answered_says_nothing_of_the_others(house: House):
    house.gates = GateRules(min_wait=0.0, numbers=NumberRules(shared=frozenset({CLIENT})))
    missed = house.missed()
    house.engine()
    calls_again(house)
    is_called(house)
    what_came_before_is_known(house)
    [row] = [row for row in house.rows() if row["id"] == missed]
    assert (row["state"], row["recalldate"]) == ("waiting", None)
    assert len(house.rows()) == 2, "their own call is served all the same"


def test_whom_an_operator_called_and_talked_to_is_not_called_back(house: House):
    missed = house.missed()
    house.engine()
    is_called(house)
    row = house.row(id=missed, state="closed")
    assert (row["closed_as"], row["recalloperator"]) == ("served_outbound", OPERATOR)
    assert row["recalldate"] >= row["calldate"]
    assert house.sim.dialled == []


def test_an_answering_machine_does_not_count(house: House):
    """A talk shorter than `min_talk`."""
    missed = house.missed()
    house.engine(retry=RetryRules(min_talk=30.0))
    is_called(house)
    what_came_before_is_known(house)
    [row] = [row for row in house.rows() if row["id"] == missed]
    assert (row["state"], row["recalldate"]) == ("waiting", None)


def test_a_client_who_does_not_answer_the_operator_is_still_called_back(house: House):
    house.sim.client(CLIENT, Answers(after=60))
    missed = house.missed()
    house.engine()
    call = house.sim.call_out(OPERATOR, CLIENT)
    house.sim.wait_for(lambda: any(leg.progress for leg in house.sim.switch.channels.values()))
    call.hang_up()
    what_came_before_is_known(house)
    assert house.row(id=missed)["state"] == "waiting"


def test_what_one_tenant_does_is_not_the_others_doing(house: House):
    ours = house.missed()
    theirs = house.missed(queue="help@other.example")
    house.engine()
    is_called(house, by=NEIGHBOUR)
    row = house.row(id=theirs, state="closed")
    assert (row["closed_as"], row["recalloperator"]) == ("served_outbound", NEIGHBOUR)
    assert house.row(id=ours)["state"] == "waiting"


def test_who_is_called_while_the_engine_is_away_for_the_beginning_is_known_by_the_end(house: House):
    missed = house.missed()
    call = house.sim.call_out(OPERATOR, CLIENT)
    assert house.sim.wait_for(lambda: call.talking)
    house.engine()
    call.hang_up()
    assert house.row(id=missed, state="closed")["closed_as"] == "served_outbound"


def test_other_clients_are_none_the_wiser(house: House):
    house.sim.client(OTHERS, Answers(after=0.02))
    missed = house.missed()
    house.engine()
    is_called(house, number=OTHERS)
    what_came_before_is_known(house)
    assert house.row(id=missed)["state"] == "waiting"


def test_a_recall_of_ours_is_recalled_and_not_served(house: House):
    """Its legs are answered and bridged like any operator's call."""
    house.sim.client(CLIENT, Answers(after=0.02, talks=0.1))
    house.rules = replace(house.rules, retry=RetryRules(min_talk=0.0))
    missed = house.missed()
    house.engine()
    house.free(OPERATOR)
    assert house.row(id=missed, state="closed")["closed_as"] == "recalled"
