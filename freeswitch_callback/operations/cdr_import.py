"""What CDRs tell, on record: the calls of a time in which nobody listened, or whose events were lost."""

from __future__ import annotations

import heapq
import pickle
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from tempfile import TemporaryFile
from typing import IO, cast

from freeswitch_callback.core.facts import Missed, Opening, Served
from freeswitch_callback.core.gates import GateRules, opening, scope_of
from freeswitch_callback.core.legs import CaptureRules
from freeswitch_callback.core.numbers import read as read_number
from freeswitch_callback.errors import ProtocolError, UsageError
from freeswitch_callback.ledger import Late, Ledger
from freeswitch_callback.operations.cdr_files import Call, Unreadable, read
from freeswitch_callback.operations.recalls import Gates

IN_MEMORY = 8 << 20
"""Bytes of calls that are sorted in memory; what is more goes through temporary files."""

_FUTURE = timedelta(days=1)
_Packed = tuple[datetime, int, bytes]


@dataclass(slots=True)
class Imported:
    """How many files were `read`, and what was in them.

    `missed`: calls that were not on record, `to_call` those of them whose recall is open; `known`: missed
    calls that were; `served`: answered calls, `closed` the recalls that they closed; `not_ours`: everything
    else; `too_old`: calls from before the time that was asked for.
    """

    read: int = 0
    missed: int = 0
    to_call: int = 0
    known: int = 0
    served: int = 0
    closed: int = 0
    not_ours: int = 0
    too_old: int = 0
    unreadable: int = 0

    def add_missed(self, late: Late) -> None:
        self.missed += late.new
        self.known += not late.new
        self.to_call += late.new and late.closed_as is None


@dataclass(slots=True)
class Reader:
    """Reads files one by one, and counts what is none of ours. `since`: when a call has to have begun."""

    node: str
    rules: CaptureRules
    now: datetime
    since: datetime | None = None
    counted: Imported = field(default_factory=Imported)

    def calls(self, found: Iterable[str | Unreadable]) -> Iterator[Call | Unreadable]:
        for path in found:
            told = self.one(path) if isinstance(path, str) else path
            if isinstance(told, Unreadable):
                self.counted.unreadable += 1
                yield told
            elif told is None:
                self.counted.not_ours += 1
            elif self.since is not None and told.started < self.since:
                self.counted.too_old += 1
            else:
                yield told

    def one(self, path: str) -> Call | Unreadable | None:
        """What is in this file; None: no call of ours."""
        self.counted.read += 1
        try:
            call = read(path, self.node, self.rules)
        except ProtocolError as error:
            return Unreadable(path, str(error))
        if call is not None and max(call.started, call.ended) > self.now + _FUTURE:
            return Unreadable(path, f"a call of {call.started:%Y-%m-%d}, which is still to come")
        return call


def by_start(calls: Iterable[Call], in_memory: int = IN_MEMORY) -> Iterator[Call]:
    """The calls in the order in which they began, however many they are: sorted pieces, merged."""
    with ExitStack() as files:
        pieces: list[IO[bytes]] = []
        piece: list[_Packed] = []
        size = 0
        for number, call in enumerate(calls):
            packed = pickle.dumps(call)
            piece.append((call.started, number, packed))
            size += len(packed)
            if size >= in_memory:
                pieces.append(files.enter_context(_put_away(piece)))
                piece, size = [], 0
        piece.sort()
        for _, _, packed in heapq.merge(piece, *map(_put_away_before, pieces)):
            yield pickle.loads(packed)


def _put_away(piece: list[_Packed]) -> IO[bytes]:
    file = cast("IO[bytes]", TemporaryFile())  # noqa: SIM115 (`by_start` closes it)
    for packed in sorted(piece):
        pickle.dump(packed, file)
    file.seek(0)
    return file


def _put_away_before(file: IO[bytes]) -> Iterator[_Packed]:
    while True:
        try:
            yield pickle.load(file)
        except EOFError:
            return


def take_in(ledger: Ledger, call: Call, gates: Gates, now: datetime, counted: Imported) -> None:
    """Put one call on record, once, however often it is told and by whom."""
    match call.fact:
        case Missed():
            plan = opening_of(call.fact, call.ended, gates(call.fact.queue), now)
            counted.add_missed(ledger.record_late(call.fact, plan, min(call.ended, now), call.other_names))
        case Served():
            counted.served += 1
            counted.closed += _served(ledger, call, call.fact, gates)


def opening_of(missed: Missed, ended: datetime, rules: GateRules, now: datetime) -> Opening:
    """What a call that was over at `ended` asks for now. It expires when it would have if it had been told at
    its end: `expire` is negative for one that has."""
    ended = min(ended, now)
    lasts = opening(missed, rules, ended).expire
    return replace(opening(missed, rules, now), expire=lasts - (now - ended).total_seconds())


def _served(ledger: Ledger, call: Call, served: Served, gates: Gates) -> int:
    rules = gates(served.queue).numbers
    number = read_number(served.phone, rules).e164
    return ledger.served_late(
        served,
        None if number in rules.shared else number,
        scope_of(served.queue),
        started=call.started,
        ended=call.ended,
        other_names=call.other_names,
    )


def node_of(given: str | None, nodes: Collection[str]) -> str:
    """The node that files are from: the one that is named, or the only one that there is."""
    known = ", ".join(nodes)
    if given is None:
        if len(nodes) > 1:
            raise UsageError(f"from which FreeSWITCH are these? Name it with --node; there are {known}")
        return next(iter(nodes))
    if given not in nodes:
        raise UsageError(f"--node {given[:60]!r} is not in the configuration; there are {known}")
    return given
