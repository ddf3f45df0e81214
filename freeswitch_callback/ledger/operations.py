"""What a person changes. Each function works on one batch in one transaction; `Ledger` goes through all."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from freeswitch_callback.core.facts import ClosedAs, Opening
from freeswitch_callback.core.lifecycle import State, move
from freeswitch_callback.ledger import leases, recording
from freeswitch_callback.ledger.database import Row, Transaction
from freeswitch_callback.ledger.journal import note
from freeswitch_callback.ledger.models import CLOSED, Attempt, Journal, Missed, Recall, Remark
from freeswitch_callback.ledger.views import missed_of

BATCH = 50
"""Recalls changed in one transaction: nobody waits long for its locks."""

OpeningOf = Callable[[dict[str, Any]], Opening]
"""From a missed call's columns to what today's gates say of it."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """`recalls`: how many wait anew, or joined one that does. `blocked`: how many may still not be called."""

    recalls: int = 0
    blocked: int = 0

    def __add__(self, other: Replayed) -> Replayed:
        return Replayed(self.recalls + other.recalls, self.blocked + other.blocked)


def give_up(transaction: Transaction, recalls: Sequence[int], nodes: Collection[str], by: str) -> int:
    """See `leases.give_up`; how many."""
    given_up = 0
    for recall in recalls:
        row = _locked(transaction, recall)
        given_up += row is not None and leases.give_up(transaction, row, nodes, by) != row["state"]
    return given_up


def replay(
    transaction: Transaction, recalls: Sequence[int], by: str, expire: float, opening_of: OpeningOf | None
) -> Replayed:
    """Attempts 0, due now, a new expiry; closed and unknown ones wait again. Those that an engine holds are
    left alone.

    With `opening_of`, today's gates are asked of each newest missed call: what they refuse stays as it is,
    and expiry, priority and the first look are the opening's. Without it, only a number that there is not or
    that must not be called keeps a recall from waiting again, for `expire` seconds.
    """
    replayed = Replayed()
    for recall in recalls:
        row = _locked(transaction, recall)
        if row is None or row["state"] not in (State.WAITING, State.UNKNOWN, State.CLOSED):
            continue
        opening = _today(transaction, row, expire, opening_of)
        if opening is None:
            replayed += Replayed(blocked=1)
            continue
        if row["state"] == State.CLOSED:
            row = _reopened(transaction, row, opening)
            open_one = _open_one(transaction, row)
        else:
            open_one = None
        if open_one is None:
            _wait_anew(transaction, row, by, opening)
        else:
            _join(transaction, row, open_one, by)
            if open_one["state"] == State.WAITING:
                highest = max(open_one["priority"], opening.priority)
                _wait_anew(transaction, open_one, by, replace(opening, priority=highest))
        replayed += Replayed(recalls=1)
    return replayed


def close(transaction: Transaction, recalls: Sequence[int], by: str, closed_as: ClosedAs, reason: str) -> int:
    """Closes those that wait or are unknown; how many."""
    closed = 0
    for recall in recalls:
        row = _locked(transaction, recall)
        if row is not None and row["state"] in (State.WAITING, State.UNKNOWN):
            recording.close(transaction, recall, State(row["state"]), closed_as, by, reason)
            closed += 1
    return closed


def postpone(transaction: Transaction, recalls: Sequence[int], until: datetime, by: str) -> int:
    """Waiting ones are due at `until`; the expiry moves along, or a call put off would expire before it is
    due."""
    postponed = 0
    for recall in recalls:
        row = _locked(transaction, recall)
        if row is None or row["state"] != State.WAITING:
            continue
        later = max(until - row["due_at"], until - until)
        transaction.change(
            Recall.update(due_at=until, look_at=until, expires_at=row["expires_at"] + later).where(
                Recall.id == recall
            )
        )
        note(transaction, by, "postponed", recall, until=until.isoformat())
        postponed += 1
    return postponed


def _locked(transaction: Transaction, recall: int) -> Row | None:
    return transaction.row(transaction.locked(Recall.select().where(Recall.id == recall)))


def _open_one(transaction: Transaction, row: Row) -> Row | None:
    return transaction.row(
        transaction.locked(
            Recall.select().where(
                Recall.number == row["number"], Recall.scope == row["scope"], Recall.state != CLOSED
            )
        )
    )


def _today(transaction: Transaction, row: Row, expire: float, opening_of: OpeningOf | None) -> Opening | None:
    """How the recall opens today; None if it may not be called."""
    if opening_of is None:
        opening = Opening(row["number"], row["scope"], row["queue"], expire=expire, priority=row["priority"])
    else:
        missed = missed_of(transaction, row["id"])
        if missed is None:
            return None
        opening = opening_of(missed)
    opening = recording.refused(transaction, opening)
    return None if opening.blocked is not None else opening


def _reopened(transaction: Transaction, row: Row, opening: Opening) -> Row:
    """A closed recall with the number, the tenant and the queue that it has today."""
    values: Row = {"number": opening.number, "scope": opening.scope, "queue": opening.queue}
    if any(row[column] != value for column, value in values.items()):
        transaction.change(Recall.update(**values).where(Recall.id == row["id"]))
        transaction.change(Missed.update(number=opening.number).where(Missed.recall == row["id"]))
    return row | values


def _wait_anew(transaction: Transaction, row: Row, by: str, opening: Opening) -> None:
    state = State(row["state"])
    if state is not State.WAITING:
        move(state, State.WAITING)
    transaction.change(
        Recall.update(
            state=State.WAITING,
            priority=opening.priority,
            attempts=0,
            failures=0,
            due_at=transaction.now,
            look_at=transaction.after(max(0.0, opening.look_in)),
            expires_at=transaction.after(opening.expire),
            closed_as=None,
            closed_at=None,
            closed_by=None,
            note="",
        ).where(Recall.id == row["id"])
    )
    note(
        transaction,
        by,
        "replayed",
        row["id"],
        was=state,
        closed_as=row["closed_as"],
        attempts=row["attempts"],
    )


def _join(transaction: Transaction, row: Row, open_one: Row, by: str) -> None:
    """A closed recall becomes part of the number's open one, with its missed calls, attempts and journal."""
    for table in (Missed, Attempt, Journal, Remark):
        transaction.change(table.update(recall=open_one["id"]).where(table.recall == row["id"]))
    transaction.change(Recall.delete().where(Recall.id == row["id"]))
    note(transaction, by, "joined", open_one["id"], was=row["id"], closed_as=row["closed_as"])
