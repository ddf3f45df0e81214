"""Statements that PostgreSQL keeps: said once as they are, then by a name; and what happens when it is not
known how much of what was said has been heard."""

from __future__ import annotations

import re

import gevent
import peewee
import pytest

from freeswitch_callback.ledger import recalls, server_side
from freeswitch_callback.ledger.database import Database, Transaction
from freeswitch_callback.ledger.models import WAITING, Dnc, Recall
from freeswitch_callback.ledger.prepared import Query, addition, prepared
from tests.integration.ledger.given import MANY_RECALLS, NOON, statements
from tests.postgres import Postgres


@prepared
def listed(number: str) -> Query:
    return Dnc.select(Dnc.number, Dnc.note).where(Dnc.number == number)


@prepared
def waiting_for(queue: str) -> Query:
    return Recall.select(Recall.id).where(Recall.state == WAITING, Recall.queue == queue)


def asked(database: Database, number: str = "+12025550100") -> object:
    return database.read(lambda t: t.row(listed(number)))


def listing(number: str, note: str = "") -> Query:
    return addition(Dnc)(number=number, added_at=NOON, added_by="anna", note=note)


def what_was_said(said: list[str]) -> list[str]:
    """With numbers for names, by when they were first said."""
    names: dict[str, str] = {}

    def number(found: re.Match[str]) -> str:
        return names.setdefault(found[0], f"kept_{len(names) + 1}")

    begun = [re.sub("^BEGIN[^;]*(; |$)", "", text) for text in said]
    texts = [
        text for text in begun if text and not text.startswith(("SET", "COMMIT", "SELECT clock_timestamp"))
    ]
    return [re.sub("kept_[0-9a-f]{24}", number, text) for text in texts]


