"""What engines hold, what they have lost, and the agents they reserved.

A lease ends by the database's clock. Who takes a lost claim over gets a new fencing number, so that the
engine that held it, should it come back, changes nothing any more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

import peewee

from freeswitch_callback.core.facts import Claim, Mode
from freeswitch_callback.core.lifecycle import State
from freeswitch_callback.ledger.database import Row, Transaction
from freeswitch_callback.ledger.journal import note
from freeswitch_callback.ledger.models import HELD, Attempt, Recall, Reservation


@dataclass(frozen=True, slots=True)
class Held:
    """A claim and how far its attempt came. `core_uuid` is the FreeSWITCH that it was sent to; `lease_over`
    is by the database's clock; `attempts` and `failures` are the recall's, without this attempt."""

    claim: Claim
    state: State
    lease_until: datetime
    lease_over: bool
    attempts: int
    failures: int
    made_at: datetime
    sent_at: datetime | None
    answered_at: datetime | None
    connected_at: datetime | None
    core_uuid: str | None


@dataclass(frozen=True, slots=True)
class Reserved:
    """An agent whom an engine holds, on record before FreeSWITCH was asked. `attempt` is None once purged."""

    id: int
    node: str
    agent: str
    engine: str
    attempt: int | None
    made_at: datetime


def renew(transaction: Transaction, engine: str, lease: float) -> int:
    """Extends the leases of all that the engine holds to `lease` seconds from now; how many."""
    return transaction.change(
        Recall.update(lease_until=transaction.after(lease)).where(
            Recall.claimed_by == engine, Recall.state << HELD
        )
    )


def held(transaction: Transaction, engine: str | None, node: str | None) -> list[Held]:
    query = _live(transaction)
    if engine is not None:
        query = query.where(Recall.claimed_by == engine)
    if node is not None:
        query = query.where(Attempt.node == node)
    return [_held(row) for row in transaction.rows(query)]


def overdue(transaction: Transaction) -> list[Claim]:
    """The claims whose lease has ended: their engine is gone, or cut off."""
    rows = transaction.rows(_live(transaction).where(Recall.lease_until < transaction.now))
    return [_held(row).claim for row in rows]


def adopt(transaction: Transaction, claim: Claim, engine: str, lease: float) -> Claim | None:
    """Takes a lost claim over, with its attempt and its reserved agent. An engine may adopt what an earlier
    run under its own name left, lease or not. None if it is not lost, or somebody was faster."""
    lost = (Recall.lease_until < transaction.now) | (Recall.claimed_by == engine)
    query = Recall.select(Recall.id).where(
        Recall.id == claim.recall, Recall.claim == claim.fence, Recall.state << HELD, lost
    )
    if transaction.row(transaction.locked(query, skip=True)) is None:
        return None
    adopted = replace(claim, fence=claim.fence + 1, engine=engine)
    transaction.change(
        Recall.update(claim=adopted.fence, claimed_by=engine, lease_until=transaction.after(lease)).where(
            Recall.id == claim.recall
        )
    )
    transaction.change(Reservation.update(engine=engine).where(Reservation.attempt == claim.attempt))
    note(transaction, engine, "adopted", claim.recall, attempt=claim.attempt, held_by=claim.engine)
    return adopted


def reservations(transaction: Transaction, node: str | None) -> list[Reserved]:
    query = Reservation.select().order_by(Reservation.id)
    if node is not None:
        query = query.where(Reservation.node == node)
    return [Reserved(**row) for row in transaction.rows(query)]


def release(transaction: Transaction, node: str, agent: str) -> bool:
    """Forgets a reservation after the agent was released in FreeSWITCH; False if there was none."""
    query = Reservation.delete().where(Reservation.node == node, Reservation.agent == agent)
    return transaction.change(query) > 0


def strike(transaction: Transaction, reservation: int) -> bool:
    """Forgets one reservation by its id; False if it is gone already."""
    return transaction.change(Reservation.delete().where(Reservation.id == reservation)) > 0


def _live(transaction: Transaction) -> peewee.ModelSelect[Recall]:
    return (
        Recall.select(
            Recall.id.alias("recall"),
            Recall.claim.alias("fence"),
            Recall.claimed_by.alias("engine"),
            Recall.number,
            Recall.queue,
            Recall.state,
            Recall.lease_until,
            (Recall.lease_until < transaction.now).alias("lease_over"),
            Recall.attempts,
            Recall.failures,
            Attempt.id.alias("attempt"),
            Attempt.node,
            Attempt.agent,
            Attempt.mode,
            Attempt.call_uuid,
            Attempt.job_uuid,
            Attempt.core_uuid,
            Attempt.made_at,
            Attempt.sent_at,
            Attempt.answered_at,
            Attempt.connected_at,
        )
        .join(Attempt, on=((Attempt.recall == Recall.id) & Attempt.outcome.is_null()))
        .where(Recall.state << HELD)
        .order_by(Recall.id)
    )


def _held(row: Row) -> Held:
    claim = Claim(
        recall=row["recall"],
        fence=row["fence"],
        attempt=row["attempt"],
        engine=row["engine"],
        node=row["node"],
        mode=Mode(row["mode"]),
        number=row["number"],
        queue=row["queue"],
        agent=row["agent"],
        call_uuid=row["call_uuid"],
        job_uuid=row["job_uuid"],
    )
    return Held(
        claim=claim,
        state=State(row["state"]),
        lease_until=row["lease_until"],
        lease_over=bool(row["lease_over"]),
        attempts=row["attempts"],
        failures=row["failures"],
        made_at=row["made_at"],
        sent_at=row["sent_at"],
        answered_at=row["answered_at"],
        connected_at=row["connected_at"],
        core_uuid=row["core_uuid"],
    )
