"""What the gates ask of the record: the `Case` of a recall with what was dialled lately, and the breakers.

Each cap is read no further back than it needs, and not at all where it is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import peewee

from freeswitch_callback.core import gates
from freeswitch_callback.core.facts import Reason
from freeswitch_callback.core.gates import DAY, HOUR, MINUTE, CapRules, Case, DoNotCall, Usage
from freeswitch_callback.core.lifecycle import State
from freeswitch_callback.ledger import dnc
from freeswitch_callback.ledger.database import Row, Transaction
from freeswitch_callback.ledger.journal import note
from freeswitch_callback.ledger.models import HELD, LARGEST_ID, Attempt, Dnc, Missed, Recall
from freeswitch_callback.ledger.models import Breaker as Breakers
from freeswitch_callback.ledger.prepared import Query, few_texts, prepared
from freeswitch_callback.ledger.recalls import gates_change
from freeswitch_callback.ledger.views import newest_first

BATCH = 1000
"""Cases read in one transaction."""

CapsOf = Callable[[str | None], CapRules]
"""From a queue to its caps."""

_NONE = timedelta(0)


@dataclass(frozen=True, slots=True)
class Breaker:
    """All recalls to numbers that begin with `prefix` are stopped since `tripped_at`, when there had been
    `recalls` of them."""

    prefix: str
    tripped_at: datetime
    recalls: int


def alone_with(transaction: Transaction, recall: Row, caps: CapRules) -> None:
    """What a cap counts does not change until the end of this transaction: two engines, or one, that claim at
    the same time would both see room for one more.

    None of these is a name that recording a call says: that waits for a recall's row behind its names, and a
    claim has the row already."""
    number = recall["number"]
    names = (
        (caps.per_number, f"recalls to {number}"),
        (caps.per_prefix or caps.breaker, f"prefix {caps.prefix_of(number)}"),
        (caps.at_once, f"queue {recall['queue']}"),
        (caps.per_minute, "everything"),
    )
    transaction.alone(*(name for capped, name in names if capped))


def case(transaction: Transaction, recall: Row, caps: CapRules) -> Case:
    """The case of a recall (a row of it) with its newest missed call.

    What `_looked_up` finds by a statement for each kind, found by one: this stands between an agent who is
    free and a call.
    """
    number, now = recall["number"], transaction.now
    prefix = caps.prefix_of(number)
    record = _OnRecord()
    entries: list[DoNotCall] = []
    for row in transaction.rows(
        _look(
            recall["id"], now, prefix,
            number, now - DAY, caps.per_number,
            now - _prefix_span(caps), _prefix_cap(caps),
            now - MINUTE, caps.per_minute,
            *few_texts(list(dnc.keys(number))),
        )
    ):  # fmt: skip
        match row["kind"]:
            case "call":
                newest = {"phone": row["key"], "reason": row["note"], "timewait": row["seconds"]}
            case "dnc":
                entry = {"number": row["key"], "added_at": row["at"], "added_by": row["who"]}
                entries.append(DoNotCall(note=row["note"], until=row["until"], **entry))
            case "breaker":
                record.breakers[prefix] = {"tripped_at": row["at"], "reset_at": row["until"]}
            case "number":
                record.numbers.setdefault(number, []).append(row["at"])
            case "prefix":
                record.prefixes.setdefault(prefix, []).append(row["at"])
            case "everything":
                record.everything.append(row["at"])
    for times in (record.everything, *record.numbers.values(), *record.prefixes.values()):
        times.sort(reverse=True)  # a union has no order
    record.entries = dnc.longest(entries, [number])
    if caps.at_once:
        record.up = _up(transaction, [recall["queue"] or ""])
    return _case(now, recall | newest, caps, record)


@prepared
def _look(
    recall: int,
    now: datetime,
    prefix: str,
    number: str,
    number_since: datetime,
    number_most: int,
    prefix_since: datetime,
    prefix_most: int,
    since: datetime,
    most: int,
    *keys: str,
) -> Query:
    """All that `case` asks, in rows of one form."""
    none, nothing = peewee.SQL("''"), peewee.SQL("0")

    def told(kind: str, *columns: Query) -> list[Query]:
        names = ("key", "at", "until", "note", "who", "seconds")
        named = [column.alias(name) for column, name in zip(columns, names, strict=True)]
        return [peewee.SQL(f"'{kind}'").alias("kind"), *named]

    def attempts(kind: str, which: Query, after: datetime, limit: int) -> Query:
        made_at = Attempt.made_at
        found = Attempt.select(*told(kind, Attempt.number, made_at, made_at, none, none, nothing))
        found = found.where(Attempt.counts, which, made_at > after).order_by(made_at.desc()).limit(limit)
        return found.select_from(peewee.SQL("*"))

    tripped, reset = Breakers.tripped_at, Breakers.reset_at
    breakers = Breakers.select(*told("breaker", Breakers.prefix, tripped, reset, none, none, nothing))
    listed = Dnc.select(*told("dnc", Dnc.number, Dnc.added_at, Dnc.until, Dnc.note, Dnc.added_by, nothing))
    at = Missed.calldate
    calls = Missed.select(*told("call", Missed.phone, at, at, Missed.reason, none, Missed.timewait))
    return (
        breakers.where(Breakers.prefix == prefix)
        .union_all(listed.where(dnc.in_force(keys, now)))
        .union_all(newest_first(calls.where(Missed.recall == recall)).limit(1).select_from(peewee.SQL("*")))
        .union_all(attempts("number", Attempt.number == number, number_since, number_most))
        .union_all(attempts("prefix", Attempt.prefix == prefix, prefix_since, prefix_most))
        .union_all(attempts("everything", peewee.SQL("TRUE"), since, most))
    )


def cases(transaction: Transaction, missed_ids: Sequence[int], caps: CapsOf) -> dict[int, Case]:
    """By missed call: its reason and wait, its recall, and all that the gates of that one ask."""
    query = (
        Missed.select(
            Missed.id,
            Missed.phone,
            Missed.reason,
            Missed.timewait,
            Recall.number,
            peewee.fn.COALESCE(Recall.queue, Missed.queue).alias("queue"),
            Recall.state,
            Recall.attempts,
            Recall.due_at,
            Recall.expires_at,
        )
        .join(Recall, on=(Missed.recall == Recall.id))
        .where(Missed.id << [missed for missed in missed_ids if 0 < missed <= LARGEST_ID])
    )
    rows = transaction.rows(query)
    found = _cases(transaction, rows, caps)
    return {row["id"]: case for row, case in zip(rows, found, strict=True)}


def breakers(transaction: Transaction) -> list[Breaker]:
    query = (
        Breakers.select(Breakers.prefix, Breakers.tripped_at, Breakers.recalls)
        .where(Breakers.tripped_at.is_null(False))
        .order_by(Breakers.prefix)
    )
    return [Breaker(**row) for row in transaction.rows(query)]


def trip(transaction: Transaction, case: Case, caps: CapRules, by: str) -> None:
    """Stops all recalls to the prefix of this case's number."""
    prefix = caps.prefix_of(case.number)
    recalls = gates.counted_for_breaker(case, caps, transaction.now)
    tripped = {"tripped_at": transaction.now, "recalls": recalls}
    written = Breakers.insert(prefix=prefix, **tripped).on_conflict(
        conflict_target=[Breakers.prefix], update=tripped
    )
    transaction.rows(written.returning(Breakers.id))
    note(transaction, by, "breaker tripped", prefix=prefix, recalls=recalls)


