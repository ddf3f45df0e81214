"""Statements whose text peewee builds once; afterwards only the values are put in.

Building the text of a statement takes peewee ten times as long as SQLite takes to run it. What a query is
stays written with the models:

    @prepared
    def open_recall(number: str, scope: str) -> Query:
        return Recall.select().where(Recall.number == number, Recall.scope == scope, Recall.state != CLOSED)

    row = transaction.row(transaction.locked(open_recall(number, scope)))

The function is called once for each database, with a stand-in for every argument, and must do nothing with
them but hand them to peewee: a stand-in cannot be computed with, tested or made text of (`TypeError`,
`AttributeError`). The values of later calls are converted by the field that they are compared with or stored
in, as peewee does it.

A comparison with None is another statement (`IS NULL`), so it raises `ValueError`; what is stored may be
None. The number of arguments may vary: `def of_keys(*keys): … << keys` is one text for each number of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NoReturn, ParamSpec, TypeVar

import peewee

from freeswitch_callback.ledger.models import Table
from freeswitch_callback.ledger.server_side import ServerSide, Statement, Text

Query = Any  # any peewee query; their types are not of one kind
Arguments = ParamSpec("Arguments")
Key = TypeVar("Key")
_Convert = Callable[[Any], Any]
_Form = tuple[tuple[str, object], ...]


_AS_THEY_ARE = (peewee.TextField, peewee.IntegerField)

NOW: Any = object()
"""As an argument: the server's time when the statement begins. PostgreSQL knows it; nobody has to ask."""


@dataclass(frozen=True, slots=True, eq=False)
class _StandIn:
    """What stands in a query for an argument of its function."""

    position: int

    def _refuse(self) -> NoReturn:
        raise TypeError("an argument of a prepared query is not known yet: use it as it is")

    def __str__(self) -> str:
        self._refuse()

    def __bool__(self) -> bool:
        self._refuse()


@dataclass(frozen=True, slots=True)
class _Slot:
    """Where an argument goes among the values of a statement."""

    position: int
    convert: _Convert | None
    compared: bool


class _Context(peewee.Context):
    """Builds the text; keeps a slot where a stand-in came by."""

    def as_new(self) -> _Context:
        return _Context(**self.state.settings)

    def value(self, value: object, converter: Any = None, add_param: bool = True) -> Any:
        if isinstance(value, _StandIn):
            convert = self.state.converter if converter is None else converter
            value = _Slot(value.position, convert or None, bool(self.state.in_expr))
            converter = False
        return super().value(value, converter, add_param)


class _Statement:
    """One text, for one kind of database."""

    def __init__(self, query: Query, database: peewee.Database) -> None:
        self._query = query
        text, slots = _Context(**database.get_context_options()).sql(query).query()
        self._places = [
            (index, slot.position, slot.convert, slot.compared)
            for index, slot in enumerate(slots)
            if isinstance(slot, _Slot)
        ]
        given = tuple(isinstance(slot, _Slot) for slot in slots)
        constants = tuple(None if isinstance(slot, _Slot) else slot for slot in slots)
        self._statement = Statement(text, constants, given)
        self._gives_rows = isinstance(query, peewee.SelectBase) or query._returning is not None
        self._read_row: Callable[[Any], Any] | None = None

    def run(self, arguments: Sequence[Any], database: peewee.Database, before: Sequence[Text] = ()) -> Any:
        """The rows, or how many were changed; `before` is run first, in the same message."""
        cursor = database.execute_sql(*in_one([*before, self.said(arguments, database)]))
        if not self._gives_rows:
            return database.rows_affected(cursor)
        read_row = self._read_row or self._reader(cursor)
        rows = [read_row(row) for row in cursor.fetchall()]
        cursor.close()
        return rows

    def said(self, arguments: Sequence[Any], database: peewee.Database) -> Text:
        """What to send, and it has to be sent (`ServerSide`)."""
        values = self._values(arguments)
        kept: ServerSide | None = getattr(database, "kept", None)
        return (self._statement.text, values) if kept is None else kept.text(self._statement, values)

    def _values(self, arguments: Sequence[Any]) -> list[Any]:
        values = list(self._statement.constants)
        for index, position, convert, compared in self._places:
            value = arguments[position]
            if value is not None:
                values[index] = value if convert is None else convert(value)
            elif compared:
                raise ValueError(f"a prepared query compares with None: {self._statement.text}")
        return values

    def _reader(self, cursor: Any) -> Callable[[Any], Any]:
        """How peewee reads a row of this query, as its first result tells; but what is text or a whole number
        in the table is that already."""
        wrapper = self._query._get_cursor_wrapper(cursor)
        wrapper.initialize()
        for index, field in enumerate(getattr(wrapper, "fields", ())):
            if isinstance(field, _AS_THEY_ARE) and index in wrapper.convert:
                wrapper.converters[index] = None
                wrapper.convert.remove(index)
                wrapper.no_convert.append(index)
        wrapper.cursor = None  # its columns are known now; it would hold on to the connection
        read_row: Callable[[Any], Any] = wrapper.process_row
        self._read_row = read_row
        return read_row


