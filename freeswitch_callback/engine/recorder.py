"""Puts on disk what `core.capture` tells, before anything else is done with it."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import TypeVar

import structlog
from gevent.event import Event as Flag

from freeswitch_callback.core.capture import Capture, CaptureRules
from freeswitch_callback.core.facts import ClosedAs, Event, Missed, Reached, Served
from freeswitch_callback.core.gates import GateRules, opening, scope_of
from freeswitch_callback.core.numbers import read
from freeswitch_callback.engine.clock import SYSTEM, Clock
from freeswitch_callback.engine.patience import patiently
from freeswitch_callback.ledger import Ledger

log = structlog.get_logger(__name__)

T = TypeVar("T")


class Recorder:
    """One node's events to rows.

    It runs in the greenlet that takes the events in: while the database is away it waits, reading stops, and
    FreeSWITCH keeps the events for us.

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
        min_talk: Callable[[str | None], float],
        remember_agent: Callable[[str | None], bool] = lambda _queue: False,
    ) -> None:
        self.node = node
        self._ledger = ledger
        self._capture = Capture(node, capture)
        self._gates = gates
        self._wake = wake
        self._clock = clock
        self._stopping = stopping
        self._min_talk = min_talk
        self._remember_agent = remember_agent

    def reload(self, capture: CaptureRules) -> None:
        """Go by other rules from the next event on."""
        self._capture.rules = capture

    def freeswitch_went_away(self, at: float) -> None:
        """It was restarted: the calls that were up are gone, and no event will tell. `at`: epoch seconds."""
        for fact in self._capture.end_all(at):
            self._write(fact)

    def keep(self, live: Container[str], before: float) -> None:
        """Forget the legs whose end was told while nobody listened (`Capture.keep`)."""
        self._capture.keep(live, before)

    def feed(self, event: Event) -> None:
        for fact in self._capture.feed(event):
            self._write(fact)

    def _write(self, fact: Missed | Served | Reached) -> None:
        match fact:
            case Missed():
                self.missed(fact)
            case Served():
                self.served(fact)
            case Reached():
                self.reached(fact)

    def missed(self, fact: Missed) -> int:
        """Record it; the row's id."""
        plan = opening(fact, self._gates(fact.queue), self._clock.now())
        recorded = self._patiently(lambda: self._ledger.record(fact, plan), "record a missed call")
        if recorded.new:
            log.info(
                "missed", id=recorded.missed_id, node=fact.node, queue=fact.queue, reason=str(fact.reason),
                timewait=fact.timewait, blocked=recorded.blocked,
            )  # fmt: skip
        if fact.settled and recorded.blocked is None:
            self._wake()
        return recorded.missed_id

    def served(self, fact: Served) -> None:
        """Take back what was told of this call; close the recall of a client who has now been answered."""
        number = self._number_of_one(fact.phone, fact.queue)

        def write() -> int:
            self._ledger.retract(fact.node, fact.call_uuid)
            if number is None:
                return 0
            scope = scope_of(fact.queue)
            if fact.operator is not None and self._remember_agent(fact.queue):
                self._ledger.note_talk(number, scope, fact.operator)
            by = fact.operator or fact.node
            return self._ledger.close_served(
                number, scope, ClosedAs.SERVED_INBOUND, by, operator=fact.operator, at=fact.at
            )

        if self._patiently(write, "close the recall of a served client"):
            log.info("served_inbound", node=fact.node, queue=fact.queue, operator=fact.operator)

    def reached(self, fact: Reached) -> None:
        """Close the recall of a client whom an operator called and talked to, and not to their machine."""
        number = self._number_of_one(fact.phone, None)
        if number is None or fact.talked < self._min_talk(None):
            return
        by = fact.operator or fact.node
        if self._patiently(
            lambda: self._ledger.close_reached(number, fact.domain, by, operator=fact.operator, at=fact.at),
            "close the recall of a client who was called",
        ):
            log.info("served_outbound", node=fact.node, domain=fact.domain, operator=fact.operator)

    def _number_of_one(self, phone: str, queue: str | None) -> str | None:
        """The number of one client: of a shared one, that somebody was served says nothing of the others."""
        rules = self._gates(queue).numbers
        number = read(phone, rules).e164
        return None if number in rules.shared else number

    def _patiently(self, work: Callable[[], T], what: str) -> T:
        return patiently(work, what=what, stopping=self._stopping, clock=self._clock)
