"""Whatever is told and changed in whatever order: one open recall per client, and no cap is exceeded."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from freeswitch_callback.core import gates
from freeswitch_callback.core.facts import Claim, ClosedAs, Outcome, Settlement
from freeswitch_callback.core.gates import CapRules, DoNotCall, Gate, Verdict
from freeswitch_callback.ledger import Filter, Ledger
from freeswitch_callback.ledger.database import Transaction, open_database
from freeswitch_callback.ledger.models import Attempt, Missed, Recall, Table
from tests.integration.ledger.given import NOON, Clock, by_caps, judged, missed, opening

NUMBERS = ["+4930000001", "+4930000002", "+4940000001"]
SCOPES = ["default", "other"]
QUEUES = ["support@default", "sales@other"]
CLIENTS = st.tuples(st.sampled_from(NUMBERS), st.sampled_from([*SCOPES, ""]))

SETTLEMENTS = [
    Settlement(Outcome.BUSY, retry_in=30.0),
    Settlement(Outcome.NO_ANSWER, closed_as=ClosedAs.EXHAUSTED),
    Settlement(Outcome.CONNECTED, closed_as=ClosedAs.RECALLED),
    Settlement(Outcome.AGENT_NO_ANSWER, retry_in=0.0, counted=False, agent_failed=True),
    Settlement(Outcome.UNKNOWN),
]
SHUT = [
    Verdict(Gate.HOURS, False, "until nine", NOON + timedelta(hours=9)),
    Verdict(Gate.CAPS, False, "a moment ago", NOON),
    Verdict(Gate.SERVED, False, "who knows"),
    Verdict(Gate.COUNTRY, False, "never", for_good=True),
]
ENTRIES = ["+4930000001", "+4930*", "+*"]

often = st.one_of(
    st.tuples(st.just("record"), CLIENTS, st.booleans(), st.sampled_from([None, None, None, "own"])),
    st.tuples(st.just("dial"), st.sampled_from(NUMBERS[:2]), st.sampled_from(SETTLEMENTS)),
    st.tuples(st.just("dial"), st.sampled_from(NUMBERS[:2]), st.just(SETTLEMENTS[0])),
    st.tuples(st.just("claim"), st.sampled_from(["engine-1", "engine-2"])),
    st.tuples(st.just("settle"), st.integers(0, 9), st.sampled_from(SETTLEMENTS)),
    st.tuples(st.just("forward"), st.sampled_from([1, 30, 59, 60, 600, 3599, 3600, 43_200])),
)
seldom = st.one_of(
    st.tuples(st.just("complete"), CLIENTS, st.integers(0, 9)),
    st.tuples(st.just("retract"), st.integers(0, 9)),
    st.tuples(st.just("abort"), st.integers(0, 9)),
    st.tuples(st.just("adopt"), st.integers(0, 9)),
    st.tuples(st.just("hold"), st.sampled_from(SHUT)),
    st.tuples(st.just("served"), CLIENTS),
    st.tuples(st.just("reached"), CLIENTS),
    st.tuples(st.just("close"), st.sampled_from(NUMBERS)),
    st.tuples(st.just("replay"), st.booleans()),
    st.tuples(st.just("postpone"), st.sampled_from([-60.0, 0.0, 3600.0])),
    st.tuples(st.just("forbid"), st.sampled_from(ENTRIES), st.sampled_from([None, 60.0, 7200.0])),
    st.tuples(st.just("allow"), st.sampled_from(ENTRIES)),
    st.sampled_from([("expire",), ("reconsider",), ("reset",)]),
)
operations = st.one_of(often, often, seldom)
limits = st.sampled_from([0, 1, 1, 2, 3])
rules = st.builds(
    CapRules, per_number=limits, per_prefix=limits, at_once=limits, per_minute=limits, breaker=limits
)


class World:
    """A ledger, and beside it what was claimed when, in our own books."""

    def __init__(self, ledger: Ledger, clock: Clock, caps: CapRules) -> None:
        self.ledger, self.clock, self.caps = ledger, clock, caps
        self.told: list[str] = []
        self.claims: list[Claim] = []
        self.dialled: dict[int, tuple[datetime, str]] = {}

    def do(self, what: str, *how) -> None:  # type: ignore[no-untyped-def]
        getattr(self, f"_{what}")(*how)

    def _record(self, client, settled, blocked) -> None:  # type: ignore[no-untyped-def]
        number, scope = client
        call = missed(phone=number, settled=settled)
        queue = QUEUES[scope == "other"]
        self.ledger.record(call, opening(number, scope=scope, queue=queue, blocked=blocked, expire=1e5))
        self.told.append(call.call_uuid)

    def _complete(self, client, which) -> None:  # type: ignore[no-untyped-def]
        number, scope = client
        for uuid in _one(self.told, which):
            self.ledger.record(missed(phone=number, call_uuid=uuid), opening(number, scope=scope))

    def _retract(self, which: int) -> None:
        for uuid in _one(self.told, which):
            self.ledger.retract("fs1", uuid)

    def _claim(self, engine: str) -> None:
        for due in self.ledger.due(None, 2):
            taken = judged(self.ledger, due.id, engine=engine, lease=60.0, **by_caps(self.caps))
            if isinstance(taken, Claim):
                assert not any(entry.until is None for entry in self.ledger.forbidden(taken.number))
                self.claims.append(taken)
                self.dialled[taken.attempt] = self.clock.now, taken.number

    def _dial(self, number: str, settlement: Settlement) -> None:
        """Another call of this client, and an attempt that comes to its end."""
        self._record((number, "default"), True, None)
        self.ledger.reconsider()
        self._claim("engine-1")
        self._settle(-1, settlement)

    def _abort(self, which: int) -> None:
        for claim in _one(self.claims, which):
            if self.ledger.abort(claim):
                self.claims.remove(claim)
                del self.dialled[claim.attempt]

    def _settle(self, which: int, settlement: Settlement) -> None:
        for claim in _one(self.claims, which):
            self.ledger.dialling(claim)
            if settlement.outcome is Outcome.CONNECTED:
                self.ledger.connected(claim, self.clock.now, "1001")
            assert self.ledger.settle(claim, settlement, self.clock.now)
            self.claims.remove(claim)
            if not settlement.counted:
                del self.dialled[claim.attempt]

    def _adopt(self, which: int) -> None:
        for claim in _one(self.ledger.overdue(), which):
            adopted = self.ledger.adopt(claim, "engine-3", 60.0)
            assert adopted is not None
            self.claims[self.claims.index(claim)] = adopted

    def _hold(self, verdict: Verdict) -> None:
        self.ledger.hold([(due.id, verdict) for due in self.ledger.due(None, 3)], "engine-1")

    def _served(self, client) -> None:  # type: ignore[no-untyped-def]
        self.ledger.close_served(*client, ClosedAs.SERVED_INBOUND, "fs1")

    def _reached(self, client) -> None:  # type: ignore[no-untyped-def]
        self.ledger.close_reached(*client, "fs1")

    def _close(self, number: str) -> None:
        self.ledger.close_recalls(Filter(number=number), "admin", ClosedAs.CANCELLED)

    def _replay(self, ask: bool) -> None:
        def today(call):  # type: ignore[no-untyped-def]
            scope = gates.scope_of(call["queue"])
            return opening(call["number"] or NUMBERS[0], scope=scope, look_in=30.0, expire=1e5)

        self.ledger.replay(Filter(), "admin", 1e5, today if ask else None)

    def _postpone(self, by: float) -> None:
        self.ledger.postpone(Filter(), self.clock.now + timedelta(seconds=by), "admin")

    def _forbid(self, number: str, seconds: float | None) -> None:
        until = None if seconds is None else self.clock.now + timedelta(seconds=seconds)
        self.ledger.forbid([DoNotCall(number, until=until)], "admin")

    def _allow(self, number: str) -> None:
        self.ledger.allow(number, "admin")

    def _expire(self) -> None:
        self.ledger.expire()

    def _reconsider(self) -> None:
        self.ledger.reconsider()

    def _reset(self) -> None:
        self.ledger.reset_breakers(None, "admin")

    def _forward(self, seconds: int) -> None:
        self.clock.forward(seconds=seconds)

    def check(self, transaction: Transaction) -> None:
        recalls = transaction.rows(Recall.select())
        open_ones = Counter((row["number"], row["scope"]) for row in recalls if row["state"] != "closed")
        assert not [client for client, times in open_ones.items() if times > 1]
        assert all(row["look_at"] >= row["due_at"] for row in recalls if row["state"] == "waiting")
        known = {row["id"] for row in recalls}
        assert {row["recall"] for row in transaction.rows(Missed.select())} <= known
        live = [row["recall"] for row in transaction.rows(Attempt.select()) if row["outcome"] is None]
        held = {row["id"] for row in recalls if row["claimed_by"] is not None}
        assert sorted(live) == sorted(held) == sorted(claim.recall for claim in self.claims)

        by_number, by_prefix, everything = {}, {}, []
        for at, number in self.dialled.values():
            by_number.setdefault(number, []).append(at)
            by_prefix.setdefault(self.caps.prefix_of(number), []).append(at)
            everything.append(at)
        for times in by_number.values():
            assert _most_within(times, gates.DAY) <= (self.caps.per_number or len(times))
        for times in by_prefix.values():
            assert _most_within(times, gates.HOUR) <= (self.caps.per_prefix or len(times))
        assert _most_within(everything, gates.MINUTE) <= (self.caps.per_minute or len(everything))
        up = Counter(claim.queue for claim in self.claims)
        assert not self.caps.at_once or max(up.values(), default=0) <= self.caps.at_once


def _one(things, number):  # type: ignore[no-untyped-def]
    """One of them, if there are any."""
    return [things[number % len(things)]] if things else []


def _most_within(times: list[datetime], span: timedelta) -> int:
    """The most that fall into any window of this length."""
    return max((sum(end - span < at <= end for at in times) for end in times), default=0)


def _empty(transaction: Transaction) -> None:
    """Who is referred to goes last."""
    for table in sorted(Table.__subclasses__(), key=lambda table: (table is Recall, table is Attempt)):
        transaction.change(table.delete())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(caps=rules, story=st.lists(operations, min_size=10, max_size=60))
def test_one_open_recall_per_client_and_no_cap_exceeded(  # type: ignore[no-untyped-def]
    ledger_url, timed: Ledger, clock: Clock, caps: CapRules, story
) -> None:
    clock.now = NOON
    database = open_database(ledger_url)
    database.write(_empty)
    world = World(timed, clock, caps)
    for what, *how in story:
        world.do(what, *how)
        database.read(world.check)
    database.close()
