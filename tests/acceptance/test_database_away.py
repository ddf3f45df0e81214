"""The database goes away while calls come in: they are recorded, and called back once it is there again."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import gevent
import pytest
from gevent.event import Event as Flag

from freeswitch_callback.cli.engine_rules import open_spools
from freeswitch_callback.config import parse
from freeswitch_callback.core.facts import Missed, Reason, Served
from freeswitch_callback.engine.daemon import Engine
from freeswitch_callback.engine.recorder import Recorder
from freeswitch_callback.ledger.spool import HEAD, Spool, decode
from freeswitch_callback.simulator import Answers
from tests import postgres
from tests.acceptance.conftest import CLIENT, OURS, SUPPORT

PROGRAM = (
    "from freeswitch_callback import __main__;"  # patches first
    "from freeswitch_callback.ledger.sqlite import Sqlite;"
    "Sqlite.__init__.__kwdefaults__['timeout'] = 0.3;"  # s, for a lock; else every story takes 10 s
    "__main__.main()"
)


@contextmanager
def away(url: str) -> Iterator[None]:
    """Nobody gets at the database."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite://"), isolation_level=None)) as locker:
            locker.execute("BEGIN EXCLUSIVE")
            yield
            locker.execute("ROLLBACK")
        return
    server = postgres.server()
    name = url.partition("?")[0].rpartition("/")[2]
    server.run(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    server.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    try:
        yield
    finally:
        server.run(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


class Program:
    """`freeswitch-callback run`, killed and started again."""

    def __init__(self, house, sim, folder):
        self.house, self.log, self.path = house, folder / "log", folder / "c.toml"
        self.spool = folder / "spool" / "fs1.spool"
        self.path.write_text(
            f'database.url = "{house.url}"\n'
            f'freeswitch = [{{ port = {sim.port}, password = "{sim.password}" }}]\n'
            f'capture = {{ min_wait = 0, spool = "{self.spool.parent}" }}\n'
            f'recall.caller_id_number = "{OURS}"\nrecall.min_talk = "0s"\nrecall.poll = "1s"\n'
            'recall.hours = "always"\n'
        )
        self.running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.running = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, "--config", str(self.path), "run"],
                stderr=log,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )

    def until(self, true: Callable[[], object]) -> None:
        try:
            with gevent.Timeout(20):
                while not true():
                    gevent.idle()
        except gevent.Timeout:
            pytest.fail(self.log.read_text()[-5000:])

    def until_said(self, word: str, times: int = 1) -> None:
        self.until(lambda: self.log.read_text().count(word) >= times)

    def end(self, name: int) -> int:
        assert self.running is not None
        self.running.send_signal(name)
        with gevent.Timeout(12):
            status = self.running.wait()
        self.running = None
        return status

    def waiting(self) -> int:
        """How many lines its spool has."""
        return self.spool.read_bytes().count(b"\n") - 1

    def spooled(self, calls: list[str]) -> bool:
        """Whether all that there is to tell of these calls is in its spool."""
        whole = [line for line in self.spool.read_bytes().splitlines(True)[1:] if line.endswith(b"\n")]
        facts = [decode(line) for line in whole]
        return {fact.call_uuid for fact in facts if isinstance(fact, Missed) and fact.settled} >= set(calls)


@pytest.fixture
def program(house, sim, tmp_path) -> Iterator[Program]:
    program = Program(house, sim, tmp_path)
    yield program
    if program.running is not None:
        program.running.kill()
        program.running.wait()


def gives_up(house, sim, number: str) -> str:
    """Somebody waits in the queue and gives up; their call's uuid."""
    call = sim.call(number, to="3000")
    assert sim.wait_for(lambda: house.waits(call))
    call.hang_up()
    return call.uuid


def test_calls_that_are_missed_meanwhile_are_there_once_and_in_order_though_the_engine_is_killed_twice(
    house, sim, program
):
    numbers = [f"+1202555{number:04}" for number in range(301, 307)]
    for number in numbers:
        sim.client(number, Answers(after=0.02, talks=0.1))
    program.start()
    program.until_said("node.up")
    calls = []
    with away(house.url):
        for number in numbers[:2]:
            calls.append(gives_up(house, sim, number))
        program.until(lambda: program.spooled(calls))
        program.end(signal.SIGKILL)
        program.start()
        program.until_said("node.up", 2)  # it records before the database is there
        for number in numbers[2:4]:
            calls.append(gives_up(house, sim, number))
        program.until(lambda: program.spooled(calls))
        program.end(signal.SIGKILL)
        program.start()
        program.until_said("node.up", 3)
        for number in numbers[4:]:
            calls.append(gives_up(house, sim, number))
        program.until(lambda: program.spooled(calls))
    house.until(lambda: len(house.rows()) == 6, 20)
    house.free()
    house.until(lambda: all(row["closed_as"] == "recalled" for row in house.rows()), 30)
    assert [row["call_uuid"] for row in sorted(house.rows(), key=lambda row: row["id"])] == calls
    assert sorted(dialled.number for dialled in sim.dialled) == numbers
    assert program.spool.stat().st_size == HEAD
    assert program.end(signal.SIGTERM) == 0


