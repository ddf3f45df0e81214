"""What a database is to the ledger: a place that runs a function inside a transaction.

`open_database(url)` gives the SQLite one (`sqlite.py`) or the PostgreSQL one (`postgresql.py`). Both block
only the calling greenlet. The function gets a `Transaction`, must not wait for anything but the database, and
may be run again when two writers met: it decides nothing outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import peewee

from freeswitch_callback.errors import ConfigurationError
from freeswitch_callback.ledger.models import LINE, Table, clean
from freeswitch_callback.ledger.prepared import (
    NOW,
    Query,
    Ready,
    addition,
    alteration,
    in_few_sizes,
    in_one,
    insertion,
    next_id,
)
from freeswitch_callback.ledger.server_side import Text

Result = TypeVar("Result")
Row = dict[str, Any]
Clock = Callable[[], datetime]

CHANNEL = "freeswitch_callback"
"""Where PostgreSQL tells other processes of changes; see `listening`."""

LONGEST = 100 * 365 * 86400.0
"""Seconds: what is longer is written as this, a datetime could not hold it."""


_TOLD_NOW = peewee.fn.now().alias("now_")


@dataclass(slots=True)
class Transaction:
    """One transaction, and the database's clock as it began.

    Statements of which nothing is asked (`together`, `tell`, `alone`, and the BEGIN) go to PostgreSQL with
    whatever is said next, the COMMIT in most cases: a message each way costs more than what it says.
    """

    database: peewee.Database
    _now: Any
    teller: str = ""
    begin: str = ""
    """What is to be said before anything else, if nothing has been yet."""
    _later: list[Ready | Text] = field(default_factory=list)

    @property
    def now(self) -> datetime:
        """Asked for, where it is not known yet: a message, unless a row tells it (`row`)."""
        if self._now is None:
            self._now = self.say("SELECT clock_timestamp()").fetchone()[0]
        now: datetime = self._now
        return now

    @property
    def moment(self) -> Any:
        """The time, to be handed to prepared queries only: PostgreSQL knows it where nobody has asked."""
        return NOW if self._now is None else self._now

    def after(self, seconds: float) -> datetime:
        return self.now + timedelta(seconds=max(-LONGEST, min(LONGEST, seconds)))

    def rows(self, query: Query) -> list[Row]:
        return list(self._run(query.dicts()))

    def row(self, query: Query, *, dated: bool = False) -> Row | None:
        """`dated`: with the time, if it is not known yet; for one query of one table."""
        dated = dated and self._now is None
        wanted = query.select_extend(_TOLD_NOW) if dated else query
        row: Row | None = next(iter(self._run(wanted.limit(1).dicts())), None)
        if row is not None and dated:
            self._now = row.pop("now_")
        return row

    def value(self, query: Query) -> Any:
        """The only column of the first row, None without rows."""
        found = next(iter(self._run(query.limit(1).tuples())), None)
        return None if found is None else found[0]

    def change(self, query: Query) -> int:
        """Runs an UPDATE or DELETE; how many rows it changed."""
        return int(self._run(query))

    def insert(self, table: type[Table], **values: object) -> int:
        """Writes one row; its id."""
        return self.insert_all(table, [values])[0]

    def add(self, table: type[Table], id_: int | None, **values: object) -> int:
        """Writes one row, with the id that `numbered` has told, if it has; its id."""
        if id_ is None:
            return self.insert(table, **values)
        self.together(addition(table)(id=id_, **values))
        return id_

    def insert_all(self, table: type[Table], rows: Sequence[Row]) -> list[int]:
        """Writes rows that have the same columns; their ids."""
        # They count up in the order of the rows, but are told in any.
        return [id_ for insert in _insertions(table, rows, ids=True) for id_ in sorted(self._ids(insert))]

    def add_all(self, table: type[Table], rows: Sequence[Row]) -> None:
        """As `insert_all`, where nobody asks for the ids."""
        self.together(*_insertions(table, rows, ids=False))

    def _ids(self, insert: Ready) -> list[int]:
        return [id_ for [id_] in self._run(insert.tuples())]

    def numbered(self, query: Ready, table: type[Table]) -> Ready:
        """The query, whose row also has the id that a new row of a table may have, as `next_id`: whoever
        writes that one need not ask. SQLite's does not have it; nobody is far away there."""
        return query.select_extend(next_id(table)) if self.database.for_update else query

    def update(self, table: type[Table], row: int, **values: object) -> int:
        """Gives one row other values, which are no expressions; how many rows that were (0 or 1)."""
        return self.change(alteration(table)(row, **values))

    def together(self, *queries: Ready) -> None:
        """Runs changes of which nothing is asked, in this order."""
        if self.database.for_update:
            self._later.extend(queries)
            return
        for query in queries:
            query.execute(self.database)

    def say(self, statement: str, *values: object) -> Any:
        """A statement in words, with a `%s` for each value; its cursor."""
        return self._say((statement, list(values)))

    def _run(self, query: Query) -> Any:
        if self._waits and isinstance(query, Ready):
            return query.execute(self.database, self._what_waits())
        if self._waits:
            self._say()
        return query.execute(self.database)

    def _say(self, *last: Text) -> Any:
        return self.database.execute_sql(*in_one([*self._what_waits(), *last]))

    @property
    def _waits(self) -> bool:
        """Whether there is something to be said first."""
        return bool(self.begin or self._later)

    def _what_waits(self) -> list[Text]:
        """It has to be said now."""
        texts: list[Text] = [(self.begin, [])] if self.begin else []
        texts += [each.text(self.database) if isinstance(each, Ready) else each for each in self._later]
        self.begin = ""
        self._later.clear()
        return texts

    def commit(self) -> None:
        if self.begin:
            # Alone: of a COMMIT on a connection that turns out to be cut nobody knew what has become.
            begin, self.begin = self.begin, ""
            self.database.execute_sql(begin)
        self.say("COMMIT")

    def tell(self) -> None:
        """Other processes hear, once this is committed, that a recall may be due sooner. On SQLite nobody
        listens: they see it at their next poll."""
        if self.database.for_update:
            self._later.append(("SELECT pg_notify(%s, %s)", [CHANNEL, self.teller]))

    def alone(self, *names: str) -> None:
        """Waits for every other transaction that said one of these names; those who say one later wait for
        this one's end. What is read then is what they left behind. Everybody names in the same order of
        kinds, or they wait for each other.

        SQLite has one writer, who is alone already.
        """
        if self.database.for_update and names:
            locks = ", ".join(["pg_advisory_xact_lock(hashtextextended(%s, 0))"] * len(names))
            self._later.append((f"SELECT {locks}", [clean(name, LINE) for name in names]))

    def locked(self, query: Query, *, skip: bool = False) -> Query:
        """The query with its rows locked until the end. `skip`: leaves out those that somebody else has
        locked.

        SQLite has one writer, who holds the lock on everything already.
        """
        if not self.database.for_update:
            return query
        return query.for_update("FOR UPDATE SKIP LOCKED" if skip else "FOR UPDATE")


