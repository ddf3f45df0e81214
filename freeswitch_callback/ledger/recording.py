"""Missed calls come in: each is one row, however often and in whatever order it is told, and belongs to a
recall."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import peewee

from freeswitch_callback.core import facts
from freeswitch_callback.core.facts import ClosedAs, Opening
from freeswitch_callback.core.lifecycle import State, move
from freeswitch_callback.ledger import catchup, dnc
from freeswitch_callback.ledger.database import Row, Transaction
from freeswitch_callback.ledger.journal import note
from freeswitch_callback.ledger.models import CLOSED, Attempt, Journal, Missed, Recall, Talk, utc

NO_NUMBER = "no_number"
"""The gate of a call that gave no number to call back."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of one telling of a missed call. `blocked` names the gate that closed its recall, if one
    did."""

    missed_id: int
    recall_id: int
    new: bool
    blocked: str | None


def record(transaction: Transaction, missed: facts.Missed, opening: Opening) -> Recorded:
    """Inserts or completes. A settled fact completes an unsettled row with what it knows; of a settled row it
    only fills what is empty; an unsettled fact changes nothing that is there.

    A number that must never be called is blocked here and now, whatever the opening says."""
    opening = refused(transaction, opening)
    row = stored(transaction, missed.node, missed.call_uuid)
    if row is None and (other := catchup.same_call(transaction, missed)) is not None:
        if catchup.made_up(missed):  # whoever told it knew the call, and more of it
            return _recorded(transaction, other["id"], other["recall"], new=False)
        transaction.change(Missed.update(call_uuid=missed.call_uuid).where(Missed.id == other["id"]))
        row = other
    if row is None:
        recall = _open(transaction, opening, missed.node)
        missed_id = insert(transaction, missed, opening.number, recall=recall)
        return _recorded(transaction, missed_id, recall, new=True)
    recall = row["recall"]
    if missed.settled:
        changes = _filled(row, missed) if row["settled"] else completed(row, missed)
        if not row["settled"] or (row["number"] is None and opening.number is not None):
            changes["number"] = opening.number
            recall = _relinked(transaction, row, opening)
        transaction.change(
            Missed.update(recall=recall, settled=True, **changes).where(Missed.id == row["id"])
        )
        if recall != row["recall"]:
            _left(transaction, row["recall"], missed.node)
    return _recorded(transaction, row["id"], recall, new=False)


def insert(transaction: Transaction, missed: facts.Missed, number: str | None, **others: object) -> int:
    """Writes the row, as it is told for the first time; its id. `others`: the recall, and who was reached."""
    return transaction.insert(
        Missed,
        node=missed.node,
        call_uuid=missed.call_uuid,
        settled=missed.settled,
        recorded_at=transaction.now,
        number=number,
        **_values(missed),
        **others,
    )


def retract(transaction: Transaction, node: str, call_uuid: str) -> bool:
    """Takes a missed call back that was served after all, and its recall with it if nothing else is behind
    it.

    False if there is no such row, or if its recall was tried already: then all of it stays.
    """
    row = stored(transaction, node, call_uuid)
    if row is None:
        return False
    transaction.rows(transaction.locked(Recall.select(Recall.id).where(Recall.id == row["recall"])))
    if _tried(transaction, row["recall"]):
        return False
    transaction.change(Missed.delete().where(Missed.id == row["id"]))
    if not _left(transaction, row["recall"], node):
        note(transaction, node, "retracted", row["recall"], row["id"])
    return True


def refused(transaction: Transaction, opening: Opening) -> Opening:
    """The opening, blocked if there is no number to call or the list says never to call it."""
    if opening.blocked is not None:
        return opening
    if opening.number is None:
        return replace(opening, blocked=NO_NUMBER)
    return replace(opening, blocked=dnc.refusal(transaction, opening.number))


def close_served(
    transaction: Transaction,
    number: str,
    scope: str,
    closed_as: ClosedAs,
    by: str,
    operator: str | None,
    at: datetime | None,
) -> int:
    """Closes the waiting recall of a client who has been talked to, at `at` (now) by `operator`; how many
    that were (0 or 1). One that a later call of theirs has joined or opened stays: this may be told late, or
    again."""
    open_one = Recall.select().where(Recall.number == number, Recall.scope == scope, Recall.state != CLOSED)
    return _reached(transaction, transaction.rows(transaction.locked(open_one)), closed_as, by, operator, at)


def close_reached(
    transaction: Transaction,
    number: str,
    domain: str,
    by: str,
    operator: str | None,
    at: datetime | None,
) -> int:
    """An operator called the client: closes the waiting recall of that operator's domain, or else the only
    open one that the number has; how many that were (0 or 1). As `close_served`, none that is about a later
    call."""
    open_ones = transaction.rows(
        transaction.locked(
            Recall.select().where(Recall.number == number, Recall.state != CLOSED).order_by(Recall.id)
        )
    )
    of_domain = [row for row in open_ones if row["scope"] == domain]
    chosen = of_domain or (open_ones if len(open_ones) == 1 else [])
    return _reached(transaction, chosen, ClosedAs.SERVED_OUTBOUND, by, operator, at)


def _reached(
    transaction: Transaction,
    recalls: list[Row],
    closed_as: ClosedAs,
    by: str,
    operator: str | None,
    at: datetime | None,
) -> int:
    at = at or transaction.now
    about_it = [
        row["id"]
        for row in recalls
        if row["state"] == State.WAITING and _newest_call(transaction, row["id"]) <= at
    ]
    for recall in about_it:
        close(transaction, recall, State.WAITING, closed_as, by)
        reached_by(transaction, recall, operator, at)
    return len(about_it)


def _newest_call(transaction: Transaction, recall: int) -> datetime:
    return utc(
        transaction.value(Missed.select(peewee.fn.MAX(Missed.calldate)).where(Missed.recall == recall))
    )


def reached_by(transaction: Transaction, recall: int, operator: str | None, at: datetime) -> None:
    """All missed calls of the recall know when, and by whom, the client has been reached."""
    transaction.change(Missed.update(recalldate=at, recalloperator=operator).where(Missed.recall == recall))


def note_talk(
    transaction: Transaction, number: str, scope: str, agent: str, at: datetime | None = None
) -> None:
    """Whom this client talked to last, at `at` (now); of a talk before the one that is noted, nothing."""
    talk = {"agent": agent, "at": at or transaction.now}
    written = Talk.insert(number=number, scope=scope, **talk).on_conflict(
        conflict_target=[Talk.number, Talk.scope], update=talk, where=(Talk.at <= talk["at"])
    )
    transaction.rows(written.returning(Talk.id))


def close(
    transaction: Transaction, recall: int, state: State, closed_as: ClosedAs, by: str, reason: str = ""
) -> None:
    """Closes a recall whose row is locked and in `state`; raises `IllegalMove` where the table does not have
    it."""
    move(state, State.CLOSED)
    values: Row = {
        "state": State.CLOSED,
        "closed_as": closed_as,
        "closed_at": transaction.now,
        "closed_by": by,
        "claimed_by": None,
        "lease_until": None,
    }
    if reason:
        values["note"] = reason
    transaction.change(Recall.update(**values).where(Recall.id == recall))
    note(transaction, by, "closed", recall, was=state, closed_as=closed_as, note=reason)


def stored(transaction: Transaction, node: str, call_uuid: str) -> Row | None:
    return transaction.row(
        transaction.locked(Missed.select().where(Missed.node == node, Missed.call_uuid == call_uuid))
    )


def _recorded(transaction: Transaction, missed_id: int, recall: int, *, new: bool) -> Recorded:
    row = transaction.row(Recall.select(Recall.closed_as, Recall.note).where(Recall.id == recall)) or {}
    blocked = row["note"] if row["closed_as"] == ClosedAs.BLOCKED else None
    return Recorded(missed_id=missed_id, recall_id=recall, new=new, blocked=blocked)


def _values(missed: facts.Missed) -> Row:
    """What a later telling may complete."""
    return {
        "phone": missed.phone,
        "calldate": missed.calldate,
        "calledid": missed.calledid,
        "timewait": missed.timewait,
        "reason": missed.reason,
        "operator": missed.operator,
        "member_uuid": missed.member_uuid,
        "queue": missed.queue,
        "caller_name": missed.caller_name,
        "hangup_cause": missed.hangup_cause,
        "extra": dict(missed.extra),
    }


def completed(row: Row, missed: facts.Missed) -> Row:
    values = {key: value for key, value in _values(missed).items() if value not in ("", None)}
    return values | {"extra": _merged(row["extra"], missed.extra)}


def _filled(row: Row, missed: facts.Missed) -> Row:
    values = {key: value for key, value in _values(missed).items() if row[key] in ("", None)}
    return values | {"extra": _merged(missed.extra, row["extra"])}


def _merged(first: Mapping[str, str], then: Mapping[str, str]) -> dict[str, str]:
    """Both; where both have a value, `then`'s."""
    return dict(first) | {key: value for key, value in then.items() if value or key not in first}


