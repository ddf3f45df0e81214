"""PostgreSQL: pooled connections that wait in gevent's hub.

psycopg2 is C and would hold the whole process for the length of a query; with the wait callback installed
here only the calling greenlet waits. That callback makes `connect_timeout` ineffective, so connecting has a
deadline of its own; a query has the server's `statement_timeout` and, for a server that fell silent, a little
more time in the callback; to begin takes no time. So whoever asks a server that does not answer any more
knows that within 10 s.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import gevent
import peewee
import psycopg2
import psycopg2.extensions as pg
from gevent import socket
from gevent.lock import BoundedSemaphore

from freeswitch_callback.errors import (
    ConfigurationError,
    DatabaseReadOnly,
    DatabaseUnreachable,
    DiskFull,
    SchemaTooOld,
)
from freeswitch_callback.ledger.database import Clock, Result, Transaction, Work
from freeswitch_callback.ledger.models import TABLES
from freeswitch_callback.ledger.server_side import ServerSide

CONNECT_DEADLINE = 5.0
STATEMENT_TIMEOUT = 8.0
SILENCE = STATEMENT_TIMEOUT + 1.0
"""Seconds without a byte from the server after which a connection is given up."""

BEGIN_DEADLINE = 3.0
"""The same for what waits for nobody: the begin of a transaction, or a glance."""

POOL_DEADLINE = 30.0
MEETINGS = 10
"""How often a transaction is run again that met another one."""

MIGRATION_LOCK = 0x46534342
_AGAIN = ("23505", "40P01", "40001", "0A000")
"""Unique violation, deadlock, serialization failure; and a column has changed since a statement was kept."""

_READ_ONLY = "25006"
_UNDEFINED_TABLE, _UNDEFINED_COLUMN, _FORBIDDEN = "42P01", "42703", "42501"
_DISK_FULL = "53100"


_Taken = tuple["_Server", Any]
"""A connection of the pool, and the server's time where it was asked for."""


class _Connection(pg.connection):
    """`silence`: how long the wait callback waits for the server, in seconds; None for ever. `untried`: the
    server, which may have been restarted while it was idle, has not said anything since, and has to soon."""

    silence: float | None = SILENCE
    untried = False


def _wait(connection: Any) -> None:
    """psycopg2's wait callback: the calling greenlet waits, the hub goes on."""
    untried = getattr(connection, "untried", False)
    silence = min(BEGIN_DEADLINE, connection.silence) if untried else getattr(connection, "silence", SILENCE)
    silent = psycopg2.OperationalError(f"the server has been silent for {silence} s")
    while True:
        state = connection.poll()
        if state == pg.POLL_OK:
            if untried:
                connection.untried = False
            return
        if state == pg.POLL_READ:
            socket.wait_read(connection.fileno(), timeout=silence, timeout_exc=silent)
        else:
            socket.wait_write(connection.fileno(), timeout=silence, timeout_exc=silent)


class _Stale(Exception):
    """An idle connection that was cut, or to a server that is silent now."""


class _Server(peewee.PostgresqlDatabase):
    """One connection."""

    kept: ServerSide | None = None


