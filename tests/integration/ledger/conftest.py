"""One suite over both databases: a test that takes `ledger` runs on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import gevent
import pytest

from freeswitch_callback.ledger import Ledger
from freeswitch_callback.ledger.database import Database, Transaction, open_database
from tests.integration.ledger.given import Clock
from tests.postgres import TEMPLATE, Postgres, ledger_url, postgres_server

__all__ = ["ledger", "ledger_url", "other_ledger", "postgres_server"]


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    with closing(Ledger(ledger_url)) as opened:
        yield opened


@pytest.fixture
def other_ledger(ledger_url: str) -> Iterator[Ledger]:
    """A second engine's view of the same database."""
    with closing(Ledger(ledger_url)) as opened:
        yield opened


@pytest.fixture
def clock() -> Clock:
    """The time as the stories of `timed` have it."""
    return Clock()


@pytest.fixture
def timed(ledger_url: str, clock: Clock) -> Iterator[Ledger]:
    """A ledger that goes by `clock`."""
    with closing(Ledger(ledger_url, clock=clock)) as opened:
        yield opened


@pytest.fixture
def name(postgres_server: Postgres) -> str:
    """A migrated PostgreSQL database, empty, for this test alone."""
    return postgres_server.create(template=TEMPLATE)


@pytest.fixture
def url(postgres_server: Postgres, name: str) -> str:
    return postgres_server.url(name)


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    with closing(open_database(url)) as opened:
        yield opened


ComesToWait = Callable[[Callable[[], object]], gevent.Greenlet]


@pytest.fixture
def comes_to_wait(database: Database) -> ComesToWait:
    """Begins something, and goes on once that waits for somebody's lock, or is over."""

    def begin(work: Callable[[], object]) -> gevent.Greenlet:
        begun = gevent.spawn(work)
        while begun and not database.read(_somebody_waits):
            gevent.sleep(0)
        return begun

    return begin


def _somebody_waits(transaction: Transaction) -> bool:
    return bool(transaction.say("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone())
