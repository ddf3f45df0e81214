"""Which missed calls, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from operator import or_
from typing import Any

import peewee

from freeswitch_callback.ledger.database import Row, Transaction
from freeswitch_callback.ledger.models import LARGEST_ID, Missed, Recall, clean
from freeswitch_callback.ledger.prepared import Query

DISTANT = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which missed calls; what is not set does not matter. `number` is E.164 or as the network gave it. A
    call belongs to `since` <= calldate < `until`; `older_than` is an upper bound like `until`. `limit` keeps
    the newest. `queues` are shell patterns (`*` and `?`), one of which the queue has to match; `search` is a
    part of the phone, the number or the name."""

    ids: tuple[int, ...] = ()
    state: str | None = None
    reason: str | None = None
    queue: str | None = None
    number: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    older_than: datetime | None = None
    limit: int | None = None
    queues: tuple[str, ...] | None = None
    search: str | None = None

    @property
    def by_age(self) -> datetime | None:
        """If nothing but age chooses, up to when; `DISTANT` if nothing at all does. Else None."""
        if self != Filter(until=self.until, older_than=self.older_than):
            return None
        return min((end for end in (self.until, self.older_than) if end is not None), default=DISTANT)


@dataclass(frozen=True, slots=True)
class RecallFilter:
    """Which recalls; as `Filter`, of when a recall was opened, and of its own queue."""

    state: str | None = None
    closed_as: str | None = None
    queue: str | None = None
    number: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    queues: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """By one of `SORTED_BY`; calls that are alike by their ids, in the same direction."""

    by: str = "calldate"
    descending: bool = True

    @property
    def by_recall(self) -> bool:
        """Whether it goes by a column of the calls' recalls."""
        return self.by in ("due_at", "attempts")

    def of(self, query: peewee.ModelSelect[Missed]) -> peewee.ModelSelect[Missed]:
        columns = (_COLUMNS[self.by], Missed.id)
        return query.order_by(*(column.desc() if self.descending else column.asc() for column in columns))

    def behind(self, value: Any, last: int) -> Query:
        """What comes after the call with this place."""
        column = _COLUMNS[self.by]
        if self.descending:
            return (column <= value) & ((column < value) | (Missed.id < last))
        return (column >= value) & ((column > value) | (Missed.id > last))

    def place(self, row: Row) -> tuple[Any, int]:
        """Of a row as lists have it."""
        value = row[self.by]
        return ("" if value is None else value), row["id"]


NEWEST_FIRST = Order()

_COLUMNS = {
    "calldate": Missed.calldate,
    "timewait": Missed.timewait,
    "queue": peewee.fn.COALESCE(Missed.queue, ""),
    "due_at": Recall.due_at,
    "attempts": Recall.attempts,
}

SORTED_BY = tuple(_COLUMNS)


def matching(transaction: Transaction, chosen: Filter) -> peewee.ModelSelect[Missed]:
    """Missed calls with their recalls, nothing selected yet; `limit` not applied."""
    return _chosen(transaction, Missed.select().join(Recall, on=(Missed.recall == Recall.id)), chosen)


def ids_of(
    transaction: Transaction, chosen: Filter, order: Order = NEWEST_FIRST
) -> peewee.ModelSelect[Missed]:
    """As `matching`, of the ids alone. Their recalls are joined only where the filter or the order asks for
    them; and whatever sorts a hundred thousand rows carries two columns of each, instead of all."""
    query = Missed.select(Missed.id)
    if chosen.state is not None or order.by_recall:
        query = query.join(Recall, on=(Missed.recall == Recall.id))
    return _chosen(transaction, query, chosen)


def _chosen(
    transaction: Transaction, query: peewee.ModelSelect[Missed], chosen: Filter
) -> peewee.ModelSelect[Missed]:
    if chosen.ids:
        query = query.where(Missed.id << [number for number in chosen.ids if 0 < number <= LARGEST_ID])
    if chosen.state is not None:
        query = query.where(Recall.state == chosen.state)
    if chosen.reason is not None:
        query = query.where(Missed.reason == chosen.reason)
    if chosen.queue is not None:
        query = query.where(Missed.queue == chosen.queue)
    if chosen.number is not None:
        query = query.where((Missed.number == chosen.number) | (Missed.phone == chosen.number))
    if chosen.since is not None:
        query = query.where(Missed.calldate >= chosen.since)
    for end in (chosen.until, chosen.older_than):
        if end is not None:
            query = query.where(Missed.calldate < end)
    if chosen.queues is not None:
        query = query.where(covered(transaction, Missed.queue, chosen.queues))
    if chosen.search:
        query = query.where(_found(transaction, chosen.search))
    return query


def covered(transaction: Transaction, column: peewee.Field, patterns: Sequence[str]) -> Query:
    """Whether this column matches one of these shell patterns; only `*` and `?` are wild."""
    # peewee's LIKE regards capitals: on SQLite it is GLOB.
    like = _glob if isinstance(transaction.database, peewee.SqliteDatabase) else _like
    nothing: Query = peewee.SQL("1 = 0")
    return reduce(or_, [column % like(pattern) for pattern in patterns] or [nothing])


def _glob(pattern: str) -> str:
    return pattern.replace("[", "[[]")


_LIKE = str.maketrans({"*": "%", "?": "_", "%": r"\%", "_": r"\_", "\\": r"\\"})


def _like(pattern: str) -> str:
    return pattern.translate(_LIKE)


def _found(transaction: Transaction, text: str) -> Query:
    """Some of it somewhere, in small letters or in capitals.

    There is no index for this, which would cost whoever records a call: it is a look at every row, and made
    cheap. A text without letters has one way to be written. SQLite knows the small letters of ASCII alone: of
    others it is asked for the usual ways to write them. A number has no letters.
    """
    text = clean(text)
    columns: list[Query] = [Missed.phone, Missed.caller_name]
    if text.lower() == text.upper():
        columns.append(Missed.number)
        ways = {text}
    elif not isinstance(transaction.database, peewee.SqliteDatabase):
        columns = [peewee.fn.LOWER(column) for column in columns]
        ways = {text.lower()}
    else:
        ways = {text} if text.isascii() else {text, text.lower(), text.upper(), text.title()}
    return reduce(or_, [_has(column, way) for column in columns for way in sorted(ways)])


_WILD = str.maketrans({"%": r"\%", "_": r"\_", "\\": r"\\"})


def _has(column: Query, text: str) -> Query:
    pattern = peewee.Value(f"%{text.translate(_WILD)}%", converter=False)
    return peewee.NodeList((column, peewee.SQL("LIKE"), pattern, peewee.SQL(r"ESCAPE '\'")))