def reset(transaction: Transaction, prefixes: Sequence[str] | None, by: str) -> int:
    """Lets recalls to these prefixes, or to all, go out again; how many were stopped. What was dialled before
    does not count for the breaker any more."""
    gates_change(transaction)
    stopped = {breaker.prefix for breaker in breakers(transaction)}
    chosen = sorted(stopped if prefixes is None else stopped & set(prefixes))
    for prefix in chosen:
        transaction.change(
            Breakers.update(tripped_at=None, reset_at=transaction.now, reset_by=by).where(
                Breakers.prefix == prefix
            )
        )
        note(transaction, by, "breaker reset", prefix=prefix)
    return len(chosen)


@dataclass(slots=True)
class _OnRecord:
    """What was looked up for a number of cases, by number, prefix or queue."""

    entries: dict[str, DoNotCall] = field(default_factory=dict)
    breakers: dict[str, Row] = field(default_factory=dict)
    numbers: dict[str, list[datetime]] = field(default_factory=dict)
    prefixes: dict[str, list[datetime]] = field(default_factory=dict)
    everything: list[datetime] = field(default_factory=list)
    up: dict[str, int] = field(default_factory=dict)


def _cases(transaction: Transaction, rows: Sequence[Row], caps: CapsOf) -> list[Case]:
    """In the order of the rows: columns of `recall`; `phone`, `reason`, `timewait` of a missed call."""
    rules = [caps(row["queue"]) for row in rows]
    record = _looked_up(transaction, rows, rules)
    return [_case(transaction.now, row, rule, record) for row, rule in zip(rows, rules, strict=True)]


