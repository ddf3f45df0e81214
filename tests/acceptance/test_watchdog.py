"""What an engine says of itself: to systemd while it lives, and by alarms when something is wrong."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import gevent
import pytest
from gevent import socket
from structlog.testing import capture_logs

from freeswitch_callback.core.facts import ClosedAs, Missed, Mode, Outcome, Reason, Settlement
from freeswitch_callback.engine import daemon
from freeswitch_callback.engine.alarms import Name
from freeswitch_callback.engine.cdr_folder import CdrFolder
from freeswitch_callback.engine.clock import Clock
from freeswitch_callback.engine.daemon import Engine, EngineRules, NodeAddress
from freeswitch_callback.engine.systemd import Systemd
from freeswitch_callback.engine.watchdog import Watchdog, watch_hub
from freeswitch_callback.errors import DatabaseReadOnly, DatabaseUnreachable, DiskFull, SchemaTooNew
from freeswitch_callback.ledger import Filter, Ledger
from freeswitch_callback.ledger.limits import Breaker
from freeswitch_callback.ledger.spool import Spool
from freeswitch_callback.operations import machine
from tests.acceptance import conftest
from tests.acceptance.conftest import CLIENT, OURS, SUPPORT


class Manager:
    """systemd's end of NOTIFY_SOCKET."""

    def __init__(self, folder: str) -> None:
        self.address = f"{folder}/notify"
        self.heard: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._listening = gevent.spawn(self._listen)

    def _listen(self) -> None:
        while True:
            self.heard += self._socket.recv(65536).decode().split("\n")

    def close(self) -> None:
        self._listening.kill()
        self._socket.close()

    def until(self, word: str, times: int = 1) -> None:
        try:
            with gevent.Timeout(20):
                while self.count(word) < times:
                    gevent.idle()
        except gevent.Timeout:
            pytest.fail(f"{word} was not heard {times} times: {self.heard}")

    def count(self, word: str) -> int:
        return sum(word in line for line in self.heard)


@pytest.fixture
def manager() -> Iterator[Manager]:
    with tempfile.TemporaryDirectory() as folder, closing(Manager(folder)) as manager:
        yield manager


def configuration(url: str, sim, folder: Path) -> Path:
    path = folder / "c.toml"
    path.write_text(
        f'database.url = "{url}"\nfreeswitch = [{{ port = {sim.port}, password = "{sim.password}" }}]\n'
        f'recall.caller_id_number = "{OURS}"\nrecall.poll = "1s"\nrecall.hours = "always"\n'
    )
    return path


def start(path: Path, manager: Manager, **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "freeswitch_callback", "--config", str(path), "run"],
        stderr=subprocess.PIPE,
        env=os.environ | {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "400000"} | environment,
    )


def test_systemd_is_told_of_start_life_reload_and_end(house, sim, tmp_path, manager):
    path = configuration(house.url, sim, tmp_path)
    program = start(path, manager)
    try:
        manager.until("READY=1")
        manager.until("WATCHDOG=1", 5)
        manager.until("STATUS=1 of 1 FreeSWITCH up; 0 recalls waiting; 0 being called")
        program.send_signal(signal.SIGHUP)
        manager.until("RELOADING=1")
        manager.until("READY=1", 2)
        told = [line.partition("=")[0] for line in manager.heard]
        assert told[told.index("RELOADING") + 1] == "MONOTONIC_USEC"
        path.write_text("no TOML")
        program.send_signal(signal.SIGHUP)
        manager.until("RELOADING=1", 2)
        manager.until("READY=1", 3)  # refused, and ready with the old one
        told = [line for line in manager.heard if line.startswith(("READY", "RELOADING"))]
        assert told == ["READY=1", "RELOADING=1", "READY=1", "RELOADING=1", "READY=1"]
        assert "STOPPING=1" not in manager.heard
        program.send_signal(signal.SIGTERM)
        manager.until("STOPPING=1")
        with gevent.Timeout(10):
            assert program.wait() == 0
    finally:
        program.kill()
        said = program.stderr.read().decode()
    assert "alarm" not in said
    assert "Traceback" not in said


