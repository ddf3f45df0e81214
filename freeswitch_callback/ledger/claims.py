"""One engine's hold on a recall: who may call it, and what became of each attempt.

A claim is written before anything is dialled, in one transaction with the attempt and the agent's
reservation. Every result is written under the claim's fencing number: who was overtaken by another engine
changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import peewee

from freeswitch_callback.core.facts import Claim, Mode, Outcome, Settlement
from freeswitch_callback.core.gates import CapRules, Case, Gate, Verdict
from freeswitch_callback.core.lifecycle import State, move
from freeswitch_callback.errors import IllegalMove
from freeswitch_callback.ledger import limits
from freeswitch_callback.ledger.database import Row, Transaction
from freeswitch_callback.ledger.journal import entry, note
from freeswitch_callback.ledger.leases import reservation_of
from freeswitch_callback.ledger.models import WAITING, Attempt, Journal, Recall, Reservation
from freeswitch_callback.ledger.prepared import Query, addition, alteration, prepared
from freeswitch_callback.ledger.recalls import gates_change, keep_back
from freeswitch_callback.ledger.recording import note_talk, reached_by

Judge = Callable[[Case, datetime], Verdict | None]
"""From a case and the time to the first gate that is shut, None if all are open. Asked inside a transaction,
perhaps twice, and with SQLite in the writer's thread: it is quick and only decides."""


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
    judge: Judge | None,
    caps: CapRules,
    sent_to: str | None,
) -> Claim | Verdict | None:
    """Takes a recall and its agent; None if somebody else has either, waiting for nobody, or if its time has
    not come. `sent_to`: as `dialling`, in the same transaction.

    The judge's first shut gate refuses the claim, and the recall is moved on or closed as `recalls.hold`
    would.
    """
    now = transaction.moment
    wanted = _to_be_had(recall, now) if agent is None else _to_be_had_with(recall, now, node, agent)
    row = transaction.row(transaction.locked(transaction.numbered(wanted, Attempt), skip=True), dated=True)
    if row is None:
        return None
    made_at = transaction.now
    if judge is not None:
        case, shut = _judged(transaction, row, judge, caps, engine)
        if shut is not None:
            return shut
        if case.counted_from is not None:  # this may have begun before a reset that it has waited for
            made_at = max(made_at, case.counted_from + timedelta(microseconds=1))
    fence = row["claim"] + 1
    state = move(State.WAITING, State.CLAIMED)
    sent: Row = {}
    if sent_to is not None:
        state, sent = move(state, State.DIALLING), {"sent_at": transaction.now, "core_uuid": sent_to}
    attempt = transaction.add(
        Attempt,
        row.get("next_id"),
        recall=recall,
        node=node,
        agent=agent,
        mode=mode,
        call_uuid=call_uuid,
        job_uuid=job_uuid,
        made_at=made_at,
        number=row["number"],
        prefix=caps.prefix_of(row["number"]),
        **sent,
    )
    held = {"node": node, "agent": agent, "engine": engine, "attempt": attempt, "made_at": transaction.now}
    transaction.together(
        alteration(Recall)(
            recall,
            state=state,
            claim=fence,
            claimed_by=engine,
            lease_until=transaction.after(lease),
        ),
        *([addition(Reservation)(**held)] if agent is not None else []),
    )
    notes = [
        entry(transaction, engine, "claimed", recall, attempt=attempt, fence=fence, node=node, agent=agent)
    ]
    if sent:
        notes.append(entry(transaction, engine, "dialling", recall, attempt=attempt))
    transaction.add_all(Journal, notes)
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


@prepared
def _to_be_had(recall: int, now: datetime) -> Query:
    return _waiting(recall, now)


def _waiting(recall: int, now: datetime) -> peewee.ModelSelect[Recall]:
    columns = (
        *(Recall.id, Recall.number, Recall.queue, Recall.state, Recall.claim),
        *(Recall.attempts, Recall.due_at, Recall.expires_at),
    )
    return Recall.select(*columns).where(
        Recall.id == recall, Recall.state == WAITING, Recall.look_at <= now, Recall.expires_at > now
    )


@prepared
def _to_be_had_with(recall: int, now: datetime, node: str, agent: str) -> Query:
    held = Reservation.select(Reservation.id).where(Reservation.node == node, Reservation.agent == agent)
    return _waiting(recall, now).where(~peewee.fn.EXISTS(held))


def _judged(
    transaction: Transaction, recall: Row, judge: Judge, caps: CapRules, engine: str
) -> tuple[Case, Verdict | None]:
    """The case, and the first shut gate; the recall is kept back by it."""
    limits.alone_with(transaction, recall, caps)
    case = limits.case(transaction, recall, caps)
    shut = judge(case, transaction.now)
    if shut is not None:  # a person may be opening it
        gates_change(transaction)
        case = limits.case(transaction, recall, caps)
        shut = judge(case, transaction.now)
    if shut is None:
        return case, None
    if shut.gate is Gate.BREAKER and case.tripped is None:
        limits.trip(transaction, case, caps, engine)
    keep_back(transaction, {recall["id"]: shut}, engine)
    return case, shut


