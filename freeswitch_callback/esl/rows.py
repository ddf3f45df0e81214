"""Tables in FreeSWITCH's answers: JSON objects with a list of rows, as typed rows.

A thousand agents are 600 kB. Read at once they stop everybody else for 10 ms, an agent who has just become
free too; so rows are read one by one, and who reads them may pause in between. Of a table that is asked for
at every poll hardly a row has changed: a row whose text is as before is the same row, and is not parsed.
"""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Generic, TypeVar, get_type_hints

from freeswitch_callback.errors import CommandFailed, ProtocolError
from freeswitch_callback.esl.commands import Command
from freeswitch_callback.esl.frames import clean

_BLANKS = re.compile(r"[ \t\r\n]*")
_decoded = json.JSONDecoder(strict=False).raw_decode
"""Not strict: control characters may stand in a string as they are."""


AnyRow = TypeVar("AnyRow", bound=tuple[Any, ...])
"""A NamedTuple whose fields are columns of FreeSWITCH, by the same names: text, whole numbers and truths. One
that an older 1.10 does not have gets its default.

(No frozen dataclass: of twenty columns that takes three times as long to make again with one of them changed,
as each event of an agent has it.)
"""


def row_of(row_type: type[AnyRow], row: Mapping[str, Any]) -> AnyRow:
    """From the columns as FreeSWITCH told them."""
    values: dict[str, Any] = {}
    for name, kind in _columns(row_type):
        value = row.get(name)
        if value is None:
            continue  # not there, or null: the default
        text = clean(str(value))
        if kind is int:
            values[name] = _whole(text, name)
        else:
            values[name] = text.lower() == "true" if kind is bool else text
    return row_type(**values)


@cache
def _columns(row_type: Any) -> tuple[tuple[str, Any], ...]:
    return tuple(get_type_hints(row_type).items())


def _needed(row_type: Any) -> list[str]:
    """The columns that a row cannot do without."""
    return [name for name in row_type._fields if name not in row_type._field_defaults]


def _whole(text: str, column: str) -> int:
    """FreeSWITCH answers with every number as text, and with an empty one for what was never set."""
    if text.isdecimal() and text.isascii() and len(text) <= 18:
        return int(text)
    if not text:
        return 0
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 18:
        raise ProtocolError(f"{column} is no whole number: {text!r:.60}")
    return int(text)


class Table:
    """The answer to a command, whose rows are its member `name`. `others`: the members before that.

    Raises `CommandFailed` for a refusal, `ProtocolError` for what is no JSON object.
    """

    def __init__(self, asked: Command, answer: str, name: str) -> None:
        if answer.startswith("-ERR"):
            raise CommandFailed(f"FreeSWITCH refused {asked.label!r}: {answer[4:].strip():.200}")
        self.asked = asked
        self.others: dict[str, Any] = {}
        self._name = name
        self._text = answer
        self._at = 0
        self._expect("{")
        self.has_rows = self._reaches_rows()

    def rows(self, known: Mapping[str, AnyRow]) -> Iterator[tuple[str, AnyRow | None, Any]]:
        """Each row's text, and what it is `known` as, or else its value. Once."""
        if not self.has_rows:
            raise self._without_rows(self.others.get(self._name))
        self._expect("[")
        more = self._next() != "]"
        while more:
            text = self._known_one(known)
            if text is not None:
                self._at += len(text)
                yield text, known[text], None
            else:
                begins = self._at
                value = self._value()
                yield self._text[begins : self._at], None, value
            more = self._goes_on()
            self._next()
        self._expect("]")
        self._look_at_the_rest()

    def without(self, needed: list[str], row: Any) -> ProtocolError:
        return ProtocolError(
            f"{self.asked.label!r} was answered with a row without {' and '.join(needed)}: {row!r:.200}"
        )

    def _without_rows(self, there: Any) -> ProtocolError:
        return ProtocolError(f"{self.asked.label!r} was answered without rows: {there!r:.80}")

    def _reaches_rows(self) -> bool:
        """Reads members up to the rows; False if none of them is."""
        more = self._next() != "}"
        while more:
            key = self._value()
            self._expect(":")
            if key == self._name and self._next() == "[":
                return True
            self.others[str(key)] = self._value()
            more = self._goes_on()
        self._ends()
        return False

    def _look_at_the_rest(self) -> None:
        """Of an answer that was cut, or is none, no row is believed."""
        while self._goes_on():
            self._value()
            self._expect(":")
            self._value()
        self._ends()

    def _goes_on(self) -> bool:
        """Whether a comma comes, which is stepped over then."""
        if self._next() != ",":
            return False
        self._at += 1
        return True

    def _ends(self) -> None:
        self._expect("}")
        if self._next():
            raise self._no_json("it goes on behind its end")

    def _known_one(self, known: Mapping[str, AnyRow]) -> str | None:
        """The text of the row that begins here, if it is known.

        It was a whole JSON object when it was read. None is the beginning of another one: so it is this one,
        whatever strings in it look like.
        """
        ends = self._text.find("},", self._at)
        text = self._text[self._at : ends + 1]
        return text if ends >= 0 and text in known else None

    def _next(self) -> str:
        """The next character that is no blank."""
        blanks = _BLANKS.match(self._text, self._at)
        self._at = blanks.end() if blanks else self._at
        return self._text[self._at : self._at + 1]

    def _expect(self, character: str) -> None:
        if self._next() != character:
            raise self._no_json(f"{character!r} expected")
        self._at += 1

    def _value(self) -> Any:
        self._next()
        try:
            value, self._at = _decoded(self._text, self._at)
        except (ValueError, RecursionError) as error:
            raise self._no_json(str(error)) from error
        return value

    def _no_json(self, why: str) -> ProtocolError:
        there = self._text[self._at : self._at + 80]
        return ProtocolError(f"{self.asked.label!r} was answered with no JSON ({why:.100}): {there!r}")


class Reader(Generic[AnyRow]):
    """Reads a table again and again; rows that have not changed are the same objects."""

    def __init__(self, row_type: type[AnyRow]) -> None:
        self._row_type = row_type
        self._needed = _needed(row_type)
        self._last: dict[str, AnyRow] = {}

    def read(self, table: Table) -> Iterator[AnyRow]:
        """One by one. What was read before is forgotten at the end."""
        read: dict[str, AnyRow] = {}
        for text, row, value in table.rows(self._last):
            if row is None:
                if not isinstance(value, dict) or not all(value.get(column) for column in self._needed):
                    raise table.without(self._needed, value)
                row = row_of(self._row_type, value)
            read[text] = row
            yield row
        self._last = read
