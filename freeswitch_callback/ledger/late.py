"""Missed calls that are told long after they ended: by a CDR, by what FreeSWITCH still knows of its queues.

Meanwhile the client may have been reached, may be about to be called back, or it is too late to call; and the
same call may be on record under another name.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from freeswitch_callback.core import facts
from freeswitch_callback.core.catchup import MEMBER
from freeswitch_callback.core.facts import ClosedAs, Opening
from freeswitch_callback.core.legs import whole
from freeswitch_callback.core.lifecycle import State
from freeswitch_callback.ledger import recording
from freeswitch_callback.ledger.database import Row, Transaction
from freeswitch_callback.ledger.models import CLOSED, Attempt, Missed, Recall, Talk

_REACHED = (ClosedAs.RECALLED, ClosedAs.SERVED_INBOUND, ClosedAs.SERVED_OUTBOUND)


@dataclass(frozen=True, slots=True)
class Late:
    """What became of a call that was told late. `closed_as` is its recall's, None if that is open."""

    missed_id: int
    recall_id: int
    new: bool
    closed_as: ClosedAs | None


def record(
    transaction: Transaction,
    missed: facts.Missed,
    opening: Opening,
    ended: datetime,
    other_names: Collection[str],
) -> Late:
    """As `recording.record`, of a call that was over at `ended`; `opening.expire` may be negative. Under one
    of `other_names` the catch-up may have recorded it: that row is completed and gets its name.

    A client who was reached since is not called again: the call joins the recall that reached them, or its
    own is closed at once if they talked without one. Nobody is called sooner than planned because of it if a
    call that came later, or an attempt since, is on record. What has expired is closed as that, at once.
    """
    row = recording.stored(transaction, missed.node, missed.call_uuid)
    twin = _caught_up(transaction, missed.node, other_names, opening.number, missed.calldate, ended)
    if twin is not None and row is not None:
        recording.retract(transaction, missed.node, twin["call_uuid"])
    elif twin is not None and recording.anonymised(twin):
        return _late(transaction, twin["id"], twin["recall"], new=False)
    elif twin is not None:
        completed = recording.completing(twin, missed) | {"call_uuid": missed.call_uuid}
        transaction.change(Missed.update(**completed).where(Missed.id == twin["id"]))
    elif row is None:
        opening = recording.refused(transaction, opening)
        joined = _dealt_with(transaction, missed, opening, ended)
        if joined is not None:
            missed_id = recording.insert(transaction, missed, opening.number, **joined)
            return _late(transaction, missed_id, joined["recall"], new=True)
    recorded = recording.record(transaction, missed, opening)
    if recorded.new:
        _close_if_talked(transaction, missed, opening, ended)
    return _late(transaction, recorded.missed_id, recorded.recall_id, new=recorded.new)


def served(
    transaction: Transaction,
    served: facts.Served,
    number: str | None,
    scope: str,
    started: datetime,
    ended: datetime,
    other_names: Collection[str],
) -> int:
    """Takes back what was told of this call as missed, under any name, closes the client's recall, and keeps
    that they talked, for what is told of the same call, or of an earlier one, after this; how many recalls
    were closed (0 or 1).

    Nothing is changed if events have told of it as missed for good: after a talk the client has waited once
    more, or asked to be called back, and not all of that is in a CDR."""
    row = recording.stored(transaction, served.node, served.call_uuid)
    if row is not None and row["settled"]:
        return 0
    recording.retract(transaction, served.node, served.call_uuid)
    twin = _caught_up(transaction, served.node, other_names, number, started, ended)
    if twin is not None:
        recording.retract(transaction, served.node, twin["call_uuid"])
    if number is None:
        return 0
    at = served.at or ended
    by = served.operator or served.node
    closed = recording.close_served(
        transaction, number, scope, ClosedAs.SERVED_INBOUND, by, served.operator, at
    )
    recording.note_talk(transaction, number, scope, served.operator or "", at)
    return closed


