"""What is asked for while SQLite's writer is at work is committed together, each on its own all the same."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import gevent
import peewee
import pytest
from gevent import socket

from freeswitch_callback.errors import DatabaseUnreachable, DiskFull
from freeswitch_callback.ledger import Ledger
from freeswitch_callback.ledger.sqlite import Sqlite

Work = Callable[[Any], Any]


class Office:
    """A database whose writer is busy until it is let go, and what was said to SQLite since."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        self.database = Sqlite(str(path), timeout=0.2)
        self.database.write(lambda t: None)  # connected
        self.said: list[str] = []
        self.refuse: Callable[[str], Exception | None] = lambda sql: None
        execute = peewee.SqliteDatabase.execute_sql

        def listen(database: peewee.SqliteDatabase, sql: str, params: Any = None) -> Any:
            self.said.append(sql)
            if (error := self.refuse(sql)) is not None:
                raise error
            return execute(database, sql, params)

        monkeypatch.setattr(peewee.SqliteDatabase, "execute_sql", listen)

    def all_at_once(self, *works: Work, durable: Sequence[bool] = ()) -> list[Any]:
        """What each of them gives or raises, all asked for while the writer does something else."""
        how = durable or [True] * len(works)
        self.said.clear()
        (go_on, may), (begun, has) = os.pipe(), os.pipe()
        busy = gevent.spawn(self.database.write, lambda t: (os.write(has, b"."), os.read(go_on, 1)))
        socket.wait_read(begun)  # to look again and again would leave the writer's thread no time
        asked = [gevent.spawn(self._outcome, *one) for one in zip(works, how, strict=True)]
        while len(self.database._writer._asked) < len(works):
            gevent.sleep(0)
        self.said.clear()
        os.write(may, b".")
        busy.get(timeout=5)
        gevent.joinall(asked, timeout=5)
        for pipe in (go_on, may, begun, has):
            os.close(pipe)
        return [one.value for one in asked]

    def _outcome(self, work: Work, durable: bool) -> Any:
        try:
            return self.database.write(work, durable=durable)
        except Exception as error:  # noqa: BLE001  what it raised is what is looked at
            return error

    @property
    def commits(self) -> int:
        return self.said.count("COMMIT")

    def notes(self) -> set[str]:
        with closing(sqlite3.connect(self.path)) as connection:
            return {prefix for (prefix,) in connection.execute("SELECT prefix FROM breaker")}


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    path = tmp_path / "callback.db"
    with closing(Ledger(f"sqlite://{path}")) as ledger:
        ledger.migrate()
    office = Office(path, monkeypatch)
    yield office
    office.database.close()


def writes(prefix: str, fails: Exception | None = None) -> Work:
    def work(transaction: Any) -> str:
        transaction.database.execute_sql("INSERT INTO breaker (prefix, recalls) VALUES (?, ?)", (prefix, 1))
        if fails is not None:
            raise fails
        return prefix

    return work


NAMES = [f"+{number}" for number in range(20)]


def test_twenty_transactions_are_one_commit(office):
    assert office.all_at_once(*map(writes, NAMES)) == NAMES
    assert office.notes() == set(NAMES)
    assert office.commits == 2  # that of the one which the writer was busy with, and this


@pytest.mark.parametrize("durable", [(True, False), (False, True), (True, True)])
def test_the_disk_is_waited_for_if_one_of_them_has_to_be_durable(office, durable):
    def level(transaction: Any) -> int:
        return int(transaction.database.execute_sql("PRAGMA synchronous").fetchone()[0])

    full, normal = 2, 1
    assert office.all_at_once(level, level, durable=durable) == [full, full]
    assert office.all_at_once(level, level, durable=(False, False)) == [normal, normal]
    assert office.all_at_once(level, level) == [full, full]


def test_not_so_many_that_another_process_waits_for_long(office, monkeypatch):
    monkeypatch.setattr("freeswitch_callback.ledger.sqlite._TOGETHER", 5)
    office.all_at_once(*map(writes, NAMES))
    assert office.commits == 1 + 4


@pytest.mark.parametrize(
    "error", [ValueError("a bug"), DatabaseUnreachable("ours"), peewee.IntegrityError("its own")]
)
def test_what_one_of_them_raises_undoes_that_one_alone(office, error):
    given = office.all_at_once(writes("+1"), writes("+2", error), writes("+3"))
    assert given == ["+1", error, "+3"]
    assert office.notes() == {"+1", "+3"}


def test_what_one_of_them_cannot_write_undoes_that_one_alone(office):
    first, second, third = office.all_at_once(writes("+1"), writes("+1"), writes("+3"))
    assert (first, third) == ("+1", "+3")
    assert isinstance(second, peewee.IntegrityError)
    assert office.notes() == {"+1", "+3"}


def test_where_they_cannot_be_committed_together_each_is_tried_alone(office):
    failed = []

    def once(sql: str) -> Exception | None:
        if sql == "COMMIT" and "RELEASE one" in office.said and not failed:
            failed.append(sql)
            return peewee.OperationalError("disk I/O error")
        return None

    office.refuse = once
    assert office.all_at_once(*map(writes, NAMES)) == NAMES
    assert failed
    assert office.notes() == set(NAMES)


def test_where_the_disk_is_full_for_one_the_others_are_there(office):
    """SQLite undoes the whole transaction then, not the savepoint."""

    def too_much(transaction: Any) -> None:
        pages = transaction.database.execute_sql("PRAGMA page_count").fetchone()[0]
        transaction.database.execute_sql(f"PRAGMA max_page_count = {pages + 2}")
        transaction.database.execute_sql(
            "INSERT INTO breaker (prefix, recalls) VALUES (hex(zeroblob(200000)), 1)"
        )

    first, second, third = office.all_at_once(writes("+1"), too_much, writes("+3"))
    assert (first, third) == ("+1", "+3")
    assert isinstance(second, DiskFull)
    assert office.notes() == {"+1", "+3"}


def test_somebody_elses_lock_is_waited_for_once(office):
    with closing(sqlite3.connect(office.path, isolation_level=None, check_same_thread=False)) as other:

        def takes_the_lock(sql: str) -> None:
            if sql == "BEGIN IMMEDIATE" and "COMMIT" in office.said and not other.in_transaction:
                other.execute("BEGIN IMMEDIATE")

        office.refuse = takes_the_lock
        given = office.all_at_once(*map(writes, NAMES))
        assert all(isinstance(error, DatabaseUnreachable) for error in given)
        assert office.said.count("BEGIN IMMEDIATE") == 1
        other.rollback()
    assert office.notes() == set()


@pytest.mark.parametrize("asks", ["read", "write"])
def test_of_a_crowd_each_gets_an_answer(office, asks: str):
    """gevent lets those who wait for a thread in as it likes, not in the order in which they came."""
    ask = getattr(office.database, asks)
    crowd = [gevent.spawn(ask, lambda _t, n=number: n) for number in range(500)]
    gevent.joinall(crowd, timeout=30)
    assert [one.value for one in crowd] == list(range(500))