def test_a_service_whose_freeswitch_and_database_are_away_has_started_all_the_same(sim, tmp_path, manager):
    """Whoever waits for it to start does not wait for them; it says in its status what it waits for."""
    path = configuration("postgresql://127.0.0.1:9/x", sim, tmp_path)
    path.write_text(path.read_text().replace(str(sim.port), "9"))
    program = start(path, manager)
    try:
        manager.until("READY=1")
        manager.until(
            "STATUS=0 of 1 FreeSWITCH up; away: fs1; database away; 0 being called; alarms: database_away"
        )
        manager.until("freeswitch_away")
        manager.until("WATCHDOG=1", 3)
        program.send_signal(signal.SIGHUP)
        manager.until("READY=1", 2)  # the new rules are in force, the recalls not looked at anew yet
    finally:
        program.terminate()
        program.wait()
        said = program.stderr.read().decode()
    assert re.search(r"alarm_raised .*alarm=database_away .*postgresql://127.0.0.1:9/x", said)
    assert re.search(r"alarm_raised .*alarm=freeswitch_away .*where=fs1", said)
    assert said.count("alarm=database_away") == 1


def test_a_service_that_is_neither_let_in_nor_refused_has_started_after_a_while(house, manager, monkeypatch):
    watched = Watched(house, manager)
    watched.engine.ready.clear()
    watched.turns(8)
    assert manager.count("READY=1") == 0
    watched.turns(3)
    assert manager.count("READY=1") == 1


class Skewed(Clock):
    """The computer's clock, `monotonic` and `time` each moved by hand."""

    def __init__(self) -> None:
        self.later = self.jump = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.later

    def time(self) -> float:
        return time.time() + self.later + self.jump