def _case(now: datetime, row: Row, caps: CapRules, record: _OnRecord) -> Case:
    number = row["number"] or ""
    prefix = caps.prefix_of(number)
    breaker = record.breakers.get(prefix, {})
    usage = Usage(
        number=_cut(record.numbers.get(number, []), now - DAY, caps.per_number),
        prefix=_cut(record.prefixes.get(prefix, []), now - _prefix_span(caps), _prefix_cap(caps)),
        everything=_cut(record.everything, now - MINUTE, caps.per_minute),
        queue=record.up.get(row["queue"], 0) if caps.at_once else 0,
    )
    return Case(
        number=number or row["phone"],
        reason=Reason(row["reason"]),
        timewait=row["timewait"],
        queue=row["queue"],
        state=State(row["state"]),
        attempts=row["attempts"],
        due_at=row["due_at"],
        expires_at=row["expires_at"],
        entry=record.entries.get(number),
        tripped=breaker.get("tripped_at"),
        counted_from=breaker.get("reset_at"),
        usage=usage,
    )


def _looked_up(transaction: Transaction, rows: Sequence[Row], rules: Sequence[CapRules]) -> _OnRecord:
    numbers = sorted({row["number"] for row in rows if row["number"]})
    prefixes = sorted(
        {rule.prefix_of(row["number"]) for row, rule in zip(rows, rules, strict=True) if row["number"]}
    )
    record = _OnRecord()
    if numbers:
        now = transaction.now
        of_prefix = _breaker_of(prefixes[0]) if len(prefixes) == 1 else _breakers_of(prefixes)
        record.entries = dnc.entries(transaction, numbers)
        record.breakers = {row["prefix"]: row for row in transaction.rows(of_prefix)}
        if most := max(rule.per_number for rule in rules):
            record.numbers = _times(transaction, Attempt.number, numbers, now - DAY, most)
        if most := max(map(_prefix_cap, rules)):
            since = now - max(map(_prefix_span, rules))
            record.prefixes = _times(transaction, Attempt.prefix, prefixes, since, most)
    if most := max((rule.per_minute for rule in rules), default=0):
        record.everything = _everything(transaction, most)
    if queues := sorted({row["queue"] or "" for row, rule in zip(rows, rules, strict=True) if rule.at_once}):
        record.up = _up(transaction, queues)
    return record


def _times(
    transaction: Transaction, column: peewee.Field, keys: Sequence[str], since: datetime, most: int
) -> dict[str, list[datetime]]:
    """By number or prefix when attempts were made, newest first."""
    if len(keys) == 1:
        of_one = _of_number if column is Attempt.number else _of_prefix
        query: Query = of_one(keys[0], since, most)
    else:  # each has about as many as its cap lets through
        query = (
            Attempt.select(column.alias("key"), Attempt.made_at)
            .where(Attempt.counts, column << list(keys), Attempt.made_at > since)
            .order_by(Attempt.made_at.desc())
        )
    found: dict[str, list[datetime]] = {}
    for row in transaction.rows(query):
        found.setdefault(row["key"], []).append(row["made_at"])
    return found


def _breakers_of(prefixes: Sequence[str]) -> Query:
    return Breakers.select().where(Breakers.prefix << prefixes)


@prepared
def _breaker_of(prefix: str) -> Query:
    return Breakers.select().where(Breakers.prefix == prefix)


@prepared
def _of_number(number: str, since: datetime, most: int) -> Query:
    query = _latest(Attempt.number.alias("key")).where(Attempt.number == number)
    return query.where(Attempt.made_at > since).limit(most)


@prepared
def _of_prefix(prefix: str, since: datetime, most: int) -> Query:
    query = _latest(Attempt.prefix.alias("key")).where(Attempt.prefix == prefix)
    return query.where(Attempt.made_at > since).limit(most)


@prepared
def _of_all(since: datetime, most: int) -> Query:
    return _latest().where(Attempt.made_at > since).limit(most)


def _latest(*columns: Query) -> peewee.ModelSelect[Attempt]:
    return Attempt.select(*columns, Attempt.made_at).where(Attempt.counts).order_by(Attempt.made_at.desc())


def _everything(transaction: Transaction, most: int) -> list[datetime]:
    return [row["made_at"] for row in transaction.rows(_of_all(transaction.now - MINUTE, most))]


def _up(transaction: Transaction, queues: Sequence[str]) -> dict[str, int]:
    query = (
        Recall.select(Recall.queue, peewee.fn.COUNT(peewee.SQL("*")).alias("up"))
        .where(Recall.queue << list(queues), Recall.state << HELD)
        .group_by(Recall.queue)
    )
    return {row["queue"]: row["up"] for row in transaction.rows(query)}


def _cut(times: Sequence[datetime], since: datetime, most: int) -> tuple[datetime, ...]:
    return tuple(at for at in times[:most] if at > since) if times else ()


def _prefix_cap(caps: CapRules) -> int:
    return max(caps.per_prefix, caps.breaker)


def _prefix_span(caps: CapRules) -> timedelta:
    return max(
        HOUR if caps.per_prefix else _NONE, timedelta(seconds=caps.breaker_within) if caps.breaker else _NONE
    )
