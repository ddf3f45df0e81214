"""Recalls go out: which of those that wait are worth a look, and when.

A recall is looked at from `look_at` on, which is never before it is due. The gate that is found shut then
moves it on: what opens at 09:00 costs nothing until 09:00.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import inf
from typing import Any

import peewee

from freeswitch_callback.core import gates
from freeswitch_callback.core.facts import ClosedAs, Due, Reason
from freeswitch_callback.core.gates import Verdict
from freeswitch_callback.core.lifecycle import State
from freeswitch_callback.ledger.database import Row, Transaction
from freeswitch_callback.ledger.models import LARGEST_INTEGER, WAITING, Missed, Recall, Talk, utc
from freeswitch_callback.ledger.prepared import Query, next_size, prepared
from freeswitch_callback.ledger.recording import close

BATCH = 500
"""Rows changed in one transaction: nobody waits long for its locks."""

SOON = 1.0
"""Seconds after which a gate that should be open by now is looked at again."""


def due(transaction: Transaction, queues: Collection[str] | None, limit: int) -> list[Due]:
    """The recalls to be looked at now: highest priority first, then the one that has been for longest.

    However many wait, each (queue, priority) is one walk along an index: a plain `ORDER BY priority DESC,
    look_at` would step over every recall of a high priority whose time has not come.
    """
    found: dict[int, Row] = {}  # by id: one that is moved up meanwhile may be met twice
    for queue in [None] if queues is None else sorted(set(queues)):
        wanted, at_most = limit, LARGEST_INTEGER
        while wanted > 0:
            if queue is None:
                line = _most_urgent(at_most, transaction.moment)
            else:
                line = _most_urgent_of(queue, at_most, transaction.moment)
            rows = transaction.rows(line.limit(next_size(wanted)))
            priority = rows[0]["priority"] if rows else _highest(transaction, queue, at_most)
            if priority is None:
                break
            found |= {row["id"]: row for row in rows}
            wanted, at_most = wanted - len(rows), priority - 1
    first = sorted(found.values(), key=lambda row: (-row["priority"], row["look_at"], row["id"]))
    return [_as_due(**row) for row in first[:limit]]


@dataclass(frozen=True, slots=True)
class Ahead:
    """The first of a queue's line. `good_for`: seconds for which nothing comes before them by time alone,
    or, where there is none of them, comes at all."""

    recalls: Sequence[Due]
    good_for: float


def ahead(transaction: Transaction, queue: str, limit: int) -> Ahead:
    """What `due` would begin with, of the highest priority only that anybody in it has: whatever comes due
    later with the same one goes behind those that are there."""
    now, at_most, sooner = transaction.now, LARGEST_INTEGER, inf
    while True:
        rows = transaction.rows(_first_of(queue, at_most, now).limit(next_size(limit)))
        if there := [_as_due(**row) for row in rows if row["look_at"] <= now]:
            return Ahead(there, sooner)
        priority = rows[0]["priority"] if rows else _highest(transaction, queue, at_most)
        if priority is None:
            return Ahead([], sooner)
        if rows:
            sooner = min(sooner, (rows[0]["look_at"] - now).total_seconds())
        at_most = priority - 1


def one(transaction: Transaction, recall: int) -> Due | None:
    """A recall as it would be looked at, due or not."""
    row = transaction.row(_selected().where(Recall.id == recall))
    return None if row is None else _as_due(**row)


def next_due(transaction: Transaction, due_for: float | None = None) -> float | None:
    """Seconds until a waiting recall is to be looked at, 0.0 or less if one is; None if none waits.

    `due_for`: not of those that have been due for longer than so many seconds.
    """
    soonest: list[datetime] = []
    now = transaction.now
    at_most: int | None = LARGEST_INTEGER
    while at_most is not None:
        if due_for is None:
            row = transaction.row(_soonest(at_most, now))
        else:
            row = transaction.row(_soonest_since(at_most, now, now - timedelta(seconds=due_for)))
        priority = row["priority"] if row else _highest(transaction, None, at_most)
        if row is not None:
            soonest.append(row["look_at"])
        at_most = None if priority is None else priority - 1
    return float((min(soonest) - now).total_seconds()) if soonest else None


def expire(transaction: Transaction) -> int:
    """Closes at most `BATCH` waiting recalls whose time is over; how many."""
    over = (
        Recall.select(Recall.id)
        .where(Recall.state == WAITING, Recall.expires_at <= transaction.now)
        .order_by(Recall.expires_at)
        .limit(BATCH)
    )
    found = transaction.rows(transaction.locked(over, skip=True))
    for recall in found:
        close(transaction, recall["id"], State.WAITING, ClosedAs.EXPIRED, "expiry")
    return len(found)


def hold(transaction: Transaction, shut: Sequence[tuple[int, Verdict]], by: str) -> int:
    """Moves recalls on whose gates were found shut; how many. Left alone is what somebody has, or is to be
    looked at later already."""
    verdicts = dict(shut)
    looked_at = Recall.select(Recall.id).where(
        Recall.id << list(verdicts), Recall.state == WAITING, Recall.look_at <= transaction.now
    )
    found = [row["id"] for row in transaction.rows(transaction.locked(looked_at, skip=True))]
    keep_back(transaction, {recall: verdicts[recall] for recall in found}, by)
    return len(found)


def keep_back(transaction: Transaction, shut: Mapping[int, Verdict], by: str) -> None:
    """Closes recalls, which are locked and wait, as `blocked`, or has them looked at when the gate opens."""
    later: dict[datetime, list[int]] = {}
    for recall, verdict in shut.items():
        if verdict.for_good:
            close(transaction, recall, State.WAITING, ClosedAs.BLOCKED, by, str(verdict))
        else:
            # An engine's clock may be behind the database's: not again and again until both agree.
            look_at = max(gates.look_at(verdict, transaction.now), transaction.after(SOON))
            later.setdefault(look_at, []).append(recall)
    for look_at, recalls in later.items():
        transaction.change(Recall.update(look_at=look_at).where(Recall.id << recalls))


def gates_change(transaction: Transaction) -> None:
    """To be said before what is on record and keeps recalls back is changed, and before a claim keeps one
    back by it: whoever comes second sees what the first has done. Else a recall that is kept back in the
    moment in which a person opens its gate would be looked at as if nobody had.

    The last of a transaction's names, and no wait for a recall's row behind it: a claim has both.
    """
    transaction.alone("gates")


def reconsider(transaction: Transaction, after: int) -> list[int]:
    """Has at most `BATCH` of those that a gate keeps back looked at as soon as they are due: the next behind
    the id `after`; their ids."""
    next_ones = kept_back(transaction, Recall.id > after, BATCH)
    ids = [row["id"] for row in transaction.rows(next_ones)]
    if ids:
        transaction.change(look_when_due().where(Recall.id << ids))
    return ids


def kept_back(transaction: Transaction, which: peewee.Expression, most: int | None = None) -> Query:
    """The ids of those that a gate keeps back, the first `most` of them. Left out is what a claim is about to
    keep back: it asks again (`gates_change`)."""
    found = Recall.select(Recall.id).where(Recall.state == WAITING, Recall.look_at > Recall.due_at, which)
    return transaction.locked(found.order_by(Recall.id).limit(most), skip=True)


def look_when_due() -> Query:
    return Recall.update(look_at=Recall.due_at)


def _highest(transaction: Transaction, queue: str | None, at_most: int) -> int | None:
    """The highest priority that occurs in a line, found by one step along the index."""
    query = _priority(at_most) if queue is None else _priority_of(queue, at_most)
    highest = transaction.value(query)
    return None if highest is None else int(highest)


_Above = Recall.alias()


def _top(line: Query, at_most: int) -> peewee.ModelSelect[Recall]:
    by_priority = _Above.select(_Above.priority).order_by(_Above.priority.desc())
    return by_priority.where(_Above.state == WAITING, line, _Above.priority <= at_most).limit(1)


@prepared
def _priority(at_most: int) -> Query:
    return _top(peewee.SQL("TRUE"), at_most)


@prepared
def _priority_of(queue: str, at_most: int) -> Query:
    return _top(_Above.queue == queue, at_most)


@prepared
def _most_urgent(at_most: int, now: datetime) -> Query:
    """What is due of the highest priority that occurs."""
    line = (Recall.state == WAITING) & (Recall.priority == _top(peewee.SQL("TRUE"), at_most))
    return _due(line, now)


@prepared
def _most_urgent_of(queue: str, at_most: int, now: datetime) -> Query:
    return _due(_top_of(queue, at_most), now)


@prepared
def _first_of(queue: str, at_most: int, now: datetime) -> Query:
    """As `_most_urgent_of`, and behind them what is not due yet."""
    return _in_order(_top_of(queue, at_most), now)


def _top_of(queue: str, at_most: int) -> peewee.Expression:
    top = _top(_Above.queue == queue, at_most)
    return (Recall.state == WAITING) & (Recall.queue == queue) & (Recall.priority == top)


@prepared
def _soonest(at_most: int, now: datetime) -> Query:
    return _to_come(at_most, now)


@prepared
def _soonest_since(at_most: int, now: datetime, since: datetime) -> Query:
    return _to_come(at_most, now).where(Recall.look_at >= since)


def _to_come(at_most: int, now: datetime) -> peewee.ModelSelect[Recall]:
    first = Recall.select(Recall.priority, Recall.look_at).order_by(Recall.look_at)
    top = _top(peewee.SQL("TRUE"), at_most)
    return first.where(Recall.state == WAITING, Recall.priority == top, Recall.expires_at > now)


def _due(line: peewee.Expression, now: datetime) -> peewee.ModelSelect[Recall]:
    return _in_order(line, now).where(Recall.look_at <= now)


def _in_order(line: peewee.Expression, now: datetime) -> peewee.ModelSelect[Recall]:
    return _selected().where(line, Recall.expires_at > now).order_by(Recall.look_at, Recall.id)


def _selected() -> peewee.ModelSelect[Recall]:
    """The columns of a `Due`."""
    newest, oldest = Missed.alias(), Missed.alias()
    newest_id = (
        newest.select(newest.id)
        .where(newest.recall == Recall.id)
        .order_by(newest.calldate.desc(), newest.id.desc())
        .limit(1)
    )
    oldest_call = (
        oldest.select(oldest.calldate).where(oldest.recall == Recall.id).order_by(oldest.calldate).limit(1)
    )
    last_agent = Talk.select(Talk.agent).where(Talk.number == Recall.number, Talk.scope == Recall.scope)
    return Recall.select(
        Recall.id,
        Recall.number,
        Recall.scope,
        Recall.queue,
        Recall.priority,
        Recall.attempts,
        Recall.failures,
        Recall.due_at,
        Recall.look_at,
        Missed.id.alias("missed_id"),
        Missed.timewait,
        Missed.reason,
        oldest_call.alias("called_at"),
        last_agent.alias("last_agent"),
    ).join(Missed, on=(Missed.id == newest_id))


def _as_due(look_at: datetime, reason: str, called_at: str | datetime, **columns: Any) -> Due:
    return Due(reason=Reason(reason), called_at=utc(called_at), open_since=look_at, **columns)