def _open(transaction: Transaction, opening: Opening, by: str) -> int:
    """The recall that a missed call belongs to: a blocked one of its own, the number's open one, or a new
    one."""
    blocked = opening.blocked
    due_at, expires_at = transaction.after(opening.delay), transaction.after(opening.expire)
    look_at = transaction.after(max(opening.delay, opening.look_in))
    values: Row = {
        "number": opening.number,
        "scope": opening.scope,
        "queue": opening.queue,
        "priority": opening.priority,
        "due_at": due_at,
        "look_at": look_at,
        "expires_at": expires_at,
        "created_at": transaction.now,
    }
    if blocked is not None:
        recall = transaction.insert(
            Recall,
            state=State.CLOSED,
            closed_as=ClosedAs.BLOCKED,
            closed_at=transaction.now,
            closed_by=by,
            note=blocked,
            **values,
        )
        note(transaction, by, "blocked", recall, gate=blocked)
        return recall
    of_number = Recall.select().where(
        Recall.number == opening.number, Recall.scope == opening.scope, Recall.state != CLOSED
    )
    row = transaction.row(transaction.locked(of_number))
    if row is None:
        recall = transaction.insert(Recall, state=State.WAITING, **values)
        note(transaction, by, "opened", recall)
        return recall
    if row["state"] == State.WAITING:
        transaction.change(
            Recall.update(
                due_at=min(row["due_at"], due_at),
                look_at=min(row["look_at"], look_at),
                expires_at=max(row["expires_at"], expires_at),
                priority=max(row["priority"], opening.priority),
                queue=row["queue"] or opening.queue,
            ).where(Recall.id == row["id"])
        )
    return int(row["id"])


