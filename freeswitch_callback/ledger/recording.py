"""Missed calls come in: each is one row, however often and in whatever order it is told, and belongs to a
recall."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import peewee

from freeswitch_callback.core import facts
from freeswitch_callback.core.facts import ClosedAs, Opening, Say
from freeswitch_callback.core.lifecycle import State, move
from freeswitch_callback.ledger import catchup, dnc
from freeswitch_callback.ledger.database import Row, Transaction
from freeswitch_callback.ledger.journal import entry, note
from freeswitch_callback.ledger.models import (
    ANONYMISED,
    CLOSED,
    Attempt,
    Journal,
    Missed,
    Recall,
    Talk,
    clean,
    utc,
)
from freeswitch_callback.ledger.prepared import Query, few_texts, prepared

Call = tuple[str, str]
"""A node and the uuid of one of its calls, as they are stored."""

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


@dataclass(frozen=True, slots=True)
class Told:
    """One telling of a missed call, and the recall that it opens or joins."""

    missed: facts.Missed
    opening: Opening

    @property
    def about(self) -> list[str]:
        """The call, the member and the number: tellings that have none of these in common are independent."""
        missed, number = self.missed, self.opening.number
        return [
            name_of_call(missed.node, missed.call_uuid),
            *(
                []
                if missed.member_uuid is None
                else [f"member {clean(missed.node)} {clean(missed.member_uuid)}"]
            ),
            *([] if number is None else [name_of_number(number)]),
        ]


def name_of_call(node: str, call_uuid: str) -> str:
    """As `about` has it."""
    return f"call {clean(node)} {clean(call_uuid)}"


def name_of_number(number: str) -> str:
    return f"number {clean(number)}"


def record(transaction: Transaction, missed: facts.Missed, opening: Opening) -> Recorded:
    """Inserts or completes. A settled fact completes an unsettled row with what it knows; of a settled row it
    only fills what is empty; an unsettled fact changes nothing that is there.

    A number that must never be called is blocked here and now, whatever the opening says."""
    told = Told(missed, opening)
    transaction.alone(*sorted(told.about))
    return record_independent(transaction, [told])[0]


def record_independent(transaction: Transaction, told: Sequence[Told]) -> list[Recorded]:
    """As `record`, of calls of which no two have anything in `about` in common; whoever asks is `alone` with
    all of that."""
    told = _refused(transaction, told)
    calls = [_call(each) for each in told]
    rows = _stored(transaction, told)
    unknown = [each.missed for call, each in zip(calls, told, strict=True) if call not in rows]
    others = catchup.same_calls(transaction, unknown)
    recorded: dict[Call, Recorded] = {}
    new: dict[Call, Told] = {}
    for call, each in zip(calls, told, strict=True):
        row, other = rows.get(call), others.get(call)
        if row is not None:
            recorded[call] = _told_again(transaction, row, each)
        elif other is None:
            new[call] = each
        elif catchup.made_up(each.missed):  # whoever told it knew the call, and more of it
            recorded[call] = _known(transaction, other["id"], other["recall"])
        else:
            transaction.update(Missed, other["id"], call_uuid=each.missed.call_uuid)
            recorded[call] = _told_again(transaction, other, each)
    recorded.update(zip(new, _record_new(transaction, list(new.values())), strict=True))
    return [recorded[call] for call in calls]


def _call(told: Told) -> Call:
    return clean(told.missed.node), clean(told.missed.call_uuid)


def _record_new(transaction: Transaction, told: Sequence[Told]) -> Iterator[Recorded]:
    recalls = _opened(transaction, told)
    rows = [
        _row(transaction, each.missed, each.opening.number, recall=recall)
        for each, recall in zip(told, recalls, strict=True)
    ]
    for each, missed_id, recall in zip(told, transaction.insert_all(Missed, rows), recalls, strict=True):
        yield Recorded(missed_id, recall, new=True, blocked=each.opening.blocked)


def _told_again(transaction: Transaction, row: Row, told: Told) -> Recorded:
    missed, opening = told.missed, told.opening
    if not missed.settled or anonymised(row):
        return _known(transaction, row["id"], row["recall"])
    changes = _filled(row, missed) if row["settled"] else completing(row, missed)
    recall, recorded = row["recall"], None
    if not row["settled"] or (row["number"] is None and opening.number is not None):
        changes["number"] = opening.number
        recall, blocked = _relinked(transaction, row, told)
        recorded = Recorded(row["id"], recall, new=False, blocked=blocked)
    kept = {name: row[name] for name in (*_values(missed), "number")}
    transaction.update(Missed, row["id"], **(kept | changes), recall=recall, settled=True)
    if recall != row["recall"]:
        _left(transaction, row["recall"], missed.node)
    return recorded or _known(transaction, row["id"], recall)


def anonymised(row: Row) -> bool:
    """Whose call it was is to be known no more: what is told of it again must not say so."""
    return bool(row["settled"] and row["phone"] == ANONYMISED)


def insert(transaction: Transaction, missed: facts.Missed, number: str | None, **others: object) -> int:
    """Writes the row, as it is told for the first time; its id. `others`: the recall, and who was reached."""
    return transaction.insert(Missed, **_row(transaction, missed, number, **others))


def _row(transaction: Transaction, missed: facts.Missed, number: str | None, **others: object) -> Row:
    return {
        "node": missed.node,
        "call_uuid": missed.call_uuid,
        "settled": missed.settled,
        "recorded_at": transaction.now,
        "number": number,
        **_values(missed),
        **others,
    }


def retract(transaction: Transaction, node: str, call_uuid: str) -> bool:
    """Takes a missed call back that was served after all, and its recall with it if nothing else is behind
    it.

    False if there is no such row, or if its recall was tried already: then all of it stays.
    """
    row = stored(transaction, node, call_uuid)
    if row is None:
        return False
    transaction.row(transaction.locked(_recall(row["recall"])))
    if _tried(transaction, row["recall"]):
        return False
    transaction.change(Missed.delete().where(Missed.id == row["id"]))
    if not _left(transaction, row["recall"], node):
        note(transaction, node, "retracted", row["recall"], row["id"])
    return True


def refused(transaction: Transaction, opening: Opening) -> Opening:
    """The opening, blocked if there is no number to call or the list says never to call it."""
    return _with_refusal(opening, dnc.refusals(transaction, _to_be_called([opening])))


def _refused(transaction: Transaction, told: Sequence[Told]) -> list[Told]:
    refusals = dnc.refusals(transaction, _to_be_called(each.opening for each in told))
    return [Told(each.missed, _with_refusal(each.opening, refusals)) for each in told]


def _to_be_called(openings: Iterable[Opening]) -> list[str]:
    return [each.number for each in openings if each.number is not None and each.blocked is None]


def _with_refusal(opening: Opening, refusals: Mapping[str, str]) -> Opening:
    if opening.blocked is not None:
        return opening
    if opening.number is None:
        return replace(opening, blocked=NO_NUMBER)
    return replace(opening, blocked=refusals.get(opening.number))


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
    again. Whoever waits for an agent to take the recall is told (`Say.SERVED`)."""
    open_one = transaction.rows(transaction.locked(_open_recall(number, scope)))
    return _reached(transaction, open_one, closed_as, by, operator, at)


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
    open_ones = transaction.rows(transaction.locked(_open_recalls(number)))
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
    for row in recalls:
        if row["state"] == State.CLAIMED and _newest_call(transaction, row["id"]) <= at:
            word = {"said": Say.SERVED, "said_by": operator or "", "said_until": at, "said_why": closed_as}
            live = (Attempt.recall == row["id"]) & Attempt.outcome.is_null() & Attempt.said.is_null()
            transaction.change(Attempt.update(**word).where(live))
    return len(about_it)


