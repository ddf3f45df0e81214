"""What operators say: to a recall that is offered to them, and after the call; and what they are shown.

Their word on an offer is one row's columns, written by whoever serves their page and read by the engine that
holds the claim, on another machine perhaps. The first word stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import peewee

from freeswitch_callback.core.facts import CALL_AGAIN, Claim, ClosedAs, Decision, Mode, Result, Say
from freeswitch_callback.core.lifecycle import State
from freeswitch_callback.errors import NotFound
from freeswitch_callback.ledger import claims, operations, recording
from freeswitch_callback.ledger.database import Row, Transaction
from freeswitch_callback.ledger.journal import note
from freeswitch_callback.ledger.models import CLOSED, HELD, Attempt, Missed, Recall, Remark
from freeswitch_callback.ledger.prepared import Query, prepared
from freeswitch_callback.ledger.views import newest_first

HISTORY = 50
"""Earlier calls, attempts and remarks of a client, at most."""


class Became(StrEnum):
    """What a result has made of the recall."""

    NOTED = "noted"  # nothing else
    WAITS = "waits"  # it is called again
    EXHAUSTED = "exhausted"  # it would be, but was tried as often as may be


@dataclass(frozen=True, slots=True)
class Card:
    """What an operator is to know of the client they call. Rows as dictionaries of the tables' columns.

    `calls`, `attempts` and `remarks`: of all recalls of this number in this tenant, newest first.
    """

    attempt: dict[str, Any]
    recall: dict[str, Any]
    calls: list[dict[str, Any]]
    attempts: list[dict[str, Any]]
    remarks: list[dict[str, Any]]


def decide(transaction: Transaction, agent: str, decision: Decision) -> bool:
    """Writes the agent's word down. False if it comes too late, or another came first; in client-first mode
    nothing is to be said any more once the client's phone rings."""
    row = _attempt_of(transaction, decision.attempt, agent)
    if row is None or row["said"] is not None or row["outcome"] is not None:
        return False
    ringing = row["sent_at"] is not None
    if ringing and (row["mode"] != Mode.AGENT_FIRST or row["answered_at"] or decision.say is Say.ACCEPT):
        return False
    transaction.update(
        Attempt,
        decision.attempt,
        said=decision.say,
        said_by=decision.by,
        said_until=decision.until,
        said_why=decision.reason,
    )
    until = decision.until.isoformat() if decision.until else None
    what = {Say.ACCEPT: "accepted", Say.POSTPONE: "put off", Say.REJECT: "rejected"}[decision.say]
    note(transaction, decision.by, what, row["recall"], attempt=decision.attempt, until=until)
    return True


def decisions(transaction: Transaction, attempts: Sequence[int]) -> list[Decision]:
    """What was said of these."""
    query = Attempt.select().where(Attempt.id << list(attempts), Attempt.said.is_null(False))
    return [
        Decision(row["id"], Say(row["said"]), row["said_by"], row["said_until"], row["said_why"])
        for row in transaction.rows(query)
    ]


def obey(transaction: Transaction, claim: Claim, decision: Decision, *, released: bool) -> bool:
    """Gives back a claim of which nothing was sent, for the recall to be called later, or not at all;
    `released` as in `claims.abort`."""
    if not claims.abort(transaction, claim, released=released):
        return False
    if decision.say is Say.REJECT:
        operations.close(transaction, [claim.recall], decision.by, ClosedAs.REJECTED, decision.reason)
    elif decision.say is Say.SERVED and decision.until is not None:
        operations.close(transaction, [claim.recall], claim.engine, ClosedAs(decision.reason), "")
        recording.reached_by(transaction, claim.recall, decision.by or None, decision.until)
    elif decision.until is not None:
        operations.postpone(transaction, [claim.recall], decision.until, decision.by)
    return True


def remark(transaction: Transaction, recall: int, who: str, text: str) -> int:
    """Adds a remark; its id. Raises `NotFound`."""
    if transaction.row(Recall.select(Recall.id).where(Recall.id == recall)) is None:
        raise NotFound(f"there is no recall {recall}")
    note(transaction, who, "remarked", recall)
    return transaction.insert(Remark, recall=recall, at=transaction.now, who=who, text=text)


