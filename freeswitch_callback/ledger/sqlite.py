"""SQLite: one thread that writes, one that reads.

A locked or slow file stops a thread of ours, never gevent's hub: a greenlet that calls waits, the others go
on. A transaction runs on its thread from begin to end, so no greenlet switch can come in between (that is a
self-deadlock: the switched-in greenlet would wait for the lock of the one that waits for it).

Write-ahead log, so that readers and the writer do not meet; synchronous=FULL, so that a committed missed call
survives a power cut. What is asked for while the writer is at work is then written together: the disk takes
as long for one commit as for fifty. Each is on its own all the same: what one of them raises undoes that one.
"""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Generic
from urllib.parse import quote

import peewee
from gevent import monkey

from freeswitch_callback.errors import (
    CallbackError,
    DatabaseReadOnly,
    DatabaseUnreachable,
    DiskFull,
    NotOurDatabase,
    SchemaTooOld,
)
from freeswitch_callback.ledger import migrations
from freeswitch_callback.ledger.database import Clock, Result, Transaction, Work
from freeswitch_callback.ledger.thread import Thread

BUSY_TIMEOUT = 10.0
"""Seconds for which a writer waits for another process's lock."""

_sleep = monkey.get_original("time", "sleep")
"""Of this thread, which has no other greenlets."""

_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)

_NORMAL, _FULL = 1, 2
"""Values of `PRAGMA synchronous`: a commit waits for the disk with _FULL."""

_TOGETHER = 50
"""Transactions at most that are committed in one: another process that writes waits as long."""


@dataclass(frozen=True, slots=True)
class _Done(Generic[Result]):
    result: Result


@dataclass(slots=True, eq=False)
class _Asked(Generic[Result]):
    """A transaction that somebody waits for, and what came of it."""

    work: Work[Result]
    create: bool = False
    durable: bool = True
    outcome: _Done[Result] | Exception | None = None


