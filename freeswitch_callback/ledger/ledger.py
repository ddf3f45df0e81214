"""The ledger as the other rooms see it.

Every method is one transaction (or, where many rows change, a row of short ones), blocks only the calling
greenlet, and raises the errors that `database.Database` names. Times are aware UTC datetimes by the
database's clock, durations are seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import gevent
import peewee

from freeswitch_callback.core import facts
from freeswitch_callback.core.catchup import OnRecord
from freeswitch_callback.core.facts import Claim, ClosedAs, Decision, Due, Mode, Opening, Settlement
from freeswitch_callback.core.gates import CapRules, Case, DoNotCall, Verdict
from freeswitch_callback.ledger import (
    catchup,
    claims,
    dnc,
    figures,
    late,
    leases,
    limits,
    migrations,
    operations,
    operators,
    recalls,
    recording,
    retention,
    views,
)
from freeswitch_callback.ledger import report as reports
from freeswitch_callback.ledger.claims import Judge
from freeswitch_callback.ledger.database import Clock, Result, Row, Transaction, Work, open_database
from freeswitch_callback.ledger.figures import Figures
from freeswitch_callback.ledger.filters import NEWEST_FIRST, Filter, Order, RecallFilter
from freeswitch_callback.ledger.following import Following
from freeswitch_callback.ledger.health import Trouble, Watched
from freeswitch_callback.ledger.journal import note
from freeswitch_callback.ledger.late import Late
from freeswitch_callback.ledger.leases import Held, Reserved, Stranded
from freeswitch_callback.ledger.limits import Breaker, CapsOf
from freeswitch_callback.ledger.operations import OpeningOf, Replayed
from freeswitch_callback.ledger.operators import Became, Card
from freeswitch_callback.ledger.people import People
from freeswitch_callback.ledger.recalls import Ahead
from freeswitch_callback.ledger.recording import Recorded
from freeswitch_callback.ledger.report import Report
from freeswitch_callback.ledger.retention import Affected
from freeswitch_callback.ledger.tellings import NotTaken, Outcome, Telling, take_all
from freeswitch_callback.ledger.views import Away, Listed, Shown, Summary

Item = TypeVar("Item")

Tell = Callable[[int], None]

USUAL_CAPS = CapRules()

_GIVE_WAY = 0.11
"""Seconds."""


class Ledger:
    """What is on record. Connects when it is first used, and again after the database was away."""

    def __init__(
        self, url: str, *, password: str | None = None, pool: int = 10, clock: Clock | None = None
    ) -> None:
        """Raises `ConfigurationError` for a URL that names no database. A `password` given here goes before
        one in the URL; `pool` bounds the connections to PostgreSQL; a `clock` replaces the database's."""
        self._database = Watched(open_database(url, password=password, pool=pool, clock=clock))
        self.people = People(self._database)
        self.following = Following(self._database)

    @property
    def trouble(self) -> Trouble | None:
        """What was wrong with the database when it was last used; None if nothing was."""
        return self._database.trouble

    @property
    def name(self) -> str:
        """The database as messages may call it: without the password."""
        return self._database.name

    @property
    def path(self) -> Path | None:
        """The file, of a database that is one."""
        return self._database.path

    def close(self) -> None:
        self._database.close()

    def listen(self, on_change: Callable[[], None]) -> None:
        """Calls `on_change` whenever another ledger may have made a recall due sooner, and when something
        may have been missed. It is a hint: who polls as well loses nothing. Runs until its greenlet is
        killed; on SQLite it returns at once, as nobody tells."""
        self._database.listen(on_change)

    # The schema

    def migrate(self, *, create_folder: bool = False) -> list[str]:
        """Creates or upgrades the tables in place; the names of the steps taken. Twice, or by two processes
        at once, is fine. Raises `NotOurDatabase` and `SchemaTooNew`, and then has changed nothing."""
        return self._database.migrate(
            lambda t: migrations.migrate(t.database, t.now, self.name), create_folder=create_folder
        )

    def schema_version(self) -> int:
        return self._database.read(lambda t: migrations.examine(t.database, self.name))

    def now(self) -> datetime:
        """The database's clock."""
        return self._database.read(lambda t: t.now)

    def verify_writable(self) -> None:
        """Raises `DatabaseReadOnly`, or whatever else keeps tables from being written; changes no row."""
        self._database.write(lambda t: leases.renew(t, "", 0.0))

    def verify(self) -> None:
        """Raises `NotOurDatabase`, `SchemaTooNew` or `SchemaTooOld` unless the database can be worked
        with."""
        migrations.check(self.schema_version(), self.name)

    # Missed calls come in

    def record(self, missed: facts.Missed, opening: Opening) -> Recorded:
        """Writes a missed call down, or completes it, together with its recall; see `recording.record`."""
        return self._sooner(lambda t: recording.record(t, missed, opening))

    def take_all(self, tellings: Sequence[Telling]) -> list[Outcome]:
        """What events told, in one transaction; see `ledger.tellings`. What became of each, in order. Raises
        `NotTaken`, and has taken none then."""

        def taken(transaction: Transaction) -> list[Outcome]:
            outcomes = take_all(transaction, tellings)
            if any(isinstance(outcome, Recorded) for outcome in outcomes):
                transaction.tell()
            return outcomes

        try:
            return self._database.write(taken)
        except peewee.PeeweeException as error:
            raise NotTaken(f"{self.name}: {error}") from error

    def record_late(
        self, missed: facts.Missed, opening: Opening, ended: datetime, other_names: Collection[str] = ()
    ) -> Late:
        """As `record`, of a call that was over long ago, at `ended`: calls nobody who was reached since, and
        nobody too late; see `late.record`."""
        return self._sooner(lambda t: late.record(t, missed, opening, ended, other_names))

    def served_late(
        self,
        served: facts.Served,
        number: str | None,
        scope: str,
        *,
        started: datetime,
        ended: datetime,
        other_names: Collection[str] = (),
    ) -> int:
        """As `retract` and `close_served` in one, of a call that lasted from `started` to `ended`; how many
        recalls were closed. Without a `number` none is."""
        return self._database.write(
            lambda t: late.served(t, served, number, scope, started, ended, other_names)
        )

    def known_calls(self, node: str, call_uuids: Collection[str]) -> set[str]:
        """Those of these calls (some hundred) that are on record."""
        return self._database.read(lambda t: late.known(t, node, call_uuids))

    def retract(self, node: str, call_uuid: str) -> bool:
        """The call was served after all: takes it back. False if it is not on record, or was tried
        already."""
        return self._database.write(lambda t: recording.retract(t, node, call_uuid))

    def close_served(
        self,
        number: str,
        scope: str,
        closed_as: ClosedAs,
        by: str,
        *,
        operator: str | None = None,
        at: datetime | None = None,
    ) -> int:
        """Closes the waiting recall of a client who was talked to by `operator`, at `at` (now if not given);
        how many that were (0 or 1). Its missed calls get them as `recalloperator` and `recalldate`. A recall
        with a missed call that came in later than `at` is left alone."""
        return self._database.write(
            lambda t: recording.close_served(t, number, scope, closed_as, by, operator, at)
        )

    def close_reached(
        self, number: str, domain: str, by: str, *, operator: str | None = None, at: datetime | None = None
    ) -> int:
        """As `close_served`, after an operator of this domain called the client: the recall whose scope that
        is, or else the only open one of the number, is closed as `served_outbound`."""
        return self._database.write(lambda t: recording.close_reached(t, number, domain, by, operator, at))

    def note_talk(self, number: str, scope: str, agent: str, at: datetime | None = None) -> None:
        """Whom this client talked to last, at `at` (now if not given): `Due.last_agent`, until a later talk
        is noted."""
        self._database.write(lambda t: recording.note_talk(t, number, scope, agent, at))

    # What nobody listened to

    def on_record(
        self, node: str, members: Sequence[str], numbers: Sequence[str], since: datetime
    ) -> OnRecord:
        """What is on record of these members (uuids) of a node and these numbers (E.164) from `since` on."""
        return self._database.read(lambda t: catchup.on_record(t, node, members, numbers, since))

    def known_member(self, node: str, member_uuid: str) -> bool:
        """Whether a call of this member of a queue is on record."""
        return self._database.read(lambda t: catchup.known_member(t, node, member_uuid))

    def note_heard(self, node: str, until: datetime) -> None:
        """All events of this node up to `until`, by its own time, were taken in."""
        self._database.write(lambda t: catchup.note_heard(t, node, until))

    def note_on_the_line(self, node: str, phones: Mapping[str, datetime]) -> None:
        """Each of these (as text, at least one) had left this node's queues, and was on the line then, by
        its own time."""
        self._database.write(lambda t: catchup.note_on_the_line(t, node, phones))

    # Recalls go out

    def due(self, queues: Collection[str] | None, limit: int) -> list[Due]:
        """What is to be looked at now, of these queues or of all; by priority, then who has been for
        longest."""
        return self._database.glance(lambda t: recalls.due(t, queues, limit))

    def ahead(self, queue: str, limit: int) -> Ahead:
        """As `due`, of one queue, to be kept for a while: what that begins with, and how long it holds."""
        return self._database.read(lambda t: recalls.ahead(t, queue, limit))

    def recall(self, recall: int) -> Due | None:
        """One recall as `due` would give it, whether it is due or not; None if there is none."""
        return self._database.read(lambda t: recalls.one(t, recall))

    def next_due(self, due_for: float | None = None) -> float | None:
        """Seconds until a waiting recall is to be looked at (0.0 or less: one is), None if none waits.
        `due_for`: those that have been due for longer than so many seconds are left out."""
        return self._database.read(lambda t: recalls.next_due(t, due_for))

    def expire(self) -> int:
        """Closes the waiting recalls whose time is over; how many."""
        return self._until_none(recalls.expire)

    def cases(self, missed_ids: Sequence[int], caps: CapsOf) -> dict[int, Case]:
        """What the gates ask of these missed calls and their recalls, by missed call; those that do not exist
        are left out."""
        found: dict[int, Case] = {}
        for batch in _batched(missed_ids, limits.BATCH):
            found |= self._database.read(partial(limits.cases, missed_ids=batch, caps=caps))
        return found

    def hold(self, shut: Sequence[tuple[int, Verdict]], by: str) -> int:
        """Recalls whose first shut gate this is: looked at again when it opens, or closed as `blocked` if it
        never does; how many. What somebody has by now is left alone."""
        return self._database.write(lambda t: recalls.hold(t, shut, by))

    def reconsider(self) -> int:
        """What gates keep back is looked at as soon as it is due: they may have opened by other means than
        time; how many."""
        reconsidered, last = 0, 0
        while ids := self._sooner(partial(recalls.reconsider, after=last)):
            reconsidered, last = reconsidered + len(ids), ids[-1]
        return reconsidered

    def claim(
        self,
        recall: int,
        *,
        engine: str,
        lease: float,
        node: str,
        agent: str | None,
        mode: Mode,
        call_uuid: str,
        job_uuid: str,
        judge: Judge | None = None,
        caps: CapRules = USUAL_CAPS,
        sent_to: str | None = None,
    ) -> Claim | Verdict | None:
        """Takes a recall for `lease` seconds, with its attempt and its agent's reservation on record. None if
        it is not to be had any more, or the agent is reserved. `sent_to`, a `Core-UUID`: the originate will
        be sent there next, and that is on record too; else say so by `dialling`.

        `judge` is asked before, of what is on record and under locks that let nobody else use a cap up
        meanwhile; the shut gate it names is returned, the recall is held by it, and a breaker is tripped.
        """
        return self._database.write(
            lambda t: claims.claim(
                t,
                recall,
                engine=engine,
                lease=lease,
                node=node,
                agent=agent,
                mode=mode,
                call_uuid=call_uuid,
                job_uuid=job_uuid,
                judge=judge,
                caps=caps,
                sent_to=sent_to,
            )
        )

    # The results of a claim: False, and nothing changed, if a newer claim exists or the recall's state
    # forbids it.

    def abort(self, claim: Claim, *, unsent: bool = False, released: bool = False) -> bool:
        """Nothing was sent: the recall waits again, the attempt is deleted. `unsent`: also where it is on
        record as about to be sent, by whoever would have sent it. `released`: with its reservation, as
        FreeSWITCH has the agent back."""
        return self._sooner(lambda t: claims.abort(t, claim, unsent=unsent, released=released))

    def dialling(self, claim: Claim, core_uuid: str | None = None) -> bool:
        """To be written before the originate is sent, to the FreeSWITCH with this `Core-UUID`."""
        return self._database.write(lambda t: claims.dialling(t, claim, core_uuid))

    def answered(self, claim: Claim, at: datetime) -> bool:
        return self._database.write(lambda t: claims.answered(t, claim, at))

    def connected(self, claim: Claim, at: datetime, operator: str | None) -> bool:
        """Client and operator talk; `recalldate` and `recalloperator` of the recall's missed calls are
        set."""
        return self._database.write(lambda t: claims.connected(t, claim, at, operator))

    def settle(
        self, claim: Claim, settlement: Settlement, ended_at: datetime, *, released: bool = False
    ) -> bool:
        """The attempt is over. The reservation stays until the agent was `released`, then or by `release`."""
        write = self._database.write if settlement.retry_in is None else self._sooner
        return write(lambda t: claims.settle(t, claim, settlement, ended_at, released=released))

    # What operators say

    def decide(self, agent: str, decision: Decision) -> bool:
        """An agent's word on an attempt of theirs. False if it comes too late, or another came first."""
        return self._sooner(lambda t: operators.decide(t, agent, decision))

    def decisions(self, attempts: Sequence[int]) -> list[Decision]:
        """What was said of these attempts."""
        return self._database.read(lambda t: operators.decisions(t, attempts))

    def obey(self, claim: Claim, decision: Decision, *, released: bool = False) -> bool:
        """As `abort`; the recall is postponed or closed as `rejected`, as the agent said."""
        return self._sooner(lambda t: operators.obey(t, claim, decision, released=released))

    def remarks(self, recall: int) -> list[Row]:
        """Of one recall, newest first."""
        return self._database.read(lambda t: operators.remarks_of(t, [recall]))

    def remark(self, recall: int, who: str, text: str) -> int:
        """Adds a remark to a recall; its id. Raises `NotFound`."""
        return self._database.write(lambda t: operators.remark(t, recall, who, text))

    def note_result(
        self,
        attempt: int,
        agent: str,
        result: facts.Result,
        by: str,
        *,
        retry_in: float,
        most: int,
        expire: float,
    ) -> Became:
        """What an agent's conversation came to; it may put the recall back. See `operators.result`."""
        return self._sooner(
            lambda t: operators.result(
                t, attempt, agent, result, by, retry_in=retry_in, most=most, expire=expire
            )
        )

    def card(self, attempt: int) -> Card:
        """What whoever calls this client is to know. Raises `NotFound`."""
        return self._database.read(lambda t: operators.card_of(t, attempt))

    def at_hand(self, agent: str) -> int | None:
        """The attempt that is this agent's now: offered to them, ringing, or talking."""
        return self._database.glance(lambda t: operators.at_hand(t, agent))

    def latest(self, agent: str) -> int | None:
        """The attempt of this agent that ended last."""
        return self._database.glance(lambda t: operators.latest(t, agent))

    # Leases and reservations

    def renew(self, engine: str, lease: float) -> int:
        """Extends all leases of an engine to `lease` seconds from now; how many it holds."""
        return self._database.write(lambda t: leases.renew(t, engine, lease))

    def overdue(self) -> list[Claim]:
        """The claims whose lease has ended."""
        return self._database.read(leases.overdue)

    def held(self, engine: str | None = None, node: str | None = None) -> list[Held]:
        """The claims that engines hold, and how far each attempt came."""
        return self._database.read(lambda t: leases.held(t, engine, node))

    def stranded(self, nodes: Collection[str]) -> list[Stranded]:
        """Recalls whose lease has ended at a FreeSWITCH that is none of `nodes`."""
        return self._database.read(lambda t: leases.stranded(t, nodes))

    def next_lease_end(self, node: str, but: str) -> float | None:
        """Seconds until the first lease of another engine than `but` on an attempt at this node ends (0.0 or
        less: one has), None if there is none."""
        return self._database.read(lambda t: leases.next_end(t, node, but))

    def adopt(self, claim: Claim, engine: str, lease: float) -> Claim | None:
        """Takes over a claim that is overdue, or that an earlier run under the same engine name left; the
        same attempt under a new fencing number. None if it is neither, or somebody was faster."""
        return self._database.write(lambda t: leases.adopt(t, claim, engine, lease))

    def reservations(self, node: str | None = None) -> list[Reserved]:
        return self._database.read(lambda t: leases.reservations(t, node))

    def reserve(self, node: str, agent: str, engine: str) -> int | None:
        """Holds an agent for no attempt, so that no other engine gets them; the reservation's id, None if
        somebody holds them."""
        return self._database.write(lambda t: leases.reserve(t, node, agent, engine))

    def take(self, reservation: int, engine: str) -> bool:
        """Takes over a reservation that no attempt needs any more, to let the agent go; False if it is gone,
        or another engine sees to it."""
        return self._database.write(lambda t: leases.take(t, reservation, engine))

    def strike(self, reservation: int) -> bool:
        """Forgets this reservation, and no later one of the same agent."""
        return self._database.write(lambda t: leases.strike(t, reservation))

    # Whom not to call

    def forbid(self, entries: Sequence[DoNotCall], by: str) -> int:
        """Adds entries to the do-not-call list, or replaces those of the same number; how many."""
        forbidden = sum(
            self._database.write(partial(dnc.forbid, entries=batch, by=by))
            for batch in _batched(entries, dnc.BATCH)
        )
        if any(entry.until is not None for entry in entries):  # sooner, perhaps, than what they replaced
            self.reconsider()
        return forbidden

    def allow(self, number: str, by: str) -> bool:
        """Removes an entry (`+4930123456`, `+4930*`); False if there is none. What was closed as `blocked`
        because of it stays closed until a replay."""
        return self._sooner(lambda t: dnc.allow(t, number, by))

    def forbidden(self, number: str | None = None) -> list[DoNotCall]:
        """The do-not-call list by number, or the entries that fit one number; expired ones too."""
        return self._database.read(lambda t: dnc.forbidden(t, number))

    def forbidden_page(self, size: int, after: str = "") -> list[DoNotCall]:
        """As `forbidden`, so many entries behind the one for `after`."""
        return self._database.read(lambda t: dnc.page(t, size, after))

    def open_by_state(self, queues: tuple[str, ...] | None = None) -> dict[str, int]:
        """How many recalls are in each state, but for those that are closed; of all queues, or of those that
        these patterns name."""
        return self._database.read(lambda t: views.open_by_state(t, queues))

    def breakers(self) -> list[Breaker]:
        """Those that stop recalls now, by prefix."""
        return self._database.read(limits.breakers)

    def reset_breakers(self, prefixes: Sequence[str] | None, by: str) -> int:
        """Lets recalls to these prefixes, or to all, go out again; how many were stopped."""
        reset = self._database.write(lambda t: limits.reset(t, prefixes, by))
        if reset:
            self.reconsider()
        return reset

    # What people see and change

    def listing(self, chosen: Filter) -> Iterator[Listed]:
        """The missed calls, newest first; read in pages, so that a long list costs no memory."""
        left: int | None = chosen.limit
        after: tuple[Any, int] | None = None
        while left is None or left > 0:
            size = views.PAGE if left is None else min(left, views.PAGE)
            rows = self.page(chosen, size, after)
            yield from rows
            if len(rows) < size:
                return
            after = NEWEST_FIRST.place(rows[-1])
            left = None if left is None else left - size

    def recalls(self, chosen: RecallFilter, size: int, before: int | None = None) -> list[dict[str, Any]]:
        """So many recalls, the newest first, with the id of their newest missed call as `missed`; those
        before this one."""
        return self._database.read(lambda t: views.recalls(t, chosen, size, before))

    def count(self, chosen: Filter) -> int:
        return self._database.read(lambda t: views.count(t, chosen))

    def page(
        self, chosen: Filter, size: int, after: tuple[Any, int] | None = None, order: Order = NEWEST_FIRST
    ) -> list[Listed]:
        """`size` missed calls in this order, behind the place `after`."""
        return self._database.read(lambda t: views.page(t, chosen, after, size, order))

    def show(self, missed_id: int, queues: tuple[str, ...] | None = None) -> Shown:
        """Raises `NotFound`, also for a call of another queue than these patterns name."""
        return self._database.read(lambda t: views.show(t, missed_id, queues))

    def agents_away(self, node: str, since: datetime) -> list[Away]:
        """The agents of a node who did not answer or declined a recall made after `since`, newest last."""
        return self._database.read(lambda t: views.agents_away(t, node, since))

    def summary(self) -> Summary:
        return self._database.read(views.summary)

    def report(
        self,
        since: datetime,
        until: datetime,
        queue: str | None = None,
        *,
        zone: tzinfo = UTC,
        queues: tuple[str, ...] | None = None,
    ) -> Report:
        """The figures of the calls that came in from `since` to before `until`; hours by `zone`. `queues`:
        shell patterns of those that count."""
        return self._database.read(lambda t: reports.report(t, since, until, queue, zone, queues))

    def figures(self, since: datetime, queues: tuple[str, ...] | None = None) -> Figures:
        """What a supervisor watches, of these queues (patterns); see `ledger.figures`."""
        return self._database.read(lambda t: figures.figures(t, since, queues))

    def by_hour(
        self, since: datetime, queues: tuple[str, ...] | None = None
    ) -> list[tuple[datetime, int, int]]:
        """By the hour: how many were missed, and how many of them reached."""
        return self._database.read(lambda t: figures.by_hour(t, since, queues))

    def queues_seen(self, patterns: tuple[str, ...] | None = None) -> list[str]:
        return self._database.read(lambda t: figures.queues_seen(t, patterns))

    # `tell` is told how many of the chosen calls were gone through by now.

    def replay(
        self,
        chosen: Filter,
        by: str,
        expire: float,
        opening_of: OpeningOf | None = None,
        tell: Tell | None = None,
    ) -> Replayed:
        """Attempts 0, due now, a new expiry: `expire` seconds, or what `opening_of` says; see
        `operations.replay`."""
        replayed = Replayed()
        for batch in self._batches(chosen, tell):
            replayed += self._sooner(
                partial(operations.replay, recalls=batch, by=by, expire=expire, opening_of=opening_of)
            )
        return replayed

    def close_recalls(
        self, chosen: Filter, by: str, closed_as: ClosedAs, reason: str = "", tell: Tell | None = None
    ) -> int:
        """Closes the recalls that wait or are unknown; how many. `reason` becomes their note."""
        return sum(
            self._database.write(
                partial(operations.close, recalls=batch, by=by, closed_as=closed_as, reason=reason)
            )
            for batch in self._batches(chosen, tell)
        )

    def give_up(self, chosen: Filter, nodes: Collection[str], by: str) -> int:
        """Recalls that an engine has lost at a FreeSWITCH that is none of `nodes` are nobody's any more: they
        wait again if nothing was sent, or are unknown; how many. See `leases.give_up`."""
        return sum(
            self._sooner(partial(operations.give_up, recalls=batch, nodes=nodes, by=by))
            for batch in self._batches(chosen)
        )

    def postpone(self, chosen: Filter, until: datetime, by: str, tell: Tell | None = None) -> int:
        """The waiting recalls are due at `until`; how many. The expiry moves along."""
        return sum(
            self._sooner(partial(operations.postpone, recalls=batch, until=until, by=by))
            for batch in self._batches(chosen, tell)
        )

    def purgeable(self, chosen: Filter, *, anonymise: bool = False) -> Affected:
        """What `purge` would delete or anonymise."""

        def count(transaction: Transaction) -> Affected:
            ids = retention.chosen_ids(transaction, chosen, anonymise=anonymise)
            before = _swept_before(transaction, chosen)
            return retention.affected(transaction, ids, before, anonymise=anonymise)

        return self._database.read(count)

    def purge(self, chosen: Filter, by: str, *, anonymise: bool = False, tell: Tell | None = None) -> int:
        """Deletes missed calls whose recall is closed, with all that belongs to them, or makes them nobody's;
        how many. Their attempts no longer count for any cap. A filter that goes by age alone also takes what
        belongs to no missed call, a day old at least. `tell` is told how many are done by now; who is killed
        in between may begin again."""
        ids = self._database.read(lambda t: retention.chosen_ids(t, chosen, anonymise=anonymise))
        before = self._database.read(lambda t: _swept_before(t, chosen))
        batch_of = retention.anonymise if anonymise else retention.purge
        purged = 0
        for batch in _batched([missed for missed, _ in ids], retention.BATCH):
            purged += self._database.write(partial(batch_of, missed=batch))
            self._give_way()
            if tell is not None:
                tell(purged)
        if before is not None:
            self._sweep(before, anonymise)
        if purged:
            what = "anonymised" if anonymise else "purged"
            self._database.write(lambda t: note(t, by, what, calls=purged))
        return purged

    def _sweep(self, before: datetime, anonymise: bool) -> None:
        left = self._database.read(partial(retention.left_over, before=before, anonymise=anonymise))
        for table, rows in left.items():
            for batch in _batched(rows, retention.BATCH):
                self._database.write(
                    partial(retention.sweep, table=table, ids=batch, before=before, anonymise=anonymise)
                )
                self._give_way()

    def _give_way(self) -> None:
        """Between two batches, whoever else writes to an SQLite file gets in: they look for the lock every
        100 ms at the longest."""
        if self.path is not None:
            gevent.sleep(_GIVE_WAY)

    def size(self) -> int:
        """Bytes that the database takes on its disk."""
        return self._database.size()

    def tidy(self, *, vacuum: bool) -> None:
        """Takes what was written lately out of SQLite's log into its file. `vacuum`: also gives the room of
        what was deleted back, which takes as much room again for the time it lasts, and lets nobody write to
        an SQLite file meanwhile; for PostgreSQL to use again, and with fresh statistics."""
        self._database.tidy(vacuum=vacuum)

    def _sooner(self, work: Work[Result]) -> Result:
        """A transaction that, if it changed anything, may have made a recall due sooner: told to whoever
        listens."""

        def told(transaction: Transaction) -> Result:
            result = work(transaction)
            if result:
                transaction.tell()
            return result

        return self._database.write(told)

    def _until_none(self, batch: Work[int]) -> int:
        """Runs a batch, each in a transaction of its own, until it finds nothing more to change; how many."""
        changed = 0
        while some := self._database.write(batch):
            changed += some
        return changed

    def _batches(self, chosen: Filter, tell: Tell | None = None) -> Iterator[Sequence[int]]:
        """The recalls behind the chosen calls, each once, a transaction's worth at a time; `tell` is told how
        many calls were gone through. Of the time it takes a third at most: in the rest calls are made."""
        seen: set[int] = set()
        gone_through = 0
        began = time.monotonic()
        for calls in self._portions(chosen):
            recalls = {recall for _, recall in calls} - seen
            seen |= recalls
            if recalls:
                yield sorted(recalls)
            gone_through += len(calls)
            if tell is not None:
                tell(gone_through)
            gevent.sleep(2 * (time.monotonic() - began))
            began = time.monotonic()

    def _portions(self, chosen: Filter) -> Iterator[Sequence[tuple[int, int]]]:
        if chosen.limit is not None:
            newest = self._database.read(lambda t: views.newest_calls(t, chosen))
            yield from _batched(newest, operations.BATCH)
            return
        before: int | None = None
        while calls := self._database.read(
            lambda t: views.chosen_calls(t, chosen, operations.BATCH, before)  # noqa: B023  run at once
        ):
            yield calls
            before = calls[-1][0]


def _swept_before(transaction: Transaction, chosen: Filter) -> datetime | None:
    by_age = chosen.by_age
    return None if by_age is None else min(by_age, transaction.now - retention.RECENT)


def _batched(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))
