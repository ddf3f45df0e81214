"""After a start or a reconnect: what became of the attempts that nobody watched, and of the agents they held.

FreeSWITCH keeps the outcome while we are away: each leg of a recall leaves a mark in its own database, and
`uuid_exists` tells whether the first leg is still up. Only what neither of them knows is parked as `unknown`.
"""

from __future__ import annotations

import time
from dataclasses import replace

import gevent
import structlog

from freeswitch_callback.core.attempt import Progress
from freeswitch_callback.core.facts import ClosedAs, Due, Mode, Outcome, Reason, Settlement
from freeswitch_callback.engine.recaller import LEASE, Attempt, Recaller
from freeswitch_callback.esl import callcenter
from freeswitch_callback.esl.node import Node
from freeswitch_callback.ledger import Held, Ledger, Reserved

log = structlog.get_logger(__name__)

_SECOND_LOOK = 2.0
"""Seconds after which a Reserved agent is looked at again: the queue itself passes through Reserved."""


class Reconciler:
    """Brings one node's attempts and reservations in the ledger in line with FreeSWITCH."""

    def __init__(self, node: Node, ledger: Ledger, engine: str, recaller: Recaller) -> None:
        self._node = node
        self._ledger = ledger
        self._engine = engine
        self._recaller = recaller

    def run(self) -> None:
        """Look at everything once. Raises what FreeSWITCH or the database raise; run it again then."""
        for held in self._ledger.held(node=self._node.name):
            watched = self._recaller.attempts.get(held.claim.call_uuid)
            if watched is not None:
                self._catch_up(watched)
            elif held.claim.call_uuid not in self._recaller.ours and self._abandoned(held):
                self._take_over(held)
        self._release_the_forgotten()

    def _abandoned(self, held: Held) -> bool:
        """Whether nobody lives this attempt: its engine is gone, or it is ours and its greenlet is."""
        return held.lease_over or held.claim.engine == self._engine

    def _catch_up(self, attempt: Attempt) -> None:
        """An attempt of ours whose events we may have missed: end it if its call is gone."""
        if attempt.progress.ended is None and not callcenter.uuid_exists(self._node, attempt.claim.call_uuid):
            attempt.progress = self._from_marks(attempt.progress)
            if attempt.progress.ended is None:
                attempt.progress = replace(attempt.progress, ended=time.time(), cause="UNKNOWN")
            attempt.changed.set()

    def _take_over(self, held: Held) -> None:
        claim = self._ledger.adopt(held.claim, self._engine, LEASE)
        if claim is None:
            return
        attempt = Attempt(claim, _recall_of(held), Progress(claim.mode, claim.call_uuid, claim.job_uuid))
        attempt.answer_noted = held.answered_at is not None
        attempt.connection_noted = held.connected_at is not None
        if held.sent_at is None:
            self._ledger.abort(claim)  # its agent is among the forgotten now
        elif callcenter.uuid_exists(self._node, claim.call_uuid):
            attempt.progress = self._from_marks(attempt.progress, still_up=True)
            log.info("recall_followed_on", recall=claim.recall, agent=claim.agent)
            self._recaller.adopt(attempt)
        else:
            self._settle(attempt, held)

    def _settle(self, attempt: Attempt, held: Held) -> None:
        progress = attempt.progress = self._from_marks(attempt.progress)
        claim = attempt.claim
        if progress.connected is not None or held.connected_at is not None:
            # How long they talked is not known; that they did is. Calling again would be the worse mistake.
            settlement = Settlement(
                Outcome.CONNECTED, closed_as=ClosedAs.RECALLED, note="talked while we were away"
            )
        elif progress.ended is None:
            log.error("outcome_unknown", recall=claim.recall, call_uuid=claim.call_uuid,
                      hint="settle it with `replay` or `close`")  # fmt: skip
            settlement = Settlement(Outcome.UNKNOWN, note="no mark of the call was found at FreeSWITCH")
        else:
            self._recaller.adopt(attempt)
            return
        self._recaller.settle(attempt, settlement)

    def _from_marks(self, progress: Progress, *, still_up: bool = False) -> Progress:
        """What the mailbox knows of a call that nobody watched. Times are the time of reading."""
        now = time.time()
        answered = callcenter.mark(self._node, progress.call_uuid, "answered")
        second = callcenter.mark(self._node, progress.call_uuid, "second")
        ended = callcenter.mark(self._node, progress.call_uuid, "ended")
        progress = replace(
            progress,
            answered=progress.answered or (now if answered or second else None),
            bridged=progress.bridged or (now if second else None),
            second_answered=progress.second_answered or (now if second else None),
            client_rang=progress.client_rang or second or answered or progress.mode is not Mode.AGENT_FIRST,
        )
        if (ended or answered) and not still_up:
            progress = replace(progress, ended=now, cause=progress.cause or "UNKNOWN")
        return progress

    def _release_the_forgotten(self) -> None:
        """Agents whom a row of ours holds though no attempt does any more."""
        forgotten = self._forgotten()
        if any(self._reserved(reservation.agent) for reservation in forgotten):
            gevent.sleep(_SECOND_LOOK)
            still = {reservation.id for reservation in self._forgotten()}
            forgotten = [reservation for reservation in forgotten if reservation.id in still]
        for reservation in forgotten:
            if self._reserved(reservation.agent):
                callcenter.release(self._node, reservation.agent)
                log.warning("forgotten_agent_released", agent=reservation.agent, node=self._node.name)
            self._ledger.release(self._node.name, reservation.agent)

    def _forgotten(self) -> list[Reserved]:
        live = {held.claim.agent for held in self._ledger.held(node=self._node.name)}
        return [r for r in self._ledger.reservations(self._node.name) if r.agent not in live]

    def _reserved(self, name: str) -> bool:
        agent = callcenter.read_agent(self._node, name)
        return agent is not None and agent.state == "Reserved"


def _recall_of(held: Held) -> Due:
    """What following and settling ask of a recall; the rest of it was said when it was sent."""
    return Due(
        id=held.claim.recall, number=held.claim.number, scope="", queue=held.claim.queue, priority=0,
        attempts=held.attempts, failures=held.failures, due_at=held.made_at, missed_id=0, timewait=0,
        reason=Reason.MANUAL, called_at=held.made_at,
    )  # fmt: skip
