"""Watches the folders into which one FreeSWITCH writes its CDRs, for calls whose events were not heard.

What events told already is only completed. There is no bookkeeping that could be lost: what was read is
remembered while the engine runs, and after a start all files of the last days are read again, which changes
nothing. Files are read by a thread, a few at a time with pauses, so that events go first.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar, cast

import gevent
import structlog
from gevent.event import Event as Flag

from freeswitch_callback.core.facts import Missed, Served
from freeswitch_callback.core.legs import CaptureRules
from freeswitch_callback.engine.clock import SYSTEM, Clock
from freeswitch_callback.engine.loops import Loop
from freeswitch_callback.engine.patience import patiently
from freeswitch_callback.errors import DatabaseUnreachable
from freeswitch_callback.ledger import Ledger
from freeswitch_callback.operations import cdr_files, cdr_import
from freeswitch_callback.operations.cdr_files import Call, Unreadable
from freeswitch_callback.operations.recalls import Gates

log = structlog.get_logger(__name__)

T = TypeVar("T")

LOOK_BACK = 3 * 86400.0
"""Seconds: a file that was not changed for longer is left to `import-cdr`. A weekend and some more."""
EVERY = 10.0
"""Seconds between two looks at a folder; if a look takes long, longer."""

_COMPLETE_AFTER = 2.0  # seconds without a change
_GIVEN_UP_AFTER = 60.0  # seconds after which a file that is no record will not become one
_AT_ONCE = 2000  # files, of which the facts are in memory
_IN_A_ROW = 10  # files that the thread reads without a pause: some milliseconds
_REST = 3.0  # times as long as it has worked
_REST_OF_LOOKS = 20.0  # the same, after a look through a folder of very many
_TOLD = 20
_TAKES = 60.0
"""Seconds after which one step hangs: a few files read, or one call put on record."""
_LISTING_TAKES = 600.0
"""The same of a look through all names of folders that may be large, on a disk that may be slow."""


@dataclass(frozen=True, slots=True, order=True)
class _File:
    changed: float
    path: str


class CdrFolder:
    """One node's folders; which they are is asked at every look. `behind`: how much of what events told is
    not on record yet; while anything is, CDRs wait, which would be on record before it. `told` hears what
    each CDR of ours told, once it is on record.

    Of each file that is there only a number is kept, so a million of them take some 70 MB.
    """

    def __init__(
        self,
        node: str,
        folders: Callable[[], Sequence[str]],
        ledger: Ledger,
        capture: Callable[[], CaptureRules],
        gates: Gates,
        wake: Callable[[], None],
        stopping: Flag,
        clock: Clock = SYSTEM,
        *,
        behind: Callable[[], int] = lambda: 0,
        told: Callable[[Missed | Served], object] = lambda _fact: None,
        loop: Loop | None = None,
        every: float = EVERY,
        look_back: float = LOOK_BACK,
    ) -> None:
        self.node = node
        self._folders = folders
        self._ledger = ledger
        self._capture = capture
        self._gates = gates
        self._wake = wake
        self._stopping = stopping
        self._clock = clock
        self._behind = behind
        self._told = told
        self._loop = loop or Loop(clock)
        self._every = every
        self._look_back = look_back
        self._read_already: set[int] = set()  # or too old: the hashes of the paths
        self._sizes: dict[int, int] = {}  # of those that were still being written at the last look
        self._broken: set[Unreadable] = set()
        self._looked_for = 0.0

    def run(self) -> None:
        """Look again and again until the engine stops."""
        while not self._stopping.is_set():
            try:
                more = self.look()
            except DatabaseUnreachable:
                return  # stopping
            if not more:
                rest = max(self._every, self._looked_for * _REST_OF_LOOKS)
                self._loop.turns(rest + _TAKES)
                self._clock.wait(self._stopping, rest)

    def look(self) -> bool:
        """Take in what is new; whether there is more than one look takes."""
        folders = self._folders()
        if not folders or self._behind():
            return False
        self._loop.turns(_LISTING_TAKES)
        began = self._clock.monotonic()
        files, broken = self._in_thread(partial(self._new_files, folders))
        self._looked_for = self._clock.monotonic() - began
        for folder in broken:
            if folder not in self._broken:
                log.warning("cdr_folder_not_read", node=self.node, folder=folder.path, why=folder.why)
        self._broken = broken
        self._import(files[:_AT_ONCE])
        return len(files) > _AT_ONCE

    def _import(self, files: Sequence[_File]) -> None:
        counted = cdr_import.Imported()
        for call in sorted(self._read(files, counted), key=lambda call: call.started):
            patiently(
                partial(self._take_in, call, counted),
                what="record what a CDR tells",
                stopping=self._stopping,
                clock=self._clock,
            )
        if counted.missed or counted.closed:
            log.info(
                "cdrs_imported", node=self.node, missed=counted.missed, to_call=counted.to_call,
                served=counted.closed,
            )  # fmt: skip
        if counted.to_call:
            self._wake()

    def _read(self, files: Sequence[_File], counted: cdr_import.Imported) -> Iterator[Call]:
        """What is in the files. One that is no record yet, and young, is read again at the next look."""
        reader = cdr_import.Reader(self.node, self._capture(), self._clock.now(), counted=counted)
        for start in range(0, len(files), _IN_A_ROW):
            some = files[start : start + _IN_A_ROW]
            began = self._clock.monotonic()
            self._loop.turns(_TAKES)
            told = self._in_thread(partial(_read_all, reader, some))
            for file, call in zip(some, told, strict=True):
                if isinstance(call, Unreadable):
                    if self._clock.time() - file.changed < _GIVEN_UP_AFTER:
                        continue
                    counted.unreadable += 1
                    if counted.unreadable <= _TOLD:
                        log.warning("cdr_not_read", node=self.node, file=call.path, why=call.why)
                elif call is not None:
                    yield call
                self._read_already.add(hash(file.path))
            rest = (self._clock.monotonic() - began) * _REST
            self._loop.turns(rest + _TAKES)
            self._clock.wait(self._stopping, rest)

    def _take_in(self, call: Call, counted: cdr_import.Imported) -> None:
        self._loop.turns(_TAKES)
        if self._behind():
            raise DatabaseUnreachable("what waits in the spool goes first")
        cdr_import.take_in(self._ledger, call, self._gates, self._clock.now(), counted)
        self._told(call.fact)

    def _in_thread(self, work: Callable[[], T]) -> T:
        return cast(T, gevent.get_hub().threadpool.apply(work))

    # In the thread: nothing here waits for a greenlet.

    def _new_files(self, folders: Sequence[str]) -> tuple[list[_File], set[Unreadable]]:
        """Those that are complete and were not read, the oldest first, one more than a look takes at most;
        and what cannot be looked at."""
        there: set[int] = set()
        sizes: dict[int, int] = {}
        broken: set[Unreadable] = set()
        found = heapq.nsmallest(_AT_ONCE + 1, self._complete(folders, there, sizes, broken))
        self._read_already, self._sizes = there, sizes
        return found, broken

    def _complete(
        self, folders: Sequence[str], there: set[int], sizes: dict[int, int], broken: set[Unreadable]
    ) -> Iterator[_File]:
        now = self._clock.time()
        for path in cdr_files.walk(folders):
            if isinstance(path, Unreadable):
                broken.add(path)
                continue
            key = hash(path)
            if key in self._read_already:
                there.add(key)
                continue
            try:
                status = os.stat(path)
            except OSError:
                continue  # somebody has tidied up
            age = now - status.st_mtime
            if age > self._look_back:
                there.add(key)
            elif age >= _COMPLETE_AFTER or self._sizes.get(key) == status.st_size:
                yield _File(status.st_mtime, path)
            else:
                sizes[key] = status.st_size


def _read_all(reader: cdr_import.Reader, files: Sequence[_File]) -> list[Call | Unreadable | None]:
    return [reader.one(file.path) for file in files]
