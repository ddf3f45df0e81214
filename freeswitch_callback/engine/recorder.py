"""Puts on disk what `core.capture` tells, before anything else is done with it."""

from __future__ import annotations

import random
from collections.abc import Callable, Container, Iterator, Sequence

import gevent
import structlog
from gevent.event import Event as Flag

from freeswitch_callback.core.capture import Capture, CaptureRules
from freeswitch_callback.core.catchup import Heard
from freeswitch_callback.core.facts import ClosedAs, Event, Missed, Reached, Served
from freeswitch_callback.core.gates import GateRules, opening, scope_of
from freeswitch_callback.core.numbers import read
from freeswitch_callback.engine.clock import SYSTEM, Clock
from freeswitch_callback.engine.figures import Figures
from freeswitch_callback.engine.loops import Loop
from freeswitch_callback.engine.patience import patiently
from freeswitch_callback.errors import CallbackError, DatabaseError, DatabaseUnreachable
from freeswitch_callback.ledger import (
    Answered,
    CalledOut,
    Ledger,
    Outcome,
    Recorded,
    Telling,
    Told,
    completed,
)
from freeswitch_callback.ledger.spool import Fact, Spool, SpoolError

log = structlog.get_logger(__name__)

_BATCH = 100
_BATCH_TAKES = 60.0
"""Seconds after which the drain hangs."""
_FIRST_DELAY, _LONGEST_DELAY = 0.1, 5.0
_REFUSED = (CallbackError, ValueError, LookupError)
"""What a fact that makes no sense to the rules or the database raises."""


