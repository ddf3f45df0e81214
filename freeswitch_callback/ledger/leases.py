"""What engines hold, what they have lost, and the agents they reserved.

A lease ends by the database's clock. Who takes a lost claim over gets a new fencing number, so that the
engine that held it, should it come back, changes nothing any more.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime

import peewee

from freeswitch_callback.core.facts import Claim, Mode, Outcome
from freeswitch_callback.core.lifecycle import LIVE, State, move
from freeswitch_callback.ledger.database import Row, Transaction
from freeswitch_callback.ledger.journal import note
from freeswitch_callback.ledger.models import HELD, Attempt, Missed, Recall, Reservation, utc
from freeswitch_callback.ledger.prepared import Query, prepared

_NAMED = 10
"""Calls that a message names."""
_SEEN_TO = 5.0
"""Seconds within which an engine lets an agent go whose reservation it has taken over."""


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
    """An agent whom an engine holds, on record before FreeSWITCH was asked. `attempt` is None once purged, or
    where the engine is about to let the agent go."""

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


@dataclass(frozen=True, slots=True)
class Stranded:
    """Recalls that an engine has lost at a FreeSWITCH that nobody knows any more: the newest missed call of
    each."""

    node: str
    missed: tuple[int, ...]

    def __str__(self) -> str:
        ids = " ".join(map(str, self.missed[:_NAMED])) + (" …" if len(self.missed) > _NAMED else "")
        recalls = "1 recall was" if len(self.missed) == 1 else f"{len(self.missed)} recalls were"
        return (
            f"{recalls} being called by {self.node}, which is no [[freeswitch]] of this configuration: put "
            f"it there again, or settle with `close {ids}` or `replay {ids}`"
        )


def stranded(transaction: Transaction, nodes: Collection[str]) -> list[Stranded]:
    """What `give_up` would take, by node."""
    lost = (
        Recall.select(Attempt.node, peewee.fn.MAX(Missed.id).alias("missed"))
        .join(Attempt, on=((Attempt.recall == Recall.id) & Attempt.outcome.is_null()))
        .join(Missed, on=(Missed.recall == Recall.id))
        .where(Recall.state << HELD, Recall.lease_until < transaction.now, ~(Attempt.node << list(nodes)))
        .group_by(Attempt.node, Recall.id)
        .order_by(Attempt.node, Recall.id)
    )
    found: dict[str, list[int]] = {}
    for row in transaction.rows(lost):
        found.setdefault(row["node"], []).append(row["missed"])
    return [Stranded(node, tuple(missed)) for node, missed in found.items()]


def next_end(transaction: Transaction, node: str, but: str) -> float | None:
    """Seconds until the first lease of another engine than `but` on an attempt at this node ends (0.0 or
    less: one has), None if there is none."""
    first = (
        Recall.select(peewee.fn.MIN(Recall.lease_until))
        .join(Attempt, on=((Attempt.recall == Recall.id) & Attempt.outcome.is_null()))
        .where(Recall.state << HELD, Attempt.node == node, Recall.claimed_by != but)
    )
    ends = transaction.value(first)
    return None if ends is None else (utc(ends) - transaction.now).total_seconds()


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


def give_up(transaction: Transaction, recall: Row, nodes: Collection[str], by: str) -> State:
    """What an engine has lost at a FreeSWITCH that is none of `nodes`: nobody will ever ask that one. The
    recall (its row, locked) waits again if nothing was sent, and else is parked as unknown, under a new
    fencing number; its state from now on, which is as it was for any other.

    A reserved agent stays on record, should that FreeSWITCH come back."""
    state = State(recall["state"])
    if state not in LIVE or recall["lease_until"] >= transaction.now:
        return state
    attempt = transaction.row(
        Attempt.select().where(Attempt.recall == recall["id"], Attempt.outcome.is_null())
    )
    if attempt is None or attempt["node"] in nodes:
        return state
    to = move(state, State.WAITING if state is State.CLAIMED else State.UNKNOWN)
    transaction.change(
        Recall.update(state=to, claim=recall["claim"] + 1, claimed_by=None, lease_until=None).where(
            Recall.id == recall["id"]
        )
    )
    this = Attempt.id == attempt["id"]
    if to is State.WAITING:
        transaction.change(Attempt.delete().where(this))
    else:
        transaction.change(Attempt.update(outcome=Outcome.UNKNOWN, ended_at=transaction.now).where(this))
    note(
        transaction, by, "given_up", recall["id"],
        was=state, attempt=attempt["id"], node=attempt["node"], held_by=recall["claimed_by"],
    )  # fmt: skip
    return to


def reservations(transaction: Transaction, node: str | None) -> list[Reserved]:
    query = Reservation.select().order_by(Reservation.id)
    if node is not None:
        query = query.where(Reservation.node == node)
    return [Reserved(**row) for row in transaction.rows(query)]


@prepared
def reservation_of(attempt: int) -> Query:
    """Takes it off the record."""
    return Reservation.delete().where(Reservation.attempt == attempt)


def reserve(transaction: Transaction, node: str, agent: str, engine: str) -> int | None:
    """Holds an agent for no attempt; the reservation's id, None if somebody holds them."""
    held = Reservation.insert(node=node, agent=agent, engine=engine, made_at=transaction.now)
    written = transaction.rows(held.on_conflict_ignore().returning(Reservation.id))
    return int(written[0]["id"]) if written else None


def take(transaction: Transaction, reservation: int, engine: str) -> bool:
    """Takes one over for no attempt, so that nobody else gets the agent meanwhile; False if it is gone, or
    another engine has written it a moment ago, and sees to the agent."""
    nobody_sees_to_it = (Reservation.engine == engine) | (Reservation.made_at < transaction.after(-_SEEN_TO))
    return (
        transaction.change(
            Reservation.update(engine=engine, attempt=None, made_at=transaction.now).where(
                Reservation.id == reservation, nobody_sees_to_it
            )
        )
        > 0
    )


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
