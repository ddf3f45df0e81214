"""The figures of a period: how many were missed, what became of them, and how long it took."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

import peewee

from freeswitch_callback.core.facts import ClosedAs, Mode, Outcome
from freeswitch_callback.ledger.database import Transaction
from freeswitch_callback.ledger.filters import covered
from freeswitch_callback.ledger.models import Attempt, Missed, Recall, utc

SILENT_PERIOD = timedelta(days=30)
"""Over which the clients are counted who found nobody on the line; regulators set limits to their rate."""

_COUNT = peewee.fn.COUNT(peewee.SQL("*"))


@dataclass(frozen=True, slots=True)
class Report:
    """The missed calls with `since` <= calldate < `until`, by what became of their recalls.

    `missed` = `recalled` + `served_inbound` + `served_outbound` + `open` + all of `closed` (the other ways to
    be closed, by name, `blocked` among them). `by_reason` and `by_queue` ('' for none) most frequent first,
    `by_hour` by the hour of the day in which the call came in, 0 to 23 in the zone asked for.

    `recovery_rate`: recalled or served, of those that could be called (not `blocked`). `median_time` and
    `p90_time`: seconds from the end of a recall's first missed call to the first time that client and
    operator talked, over the recalls that were closed as recalled. `answered`: attempts of the 30 days before
    `until` whose client answered; `hung_up`: those who were gone before an agent was there. Rates are from 0
    to 1, None where there was nothing.
    """

    since: datetime
    until: datetime
    missed: int
    recalled: int
    served_inbound: int
    served_outbound: int
    open: int
    closed: Mapping[str, int]
    by_reason: Mapping[str, int]
    by_queue: Mapping[str, int]
    by_hour: Mapping[int, int]
    recovery_rate: float | None
    median_time: float | None
    p90_time: float | None
    answered: int
    hung_up: int
    hung_up_rate: float | None


def report(
    transaction: Transaction,
    since: datetime,
    until: datetime,
    queue: str | None,
    zone: tzinfo,
    queues: tuple[str, ...] | None = None,
) -> Report:
    chosen = (Missed.calldate >= since) & (Missed.calldate < until)
    if queue is not None:
        chosen &= Missed.queue == queue
    if queues is not None:
        chosen &= covered(transaction, Missed.queue, queues)
    closed = _results(transaction, chosen)
    missed = sum(closed.values())
    still_open = closed.pop("", 0)
    recalled = closed.pop(ClosedAs.RECALLED, 0)
    served_inbound = closed.pop(ClosedAs.SERVED_INBOUND, 0)
    served_outbound = closed.pop(ClosedAs.SERVED_OUTBOUND, 0)
    times = sorted(_times(transaction, chosen))
    answered, hung_up = _silent(transaction, until, queue, queues)
    return Report(
        since=since,
        until=until,
        missed=missed,
        recalled=recalled,
        served_inbound=served_inbound,
        served_outbound=served_outbound,
        open=still_open,
        closed=closed,
        by_reason=_by(transaction, Missed.reason, chosen),
        by_queue=_by(transaction, Missed.queue, chosen),
        by_hour=_by_hour(transaction, chosen, zone),
        recovery_rate=_rate(
            recalled + served_inbound + served_outbound, missed - closed.get(ClosedAs.BLOCKED, 0)
        ),
        median_time=statistics.median(times) if times else None,
        p90_time=times[-(-9 * len(times) // 10) - 1] if times else None,
        answered=answered,
        hung_up=hung_up,
        hung_up_rate=_rate(hung_up, answered),
    )


def _results(transaction: Transaction, chosen: peewee.Expression) -> dict[str, int]:
    """How many calls by what their recall was closed as, '' for those that are open."""
    query = (
        Missed.select(Recall.closed_as.alias("value"), _COUNT.alias("number"))
        .join(Recall, on=(Missed.recall == Recall.id))
        .where(chosen)
        .group_by(Recall.closed_as)
        .order_by(_COUNT.desc(), Recall.closed_as)
    )
    return {row["value"] or "": row["number"] for row in transaction.rows(query)}


def _by(transaction: Transaction, column: peewee.Field, chosen: peewee.Expression) -> dict[str, int]:
    query = (
        Missed.select(column.alias("value"), _COUNT.alias("number"))
        .where(chosen)
        .group_by(column)
        .order_by(_COUNT.desc(), column)
    )
    return {row["value"] or "": row["number"] for row in transaction.rows(query)}


def _by_hour(transaction: Transaction, chosen: peewee.Expression, zone: tzinfo) -> dict[int, int]:
    """Counted by minute: there are zones that are a quarter of an hour off."""
    if isinstance(transaction.database, peewee.SqliteDatabase):
        minute = peewee.fn.SUBSTR(Missed.calldate, 1, 16)
    else:
        minute = peewee.fn.DATE_TRUNC("minute", Missed.calldate)
    query = Missed.select(minute.alias("minute"), _COUNT.alias("number")).where(chosen).group_by(minute)
    hours: Counter[int] = Counter()
    for row in transaction.rows(query):
        at = row["minute"]
        # Of SQLite's text the seconds and the zone were cut off.
        at = datetime.fromisoformat(at).replace(tzinfo=UTC) if isinstance(at, str) else utc(at)
        hours[at.astimezone(zone).hour] += row["number"]
    return {hour: hours[hour] for hour in range(24)}


def _times(transaction: Transaction, chosen: peewee.Expression) -> list[float]:
    """Of each recalled recall with a call among the chosen, seconds to the first talk."""
    recalled = (
        Missed.select(Missed.recall)
        .join(Recall, on=(Missed.recall == Recall.id))
        .where(chosen, Recall.closed_as == ClosedAs.RECALLED)
    )
    talks = (
        Attempt.select(Attempt.recall, peewee.fn.MIN(Attempt.connected_at).alias("first"))
        .where(Attempt.recall << recalled, Attempt.connected_at.is_null(False))
        .group_by(Attempt.recall)
    )
    first = {row["recall"]: row["first"] for row in transaction.rows(talks)}
    ends: dict[int, datetime] = {}
    calls = Missed.select(Missed.recall, Missed.calldate, Missed.timewait).where(Missed.recall << recalled)
    for row in transaction.rows(calls):
        end = row["calldate"] + timedelta(seconds=row["timewait"])
        ends[row["recall"]] = min(end, ends.get(row["recall"], end))
    return [(talk - ends[recall]).total_seconds() for recall, talk in first.items()]


def _silent(
    transaction: Transaction, until: datetime, queue: str | None, queues: tuple[str, ...] | None
) -> tuple[int, int]:
    """How many clients answered, and how many of them hung up before an agent was there.

    Where the agent is called first, `answered_at` is the agent's, and a client who answers is connected.
    """
    hung_up = Attempt.outcome == Outcome.CLIENT_HUNG_UP
    answered = (
        hung_up
        | Attempt.connected_at.is_null(False)
        | ((Attempt.mode != Mode.AGENT_FIRST) & Attempt.answered_at.is_null(False))
    )
    query = Attempt.select(hung_up.alias("hung_up"), _COUNT.alias("number")).where(
        Attempt.counts, Attempt.made_at >= until - SILENT_PERIOD, Attempt.made_at < until, answered
    )
    if queue is not None or queues is not None:
        query = query.join(Recall, on=(Attempt.recall == Recall.id))
    if queue is not None:
        query = query.where(Recall.queue == queue)
    if queues is not None:
        query = query.where(covered(transaction, Recall.queue, queues))
    # Null is what goes on: no outcome yet.
    counted: Counter[bool] = Counter()
    for row in transaction.rows(query.group_by(hung_up)):
        counted[bool(row["hung_up"])] += row["number"]
    return counted.total(), counted[True]


def _rate(part: int, whole: int) -> float | None:
    return part / whole if whole else None
