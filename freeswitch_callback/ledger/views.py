"""What people see: lists, one call with all that led to it, and the figures."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypedDict

import peewee

from freeswitch_callback.core.facts import ClosedAs, Outcome
from freeswitch_callback.errors import NotFound
from freeswitch_callback.ledger.database import Row, Transaction
from freeswitch_callback.ledger.filters import (
    NEWEST_FIRST,
    Filter,
    Order,
    RecallFilter,
    covered,
    ids_of,
    matching,
)
from freeswitch_callback.ledger.models import CLOSED, LARGEST_ID, Attempt, Journal, Missed, Recall, Remark

PAGE = 1000
"""Rows read at once: a long list is many short reads, and memory for one of them."""

OTHERS = 100

LISTED = tuple(name for name in Missed._meta.sorted_field_names if name not in ("settled", "recorded_at"))

Listed = dict[str, Any]
"""The columns of `missed`, then `state`, `attempts`, `due_at`, `closed_as` and `note` of its recall; times
are aware datetimes."""


class Shown(TypedDict):
    """One missed call: as in a list, its recall, the recall's other missed calls (the newest `OTHERS`), its
    attempts, its journal and its remarks, all oldest first."""

    missed: Listed
    recall: dict[str, Any]
    others: list[Listed]
    attempts: list[dict[str, Any]]
    journal: list[dict[str, Any]]
    remarks: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Away:
    """An agent who did not answer or declined a recall of this queue, and when that ended."""

    agent: str
    hangup_cause: str
    ended_at: datetime
    queue: str | None


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of all that is on record.

    `called_back` counts recalls closed as `recalled`. `median_wait` is in seconds, over the recalls that were
    tried, from the end of their first missed call (calldate + timewait) to the first originate sent; None if
    nothing was sent.
    """

    missed: int
    called_back: int
    median_wait: float | None
    by_reason: Mapping[str, int]
    by_state: Mapping[str, int]
    by_closed_as: Mapping[str, int]
    by_outcome: Mapping[str, int]


def newest_first(query: peewee.ModelSelect[Missed]) -> peewee.ModelSelect[Missed]:
    return query.order_by(Missed.calldate.desc(), Missed.id.desc())


def page(
    transaction: Transaction,
    chosen: Filter,
    after: tuple[Any, int] | None,
    size: int,
    order: Order = NEWEST_FIRST,
) -> list[Listed]:
    """`size` rows in this order, behind the call whose place (`Order.place`) is `after`."""
    ids = ids_of(transaction, chosen, order)
    if after is not None:
        ids = ids.where(order.behind(*after))
    # A list, not a subquery: the planners know then how few they are.
    found = [row["id"] for row in transaction.rows(order.of(ids).limit(size))]
    if not found:
        return []
    return _listed(transaction, order.of(matching(transaction, Filter(ids=tuple(found)))))


def count(transaction: Transaction, chosen: Filter) -> int:
    """How many missed calls the filter names, its limit included."""
    named = ids_of(transaction, chosen).limit(chosen.limit)
    return int(transaction.value(peewee.Select([named], [peewee.fn.COUNT(peewee.SQL("*"))])))


def show(transaction: Transaction, missed_id: int, queues: tuple[str, ...] | None = None) -> Shown:
    """Raises `NotFound`. `queues`: the patterns of those that may be seen."""
    found = _listed(transaction, matching(transaction, Filter(ids=(missed_id,), queues=queues)))
    if not found:
        raise NotFound(
            f"there is no missed call {missed_id}; `freeswitch-callback list` shows which there are"
        )
    recall = found[0]["recall"]
    others = matching(transaction, Filter(queues=queues)).where(
        Missed.recall == recall, Missed.id != missed_id
    )
    return Shown(
        missed=found[0],
        recall=transaction.rows(Recall.select().where(Recall.id == recall))[0],
        others=_listed(transaction, newest_first(others).limit(OTHERS)),
        attempts=transaction.rows(Attempt.select().where(Attempt.recall == recall).order_by(Attempt.id)),
        journal=transaction.rows(Journal.select().where(Journal.recall == recall).order_by(Journal.id)),
        remarks=transaction.rows(Remark.select().where(Remark.recall == recall).order_by(Remark.id)),
    )


def recalls(
    transaction: Transaction, chosen: RecallFilter, size: int, before: int | None
) -> list[dict[str, Any]]:
    """The newest first, each with its newest missed call's id (`missed`)."""
    newest = Missed.select(Missed.id).where(Missed.recall == Recall.id)
    query = Recall.select(Recall, newest_first(newest).limit(1).alias("missed"))
    for column, value in (
        (Recall.state, chosen.state),
        (Recall.closed_as, chosen.closed_as),
        (Recall.queue, chosen.queue),
        (Recall.number, chosen.number),
    ):
        if value is not None:
            query = query.where(column == value)
    if chosen.since is not None:
        query = query.where(Recall.created_at >= chosen.since)
    if chosen.until is not None:
        query = query.where(Recall.created_at < chosen.until)
    if chosen.queues is not None:
        query = query.where(covered(transaction, Recall.queue, chosen.queues))
    if before is not None:
        query = query.where(Recall.id < min(before, LARGEST_ID))
    return transaction.rows(query.order_by(Recall.id.desc()).limit(size))


