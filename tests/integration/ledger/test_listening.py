"""Who listens hears what other ledgers do to recalls; PostgreSQL only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta

import gevent
import pytest
from gevent.event import Event

from freeswitch_callback.core.facts import Claim
from freeswitch_callback.ledger import Filter, Ledger
from tests.integration.ledger.given import RETRY, claim, waiting
from tests.postgres import TEMPLATE, Postgres

SOON = 2.0  # seconds: far less than any poll


class Ear:
    """Listens with a ledger, from when it is connected."""

    def __init__(self, ledger: Ledger) -> None:
        self.heard = Event()
        self.greenlet = gevent.spawn(ledger.listen, self.heard.set)
        assert self.hears(), "does not listen"

    def hears(self, within: float = SOON) -> bool:
        heard = bool(self.heard.wait(within))
        self.heard.clear()
        return heard


@pytest.fixture
def url(postgres_server: Postgres) -> str:
    return postgres_server.url(postgres_server.create(template=TEMPLATE))


@pytest.fixture
def mine(url: str) -> Iterator[Ledger]:
    with closing(Ledger(url)) as ledger:
        yield ledger


@pytest.fixture
def theirs(url: str) -> Iterator[Ledger]:
    with closing(Ledger(url)) as ledger:
        yield ledger


@pytest.fixture
def ear(mine: Ledger) -> Iterator[Ear]:
    ear = Ear(mine)
    yield ear
    ear.greenlet.kill()


def test_a_missed_call_that_another_records_is_heard(ear: Ear, theirs: Ledger) -> None:
    waiting(theirs)
    assert ear.hears()


@pytest.mark.parametrize(
    "change",
    [
        lambda ledger, got: ledger.settle(got, RETRY, ledger.now()),
        lambda ledger, got: ledger.abort(got),
    ],
    ids=["retry", "abort"],
)
def test_a_recall_that_waits_again_is_heard(
    ear: Ear, theirs: Ledger, change: Callable[[Ledger, Claim], bool]
) -> None:
    got = claim(theirs, waiting(theirs).recall_id)
    assert got is not None
    assert ear.hears()
    if change(theirs, got):
        assert ear.hears()
    else:
        pytest.fail("nothing was changed")


def test_a_postponed_and_a_replayed_recall_are_heard(ear: Ear, theirs: Ledger) -> None:
    waiting(theirs)
    assert ear.hears()
    assert theirs.postpone(Filter(), theirs.now() + timedelta(hours=1), "me") == 1
    assert ear.hears()
    theirs.replay(Filter(), "me", 3600.0)
    assert ear.hears()


def test_who_tells_does_not_hear_himself(ear: Ear, mine: Ledger) -> None:
    waiting(mine)
    assert not ear.hears(within=0.3)


def test_after_a_cut_connection_it_listens_again(
    ear: Ear, theirs: Ledger, url: str, postgres_server: Postgres
) -> None:
    cut = postgres_server.run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ~ '^(LISTEN|SELECT 1)' "
        f"AND datname = '{url.split('/')[3].split('?')[0]}'"
    )
    assert cut == [(True,)]
    assert ear.hears(), "something may have been missed meanwhile"
    waiting(theirs)
    assert ear.hears()


def test_a_killed_listener_leaves_no_connection(ear: Ear, url: str, postgres_server: Postgres) -> None:
    ear.greenlet.kill()
    count = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{url.split('/')[3].split('?')[0]}'"
    with gevent.Timeout(SOON):
        while postgres_server.run(count) != [(0,)]:
            gevent.idle()
