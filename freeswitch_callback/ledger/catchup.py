"""What a catch-up asks the record, and how two tellings of one call become one row.

A call that was caught up bears a made-up call uuid (`core.catchup.MEMBER`), because the list of members does
not name the call. Whoever knows the call itself, a late event or a CDR, tells it under its own. They are the
same call if they are the same stay of the same member.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from freeswitch_callback.core import facts
from freeswitch_callback.core.catchup import MEMBER, OnRecord, OwnCall, Recorded, Seen
from freeswitch_callback.core.facts import Mode
from freeswitch_callback.ledger.database import Row, Transaction
from freeswitch_callback.ledger.models import Attempt, Heard, Missed, OnTheLine, Talk, clean
from freeswitch_callback.ledger.prepared import Query, few_texts, prepared

BATCH = 500
"""Members or numbers in one query."""
_LONGEST_RECALL = timedelta(hours=4)
_SET_BACK = timedelta(minutes=5)
_LONGEST_REMEMBERED = timedelta(hours=1)
"""Longer than a queue usually remembers who left."""
_WHOLE_SECONDS = timedelta(seconds=1)


def on_record(
    transaction: Transaction, node: str, members: Sequence[str], numbers: Sequence[str], since: datetime
) -> OnRecord:
    """Of these members (uuids) of a node, and of these numbers (E.164): the missed calls recorded from
    `since` on, the recalls through a queue, and who was talked to. Sets of any size, in few queries."""
    calls: dict[int, Recorded] = {}
    talked: dict[str, datetime] = {}
    for column, values in ((Missed.member_uuid, members), (Missed.number, numbers)):
        for batch in _batches(values):
            of_them = Missed.select().where(column << batch, Missed.node == node, Missed.recorded_at >= since)
            for row in transaction.rows(of_them):
                calls[row["id"]] = Recorded(
                    row["member_uuid"], row["phone"], row["calldate"], row["recorded_at"]
                )
    for batch in _batches(numbers):
        for query in (
            Missed.select(Missed.number, Missed.recalldate.alias("at")).where(
                Missed.number << batch, Missed.recalldate >= since
            ),
            Talk.select(Talk.number, Talk.at).where(Talk.number << batch, Talk.at >= since),
        ):
            for row in transaction.rows(query):
                talked[row["number"]] = max(row["at"], talked.get(row["number"], row["at"]))
    own = Attempt.select(Attempt.number, Attempt.made_at, Attempt.ended_at).where(
        Attempt.counts,
        Attempt.made_at >= since - _LONGEST_RECALL,
        Attempt.node == node,
        Attempt.mode == Mode.QUEUE,
        Attempt.ended_at.is_null() | (Attempt.ended_at >= since),
    )
    seen = OnTheLine.select(OnTheLine.phone, OnTheLine.at).where(
        OnTheLine.node == node, OnTheLine.at >= since
    )
    return OnRecord(
        heard_until=transaction.value(Heard.select(Heard.until).where(Heard.node == node)),
        calls=tuple(calls.values()),
        own=[OwnCall(row["number"], row["made_at"], row["ended_at"]) for row in transaction.rows(own)],
        talked=talked,
        on_the_line=[Seen(row["phone"], row["at"]) for row in transaction.rows(seen)],
    )


def known_member(transaction: Transaction, node: str, member_uuid: str) -> bool:
    """Whether a call of this member of a queue is on record."""
    of_member = Missed.select(Missed.id).where(Missed.node == node, Missed.member_uuid == member_uuid)
    return transaction.row(of_member.limit(1)) is not None


def note_heard(transaction: Transaction, node: str, until: datetime) -> None:
    """All that this node told up to then was taken in. Never moves back, unless the clock was set back."""
    mark = Heard.insert(node=node, until=until).on_conflict(
        conflict_target=[Heard.node],
        update={Heard.until: until},
        where=(Heard.until < until) | (Heard.until > until + _SET_BACK),
    )
    transaction.rows(mark.returning(Heard.id))


def note_on_the_line(transaction: Transaction, node: str, phones: Mapping[str, datetime]) -> None:
    """Each of these was seen there last at that time."""
    for phone, at in sorted(phones.items()):
        seen = OnTheLine.insert(node=node, phone=phone, at=at).on_conflict(
            conflict_target=[OnTheLine.node, OnTheLine.phone], update={OnTheLine.at: at}
        )
        transaction.rows(seen.returning(OnTheLine.id))
    forgotten = max(phones.values()) - _LONGEST_REMEMBERED
    transaction.change(OnTheLine.delete().where(OnTheLine.node == node, OnTheLine.at < forgotten))


def made_up(missed: facts.Missed) -> bool:
    """Whether this tells of a member, and not of a call."""
    return missed.call_uuid.startswith(MEMBER)


def same_calls(transaction: Transaction, told: Sequence[facts.Missed]) -> dict[tuple[str, str], Row]:
    """By node and call uuid: the row of a call under its other name, the caught-up one of a call that is told
    by itself, or the other way round. Who asks is alone with these members until the end of the
    transaction."""
    members: dict[str, list[str]] = {}
    for missed in told:
        if missed.member_uuid is not None:
            members.setdefault(missed.node, []).append(missed.member_uuid)
    rows: dict[tuple[str, str], list[Row]] = {}
    for node, uuids in members.items():
        for row in transaction.rows(transaction.locked(_of_members(node, *few_texts(uuids)))):
            rows.setdefault((row["node"], row["member_uuid"]), []).append(row)
    found = {}
    for missed in told if rows else ():
        of_member = rows.get((clean(missed.node), clean(missed.member_uuid or "")), [])
        other = next((row for row in of_member if _same(row, missed)), None)
        if other is not None:
            found[clean(missed.node), clean(missed.call_uuid)] = other
    return found


def _same(row: Row, missed: facts.Missed) -> bool:
    """Whether this row of the same member is about the same call."""
    caught_up = row["call_uuid"].startswith(MEMBER)
    earliest, latest = missed.calldate - _WHOLE_SECONDS, missed.calldate + _WHOLE_SECONDS
    if made_up(missed):
        # An earlier stay of a member that was resumed is on record before this one began.
        return bool(not caught_up and row["calldate"] <= latest and row["recorded_at"] >= earliest)
    # Whole seconds there, microseconds here; a later stay began after this call had ended.
    return bool(caught_up and row["calldate"] > earliest)


@prepared
def _of_members(node: str, *uuids: str) -> Query:
    of_members = Missed.select().where(Missed.node == node, Missed.member_uuid << uuids)
    return of_members.order_by(Missed.calldate, Missed.id)


def _batches(values: Sequence[str]) -> list[Sequence[str]]:
    return [values[start : start + BATCH] for start in range(0, len(values), BATCH)]
