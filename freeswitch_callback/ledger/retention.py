"""What is kept no longer: deleted for good, or made nobody's, with the figures left as they are.

Each function works on one batch in one transaction, so that whoever is killed in between has done some of it
whole and none of it by half; to begin again goes on with what is left. What is open is never touched.

To be anonymised is to lose every value that says who it was, of clients and of operators: nothing is kept in
its place, and no hash, because all the numbers that there are can be hashed in an afternoon. What stays is
when, how long, why, in which queue, and what became of it. Files are another matter: SQLite leaves what it
deletes on free pages, until a vacuum.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from uuid import uuid4

import peewee

from freeswitch_callback.core.catchup import MEMBER
from freeswitch_callback.core.facts import Result
from freeswitch_callback.core.gates import Gate
from freeswitch_callback.core.numbers import digits_in
from freeswitch_callback.ledger.database import Row, Transaction
from freeswitch_callback.ledger.filters import Filter, matching
from freeswitch_callback.ledger.models import (
    ANONYMISED,
    CLOSED,
    Attempt,
    Breaker,
    Dnc,
    Journal,
    Missed,
    OnTheLine,
    Recall,
    Remark,
    Table,
    Talk,
)
from freeswitch_callback.ledger.recording import NO_NUMBER
from freeswitch_callback.ledger.views import newest_first

BATCH = 200
_COUNTED = 500
"""Recalls that are counted in one query."""

RECENT = timedelta(days=1)
"""What an engine may still go by is not swept away, however much is purged: who talked to whom, who is on the
line."""

_UUID = re.compile(
    f"(?:{MEMBER})?[0-9a-fA-F]{{8}}(?:-[0-9a-fA-F]{{4}}){{3}}-[0-9a-fA-F]{{12}}(?::[0-9]+)?\\Z"
)
_TELLING = 4
"""Digits of a number by which the one that was dialled would give it away."""


@dataclass(frozen=True, slots=True)
class Affected:
    """How many rows a purge would change or delete. `list_entries`: of the do-not-call list, what has
    expired; `others`: who talked, was on the line, or whose prefix was stopped, long ago."""

    missed: int = 0
    recalls: int = 0
    attempts: int = 0
    journal: int = 0
    remarks: int = 0
    list_entries: int = 0
    others: int = 0

    @property
    def total(self) -> int:
        return sum(getattr(self, each.name) for each in fields(self))


def chosen_ids(transaction: Transaction, chosen: Filter, *, anonymise: bool) -> list[tuple[int, int]]:
    """The missed calls that the filter names and whose recall is closed, each with that; of those to be
    anonymised none that is already."""
    query = matching(transaction, chosen).select(Missed.id, Missed.recall).where(Recall.state == CLOSED)
    if anonymise:
        query = query.where(_somebodys())
    rows = transaction.rows(newest_first(query).limit(chosen.limit))
    return [(row["id"], row["recall"]) for row in rows]


def affected(
    transaction: Transaction, ids: Sequence[tuple[int, int]], before: datetime | None, *, anonymise: bool
) -> Affected:
    """What goes with these missed calls, and what else is older than `before`."""
    chosen = Counter(recall for _, recall in ids)
    left = {} if before is None else left_over(transaction, before, anonymise=anonymise)
    recalls = list(left.pop(Recall, ()))
    for batch in _batches(sorted(chosen), _COUNTED):
        all_of = _counted(transaction, Missed, batch, _somebodys() if anonymise else None)
        recalls += [recall for recall in batch if all_of.get(recall) == chosen[recall]]
    batches = list(_batches(recalls, _COUNTED))
    return Affected(
        missed=len(ids),
        recalls=len(recalls),
        attempts=sum(sum(_counted(transaction, Attempt, batch).values()) for batch in batches),
        journal=sum(sum(_counted(transaction, Journal, batch).values()) for batch in batches),
        remarks=sum(sum(_counted(transaction, Remark, batch).values()) for batch in batches),
        list_entries=len(left.pop(Dnc, ())),
        others=sum(map(len, left.values())) + _talks(transaction, batches),
    )


def left_over(
    transaction: Transaction, before: datetime, *, anonymise: bool
) -> dict[type[Table], Sequence[int]]:
    """The rows, by table, that belong to no missed call and are older than `before`."""
    return {
        table: [row["id"] for row in transaction.rows(table.select(table.id).where(old).order_by(table.id))]
        for table, old in _old(before, anonymise=anonymise).items()
    }


def purge(transaction: Transaction, missed: Sequence[int]) -> int:
    """Deletes these missed calls, and with the last one of a recall the recall, its attempts, its journal and
    remarks about it.

    What has opened again since it was chosen is spared. With its attempts a number's dialling is forgotten by
    the caps too: who purges what was closed within the last day lets it be called as often again. Whom the
    client talked to last goes with it.
    """
    recalls = _closed_of(transaction, missed)
    purged = transaction.change(Missed.delete().where(Missed.id << list(missed), Missed.recall << recalls))
    _delete(transaction, _without(transaction, recalls, None))
    return purged


def anonymise(transaction: Transaction, missed: Sequence[int]) -> int:
    """Makes these missed calls nobody's, and with the last one of a recall the recall, its attempts and its
    journal; spares and forgets as `purge` does."""
    recalls = _closed_of(transaction, missed)
    rows = transaction.rows(
        Missed.select().where(Missed.id << list(missed), Missed.recall << recalls, _somebodys())
    )
    for row in rows:
        if odd := _given_away_by(row):
            transaction.update(Missed, row["id"], **odd)
    transaction.change(
        Missed.update(
            phone=ANONYMISED,
            number=None,
            caller_name="",
            extra={},
            operator=None,
            recalloperator=None,
            settled=True,  # what is told of it later must not complete it
        ).where(Missed.id << [row["id"] for row in rows])
    )
    _make_nobodys(transaction, _without(transaction, recalls, _somebodys()))
    return len(rows)


def sweep(
    transaction: Transaction, table: type[Table], ids: Sequence[int], before: datetime, *, anonymise: bool
) -> None:
    """Takes those of these rows away, or makes them nobody's, that are still `left_over`."""
    old = (table.id << list(ids)) & _old(before, anonymise=anonymise)[table]
    if table is not Recall:
        transaction.change(table.delete().where(old))
        return
    recalls = [row["id"] for row in transaction.rows(transaction.locked(Recall.select(Recall.id).where(old)))]
    if anonymise:
        _make_nobodys(transaction, recalls)
    else:
        _delete(transaction, recalls)