class Watched:
    """An engine that runs, with a watchdog that turns by hand."""

    def __init__(self, house, manager: Manager, folders=()) -> None:
        self.clock = Skewed()
        self.engine = house.engine()
        self.engine.clock = self.clock
        self.engine.loops._clock = self.clock
        for loop in self.engine.loops._loops.values():
            loop._clock = self.clock
        systemd = Systemd({"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "2000000"})
        self.dog = Watchdog(self.engine, systemd, folders)
        self.manager = manager

    def turns(self, seconds: int = 1, *, but: str | None = None) -> None:
        """A turn each second by its clock, by which the engine's loops, `but` one, take no time."""
        for _ in range(seconds):
            self.clock.later += 1.0
            for name, loop in self.engine.loops._loops.items():
                if but is not None and name != but and loop._within is not None:
                    loop.turns(loop._within)
            self.dog.turn()
        gevent.idle()

    def alarms(self) -> dict[str, str]:
        return {str(alarm.name): alarm.where for alarm in self.engine.alarms.active()}


@pytest.fixture
def watched(house, manager) -> Watched:
    return Watched(house, manager)


def stuck(*_: object) -> None:
    gevent.event.Event().wait()


@pytest.mark.parametrize(
    ("which", "loop"),
    [
        ("Engine._round", "recalls"),
        ("Ledger.renew", "leases"),
        ("_Site._look", "look at fs1"),
        ("Recorder._drain", "spool of fs1"),
        ("Recorder.hear", "events of fs1"),
        ("Recorder.put", "events of fs1"),
    ],
)
def test_a_loop_that_hangs_is_named_and_ends_the_signs_of_life(
    house, manager, monkeypatch, tmp_path, which, loop
):
    monkeypatch.setattr(conftest, "EngineRules", partial(EngineRules, lease=0.9))  # s: renewed each third
    with closing(Spool(tmp_path / "fs1.spool")) as spool:
        house.spools = {"fs1": spool}
        watched = Watched(house, manager)
        watched.turns(3)
        manager.until("WATCHDOG=1", 2)
        assert watched.alarms() == {}

        entered = gevent.event.Event()
        room, _, method = which.partition(".")

        def hang(*_: object) -> None:
            entered.set()
            stuck()

        monkeypatch.setattr(getattr(daemon, room), method, hang)
        watched.engine.sites[0].recaller.ours.add("c")  # a call whose lease is renewed
        if loop.startswith("spool"):
            spool.append(Missed("fs1", "c", CLIENT, datetime.now(UTC), 30, Reason.ABANDONED, queue=SUPPORT))
            watched.engine.sites[0].recorder._spooled.set()
        watched.engine.sites[0]._look_now.set()
        watched.engine.wake()
        house.free()  # an event
        assert entered.wait(15)

        watched.turns(302, but=loop)
        assert watched.alarms()["loop_stuck"] == loop
        before = manager.count("WATCHDOG=1")
        watched.turns(5, but=loop)
        assert manager.count("WATCHDOG=1") == before
        monkeypatch.undo()
        house.stop(watched.engine)


def test_a_spool_that_stays_empty_is_nobody_s_worry(house, manager, tmp_path):
    with closing(Spool(tmp_path / "fs1.spool")) as spool:
        house.spools = {"fs1": spool}
        watched = Watched(house, manager)
        house.until(lambda: watched.engine.loops._loops["spool of fs1"]._within is None)
        watched.turns(400, but="spool of fs1")
        assert watched.alarms() == {}
        house.stop(watched.engine)


def test_who_waits_for_the_database_is_alive(watched, monkeypatch):
    def away(*_: object, **__: object) -> None:
        raise DatabaseUnreachable("away")

    for name in ("read", "write"):
        monkeypatch.setattr(watched.engine.ledger._database._database, name, away)
    for _ in range(400):
        with pytest.raises(DatabaseUnreachable):
            watched.engine.ledger.expire()  # as every loop does, again and again
        watched.turns()
    assert watched.alarms() == {"database_away": watched.engine.ledger.name}


def test_an_event_that_waits_for_the_database_is_no_loop_that_hangs(house, watched, monkeypatch):
    """Without a spool that is how it is meant."""

    def away(*_: object, **__: object) -> None:
        raise DatabaseUnreachable("away")

    for name in ("read", "write"):
        monkeypatch.setattr(watched.engine.ledger._database._database, name, away)
    call = house.sim.call(CLIENT, to="3000")
    assert house.sim.wait_for(lambda: house.waits(call))
    call.hang_up()
    events = watched.engine.loops._loops["events of fs1"]
    house.until(lambda: events._within is not None and events._since < time.monotonic() - 0.2)
    for _ in range(100):
        with pytest.raises(DatabaseUnreachable):
            watched.engine.ledger.expire()  # as its own tries do, again and again
        watched.turns(but="events of fs1")
    assert events._within is not None
    assert watched.alarms() == {"database_away": watched.engine.ledger.name}
    monkeypatch.undo()
    house.row(call_uuid=call.uuid)
    house.until(lambda: events._within is None)


def test_a_folder_of_cdrs_that_hangs_is_told_and_ends_nobody(house, manager, monkeypatch, tmp_path):
    """It may be another machine's, which a start does not bring back."""
    entered = gevent.event.Event()

    def hang(*_: object) -> None:
        entered.set()
        stuck()

    monkeypatch.setattr(CdrFolder, "_in_thread", hang)
    house.cdr_folders = {"fs1": (str(tmp_path),)}
    watched = Watched(house, manager)
    assert entered.wait(15)
    watched.turns(602, but="CDRs of fs1")
    assert watched.alarms() == {"loop_stuck": "CDRs of fs1"}
    before = manager.count("WATCHDOG=1")
    watched.turns(5, but="CDRs of fs1")
    assert manager.count("WATCHDOG=1") > before


def test_a_process_that_stood_still_says_nothing_of_its_loops(watched):
    """Stopped by a signal, or with its machine: they had no chance to turn."""
    watched.turns()
    watched.clock.later += 3600.0
    watched.dog.turn()
    assert watched.alarms() == {}


@pytest.mark.parametrize(("jump", "text"), [(-3600.0, "3,600 s back"), (6.0, "6 s forward")])
def test_a_clock_that_jumps_is_told_and_forgotten_after_a_while(watched, jump, text):
    watched.turns()
    watched.clock.jump = jump
    watched.turns()
    [alarm] = watched.engine.alarms.active()
    assert (alarm.name, alarm.where) == (Name.CLOCK_JUMPED, "this machine")
    assert text in alarm.text
    for loop in watched.engine.loops._loops.values():
        loop.rests()
    watched.turns(602)
    assert watched.alarms() == {}


def test_a_clock_that_is_set_right_little_by_little_has_not_jumped(watched):
    for _ in range(10):
        watched.clock.jump += 0.5
        watched.turns()
    assert watched.alarms() == {}


def test_another_time_at_the_database_is_told(watched, monkeypatch):
    now = datetime.now(UTC)
    for seconds, text in ((-45, "45 s behind this machine's"), (100, "s ahead of this machine's")):
        monkeypatch.setattr(Ledger, "now", lambda _, at=now + timedelta(seconds=seconds): at)
        watched.dog.look()
        [alarm] = watched.engine.alarms.active()
        assert (alarm.name, alarm.where) == (Name.CLOCK_JUMPED, watched.engine.ledger.name)
        assert text in alarm.text
    monkeypatch.undo()
    watched.dog.look()
    assert watched.alarms() == {}


@pytest.mark.parametrize(
    ("error", "alarm"),
    [
        (DatabaseUnreachable, "database_away"),
        (DatabaseReadOnly, "database_read_only"),
        (DiskFull, "disk_full"),
    ],
)
def test_what_is_wrong_with_the_database_has_a_name(watched, monkeypatch, error, alarm):
    inner = watched.engine.ledger._database._database
    monkeypatch.setattr("freeswitch_callback.ledger.health._FULL_FOR", 0.0)

    def fails(*_: object, **__: object) -> None:
        raise error("in words")

    monkeypatch.setattr(inner, "write", fails)
    with pytest.raises(error):
        watched.engine.ledger.expire()
    watched.turns()
    assert watched.alarms() == {alarm: watched.engine.ledger.name}
    assert "database away" in watched.dog.status()
    monkeypatch.undo()
    monkeypatch.setattr("freeswitch_callback.ledger.health._FULL_FOR", 0.0)
    watched.engine.ledger.expire()
    watched.turns()
    assert watched.alarms() == {}


def test_a_schema_that_another_machine_has_upgraded_is_told(watched, monkeypatch):
    def too_new(_: Ledger) -> None:
        raise SchemaTooNew("a newer release")

    monkeypatch.setattr(Ledger, "verify", too_new)
    watched.dog.look()
    watched.turns()
    assert watched.alarms() == {"schema_too_new": watched.engine.ledger.name}
    monkeypatch.undo()
    watched.dog.look()
    watched.turns()
    assert watched.alarms() == {}


def test_an_engine_that_is_too_old_for_the_schema_raises_the_alarm_and_ends(house, sim, monkeypatch):
    def too_new(_: Ledger) -> None:
        raise SchemaTooNew("a newer release")

    monkeypatch.setattr(Ledger, "migrate", too_new)
    node = NodeAddress("fs1", "127.0.0.1", sim.port, sim.password)
    rules = EngineRules(house.capture, lambda _: house.gates, lambda _: house.rules, finishing=0.1)
    engine = Engine(house.ledger, [node], rules)
    with pytest.raises(SchemaTooNew):
        engine.run()
    assert [str(alarm.name) for alarm in engine.alarms.active()] == ["schema_too_new"]


def test_a_freeswitch_that_is_away_for_longer_than_a_moment_is_told(house, sim, watched):
    sim.refuse_connections()
    sim.cut_connections()
    house.until(lambda: not watched.engine.sites[0].node.up.is_set())
    watched.turns(4)
    assert watched.alarms() == {}
    watched.turns(2)
    assert watched.alarms() == {"freeswitch_away": "fs1"}
    sim.refuse_connections(False)
    house.until(lambda: watched.engine.sites[0].node.up.is_set())
    watched.turns()
    assert watched.alarms() == {}


def test_what_waits_in_the_spool_is_told_and_counted(watched, monkeypatch):
    monkeypatch.setattr(type(watched.engine.sites[0].recorder), "behind", 12)
    watched.turns()
    assert watched.alarms() == {"spooling": "fs1"}
    assert "12 facts in the spool" in watched.dog.status()


def test_a_disk_that_is_full_is_told(house, manager, tmp_path, monkeypatch):
    watched = Watched(house, manager, [tmp_path, tmp_path / "spool"])
    watched.dog.look()
    assert watched.alarms() == {}
    monkeypatch.setattr(machine, "FULL", 1e18)
    watched.dog.look()
    assert watched.alarms() == {"disk_full": str(tmp_path / "spool")}
    monkeypatch.undo()
    watched.dog.look()
    assert watched.alarms() == {}


def test_what_waits_for_a_person_is_told_until_one_has_seen_to_it(house, watched):
    recall = house.ledger.show(house.missed())["recall"]["id"]
    claim = house.ledger.claim(
        recall, engine="another", lease=60.0, node="fs9", agent=None, mode=Mode.QUEUE, call_uuid="c",
        job_uuid="j",
    )  # fmt: skip
    house.ledger.dialling(claim, "core")
    house.ledger.settle(claim, Settlement(Outcome.UNKNOWN), datetime.now(UTC))
    watched.dog.look()
    assert watched.alarms() == {"outcome_unknown": "recalls"}
    house.ledger.close_recalls(Filter(state="unknown"), "anna", ClosedAs.CANCELLED)
    watched.dog.look()
    assert watched.alarms() == {}


def test_a_breaker_is_told_until_it_is_reset(watched, monkeypatch):
    tripped = [Breaker("+4930", datetime.now(UTC), 50)]
    monkeypatch.setattr(Ledger, "breakers", lambda _: tripped)
    watched.dog.look()
    assert watched.alarms() == {"breaker_open": "+4930"}
    tripped.clear()
    watched.dog.look()
    assert watched.alarms() == {}


def test_a_breaker_that_trips_again_before_anybody_looked_is_told_again(watched, monkeypatch):
    first = Breaker("+4930", datetime.now(UTC), 50)
    again = replace(first, tripped_at=first.tripped_at + timedelta(seconds=5))
    with capture_logs() as said:
        for tripped in (first, first, again, again):
            monkeypatch.setattr(Ledger, "breakers", lambda _, tripped=tripped: [tripped])
            watched.dog.look()
    told = [entry["event"] for entry in said if entry.get("alarm") == "breaker_open"]
    assert told == ["alarm_raised", "alarm_cleared", "alarm_raised"]


def test_a_recall_at_a_freeswitch_that_is_gone_is_told_until_somebody_settles_it(house, watched):
    missed = house.missed()
    recall = house.ledger.show(missed)["recall"]["id"]
    claim = house.ledger.claim(
        recall, engine="another", lease=-1.0, node="fs9", agent=None, mode=Mode.QUEUE, call_uuid="c",
        job_uuid="j",
    )  # fmt: skip
    house.ledger.dialling(claim, "core")
    watched.dog.look()
    assert watched.alarms() == {"node_gone": "fs9"}
    [alarm] = watched.engine.alarms.active()
    assert f"`close {missed}`" in alarm.text
    assert house.ledger.give_up(Filter(ids=(missed,)), ["fs1"], "anna") == 1
    house.ledger.close_recalls(Filter(ids=(missed,)), "anna", ClosedAs.CANCELLED)
    watched.dog.look()
    assert watched.alarms() == {}


def test_a_hub_that_stands_still_is_told_with_what_held_it_up():
    def this_holds_it_up() -> None:
        until = time.monotonic() + 0.4
        while time.monotonic() < until:
            pass

    watching = gevent.spawn(watch_hub, 0.1)
    with capture_logs() as said:
        gevent.idle()
        gevent.idle()
        this_holds_it_up()
        with gevent.Timeout(5):
            while not said:
                gevent.idle()
    watching.kill()
    [entry] = said
    assert (entry["event"], entry["log_level"]) == ("hub_blocked", "warning")
    assert entry["seconds"] > 0.1
    assert "in this_holds_it_up" in entry["stack"]


def test_a_hub_that_turns_is_not():
    watching = gevent.spawn(watch_hub, 0.2)
    with capture_logs() as said:
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            gevent.idle()
    watching.kill()
    assert said == []