def known(transaction: Transaction, node: str, call_uuids: Collection[str]) -> set[str]:
    """Those of the calls that are on record."""
    found = Missed.select(Missed.call_uuid).where(Missed.node == node, Missed.call_uuid << list(call_uuids))
    return {row["call_uuid"] for row in transaction.rows(found)}


def _caught_up(
    transaction: Transaction,
    node: str,
    names: Collection[str],
    number: str | None,
    started: datetime,
    ended: datetime,
) -> Row | None:
    """The row of the catch-up that is this call: by its name, or because the same number left a queue while
    this call lasted (it is named by the last queue that had a list, which need not be the call's last)."""
    rows = Missed.select().where(Missed.node == node)
    of_names = transaction.locked(rows.where(Missed.call_uuid << list(names)))
    named = transaction.row(of_names) if names else None
    if named is not None or number is None:
        return named
    of_number = rows.where(Missed.number == number, Missed.call_uuid.startswith(MEMBER))
    return next(
        (
            row
            for row in transaction.rows(transaction.locked(of_number.order_by(Missed.id)))
            if started.timestamp() - 1 <= whole(row["call_uuid"].rpartition(":")[2]) <= ended.timestamp() + 1
        ),
        None,
    )


def _dealt_with(
    transaction: Transaction, missed: facts.Missed, opening: Opening, ended: datetime
) -> Row | None:
    """The recall that a new row joins without a change of its plans, as values of the row; None if the call
    is to be recorded as any other."""
    if opening.blocked is not None:
        return None
    reached = transaction.row(
        Missed.select(Missed.recall, Missed.recalldate, Missed.recalloperator)
        .join(Recall, on=(Recall.id == Missed.recall))
        .where(
            Missed.number == opening.number,
            Missed.recalldate >= ended,
            Recall.scope == opening.scope,
            Recall.state == CLOSED,
            Recall.closed_as << _REACHED,
        )
        .order_by(Missed.recalldate)
    )
    if reached is not None:
        return reached
    open_one = transaction.row(
        transaction.locked(
            Recall.select(Recall.id, Recall.state, Recall.expires_at).where(
                Recall.number == opening.number, Recall.scope == opening.scope, Recall.state != CLOSED
            )
        )
    )
    if open_one is None:
        return None
    recall = open_one["id"]
    newer = Missed.select(Missed.id).where(Missed.recall == recall, Missed.calldate >= missed.calldate)
    tried = Attempt.select(Attempt.id).where(Attempt.recall == recall, Attempt.made_at >= ended)
    if transaction.row(newer) is None and transaction.row(tried) is None:
        return None
    if open_one["state"] == State.WAITING:
        expires_at = max(open_one["expires_at"], transaction.after(opening.expire))
        transaction.change(Recall.update(expires_at=expires_at).where(Recall.id == recall))
    return {"recall": recall}


def _close_if_talked(
    transaction: Transaction, missed: facts.Missed, opening: Opening, ended: datetime
) -> None:
    """Closes the recall of a client who has talked to somebody since they began to wait. `timewait` is
    without what they waited for before a talk in the same call."""
    waited_from = ended - timedelta(seconds=missed.timewait)
    talk = transaction.row(
        Talk.select().where(
            Talk.number == opening.number, Talk.scope == opening.scope, Talk.at >= waited_from
        )
    )
    if talk is not None and opening.number is not None:
        operator = talk["agent"] or None
        recording.close_served(
            transaction,
            opening.number,
            opening.scope,
            ClosedAs.SERVED_INBOUND,
            operator or missed.node,
            operator,
            talk["at"],
        )


def _late(transaction: Transaction, missed_id: int, recall: int, *, new: bool) -> Late:
    """Closes the recall if it is over by now."""
    row = transaction.row(transaction.locked(Recall.select().where(Recall.id == recall))) or {}
    closed_as = row["closed_as"]
    if row["state"] == State.WAITING and row["expires_at"] <= transaction.now:
        recording.close(transaction, recall, State.WAITING, ClosedAs.EXPIRED, "expiry")
        closed_as = ClosedAs.EXPIRED
    return Late(missed_id, recall, new, ClosedAs(closed_as) if closed_as else None)
