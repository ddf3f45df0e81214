"""The few figures that a supervisor watches, cheap enough to be asked every few seconds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import peewee

from freeswitch_callback.core.lifecycle import LIVE, State
from freeswitch_callback.ledger.database import Transaction
from freeswitch_callback.ledger.filters import covered
from freeswitch_callback.ledger.models import CLOSED, Missed, Recall
from freeswitch_callback.ledger.prepared import Query

MEDIAN_OF = 10_000
"""Calls: a median of the newest ones is as good, and takes no longer on a day with more."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Of the calls that came in since some moment: `missed`, `reached` of them, `median` seconds from the end
    of a call to that. Of all recalls: how many `wait`, are being `called`, are `unknown`."""

    missed: int
    reached: int
    median: float | None
    wait: int
    called: int
    unknown: int

    @property
    def recovery(self) -> float | None:
        """From 0 to 1; None without calls."""
        return self.reached / self.missed if self.missed else None


def figures(transaction: Transaction, since: datetime, queues: Sequence[str] | None) -> Figures:
    """`queues`: shell patterns that limit it, None for all."""
    number = peewee.fn.COUNT(peewee.SQL("*")).alias("number")
    reached = peewee.fn.COUNT(Missed.recalldate).alias("reached")
    calls = _of_queues(
        transaction, Missed.select(number, reached).where(Missed.calldate >= since), Missed.queue, queues
    )
    counted = transaction.rows(calls)[0]
    open_ones = Recall.select(Recall.state, number).where(Recall.state != CLOSED).group_by(Recall.state)
    states = {
        row["state"]: row["number"]
        for row in transaction.rows(_of_queues(transaction, open_ones, Recall.queue, queues))
    }
    return Figures(
        missed=counted["number"],
        reached=counted["reached"],
        median=_median(transaction, since, queues, counted["reached"]),
        wait=states.get(State.WAITING, 0),
        called=sum(states.get(state, 0) for state in LIVE),
        unknown=states.get(State.UNKNOWN, 0),
    )


def _median(
    transaction: Transaction, since: datetime, queues: Sequence[str] | None, reached: int
) -> float | None:
    """Seconds from the end of a call until its client was reached, of the newest `MEDIAN_OF` of those who
    were `reached`. The database sorts them, and only the middle comes here."""
    if not reached:
        return None
    reached = min(reached, MEDIAN_OF)
    waited = _seconds_between(transaction, Missed.calldate, Missed.recalldate) - Missed.timewait
    newest = (
        Missed.select(waited.alias("waited"))
        .where(Missed.calldate >= since, Missed.recalldate.is_null(False))
        .order_by(Missed.calldate.desc())
        .limit(MEDIAN_OF)
    )
    sorted_ = peewee.Select([_of_queues(transaction, newest, Missed.queue, queues)], [peewee.SQL("waited")])
    middle = sorted_.order_by(peewee.SQL("waited")).offset((reached - 1) // 2).limit(2 - reached % 2)
    return statistics.mean(max(0.0, round(float(row["waited"]), 3)) for row in transaction.rows(middle))


def _seconds_between(transaction: Transaction, earlier: peewee.Field, later: peewee.Field) -> Query:
    if isinstance(transaction.database, peewee.SqliteDatabase):
        days = peewee.fn.JULIANDAY(later) - peewee.fn.JULIANDAY(earlier)
        return (days * 86400.0).coerce(False)
    return peewee.fn.EXTRACT(peewee.NodeList((peewee.SQL("EPOCH FROM"), later - earlier))).coerce(False)


def by_hour(
    transaction: Transaction, since: datetime, queues: Sequence[str] | None
) -> list[tuple[datetime, int, int]]:
    """For each hour in which calls were missed: its begin, how many, and how many of them were reached."""
    sqlite = isinstance(transaction.database, peewee.SqliteDatabase)
    hour = (
        peewee.fn.SUBSTR(Missed.calldate, 1, 13).coerce(False)
        if sqlite
        else peewee.fn.TO_CHAR(Missed.calldate, 'YYYY-MM-DD"T"HH24').coerce(False)  # connections have UTC
    )
    reached = peewee.fn.COUNT(Missed.recalldate).alias("reached")
    query = (
        Missed.select(hour.alias("hour"), peewee.fn.COUNT(peewee.SQL("*")).alias("missed"), reached)
        .where(Missed.calldate >= since)
        .group_by(peewee.SQL("hour"))
        .order_by(peewee.SQL("hour"))
    )
    return [
        (datetime.fromisoformat(f"{row['hour']}:00+00:00"), row["missed"], row["reached"])
        for row in transaction.rows(_of_queues(transaction, query, Missed.queue, queues))
    ]


def queues_seen(transaction: Transaction, patterns: Sequence[str] | None) -> list[str]:
    """The queues of the recalls there are, by name."""
    query = Recall.select(Recall.queue).where(Recall.queue.is_null(False)).distinct().order_by(Recall.queue)
    return [row["queue"] for row in transaction.rows(_of_queues(transaction, query, Recall.queue, patterns))]


def _of_queues(
    transaction: Transaction, query: Query, column: peewee.Field, patterns: Sequence[str] | None
) -> Query:
    return query if patterns is None else query.where(covered(transaction, column, patterns))
