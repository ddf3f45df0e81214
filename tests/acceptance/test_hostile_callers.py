"""What strangers send as number, name and header goes through every door, and never into a command."""

from __future__ import annotations

import re
import uuid
from dataclasses import replace

import pytest

from freeswitch_callback.core.capture import CaptureRules, Direct
from freeswitch_callback.core.cdr import from_cdr
from freeswitch_callback.core.facts import Reason
from freeswitch_callback.core.gates import opening
from freeswitch_callback.core.numbers import NumberRules
from freeswitch_callback.ledger.models import clean
from freeswitch_callback.simulator import Answers
from tests import hostile
from tests.acceptance.conftest import CLIENT, SUPPORT
from tests.recordings import cdr

RULES = NumberRules(default_region="DE", allow=frozenset({"DE", "RU", "US"}), own=frozenset({hostile.OWN}))
GOOD = {"+4930123456": "+4930123456", "030 123457": "+4930123457", "+7 495 123-45-67": "+74951234567"}
MEANT_WELL = {"+49(0)30123456"}
"""Of the values: a German number as people print it."""


@pytest.fixture
def house(house):
    house.gates = replace(house.gates, numbers=RULES)
    house.capture = CaptureRules(
        variables=("crm_id",), direct=(Direct("default", re.compile("^mute"), SUPPORT),)
    )
    return house


def sent(sim):
    """Every command that the switch received so far, with identifiers, figures and our own reasons masked."""
    ours = re.compile(
        rf"[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}|\b\d+s?\b|\b({'|'.join(Reason)})\b"
    )
    return {ours.sub("#", text) for _, text in sim.commands}


def stored(value):
    """As it came, but for bytes that are no text, which are shown; `_undef_` is FreeSWITCH's for nothing."""
    if value == "_undef_":
        return ""
    return clean(value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"))


def calls(house, sim, values):
    """Each value calls as number, as name and as header: into the queue, straight, by the dialplan's hook."""
    begun = []
    for value in values:
        header = {"crm_id": value}
        begun.append(sim.call(value, to="3000", name=value, variables=header, gives_up_after=0.0))
        begun.append(sim.call(value, name=value, presses_key=(0.0, "1"), requests_callback=True))
        begun.append(sim.direct_call(value, name=value, hook=True, gives_up_after=0.0))
    assert sim.wait_for(lambda: all(call.ended.is_set() for call in begun), timeout=60)
    told = {call.uuid for call in begun}
    house.until(lambda: told <= {r["call_uuid"] for r in house.rows() if r["hangup_cause"]}, timeout=60)


@pytest.mark.timeout(180)
def test_nothing_that_a_caller_sends_becomes_part_of_a_command_and_the_good_are_called(house, sim):
    sim.default_client(lambda _number, _random: Answers(after=0.01, talks=0.02))
    engine = house.engine()
    house.free()
    house.free("1002@default")
    house.missed(phone=CLIENT)
    house.row(closed_as="recalled")
    house.until(lambda: sum("db delete" in text for _, text in sim.commands) == 3)
    house.until(lambda: house.state() == "Waiting")
    house.sim.set_status("1001@default", "On Break")
    house.sim.set_status("1002@default", "On Break")
    innocent = sent(sim)  # what an engine says to FreeSWITCH that has met nobody but one well-behaved client

    values = [value for value in [*hostile.EVERYTHING, *GOOD] if value != "\ud800"]  # no network sends that
    calls(house, sim, values)
    recorded = {row["phone"] for row in house.rows()}
    assert {stored(value) for value in values} <= recorded
    house.free()
    house.free("1002@default")
    engine.wake()
    house.until(lambda: not [row for row in house.rows() if row["state"] != "closed"], timeout=60)

    callable_ones = {*GOOD.values(), CLIENT}
    assert {dialled.number for dialled in sim.dialled} == callable_ones
    assert sim.executed == []
    masked = {number: re.sub(r"\d+", "#", number) for number in callable_ones}
    assert set(masked.values()) == {"+#"}
    new = sent(sim) - innocent
    assert not new, "\n".join(new)
    for row in house.rows():
        if row["closed_as"] == "blocked":
            assert row["note"].startswith(("number: ", "country: "))
        else:
            assert row["number"] in callable_ones


def test_a_header_and_a_name_are_kept_as_they_came(house, sim):
    house.engine()
    for value in hostile.TEXTS:
        call = sim.call(CLIENT, name=value, variables={"crm_id": value}, gives_up_after=0.0)
        row = house.row(call_uuid=call.uuid)
        name = stored(value) if value else CLIENT  # FreeSWITCH puts the number where there is no name
        assert (row["caller_name"], row["extra"]["crm_id"]) == (name, stored(value))


def test_a_cdr_is_a_door_too(house):
    house.ledger.migrate()
    for value in hostile.EVERYTHING:
        record = cdr("abandoned")
        record["variables"]["uuid"] = str(uuid.uuid4())
        profile = record["callflow"][-1]["caller_profile"]
        profile["caller_id_number"] = profile["caller_id_name"] = value
        fact = from_cdr(record, "fs1", house.capture)
        recorded = house.ledger.record(fact, opening(fact, house.gates, fact.calldate))
        assert recorded.new
        if value not in MEANT_WELL:
            assert recorded.blocked.startswith(("number: ", "country: "))
