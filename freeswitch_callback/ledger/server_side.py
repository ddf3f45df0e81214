"""Statements that a connection's PostgreSQL has parsed and planned.

To plan a statement takes PostgreSQL two to four times as long as to run it, where it finds a few rows by an
index; on the way from an agent to a call that is a millisecond. psycopg2 sends text; so what is said for the
third time on a connection is said as `PREPARE`, in the same message as its first `EXECUTE`. PostgreSQL plans
anew as long as the values make a difference, and after each ANALYZE; a table that grows from nothing faster
than ANALYZE comes would be read from end to end for as long, so now and then a statement is kept anew.

The name says all of the text. Behind a pooler that gives each transaction another connection a name may so be
unknown, or known already, but never be that of another statement.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from hashlib import blake2b
from itertools import count
from typing import Any

Text = tuple[str, list[Any]]
"""A statement and its values."""

SAID_BEFORE = 2
"""How often a statement is sent as it is before it is worth being kept."""
ANEW_AFTER = 1000
MOST = 200
"""Statements for one connection; what comes later is sent as it is. Each takes some 50 kB of the server."""


@dataclass(frozen=True, slots=True, eq=False)
class Statement:
    """What of a statement does not change: its text with a `%s` for each value, and those values that are
    always the same, None where one is given each time (`given` says where)."""

    text: str
    constants: tuple[Any, ...]
    given: tuple[bool, ...]


class ServerSide:
    """What one connection's server keeps, as far as is known. Whoever leaves a transaction otherwise than by
    its COMMIT cannot know how much of what was said has been heard: `FORGET` is to be said then, and `forget`
    to be called."""

    FORGET = "DEALLOCATE ALL"
    NOT_AS_KNOWN = ("26000", "42P05")
    """SQLSTATEs: there is none of this name, or there is one. It is not one connection, and nothing is to
    be kept."""

    def __init__(self) -> None:
        self._names: dict[Statement, str] = {}
        self._said: Counter[Statement] = Counter()

    def text(self, statement: Statement, values: list[Any]) -> Text:
        """What to send for a statement with these values; it has to be sent."""
        self._said[statement] += 1
        if statement not in self._names and (
            self._said[statement] <= SAID_BEFORE or len(self._names) >= MOST
        ):
            return statement.text, values
        before, constants = self._keep(statement)
        arguments = [value for value, given in zip(values, statement.given, strict=True) if given]
        brackets = f" ({', '.join(['%s'] * len(arguments))})" if arguments else ""
        return f"{before}EXECUTE {self._names[statement]}{brackets}", constants + arguments

    def _keep(self, statement: Statement) -> Text:
        """What to say before it can be executed, if anything."""
        had = self._names.get(statement)
        if had is not None and self._said[statement] % ANEW_AFTER:
            return "", []
        text = _with_parameters(statement)
        constants = [
            value for value, given in zip(statement.constants, statement.given, strict=True) if not given
        ]
        name = f"kept_{blake2b(f'{text} {constants!r}'.encode(), digest_size=12).hexdigest()}"
        another_has_it = had is None and name in self._names.values()  # one that is written alike
        self._names[statement] = name
        if another_has_it:
            return "", []
        return f"{f'DEALLOCATE {name}; ' if had else ''}PREPARE {name} AS {text}; ", constants

    def forget(self) -> None:
        self._names.clear()


def _with_parameters(statement: Statement) -> str:
    """Constants stay `%s`, and so part of the text: an index may be for them alone."""
    numbers = count(1)
    marks = (f"${next(numbers)}" if given else "%s" for given in statement.given)
    first, *others = statement.text.split("%s")
    return first + "".join(mark + other for mark, other in zip(marks, others, strict=True))
