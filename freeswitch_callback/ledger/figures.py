"""The few figures that a supervisor watches, cheap enough to be asked every few seconds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import peewee

from freeswitch_callback.core.lifecycle import LIVE, State
from freeswitch_callback.ledger.database import Transaction
from freeswitch_callback.ledger.filters import covered
from freeswitch_callback.ledger.models import CLOSED, Missed, Recall
from freeswitch_callback.ledger.prepared import Query


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
    calls = _of_queues(
        transaction,
        Missed.select(Missed.calldate, Missed.timewait, Missed.recalldate).where(Missed.calldate >= since),
        Missed.queue,
        queues,
    )
    missed, waits = 0, []
    for row in transaction.rows(calls):
        missed += 1
        if row["recalldate"] is not None:
            ended = row["calldate"] + timedelta(seconds=row["timewait"])
            waits.append(max(0.0, (row["recalldate"] - ended).total_seconds()))
    number = peewee.fn.COUNT(peewee.SQL("*")).alias("number")
    open_ones = Recall.select(Recall.state, number).where(Recall.state != CLOSED).group_by(Recall.state)
    states = {
        row["state"]: row["number"]
        for row in transaction.rows(_of_queues(transaction, open_ones, Recall.queue, queues))
    }
    return Figures(
        missed=missed,
        reached=len(waits),
        median=statistics.median(waits) if waits else None,
        wait=states.get(State.WAITING, 0),
        called=sum(states.get(state, 0) for state in LIVE),
        unknown=states.get(State.UNKNOWN, 0),
    )


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