class _Line:
    """One native thread with one connection, opened when it is first used."""

    def __init__(
        self, path: Path, name: str, *, begin: str, pragmas: dict[str, int], timeout: float, clock: Clock
    ) -> None:
        self.path = path
        self.name = name
        self.begin = begin
        self.pragmas = pragmas
        self.timeout = timeout
        self.clock = clock
        self.thread = Thread()
        self.database: peewee.SqliteDatabase | None = None
        self._synchronous = _FULL
        self._asked: deque[_Asked[Any]] = deque()

    def run(self, work: Work[Result], *, create: bool = False, durable: bool = True) -> Result:
        asked: _Asked[Result] = _Asked(work, create, durable)
        self._asked.append(asked)
        return self._in_thread(partial(self._done, asked))

    def alone(self, work: Callable[[peewee.SqliteDatabase], Result]) -> Result:
        """Runs `work` between two transactions, and in none."""
        return self._in_thread(lambda: work(self._connected(create=False)))

    def _in_thread(self, work: Callable[[], Result]) -> Result:
        try:
            return self.thread.run(work)
        except peewee.PeeweeException as error:
            raise self._explained(error) from error

    def close(self) -> None:
        self.thread.run(self._disconnect)
        self.thread.end()

    def _done(self, asked: _Asked[Result]) -> Result:
        if asked.outcome is None:  # else it was written together with one before it
            self._write_what_is_asked()
        if isinstance(asked.outcome, _Done):
            return asked.outcome.result
        raise asked.outcome or AssertionError("asked for, and neither done nor failed")

    def _write_what_is_asked(self) -> None:
        """What waits, its first at least, in the order in which it was asked for."""
        some = [self._asked.popleft()]
        while self._asked and len(some) < _TOGETHER and not (some[0].create or self._asked[0].create):
            some.append(self._asked.popleft())
        if len(some) > 1 and self._transact_together(some):
            return
        for asked in some:
            try:
                asked.outcome = _Done(self._transact(asked))
            except Exception as error:  # noqa: BLE001  handed to whoever asked
                asked.outcome = error

    def _transact(self, asked: _Asked[Result]) -> Result:
        database = self._connected(asked.create)
        self._begin(database, durable=asked.durable)
        try:
            result = asked.work(Transaction(database, self.clock()))
            database.execute_sql("COMMIT")
        finally:
            # Still inside: `work` or the commit failed. SQLite itself may have rolled back already.
            if database.connection().in_transaction:
                database.execute_sql("ROLLBACK")
        return result

    def _transact_together(self, some: Sequence[_Asked[Any]]) -> bool:
        """One commit for all. False if there was none: nothing has happened then, and each is to be tried
        alone."""
        try:
            database = self._connected(create=False)
            self._begin(database, durable=any(asked.durable for asked in some))
        except (peewee.PeeweeException, CallbackError) as error:
            for asked in some:
                asked.outcome = error
            return True  # each alone would only wait for the lock once more
        outcomes: list[_Done[Any] | Exception] = []
        try:
            for asked in some:
                database.execute_sql("SAVEPOINT one")
                try:
                    outcomes.append(_Done(asked.work(Transaction(database, self.clock()))))
                except Exception as error:  # noqa: BLE001  handed to whoever asked
                    outcomes.append(error)
                    database.execute_sql("ROLLBACK TO one")  # fails where SQLite has undone them all
                database.execute_sql("RELEASE one")
            database.execute_sql("COMMIT")
        except peewee.PeeweeException:
            return False
        finally:
            if database.connection().in_transaction:
                database.execute_sql("ROLLBACK")
        for asked, outcome in zip(some, outcomes, strict=True):
            asked.outcome = outcome
        return True

    def _begin(self, database: peewee.SqliteDatabase, *, durable: bool) -> None:
        wanted = _FULL if durable else _NORMAL
        if wanted != self._synchronous:
            database.execute_sql(f"PRAGMA synchronous = {wanted}")
            self._synchronous = wanted
        database.execute_sql(self.begin)

    def _connected(self, create: bool) -> peewee.SqliteDatabase:
        if self.database is None:
            if not create and not self.path.exists():
                raise SchemaTooOld(
                    f"{self.name} does not exist yet: `freeswitch-callback migrate` creates it"
                )
            mode = "rwc" if create else "rw"
            database = peewee.SqliteDatabase(
                f"file:{quote(str(self.path))}?mode={mode}",
                uri=True,
                thread_safe=False,  # one thread is all that ever uses it
                timeout=self.timeout,
            )
            try:
                self._prepare(database, create)
            except (peewee.PeeweeException, CallbackError):
                database.close()
                raise
            self.database = database
        return self.database

    def _prepare(self, database: peewee.SqliteDatabase, create: bool) -> None:
        """Looks whose file it is before the first byte of it is changed."""
        # In one view: somebody may be migrating it right now.
        database.execute_sql("BEGIN")
        version = migrations.examine(database, self.name)
        database.execute_sql("COMMIT")
        if version == 0 and not create:
            migrations.check(0, self.name)
        self._into_wal(database)
        for pragma, value in {"synchronous": _FULL, **self.pragmas}.items():
            database.execute_sql(f"PRAGMA {pragma} = {value}")
        self._synchronous = _FULL

    def _into_wal(self, database: peewee.SqliteDatabase) -> None:
        """A new file's first users may all do this at once; SQLite tells them so instead of waiting."""
        deadline = time.monotonic() + self.timeout
        while database.execute_sql("PRAGMA journal_mode").fetchone()[0] != "wal":
            try:
                database.execute_sql("PRAGMA journal_mode = WAL")
            except peewee.OperationalError as error:
                if _code(error) not in _LOCKED or time.monotonic() > deadline:
                    raise
                _sleep(0.01)

    def _disconnect(self) -> None:
        if self.database is not None:
            self.database.close()
            self.database = None

    def _explained(self, error: peewee.PeeweeException) -> Exception:
        code = _code(error)
        if code == sqlite3.SQLITE_NOTADB:
            return NotOurDatabase(f"{self.name} is not an SQLite file; nothing was changed")
        if code == sqlite3.SQLITE_CORRUPT:
            return DatabaseUnreachable(f"{self.name} is damaged ({error}): restore a backup")
        if code in _LOCKED:
            return DatabaseUnreachable(
                f"{self.name} was locked by another process for more than {self.timeout:.0f} s: "
                f"`fuser {self.path}` tells by which"
            )
        if code == sqlite3.SQLITE_FULL:
            return DiskFull(f"{self.name}: {error}: make room in {self.path.parent}")
        if code == sqlite3.SQLITE_READONLY or (
            isinstance(error, peewee.OperationalError)
            and code != sqlite3.SQLITE_ERROR
            and self._can_only_be_read()
        ):
            return DatabaseReadOnly(f"{self.name}: {error}{self._trouble()}")
        if code == sqlite3.SQLITE_ERROR and "no such" in str(error):
            return SchemaTooOld(f"{self.name}: {error}: run `freeswitch-callback migrate`")
        if isinstance(error, peewee.OperationalError) and code != sqlite3.SQLITE_ERROR:
            return DatabaseUnreachable(f"{self.name}: {error}{self._trouble()}")
        return error

    def _can_only_be_read(self) -> bool:
        """Also on a disk that was mounted read-only, as after its first error: SQLite says "unable to open"
        then, or "disk I/O error"."""
        return os.access(self.path, os.R_OK) and not (
            os.access(self.path, os.W_OK) and os.access(self.path.parent, os.W_OK)
        )

    def _trouble(self) -> str:
        """What about the file or its folder is in the way, as far as one can see."""
        folder = self.path.parent
        if self.path.is_dir():
            return ": it is a folder; name a file in it"
        if not folder.is_dir():
            return f": the folder {folder} does not exist; create it, writable for this user"
        if not os.access(folder, os.W_OK | os.X_OK):
            return (
                f": the folder {folder} is not writable for this user; SQLite keeps its log beside the file"
            )
        if self.path.exists() and not os.access(self.path, os.R_OK | os.W_OK):
            return ": the file is not readable and writable for this user"
        return ""