def abort(transaction: Transaction, claim: Claim, *, unsent: bool = False, released: bool = False) -> bool:
    """The attempt was never sent: as if it had not been claimed, but for the fencing number. Whoever was
    about to send it, and wrote so, knows that it is `unsent` all the same.

    The reservation stays on record until FreeSWITCH has the agent back; if it has (`released`), it goes with
    the attempt: an attempt without it would let an agent go whom another recall has reserved since."""
    row = _fenced(transaction, claim)
    if row is None or row["state"] not in ((State.CLAIMED, State.DIALLING) if unsent else (State.CLAIMED,)):
        return False
    if released:
        transaction.together(reservation_of(claim.attempt))
    transaction.update(Recall, claim.recall, **_freed(State.WAITING))
    transaction.change(Attempt.delete().where(Attempt.id == claim.attempt))
    note(transaction, claim.engine, "aborted", claim.recall, attempt=claim.attempt)
    return True


def dialling(transaction: Transaction, claim: Claim, core_uuid: str | None) -> bool:
    """The originate is about to be sent, to the FreeSWITCH of this `Core-UUID`."""
    if not transaction.change(_begun(claim.recall, claim.fence, claim.engine)):
        return False
    transaction.together(alteration(Attempt)(claim.attempt, sent_at=transaction.now, core_uuid=core_uuid))
    note(transaction, claim.engine, "dialling", claim.recall, attempt=claim.attempt)
    return True


@prepared
def _begun(recall: int, fence: int, engine: str) -> Query:
    """Look and change in one: the last thing between an agent and the call."""
    ours = (Recall.id == recall) & (Recall.claim == fence) & (Recall.claimed_by == engine)
    return Recall.update(state=move(State.CLAIMED, State.DIALLING)).where(ours, Recall.state == State.CLAIMED)


def answered(transaction: Transaction, claim: Claim, at: datetime) -> bool:
    """The first leg was answered at `at`; told again, the first time stands."""
    row = _fenced(transaction, claim)
    if row is None or row["state"] not in (State.DIALLING, State.CONNECTED):
        return False
    transaction.together(_first_answer(claim.attempt, at))
    return True


def connected(transaction: Transaction, claim: Claim, at: datetime, operator: str | None) -> bool:
    """Client and operator talk since `at`: all missed calls of the recall know whom the client reached."""
    row = _fenced(transaction, claim)
    if row is None or not _legal(row["state"], State.CONNECTED):
        return False
    if operator is not None:
        note_talk(transaction, row["number"], row["scope"], operator)
    reached_by(transaction, claim.recall, operator, at)
    transaction.together(
        alteration(Recall)(claim.recall, state=State.CONNECTED),
        alteration(Attempt)(claim.attempt, connected_at=at),
    )
    note(transaction, claim.engine, "connected", claim.recall, attempt=claim.attempt)
    return True


def settle(
    transaction: Transaction, claim: Claim, settlement: Settlement, ended_at: datetime, *, released: bool
) -> bool:
    """Writes the attempt's outcome; the recall is closed, waits again or is parked. The reservation is
    forgotten if the agent was released, also where the claim is not the newest any more."""
    if released:
        transaction.together(reservation_of(claim.attempt))
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
    changes: Row = _freed(to) | {
        "attempts": row["attempts"] + settlement.counted,
        "failures": (0 if settlement.counted else row["failures"]) + settlement.agent_failed,
    }
    if settlement.retry_in is not None:
        changes["due_at"] = changes["look_at"] = transaction.after(settlement.retry_in)
    if settlement.closed_as is not None:
        changes |= {
            "closed_as": settlement.closed_as,
            "closed_at": transaction.now,
            "closed_by": claim.engine,
        }
    if settlement.note:
        changes["note"] = settlement.note
    transaction.together(
        alteration(Recall)(claim.recall, **changes),
        alteration(Attempt)(
            claim.attempt,
            outcome=settlement.outcome,
            hangup_cause=settlement.hangup_cause,
            ended_at=ended_at,
            counts=settlement.counted or settlement.outcome is Outcome.UNKNOWN,
        ),
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


def _fenced(transaction: Transaction, claim: Claim) -> Row | None:
    """The recall, locked, if this claim still is the newest and its engine's."""
    ours = _of_claim(claim.recall, claim.fence, claim.engine)
    return transaction.row(transaction.locked(ours), dated=True)


@prepared
def _of_claim(recall: int, fence: int, engine: str) -> Query:
    columns = (Recall.number, Recall.scope, Recall.state, Recall.attempts, Recall.failures)
    return Recall.select(*columns).where(
        Recall.id == recall, Recall.claim == fence, Recall.claimed_by == engine
    )


@prepared
def _first_answer(attempt: int, at: datetime) -> Query:
    return Attempt.update(answered_at=at).where(Attempt.id == attempt, Attempt.answered_at.is_null())


def _legal(state: str, to: State) -> bool:
    try:
        move(State(state), to)
    except IllegalMove:
        return False
    return True


def _freed(to: State) -> Row:
    return {"state": to, "claimed_by": None, "lease_until": None}