class Recorder:
    """One node's events to rows.

    It runs in the greenlet that takes the events in: `hear` each, and `put` on disk what they told before
    waiting for more. So a single event is on disk at once, and a burst in few transactions. A crash takes
    what was heard and not put, like what still waits to be heard; the catch-up looks for both.

    While the database is away, what happened goes to the spool, and from there to the database in the same
    order (`drain`, a greenlet of its own): as long as anything waits in the spool, all that is new goes
    behind it. Without a spool, or once that is full, it waits: reading stops, and FreeSWITCH keeps the events
    for us.

    A recall out of the spool is due, and expires, as if its call had been missed at that moment.

    By queue (None: where none is known): `gates`; `min_talk`, the seconds that an operator's own call to a
    client has to last to count as served; `remember_agent`, whether it is kept whom a client talked to.

    `changed` hears in which queue's line something is not as it was, None for any, and of which recall.
    """

    def __init__(
        self,
        node: str,
        ledger: Ledger,
        capture: CaptureRules,
        gates: Callable[[str | None], GateRules],
        wake: Callable[[], None],
        stopping: Flag,
        clock: Clock = SYSTEM,
        *,
        changed: Callable[[str | None, int | None], None] = lambda _queue, _recall: None,
        spool: Spool | None = None,
        min_talk: Callable[[str | None], float],
        remember_agent: Callable[[str | None], bool] = lambda _queue: False,
        draining: Loop | None = None,
        figures: Figures | None = None,
    ) -> None:
        self.node = node
        self._ledger = ledger
        self._capture = Capture(node, capture)
        self._gates = gates
        self._wake = wake
        self._changed = changed
        self._clock = clock
        self._stopping = stopping
        self._spool = spool
        self._spooled = Flag()
        """Something may wait in the spool; also once there is nothing to wait for any more."""
        self._min_talk = min_talk
        self._remember_agent = remember_agent
        self._draining = draining or Loop(clock)
        self._figures = figures or Figures()
        self._told: list[Fact] = []
        """What was heard and is not on disk yet."""
        self._together = True  # else one by one: some of what was told could not be put on disk together

    def reload(self, capture: CaptureRules) -> None:
        """Go by other rules from the next event on."""
        self._capture.rules = capture

    def heard(self) -> Iterator[Heard]:
        """What events told of calls lately (`Capture.heard`)."""
        return self._capture.heard()

    def was_not_missed(self, call_uuid: str) -> bool:
        """As `Capture.was_not_missed`."""
        return self._capture.was_not_missed(call_uuid)

    def interrupted(self) -> None:
        """The connection was lost for a while (`Capture.interrupted`)."""
        self._capture.interrupted()

    def freeswitch_went_away(self, at: float) -> None:
        """It was restarted: the calls that were up are gone, and no event will tell. `at`: epoch seconds."""
        self._told += self._capture.end_all(at)
        self.put()

    def keep(self, live: Container[str], before: float) -> None:
        """Forget the legs whose end was told while nobody listened (`Capture.keep`)."""
        self._capture.keep(live, before)

    def feed(self, event: Event) -> None:
        """Hear it, and put on disk what it told."""
        self.hear(event)
        self.put()

    def hear(self, event: Event) -> None:
        """What it tells is on disk after the next `put`."""
        self._told += self._capture.feed(event)

    def put(self) -> None:
        """Put all that was told on disk. What cannot be put there makes room for the others."""
        if len(self._told) > 1:
            self._told = _once(self._told)
        while self._told:
            facts = self._told[: _BATCH if self._together else 1]
            self._together = False
            if len(facts) == 1:
                del self._told[0]  # now: whatever it does, it is not to do it again
            try:
                self.take(*facts)
            except DatabaseUnreachable:  # the engine stops
                self._together = True
                raise
            except _REFUSED as error:
                if len(facts) > 1:
                    continue
                log.error("not_recorded", node=self.node, call_uuid=facts[0].call_uuid, error=repr(error))
            else:
                del self._told[: len(facts) if len(facts) > 1 else 0]
            self._together = len(facts) > 1 or not self._told

    def take(self, *facts: Fact) -> None:
        """Put them on disk: in the database or, while that is away, in the spool."""
        patiently(
            lambda: self._put(facts), what="record what happened", stopping=self._stopping, clock=self._clock
        )

    @property
    def spools(self) -> bool:
        """Whether there is a spool."""
        return self._spool is not None

    @property
    def behind(self) -> int:
        """How many facts are not in the database yet."""
        return 0 if self._spool is None else self._spool.length()

    def _put(self, facts: Sequence[Fact]) -> None:
        if self._spool is None:
            self._write(facts)
            return
        away = "what waits there goes first"
        if self._spool.length() == 0:
            try:
                self._write(facts)
            except DatabaseError as error:
                away = str(error)
                log.info("spooling", node=self.node, path=str(self._spool.path), error=away)
            else:
                return
        try:
            self._spool.append(*facts)
        except SpoolError as error:
            raise DatabaseUnreachable(f"{away}; and {error}") from error
        self._spooled.set()

    # --- the spool, in a greenlet of its own ---------------------------------------------------------------

    def drain(self) -> None:
        """Bring to the database what waits in the spool, also what an earlier run has left there; until the
        engine stops."""
        if self._spool is None:
            return
        delay = _FIRST_DELAY
        while not self._stopping.is_set():
            self._draining.turns(_BATCH_TAKES)
            self._spooled.clear()
            try:
                self._drain(self._spool)
            except (DatabaseError, SpoolError) as error:
                if delay < _LONGEST_DELAY:
                    log.warning("spool_waits", node=self.node, facts=self._spool.length(), error=str(error))
                self._clock.wait(self._stopping, delay * random.uniform(0.5, 1.0))
                delay = min(delay * 2, _LONGEST_DELAY)
            else:
                delay = _FIRST_DELAY
                self._draining.rests()
                gevent.wait([self._spooled, self._stopping], count=1)

    def finish(self) -> None:
        """The last try of an engine that stops; what is left waits for the next one."""
        try:
            self.put()
        except DatabaseError as error:
            log.error("not_recorded", node=self.node, facts=len(self._told), error=str(error))
        if self._spool is None:
            return
        try:
            self._drain(self._spool)
        except (DatabaseError, SpoolError) as error:
            log.error("spool_left", node=self.node, facts=self._spool.length(), error=str(error))

    def _drain(self, spool: Spool) -> None:
        """All of it, oldest first. A crash repeats one batch, which changes nothing that is written."""
        count = 0
        try:
            while facts := spool.oldest(_BATCH):
                self._draining.turns(_BATCH_TAKES)
                count += self._drain_batch(spool, facts)
        finally:
            if count:
                log.info("spool_drained", node=self.node, facts=count, left=spool.length())
                self._wake()

    def _drain_batch(self, spool: Spool, facts: list[Fact]) -> int:
        """How many facts this was: all, or those before one that no database will ever take."""
        try:
            self._write(facts)
        except _REFUSED as error:
            if isinstance(error, DatabaseError):
                raise
            return self._drain_one_by_one(spool, facts)
        spool.drained(len(facts))
        return len(facts)

    def _drain_one_by_one(self, spool: Spool, facts: list[Fact]) -> int:
        done = 0
        try:
            for fact in facts:
                self._write([fact])
                done += 1
        except DatabaseError:
            spool.drained(done)
            raise
        except _REFUSED as error:
            log.error("spool_fact_refused", node=self.node, call_uuid=fact.call_uuid, error=repr(error))
            spool.drained(done)
            spool.put_aside()
        else:
            spool.drained(done)
        return done

    # --- writing -------------------------------------------------------------------------------------------

    def _write(self, facts: Sequence[Fact]) -> None:
        told = [(fact, telling) for fact in facts if (telling := self._telling(fact)) is not None]
        if not told:
            return
        outcomes = self._ledger.take_all([telling for _, telling in told])
        due = False
        for (fact, _), outcome in zip(told, outcomes, strict=True):
            due |= self._say(fact, outcome)
            if isinstance(outcome, Recorded) and isinstance(fact, Missed):
                self._changed(fact.queue or "", outcome.recall_id)
            elif outcome:
                self._changed(None, None)
            elif isinstance(fact, Served):  # a missed call may have been taken back
                self._changed(fact.queue or "", None)
        if due:
            self._wake()

    def _telling(self, fact: Fact) -> Telling | None:
        """What the ledger has to know of it, if anything."""
        match fact:
            case Missed():
                return Told(fact, opening(fact, self._gates(fact.queue), self._clock.now()))
            case Served():
                # Takes back what was told of this call; closes the recall of a client who was answered now.
                number = self._number_of_one(fact.phone, fact.queue)
                return Answered(fact, number, scope_of(fact.queue), self._remember_agent(fact.queue))
            case Reached():
                # Closes the recall of a client whom an operator called and talked to, not to their machine.
                number = self._number_of_one(fact.phone, None)
                long_enough = fact.talked >= self._min_talk(None)
                return CalledOut(fact, number) if number is not None and long_enough else None

    def _say(self, fact: Fact, outcome: Outcome) -> bool:
        """In the log, what became of it; True if a recall may be due."""
        if isinstance(outcome, Recorded) and isinstance(fact, Missed):
            if outcome.new:
                self._figures.count_missed(fact.queue, fact.reason)
                if outcome.blocked is not None:
                    self._figures.closed[ClosedAs.BLOCKED] += 1
                log.info(
                    "missed", id=outcome.missed_id, node=fact.node, queue=fact.queue, reason=str(fact.reason),
                    timewait=fact.timewait, blocked=outcome.blocked,
                )  # fmt: skip
            return fact.settled and outcome.blocked is None
        if outcome and isinstance(fact, Served):
            self._figures.closed[ClosedAs.SERVED_INBOUND] += 1
            log.info("served_inbound", node=fact.node, queue=fact.queue, operator=fact.operator)
        elif outcome and isinstance(fact, Reached):
            self._figures.closed[ClosedAs.SERVED_OUTBOUND] += 1
            log.info("served_outbound", node=fact.node, domain=fact.domain, operator=fact.operator)
        return False

    def _number_of_one(self, phone: str, queue: str | None) -> str | None:
        """The number of one client: of a shared one, that somebody was served says nothing of the others."""
        rules = self._gates(queue).numbers
        number = read(phone, rules).e164
        return None if number in rules.shared else number


def _once(told: list[Fact]) -> list[Fact]:
    """A call that was told before it was settled, and again when it was, as one fact in the place of the
    first; unless something else was told of this call in between, which may take the first back."""
    facts: list[Fact] = []
    unsettled: dict[str, tuple[int, Missed]] = {}
    for fact in told:
        before = unsettled.pop(fact.call_uuid, None)
        if before is not None and isinstance(fact, Missed) and fact.settled:
            place, earlier = before
            facts[place] = completed(earlier, fact)
            continue
        if isinstance(fact, Missed) and not fact.settled:
            unsettled[fact.call_uuid] = len(facts), fact
        facts.append(fact)
    return facts
