"""Recalls go out: which are due, who may call them, and what became of each attempt.

A claim is written before anything is dialled, in one transaction with the attempt and the agent's
reservation. Every result is written under the claim's fencing number: who was overtaken by another engine
changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime

import peewee

from freeswitch_callback.core.facts import Claim, ClosedAs, Due, Mode, Reason, Settlement
from freeswitch_callback.core.lifecycle import State, move
from freeswitch_callback.errors import IllegalMove
from freeswitch_callback.ledger.database import Row, Transaction
from freeswitch_callback.ledger.journal import note
from freeswitch_callback.ledger.models import WAITING, Attempt, Missed, Recall, Reservation, utc
from freeswitch_callback.ledger.recording import close

BATCH = 500
"""Rows changed in one transaction: nobody waits long for its locks."""


def due(transaction: Transaction, queues: Collection[str] | None, limit: int) -> list[Due]:
    """The recalls that may be called now: highest priority first, then the longest due.

    However many wait, each (queue, priority) is one walk along an index: a plain `ORDER BY priority DESC,
    due_at` would step over every recall of a high priority that is not due yet.
    """
    found: list[Row] = []
    for line in _lines(queues):
        wanted = limit
        for priority in _priorities(transaction, line):
            rows = transaction.rows(_due(line & (Recall.priority == priority), transaction.now, wanted))
            found += rows
            wanted -= len(rows)
            if wanted <= 0:
                break
    found.sort(key=lambda row: (-row["priority"], row["due_at"], row["id"]))
    return [
        Due(**row | {"reason": Reason(row["reason"]), "called_at": utc(row["called_at"])})
        for row in found[:limit]
    ]


def next_due(transaction: Transaction) -> float | None:
    """Seconds until a waiting recall becomes due, 0.0 or less if one is; None if none waits."""
    soonest = transaction.value(
        Recall.select(Recall.due_at)
        .where(Recall.state == WAITING, Recall.expires_at > transaction.now)
        .order_by(Recall.due_at)
    )
    return None if soonest is None else float((soonest - transaction.now).total_seconds())


def expire(transaction: Transaction) -> int:
    """Closes at most `BATCH` waiting recalls whose time is over; how many."""
    over = (
        Recall.select(Recall.id)
        .where(Recall.state == WAITING, Recall.expires_at <= transaction.now)
        .order_by(Recall.expires_at)
        .limit(BATCH)
    )
    found = transaction.rows(transaction.locked(over, skip=True))
    for recall in found:
        close(transaction, recall["id"], State.WAITING, ClosedAs.EXPIRED, "expiry")
    return len(found)


def claim(
    transaction: Transaction,
    recall: int,
    *,
    engine: str,
    lease: float,
    node: str,
    agent: str | None,
    mode: Mode,
    call_uuid: str,
    job_uuid: str,
) -> Claim | None:
    """Takes a due recall and its agent; None if somebody else has either, waiting for nobody."""
    waiting = Recall.select().where(
        Recall.id == recall,
        Recall.state == WAITING,
        Recall.due_at <= transaction.now,
        Recall.expires_at > transaction.now,
    )
    row = transaction.row(transaction.locked(waiting, skip=True))
    if row is None:
        return None
    held = Reservation.select(Reservation.id).where(Reservation.node == node, Reservation.agent == agent)
    if agent is not None and transaction.row(held):
        return None
    fence = row["claim"] + 1
    transaction.change(
        Recall.update(
            state=move(State.WAITING, State.CLAIMED),
            claim=fence,
            claimed_by=engine,
            lease_until=transaction.after(lease),
        ).where(Recall.id == recall)
    )
    attempt = transaction.insert(
        Attempt,
        recall=recall,
        node=node,
        agent=agent,
        mode=mode,
        call_uuid=call_uuid,
        job_uuid=job_uuid,
        made_at=transaction.now,
    )
    if agent is not None:
        transaction.insert(
            Reservation, node=node, agent=agent, engine=engine, attempt=attempt, made_at=transaction.now
        )
    note(transaction, engine, "claimed", recall, attempt=attempt, fence=fence, node=node, agent=agent)
    return Claim(
        recall=recall,
        fence=fence,
        attempt=attempt,
        engine=engine,
        node=node,
        mode=mode,
        number=row["number"],
        queue=row["queue"],
        agent=agent,
        call_uuid=call_uuid,
        job_uuid=job_uuid,
    )


def abort(transaction: Transaction, claim: Claim) -> bool:
    """The attempt was never sent: as if it had not been claimed, but for the fencing number.

    The reservation stays on record until FreeSWITCH has the agent back (`leases.release`)."""
    row = _fenced(transaction, claim)
    if row is None or row["state"] != State.CLAIMED:
        return False
    _free(transaction, claim, State.WAITING)
    transaction.change(Attempt.delete().where(Attempt.id == claim.attempt))
    note(transaction, claim.engine, "aborted", claim.recall, attempt=claim.attempt)
    return True


def dialling(transaction: Transaction, claim: Claim, core_uuid: str | None) -> bool:
    """The originate is about to be sent, to the FreeSWITCH of this `Core-UUID`."""
    if not _advanced(transaction, claim, State.DIALLING):
        return False
    _mark(transaction, claim, sent_at=transaction.now, core_uuid=core_uuid)
    note(transaction, claim.engine, "dialling", claim.recall, attempt=claim.attempt)
    return True


def answered(transaction: Transaction, claim: Claim, at: datetime) -> bool:
    """The first leg was answered at `at`; told again, the first time stands."""
    row = _fenced(transaction, claim)
    if row is None or row["state"] not in (State.DIALLING, State.CONNECTED):
        return False
    unknown_yet = (Attempt.id == claim.attempt) & Attempt.answered_at.is_null()
    transaction.change(Attempt.update(answered_at=at).where(unknown_yet))
    return True


def connected(transaction: Transaction, claim: Claim, at: datetime, operator: str | None) -> bool:
    """Client and operator talk since `at`: all missed calls of the recall know whom the client reached."""
    if not _advanced(transaction, claim, State.CONNECTED):
        return False
    _mark(transaction, claim, connected_at=at)
    transaction.change(
        Missed.update(recalldate=at, recalloperator=operator).where(Missed.recall == claim.recall)
    )
    note(transaction, claim.engine, "connected", claim.recall, attempt=claim.attempt)
    return True


def settle(transaction: Transaction, claim: Claim, settlement: Settlement, ended_at: datetime) -> bool:
    """Writes the attempt's outcome; the recall is closed, waits again or is parked. The reservation stays
    until the agent was released."""
    row = _fenced(transaction, claim)
    if row is None:
        return False
    if settlement.closed_as is not None:
        to = State.CLOSED
    elif settlement.retry_in is not None:
        to = State.WAITING
    else:
        to = State.UNKNOWN
    if not _legal(row["state"], to):
        return False
    changes: Row = {
        "attempts": row["attempts"] + settlement.counted,
        "failures": (0 if settlement.counted else row["failures"]) + settlement.agent_failed,
    }
    if settlement.retry_in is not None:
        changes["due_at"] = transaction.after(settlement.retry_in)
    if settlement.closed_as is not None:
        changes |= {
            "closed_as": settlement.closed_as,
            "closed_at": transaction.now,
            "closed_by": claim.engine,
        }
    if settlement.note:
        changes["note"] = settlement.note
    _free(transaction, claim, to, **changes)
    _mark(
        transaction,
        claim,
        outcome=settlement.outcome,
        hangup_cause=settlement.hangup_cause,
        ended_at=ended_at,
    )
    note(
        transaction,
        claim.engine,
        {State.CLOSED: "closed", State.WAITING: "retried", State.UNKNOWN: "parked"}[to],
        claim.recall,
        attempt=claim.attempt,
        outcome=settlement.outcome,
        closed_as=settlement.closed_as,
        note=settlement.note,
    )
    return True


def _lines(queues: Collection[str] | None) -> Iterator[peewee.Expression]:
    if queues is None:
        yield Recall.state == WAITING
        return
    for queue in sorted(set(queues)):
        yield (Recall.state == WAITING) & (Recall.queue == queue)


def _priorities(transaction: Transaction, line: peewee.Expression) -> Iterator[int]:
    """The priorities that occur in a line, highest first, each found by one step along the index."""
    below = line
    while True:
        highest = transaction.value(
            Recall.select(Recall.priority).where(below).order_by(Recall.priority.desc())
        )
        if highest is None:
            return
        yield int(highest)
        below = line & (Recall.priority < highest)


def _due(line: peewee.Expression, now: datetime, limit: int) -> peewee.ModelSelect[Recall]:
    newest, oldest = Missed.alias(), Missed.alias()
    newest_id = (
        newest.select(newest.id)
        .where(newest.recall == Recall.id)
        .order_by(newest.calldate.desc(), newest.id.desc())
        .limit(1)
    )
    oldest_call = (
        oldest.select(oldest.calldate).where(oldest.recall == Recall.id).order_by(oldest.calldate).limit(1)
    )
    return (
        Recall.select(
            Recall.id,
            Recall.number,
            Recall.scope,
            Recall.queue,
            Recall.priority,
            Recall.attempts,
            Recall.failures,
            Recall.due_at,
            Missed.id.alias("missed_id"),
            Missed.timewait,
            Missed.reason,
            oldest_call.alias("called_at"),
        )
        .join(Missed, on=(Missed.id == newest_id))
        .where(line, Recall.due_at <= now, Recall.expires_at > now)
        .order_by(Recall.due_at, Recall.id)
        .limit(limit)
    )


def _fenced(transaction: Transaction, claim: Claim) -> Row | None:
    """The recall, locked, if this claim still is the newest and its engine's."""
    return transaction.row(
        transaction.locked(
            Recall.select().where(
                Recall.id == claim.recall, Recall.claim == claim.fence, Recall.claimed_by == claim.engine
            )
        )
    )


def _legal(state: str, to: State) -> bool:
    try:
        move(State(state), to)
    except IllegalMove:
        return False
    return True


def _advanced(transaction: Transaction, claim: Claim, to: State) -> bool:
    row = _fenced(transaction, claim)
    if row is None or not _legal(row["state"], to):
        return False
    transaction.change(Recall.update(state=to).where(Recall.id == claim.recall))
    return True


def _free(transaction: Transaction, claim: Claim, to: State, **changes: object) -> None:
    transaction.change(
        Recall.update(state=to, claimed_by=None, lease_until=None, **changes).where(Recall.id == claim.recall)
    )


def _mark(transaction: Transaction, claim: Claim, **changes: object) -> None:
    transaction.change(Attempt.update(**changes).where(Attempt.id == claim.attempt))
