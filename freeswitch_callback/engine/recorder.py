"""Puts on disk what `core.capture` tells, before anything else is done with it."""

from __future__ import annotations

import random
from collections.abc import Callable, Container, Iterator

import gevent
import structlog
from gevent.event import Event as Flag

from freeswitch_callback.core.capture import Capture, CaptureRules
from freeswitch_callback.core.catchup import Heard
from freeswitch_callback.core.facts import ClosedAs, Event, Missed, Reached, Served
from freeswitch_callback.core.gates import GateRules, opening, scope_of
from freeswitch_callback.core.numbers import read
from freeswitch_callback.engine.clock import SYSTEM, Clock
from freeswitch_callback.engine.loops import Loop
from freeswitch_callback.engine.patience import patiently
from freeswitch_callback.errors import CallbackError, DatabaseError, DatabaseUnreachable
from freeswitch_callback.ledger import Ledger
from freeswitch_callback.ledger.spool import Fact, Spool, SpoolError

log = structlog.get_logger(__name__)

_BATCH = 100
_BATCH_TAKES = 60.0
"""Seconds after which the drain hangs."""
_FIRST_DELAY, _LONGEST_DELAY = 0.1, 5.0


class Recorder:
    """One node's events to rows.

    It runs in the greenlet that takes the events in. While the database is away, what happened goes to the
    spool, and from there to the database in the same order (`drain`, a greenlet of its own): as long as
    anything waits in the spool, all that is new goes behind it. Without a spool, or once that is full, it
    waits: reading stops, and FreeSWITCH keeps the events for us.

    A recall out of the spool is due, and expires, as if its call had been missed at that moment.

    By queue (None: where none is known): `gates`; `min_talk`, the seconds that an operator's own call to a
    client has to last to count as served; `remember_agent`, whether it is kept whom a client talked to.
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
        spool: Spool | None = None,
        min_talk: Callable[[str | None], float],
        remember_agent: Callable[[str | None], bool] = lambda _queue: False,
        draining: Loop | None = None,
    ) -> None:
        self.node = node
        self._ledger = ledger
        self._capture = Capture(node, capture)
        self._gates = gates
        self._wake = wake
        self._clock = clock
        self._stopping = stopping
        self._spool = spool
        self._spooled = Flag()
        """Something may wait in the spool; also once there is nothing to wait for any more."""
        self._min_talk = min_talk
        self._remember_agent = remember_agent
        self._draining = draining or Loop(clock)

    def reload(self, capture: CaptureRules) -> None:
        """Go by other rules from the next event on."""
        self._capture.rules = capture

    def heard(self) -> Iterator[Heard]:
        """What events told of calls lately (`Capture.heard`)."""
        return self._capture.heard()

    def interrupted(self) -> None:
        """The connection was lost for a while (`Capture.interrupted`)."""
        self._capture.interrupted()

    def freeswitch_went_away(self, at: float) -> None:
        """It was restarted: the calls that were up are gone, and no event will tell. `at`: epoch seconds."""
        for fact in self._capture.end_all(at):
            self.take(fact)

    def keep(self, live: Container[str], before: float) -> None:
        """Forget the legs whose end was told while nobody listened (`Capture.keep`)."""
        self._capture.keep(live, before)

    def feed(self, event: Event) -> None:
        for fact in self._capture.feed(event):
            self.take(fact)

    def take(self, fact: Fact) -> None:
        """Put it on disk: in the database or, while that is away, in the spool."""
        patiently(
            lambda: self._put(fact), what="record what happened", stopping=self._stopping, clock=self._clock
        )

    @property
    def spools(self) -> bool:
        """Whether there is a spool."""
        return self._spool is not None

    @property
    def behind(self) -> int:
        """How many facts are not in the database yet."""
        return 0 if self._spool is None else self._spool.length()

    def _put(self, fact: Fact) -> None:
        if self._spool is None:
            self._write(fact)
            return
        away = "what waits there goes first"
        if self._spool.length() == 0:
            try:
                self._write(fact)
            except DatabaseError as error:
                away = str(error)
                log.error("spooling", node=self.node, path=str(self._spool.path), error=away)
            else:
                return
        try:
            self._spool.append(fact)
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
        done = 0
        try:
            for fact in facts:
                self._write(fact)
                done += 1
        except DatabaseError:
            spool.drained(done)
            raise
        except (CallbackError, ValueError, LookupError) as error:
            log.error("spool_fact_refused", node=self.node, call_uuid=fact.call_uuid, error=repr(error))
            spool.drained(done)
            spool.put_aside()
        else:
            spool.drained(done)
        return done

    # --- writing -------------------------------------------------------------------------------------------

    def _write(self, fact: Fact) -> None:
        match fact:
            case Missed():
                self._missed(fact)
            case Served():
                self._served(fact)
            case Reached():
                self._reached(fact)

    def _missed(self, fact: Missed) -> None:
        plan = opening(fact, self._gates(fact.queue), self._clock.now())
        recorded = self._ledger.record(fact, plan)
        if recorded.new:
            log.info(
                "missed", id=recorded.missed_id, node=fact.node, queue=fact.queue, reason=str(fact.reason),
                timewait=fact.timewait, blocked=recorded.blocked,
            )  # fmt: skip
        if fact.settled and recorded.blocked is None:
            self._wake()

    def _served(self, fact: Served) -> None:
        """Take back what was told of this call; close the recall of a client who has now been answered."""
        number = self._number_of_one(fact.phone, fact.queue)
        self._ledger.retract(fact.node, fact.call_uuid)
        if number is None:
            return
        scope = scope_of(fact.queue)
        if fact.operator is not None and self._remember_agent(fact.queue):
            self._ledger.note_talk(number, scope, fact.operator, fact.at)
        by = fact.operator or fact.node
        if self._ledger.close_served(
            number, scope, ClosedAs.SERVED_INBOUND, by, operator=fact.operator, at=fact.at
        ):
            log.info("served_inbound", node=fact.node, queue=fact.queue, operator=fact.operator)

    def _reached(self, fact: Reached) -> None:
        """Close the recall of a client whom an operator called and talked to, and not to their machine."""
        number = self._number_of_one(fact.phone, None)
        if number is None or fact.talked < self._min_talk(None):
            return
        by = fact.operator or fact.node
        if self._ledger.close_reached(number, fact.domain, by, operator=fact.operator, at=fact.at):
            log.info("served_outbound", node=fact.node, domain=fact.domain, operator=fact.operator)

    def _number_of_one(self, phone: str, queue: str | None) -> str | None:
        """The number of one client: of a shared one, that somebody was served says nothing of the others."""
        rules = self._gates(queue).numbers
        number = read(phone, rules).e164
        return None if number in rules.shared else number
