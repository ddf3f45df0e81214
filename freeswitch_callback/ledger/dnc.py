"""Who must not be called: single numbers, and prefixes with a star behind them (`+4930*`)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime

import peewee

from freeswitch_callback.core import gates
from freeswitch_callback.core.gates import DoNotCall
from freeswitch_callback.ledger.database import Row, Transaction
from freeswitch_callback.ledger.journal import note
from freeswitch_callback.ledger.models import Dnc, Recall, clean
from freeswitch_callback.ledger.prepared import Query, few_texts, prepared
from freeswitch_callback.ledger.recalls import gates_change, kept_back, look_when_due

BATCH = 1000
"""Entries written in one transaction."""

KEYS = 1024
"""Values in one IN."""


def forbid(transaction: Transaction, entries: Sequence[DoNotCall], by: str) -> int:
    """Adds entries, or replaces those of the same number; how many."""
    # Of one number told twice the last stands; sorted, so that two who import do not wait for each other.
    rows = {
        clean(entry.number): {
            "number": entry.number,
            "note": entry.note,
            "added_by": entry.added_by or by,
            "added_at": transaction.now,
            "until": entry.until,
        }
        for entry in entries
    }
    if rows:
        gates_change(transaction)
        preserved = [Dnc.note, Dnc.added_by, Dnc.added_at, Dnc.until]
        written = Dnc.insert_many([rows[number] for number in sorted(rows)]).on_conflict(
            conflict_target=[Dnc.number], preserve=preserved
        )
        transaction.rows(written.returning(Dnc.id))
        note(transaction, by, "do not call", entries=len(rows))
    return len(rows)


def allow(transaction: Transaction, number: str, by: str) -> bool:
    """Removes an entry; those whom it kept back until a time are looked at again. False if there is none."""
    number = clean(number)
    gates_change(transaction)
    if not transaction.change(Dnc.delete().where(Dnc.number == number)):
        return False
    prefix = number.endswith("*")
    fits = Recall.number.startswith(number[:-1]) if prefix else Recall.number == number
    transaction.change(look_when_due().where(Recall.id << kept_back(transaction, fits)))
    note(transaction, by, "may be called again", prefix=number if prefix else "")
    return True


def forbidden(transaction: Transaction, number: str | None) -> list[DoNotCall]:
    """All entries by number, or those that fit one; expired ones too."""
    query = Dnc.select().order_by(Dnc.number)
    if number is not None:
        query = query.where(Dnc.number << list(keys(number)))
    return [_entry(row) for row in transaction.rows(query)]


def page(transaction: Transaction, size: int, after: str) -> list[DoNotCall]:
    """So many entries by number, behind the one for `after`."""
    query = Dnc.select().where(Dnc.number > after).order_by(Dnc.number).limit(size)
    return [_entry(row) for row in transaction.rows(query)]


def entries(transaction: Transaction, numbers: Collection[str]) -> dict[str, DoNotCall]:
    """By number the entry that is in force: of several the one that lasts longest."""
    found: list[DoNotCall] = []
    all_keys = sorted({key for number in numbers for key in keys(number)})
    for start in range(0, len(all_keys), KEYS):
        some = few_texts(all_keys[start : start + KEYS])
        found += [_entry(row) for row in transaction.rows(_in_force(transaction.now, *some))]
    return longest(found, numbers)


def longest(found: Sequence[DoNotCall], numbers: Collection[str]) -> dict[str, DoNotCall]:
    """By number, of the entries that fit it the one that lasts longest."""
    if not found:
        return {}
    by_key = {entry.number: entry for entry in found}
    fitting = {number: [by_key[key] for key in keys(number) if key in by_key] for number in numbers}
    return {number: max(several, key=_lasting) for number, several in fitting.items() if several}


def refusals(transaction: Transaction, numbers: Collection[str]) -> dict[str, str]:
    """The gate in words, of the numbers that an entry without an end fits."""
    return {
        number: str(gates.do_not_call(entry, transaction.now))
        for number, entry in entries(transaction, numbers).items()
        if entry.until is None
    }


@prepared
def _in_force(now: datetime, *some: str) -> Query:
    return Dnc.select().where(in_force(some, now))


def in_force(some: Sequence[str], now: datetime) -> Query:
    """The condition: an entry of one of these `keys`, which are clean already, that has not ended."""
    as_they_are = [peewee.Value(key, converter=False) for key in some]
    return (Dnc.number << as_they_are) & (Dnc.until.is_null() | (Dnc.until > now))


def keys(number: str) -> Iterator[str]:
    """The entries that would fit this number: itself, and all its prefixes."""
    number = clean(number)  # short, too
    yield number
    for end in range(len(number), 0, -1):
        yield number[:end] + "*"


def _lasting(entry: DoNotCall) -> tuple[bool, datetime | None]:
    return entry.until is None, entry.until


def _entry(row: Row) -> DoNotCall:
    return DoNotCall(
        number=row["number"],
        note=row["note"],
        added_by=row["added_by"],
        until=row["until"],
        added_at=row["added_at"],
    )
