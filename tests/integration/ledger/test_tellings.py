"""A burst is taken in one transaction, and leaves on record what one by one would have left."""

from __future__ import annotations

import itertools
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from typing import Any

import gevent
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from freeswitch_callback.core.facts import ClosedAs, Reached, Served
from freeswitch_callback.ledger import Answered, CalledOut, Filter, Ledger, NotTaken, Recorded, Telling, Told
from freeswitch_callback.ledger import tellings as module
from freeswitch_callback.ledger.postgresql import Postgresql
from tests.integration.ledger.given import ANNA, BORIS, NOON, missed, opening


def told(call_uuid: str, number: str | None = ANNA, **said: Any) -> Told:
    call = missed(call_uuid=call_uuid, phone=number or "", **said)
    return Told(call, opening(number))


def answered(call_uuid: str, number: str | None = ANNA, later: float = 60.0) -> Answered:
    at = NOON + timedelta(seconds=later)
    return Answered(Served("fs1", call_uuid, number or "", None, "1001", at), number, "default")


def called_out(number: str = ANNA) -> CalledOut:
    return CalledOut(
        Reached("fs1", "out", number, "1001", "default", NOON + timedelta(minutes=1), 60.0), number
    )


def on_record(ledger: Ledger) -> list[tuple[Any, ...]]:
    """All of it that does not depend on when, and under which id, it was written."""
    rows = sorted(ledger.listing(Filter()), key=lambda row: row["call_uuid"])
    names = ("call_uuid", "number", "timewait", "state", "closed_as", "recalloperator", "operator")
    lines = {row["id"]: row["recall"] for row in rows}
    first_of = {
        recall: min(r["call_uuid"] for r in rows if r["recall"] == recall) for recall in lines.values()
    }
    return [(*(row[name] for name in names), first_of[row["recall"]]) for row in rows]


def test_a_burst_of_calls_is_one_transaction(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    write = ledger._database.write

    def counted(work: Any) -> Any:
        written.append(work)
        return write(work)

    monkeypatch.setattr(ledger._database, "write", counted)

    outcomes: list[Any] = ledger.take_all([told(f"c{n}", f"+49301{n:06d}") for n in range(150)])

    assert len(written) == 1
    assert all(isinstance(outcome, Recorded) and outcome.new for outcome in outcomes)
    assert ledger.count(Filter()) == 150
    ids = {row["call_uuid"]: row["id"] for row in ledger.listing(Filter(limit=None))}
    assert [outcome.missed_id for outcome in outcomes] == [ids[f"c{n}"] for n in range(150)]


def test_nothing_to_tell_is_no_trouble(ledger: Ledger) -> None:
    assert ledger.take_all([]) == []


def test_a_call_told_twice_in_one_burst_is_one_row(ledger: Ledger) -> None:
    early = told("c1", settled=False, timewait=1, operator="1001")
    outcomes: list[Any] = ledger.take_all([early, told("c1", timewait=30)])
    first, again = outcomes

    assert (first.missed_id, first.new) == (again.missed_id, True)
    assert not again.new
    [row] = ledger.listing(Filter())
    assert (row["timewait"], row["operator"]) == (30, "1001")


def test_a_client_who_calls_twice_in_one_burst_has_one_recall(ledger: Ledger) -> None:
    outcomes: list[Any] = ledger.take_all([told("c1"), told("c2")])
    first, again = outcomes

    assert first.recall_id == again.recall_id


def test_what_is_taken_back_in_the_same_burst_is_not_on_record(ledger: Ledger) -> None:
    ledger.take_all([told("c1", settled=False), told("c2", BORIS), answered("c1")])

    assert [row["call_uuid"] for row in ledger.listing(Filter())] == ["c2"]


def test_who_was_answered_before_they_called_again_in_the_same_burst_is_called_back(ledger: Ledger) -> None:
    ledger.take_all(
        [
            told("c1"),
            answered("x", later=1.0),
            told("c2", calldate=NOON + timedelta(seconds=5)),
            called_out(BORIS),
        ]
    )

    assert {row["call_uuid"]: row["state"] for row in ledger.listing(Filter())} == {
        "c1": "closed",
        "c2": "waiting",
    }


def test_a_burst_with_something_no_database_takes_is_not_taken_at_all(ledger: Ledger) -> None:
    bad = told("c2", BORIS)
    bad = replace(bad, opening=replace(bad.opening, priority="high"))  # type: ignore[arg-type]

    with pytest.raises((NotTaken, ValueError)):
        ledger.take_all([told("c1"), bad])

    assert ledger.count(Filter()) == 0


calls = st.sampled_from(["c1", "c2", "c3"])
numbers = st.sampled_from([ANNA, BORIS, None])
members = st.sampled_from(["m1", "m2", None])
anything = st.one_of(
    st.builds(told, calls, numbers, settled=st.booleans(), member_uuid=members, timewait=st.integers(0, 9)),
    st.builds(answered, calls, numbers),
    st.builds(called_out, st.sampled_from([ANNA, BORIS])),
)


@given(burst=st.lists(anything, max_size=12))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_burst_leaves_what_its_tellings_leave_one_by_one(ledger: Ledger, burst: list[Telling]) -> None:
    def after(take: Any) -> list[tuple[Any, ...]]:
        ledger.close_recalls(Filter(), "test", ClosedAs.CANCELLED)
        ledger.purge(Filter(), "test")
        take()
        return on_record(ledger)

    one_by_one = after(lambda: [ledger.take_all([telling]) for telling in burst])
    together = after(lambda: ledger.take_all(burst))

    assert together == one_by_one


def test_the_turns_keep_the_order_of_what_belongs_together() -> None:
    burst: list[Telling] = [
        told("c1"),
        told("c2", BORIS),
        told("c1"),
        answered("c3", BORIS),
        told("c4", "+1"),
    ]

    assert list(module._turns([told.about for told in burst])) == [[0, 1, 4], [2, 3]]


def test_two_engines_take_the_same_bursts_at_once_and_never_wait_for_each_other_in_a_circle(
    ledger: Ledger, other_ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each hears the same calls, in an order of its own."""
    transactions = []
    transact = Postgresql._transact

    def counted(self: Postgresql, begin: str, work: Any) -> Any:
        transactions.append(begin)
        return transact(self, begin, work)

    monkeypatch.setattr(Postgresql, "_transact", counted)
    burst = [told(f"c{n}", f"+49301{n:06d}", member_uuid=f"m{n}") for n in range(40)]
    orders = itertools.cycle([burst, burst[::-1]])

    for _ in range(3):
        mine, theirs = next(orders), next(orders)
        gevent.joinall(
            [gevent.spawn(ledger.take_all, mine), gevent.spawn(other_ledger.take_all, theirs)],
            raise_error=True,
        )

    assert len(transactions) in (0, 6)  # none was run again; SQLite has one writer anyway
    assert ledger.count(Filter()) == 40


def test_an_engine_that_takes_a_burst_again_changes_nothing(ledger: Ledger, ledger_url: str) -> None:
    burst: list[Telling] = [told("c1", settled=False), told("c2", BORIS), answered("c1"), told("c3", None)]
    ledger.take_all(burst)
    before = on_record(ledger)
    with closing(Ledger(ledger_url)) as other:
        other.take_all(burst)
    assert on_record(ledger) == before