def _newest_call(transaction: Transaction, recall: int) -> datetime:
    return utc(transaction.value(_last_calldate(recall)))


def reached_by(transaction: Transaction, recall: int, operator: str | None, at: datetime) -> None:
    """All missed calls of the recall know when, and by whom, the client has been reached."""
    transaction.together(_reached_by(recall, at, operator))


def note_talk(
    transaction: Transaction, number: str, scope: str, agent: str, at: datetime | None = None
) -> None:
    """Whom this client talked to last, at `at` (now); of a talk before the one that is noted, nothing. Said
    behind what changes the client's recall, by everybody: two would wait for each other."""
    transaction.together(_talk(number, scope, agent, at or transaction.now))


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
    transaction.update(Recall, recall, **values)
    note(transaction, by, "closed", recall, was=state, closed_as=closed_as, note=reason)


def stored(transaction: Transaction, node: str, call_uuid: str) -> Row | None:
    return transaction.row(transaction.locked(_calls(node, call_uuid)))


def _stored(transaction: Transaction, told: Sequence[Told]) -> dict[Call, Row]:
    of_nodes: dict[str, list[str]] = {}
    for each in told:
        of_nodes.setdefault(each.missed.node, []).append(each.missed.call_uuid)
    return {
        (row["node"], row["call_uuid"]): row
        for node, call_uuids in of_nodes.items()
        for row in transaction.rows(transaction.locked(_calls(node, *few_texts(call_uuids))))
    }