def _relinked(transaction: Transaction, row: Row, opening: Opening) -> int:
    """The recall of a completed call: the one it had, unless its opening has become another one."""
    had = transaction.row(transaction.locked(Recall.select().where(Recall.id == row["recall"]))) or {}
    was_blocked = had["note"] if had["closed_as"] == ClosedAs.BLOCKED else None
    same_line = (had["number"], had["scope"]) == (opening.number, opening.scope)
    if same_line and opening.blocked == was_blocked and (was_blocked or had["state"] != State.WAITING):
        return int(had["id"])  # also one that has been closed since: the call was dealt with
    return _open(transaction, opening, row["node"])


def _tried(transaction: Transaction, recall: int) -> bool:
    return bool(transaction.row(Attempt.select(Attempt.id).where(Attempt.recall == recall)))


def _left(transaction: Transaction, recall: int, by: str) -> bool:
    """After a missed call left its recall: one that nothing is behind any more is deleted, with its journal.

    One that was tried stays as the record of it, but waits no longer. True if it was deleted.
    """
    if transaction.row(Missed.select(Missed.id).where(Missed.recall == recall)):
        return False
    if _tried(transaction, recall):
        state = State(transaction.value(Recall.select(Recall.state).where(Recall.id == recall)))
        if state is State.WAITING:
            close(
                transaction,
                recall,
                state,
                ClosedAs.CANCELLED,
                by,
                "its missed call turned out to be another's",
            )
        return False
    transaction.change(Recall.delete().where(Recall.id == recall))
    transaction.change(Journal.delete().where(Journal.recall == recall))
    return True