def test_what_is_said_often_is_kept(database: Database, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(server_side, "SAID_BEFORE", 2)
    with statements() as said:
        database.write(lambda t: t.together(listing("+12025550100", "asked")))
        said.clear()
        found = [asked(database) for _ in range(5)]
    assert found == [{"number": "+12025550100", "note": "asked"}] * 5
    plain = 'SELECT "t1"."number", "t1"."note" FROM "dnc" AS "t1" WHERE ("t1"."number" = {}) LIMIT %s'
    assert what_was_said(said) == [
        plain.format("%s"),
        plain.format("%s"),
        f"PREPARE kept_1 AS {plain.format('$1')}; EXECUTE kept_1 (%s)",
        "EXECUTE kept_1 (%s)",
        "EXECUTE kept_1 (%s)",
    ]


def test_changes_go_out_together_with_what_is_asked_next(database: Database):
    def work(transaction: Transaction) -> object:
        transaction.together(listing("+12025550101"), listing("+12025550102", "it's 100 % %s \\ so"))
        return transaction.row(listed("+12025550102"))

    database.write(lambda t: t.together(listing("+12025550100")))
    with statements() as said:
        assert database.write(work) == {"number": "+12025550102", "note": "it's 100 % %s \\ so"}
    [text] = what_was_said(said)
    assert text.count("EXECUTE kept_1 ") == 2
    assert text.count("PREPARE") == 1  # of the question; how to write is known


def test_whoever_goes_back_forgets_what_may_not_have_been_heard(database: Database):
    """What was to be kept was in a message that never left, or behind a statement that failed."""

    def gives_up(transaction: Transaction) -> None:
        transaction.together(listing("+12025550100"))
        raise LookupError

    def meets_another(transaction: Transaction) -> None:
        transaction.together(listing("+12025550101"), listing("+12025550101"))
        transaction.row(listed("+12025550101"))

    with pytest.raises(LookupError):
        database.write(gives_up)
    database.write(lambda t: t.together(listing("+12025550102")))
    with pytest.raises(peewee.IntegrityError):
        database.write(meets_another)
    assert asked(database, "+12025550101") is None
    assert asked(database, "+12025550102") is not None
    [server] = database._idle  # the same connection all the time
    assert {
        name for (name,) in server.execute_sql("SELECT name FROM pg_prepared_statements").fetchall()
    } == set(server.kept._names.values())


def test_a_killed_greenlet_leaves_nothing_behind_that_others_trip_over(database: Database):
    def sleeps(transaction: Transaction) -> None:
        transaction.together(listing("+12025550100"))
        transaction.database.execute_sql("SELECT pg_sleep(30)")

    greenlet = gevent.spawn(database.write, sleeps)
    while not database._room.counter < 10:
        gevent.sleep(0)
    greenlet.kill()
    assert asked(database) is None
    database.write(lambda t: t.together(listing("+12025550100")))
    assert asked(database) is not None


@pytest.mark.parametrize("pooler", ["has it not", "has it already"])
def test_behind_a_pooler_that_takes_another_connection_nothing_is_kept(database: Database, pooler: str):
    """One statement may be unknown there, or known though it was never said; never is it another one."""
    database.write(lambda t: t.together(listing("+12025550100", "asked")))
    assert asked(database) is not None
    [server] = database._idle
    if pooler == "has it not":
        server.execute_sql("DEALLOCATE ALL")
    else:
        server.kept.forget()
    with statements() as said:
        assert asked(database) == {"number": "+12025550100", "note": "asked"}
        said.clear()
        assert database.glance(lambda t: t.row(listed("+12025550100"))) is not None
        database.write(lambda t: t.together(listing("+12025550101")))
    assert not [text for text in said if "kept_" in text]
    assert asked(database, "+12025550101") is not None


def test_a_name_says_all_of_a_statement(database: Database):
    limits = (4, 8)
    with statements() as said:
        for limit in limits:
            database.read(lambda t, limit=limit: t.rows(listed("+12025550100").limit(limit)))
    names = {re.search("kept_[0-9a-f]{24}", text)[0] for text in said if "PREPARE" in text}  # type: ignore[index]
    assert len(names) == len(limits)


def test_two_that_are_written_alike_are_one(database: Database):
    @prepared
    def the_same(number: str) -> Query:
        return Dnc.select(Dnc.number, Dnc.note).where(Dnc.number == number)

    with statements() as said:
        asked(database)
        database.read(lambda t: t.row(the_same("+12025550100")))
    assert [text.partition(" ")[0] for text in what_was_said(said)] == ["PREPARE", "EXECUTE"]


def test_a_table_that_was_upgraded_meanwhile(database: Database, name: str, postgres_server: Postgres):
    """Another release of this program changed a column: PostgreSQL refuses the plan, and gets another."""
    database.write(lambda t: t.together(listing("+12025550100", "asked")))
    assert asked(database) == {"number": "+12025550100", "note": "asked"}
    postgres_server.run("ALTER TABLE dnc ALTER note TYPE varchar", name)
    assert asked(database) == {"number": "+12025550100", "note": "asked"}


def test_what_is_always_the_same_is_part_of_the_text(database: Database):
    """An index may be for one state alone, and a walk along it is right for a few rows, not for all."""
    with statements() as said:
        database.read(lambda t: t.rows(waiting_for("support@default").limit(4)))
    [text] = what_was_said(said)
    assert "\"state\" = 'waiting'" in text
    assert text.endswith("LIMIT %s; EXECUTE kept_1 (%s)")  # psycopg2 writes the 4 there
    kept = database._idle[0].execute_sql("SELECT statement FROM pg_prepared_statements").fetchall()
    assert "LIMIT 4" in kept[0][0]


def test_now_and_then_a_statement_is_kept_anew(database: Database, monkeypatch: pytest.MonkeyPatch):
    """One that was planned for an empty table."""
    monkeypatch.setattr(server_side, "ANEW_AFTER", 3)
    with statements() as said:
        for _ in range(7):
            asked(database)
    assert [text.partition(" AS ")[0] for text in what_was_said(said)] == [
        "PREPARE kept_1",
        "EXECUTE kept_1 (%s)",
        "DEALLOCATE kept_1; PREPARE kept_1",
        "EXECUTE kept_1 (%s)",
        "EXECUTE kept_1 (%s)",
        "DEALLOCATE kept_1; PREPARE kept_1",
        "EXECUTE kept_1 (%s)",
    ]


def test_a_connection_keeps_so_many(database: Database, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(server_side, "MOST", 1)
    with statements() as said:
        asked(database)
        database.read(lambda t: t.rows(waiting_for("support@default")))
        asked(database)
    assert [text.partition(" ")[0] for text in what_was_said(said)] == ["PREPARE", "SELECT", "EXECUTE"]


def test_the_plan_for_all_values_is_a_walk_along_one_index_too(
    database: Database, name: str, postgres_server: Postgres
):
    """PostgreSQL plans with the values first; then for all there may be, if that is not dearer."""
    for rows in MANY_RECALLS:
        postgres_server.run(rows, name)
    postgres_server.run("ANALYZE", name)

    def look() -> list[str]:
        with statements() as said:
            database.glance(lambda t: recalls.due(t, ["queue 0"], 10))
        return said

    for _ in range(10):
        look()
    server = database._idle[0]
    generic = "SELECT name, generic_plans FROM pg_prepared_statements WHERE statement LIKE '%%LIMIT 16%%'"
    [(kept, times)] = server.execute_sql(generic).fetchall()
    assert times >= 4
    server.execute_sql("SET plan_cache_mode = force_generic_plan")
    arguments = ("queue 0", "queue 0", 2147483647)
    steps = [
        step for (step,) in server.execute_sql(f"EXPLAIN EXECUTE {kept} (%s, %s, %s)", arguments).fetchall()
    ]
    assert not [step for step in steps if "Seq Scan on recall" in step or "Sort" in step]
