"""What the gates say is what the engine does; and it does it at once when they say something else."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from freeswitch_callback.core.capture import CaptureRules
from freeswitch_callback.core.gates import CapRules, DoNotCall, first_shut, verdicts
from freeswitch_callback.core.hours import ALWAYS, Hours, Window
from freeswitch_callback.engine import recaller
from freeswitch_callback.simulator import Answers, Busy
from tests.acceptance.conftest import CLIENT, SUPPORT

OTHERS = [f"+1202555020{n}" for n in range(1, 7)]


def every_hour_but_this():
    """Calling hours that are shut now, wherever the clock of the machine stands."""
    today = datetime.now(UTC).weekday()
    tomorrow = (today + 2) % 7
    return Hours((Window(frozenset({tomorrow}), 0, 1440),))


def why(house, missed_id):
    """The first gate that is shut, as `why` says it."""
    [case] = house.ledger.cases([missed_id], lambda queue: house.gates.caps).values()
    return str(first_shut(verdicts(case, house.gates, datetime.now(UTC))))


def look_at(house, missed_id):
    return house.ledger.show(missed_id)["recall"]["look_at"]


def test_outside_calling_hours_nobody_is_called_and_the_recall_waits_until_they_open(house, sim):
    house.gates = replace(house.gates, hours=every_hour_but_this())
    house.engine()
    house.gave_up()
    house.free()
    house.until(lambda: look_at(house, 1) > datetime.now(UTC) + timedelta(hours=23))
    house.until(lambda: why(house, 1).startswith("calling hours: opens"))
    house.until(lambda: house.state() == "Waiting")
    assert sim.dialled == []


def test_hours_that_shut_while_a_recall_waits_hold_it_back_unclaimed(house, sim):
    waiting = house.missed()  # with the hours open, as nobody was free
    house.gates = replace(house.gates, hours=every_hour_but_this())
    house.engine()
    house.free()
    house.until(lambda: look_at(house, waiting) > datetime.now(UTC) + timedelta(hours=23))
    assert (house.attempts(), sim.dialled) == ([], [])
    assert house.state() == "Waiting"


def test_new_calling_hours_are_obeyed_at_once(house, sim):
    house.gates = replace(house.gates, hours=every_hour_but_this())
    waiting = house.missed()
    engine = house.engine()
    house.free()
    house.until(lambda: look_at(house, waiting) > datetime.now(UTC) + timedelta(hours=23))
    house.gates = replace(house.gates, hours=ALWAYS)
    engine.reload(replace(engine.rules))
    house.row(closed_as="recalled")


def test_a_reload_changes_which_calls_count(house, sim):
    sim.add_queue("sales@default", extension="3100")
    engine = house.engine()
    engine.reload(replace(engine.rules, capture=CaptureRules(queues=("sales@*",))))
    for extension in ("3000", "3100"):  # told in this order
        call = sim.call(CLIENT, to=extension)
        assert sim.wait_for(lambda call=call: house.waits(call))
        call.hang_up()
        assert sim.wait_for(call.ended.is_set)
    assert house.row(state="waiting")["queue"] == "sales@default"
    assert len(house.rows()) == 1


def test_who_is_put_on_the_do_not_call_list_while_the_engine_runs_is_not_called(house, sim):
    waiting = house.missed()
    house.engine()
    house.ledger.forbid([DoNotCall("+1202555*", "asked us not to")], by="anna")
    house.free()
    row = house.row(id=waiting, state="closed")
    assert (row["closed_as"], row["note"]) == (
        "blocked",
        "do not call: +1202555* is on the list (asked us not to)",
    )
    assert (house.attempts(), sim.dialled) == ([], [])
    house.until(lambda: house.state() == "Waiting")


def test_a_missed_call_of_somebody_on_the_list_is_recorded_as_blocked(house):
    house.engine()
    house.ledger.forbid([DoNotCall(CLIENT)], by="anna")
    house.gave_up()
    assert house.row()["note"] == f"do not call: {CLIENT} is on the list"


def test_a_number_is_not_called_more_often_than_its_cap(house, sim):
    house.gates = replace(house.gates, caps=CapRules(per_number=1))
    sim.client(CLIENT, Busy())
    waiting = house.missed()
    engine = house.engine(
        retry=replace(house.rules.retry, retry=dict.fromkeys(("busy", "no_answer", "failed"), 0.0))
    )
    house.free()
    house.until(lambda: look_at(house, waiting) > datetime.now(UTC) + timedelta(hours=23))
    assert [dialled.number for dialled in sim.dialled] == [CLIENT]
    assert why(house, waiting) == "caps: 1 recall to this number within 24 h"
    house.stop(engine)


def test_the_breaker_stops_all_recalls_to_a_prefix_until_it_is_reset(house, sim):
    house.gates = replace(house.gates, caps=CapRules(breaker=2))
    for number in OTHERS[:4]:
        sim.client(number, Answers(after=0.02, talks=0.05))
        house.missed(phone=number)
    engine = house.engine()
    house.free()
    house.until(lambda: house.ledger.breakers())
    house.until(lambda: len([r for r in house.rows() if r["closed_as"] == "recalled"]) == 2)
    assert len({dialled.number for dialled in sim.dialled}) == 2
    [breaker] = house.ledger.breakers()
    assert (breaker.prefix, breaker.recalls) == ("+1202555", 2)
    open_ones = [row["id"] for row in house.rows() if row["state"] == "waiting"]
    house.until(
        lambda: all(why(house, id_).startswith("breaker: all recalls to +1202555…") for id_ in open_ones)
    )
    house.ledger.reset_breakers(None, by="anna")
    engine.wake()
    house.until(lambda: all(row["closed_as"] == "recalled" for row in house.rows()))


def test_a_breaker_that_trips_again_is_said_again(house, sim, capsys):
    house.gates = replace(house.gates, caps=CapRules(breaker=1))
    for number in OTHERS[:3]:
        sim.client(number, Answers(after=0.02, talks=0.05))
        house.missed(phone=number)
    engine = house.engine()
    house.free()

    told = Counter()

    def alarms():
        told["breaker_open"] += capsys.readouterr().out.count("breaker_open")
        return told["breaker_open"]

    house.until(lambda: alarms() == 1)
    house.ledger.reset_breakers(None, by="anna")
    engine.wake()
    house.until(lambda: alarms() == 2)
    assert len(sim.dialled) == 2


def test_of_one_queue_no_more_are_up_at_once_than_configured_and_the_next_follows_at_once(
    house, sim, monkeypatch
):
    monkeypatch.setattr(recaller, "_FULL_FOR", 3600.0)  # by time alone none would follow
    house.gates = replace(house.gates, caps=CapRules(at_once=1))
    for number in OTHERS[:4]:
        sim.client(number, Answers(after=0.02, talks=0.1))
        house.missed(phone=number)
    house.engine()
    house.free()
    house.free("1002@default")
    house.until(lambda: all(row["closed_as"] == "recalled" for row in house.rows()), timeout=60.0)
    times = sorted((a["sent_at"], a["ended_at"]) for id_ in range(1, 5) for a in house.attempts(id_))
    assert all(ended <= sent for (_, ended), (sent, _) in pairwise(times))


def test_who_gives_up_is_called_at_once_and_not_taken_for_somebody_on_the_line(house, sim):
    house.engine()
    sim.set_behaviour("1001@default", Answers(after=1.0))
    house.free()
    call = sim.call(CLIENT, to="3000")
    assert sim.wait_for(lambda: sim.phone_log("1001@default"))
    call.hang_up()
    house.row(call_uuid=call.uuid, closed_as="recalled")


def test_who_is_on_the_line_is_not_called_meanwhile(house, sim):
    sim.add_queue("sales@default", extension="3100")
    sim.add_tier("sales@default", "1002@default")
    engine = house.engine()
    call = sim.call(CLIENT, to="3000")
    assert sim.wait_for(lambda: house.waits(call))
    waiting = house.missed(queue="sales@default")
    house.free("1002@default")  # who would leave support's caller to 1001, if that one were not away
    sim.roster.tiers = [t for t in sim.roster.tiers if (t.queue, t.agent) != (SUPPORT, "1002@default")]
    house.until(lambda: look_at(house, waiting) > datetime.now(UTC) + timedelta(seconds=5))
    assert (house.attempts(waiting), sim.dialled) == ([], [])
    call.hang_up()
    switchboard = engine.sites[0].recaller.switchboard
    house.until(lambda: not switchboard.on_the_line(CLIENT, house.gates.numbers))
    house.row(call_uuid=call.uuid)
    house.ledger.reconsider()
    engine.wake()
    house.row(id=waiting, closed_as="recalled")


@pytest.mark.parametrize("listed", [True, False])
def test_an_extension_of_the_house_is_called_back_only_where_that_is_configured(house, sim, listed):
    if listed:
        house.gates = replace(
            house.gates, numbers=replace(house.gates.numbers, extensions=(re.compile("1[0-9]{3}"),))
        )
    sim.gateways |= {"house"}
    house.engine(extension_dial_string="sofia/gateway/house/{number}")
    sim.client("1007", Answers(after=0.02, talks=0.1))
    house.free()
    house.missed(phone="1007", queue=SUPPORT)
    if listed:
        assert house.row(closed_as="recalled")["number"] == "1007"
        assert any("sofia/gateway/house/1007" in text for _, text in sim.commands)
    else:
        assert house.row(state="closed")["note"].startswith("number: ")
        assert sim.dialled == []
