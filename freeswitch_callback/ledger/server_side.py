"""Statements that a connection's PostgreSQL has parsed and planned.

To plan a statement takes PostgreSQL two to four times as long as to run it, where it finds a few rows by an
index; on the way from an agent to a call that is a millisecond. psycopg2 sends text; so what is said for the
third time on a connection is said as `PREPARE`, in the same message as its first `EXECUTE`. PostgreSQL plans
anew as long as the values make a difference, and after each ANALYZE; a table that grows from nothing faster
than ANALYZE comes would be read from end to end for as long, so now and then a statement is kept anew.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
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
    """What one connection's server keeps. Whoever leaves a transaction otherwise than by its COMMIT cannot
    know how much of what was said has been heard: `FORGET` is to be said then, and `forget` to be called."""

    FORGET = "DEALLOCATE ALL"

    def __init__(self) -> None:
        self._names: dict[Statement, str] = {}
        self._said: Counter[Statement] = Counter()
        self._numbers = count(1)

    def text(self, statement: Statement, values: list[Any]) -> Text:
        """What to send for a statement with these values; it has to be sent."""
        self._said[statement] += 1
        name, said = self._names.get(statement), self._said[statement]
        if name is None and (said <= SAID_BEFORE or len(self._names) >= MOST):
            return statement.text, values
        before = ""
        constants: list[Any] = []
        if name is None or said % ANEW_AFTER == 0:
            before = f"DEALLOCATE {name}; " if name is not None else ""
            name = self._names[statement] = f"kept_{next(self._numbers)}"
            before += f"PREPARE {name} AS {_with_parameters(statement)}; "
            constants = [
                value for value, given in zip(statement.constants, statement.given, strict=True) if not given
            ]
        arguments = [value for value, given in zip(values, statement.given, strict=True) if given]
        brackets = f" ({', '.join(['%s'] * len(arguments))})" if arguments else ""
        return f"{before}EXECUTE {name}{brackets}", constants + arguments

    def forget(self) -> None:
        self._names.clear()


def _with_parameters(statement: Statement) -> str:
    """Constants stay `%s`, and so part of the text: an index may be for them alone."""
    numbers = count(1)
    marks = (f"${next(numbers)}" if given else "%s" for given in statement.given)
    first, *others = statement.text.split("%s")
    return first + "".join(mark + other for mark, other in zip(marks, others, strict=True))