def _known(transaction: Transaction, missed_id: int, recall: int) -> Recorded:
    row = transaction.row(_recall(recall)) or {}
    blocked = row["note"] if row["closed_as"] == ClosedAs.BLOCKED else None
    return Recorded(missed_id=missed_id, recall_id=recall, new=False, blocked=blocked)


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


def completed(earlier: facts.Missed, settled: facts.Missed) -> facts.Missed:
    """Two tellings of one call as one, as if the first had been recorded before the second."""
    return replace(earlier, **completing(_values(earlier), settled), settled=True)


def completing(row: Row, missed: facts.Missed) -> Row:
    values = {key: value for key, value in _values(missed).items() if value not in ("", None)}
    return values | {"extra": _merged(row["extra"], missed.extra)}


def _filled(row: Row, missed: facts.Missed) -> Row:
    values = {key: value for key, value in _values(missed).items() if row[key] in ("", None)}
    return values | {"extra": _merged(missed.extra, row["extra"])}


def _merged(first: Mapping[str, str], then: Mapping[str, str]) -> dict[str, str]:
    """Both; where both have a value, `then`'s."""
    return dict(first) | {key: value for key, value in then.items() if value or key not in first}


def _opened(transaction: Transaction, told: Sequence[Told]) -> list[int]:
    """The recalls that missed calls of different clients belong to: a blocked one of its own, the number's
    open one, or a new one."""
    to_be_called = few_texts(_to_be_called(each.opening for each in told))
    open_ones = {
        (row["number"], row["scope"]): row
        for row in (
            transaction.rows(transaction.locked(_open_recalls(*to_be_called))) if to_be_called else ()
        )
    }
    found = [
        open_ones.get((clean(each.opening.number or ""), clean(each.opening.scope)))
        if each.opening.blocked is None
        else None
        for each in told
    ]
    new = [each for each, row in zip(told, found, strict=True) if row is None]
    new_ids = transaction.insert_all(Recall, [_new_recall(transaction, each) for each in new])
    transaction.add_all(
        Journal,
        [
            entry(transaction, each.missed.node, "blocked" if gate else "opened", recall, gate=gate)
            for each, recall in zip(new, new_ids, strict=True)
            for gate in [each.opening.blocked]
        ]
        + [
            entry(transaction, each.missed.node, "called again", row["id"])
            for each, row in zip(told, found, strict=True)
            if row is not None
        ],
    )
    left = iter(new_ids)
    return [
        next(left) if row is None else _joined(transaction, row, each.opening)
        for each, row in zip(told, found, strict=True)
    ]


def _plan(transaction: Transaction, opening: Opening) -> Row:
    return {
        "queue": opening.queue,
        "priority": opening.priority,
        "due_at": transaction.after(opening.delay),
        "look_at": transaction.after(max(opening.delay, opening.look_in)),
        "expires_at": transaction.after(opening.expire),
    }