class Postgresql:
    """The `Database` on a server."""

    path = None

    def __init__(
        self, name: str, database: str, parameters: dict[str, str], pool: int, clock: Clock | None = None
    ) -> None:
        self.name = name
        self._database = database
        self._parameters = parameters
        self._clock = clock
        self._teller = uuid.uuid4().hex
        self._room = BoundedSemaphore(pool)
        self._idle: list[_Server] = []
        self._keeps = True  # statements, at the server
        pg.set_wait_callback(_wait)

    def read(self, work: Work[Result]) -> Result:
        return self._run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", work)

    def glance(self, work: Work[Result]) -> Result:
        """Without BEGIN and COMMIT, each of which is a message there and back."""
        try:
            with self._connection(self._idle_or_new) as (database, _):
                database.connection().untried = True
                return work(Transaction(database, self._clock and self._clock()))
        except peewee.PeeweeException:
            # A connection that was cut while it was idle, most likely: the others are no better. Whatever
            # else it was, it is told by the next.
            self.close()
        return self.read(work)

    def write(self, work: Work[Result], *, durable: bool = True) -> Result:
        begin = "BEGIN ISOLATION LEVEL READ COMMITTED"
        if not durable:
            begin += "; SET LOCAL synchronous_commit = off"
        return self._again(lambda: self._begun_on_the_way(begin, work))

    def migrate(self, work: Work[Result], *, create_folder: bool) -> Result:
        def alone(transaction: Transaction) -> Result:
            database = transaction.database
            # Time for a long step and for another process's: no deadline here.
            database.connection().silence = None
            try:
                return locked(transaction)
            finally:
                database.connection().silence = SILENCE

        def locked(transaction: Transaction) -> Result:
            database = transaction.database
            database.execute_sql("SET LOCAL statement_timeout = 0")
            database.execute_sql("SELECT pg_advisory_xact_lock(%s)", (MIGRATION_LOCK,))
            encoding = database.execute_sql("SHOW server_encoding").fetchone()[0]
            if encoding != "UTF8":
                raise ConfigurationError(
                    f"{self.name} has encoding {encoding}, which cannot hold every caller's name: "
                    f"CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
                )
            return work(transaction)

        return self._run("BEGIN ISOLATION LEVEL READ COMMITTED", alone)

    def listen(self, on_change: Callable[[], None]) -> None:
        from freeswitch_callback.ledger import listening  # its log is nothing for commands to wait for

        listening.listen(self._connected, self._teller, on_change)

    def size(self) -> int:
        def asked(transaction: Transaction) -> int:
            names = ", ".join(f"('\"{table._meta.table_name}\"')" for table in TABLES)
            total = f"SELECT sum(pg_total_relation_size(name::regclass)) FROM (VALUES {names}) AS t (name)"
            return int(transaction.say(total).fetchone()[0])

        return self.read(asked)

    def tidy(self, *, vacuum: bool) -> None:
        if not vacuum:
            return
        try:
            database = self._connected()
            connection = database.connection()
            connection.silence = None
            connection.autocommit = True
            try:
                database.execute_sql("SET statement_timeout = 0")
                for table in TABLES:  # quoted: `user` is a word of SQL's
                    database.execute_sql(f'VACUUM (ANALYZE) "{table._meta.table_name}"')
            finally:
                database.close()
        except peewee.PeeweeException as error:
            raise self._explained(error) from error

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _run(self, begin: str, work: Work[Result]) -> Result:
        return self._again(lambda: self._transact(begin, work))

    def _again(self, transact: Callable[[], Result]) -> Result:
        """Once more where two have met."""
        meetings = 0
        while True:
            try:
                return transact()
            except peewee.PeeweeException as error:
                if _code(error) in ServerSide.NOT_AS_KNOWN:
                    self._keeps = False
                    self.close()
                meetings += _code(error) in (*_AGAIN, *ServerSide.NOT_AS_KNOWN)
                if not 0 < meetings < MEETINGS:
                    raise self._explained(error) from error

    def _transact(self, begin: str, work: Work[Result]) -> Result:
        with self._connection(partial(self._begun, begin)) as (database, now):
            transaction = Transaction(database, now if self._clock is None else self._clock(), self._teller)
            result = work(transaction)
            transaction.commit()
            return result

    def _begun_on_the_way(self, begin: str, work: Work[Result]) -> Result:
        """A transaction that begins with the first thing said in it: a message less."""
        try:
            with self._connection(self._idle_or_new) as (database, _):
                connection = database.connection()
                transaction = Transaction(database, self._clock and self._clock(), self._teller, begin)
                try:
                    result = work(transaction)
                    transaction.commit()
                except (peewee.OperationalError, peewee.InterfaceError) as error:
                    if connection.untried:
                        raise _Stale from error
                    raise
                return result
        except _Stale:
            # Nothing was changed yet. The other idle ones are no better, and each would take its time to
            # show it.
            self.close()
        return self._transact(begin, work)

    @contextmanager
    def _connection(self, take: Callable[[], _Taken]) -> Iterator[_Taken]:
        """A connection of the pool; kept for the next one if it is still in order."""
        if not self._room.acquire(timeout=POOL_DEADLINE):
            raise DatabaseUnreachable(
                f"{self.name}: no connection of the pool became free within {POOL_DEADLINE:.0f} s"
            )
        taken: _Taken | None = None
        try:
            taken = take()
            yield taken
        finally:
            if taken is not None:
                self._keep(taken[0])
            self._room.release()

    def _idle_or_new(self) -> _Taken:
        if not self._idle:
            return self._connected(), None
        database = self._idle.pop()
        database.connection().untried = True
        return database, None

    def _begun(self, begin: str) -> _Taken:
        """Inside a transaction."""
        if self._idle:
            database = self._idle.pop()
            try:
                return database, _begin(database, begin)
            except (peewee.OperationalError, peewee.InterfaceError):
                # The server was restarted behind an idle connection, or is silent; nothing was changed yet.
                # The other idle ones are no better, and each would take its time to show it.
                database.close()
                self.close()
        database = self._connected()
        return database, _begin(database, begin)

    def _keep(self, database: _Server) -> None:
        connection = database.connection()
        try:
            if _status(connection) in (pg.TRANSACTION_STATUS_INTRANS, pg.TRANSACTION_STATUS_INERROR):
                database.execute_sql(f"ROLLBACK; {ServerSide.FORGET}" if database.kept else "ROLLBACK")
                if database.kept:
                    database.kept.forget()
        finally:
            # A greenlet that was killed in mid-query leaves an active or a closed one behind.
            if _status(connection) == pg.TRANSACTION_STATUS_IDLE:
                self._idle.append(database)
            else:
                database.close()

    def _connected(self) -> _Server:
        deadline = gevent.Timeout(CONNECT_DEADLINE)
        try:
            with deadline:
                return self._connect()
        except gevent.Timeout as timeout:
            if timeout is not deadline:
                raise  # the caller's own
            raise DatabaseUnreachable(
                f"{self.name} did not accept a connection within {CONNECT_DEADLINE:.0f} s"
            ) from timeout

    def _connect(self) -> _Server:
        parameters: dict[str, Any] = {
            "application_name": "freeswitch-callback",
            "connection_factory": _Connection,
            "client_encoding": "UTF8",
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            **self._parameters,
            **self._address(),
        }
        database = _Server(self._database, thread_safe=False, **parameters)
        database.kept = ServerSide() if self._keeps else None
        try:
            database.connect()
            database.execute_sql(
                f"SET statement_timeout = {STATEMENT_TIMEOUT * 1000:.0f}; SET TimeZone = 'UTC'"
            )
        except peewee.ProgrammingError as error:  # libpq: an option it does not know
            raise ConfigurationError(f"[database] url {self.name}: {_text(error)}") from error
        return database

    def _address(self) -> dict[str, str]:
        """libpq would stop the hub for the length of a name look-up; gevent's resolver does not."""
        host = self._parameters.get("host", "")
        if not host or host.startswith("/") or "," in host or "hostaddr" in self._parameters:
            return {}
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except OSError as error:
            raise DatabaseUnreachable(f"{self.name}: the host {host} is not known: {error}") from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        return {"host": ",".join([host] * len(addresses)), "hostaddr": ",".join(addresses)}

    def _explained(self, error: peewee.PeeweeException) -> Exception:
        code = _code(error)
        if code in (_UNDEFINED_TABLE, _UNDEFINED_COLUMN):
            return SchemaTooOld(f"{self.name}: {_text(error)}: run `freeswitch-callback migrate`")
        if code == _FORBIDDEN:
            return DatabaseUnreachable(f"{self.name}: {_text(error)}: GRANT it to this user")
        if code == _READ_ONLY:
            return DatabaseReadOnly(
                f"{self.name}: {_text(error)}: a standby, or default_transaction_read_only is on"
            )
        if code == _DISK_FULL:
            return DiskFull(f"{self.name}: {_text(error)}: make room on the server")
        if isinstance(error, peewee.OperationalError | peewee.InterfaceError):
            return DatabaseUnreachable(f"{self.name}: {_text(error)}")
        return error


def _begin(database: _Server, begin: str) -> Any:
    database.connection().untried = True
    return database.execute_sql(f"{begin}; SELECT clock_timestamp()").fetchone()[0]


def _status(connection: Any) -> int:
    return pg.TRANSACTION_STATUS_UNKNOWN if connection.closed else int(connection.get_transaction_status())


def _code(error: peewee.PeeweeException) -> str | None:
    """PostgreSQL's SQLSTATE; peewee keeps psycopg2's exception as `orig`."""
    return getattr(getattr(error, "orig", None), "pgcode", None)


def _text(error: peewee.PeeweeException) -> str:
    return " ".join(str(error).split())
