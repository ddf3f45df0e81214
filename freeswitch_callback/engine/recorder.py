"""Puts on disk what `core.capture` tells, before anything else is done with it."""

from __future__ import annotations

from collections.abc import Callable, Container

import structlog
from gevent.event import Event as Flag

from freeswitch_callback.core.capture import Capture, CaptureRules
from freeswitch_callback.core.facts import ClosedAs, Event, Missed, Served
from freeswitch_callback.core.gates import GateRules, opening, scope_of
from freeswitch_callback.core.numbers import read
from freeswitch_callback.engine.patience import patiently
from freeswitch_callback.ledger import Ledger

log = structlog.get_logger(__name__)


class Recorder:
    """One node's events to rows.

    It runs in the greenlet that takes the events in: while the database is away it waits, reading stops, and
    FreeSWITCH keeps the events for us.
    """

    def __init__(
        self,
        node: str,
        ledger: Ledger,
        capture: CaptureRules,
        gates: Callable[[str | None], GateRules],
        wake: Callable[[], None],
        stopping: Flag,
    ) -> None:
        self.node = node
        self._ledger = ledger
        self._capture = Capture(node, capture)
        self._gates = gates
        self._wake = wake
        self._stopping = stopping

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

    def _write(self, fact: Missed | Served) -> None:
        if isinstance(fact, Missed):
            self.missed(fact)
        else:
            self.served(fact)

    def missed(self, fact: Missed) -> int:
        """Record it; the row's id."""
        plan = opening(fact, self._gates(fact.queue))
        recorded = patiently(
            lambda: self._ledger.record(fact, plan), what="record a missed call", stopping=self._stopping
        )
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

        def write() -> int:
            self._ledger.retract(fact.node, fact.call_uuid)
            number = read(fact.phone, self._gates(fact.queue).numbers)
            if number.e164 is None or number.refusal is not None:
                return 0
            return self._ledger.close_served(
                number.e164, scope_of(fact.queue), ClosedAs.SERVED_INBOUND, fact.operator or fact.node
            )

        if patiently(write, what="close the recall of a served client", stopping=self._stopping):
            log.info("served_inbound", node=fact.node, queue=fact.queue, operator=fact.operator)
