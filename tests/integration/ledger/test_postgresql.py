"""What is particular to PostgreSQL: waiting in the hub, a pool, servers that go away or fall silent."""

import re
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import gevent
import peewee
import pytest
from gevent import socket
from gevent.event import Event
from gevent.server import StreamServer

from freeswitch_callback.core.facts import Claim, Served
from freeswitch_callback.core.gates import CapRules
from freeswitch_callback.errors import ConfigurationError, DatabaseUnreachable
from freeswitch_callback.ledger import (
    Filter,
    Ledger,
    Recorded,
    claims,
    limits,
    postgresql,
    recalls,
    recording,
    server_side,
)
from freeswitch_callback.ledger.database import Database, Transaction, open_database
from freeswitch_callback.ledger.prepared import Query, prepared
from freeswitch_callback.ledger.tellings import Answered
from tests.integration.ledger.conftest import ComesToWait
from tests.integration.ledger.given import (
    ANNA,
    MANY_RECALLS,
    NOON,
    by_caps,
    dialling,
    judged,
    statements,
    waiting,
)
from tests.postgres import Postgres


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    with closing(Ledger(url)) as opened:
        yield opened


class Proxy:
    """The server on a TCP port, until it falls `silent`."""

    def __init__(self, folder: object) -> None:
        self.folder = folder
        self.silent = False
        self.accepted = Event()
        self.server = StreamServer(("127.0.0.1", 0), self.handle)
        self.server.start()

    def handle(self, client: socket.socket, _: object) -> None:
        self.accepted.set()
        with socket.socket(socket.AF_UNIX) as server:
            server.connect(f"{self.folder}/.s.PGSQL.5432")
            gevent.joinall([gevent.spawn(self.pump, client, server), gevent.spawn(self.pump, server, client)])

    def pump(self, source: socket.socket, sink: socket.socket) -> None:
        while data := source.recv(65536):
            if not self.silent:
                sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def proxy(postgres_server: Postgres) -> Iterator[Proxy]:
    opened = Proxy(postgres_server.folder)
    yield opened
    opened.server.stop()


def sql(database: Database, statement: str) -> object:
    return database.read(lambda t: t.database.execute_sql(statement).fetchone()[0])


@pytest.fixture
def stuck(url: str, database: Database) -> Iterator[gevent.Greenlet]:
    """A greenlet whose query waits for a lock that another connection holds until the test is over."""
    with closing(open_database(url)) as other:
        locked, done = Event(), Event()

        def hold(t):
            t.database.execute_sql("SELECT pg_advisory_xact_lock(1)")
            locked.set()
            done.wait(30)

        holder = gevent.spawn(other.read, hold)
        assert locked.wait(10)
        asked = Event()

        def ask(t):
            asked.set()
            return t.database.execute_sql("SELECT pg_advisory_xact_lock(1)").fetchone()

        greenlet = gevent.spawn(database.read, ask)
        assert asked.wait(10)
        greenlet.release = done.set
        yield greenlet
        done.set()
        gevent.joinall([holder, greenlet], timeout=10)


def test_a_query_that_waits_stops_one_greenlet_not_the_hub(stuck: gevent.Greenlet, database: Database):
    assert sql(database, "SELECT 1") == 1
    assert not stuck.ready()


def test_a_query_that_takes_too_long_is_ended_by_the_server(url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(postgresql, "STATEMENT_TIMEOUT", 0.5)
    with closing(open_database(url)) as database:
        with pytest.raises(DatabaseUnreachable, match="statement timeout"):
            sql(database, "SELECT pg_sleep(30)")
        assert sql(database, "SELECT 1") == 1


def test_our_own_timeout_is_our_own(stuck: gevent.Greenlet, database: Database):
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.01):
        sql(database, "SELECT pg_advisory_xact_lock(1)")
    assert sql(database, "SELECT 1") == 1


def test_a_greenlet_killed_in_mid_query_takes_its_connection_along(
    stuck: gevent.Greenlet, database: Database
):
    stuck.kill()
    assert isinstance(stuck.value, gevent.GreenletExit)
    assert sql(database, "SELECT 1") == 1