def result(
    transaction: Transaction,
    attempt: int,
    agent: str,
    came_to: Result,
    by: str,
    *,
    retry_in: float,
    most: int,
    expire: float,
) -> Became:
    """What the agent's conversation came to. One that did not reach the client puts a recall that is closed
    as `recalled` back: it waits for `retry_in` seconds, or is exhausted after `most` attempts that counted.

    Raises `NotFound` if it was not this agent's, or is not over.
    """
    row = _attempt_of(transaction, attempt, agent)
    if row is None or row["outcome"] is None:
        raise NotFound(f"there is no call {attempt} of {agent} that is over")
    transaction.update(Attempt, attempt, result=came_to, result_by=by)
    note(transaction, by, "result", row["recall"], attempt=attempt, result=came_to)
    recall = transaction.row(transaction.locked(Recall.select().where(Recall.id == row["recall"])))
    newest = transaction.value(
        Attempt.select(Attempt.id).where(Attempt.recall == row["recall"]).order_by(Attempt.id.desc())
    )
    put_back = came_to in CALL_AGAIN and newest == attempt
    if recall is None or not put_back or recall["closed_as"] != ClosedAs.RECALLED:
        return Became.NOTED
    transaction.change(
        Missed.update(recalldate=None, recalloperator=None).where(Missed.recall == recall["id"])
    )
    same_client = (Recall.number == recall["number"]) & (Recall.scope == recall["scope"])
    if transaction.row(Recall.select(Recall.id).where(same_client, Recall.state != CLOSED)) is not None:
        return Became.NOTED  # they have called again since, and are called back for that
    if recall["attempts"] >= most:
        transaction.update(Recall, recall["id"], closed_as=ClosedAs.EXHAUSTED, note=came_to)
        return Became.EXHAUSTED
    due = transaction.after(retry_in)
    transaction.update(
        Recall,
        recall["id"],
        state=State.WAITING,
        due_at=due,
        look_at=due,
        expires_at=max(recall["expires_at"], transaction.after(retry_in + expire)),
        closed_as=None,
        closed_at=None,
        closed_by=None,
        note=came_to,
    )
    note(transaction, by, "put back", recall["id"], attempt=attempt)
    return Became.WAITS


def card_of(transaction: Transaction, attempt: int) -> Card:
    """Raises `NotFound`."""
    row = transaction.row(Attempt.select().where(Attempt.id == attempt))
    recall = None if row is None else transaction.row(Recall.select().where(Recall.id == row["recall"]))
    if row is None or recall is None:
        raise NotFound(f"there is no attempt {attempt}")
    same_client = Recall.select(Recall.id).where(
        Recall.number == recall["number"], Recall.scope == recall["scope"]
    )
    recalls = [each["id"] for each in transaction.rows(same_client.order_by(Recall.id.desc()).limit(HISTORY))]
    recalls.append(recall["id"])  # also where it has no number
    of_client = Missed.select().where(Missed.recall << recalls)
    return Card(
        attempt=row,
        recall=recall,
        calls=transaction.rows(newest_first(of_client).limit(HISTORY)),
        attempts=transaction.rows(
            Attempt.select().where(Attempt.recall << recalls).order_by(Attempt.id.desc()).limit(HISTORY)
        ),
        remarks=remarks_of(transaction, recalls),
    )


def remarks_of(transaction: Transaction, recalls: Sequence[int]) -> list[Row]:
    """The newest first."""
    of_them = Remark.select().where(Remark.recall << list(recalls))
    return transaction.rows(of_them.order_by(Remark.id.desc()).limit(HISTORY))


def at_hand(transaction: Transaction, agent: str) -> int | None:
    """The attempt that is this agent's now: offered to them, ringing, or talking. Of one that their queue
    gave them, only once they talk."""
    found = transaction.value(_offered(agent))
    if found is None:
        found = transaction.value(_given_by_the_queue(agent))
    return None if found is None else int(found)


def latest(transaction: Transaction, agent: str) -> int | None:
    """The attempt of this agent that ended last."""
    found = transaction.value(_ended(agent))
    return None if found is None else int(found)


# Every operator's page asks these with every change that it hears of.


def _live() -> peewee.ModelSelect[Attempt]:
    live = Attempt.select(Attempt.id).join(Recall, on=(Attempt.recall == Recall.id))
    return live.where(Recall.state << HELD, Attempt.outcome.is_null()).order_by(Attempt.id.desc())


@prepared
def _offered(agent: str) -> Query:
    return _live().where(Attempt.agent == agent)


@prepared
def _given_by_the_queue(agent: str) -> Query:
    talking = _live().join(Missed, on=(Missed.recall == Recall.id))
    return talking.where(
        Attempt.mode == Mode.QUEUE, Recall.state == State.CONNECTED, Missed.recalloperator == agent
    )


@prepared
def _ended(agent: str) -> Query:
    ended = Attempt.select(Attempt.id).where(Attempt.agent == agent, Attempt.outcome.is_null(False))
    return ended.order_by(Attempt.id.desc())


def _attempt_of(transaction: Transaction, attempt: int, agent: str) -> Row | None:
    """The row, locked, if it is this agent's: reserved, or given to them by the queue."""
    row = transaction.row(transaction.locked(Attempt.select().where(Attempt.id == attempt)))
    if row is None or row["agent"] == agent:
        return row
    if row["agent"] is not None:
        return None
    theirs = Missed.select(Missed.id).where(Missed.recall == row["recall"], Missed.recalloperator == agent)
    return row if transaction.row(theirs) is not None else None
