"""How many messages PostgreSQL gets for what stands between an agent and a call, and what becomes of a
transaction that begins with the first thing said in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta

import gevent
import pytest
from gevent.event import Event

from freeswitch_callback.core.facts import Outcome, Settlement
from freeswitch_callback.core.gates import CapRules
from freeswitch_callback.errors import DatabaseUnreachable
from freeswitch_callback.ledger import Ledger, postgresql
from freeswitch_callback.ledger.database import Database, Transaction, open_database
from freeswitch_callback.ledger.models import Dnc
from freeswitch_callback.ledger.prepared import addition
from tests.integration.ledger import given
from tests.integration.ledger.given import NOON, statements
from tests.integration.ledger.test_postgresql import Proxy, proxy  # noqa: F401  a fixture
from tests.integration.ledger.test_server_side import listed, listing
from tests.postgres import Postgres


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    with closing(Ledger(url)) as opened:
        yield opened


def test_a_recall_takes_few_messages(ledger: Ledger):
    """Each is a way there and back, and stands between an agent and a call, or between two recalls."""
    talked = Settlement(Outcome.CONNECTED, closed_as=None, retry_in=60.0, counted=True)

    def messages(work: Callable[[], object]) -> int:
        with statements() as said:
            assert work()
        return len(said)

    recall = given.waiting(ledger, "+12025550112").recall_id
    claim = None

    def claims() -> object:
        nonlocal claim
        claim = given.judged(ledger, recall, sent_to="core", **given.by_caps(CapRules()))
        return claim

    assert messages(claims) == 3
    at = ledger.now()
    assert messages(lambda: ledger.answered(claim, at)) == 2
    assert messages(lambda: ledger.connected(claim, at, "1001@default")) == 2
    assert messages(lambda: ledger.settle(claim, talked, at + timedelta(seconds=9), released=True)) == 2


def test_the_row_that_is_looked_for_tells_the_time(database: Database, ledger: Ledger):
    def work(transaction: Transaction) -> object:
        row = transaction.row(listed("+12025550100"), dated=True)
        return row, transaction.now

    database.write(lambda t: t.together(listing("+12025550100")))
    before = ledger.now()
    row, now = database.write(work)
    assert row == {"number": "+12025550100", "note": ""}
    assert before <= now <= ledger.now()
    assert now.tzinfo is not None


def test_where_no_row_is_found_the_time_is_asked_for(database: Database, ledger: Ledger):
    before = ledger.now()
    row, now = database.write(lambda t: (t.row(listed("+12025550100"), dated=True), t.now))
    assert row is None
    assert before <= now <= ledger.now()


def cut_idle_connections(server: Postgres, name: str) -> None:
    server.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")


@pytest.mark.parametrize("asks_first", [True, False])
def test_on_a_connection_that_was_cut_nothing_was_begun_and_another_is_taken(
    database: Database, postgres_server: Postgres, name: str, asks_first: bool
):
    """Whether the BEGIN went out with a question, or before the COMMIT: each time it is written once."""
    runs = 0

    def work(transaction: Transaction) -> None:
        nonlocal runs
        runs += 1
        transaction.together(
            addition(Dnc)(number=f"+1202555{runs:04}", added_at=NOON, added_by="anna", note="")
        )
        if asks_first:
            transaction.row(listed("+12025550100"))

    database.write(lambda t: t.say("SELECT 1"))
    cut_idle_connections(postgres_server, name)
    database.write(work)
    assert runs == 2
    assert postgres_server.run("SELECT number FROM dnc", name) == [("+12025550002",)]


def test_with_a_begin_that_nobody_has_answered_no_commit_goes_out(database: Database):
    """Else nobody knew, of a connection that is cut then, whether it was written."""
    database.write(lambda t: t.say("SELECT 1"))
    with statements() as said:
        database.write(lambda t: t.together(listing("+12025550100")))
    begin, commit = said
    assert begin == "BEGIN ISOLATION LEVEL READ COMMITTED"
    assert commit.endswith("; COMMIT")


def test_a_connection_cut_later_is_an_error_and_nothing_is_run_again(
    ledger: Ledger, database: Database, postgres_server: Postgres, name: str
):
    runs = 0

    def work(transaction: Transaction) -> None:
        nonlocal runs
        runs += 1
        transaction.say("SELECT 1")
        cut_idle_connections(postgres_server, name)
        transaction.together(listing("+12025550100"))

    database.write(lambda t: t.say("SELECT 1"))
    with pytest.raises(DatabaseUnreachable):
        database.write(work)
    assert runs == 1
    assert postgres_server.run("SELECT number FROM dnc", name) == []


def test_a_silent_server_is_noticed_by_the_first_thing_said(
    proxy: Proxy,  # noqa: F811
    name: str,
    monkeypatch: pytest.MonkeyPatch,
):
    url = f"postgresql://postgres@127.0.0.1:{proxy.server.server_port}/{name}"
    with closing(open_database(url)) as database:
        database.write(lambda t: t.say("SELECT 1"))
        for deadline in ("BEGIN_DEADLINE", "CONNECT_DEADLINE"):
            monkeypatch.setattr(postgresql, deadline, 0.05)
        proxy.silent = True
        with pytest.raises(DatabaseUnreachable, match="did not accept"):
            database.write(lambda t: t.row(listed("+12025550100")))
        assert database._idle == []


def test_a_connection_that_has_answered_has_all_the_time_for_the_next(
    proxy: Proxy,  # noqa: F811
    name: str,
    monkeypatch: pytest.MonkeyPatch,
):
    """Only an idle one is given up soon: a statement may wait for somebody's lock."""
    url = f"postgresql://postgres@127.0.0.1:{proxy.server.server_port}/{name}"
    with closing(open_database(url)) as database:
        database.write(lambda t: t.say("SELECT 1"))
        monkeypatch.setattr(postgresql, "BEGIN_DEADLINE", 0.05)

        def work(transaction: Transaction) -> object:
            transaction.say("SELECT 1")
            return transaction.say("SELECT pg_sleep(0.2)").fetchone()

        assert database.write(work) == ("",)


def test_whoever_waits_for_a_lock_with_the_first_thing_said_gets_it_in_the_end(
    database: Database, postgres_server: Postgres, name: str, monkeypatch: pytest.MonkeyPatch
):
    """It looks like a silent server for a while: it is said again, on a connection that has begun."""
    database.write(lambda t: t.together(listing("+12025550100")))
    locked, go_on = Event(), Event()

    def hold(transaction: Transaction) -> None:
        transaction.row(transaction.locked(listed("+12025550100")))
        locked.set()
        go_on.wait(10)

    def work(transaction: Transaction) -> None:
        assert transaction.row(transaction.locked(listed("+12025550100"))) is not None
        transaction.together(listing("+12025550101"))

    idle = gevent.spawn(database.write, lambda t: t.say("SELECT pg_sleep(0.1)"))
    holder = gevent.spawn(database.write, hold)
    assert locked.wait(10)
    idle.get(timeout=10)
    monkeypatch.setattr(postgresql, "BEGIN_DEADLINE", 0.2)
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query NOT LIKE 'BEGIN%'"
    waiter = gevent.spawn(database.write, work)
    with gevent.Timeout(10):
        while postgres_server.run(waits) != [(1,)]:  # the second time, behind a BEGIN of its own
            gevent.idle()
    go_on.set()
    holder.get(timeout=10)
    waiter.get(timeout=10)
    found = postgres_server.run("SELECT number FROM dnc ORDER BY number", name)
    assert found == [("+12025550100",), ("+12025550101",)]