def _new_recall(transaction: Transaction, told: Told) -> Row:
    gate = told.opening.blocked
    return {
        "number": told.opening.number,
        "scope": told.opening.scope,
        "created_at": transaction.now,
        **_plan(transaction, told.opening),
        "state": State.CLOSED if gate else State.WAITING,
        "closed_as": ClosedAs.BLOCKED if gate else None,
        "closed_at": transaction.now if gate else None,
        "closed_by": told.missed.node if gate else None,
        "note": gate or "",
    }


def _joined(transaction: Transaction, row: Row, opening: Opening) -> int:
    """The open recall, changed by another call of the same client unless somebody has it already."""
    if row["state"] == State.WAITING:
        plan = _plan(transaction, opening)
        transaction.update(
            Recall,
            row["id"],
            due_at=min(row["due_at"], plan["due_at"]),
            look_at=min(row["look_at"], plan["look_at"]),
            expires_at=max(row["expires_at"], plan["expires_at"]),
            priority=max(row["priority"], plan["priority"]),
            queue=row["queue"] or plan["queue"],
        )
    return int(row["id"])


def _relinked(transaction: Transaction, row: Row, told: Told) -> tuple[int, str | None]:
    """The recall of a completed call, and the gate that closed it: the one it had, unless its opening has
    become another one."""
    opening = told.opening
    had = transaction.row(transaction.locked(_recall(row["recall"]))) or {}
    was_blocked = had["note"] if had["closed_as"] == ClosedAs.BLOCKED else None
    number = None if opening.number is None else clean(opening.number)
    same_line = (had["number"], had["scope"]) == (number, clean(opening.scope))
    if not same_line or opening.blocked != was_blocked:
        return _opened(transaction, [told])[0], opening.blocked
    # Also one that has been closed since: the call was dealt with.
    return (int(had["id"]) if was_blocked else _joined(transaction, had, opening)), was_blocked


def _tried(transaction: Transaction, recall: int) -> bool:
    return bool(transaction.row(_attempts(recall)))


def _left(transaction: Transaction, recall: int, by: str) -> bool:
    """After a missed call left its recall: one that nothing is behind any more is deleted, with its journal.

    One that was tried stays as the record of it, but waits no longer. True if it was deleted.
    """
    if transaction.row(_behind(recall)):
        return False
    if _tried(transaction, recall):
        state = State((transaction.row(_recall(recall)) or {})["state"])
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
    transaction.change(_recall_away(recall))
    transaction.change(_journal_away(recall))
    return True


# The statements


@prepared
def _calls(node: str, *call_uuids: str) -> Query:
    return Missed.select().where(Missed.node == node, Missed.call_uuid << call_uuids).order_by(Missed.id)


@prepared
def _behind(recall: int) -> Query:
    return Missed.select(Missed.id).where(Missed.recall == recall)


@prepared
def _last_calldate(recall: int) -> Query:
    return Missed.select(peewee.fn.MAX(Missed.calldate)).where(Missed.recall == recall)


@prepared
def _reached_by(recall: int, at: datetime, operator: str | None) -> Query:
    return Missed.update(recalldate=at, recalloperator=operator).where(Missed.recall == recall)


@prepared
def _recall(recall: int) -> Query:
    return Recall.select().where(Recall.id == recall)


@prepared
def _open_recall(number: str, scope: str) -> Query:
    return Recall.select().where(Recall.number == number, Recall.scope == scope, Recall.state != CLOSED)


@prepared
def _open_recalls(*numbers: str) -> Query:
    return Recall.select().where(Recall.number << numbers, Recall.state != CLOSED).order_by(Recall.id)


@prepared
def _recall_away(recall: int) -> Query:
    return Recall.delete().where(Recall.id == recall)


@prepared
def _journal_away(recall: int) -> Query:
    return Journal.delete().where(Journal.recall == recall)


@prepared
def _attempts(recall: int) -> Query:
    return Attempt.select(Attempt.id).where(Attempt.recall == recall)


@prepared
def _talk(number: str, scope: str, agent: str, at: datetime) -> Query:
    written = Talk.insert(number=number, scope=scope, agent=agent, at=at).on_conflict(
        conflict_target=[Talk.number, Talk.scope], update={"agent": agent, "at": at}, where=(Talk.at <= at)
    )
    return written.returning(Talk.id)