def _somebodys() -> peewee.Expression:
    """A missed call that still says whose it was."""
    return (Missed.phone != ANONYMISED) | Missed.number.is_null(False) | (Missed.caller_name != "")


def _closed_of(transaction: Transaction, missed: Sequence[int]) -> list[int]:
    """The closed recalls behind these calls, locked."""
    of_missed = Missed.select(Missed.recall).where(Missed.id << list(missed))
    closed = Recall.select(Recall.id).where(Recall.id << of_missed, Recall.state == CLOSED)
    return [row["id"] for row in transaction.rows(transaction.locked(closed.order_by(Recall.id)))]


def _without(
    transaction: Transaction, recalls: Sequence[int], condition: peewee.Expression | None
) -> list[int]:
    """Those of these recalls that have no missed call (of this kind) any more."""
    kept = _counted(transaction, Missed, recalls, condition)
    return [recall for recall in recalls if recall not in kept]


def _delete(transaction: Transaction, recalls: Sequence[int]) -> None:
    _forget_talks(transaction, recalls)
    for table in (Attempt, Journal, Remark):
        transaction.change(table.delete().where(table.recall << list(recalls)))
    transaction.change(Recall.delete().where(Recall.id << list(recalls)))


def _make_nobodys(transaction: Transaction, recalls: Sequence[int]) -> None:
    _forget_talks(transaction, recalls)
    transaction.change(
        Attempt.update(number="", prefix="", agent=None, said_by=None, said_why="", result_by=None).where(
            Attempt.recall << list(recalls)
        )
    )
    transaction.change(Remark.delete().where(Remark.recall << list(recalls)))
    transaction.change(Journal.update(who="", detail={}).where(Journal.recall << list(recalls)))
    notes = Recall.select(Recall.id, Recall.note).where(Recall.id << list(recalls))
    by_note: dict[str, list[int]] = {}
    for row in transaction.rows(notes):
        by_note.setdefault(_impersonal(row["note"]), []).append(row["id"])
    for note, ids in by_note.items():
        transaction.change(
            Recall.update(number=None, closed_by=ANONYMISED, note=note).where(Recall.id << ids)
        )


