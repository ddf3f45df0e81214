"""What `check` finds on the machine, in the database's rights, and between the clocks."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from freeswitch_callback.core.facts import Missed, Mode, Reason
from freeswitch_callback.errors import DatabaseReadOnly, SchemaTooNew
from freeswitch_callback.ledger import Ledger
from freeswitch_callback.ledger.spool import Spool, Waiting, peek
from freeswitch_callback.operations import machine
from freeswitch_callback.simulator import commands
from tests import postgres
from tests.acceptance.conftest import CLIENT

FILES = Path(__file__).parents[2] / "dialplan"


def lines(out: str, what: str) -> list[str]:
    return [line for line in out.splitlines() if line.split()[1] == what + ":"]


@pytest.mark.parametrize(
    ("free", "total", "told"),
    [
        (9e6, 100e9, "bad"),
        (199e6, 1e9, "warning"),
        (4.9e9, 100e9, "warning"),
        (5.1e9, 100e9, None),
        (201e6, 1e9, None),
    ],
)
def test_disks_that_run_full(shell, monkeypatch, free, total, told):
    monkeypatch.setattr(machine, "room", lambda folder: machine.Room(folder, int(free), int(total)))
    status, out, _ = shell("check")
    assert {line.split()[0] for line in lines(out, "disk")} == ({told} if told else set())
    assert status == (5 if told == "bad" else 0)


def test_a_disk_without_room_for_a_file_is_full():
    assert machine.Room(Path("/x"), 10**12, 10**12, files_left=False).full


def test_a_real_disk_has_room_and_is_found_by_a_folder_that_is_not_there_yet(tmp_path):
    room = machine.room(tmp_path / "not" / "yet")
    assert room.folder == tmp_path
    assert 0 < room.free <= room.total


def test_a_folder_that_cannot_be_looked_at(shell, monkeypatch):
    def denied(_: Path) -> machine.Room:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(machine, "room", denied)
    status, out, _ = shell("check")
    assert (status, "cannot be looked at" in lines(out, "disk")[0]) == (0, True)


def test_a_database_that_can_only_be_read(shell, house, monkeypatch):
    if house.url.startswith("postgresql"):
        name = house.url.partition("?")[0].rpartition("/")[2]
        postgres.server().run(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    else:

        def read_only(_: Ledger) -> None:
            raise DatabaseReadOnly("attempt to write a readonly database")

        monkeypatch.setattr(Ledger, "verify_writable", read_only)
    status, out, _ = shell("check")
    assert status == 5
    assert lines(out, "database")[0].startswith("bad")


def test_a_schema_of_a_newer_release(shell, monkeypatch):
    def too_new(_: Ledger) -> None:
        raise SchemaTooNew("a newer release wrote it")

    monkeypatch.setattr(Ledger, "verify", too_new)
    status, out, _ = shell("check")
    assert status == 5
    assert "a newer release" in lines(out, "database")[0]


@pytest.mark.parametrize(("seconds", "told"), [(-45, "behind"), (60, "ahead of"), (20, None), (-20, None)])
def test_another_time_at_the_database(shell, monkeypatch, seconds, told):
    monkeypatch.setattr(Ledger, "now", lambda _: datetime.now(UTC) + timedelta(seconds=seconds))
    status, out, _ = shell("check")
    found = [line for line in lines(out, "database") if line.startswith("warning")]
    assert (status, len(found)) == (0, 1 if told else 0)
    assert told is None or told in found[0]


@pytest.mark.parametrize(("seconds", "told"), [(-45, "behind"), (60, "ahead of"), (20, None)])
def test_another_time_at_freeswitch(shell, monkeypatch, seconds, told):
    shifted = str(int((datetime.now(UTC).timestamp() + seconds) * 1e6))
    monkeypatch.setattr(commands.Commands, "_api_strmicroepoch", lambda *_: shifted)
    status, out, _ = shell("check")
    found = [line for line in lines(out, "fs1") if line.startswith("warning")]
    assert (status, len(found)) == (0, 1 if told else 0)
    assert told is None or told in found[0]


CALLED = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)


def missed(number: int) -> Missed:
    return Missed("fs1", f"c{number}", CLIENT, CALLED + timedelta(minutes=number), 30, Reason.ABANDONED)


def test_calls_that_wait_for_the_database(shell, tmp_path):
    shell.path.write_text(shell.path.read_text() + f'capture.spool = "{tmp_path}/spool"\n')
    with closing(Spool(tmp_path / "spool" / "fs1.spool")) as spool:
        assert lines(shell("check")[1], "spool") == []
        spool.append(missed(1), missed(2), missed(3))
        spool.oldest(1)
        spool.drained(1)
        status, out, _ = shell("check")
    [line] = lines(out, "spool")
    assert status == 0
    assert f"2 facts wait since {(CALLED + timedelta(minutes=2)).astimezone():%Y-%m-%d %H:%M}" in line


def test_a_spool_that_is_none(shell, tmp_path):
    shell.path.write_text(shell.path.read_text() + f'capture.spool = "{tmp_path}/spool"\n')
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "fs1.spool").write_text("something else")
    assert "cannot be read: it is not a spool" in lines(shell("check")[1], "spool")[0]


def test_a_spool_is_looked_at_while_another_process_writes_to_it(tmp_path):
    path = tmp_path / "fs1.spool"
    assert peek(path) == Waiting()
    with closing(Spool(path)) as spool:
        assert peek(path) == Waiting()
        spool.append(missed(1))
        with path.open("ab") as half:
            half.write(b'{"v":1,"fact":"mis')
        assert peek(path) == Waiting(1, CALLED + timedelta(minutes=1))


def lost_at(house, node: str) -> int:
    """A missed call whose recall was sent to this FreeSWITCH by an engine that is gone."""
    missed = house.missed()
    claim = house.ledger.claim(
        house.ledger.show(missed)["recall"]["id"], engine="gone", lease=-1.0, node=node, agent=None,
        mode=Mode.QUEUE, call_uuid="c", job_uuid="j",
    )  # fmt: skip
    assert house.ledger.dialling(claim, "core")
    return missed


@pytest.mark.parametrize(("command", "state"), [("close", "closed"), ("replay", "waiting")])
def test_a_recall_at_a_freeswitch_that_is_in_the_configuration_no_more(shell, house, command, state):
    missed = lost_at(house, "fs9")
    status, out, _ = shell("check")
    [line] = lines(out, "recalls")
    assert (status, line.startswith("warning")) == (0, True)
    assert "fs9, which is no [[freeswitch]]" in line
    assert f"`{command} {missed}`" in line
    shell(command, "--all")
    assert house.rows()[0]["state"] == "dialling", "not by a filter"
    shell(command, missed)
    assert house.rows()[0]["state"] == state
    assert lines(shell("check")[1], "recalls") == []


def test_a_recall_at_a_freeswitch_that_is_there_is_left_to_the_engines(shell, house):
    missed = lost_at(house, "fs1")
    assert lines(shell("check")[1], "recalls") == []
    shell("close", missed)
    assert house.rows()[0]["state"] == "dialling"


def test_the_files_in_the_dialplan_are_seen(shell, sim):
    _, out, _ = shell("check")
    assert "no hook is seen, and none is needed" in out
    sim.install(FILES / "callback_missed.xml", FILES / "callback_request.xml")
    status, out, _ = shell("check")
    assert (status, "dialplan: callback_missed, callback_request" in out) == (0, True)


def test_an_extension_that_recalls_go_through_and_that_is_not_there(shell, sim):
    shell.path.write_text(shell.path.read_text() + 'recall.connect = "callback_connect"\n')
    status, out, _ = shell("check")
    assert (status, "no extension callback_connect is seen" in out) == (0, True)
    sim.install(FILES / "callback_connect.xml")
    _, out, _ = shell("check")
    assert "is seen in the dialplan;" not in out


def test_cdrs_that_nobody_writes(shell, sim, tmp_path, monkeypatch):
    shell.path.write_text(shell.path.read_text() + f'capture.cdr_folder = "{tmp_path}"\n')
    assert "mod_json_cdr" not in shell("check")[1]
    monkeypatch.setattr(commands, "MODULES", commands.MODULES - {"mod_json_cdr"})
    assert "mod_json_cdr is not loaded" in shell("check")[1]
