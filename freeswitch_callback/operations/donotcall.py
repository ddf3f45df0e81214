"""The list of those who must not be called: its entries as people write them, one by one or as a CSV file."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, islice
from typing import TextIO

import gevent

from freeswitch_callback.core import numbers
from freeswitch_callback.core.gates import DoNotCall
from freeswitch_callback.core.numbers import NumberRules
from freeswitch_callback.errors import UsageError
from freeswitch_callback.ledger import Filter, Ledger
from freeswitch_callback.operations.times import ahead

COLUMNS = ("number", "note", "until")
"""Of a file without a header line, in this order; all but the first may be missing."""

_PREFIX = re.compile(r"\+[1-9][0-9]{0,13}\Z")
_BETWEEN_DIGITS = str.maketrans("", "", " ()-./")
_LONGEST_LINE = 1 << 20
_HEAD = 20
_PORTION, _PAUSE = 50, 0.05
"""Calls whose numbers are put on the list in one go, and seconds for others' work before the next."""


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is not imported, and why. `line` counts from 1; a record over several lines is called by
    its first."""

    line: int
    why: str


def entry_of(text: str, rules: NumberRules, *, prefix: bool = False) -> str:
    """What the list has for a number as people write it: E.164, or a prefix with a star behind it.

    Whether the number may be called does not matter. Raises `UsageError` for what is neither.
    """
    try:
        return _prefix(text) if prefix or text.rstrip(" ").endswith("*") else _number(text, rules)
    except UsageError as error:
        raise UsageError(
            f"{error}; write it like +12025550100, or a prefix with its country in quotes, '+4930*'"
        ) from None


def forbid_all(
    ledger: Ledger, chosen: Filter, note: str, by: str, tell: Callable[[int], None] | None = None
) -> int:
    """Puts the numbers of the chosen calls on the list, for good; how many. `tell` is told how many calls
    were gone through by now."""
    forbidden: set[str] = set()
    gone_through = 0
    rows = ledger.listing(chosen)
    while portion := list(islice(rows, _PORTION)):
        new = {row["number"] for row in portion if row["number"]} - forbidden
        if new:
            ledger.forbid([DoNotCall(number, note=note, added_by=by) for number in sorted(new)], by)
        forbidden |= new
        gone_through += len(portion)
        if tell is not None:
            tell(gone_through)
        gevent.sleep(_PAUSE)
    return len(forbidden)


def _prefix(text: str) -> str:
    digits = text.strip(" ").removesuffix("*").translate(_BETWEEN_DIGITS)
    if not _PREFIX.match(digits):
        raise UsageError(f"{text[:60]!r} is no prefix")
    return f"{digits}*"


def _number(text: str, rules: NumberRules) -> str:
    number = numbers.read(text, rules)
    if number.e164 is None:
        raise UsageError(f"{text[:60]!r} cannot be a client's ({number.refusal})")
    return number.e164


def forget(ledger: Ledger, text: str, rules: NumberRules, by: str) -> str | None:
    """Take an entry off the list; it, or None if there is none.

    What stands on the list can be named as it stands there, even if today's configuration would not take it
    for a number any more.
    """
    if ledger.allow(text, by):
        return text
    number = entry_of(text, rules)
    return number if ledger.allow(number, by) else None


def read_list(text: TextIO, rules: NumberRules, *, by: str, now: datetime) -> Iterator[DoNotCall | BadLine]:
    """The entries of a CSV file, one line after the other, and the lines that are none.

    `text` is to be opened with `newline=""`. Columns are separated by `,` or `;`, whichever comes first; a
    first line with `number` in it names them, and other columns than `COLUMNS` are not read.
    """
    lines = iter(lambda: text.readline(_LONGEST_LINE), "")
    head = list(islice(lines, _HEAD))
    separator = re.search("[,;]", "".join(head))
    reader = csv.reader(chain(head, lines), delimiter=separator[0] if separator else ",", strict=True)
    columns: Sequence[str] = COLUMNS
    named = False
    while True:
        first = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            read = f"; lines {first} to {reader.line_num} are not read" if reader.line_num > first else ""
            yield BadLine(first, f"not CSV, is a quote not closed? ({error}{read})")
            continue
        if first == 1 and "number" in (names := [cell.strip().casefold() for cell in cells]):
            columns, named = names, True
        elif any(cell.strip() for cell in cells):
            yield _entry(first, cells, columns, named, rules, by, now)


def _entry(
    line: int,
    cells: list[str],
    columns: Sequence[str],
    named: bool,
    rules: NumberRules,
    by: str,
    now: datetime,
) -> DoNotCall | BadLine:
    if any(cell.strip() for cell in cells[len(columns) :]):
        what = "as in the first line" if named else "number, note, until"
        return BadLine(
            line, f"{len(cells)} columns, not {len(columns)} ({what}); quote a note with , or ; in it"
        )
    values: Mapping[str, str] = dict(zip(columns, cells, strict=False))
    number = values.get("number", "").strip().removeprefix("'")  # with which spreadsheets are told: a text
    until = values.get("until", "").strip()
    try:
        return DoNotCall(
            number=_prefix(number) if number.endswith("*") else _number(number, rules),
            note=values.get("note", ""),
            added_by=by,
            until=ahead(until, now) if until else None,
            added_at=now,
        )
    except UsageError as error:
        return BadLine(line, str(error))
