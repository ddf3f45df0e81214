"""The engine watches a folder: what events did not tell is recorded, and events do not wait for it."""

from __future__ import annotations

import os
from contextlib import closing
from datetime import UTC, datetime, timedelta

import gevent
import pytest
from gevent.event import Event as Flag

from freeswitch_callback.core.capture import CaptureRules
from freeswitch_callback.core.gates import GateRules
from freeswitch_callback.engine import cdr_folder
from freeswitch_callback.engine.cdr_folder import CdrFolder
from freeswitch_callback.ledger import Filter, Ledger
from freeswitch_callback.operations import cdr_files, cdr_import
from tests import cdrs


@pytest.fixture
def ledger(ledger_url):
    with closing(Ledger(ledger_url)) as opened:
        yield opened


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "json_cdr").mkdir()
    return tmp_path / "json_cdr"


class Watch:
    def __init__(self, ledger, *folders):
        self.stopping, self.woken = Flag(), []
        self.behind = lambda: 0
        self.folders = [str(folder) for folder in folders]
        self.cdrs = CdrFolder(
            "fs1",
            lambda: self.folders,
            ledger,
            CaptureRules,
            lambda queue: GateRules(),
            lambda: self.woken.append(True),
            self.stopping,
            behind=lambda: self.behind(),
            every=0.01,
        )
        self.look = self.cdrs.look


@pytest.fixture
def watch(ledger, folder):
    return Watch(ledger, folder)


def missed(folder, **said):
    return cdrs.write(folder, cdrs.record(ended=datetime.now(UTC) - timedelta(minutes=5)), **said)


def rows(ledger):
    return list(ledger.listing(Filter()))


def test_a_new_file_is_a_new_call_and_the_engine_wakes(watch, ledger, folder):
    watch.look()
    assert rows(ledger) == []
    missed(folder)
    watch.look()
    assert len(rows(ledger)) == 1
    assert watch.woken


def test_a_file_is_read_once(watch, ledger, folder, monkeypatch):
    missed(folder)
    watch.look()
    read = []
    monkeypatch.setattr(cdr_import.Reader, "one", lambda self, path: read.append(path))
    watch.look()
    missed(folder)
    watch.look()
    assert len(read) == 1


def test_all_folders_are_watched_and_what_is_below(ledger, folder, tmp_path):
    (folder / "2026-11-22-00-00-00").mkdir()
    (tmp_path / "spool").mkdir()
    missed(folder / "2026-11-22-00-00-00")
    missed(tmp_path / "spool")
    Watch(ledger, folder, tmp_path / "spool").look()
    assert len(rows(ledger)) == 2


def test_after_a_start_everything_is_read_again_which_changes_nothing(watch, ledger, folder):
    for _ in range(3):
        missed(folder)
    watch.look()
    before = rows(ledger)
    Watch(ledger, folder).look()
    assert rows(ledger) == before


def test_what_is_older_than_some_days_is_left_to_the_command(watch, ledger, folder):
    missed(folder, age=cdr_folder.LOOK_BACK + 60)
    watch.look()
    assert rows(ledger) == []


def test_a_file_that_is_being_written_is_left_until_it_is_complete(watch, ledger, folder, monkeypatch):
    path = missed(folder, age=0)
    whole = path.read_bytes()
    reads = []
    one = cdr_import.Reader.one
    monkeypatch.setattr(cdr_import.Reader, "one", lambda self, path: [reads.append(path), one(self, path)][1])
    for length in (100, 5000):
        path.write_bytes(whole[:length])
        watch.look()
    assert reads == []
    path.write_bytes(whole)
    watch.look()
    watch.look()  # as large as at the last look
    assert (len(reads), len(rows(ledger))) == (1, 1)


def test_half_a_file_that_seemed_complete_is_read_again(watch, ledger, folder):
    path = missed(folder)
    whole = path.read_bytes()
    path.write_bytes(whole[:5000])
    watch.look()
    watch.look()
    assert rows(ledger) == []
    path.write_bytes(whole)
    watch.look()
    watch.look()
    assert len(rows(ledger)) == 1


def test_what_is_no_record_is_told_once(watch, folder, capsys):
    path = folder / "x.json"
    path.write_text("{")
    os.utime(path, (path.stat().st_mtime - 120,) * 2)
    for _ in range(3):
        watch.look()
    assert capsys.readouterr().out.count("cdr_not_read") == 1


def test_a_folder_that_is_not_there_is_told_once_and_watched_when_it_is(ledger, folder, capsys):
    watch = Watch(ledger, folder / "later")
    watch.look()
    watch.look()
    assert capsys.readouterr().out.count("cdr_folder_not_read") == 1
    (folder / "later").mkdir()
    missed(folder / "later")
    watch.look()
    assert len(rows(ledger)) == 1


def test_more_than_one_look_takes_is_read_in_several(watch, ledger, folder, monkeypatch):
    monkeypatch.setattr(cdr_folder, "_AT_ONCE", 3)
    for minutes in range(8):
        missed(folder, age=60.0 * minutes)
    assert [watch.look() for _ in range(4)] == [True, True, False, False]
    assert len(rows(ledger)) == 8


def test_files_are_listed_and_read_by_another_thread(watch, folder, monkeypatch):
    """Where a slow disk stops nobody who waits for events."""
    ident = gevent.monkey.get_original("_thread", "get_ident")
    readers = set()
    listing, reading = cdr_files.walk, cdr_import.Reader.one
    monkeypatch.setattr(cdr_files, "walk", lambda folders: [readers.add(ident()), listing(folders)][1])
    monkeypatch.setattr(
        cdr_import.Reader, "one", lambda self, path: [readers.add(ident()), reading(self, path)][1]
    )
    missed(folder)
    watch.look()
    assert readers
    assert ident() not in readers


def test_it_runs_until_the_engine_stops(watch, ledger, folder):
    running = gevent.spawn(watch.cdrs.run)
    missed(folder)
    with gevent.Timeout(10):
        while not rows(ledger):
            gevent.idle()
    watch.stopping.set()
    running.get(timeout=10)


def test_no_folder_is_no_work(ledger):
    assert Watch(ledger).look() is False


def test_what_events_told_is_on_record_first(watch, ledger, folder):
    missed(folder)
    watch.behind = lambda: 3
    assert watch.look() is False
    assert rows(ledger) == []
    watch.behind = lambda: 0
    watch.look()
    assert len(rows(ledger)) == 1


def test_what_events_tell_while_a_file_is_read_is_on_record_first_too(watch, ledger, folder):
    missed(folder)
    asked, drained = Flag(), Flag()

    def behind():
        """Something is spooled after the look has begun."""
        if not asked.is_set():
            asked.set()
            return 0
        refused.set()
        return 0 if drained.is_set() else 1

    refused = Flag()
    watch.behind = behind
    looking = gevent.spawn(watch.look)
    assert refused.wait(10)
    assert rows(ledger) == []
    drained.set()
    looking.get(timeout=10)
    assert len(rows(ledger)) == 1