def _insertions(table: type[Table], rows: Sequence[Row], *, ids: bool) -> Iterator[Ready]:
    for some in in_few_sizes(rows):
        yield insertion(table, tuple(some[0]), ids=ids)(*[value for row in some for value in row.values()])


Work = Callable[[Transaction], Result]


class Database(Protocol):
    """Every call raises `DatabaseUnreachable` when the database is away or silent for too long,
    `SchemaTooOld` when the tables are missing, `NotOurDatabase` when it is somebody else's."""

    @property
    def name(self) -> str:
        """What messages call it: the URL without the password."""

    @property
    def path(self) -> Path | None:
        """The file, of a database that is one."""

    def read(self, work: Work[Result]) -> Result:
        """Runs `work` on one consistent view."""

    def glance(self, work: Work[Result]) -> Result:
        """As `read`, with fewer messages: each statement sees what is there by then. For what is looked at
        again before anything is done with it, or as soon as it changes."""

    def write(self, work: Work[Result], *, durable: bool = True) -> Result:
        """Runs `work` and commits; an exception undoes it all. What is not `durable` may be lost in a power
        cut, and the disk is not waited for: others who commit need not wait behind it."""

    def migrate(self, work: Work[Result], *, create_folder: bool) -> Result:
        """As `write`, alone: others who migrate wait, and no deadline ends it. May create the database."""

    def listen(self, on_change: Callable[[], None]) -> None:
        """See `Ledger.listen`."""

    def size(self) -> int:
        """Bytes on its disk."""

    def tidy(self, *, vacuum: bool) -> None:
        """See `Ledger.tidy`; outside of any transaction, and without a deadline."""

    def close(self) -> None:
        """Ends threads and connections; a later call opens new ones."""


def open_database(
    url: str, *, password: str | None = None, pool: int = 10, clock: Clock | None = None
) -> Database:
    """Raises `ConfigurationError` for a URL that names no database; connects to nothing yet. A `clock` gives
    every transaction its time, instead of the database's own; SQLite's threads call it too."""
    scheme, separator, rest = url.partition("://")
    if separator and scheme == "sqlite":
        return _sqlite(rest, clock)
    if separator and scheme in ("postgresql", "postgres"):
        return _postgresql(url, password, pool, clock)
    raise ConfigurationError(
        f"[database] url {without_password(url)!r}: use sqlite:///absolute/path, sqlite://relative/path "
        f"or postgresql://user@host/database"
    )


def _sqlite(path: str, clock: Clock | None) -> Database:
    from freeswitch_callback.ledger.sqlite import Sqlite

    if path.strip("/") == ":memory:":
        raise ConfigurationError(
            "[database] url sqlite:///:memory: is not supported: missed calls would be lost with the "
            "process; name a file, sqlite:///var/lib/freeswitch-callback/callback.db"
        )
    if not path.strip("/") or "\0" in path:
        raise ConfigurationError(f"[database] url {'sqlite://' + path!r} names no file")
    return Sqlite(path, clock=clock)


def _postgresql(url: str, password: str | None, pool: int, clock: Clock | None) -> Database:
    from freeswitch_callback.ledger.postgresql import Postgresql

    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigurationError(f"[database] url {without_password(url)!r}: {error}") from error
    options = dict(parse_qsl(parts.query))
    given = {
        "user": unquote(parts.username or ""),
        "password": password or unquote(parts.password or ""),
        "host": unquote(parts.hostname or ""),
        "port": str(port or ""),
    }
    database = unquote(parts.path.removeprefix("/"))
    if not database:
        raise ConfigurationError(
            f"[database] url {without_password(url)!r} names no database: postgresql://user@host/database"
        )
    if pool < 1:
        raise ConfigurationError(f"a pool of {pool} connections cannot work: at least 1")
    parameters = options | {key: value for key, value in given.items() if value}
    return Postgresql(without_password(url), database, parameters, pool, clock)


def without_password(url: str) -> str:
    """The URL as messages may show it; works on malformed ones too."""
    scheme, separator, rest = url.partition("://")
    address, question, options = rest.partition("?")
    credentials, at, host = address.rpartition("@")
    user, colon, _ = credentials.partition(":")
    kept = "&".join(
        "password=***" if option.lower().startswith("password=") else option for option in options.split("&")
    )
    return f"{scheme}{separator}{user}{':***' if colon else ''}{at}{host}{question}{kept}"