def test_who_was_served_meanwhile_is_not_called_back_once_the_database_is_there(house, sim, program):
    house.missed()
    program.start()
    program.until_said("node.up")
    with away(house.url):
        house.free()
        call = sim.call(CLIENT, to="3000")  # they call again, and are answered
        program.until(lambda: program.waiting() >= 1)
        call.hang_up()
        house.until(lambda: house.state() == "Waiting")
    assert house.row(state="closed")["closed_as"] == "served_inbound"
    assert sim.dialled == []
    assert program.end(signal.SIGTERM) == 0


def test_recalls_wait_until_all_that_happened_is_in_the_database(house, sim, tmp_path, monkeypatch):
    """Among it may be that the client was served."""
    may_drain, rounds = Flag(), []
    drain, one_round = Recorder.drain, Engine._round
    monkeypatch.setattr(Recorder, "drain", lambda self: may_drain.wait() and drain(self))
    monkeypatch.setattr(Engine, "_round", lambda self: rounds.append(self) or one_round(self))
    house.poll = 0.05
    house.missed()
    house.free()
    with closing(Spool(tmp_path / "fs1.spool")) as spool:
        spool.append(Served("fs1", "c", CLIENT, SUPPORT, "1002@default", datetime.now(UTC)))
        house.spools = {"fs1": spool}
        engine = house.engine()
        rounds.clear()
        house.until(lambda: len(rounds) > 3)
        assert [row["state"] for row in house.rows()] == ["waiting"]
        may_drain.set()
        assert house.row(state="closed")["closed_as"] == "served_inbound"
        assert sim.dialled == []
        house.stop(engine)


def test_an_engine_that_stops_brings_to_the_database_what_it_can(house, sim, tmp_path, monkeypatch):
    monkeypatch.setattr(Recorder, "drain", lambda self: None)
    with closing(Spool(tmp_path / "fs1.spool")) as spool:
        house.spools = {"fs1": spool}
        engine = house.engine()
        spool.append(Missed("fs1", "c", CLIENT, datetime.now(UTC), 30, Reason.ABANDONED, queue=SUPPORT))
        house.stop(engine)
        assert ([row["call_uuid"] for row in house.rows()], spool.length()) == (["c"], 0)


def test_a_second_engine_on_the_same_machine_waits_for_the_database_instead(house, sim, program, tmp_path):
    with closing(Spool(program.spool)):
        program.start()
        program.until_said("node.up")
        assert "spool_in_use" in program.log.read_text()
        with away(house.url):
            call = gives_up(house, sim, CLIENT)
            program.until_said("database_away")
        house.row(call_uuid=call)
    assert program.end(signal.SIGTERM) == 0


@pytest.mark.parametrize("folder", ["/proc/nothing", "c.toml/spool"])
def test_a_spool_that_cannot_be_made_is_told_at_the_start(shell, house, folder):
    shell.path.write_text(shell.path.read_text() + f'capture.spool = "{shell.path.parent / folder}"\n')
    shell.path.with_name("c.toml").write_text("")
    status, _, told = shell("run")
    assert status == 1
    assert "fs1.spool cannot be opened" in told


def test_where_the_spool_is_unless_somebody_says_otherwise(house, tmp_path, monkeypatch):
    """Beside a file that is the database; else where systemd says that this service keeps its state."""
    text = 'freeswitch = [{ password = "x" }, { name = "fs2", password = "x" }]\n'
    where = {
        "": {tmp_path / "state" / "spool" / f"{node}.spool" for node in ("fs1", "fs2")},
        'capture.spool = "here"\n': {Path("here") / f"{node}.spool" for node in ("fs1", "fs2")},
    }
    monkeypatch.chdir(tmp_path)
    for said, paths in where.items():
        spools = open_spools(parse(text + said), None)
        assert {spool.path for spool in spools.values()} == paths
        for spool in spools.values():
            spool.close()
    spools = open_spools(parse(text), tmp_path / "callback.db")
    assert {spool.path.parent for spool in spools.values()} == {tmp_path / "callback.db-spool"}
    for spool in spools.values():
        spool.close()