def _machines_clock() -> datetime:
    return datetime.now(UTC)


def _code(error: peewee.PeeweeException) -> int:
    """SQLite's primary result code, 0 for none; peewee keeps sqlite3's exception as `orig`."""
    return int(getattr(getattr(error, "orig", None), "sqlite_errorcode", 0)) & 0xFF


class Sqlite:
    """The `Database` in one file."""

    def __init__(self, path: str, *, timeout: float = BUSY_TIMEOUT, clock: Clock | None = None) -> None:
        # sqlite:////var is /var too; abspath would keep the second slash.
        self.path = Path(os.path.abspath(re.sub("^/+", "/", path)))
        self.name = f"the SQLite file {self.path}"
        self.timeout = timeout
        self.clock = clock or _machines_clock
        self._open()

    def _open(self) -> None:
        self._writer = _Line(
            self.path,
            self.name,
            begin="BEGIN IMMEDIATE",
            pragmas={"foreign_keys": 1},
            timeout=self.timeout,
            clock=self.clock,
        )
        self._reader = _Line(
            self.path,
            self.name,
            begin="BEGIN",
            pragmas={"query_only": 1},
            timeout=self.timeout,
            clock=self.clock,
        )

    def read(self, work: Work[Result]) -> Result:
        return self._reader.run(work)

    def glance(self, work: Work[Result]) -> Result:
        """Without BEGIN and COMMIT."""
        return self._reader.alone(lambda database: work(Transaction(database, self.clock())))

    def write(self, work: Work[Result], *, durable: bool = True) -> Result:
        return self._writer.run(work, durable=durable)

    def migrate(self, work: Work[Result], *, create_folder: bool) -> Result:
        if create_folder:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise DatabaseUnreachable(
                    f"{self.name}: the folder {self.path.parent} cannot be made: {error}"
                ) from error
        return self._writer.run(work, create=True)

    def listen(self, on_change: Callable[[], None]) -> None:
        """Nobody tells: what other processes write is found at the poll."""

    def size(self) -> int:
        return sum(
            path.stat().st_size
            for path in (self.path, self.path.with_name(self.path.name + "-wal"))
            if path.exists()
        )

    def tidy(self, *, vacuum: bool) -> None:
        def work(database: peewee.SqliteDatabase) -> None:
            if vacuum:
                database.execute_sql("VACUUM")
            # Busy, and no error, where a reader of another process still needs the log: the next one does it.
            database.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

        self._writer.alone(work)

    def close(self) -> None:
        self._reader.close()
        self._writer.close()
        self._open()
