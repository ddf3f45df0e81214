"""What waits in each queue, read before anybody is free for it.

Whom to call next is asked of the database while the agents talk, so that nobody stands between an agent who
becomes free and the claim. What was read of a line holds until something that changes it is told (a missed
call on record, a recall given back, another engine, a person), until something else comes due before it, and
for one poll at most: what nobody tells is found by then, as everywhere. The claim looks at the recall itself
in any case; a line says only which to try.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import islice

import structlog
from gevent.event import Event as Flag

from freeswitch_callback.core.facts import Due
from freeswitch_callback.engine.clock import Clock
from freeswitch_callback.engine.loops import Loop
from freeswitch_callback.errors import DatabaseUnreachable
from freeswitch_callback.ledger import Ledger

log = structlog.get_logger(__name__)

_FAR, _FARTHEST = 16, 128
"""Recalls read of a line at once: twice as many each time when they were used up before others were read."""
_FEW = 4
"""So many left of them, the next are read."""
_NEXT = 3
"""Recalls at the head of a line of which all is found out that can be before they are called."""
_WANTED_FOR, _MOST_LINES = 60.0, 200
"""Seconds after an agent was last free for a queue for which its line is kept; and how many lines are."""
_REST, _LONGEST_REST = 5, 0.2
"""Behind each read it rests for so many times as long as that took, and at most so many seconds."""
_SOON = 0.02
"""Seconds after which something that came due is read: there may be more of it."""


@dataclass(slots=True)
class _Known:
    """The head of a line. `until`: monotonic. `more`: there may be others behind it. `prepared`: how many at
    its head are."""

    recalls: deque[Due]
    until: float
    more: bool
    prepared: int = 0

    def place(self, recall: int) -> int:
        """-1 if it is not there."""
        return next((place for place, each in enumerate(self.recalls) if each.id == recall), -1)


class Line:
    """The lines of all queues for which agents became free lately.

    `prepare` is called with recalls that come next; `give_way` may wait for what is more urgent than to read.
    """

    def __init__(
        self,
        ledger: Ledger,
        poll: Callable[[], float],
        prepare: Callable[[Due], None],
        give_way: Callable[[], None],
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._poll = poll
        self._prepare = prepare
        self._give_way = give_way
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._wanted: dict[str, float] = {}  # since when nobody became free for it (monotonic)
        self._far: dict[str, int] = {}  # how much of a line is read, where it is not as usual
        self._being_called: set[int] = set()
        self._taken: set[int] | None = None  # since the read that is under way began, if one is
        self._changes = 0
        self._look = Flag()

    def first(self, queues: Collection[str], limit: int) -> list[Due]:
        """Those that come next in these queues, as `Ledger.due` would give them, as far as that is known
        without asking it."""
        now = self._clock.monotonic()
        known = [self._known.get(queue) for queue in queues]
        lines = [line.recalls for line in known if line is not None and line.until > now]
        return list(islice(_merged(lines), limit)) if len(lines) == len(queues) else []

    def wanted(self, queues: Collection[str]) -> None:
        """Agents of these queues are free now."""
        now = self._clock.monotonic()
        new = queues - self._wanted.keys()
        self._wanted.update(dict.fromkeys(queues, now))
        if new:
            self._look.set()

    def taken(self, recall: Due) -> None:
        """It is being called, until it `is_over`."""
        self._being_called.add(recall.id)
        if self._taken is not None:
            self._taken.add(recall.id)
        known = self._known.get(recall.queue or "")
        place = -1 if known is None else known.place(recall.id)
        if known is None or place < 0:
            return
        del known.recalls[place]
        known.prepared -= place < known.prepared
        if not known.recalls:
            del self._known[recall.queue or ""]
            if known.more:
                self._far[recall.queue or ""] = min(2 * self._far.get(recall.queue or "", _FAR), _FARTHEST)

    def sent(self) -> None:
        """One that was taken is on its way: there is time for the next."""
        self._look.set()

    def is_over(self, recall: Due, *, closed: bool) -> None:
        """Its call is over; if the recall is not `closed`, it waits again."""
        self._being_called.discard(recall.id)
        if not closed:
            self.changed(recall.queue or "")

    def changed(self, queue: str | None = None, recall: int | None = None) -> None:
        """Something in this queue's line (or in any, if none is named) is not as it was, or this recall,
        wherever it stands."""
        self._changes += 1
        for name in [queue] if queue is not None else list(self._known):
            self._known.pop(name, None)
        if recall is not None:
            self._known = {name: k for name, k in self._known.items() if k.place(recall) < 0}
        self._look.set()

    def keep(self, stopping: Flag, loop: Loop, within: float) -> None:
        """Read what is wanted and not known, again and again until the engine stops; each turn of the loop
        takes no longer than `within`."""
        while not stopping.is_set():
            self._look.clear()
            rest = self._poll()
            try:
                for queue in self._to_be_read():
                    loop.turns(within)
                    self._read(queue)
                rest = self._until_next()
            except DatabaseUnreachable as error:
                log.debug("lines_not_read", error=str(error), hint="they are read when somebody is free")
            loop.turns(rest + within)
            self._clock.wait(self._look, rest)

    def _to_be_read(self) -> list[str]:
        now = self._clock.monotonic()
        lately = {queue: at for queue, at in self._wanted.items() if now - at < _WANTED_FOR}
        newest_first = sorted(lately, key=lambda queue: -lately[queue])[:_MOST_LINES]
        self._wanted = {queue: lately[queue] for queue in newest_first}
        self._known = {queue: known for queue, known in self._known.items() if queue in self._wanted}
        self._far = {queue: far for queue, far in self._far.items() if queue in self._wanted}
        return [queue for queue in newest_first if not self._is_known(queue, now)]

    def _is_known(self, queue: str, now: float) -> bool:
        known = self._known.get(queue)
        if known is None or known.until <= now or (known.more and len(known.recalls) < _FEW):
            return False
        self._prepare_first(known)
        return True

    def _read(self, queue: str) -> None:
        self._give_way()
        begun, changes = self._clock.monotonic(), self._changes
        busy = self._being_called.copy()
        taken: set[int] = set()
        self._taken = taken
        far = self._far.get(queue, _FAR)
        try:
            ahead = self._ledger.ahead(queue, far)
        finally:
            self._taken = None
        took = self._clock.monotonic() - begun
        if changes == self._changes:
            busy |= taken
            left = deque(recall for recall in ahead.recalls if recall.id not in busy)
            until = begun + min(ahead.good_for, self._poll())
            self._known.pop(queue, None)
            if left or not ahead.recalls:
                self._known[queue] = known = _Known(left, until, more=len(ahead.recalls) >= far)
                self._prepare_first(known)
        self._clock.sleep(min(_REST * took, _LONGEST_REST))

    def _prepare_first(self, known: _Known) -> None:
        while known.prepared < min(_NEXT, len(known.recalls)):
            self._prepare(known.recalls[known.prepared])
            known.prepared += 1

    def _until_next(self) -> float:
        """Seconds until a line that is wanted is not known any more by time alone."""
        now = self._clock.monotonic()
        if not self._known.keys() >= self._wanted.keys():
            return _SOON  # it changed while it was read
        return max(_SOON, min((known.until - now for known in self._known.values()), default=self._poll()))


def _merged(lines: list[deque[Due]]) -> Iterator[Due]:
    """The most urgent first, up to the last that is known of a line: what is behind that, nobody knows."""
    if len(lines) == 1:
        yield from lines[0]
        return
    heads = [(_urgency(line[0]), number, 0) for number, line in enumerate(lines) if line]
    heapq.heapify(heads)
    while heads:
        _, number, place = heads[0]
        line = lines[number]
        yield line[place]
        if place + 1 == len(line):
            return
        heapq.heapreplace(heads, (_urgency(line[place + 1]), number, place + 1))


def _urgency(recall: Due) -> tuple[int, float, int]:
    return -recall.priority, (recall.open_since or recall.due_at).timestamp(), recall.id