def test_connections_say_who_they_are_and_speak_utf8_in_utc(database: Database):
    assert sql(database, "SHOW application_name") == "freeswitch-callback"
    assert sql(database, "SHOW client_encoding") == "UTF8"
    assert sql(database, "SHOW TimeZone") == "UTC"
    assert sql(database, "SHOW statement_timeout") == "8s"


def test_only_what_must_survive_a_power_cut_waits_for_the_servers_disk(database: Database):
    def level(transaction: Transaction) -> object:
        return transaction.say("SHOW synchronous_commit").fetchone()[0]

    database.write(lambda t: t.say("SET synchronous_commit = on"))  # of this connection
    assert [database.write(level, durable=durable) for durable in (True, False, True)] == ["on", "off", "on"]


def test_who_migrates_waits_for_another_process_that_does(
    database: Database, ledger: Ledger, postgres_server: Postgres
):
    locked, done = Event(), Event()

    def hold(t):
        t.say("SELECT pg_advisory_xact_lock(%s)", postgresql.MIGRATION_LOCK)
        locked.set()
        done.wait(30)

    holder = gevent.spawn(database.write, hold)
    assert locked.wait(10)
    migration = gevent.spawn(ledger.migrate)
    waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    with gevent.Timeout(10):
        while postgres_server.run(waits) != [(1,)]:
            assert not migration.ready()
    done.set()
    assert migration.get(timeout=10) == []
    holder.join(10)


