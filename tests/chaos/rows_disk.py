"""The disk under the database is full: for one write, for some, or until somebody makes room."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peewee
import structlog

from freeswitch_callback.core.facts import Mode
from freeswitch_callback.errors import DiskFull
from freeswitch_callback.ledger import Ledger
from tests.chaos.inside import Inside
from tests.chaos.suite import Counts, Given, row

_WRITES = ("INSERT", "UPDATE", "DELETE", "COMMIT")
_FAILURES = (1, 5)
"""How many writes in a row fail."""


class Faulty:
    """Counts what one ledger writes; some of it fails. Reads and rollbacks always work."""

    def __init__(self, ledger: Ledger, fails: range) -> None:
        self.fails = fails
        self.seen = 0
        self._line = ledger._database._database._writer  # type: ignore[attr-defined]

    @contextmanager
    def at_work(self) -> Iterator[None]:
        execute = peewee.SqliteDatabase.execute_sql

        def execute_or_fail(database: peewee.SqliteDatabase, sql: str, *arguments: Any) -> Any:
            # A read transaction's commit writes nothing.
            if database is self._line.database and sql.lstrip().startswith(_WRITES):
                self.seen += 1
                if self.seen in self.fails:
                    raise _full()
            return execute(database, sql, *arguments)

        peewee.SqliteDatabase.execute_sql = execute_or_fail  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            peewee.SqliteDatabase.execute_sql = execute  # type: ignore[method-assign]


def _full() -> peewee.OperationalError:
    original = sqlite3.OperationalError("database or disk is full")
    original.sqlite_errorcode = sqlite3.SQLITE_FULL
    error = peewee.OperationalError(str(original))
    error.orig = original  # type: ignore[attr-defined]
    return error


@row(
    "disk-full",
    "disk full: the n-th write fails, for every n, once and five in a row",
    "nothing acknowledged is lost, nothing is doubled, and it goes on by itself",
    full=1,  # each run is every n
    short=1,
)
def disk_full(given: Given) -> Counts:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    total = Counts()
    for run in range(given.runs):
        for spool in (True, False):
            folder = given.folder / f"{run}-{spool}"
            counted = _story(folder, given, range(0), "without a fault", spool)
            total.add(counted[0])
            every = range(1, counted[1] + 1)
            for n in sorted(given.random.sample(every, 8)) if given.short else every:
                for failures in _FAILURES:
                    what = f"writes {n} to {n + failures - 1} fail, {'a' if spool else 'no'} spool"
                    total.add(
                        _story(folder / f"{n}-{failures}", given, range(n, n + failures), what, spool)[0]
                    )
        total.add(_really_full(given.folder / f"{run}-full", given))
    return total


def _story(folder: Path, given: Given, fails: range, what: str, spool: bool) -> tuple[Counts, int]:
    """Two give up and are called back; how it ended, and how many writes that took."""
    house = Inside(folder, given.random, mode=given.random.choice(list(Mode)))
    ledger = Ledger(house.url)
    faulty = Faulty(ledger, fails)
    try:
        with faulty.at_work():
            house.engine(ledger=ledger, spool=spool)
            _missed_and_called_back(house)
            return house.counts(what, all_recalled=True), faulty.seen
    finally:
        house.close()


def _missed_and_called_back(house: Inside) -> None:
    house.gives_up()
    house.gives_up()
    house.until(house.all_on_record)
    house.work()
    house.until(house.called_back)


def _really_full(folder: Path, given: Given) -> Counts:
    """On a small disk of its own, which is full while callers give up: as root only."""
    folder.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        return Counts(notes=[f"no small disk could be mounted: {mounted.stderr.decode().strip()}"])
    house = Inside(folder / "house", given.random)
    try:
        engine = house.engine()
        ballast = folder / "ballast"
        _fill(ballast)
        calls = [house.calls() for _ in range(3)]
        for call in calls:
            house.gives_up(call)
        told = house.until(lambda: _was(engine.ledger, DiskFull))
        ballast.unlink()
        house.until(house.all_on_record)
        house.work()
        counts = house.counts("a disk that was really full", all_recalled=True)
        if not told:
            counts.notes.append("the small disk was not full enough")
            counts.stuck += 1
        return counts
    finally:
        house.close()
        subprocess.run(["umount", "-l", folder], check=True)


def _was(ledger: Ledger, error: type[Exception]) -> bool:
    return ledger.trouble is not None and isinstance(ledger.trouble.error, error)


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            os.fsync(file.fileno())
