"""After a start or a reconnect: what became of the attempts that nobody watched, and of the agents they held.

FreeSWITCH keeps the outcome while we are away: `uuid_exists` tells whether the first leg is still up, and
each leg leaves a mark in FreeSWITCH's own database.

| First leg is up | Marks               | What became of it                                           |
|-----------------|---------------------|-------------------------------------------------------------|
| yes             | any                 | it goes on, and is followed                                 |
| no              | `.ended` in full    | what it says: how it ended, and how long they talked        |
| no              | `.second`           | they talked                                                 |
| no              | `.answered`         | only the first leg answered                                 |
| no              | `.ended`            | the first leg was not reached                               |
| no              | none, seen twice    | never dialled, if FreeSWITCH was not restarted since        |
| no              | none, and restarted | nobody can know: parked as `unknown`, with an alarm         |

`.ended` tells in full where the recall went through the dialplan's `callback_connect`.

Seen twice, because a command still runs after its connection is gone.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import structlog

from freeswitch_callback.core.attempt import Progress
from freeswitch_callback.core.facts import Due, Mode, Outcome, Reason, Settlement
from freeswitch_callback.engine.attempts import Attempt
from freeswitch_callback.engine.clock import Clock
from freeswitch_callback.engine.recaller import AT_ONCE, LOOK_AT_AGENT_AGAIN, Recaller
from freeswitch_callback.esl import callcenter
from freeswitch_callback.esl.callcenter import Mailbox
from freeswitch_callback.esl.node import Node
from freeswitch_callback.ledger import Held, Ledger, Reserved

log = structlog.get_logger(__name__)


class Reconciler:
    """Brings one node's attempts and reservations in the ledger in line with FreeSWITCH.

    `second_look`: seconds between two looks that found nothing of a call.
    """

    def __init__(
        self,
        node: Node,
        ledger: Ledger,
        engine: str,
        recaller: Recaller,
        second_look: float,
        clock: Clock,
    ) -> None:
        self._node = node
        self._ledger = ledger
        self._engine = engine
        self._recaller = recaller
        self._second_look = second_look
        self._clock = clock
        self._nothing_found: dict[str, float] = {}  # call uuid: when first
        self._lost_at = 0.0

    def run(self, lost_at: float) -> bool:
        """Look at everything once; True if there is something that needs a second look soon.

        `lost_at`: when we last lost sight of FreeSWITCH, epoch seconds. Raises what FreeSWITCH or the
        database raise; run it again then.
        """
        self._lost_at = lost_at
        in_doubt: set[str] = set()
        watched_since = dict(self._recaller.attempts)
        for held in self._ledger.held(node=self._node.name):
            call_uuid = held.claim.call_uuid
            watched = self._recaller.attempts.get(call_uuid)
            if held.sent_at is not None:
                watched_since.pop(call_uuid, None)
            if watched is not None:
                doubt = held.sent_at is not None and not self._catch_up(watched, held)
            else:
                abandoned = call_uuid not in self._recaller.ours and self._abandoned(held)
                doubt = abandoned and not self._take_over(held)
            if doubt:
                in_doubt.add(call_uuid)
        for attempt in watched_since.values():
            attempt.caught_up()  # not sent before, or nothing that is still ours to judge
        self._nothing_found = {uuid: at for uuid, at in self._nothing_found.items() if uuid in in_doubt}
        all_released = self._release_the_forgotten()
        return bool(in_doubt) or not all_released

    def _abandoned(self, held: Held) -> bool:
        """Whether nobody lives this attempt: its engine is gone, or it is ours and its greenlet is."""
        return held.lease_over or held.claim.engine == self._engine

    def _take_over(self, held: Held) -> bool:
        """Adopt an attempt and live it on; False if what became of it needs a second look."""
        held_until = self._clock.monotonic() + self._recaller.lease
        claim = self._ledger.adopt(held.claim, self._engine, self._recaller.lease)
        if claim is None:
            return True
        if held.sent_at is None:
            self._ledger.abort(claim)  # its agent is among the forgotten now
            return True
        answered, connected = held.answered_at is not None, held.connected_at is not None
        progress = Progress(claim.mode, claim.call_uuid, claim.job_uuid)
        progress = _with_marks(progress, answered, connected, held, self._clock.time())
        attempt = Attempt(claim, _recall_of(held), progress, held_until)
        attempt.answer_noted, attempt.connection_noted = answered, connected
        attempt.interrupted = True
        log.info("recall_taken_over", recall=claim.recall, agent=claim.agent, held_by=held.claim.engine)
        self._recaller.adopt(attempt)  # first: from now on its events are heard
        return self._catch_up(attempt, held)

    def _catch_up(self, attempt: Attempt, held: Held) -> bool:
        """Bring an attempt whose events we may have missed up to date; False if it needs a second look."""
        call_uuid = attempt.claim.call_uuid
        exists = callcenter.uuid_exists(self._node, call_uuid)  # first: a mark may come a moment late
        answered, second, ended = [callcenter.mark(self._node, call_uuid, m) for m in callcenter.MARKED]
        # Events have come in meanwhile: what they told is read now, and written without a pause in between.
        if attempt.verdict is not None or (attempt.progress.ended is not None and not attempt.interrupted):
            return True
        told, now = callcenter.mailbox(ended), self._clock.time()
        progress = _with_marks(attempt.progress, bool(answered), bool(second), held, now, told)
        if exists and progress.ended is None:
            attempt.progress = progress
        elif answered or second or ended or progress.ended is not None:
            cause = progress.second_cause
            if progress.mode is Mode.AGENT_FIRST and answered:
                cause = cause or "UNKNOWN"
            cut_off = held.core_uuid != self._node.core_uuid and attempt.answer_noted and self._lost_at
            attempt.progress = replace(
                progress,
                ended=progress.ended or (told.ended + 1.0 if told else self._lost_at if cut_off else now),
                cause=progress.cause or (told.cause if told else "UNKNOWN"),
                second_cause=cause,
            )
        elif not self._seen_twice(call_uuid):
            return False
        else:
            attempt.verdict = self._never_seen(attempt, held)
        attempt.caught_up()
        return True

    def _seen_twice(self, call_uuid: str) -> bool:
        first = self._nothing_found.setdefault(call_uuid, self._clock.monotonic())
        return self._clock.monotonic() - first >= self._second_look

    def _never_seen(self, attempt: Attempt, held: Held) -> Settlement:
        if held.core_uuid == self._node.core_uuid:
            log.warning("recall_was_never_dialled", recall=attempt.claim.recall)
            return Settlement(Outcome.FAILED, retry_in=0.0, counted=False, note="was never dialled")
        log.info(  # who has to know is told by the alarm
            "outcome_unknown", recall=attempt.claim.recall, call_uuid=attempt.claim.call_uuid,
            hint="FreeSWITCH was restarted meanwhile; settle it with `replay` or `close`",
        )  # fmt: skip
        return Settlement(Outcome.UNKNOWN, note="FreeSWITCH was restarted while it was being called")

    def _release_the_forgotten(self) -> bool:
        """Agents whom a row holds though no attempt does any more; False if another engine sees to some.

        As long as that row is there and ours alone, no engine can claim the agent: who is Reserved then, is
        not for somebody else."""
        found = self._forgotten()
        forgotten = [one for one in found if self._ledger.take(one.id, self._engine)]
        suspects = {one.id for one in forgotten if self._reserved(one.agent)}
        if suspects:
            self._clock.sleep(LOOK_AT_AGENT_AGAIN)
        for reservation in forgotten:
            still_reserved = reservation.id in suspects and self._reserved(reservation.agent)
            soon = self._clock.within(AT_ONCE)
            if not self._ledger.take(reservation.id, self._engine):
                continue  # we stood still, and another engine has seen to it
            if still_reserved:
                callcenter.release(self._node, reservation.agent, soon)
                log.warning("forgotten_agent_released", agent=reservation.agent, node=self._node.name)
            self._ledger.strike(reservation.id)
        return len(forgotten) == len(found)

    def _forgotten(self) -> list[Reserved]:
        reservations = self._ledger.reservations(self._node.name)  # first: a claim writes both at once
        live = {held.claim.agent for held in self._ledger.held(node=self._node.name)}
        return [reservation for reservation in reservations if reservation.agent not in live]

    def _reserved(self, name: str) -> bool:
        agent = callcenter.read_agent(self._node, name)
        return agent is not None and agent.state == "Reserved"


def _with_marks(
    progress: Progress, answered: bool, second: bool, held: Held, now: float, told: Mailbox | None = None
) -> Progress:
    """How long they talked is in the mailbox, not in the marks; it is taken for the longest that it may have
    been, because calling somebody again who was reached is the worse mistake.

    A client who answered and was never connected is a machine that did not press 1: agent-first, where
    FreeSWITCH asks after the answer. In the other modes the second leg is the agent's."""
    sent = _seconds(held.sent_at) or now
    if told is not None and told.bridged:
        bridged = progress.bridged or float(told.bridged)
        return replace(
            progress,
            answered=progress.answered or _seconds(held.answered_at) or bridged,
            bridged=bridged,
            second_answered=progress.second_answered or bridged,
            client_rang=True,
        )
    was_connected = progress.bridged or held.connected_at
    if told is not None and progress.mode is Mode.AGENT_FIRST and not was_connected:
        progress = replace(progress, client_rang=progress.client_rang or second)
        second = False
    at = _seconds(held.connected_at) or _seconds(held.answered_at) or sent
    return replace(
        progress,
        answered=progress.answered or (_seconds(held.answered_at) or sent if answered or second else None),
        bridged=progress.bridged or (at if second else None),
        second_answered=progress.second_answered or (at if second else None),
        client_rang=progress.client_rang or answered or second or progress.mode is not Mode.AGENT_FIRST,
    )


def _seconds(at: datetime | None) -> float | None:
    return at.timestamp() if at else None


def _recall_of(held: Held) -> Due:
    """What following and settling ask of a recall; the rest of it was said when it was sent."""
    return Due(
        id=held.claim.recall, number=held.claim.number, scope="", queue=held.claim.queue, priority=0,
        attempts=held.attempts, failures=held.failures, due_at=held.made_at, missed_id=0, timewait=0,
        reason=Reason.MANUAL, called_at=held.made_at,
    )  # fmt: skip