def test_no_more_connections_than_the_pool_has(url: str, name: str, postgres_server: Postgres):
    with closing(Ledger(url, pool=2)) as ledger:
        greenlets = [gevent.spawn(waiting, ledger, f"+{number}") for number in range(20)]
        gevent.joinall(greenlets, timeout=20, raise_error=True)
        counted = postgres_server.run(f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'")
        assert counted == [(2,)]


def test_a_full_pool_is_reported(
    stuck: gevent.Greenlet, url: str, monkeypatch: pytest.MonkeyPatch, postgres_server: Postgres
):
    monkeypatch.setattr(postgresql, "POOL_DEADLINE", 0.01)
    with closing(open_database(url, pool=1)) as database:
        entered, done = Event(), Event()

        def keep(_: object) -> None:
            entered.set()
            done.wait(30)

        keeper = gevent.spawn(database.read, keep)
        assert entered.wait(10)
        with pytest.raises(DatabaseUnreachable, match="no connection of the pool"):
            sql(database, "SELECT 1")
        done.set()
        keeper.join(10)


def test_a_restarted_server_is_found_again(ledger: Ledger, database: Database, postgres_server: Postgres):
    gevent.joinall([gevent.spawn(ledger.count, Filter()) for _ in range(3)], raise_error=True)
    entered, cut = Event(), Event()

    def be_cut(t):
        entered.set()
        cut.wait(30)
        return t.database.execute_sql("SELECT 1")

    reader = gevent.spawn(database.read, be_cut)
    assert entered.wait(10)
    postgres_server.restart()
    cut.set()
    with pytest.raises(DatabaseUnreachable):
        reader.get(timeout=10)
    assert waiting(ledger).new
    assert sql(database, "SELECT 1") == 1


def test_a_server_that_falls_silent_is_given_up(proxy: Proxy, name: str, monkeypatch: pytest.MonkeyPatch):
    with closing(
        open_database(f"postgresql://postgres@127.0.0.1:{proxy.server.server_port}/{name}")
    ) as database:
        assert sql(database, "SELECT 1") == 1
        monkeypatch.setattr(postgresql._Connection, "silence", 0.05)
        proxy.silent = True
        with pytest.raises(DatabaseUnreachable):
            sql(database, "SELECT 1")


def test_of_a_silent_server_one_idle_connection_is_tried_and_the_others_are_given_up(
    proxy: Proxy, name: str, monkeypatch: pytest.MonkeyPatch
):
    """Else a full pool of them takes minutes to notice."""
    with closing(
        open_database(f"postgresql://postgres@127.0.0.1:{proxy.server.server_port}/{name}")
    ) as database:
        asked = [gevent.spawn(sql, database, "SELECT pg_sleep(0.01)") for _ in range(3)]
        gevent.joinall(asked, raise_error=True)
        assert len(database._idle) > 1
        for deadline in ("BEGIN_DEADLINE", "CONNECT_DEADLINE"):
            monkeypatch.setattr(postgresql, deadline, 0.05)
        proxy.silent = True
        began = []
        begin = postgresql._begin
        monkeypatch.setattr(postgresql, "_begin", lambda *how: began.append(how) or begin(*how))
        with pytest.raises(DatabaseUnreachable, match="did not accept"):
            sql(database, "SELECT 1")
        assert len(began) == 1


# --- a glance


@prepared
def is_it_later_than(at: datetime, then: datetime) -> Query:
    return peewee.Select(columns=[(peewee.Value(at) > peewee.Value(then)).alias("later")])


def glance(database: Database) -> object:
    return database.glance(
        lambda t: t.value(is_it_later_than(t.moment, datetime(2026, 3, 2, 12, 0, tzinfo=UTC)))
    )


def test_a_glance_is_one_message_and_its_time_is_the_servers(database: Database):
    with statements() as said:
        glance(database)
        said.clear()  # connected, and the statement is kept
        assert glance(database) is True
    [text] = said
    assert re.fullmatch(r"EXECUTE kept_[0-9a-f]+ \(%s\)", text)  # only what it is compared with


def test_a_glance_by_a_connection_that_was_cut_is_taken_by_another(
    database: Database, postgres_server: Postgres, name: str
):
    assert glance(database) is True
    postgres_server.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    assert glance(database) is True


def test_a_glance_at_a_silent_server_ends(proxy: Proxy, name: str, monkeypatch: pytest.MonkeyPatch):
    with closing(
        open_database(f"postgresql://postgres@127.0.0.1:{proxy.server.server_port}/{name}")
    ) as database:
        assert glance(database) is True
        for deadline in ("BEGIN_DEADLINE", "CONNECT_DEADLINE"):
            monkeypatch.setattr(postgresql, deadline, 0.05)
        proxy.silent = True
        with pytest.raises(DatabaseUnreachable, match="did not accept"):
            glance(database)
        assert database._idle == []


def test_a_server_that_accepts_and_says_nothing(proxy: Proxy, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(postgresql, "CONNECT_DEADLINE", 0.05)
    proxy.silent = True
    with (
        closing(Ledger(f"postgresql://postgres:s3cret@localhost:{proxy.server.server_port}/x")) as ledger,
        pytest.raises(DatabaseUnreachable, match="did not accept") as raised,
    ):
        ledger.verify()
    assert proxy.accepted.is_set()
    assert "postgres:***@localhost" in str(raised.value)
    assert "s3cret" not in str(raised.value)


def test_a_server_reached_by_name(proxy: Proxy, name: str):
    with closing(Ledger(f"postgresql://postgres@localhost:{proxy.server.server_port}/{name}")) as ledger:
        assert waiting(ledger).new


def test_a_server_that_is_not_there():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with (
        closing(Ledger(f"postgresql://me@127.0.0.1:{port}/x", password="s3cret")) as ledger,
        pytest.raises(DatabaseUnreachable, match="refused") as raised,
    ):
        ledger.verify()
    assert "s3cret" not in str(raised.value)


def test_a_host_that_nobody_knows(monkeypatch: pytest.MonkeyPatch):
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with (
        closing(Ledger("postgresql://me@db.example/x")) as ledger,
        pytest.raises(DatabaseUnreachable, match=r"db\.example is not known"),
    ):
        ledger.verify()


def test_a_database_that_does_not_exist(postgres_server: Postgres):
    with (
        closing(Ledger(postgres_server.url("nowhere"))) as ledger,
        pytest.raises(DatabaseUnreachable, match='"nowhere" does not exist'),
    ):
        ledger.verify()


def test_an_option_that_does_not_exist(url: str):
    with (
        closing(Ledger(url + "&sslmod=require")) as ledger,
        pytest.raises(ConfigurationError, match="sslmod"),
    ):
        ledger.verify()


def test_a_table_that_this_user_may_not_read(postgres_server: Postgres, name: str, url: str):
    postgres_server.run("DROP ROLE IF EXISTS guest")
    postgres_server.run("CREATE ROLE guest LOGIN")
    with (
        closing(Ledger(url.replace("postgres@", "guest@"))) as ledger,
        pytest.raises(DatabaseUnreachable, match="GRANT"),
    ):
        ledger.count(Filter())


def test_finding_what_is_due_is_a_walk_along_one_index(
    database: Database, name: str, postgres_server: Postgres, monkeypatch: pytest.MonkeyPatch
):
    """However many recalls wait: no scan and no sorting of what waits."""
    for rows in MANY_RECALLS:
        postgres_server.run(rows, name)
    postgres_server.run("ANALYZE", name)
    monkeypatch.setattr(server_side, "SAID_BEFORE", 1000)  # EXPLAIN takes them as they are
    found = []

    def explain(t):
        execute = t.database.execute_sql

        def noted(statement, parameters=None):
            found.extend(str(row[0]) for row in execute(f"EXPLAIN {statement}", parameters).fetchall())
            return execute(statement, parameters)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(t.database, "execute_sql", noted)
            assert len(recalls.due(t, ["queue 0"], 10)) == 10
            recalls.due(t, None, 10)
            recalls.next_due(t)
            recalls.next_due(t, due_for=1.0)

    database.read(explain)
    assert not [step for step in found if "Seq Scan on recall" in step or "Sort" in step]
    of_recall = [step for step in found if "on recall" in step]
    assert [("recall_line" in step, "recall_turn" in step) for step in of_recall] == [
        *[(True, False)] * 2,  # of one queue: its highest priority, then what is due
        *[(False, True)] * (len(of_recall) - 2),
    ]


# The server undoes one of two that wait for each other; it is done again, more than a second later.


def test_a_client_who_calls_again_while_their_recall_is_claimed_waits_for_that_and_nothing_else(
    ledger: Ledger, comes_to_wait: ComesToWait, monkeypatch: pytest.MonkeyPatch
):
    """The claim has the recall, and asks the gates; the call has the number, and waits for the recall."""
    recall = waiting(ledger).recall_id
    begun: list[str] = []
    calls: list[gevent.Greenlet] = []
    asks, records = limits.alone_with, recording.record

    def asks_when_somebody_calls(*about: Any) -> None:
        begun.append("claim")
        calls.append(comes_to_wait(lambda: waiting(ledger)))
        asks(*about)

    def recorded(*said: Any) -> Recorded:
        begun.append("call")
        return records(*said)

    monkeypatch.setattr(limits, "alone_with", asks_when_somebody_calls)
    monkeypatch.setattr(recording, "record", recorded)
    assert isinstance(judged(ledger, recall, **by_caps(CapRules())), Claim)
    assert calls[0].get().recall_id == recall
    assert begun == ["claim", "call"]


def test_a_client_who_is_answered_while_their_recall_is_connected_waits_for_that_and_nothing_else(
    ledger: Ledger, comes_to_wait: ComesToWait, monkeypatch: pytest.MonkeyPatch
):
    """Both change the recall, and note whom the client talked to."""
    taken = dialling(ledger)
    answered = Answered(Served("fs1", "another call", ANNA, None, "1002", NOON), ANNA, "default", True)
    begun: list[str] = []
    calls: list[gevent.Greenlet] = []
    notes, closes = claims.note_talk, recording.close_served

    def notes_when_somebody_is_answered(*talk: Any) -> None:
        begun.append("recall")
        calls.append(comes_to_wait(lambda: ledger.take_all([answered])))
        notes(*talk)

    def closed(*said: Any) -> int:
        begun.append("call")
        return closes(*said)

    monkeypatch.setattr(claims, "note_talk", notes_when_somebody_is_answered)
    monkeypatch.setattr(recording, "close_served", closed)
    assert ledger.connected(taken, NOON, "1001")
    assert calls[0].get() == [0]
    assert begun == ["recall", "call"]