@dataclass(slots=True, eq=False)  # not frozen: a claim makes dozens, and each would take three times as long
class Ready:
    """A prepared query with its arguments; a `Transaction` takes it wherever it takes a query."""

    _build: Callable[..., Query]
    _statements: dict[object, _Statement]
    _arguments: tuple[Any, ...]
    _names: tuple[str, ...]
    _form: _Form = ()

    def dicts(self) -> Ready:
        return self._then("dicts", True)

    def tuples(self) -> Ready:
        return self._then("tuples", True)

    def limit(self, rows: int) -> Ready:
        return self._then("limit", rows)

    def select_extend(self, column: peewee.ColumnBase) -> Ready:
        return self._then("select_extend", column)

    def for_update(self, how: str) -> Ready:
        return self._then("for_update", how)

    def _then(self, method: str, argument: object) -> Ready:
        form = (*self._form, (method, argument))
        return Ready(self._build, self._statements, self._arguments, self._names, form)

    def execute(self, database: peewee.Database, before: Sequence[Text] = ()) -> Any:
        """The rows as a list; how many were changed if it gives none. PostgreSQL takes statements `before` it
        in the same message."""
        return self._statement(database).run(self._arguments, database, before)

    def text(self, database: peewee.Database) -> Text:
        """The statement and its values, for whoever runs several at once; it has to be sent."""
        return self._statement(database).said(self._arguments, database)

    def _statement(self, database: peewee.Database) -> _Statement:
        of_server: tuple[int, ...] = ()
        if NOW in self._arguments:
            of_server = tuple(position for position, given in enumerate(self._arguments) if given is NOW)
        key = (type(database), len(self._arguments), of_server, self._names, self._form)
        statement = self._statements.get(key)
        if statement is None:
            statement = self._statements[key] = _Statement(self._query(), database)
        return statement

    def _query(self) -> Query:
        stand_ins = [
            peewee.SQL("now()") if given is NOW else _StandIn(position)
            for position, given in enumerate(self._arguments)
        ]
        unnamed = len(stand_ins) - len(self._names)
        query = self._build(*stand_ins[:unnamed], **dict(zip(self._names, stand_ins[unnamed:], strict=True)))
        for method, argument in self._form:
            query = getattr(query, method)(argument)
        return query


def prepared(build: Callable[Arguments, Query]) -> Callable[Arguments, Ready]:
    """A function that gives a query of its arguments, built once; see the top of this module."""
    statements: dict[object, _Statement] = {}

    def ready(*arguments: Arguments.args, **named: Arguments.kwargs) -> Ready:
        return Ready(build, statements, (*arguments, *named.values()), tuple(named))

    ready.__name__, ready.__doc__ = build.__name__, build.__doc__
    return ready


@cache
def insertion(table: type[Table], columns: tuple[str, ...], *, ids: bool) -> Callable[..., Ready]:
    """Writes rows of these columns, their values one after another; gives their `ids`, if asked for."""

    @prepared
    def insert(*values: object) -> Query:
        rows = [
            dict(zip(columns, row, strict=True)) for row in zip(*[iter(values)] * len(columns), strict=True)
        ]
        written = table.insert_many(rows)
        return written.returning(table.id) if ids else written

    return insert


@cache
def next_id(table: type[Table]) -> peewee.ColumnBase:
    """PostgreSQL's next id of a table, taken: nobody else gets it."""
    sequence = peewee.fn.pg_get_serial_sequence(table._meta.table_name, table.id.column_name)
    return peewee.fn.nextval(sequence).alias("next_id")


@cache
def addition(table: type[Table]) -> Callable[..., Ready]:
    """As `insertion`, of a row whose id nobody needs."""

    @prepared
    def insert(**values: object) -> Query:
        return table.insert(**values)

    return insert


@cache
def alteration(table: type[Table]) -> Callable[..., Ready]:
    """Gives these columns of the row with this id other values."""

    @prepared
    def update(row: int, /, **values: object) -> Query:
        return table.update(**values).where(table.id == row)

    return update


def in_one(texts: Sequence[Text]) -> tuple[str, list[Any] | None]:
    """Several statements as one message."""
    if len(texts) == 1:  # as nearly always with SQLite
        [(text, values)] = texts
        return text, values or None
    values = [value for _, given in texts for value in given]
    return "; ".join(text for text, _ in texts), values or None


def few_texts(keys: Sequence[Key]) -> Sequence[Key]:
    """The keys, some of them twice, so that their number is a power of two: for an `IN`, whose text is built
    for each number of keys."""
    return [*keys, *([keys[-1]] * (next_size(len(keys)) - len(keys)))] if keys else keys


def next_size(count: int) -> int:
    """The next power of two: for a `LIMIT`, which is part of the text, or PostgreSQL cannot plan for it."""
    return 1 << (count - 1).bit_length()


def in_few_sizes(rows: Sequence[Key]) -> Iterator[Sequence[Key]]:
    """The rows in order, in groups of 64, 32, 16 …: for an INSERT, as with `few_texts`."""
    start = 0
    while start < len(rows):
        size = min(64, 1 << ((len(rows) - start).bit_length() - 1))
        yield rows[start : start + size]
        start += size
