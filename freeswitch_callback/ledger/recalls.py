"""Recalls go out: which of those that wait are worth a look, and when.

A recall is looked at from `look_at` on, which is never before it is due. The gate that is found shut then
moves it on: what opens at 09:00 costs nothing until 09:00.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import peewee

from freeswitch_callback.core import gates
from freeswitch_callback.core.facts import ClosedAs, Due, Reason
from freeswitch_callback.core.gates import Verdict
from freeswitch_callback.core.lifecycle import State
from freeswitch_callback.ledger.database import Row, Transaction
from freeswitch_callback.ledger.models import WAITING, Missed, Recall, Talk, utc
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
    found: list[Row] = []
    for line in _lines(queues):
        wanted = limit
        for priority in _priorities(transaction, line):
            rows = transaction.rows(_due(line & (Recall.priority == priority), transaction.now).limit(wanted))
            found += rows
            wanted -= len(rows)
            if wanted <= 0:
                break
    found.sort(key=lambda row: (-row["priority"], row["look_at"], row["id"]))
    return [_as_due(**row) for row in found[:limit]]


def one(transaction: Transaction, recall: int) -> Due | None:
    """A recall as it would be looked at, due or not."""
    row = transaction.row(_selected().where(Recall.id == recall))
    return None if row is None else _as_due(**row)


def next_due(transaction: Transaction) -> float | None:
    """Seconds until a waiting recall is to be looked at, 0.0 or less if one is; None if none waits."""
    waiting = Recall.state == WAITING
    first = Recall.select(Recall.look_at).where(waiting, Recall.expires_at > transaction.now)
    soonest = [
        transaction.value(first.where(Recall.priority == priority).order_by(Recall.look_at))
        for priority in _priorities(transaction, waiting)
    ]
    looks = [look_at for look_at in soonest if look_at is not None]
    return float((min(looks) - transaction.now).total_seconds()) if looks else None


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


def reconsider(transaction: Transaction, after: int) -> list[int]:
    """Has at most `BATCH` of those that a gate keeps back looked at as soon as they are due: the next behind
    the id `after`; their ids."""
    kept_back = Recall.select(Recall.id).where(
        Recall.state == WAITING, Recall.look_at > Recall.due_at, Recall.id > after
    )
    found = transaction.rows(transaction.locked(kept_back.order_by(Recall.id).limit(BATCH), skip=True))
    ids = [row["id"] for row in found]
    if ids:
        transaction.change(Recall.update(look_at=Recall.due_at).where(Recall.id << ids))
    return ids


def _lines(queues: Collection[str] | None) -> Iterator[peewee.Expression]:
    if queues is None:
        yield Recall.state == WAITING
        return
    for queue in sorted(set(queues)):
        yield (Recall.state == WAITING) & (Recall.queue == queue)


def _priorities(transaction: Transaction, line: peewee.Expression) -> Iterator[int]:
    """The priorities that occur in a line, highest first, each found by one step along the index."""
    below = line
    while True:
        highest = transaction.value(
            Recall.select(Recall.priority).where(below).order_by(Recall.priority.desc())
        )
        if highest is None:
            return
        yield int(highest)
        below = line & (Recall.priority < highest)


def _due(line: peewee.Expression, now: datetime) -> peewee.ModelSelect[Recall]:
    to_be_looked_at = _selected().where(line, Recall.look_at <= now, Recall.expires_at > now)
    return to_be_looked_at.order_by(Recall.look_at, Recall.id)


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
