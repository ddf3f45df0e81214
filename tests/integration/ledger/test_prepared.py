"""A prepared query is the plain one: the same rows, the same conversions, without building the text again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peewee import fn

from freeswitch_callback.core.facts import Reason
from freeswitch_callback.ledger import Ledger
from freeswitch_callback.ledger.database import Database, Transaction, open_database
from freeswitch_callback.ledger.models import CLOSED, Missed, Recall, Talk
from freeswitch_callback.ledger.prepared import Query, prepared
from tests.integration.ledger.given import ANNA, BORIS, NOON, missed, opening, waiting


def calls_of(node: str, call_uuid: str) -> Query:
    return Missed.select().where(Missed.node == node, Missed.call_uuid == call_uuid)


def open_recall(number: str, scope: str) -> Query:
    return Recall.select().where(Recall.number == number, Recall.scope == scope, Recall.state != CLOSED)


def calls_before(number: str, at: datetime) -> Query:
    calls = Missed.select(Missed.id, Missed.calldate, Missed.extra, Missed.settled)
    return calls.where((Missed.number == number) & (Missed.calldate <= at)).order_by(Missed.id)


def newest(recall: int) -> Query:
    return Missed.select(fn.MAX(Missed.calldate)).where(Missed.recall == recall)


def of_numbers(*numbers: str) -> Query:
    return Recall.select().where(Recall.number << numbers).order_by(Recall.id)


def reached(operator: str | None, at: datetime, number: str) -> Query:
    return Missed.update(recalldate=at, recalloperator=operator).where(Missed.number == number)


def talk(number: str, agent: str, at: datetime) -> Query:
    written = Talk.insert(number=number, scope="default", agent=agent, at=at).on_conflict(
        conflict_target=[Talk.number, Talk.scope], update={"agent": agent, "at": at}, where=(Talk.at <= at)
    )
    return written.returning(Talk.id, Talk.agent, Talk.at)


def in_one_order(found: Any) -> str:
    """Of rows, with their columns sorted."""
    if isinstance(found, list):
        return repr([in_one_order(row) for row in found])
    return repr(sorted(found.items()) if isinstance(found, dict) else found)


@pytest.fixture
def database(ledger_url: str) -> Any:
    with closing(open_database(ledger_url)) as opened:
        yield opened


@pytest.fixture
def told(ledger: Ledger) -> Ledger:
    """Some calls of Anna's and Boris's."""
    waiting(ledger)
    waiting(ledger, BORIS)
    ledger.record(missed(extra={"language": "de"}, member_uuid="m", reason=Reason.EXIT_KEY), opening())
    return ledger


def both(database: Database, build: Callable[..., Query], *arguments: Any, how: str = "rows") -> Any:
    """What the query gives, prepared, the second time; and what it gives plain."""
    ready = prepared(build)
    run = {"rows": Transaction.rows, "value": Transaction.value, "row": Transaction.row}[how]
    database.read(lambda t: run(t, ready(*arguments)))
    return database.read(lambda t: (run(t, ready(*arguments)), run(t, build(*arguments))))


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize(
    ("build", "arguments", "how"),
    [
        (open_recall, (ANNA, "default"), "row"),
        (open_recall, ("+4930\x00", "default"), "row"),
        (calls_before, (ANNA, NOON), "rows"),
        (calls_before, (ANNA, NOON.astimezone(timezone(timedelta(hours=5)))), "rows"),
        (calls_before, (ANNA, NOON - timedelta(microseconds=1)), "rows"),
        (newest, (1,), "value"),
        (of_numbers, (ANNA,), "rows"),
        (of_numbers, (ANNA, BORIS, "+1"), "rows"),
    ],
)
def test_a_prepared_query_gives_what_the_plain_one_gives(
    database: Database, build: Callable[..., Query], arguments: tuple[Any, ...], how: str
) -> None:
    ready, plain = both(database, build, *arguments, how=how)

    assert ready == plain
    assert in_one_order(ready) == in_one_order(plain)  # of the same types, too


@pytest.mark.usefixtures("told")
def test_its_rows_can_be_locked_and_limited(database: Database) -> None:
    ready = prepared(of_numbers)

    def work(t: Transaction) -> tuple[Any, ...]:
        several = ready(ANNA, BORIS)
        return t.rows(t.locked(several)), t.rows(t.locked(several, skip=True)), t.row(t.locked(several))

    (anna, boris), skipping, first = database.write(work)

    assert (anna["number"], boris["number"]) == (ANNA, BORIS)
    assert skipping == [anna, boris]
    assert first == anna


def test_it_is_built_once_for_each_number_of_arguments(told: Ledger, database: Database) -> None:
    built = []

    @prepared
    def counted(*numbers: str) -> Query:
        built.append(len(numbers))
        return of_numbers(*numbers)

    def work(t: Transaction) -> list[int]:
        return [len(t.rows(counted(*numbers))) for numbers in ((ANNA,), (BORIS,), ("+1",), (ANNA, BORIS))]

    assert database.read(work) == [1, 1, 0, 2]
    assert built == [1, 2]


def test_what_it_changes_is_counted_and_a_value_may_be_none(told: Ledger, database: Database) -> None:
    ready = prepared(reached)

    assert database.write(lambda t: t.change(ready("1001", NOON, ANNA))) == 2
    assert database.write(lambda t: t.change(ready(None, NOON, BORIS))) == 1
    assert database.write(lambda t: t.change(ready("1002", NOON, "+1"))) == 0

    operators = Missed.select(Missed.recalloperator, Missed.recalldate).order_by(Missed.id)
    assert database.read(lambda t: t.rows(operators)) == [
        {"recalloperator": "1001", "recalldate": NOON},
        {"recalloperator": None, "recalldate": NOON},
        {"recalloperator": "1001", "recalldate": NOON},
    ]


def test_what_it_writes_on_a_conflict_is_what_the_plain_one_writes(database: Database) -> None:
    ready = prepared(talk)
    later, earlier = NOON + timedelta(hours=1), NOON - timedelta(hours=1)

    first = database.write(lambda t: t.rows(ready(ANNA, "1001", NOON)))
    then = database.write(lambda t: t.rows(ready(ANNA, "1002", later)))
    late = database.write(lambda t: t.rows(ready(ANNA, "1003", earlier)))

    assert [row["agent"] for row in (*first, *then, *late)] == ["1001", "1002"]
    assert then[0]["at"] == later
    assert then[0]["id"] == first[0]["id"]


def test_a_comparison_with_none_is_refused(database: Database) -> None:
    """It would be IS NULL: another statement, and with the remembered one it is true of no row."""
    ready: Callable[..., Any] = prepared(open_recall)

    with pytest.raises(ValueError, match="compares with None"):
        database.read(lambda t: t.rows(ready(None, "default")))


@pytest.mark.parametrize(
    "build",
    [
        lambda number: Recall.select().where(Recall.number.startswith(number)),
        lambda number: Recall.select().where(Recall.number == f"+{number}"),
        lambda number: Recall.select().where(Recall.number == ("+1" if number else "+2")),
        lambda number: Recall.select().where(Recall.due_at > number - timedelta(hours=1)),
    ],
)
def test_a_query_that_looks_at_its_arguments_is_refused(
    database: Database, build: Callable[[str], Query]
) -> None:
    with pytest.raises((TypeError, AttributeError)):
        database.read(lambda t: t.rows(prepared(build)("+49")))


def test_a_row_is_written_and_changed_with_what_its_columns_make_of_it(database: Database) -> None:
    at = datetime(2026, 3, 2, 15, 0, tzinfo=timezone(timedelta(hours=3)))

    def work(t: Transaction) -> Any:
        row = t.insert(Talk, number="+49\x00", scope="s" * 300, agent="1001", at=at)
        changed = t.update(Talk, row, agent="\udc80"), t.update(Talk, row + 1, agent="nobody")
        return changed, t.row(Talk.select().where(Talk.id == row))

    changed, row = database.write(work)

    assert changed == (1, 0)
    assert row | {"id": 0} == {
        "id": 0,
        "number": "+49\\x00",
        "scope": "s" * 255,
        "agent": "\\udc80",
        "at": datetime(2026, 3, 2, 12, 0, tzinfo=UTC),
    }


anything = st.text(max_size=20)
times = st.datetimes(timezones=st.timezones(), min_value=datetime(1900, 1, 2), max_value=datetime(2200, 1, 1))
details = st.dictionaries(anything, anything, max_size=3)


@pytest.mark.usefixtures("told")
@given(number=anything, scope=anything, at=times, extra=details, wait=st.integers())
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_written_both_ways_is_the_same(
    database: Database, number: str, scope: str, at: datetime, extra: dict[str, str], wait: int
) -> None:
    call: dict[str, Any] = {
        "phone": number,
        "calldate": at,
        "calledid": scope,
        "timewait": wait,
        "reason": Reason.BUSY,
        "node": "fs1",
        "caller_name": number,
        "hangup_cause": "",
        "extra": extra,
        "recall": 1,
        "settled": True,
        "recorded_at": at,
        "number": number,
    }
    ready_calls = prepared(calls_before)

    def work(t: Transaction) -> None:
        t.change(Missed.delete())  # of the example before
        t.change(Missed.insert(call_uuid="plain", **call))
        t.insert(Missed, call_uuid="prepared", **call)
        plain, ready = t.rows(Missed.select().order_by(Missed.id))
        differing = {"id", "call_uuid"}
        assert {k: v for k, v in plain.items() if k not in differing} == {
            k: v for k, v in ready.items() if k not in differing
        }
        assert t.rows(ready_calls(number, at)) == t.rows(calls_before(number, at))
        assert len(t.rows(ready_calls(number, at))) == 2

    database.write(work)
