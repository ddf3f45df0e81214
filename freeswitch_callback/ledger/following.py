"""The journal as it grows: what has changed, for whoever looks on.

Ids are given when a transaction writes, and seen when it commits: with PostgreSQL a smaller one may appear
behind a larger one. So who follows keeps the gaps in mind for a while (`Follower`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import peewee

from freeswitch_callback.ledger.database import Database, Transaction
from freeswitch_callback.ledger.models import LARGEST_ID, Hook, Journal, Missed, Recall
from freeswitch_callback.ledger.prepared import Query
from freeswitch_callback.ledger.views import newest_first

MOST = 500
"""Entries read at once."""

MOST_GAPS = 1000


@dataclass(frozen=True, slots=True)
class Change:
    """One entry, with what its recall is by now: `missed` is its newest missed call. All of them None where
    there is no such recall (any more). `agent`: whom it concerns, if the entry says so."""

    id: int
    at: datetime
    what: str
    recall: int | None
    queue: str | None
    state: str | None
    missed: int | None
    agent: str | None


class Following:
    """As `Ledger`, of which it is a part: every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def newest(self) -> int:
        """The id of the newest entry, 0 without any."""
        return int(self._database.read(lambda t: t.value(_newest())))

    def hold(self, name: str, engine: str, lease: float) -> int | None:
        """Has this engine tell a target for `lease` seconds; up to which entry it was told. None if another
        engine does. A new target is told from now on."""

        def held(transaction: Transaction) -> int | None:
            transaction.alone(f"hook {name}")
            ours = {"engine": engine, "held_until": transaction.after(lease)}
            row = transaction.row(Hook.select().where(Hook.name == name))
            if row is None:
                newest = int(transaction.value(_newest()))
                transaction.insert(Hook, name=name, told=newest, **ours)
                return newest
            if row["engine"] not in (None, engine) and row["held_until"] > transaction.now:
                return None
            transaction.update(Hook, row["id"], **ours)
            return int(row["told"])

        return self._database.write(held)

    def told(self, name: str, engine: str, up_to: int) -> bool:
        """The target was told of everything up to this entry. False if another engine tells it by now."""
        ours = (Hook.name == name) & (Hook.engine == engine)
        return bool(self._database.write(lambda t: t.change(Hook.update(told=up_to).where(ours))))

    def let_go(self, name: str, engine: str) -> None:
        """Another engine may tell it at once."""
        ours = (Hook.name == name) & (Hook.engine == engine)
        self._database.write(lambda t: t.change(Hook.update(engine=None, held_until=None).where(ours)))

    def changes(self, after: int, and_of: Collection[int] = ()) -> list[Change]:
        """The first `MOST` entries behind this id, and those `and_of` these ids that there are; by id."""
        return self._database.read(lambda t: _changes(t, after, and_of))


def _newest() -> Query:
    return Journal.select(peewee.fn.COALESCE(peewee.fn.MAX(Journal.id), 0))


def _changes(transaction: Transaction, after: int, and_of: Collection[int]) -> list[Change]:
    newest = newest_first(Missed.select(Missed.id).where(Missed.recall == Journal.recall)).limit(1)
    columns = (Journal.id, Journal.at, Journal.what, Journal.recall, Journal.detail)
    query = Journal.select(*columns, Recall.queue, Recall.state, newest.alias("missed")).join(
        Recall, peewee.JOIN.LEFT_OUTER, on=(Journal.recall == Recall.id)
    )
    behind = Journal.id > min(max(after, 0), LARGEST_ID)
    rows = transaction.rows(query.where(behind).order_by(Journal.id).limit(MOST))
    if and_of:
        rows = transaction.rows(query.where(Journal.id << sorted(and_of)).order_by(Journal.id)) + rows
    return [_change(row) for row in rows]


def _change(row: dict[str, Any]) -> Change:
    detail = row.pop("detail")
    agent = detail.get("agent")
    return Change(**row, agent=agent if isinstance(agent, str) else None)


class Follower:
    """Where one who follows is. `safe` is an id up to which nothing is missing: who goes on behind it misses
    nothing, and may be told a little twice."""

    def __init__(self, newest: int, patience: float) -> None:
        self._newest = newest
        self._patience = patience
        self._gaps: dict[int, float] = {}  # ids that were not there, and since when

    @property
    def safe(self) -> int:
        return min(self._gaps, default=self._newest + 1) - 1

    def look(self, following: Following, now: float) -> Sequence[Change]:
        """What is new; `now` in seconds. Entries that were rolled back leave gaps for ever: after `patience`
        seconds nobody waits for them."""
        self._gaps = {id_: since for id_, since in self._gaps.items() if now - since < self._patience}
        changes = following.changes(self._newest, self._gaps)
        for change in changes:
            self._gaps.pop(change.id, None)
            if change.id > self._newest:
                first = max(self._newest + 1, change.id - MOST_GAPS)
                self._gaps.update(dict.fromkeys(range(first, change.id), now))
                self._newest = change.id
        while len(self._gaps) > MOST_GAPS:
            del self._gaps[min(self._gaps)]
        return changes
