"""What is wrong with the database, as whoever used it last was told."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from freeswitch_callback.errors import DatabaseError, DiskFull
from freeswitch_callback.ledger.database import Database, Result, Work

_FULL_FOR = 60.0
"""Seconds: on a full disk, a write that changes nothing succeeds."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """`at`: when it was met, monotonic seconds; each time is another `Trouble`."""

    error: DatabaseError
    at: float


class Watched:
    """A `Database` that keeps in mind what was wrong with it until the same works again: a database that can
    be read only is in trouble though each read succeeds."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._reading: Trouble | None = None
        self._writing: Trouble | None = None

    @property
    def trouble(self) -> Trouble | None:
        return self._writing or self._reading

    @property
    def name(self) -> str:
        return self._database.name

    @property
    def path(self) -> Path | None:
        return self._database.path

    def read(self, work: Work[Result]) -> Result:
        return self._has_read(lambda: self._database.read(work))

    def glance(self, work: Work[Result]) -> Result:
        return self._has_read(lambda: self._database.glance(work))

    def _has_read(self, read: Callable[[], Result]) -> Result:
        try:
            result = read()
        except DatabaseError as error:
            self._reading = Trouble(error, time.monotonic())
            raise
        self._reading = None
        return result

    def write(self, work: Work[Result], *, durable: bool = True) -> Result:
        return self._written(lambda: self._database.write(work, durable=durable))

    def migrate(self, work: Work[Result], *, create_folder: bool) -> Result:
        return self._written(lambda: self._database.migrate(work, create_folder=create_folder))

    def listen(self, on_change: Callable[[], None]) -> None:
        self._database.listen(on_change)

    def size(self) -> int:
        return self._database.size()

    def tidy(self, *, vacuum: bool) -> None:
        self._database.tidy(vacuum=vacuum)

    def close(self) -> None:
        self._database.close()

    def _written(self, write: Callable[[], Result]) -> Result:
        try:
            result = write()
        except DatabaseError as error:
            self._writing = Trouble(error, time.monotonic())
            raise
        before = self._writing
        full = before is not None and isinstance(before.error, DiskFull)
        if before is not None and not (full and time.monotonic() - before.at < _FULL_FOR):
            self._writing = None
        return result