def _forget_talks(transaction: Transaction, recalls: Sequence[int]) -> None:
    for scope, numbers in _clients(transaction, recalls).items():
        transaction.change(Talk.delete().where(Talk.number << list(numbers), Talk.scope == scope))


def _talks(transaction: Transaction, batches: Iterable[Sequence[int]]) -> int:
    """How many of their clients are on record as having talked."""
    found = 0
    asked: dict[str, set[str]] = {}
    for recalls in batches:
        for scope, numbers in _clients(transaction, recalls).items():
            new = numbers - asked.setdefault(scope, set())
            asked[scope] |= new
            talks = Talk.select(Talk.id).where(Talk.number << list(new), Talk.scope == scope)
            found += len(transaction.rows(talks))
    return found


def _clients(transaction: Transaction, recalls: Sequence[int]) -> dict[str, set[str]]:
    """The numbers that these recalls are to, by scope."""
    clients = Recall.select(Recall.number, Recall.scope).where(
        Recall.id << list(recalls), Recall.number.is_null(False)
    )
    of_scope: dict[str, set[str]] = {}
    for row in transaction.rows(clients):
        of_scope.setdefault(row["scope"], set()).add(row["number"])
    return of_scope


def _impersonal(note: str) -> str:
    """Of a note the gate that has blocked the recall, or the result that has closed it: the rest may name a
    number, or a person."""
    word = note.partition(":")[0]
    return word if word in (*map(str, Gate), *map(str, Result), NO_NUMBER) else ""


def _given_away_by(row: Row) -> Row:
    """Other values for what need not, but may, say who called: a call's uuid is the SIP Call-ID where
    FreeSWITCH was told so; and who calls themselves has dialled their own number."""
    changes: Row = {}
    if not _UUID.match(row["call_uuid"]):
        changes["call_uuid"] = str(uuid4())
    if row["member_uuid"] is not None and not _UUID.match(row["member_uuid"]):
        changes["member_uuid"] = None
    dialled = digits_in(row["calledid"])
    for number in (row["phone"], row["number"] or ""):
        digits = digits_in(number)
        if len(digits) >= _TELLING and len(dialled) >= _TELLING and (digits in dialled or dialled in digits):
            changes["calledid"] = ""
    return changes


def _old(before: datetime, *, anonymise: bool) -> dict[type[Table], peewee.Expression]:
    """By table what belongs to no missed call and is older.

    Of the do-not-call list only what has ceased to hold: the rest of it is there to be known. A recall has no
    missed call behind it if that turned out to be another's after it was tried.
    """
    alone = (
        (Recall.state == CLOSED)
        & (Recall.closed_at < before)
        & ~peewee.fn.EXISTS(Missed.select(Missed.id).where(Missed.recall == Recall.id))
    )
    if anonymise:
        alone &= (Recall.closed_by != ANONYMISED) | Recall.number.is_null(False)
    missed = Missed.select(Missed.id).where(Missed.number == Talk.number)
    return {
        Recall: alone,
        Dnc: Dnc.until < before,
        Talk: (Talk.at < before) & ~peewee.fn.EXISTS(missed),
        OnTheLine: OnTheLine.at < before,
        Breaker: Breaker.tripped_at.is_null() & (Breaker.reset_at < before),
        # Of lists and breakers: a prefix may be as long as a number.
        Journal: Journal.recall.is_null() & (Journal.at < before),
    }


def _counted(
    transaction: Transaction,
    table: type[Missed | Attempt | Journal | Remark],
    recalls: Collection[int],
    condition: peewee.Expression | None = None,
) -> dict[int, int]:
    """By recall how many rows it has."""
    number = peewee.fn.COUNT(peewee.SQL("*")).alias("number")
    query = table.select(table.recall, number).where(table.recall << list(recalls)).group_by(table.recall)
    if condition is not None:
        query = query.where(condition)
    return {row["recall"]: row["number"] for row in transaction.rows(query)}


def _batches(items: Sequence[int], size: int) -> Iterable[Sequence[int]]:
    return (items[start : start + size] for start in range(0, len(items), size))
