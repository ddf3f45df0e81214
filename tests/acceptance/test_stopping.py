"""SIGTERM, crashes and lost connections, with everything in between under way."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import gevent
import psycopg2
import pytest

from freeswitch_callback.core.facts import Mode
from freeswitch_callback.core.schedule import RetryRules
from freeswitch_callback.engine.daemon import EngineRules
from freeswitch_callback.esl import callcenter
from freeswitch_callback.simulator import Answers, Silent
from tests.acceptance.conftest import CLIENT, OURS

AGENT, OTHER = "1001@default", "1002@default"


def test_a_call_that_is_up_goes_on_and_the_next_engine_follows_it_to_its_end(house, sim):
    sim.client(CLIENT, Answers(after=0.01))
    house.missed()
    first = house.engine()
    house.free()
    house.row(state="connected")

    house.stop(first)

    assert sim.live_calls(CLIENT) == 1, "client and operator still talk"
    assert house.state() == "Reserved"
    house.engine()
    assert house.ledger.held()[0].claim.engine != first.name
    house.hang_up_the_recall()
    assert house.row(state="closed")["closed_as"] == "recalled"
    house.until(lambda: house.state() == "Waiting")
    assert len(sim.dialled) == 1


def test_a_call_that_ended_meanwhile_is_settled_by_the_marks_it_left(house, sim):
    sim.client(CLIENT, Answers(after=0.01))
    house.missed()
    first = house.engine()
    house.free()
    house.row(state="connected")
    [held] = house.ledger.held()
    house.stop(first)
    sim.api(f"uuid_kill {held.claim.call_uuid}")
    sim.wait_for(lambda: sim.live_calls(CLIENT) == 0)

    house.engine()

    assert house.row(state="closed")["closed_as"] == "recalled"
    house.until(lambda: house.state() == "Waiting")
    house.until(lambda: house.ledger.reservations() == [])
    assert len(sim.dialled) == 1


def test_stopping_with_an_agent_reserved_and_nothing_sent_gives_the_agent_back(house, sim):
    """The reservation is made, and FreeSWITCH says so only after we were asked to stop."""
    house.missed()
    engine = house.engine()
    sim.hold_replies()
    house.free()
    house.until(lambda: house.state() == "Reserved")
    engine.stop()
    sim.release_replies()
    house.stop(engine)
    assert house.state() == "Waiting"
    assert (house.row()["state"], house.ledger.reservations(), sim.dialled) == ("waiting", [], [])


def test_stopping_while_freeswitch_does_not_answer_ends_in_time_and_loses_nothing(house, sim):
    house.missed()
    engine = house.engine()
    sim.hold_replies()
    house.free()
    house.until(lambda: house.state() == "Reserved")
    began = time.monotonic()
    house.stop(engine)
    default = EngineRules(house.capture, lambda queue: house.gates, lambda queue: house.rules)
    assert time.monotonic() - began - house.finishing + default.finishing < 10
    sim.release_replies()

    house.engine()

    assert house.row(state="closed")["closed_as"] == "recalled"
    assert sim.most_live_calls(CLIENT) == 1
    house.until(lambda: house.state() == "Waiting")


def test_an_originate_whose_reply_is_outstanding_is_not_sent_twice(house, sim):
    sim.client(CLIENT, Answers(after=0.01))
    house.missed()
    engine = house.engine(mode=Mode.CLIENT_FIRST)
    answer = sim.commands_run

    def hold_at_the_originate(command, *args, **kwargs):
        if command.startswith("originate"):
            sim.hold_replies()
        answer(command, *args, **kwargs)

    sim.commands_run = hold_at_the_originate
    house.free()
    assert sim.wait_for(lambda: sim.dialled)
    house.stop(engine)
    sim.release_replies()
    house.engine(mode=Mode.CLIENT_FIRST)
    house.row(state="connected")
    assert len(sim.dialled) == 1
    house.hang_up_the_recall()
    assert house.row(state="closed")["closed_as"] == "recalled"


def test_a_connection_that_is_cut_in_the_middle_of_a_call_loses_neither_call_nor_agent(house, sim):
    sim.client(CLIENT, Answers(after=0.01))
    house.missed()
    engine = house.engine()
    house.free()
    house.row(state="connected")
    [held] = house.ledger.held()
    sim.refuse_connections()
    sim.cut_connections()
    house.until(lambda: not engine.sites[0].up)
    sim.api(f"uuid_kill {held.claim.call_uuid}")
    sim.refuse_connections(False)
    assert house.row(state="closed")["closed_as"] == "recalled"
    house.until(lambda: house.state() == "Waiting")
    assert len(sim.dialled) == 1


@pytest.fixture
def ends_while_we_ask(house, sim, monkeypatch):
    """From now on, a call that is up ends between two questions about it, and its events are heard first."""

    def ask(node, call_uuid):
        exists = uuid_exists(node, call_uuid)
        [engine] = [engine for engine, *_ in house._running]
        attempt = engine.sites[0].recaller.attempts[call_uuid]
        sim.api(f"uuid_kill {call_uuid}")
        house.until(lambda: attempt.progress.ended is not None)
        return exists

    uuid_exists = callcenter.uuid_exists
    return lambda: monkeypatch.setattr(callcenter, "uuid_exists", ask)


def test_a_talk_that_ends_while_the_next_engine_asks_for_it_was_a_talk(house, sim, ends_while_we_ask):
    sim.client(CLIENT, Answers(after=0.01))
    house.missed()
    first = house.engine()
    house.free()
    house.row(state="connected")
    house.stop(first)
    ends_while_we_ask()
    house.engine()
    house.until(lambda: not house.ledger.held())
    assert house.rows()[0]["closed_as"] == "recalled"
    assert house.state() == "Waiting"


def test_a_talk_that_began_unheard_and_ends_while_we_ask_for_it_was_a_talk(house, sim, ends_while_we_ask):
    sim.client(CLIENT, Answers(after=0.3))
    house.missed()
    engine = house.engine()
    house.free()
    assert sim.wait_for(lambda: sim.dialled)
    sim.refuse_connections()
    sim.cut_connections()
    house.until(lambda: not engine.sites[0].up)
    [held] = house.ledger.held()
    assert sim.wait_for(lambda: sim.switch.channels[held.claim.call_uuid].bridged)
    ends_while_we_ask()
    sim.refuse_connections(False)
    house.until(lambda: not house.ledger.held())
    assert house.rows()[0]["closed_as"] == "recalled"
    house.until(lambda: house.state() == "Waiting")


def test_what_nobody_can_know_is_parked_and_not_redialled(house, sim):
    """FreeSWITCH is gone in the middle of a call: with another Core-UUID, and without a mark of this one."""
    sim.set_behaviour(AGENT, Silent())
    house.missed()
    house.engine(ring_timeout=30.0)
    house.free()
    sim.wait_for(lambda: sim.phone_log(AGENT))
    house.row(state="dialling")
    sim.crash()
    sim.restart()
    house.row(state="unknown")
    house.until(lambda: house.ledger.reservations() == [])
    assert sim.dialled == []


def test_who_waits_in_the_queue_when_freeswitch_dies_is_called_back(house, sim):
    engine = house.engine()
    call = sim.call(CLIENT, to="3000")
    assert sim.wait_for(lambda: house.waits(call))
    house.until(lambda: engine.sites[0].recaller.switchboard.callers.waiting("support@default"))
    sim.crash()
    sim.restart()
    row = house.row(call_uuid=call.uuid)
    assert (row["reason"], row["queue"]) == ("failed", "support@default")
    house.free()
    assert house.row(state="closed")["closed_as"] == "recalled"


def test_a_talk_that_freeswitch_cut_short_by_dying_is_no_longer_than_it_was(house, sim):
    sim.client(CLIENT, Answers(after=0.01))
    house.missed()
    engine = house.engine(retry=RetryRules(min_talk=3.0))
    house.free()
    house.row(state="connected")
    sim.crash()
    house.until(lambda: not engine.sites[0].up)
    sim.restart()
    assert house.row(state="waiting", attempts=1)["closed_as"] is None


def test_an_engine_that_was_killed_leaves_nobody_reserved_for_ever(house, sim):
    """The row is written before the agent is reserved: the next engine finds the agent by it."""
    id_ = house.missed()
    recall = house.ledger.show(id_)["recall"]["id"]
    house.free()
    claim = house.ledger.claim(
        recall,
        engine="killed",
        lease=0.0,
        node="fs1",
        agent=AGENT,
        mode=Mode.AGENT_FIRST,
        call_uuid="c",
        job_uuid="j",
    )
    assert claim is not None
    sim.api(f"callcenter_config agent set state_if_waiting {AGENT} Reserved")
    house.engine()
    assert house.row(state="closed")["recalloperator"] == AGENT
    house.until(lambda: house.state() == "Waiting")


def sent_by_an_engine_that_was_killed(house, sim, core_uuid):
    """On record as sent; whether it was, nobody who lives can tell."""
    recall = house.ledger.show(house.missed())["recall"]["id"]
    claim = house.ledger.claim(
        recall, engine="killed", lease=0.0, node="fs1", agent=AGENT, mode=Mode.AGENT_FIRST,
        call_uuid="3f0b9cb3", job_uuid="j",
    )  # fmt: skip
    assert claim is not None
    assert house.ledger.dialling(claim, core_uuid)


def test_what_was_never_dialled_is_dialled_once_it_was_looked_for_twice(house, sim):
    sent_by_an_engine_that_was_killed(house, sim, sim.api("global_getvar core_uuid").strip())
    house.free()
    house.engine()
    assert house.row(state="closed")["closed_as"] == "recalled"
    assert [a["outcome"] for a in house.attempts()] == ["failed", "connected"]
    assert len(sim.dialled) == 1


def test_what_was_not_found_is_not_dialled_before_it_was_looked_for_again(house, sim):
    """The originate may still be on its way: a command runs though its connection is gone."""
    house.second_look = 60.0
    sent_by_an_engine_that_was_killed(house, sim, sim.api("global_getvar core_uuid").strip())
    house.free()
    house.engine()
    house.until(lambda: any("ended" in text and "db select" in text for _, text in sim.commands))
    house.gave_up("+12025550111")  # whatever is to be written about the first call is written before this
    assert house.row(phone=CLIENT)["state"] == "dialling"
    assert sim.dialled == []


def test_a_locked_database_does_not_hold_up_the_end(house, sim):
    if house.url.startswith("postgresql"):
        sql = "BEGIN; LOCK TABLE missed, recall, attempt, reservation, journal"
        with closing(psycopg2.connect(house.url)) as other, other.cursor() as cursor:
            engine = house.engine()
            cursor.execute(sql)
            _stops_in_time(house, engine)
    else:
        with closing(sqlite3.connect(house.url.removeprefix("sqlite://"))) as other:
            engine = house.engine()
            other.execute("BEGIN IMMEDIATE")
            _stops_in_time(house, engine)


def _stops_in_time(house, engine):
    house.sim.call(CLIENT, to="3000", gives_up_after=0.1)
    house.sim.wait_for(lambda: not house.sim.calls)
    began = time.monotonic()
    house.stop(engine, within=10.0, close=False)
    assert time.monotonic() - began < 10


def test_a_queue_whose_name_fits_in_no_command_is_left_out_and_the_others_go_on(house, sim):
    sim.add_queue("support desk@default", extension="3900")
    sim.add_tier("support desk@default", AGENT)
    house.missed()
    house.engine()
    house.free()
    assert house.row(state="closed")["closed_as"] == "recalled"


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
def test_the_program_ends_with_status_0_when_it_is_told_to(house, sim, tmp_path, name):
    (tmp_path / "c.toml").write_text(
        f'database.url = "{house.url}"\nfreeswitch = [{{ port = {sim.port}, password = "{sim.password}" }}]\n'
        f'recall.caller_id_number = "{OURS}"\nrecall.min_talk = "0s"\nrecall.poll = "1s"\n'
        'recall.hours = "always"\n'
    )
    house.missed()
    house.free()
    command = [sys.executable, "-m", "freeswitch_callback", "--config", str(tmp_path / "c.toml"), "run"]
    program = subprocess.Popen(command, stderr=subprocess.PIPE, env=os.environ | {"PYTHONUNBUFFERED": "1"})
    try:
        assert house.row(state="closed")["closed_as"] == "recalled"
        program.send_signal(name)
        with gevent.Timeout(10):
            assert program.wait() == 0
    finally:
        program.kill()
        said = program.stderr.read().decode()
    assert "engine_stopped" in said
    assert "Traceback" not in said


def test_on_sighup_the_configuration_is_read_again_and_a_broken_one_is_refused_whole(house, sim, tmp_path):
    path = tmp_path / "c.toml"
    base = (
        f'database.url = "{house.url}"\nfreeswitch = [{{ port = {sim.port}, password = "{sim.password}" }}]\n'
        f'recall.caller_id_number = "{OURS}"\nrecall.min_talk = "0s"\nrecall.poll = "60s"\n'
    )
    path.write_text(base + 'numbers.allow = ["DE"]\nrecall.hours = "always"\n')
    command = [sys.executable, "-m", "freeswitch_callback", "--config", str(path), "run"]
    with (tmp_path / "log").open("wb") as log:
        program = subprocess.Popen(command, stderr=log, env=os.environ | {"PYTHONUNBUFFERED": "1"})

    def said():
        return (tmp_path / "log").read_text()

    def call():
        call = sim.call(CLIENT, to="3000")
        assert sim.wait_for(lambda: house.waits(call))
        call.hang_up()
        return call.uuid

    try:
        house.until(lambda: "node.up" in said())
        house.row(call_uuid=call(), closed_as="blocked")
        path.write_text(base + 'numbers.allow = ["US"]\nrecall.hors = "always"\n')
        program.send_signal(signal.SIGHUP)
        house.until(lambda: "configuration_refused" in said())
        assert "recall.hors: no such key; did you mean recall.hours?" in said()
        house.row(call_uuid=call(), closed_as="blocked")
        path.write_text(base + 'numbers.allow = ["US"]\nrecall.hours = "always"\ncapture.min_wait = 0\n')
        program.send_signal(signal.SIGHUP)
        house.until(lambda: "configuration_reloaded" in said())
        missed = call()  # before anybody is free: the queue would give the caller to them
        house.free()
        house.row(call_uuid=missed, closed_as="recalled")
    finally:
        program.terminate()
        assert program.wait() == 0
