"""purge, as people meet it: what it says first, what it leaves, and what a vacuum takes."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import gevent
import pytest

from freeswitch_callback.operations import machine
from tests.acceptance.conftest import CLIENT

LONG_AGO = datetime.now(UTC) - timedelta(days=100)


@pytest.fixture
def served(house):
    """Somebody was missed long ago, and called back."""
    engine = house.engine()
    missed = house.missed(calldate=LONG_AGO, caller_name="Anna", extra={"crm": "4711"})
    house.free()
    house.row(closed_as="recalled")
    house.stop(engine)
    return missed


def test_to_anonymise_leaves_the_figures_and_nobody(shell, house, served):
    house.missed(phone="+12025550199")
    _, out, _ = shell("purge", "--older-than", "90d", "--anonymise", "--dry-run")
    assert out.startswith("would anonymise missed calls for good: 1, with 1 recalls, 1 attempts, ")
    assert house.row(id=served)["phone"] == CLIENT
    report = shell.json("report", "--since", "2000-01-01", "--until", "2099-01-01")[0]
    status, out, _ = shell("purge", "--older-than", "90d", "--anonymise", "--yes")
    assert (status, out.splitlines()[-1]) == (0, "anonymised: 1")
    row = house.row(id=served)
    assert (row["phone"], row["number"], row["caller_name"], row["extra"]) == ("anonymised", None, "", {})
    assert shell.json("report", "--since", "2000-01-01", "--until", "2099-01-01")[0] == report
    [shown] = shell.json("show", served)
    assert all(secret not in str(shown) for secret in (CLIENT, "Anna", "4711", "1001@default"))
    assert [row["phone"] for row in house.rows()] == ["+12025550199", "anonymised"]
    status, out, _ = shell("purge", "--older-than", "90d", "--anonymise")
    assert (status, out.splitlines()[-1]) == (0, "anonymised: 0"), "there is nothing to ask about"
    assert shell("why", served)[0] == 0
    assert shell("replay", served)[1] == "replayed: 0\nstill may not be called: 1\n"


def test_a_vacuum_says_what_it_takes_and_what_it_gave(shell, house, served):
    _, out, _ = shell("purge", "--all", "--vacuum", "--dry-run")
    assert "vacuum: " in out
    status, out, _ = shell("purge", "--all", "--vacuum", "--yes")
    assert status == 0
    assert " MB before, " in out
    assert out.splitlines()[-1] == "purged: 1"
    house.missed()  # it is as good as it was
    assert house.row(state="waiting")


def test_a_vacuum_for_which_there_is_no_room_purges_nothing(shell, house, served, monkeypatch):
    if house.ledger.path is None:
        return  # on PostgreSQL it takes none
    monkeypatch.setattr(machine, "room", lambda folder: machine.Room(folder, free=1000, total=10**9))
    status, _, err = shell("purge", "--all", "--vacuum", "--yes")
    assert status == 5
    assert "make room, or purge without it" in err
    assert len(house.rows()) == 1


def test_on_a_terminal_one_sees_how_far_it_is(shell, house, served):
    ours, theirs = pty.openpty()
    program = subprocess.Popen(
        [sys.executable, "-m", "freeswitch_callback", "--config", str(shell.path), "purge", "--all", "--yes"],
        stdin=theirs, stdout=theirs, stderr=theirs, env=os.environ | {"TERM": "xterm", "COLUMNS": "100"},
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    with gevent.Timeout(30):
        while b"purged: 1" not in shown:
            shown += gevent.get_hub().threadpool.apply(os.read, (ours, 4096))
        assert program.wait() == 0
    os.close(ours)
    assert b"delete missed calls for good" in shown
    assert "━".encode() in shown