def summary(transaction: Transaction) -> Summary:
    by_reason = _counted(transaction, Missed.reason)
    by_closed_as = _counted(transaction, Recall.closed_as)
    waits = _waits(transaction)
    return Summary(
        missed=sum(by_reason.values()),
        called_back=by_closed_as.get(ClosedAs.RECALLED, 0),
        median_wait=statistics.median(waits) if waits else None,
        by_reason=by_reason,
        by_state=_counted(transaction, Recall.state),
        by_closed_as=by_closed_as,
        by_outcome=_counted(transaction, Attempt.outcome),
    )


def agents_away(transaction: Transaction, node: str, since: datetime) -> list[Away]:
    """Who did not answer or declined a recall after `since`, the newest last."""
    query = (
        Attempt.select(Attempt.agent, Attempt.hangup_cause, Attempt.ended_at, Recall.queue)
        .join(Recall, on=(Attempt.recall == Recall.id))
        .where(
            Attempt.node == node,
            Attempt.made_at > since,
            Attempt.agent.is_null(False),
            Attempt.outcome << [Outcome.AGENT_NO_ANSWER, Outcome.AGENT_DECLINED],
        )
        .order_by(Attempt.ended_at)
    )
    return [Away(**row) for row in transaction.rows(query)]


def open_by_state(transaction: Transaction, queues: tuple[str, ...] | None = None) -> dict[str, int]:
    number = peewee.fn.COUNT(peewee.SQL("*")).alias("number")
    query = Recall.select(Recall.state, number).where(Recall.state != CLOSED).group_by(Recall.state)
    if queues is not None:
        query = query.where(covered(transaction, Recall.queue, queues))
    return {row["state"]: row["number"] for row in transaction.rows(query)}


def _listed(transaction: Transaction, query: peewee.ModelSelect[Missed]) -> list[Listed]:
    columns = [getattr(Missed, name) for name in LISTED]
    return transaction.rows(
        query.select(*columns, Recall.state, Recall.attempts, Recall.due_at, Recall.closed_as, Recall.note)
    )


def _counted(transaction: Transaction, column: peewee.Field) -> dict[str, int]:
    """How often each value occurs, most frequent first."""
    number = peewee.fn.COUNT(peewee.SQL("*"))
    query = (
        column.model.select(column.alias("value"), number.alias("number"))
        .where(column.is_null(False))
        .group_by(column)
        .order_by(number.desc(), column)
    )
    return {row["value"]: row["number"] for row in transaction.rows(query)}


def _waits(transaction: Transaction) -> list[float]:
    first_sent = {
        row["recall"]: row["first"]
        for row in transaction.rows(
            Attempt.select(Attempt.recall, peewee.fn.MIN(Attempt.sent_at).alias("first"))
            .where(Attempt.sent_at.is_null(False))
            .group_by(Attempt.recall)
        )
    }
    first_end: dict[int, datetime] = {}
    tried = Missed.recall << Attempt.select(Attempt.recall).where(Attempt.sent_at.is_null(False))
    for row in transaction.rows(Missed.select(Missed.recall, Missed.calldate, Missed.timewait).where(tried)):
        end = row["calldate"] + timedelta(seconds=row["timewait"])
        first_end[row["recall"]] = min(end, first_end.get(row["recall"], end))
    return [(first_sent[recall] - end).total_seconds() for recall, end in first_end.items()]


def chosen_calls(
    transaction: Transaction, chosen: Filter, size: int | None, before: int | None
) -> list[tuple[int, int]]:
    """The missed calls that the filter names, each with its recall, the largest ids first: `size` of those
    below `before`."""
    query = ids_of(transaction, chosen).select(Missed.id, Missed.recall)
    if before is not None:
        query = query.where(Missed.id < before)
    rows = transaction.rows(query.order_by(Missed.id.desc()).limit(size))
    return [(row["id"], row["recall"]) for row in rows]


def newest_calls(transaction: Transaction, chosen: Filter) -> list[tuple[int, int]]:
    """As `chosen_calls`, as many of the newest as the filter's limit says."""
    rows = transaction.rows(
        newest_first(ids_of(transaction, chosen).select(Missed.id, Missed.recall)).limit(chosen.limit)
    )
    return [(row["id"], row["recall"]) for row in rows]


def missed_of(transaction: Transaction, recall: int) -> Row | None:
    """The newest missed call of a recall."""
    return transaction.row(newest_first(Missed.select().where(Missed.recall == recall)))
