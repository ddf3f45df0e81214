"""One suite over both databases: a test that takes `ledger` runs on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from freeswitch_callback.ledger import Ledger
from tests.integration.ledger.given import Clock
from tests.postgres import ledger_url, postgres_server

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
