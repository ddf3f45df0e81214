"""Whose database it is, how old it is, and how it becomes what this release needs."""

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

import peewee
import pytest

from freeswitch_callback.errors import DatabaseUnreachable, NotOurDatabase, SchemaTooNew, SchemaTooOld
from freeswitch_callback.ledger import Filter, Ledger, migrations, models
from freeswitch_callback.ledger.database import open_database
from freeswitch_callback.ledger.migrations import Step
from tests.integration.ledger.given import NOON, RETRY, STEPS, claim, missed, opening, waiting

NEXT = Step("next", ("ALTER TABLE missed ADD COLUMN later TEXT",))
BROKEN = Step("broken", ("ALTER TABLE missed ADD COLUMN half TEXT", "CREATE TABLE missed (id INTEGER)"))


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite://{tmp_path}/new.db"
    postgres = request.getfixturevalue("postgres_server")
    return postgres.url(postgres.create())


@pytest.fixture
def newer(monkeypatch):
    """Turns this program into a later release."""

    def become(step: Step) -> None:
        monkeypatch.setattr(migrations, "STEPS", (*migrations.STEPS, step))
        monkeypatch.setattr(migrations, "LATEST", migrations.LATEST + 1)

    return become


def columns(url: str, table: str) -> dict[str, bool]:
    found = open_database(url).read(lambda t: t.database.get_columns(table))
    return {column.name: column.null for column in found}


def test_an_empty_database_is_migrated_once(empty_url: str):
    with closing(Ledger(empty_url)) as ledger:
        with pytest.raises(SchemaTooOld, match="migrate"):
            ledger.verify()
        assert ledger.migrate() == STEPS
        assert ledger.migrate() == []
        ledger.verify()
        assert ledger.schema_version() == migrations.LATEST


def test_what_needs_the_tables_says_that_they_are_missing(empty_url: str):
    with closing(Ledger(empty_url)) as ledger, pytest.raises(SchemaTooOld, match="migrate"):
        ledger.record(missed(), opening())


def test_an_older_schema_is_upgraded_in_place(ledger: Ledger, newer):
    waiting(ledger)
    newer(NEXT)
    with pytest.raises(SchemaTooOld, match="migrate"):
        ledger.verify()
    assert ledger.migrate() == ["next"]
    ledger.verify()
    assert ledger.count(Filter()) == 1


NOW = "2026-03-02T12:00:00.000000+00:00"
ROWS_OF_SCHEMA_1 = (
    "INSERT INTO recall (id, number, scope, queue, state, priority, due_at, expires_at, attempts, failures,"
    " claimed_by, claim, lease_until, closed_as, closed_at, closed_by, note, created_at) VALUES"
    f" (1, '+4930111111', 'x', 'a@x', 'waiting', 2, '{NOW}', '2099-01-01T00:00:00.000000+00:00', 1, 0,"
    f" NULL, 3, NULL, NULL, NULL, NULL, '', '{NOW}'),"
    f" (2, '1001', 'x', 'a@x', 'dialling', 0, '{NOW}', '2099-01-01T00:00:00.000000+00:00', 0, 0,"
    f" 'e', 1, '{NOW}', NULL, NULL, NULL, '', '{NOW}'),"
    f" (3, NULL, 'x', 'a@x', 'closed', 0, '{NOW}', '{NOW}', 0, 0,"
    f" NULL, 0, NULL, 'blocked', '{NOW}', 'fs1', 'number', '{NOW}')",
    "INSERT INTO missed (phone, calldate, calledid, timewait, reason, node, call_uuid, queue, number,"
    " caller_name, hangup_cause, extra, recall, settled, recorded_at) VALUES"
    f" ('030', '{NOW}', '', 5, 'abandoned', 'fs1', 'u1', 'a@x', '+4930111111', '', '', '{{}}', 1, TRUE,"
    f" '{NOW}')",
    "INSERT INTO attempt (id, recall, node, agent, mode, call_uuid, job_uuid, made_at, answered_at, outcome,"
    " hangup_cause) VALUES"
    f" (1, 1, 'fs1', 'a', 'agent-first', 'c', 'j', '{NOW}', '{NOW}', 'busy', ''),"
    f" (2, 1, 'fs1', 'a', 'agent-first', 'c', 'j', '{NOW}', NULL, 'agent_no_answer', ''),"
    f" (3, 1, 'fs1', 'a', 'agent-first', 'c', 'j', '{NOW}', '{NOW}', 'agent_declined', ''),"
    f" (4, 1, 'fs1', 'a', 'client-first', 'c', 'j', '{NOW}', '{NOW}', 'agent_no_answer', ''),"
    f" (5, 2, 'fs1', 'a', 'agent-first', 'c', 'j', '{NOW}', NULL, NULL, '')",
    f"INSERT INTO reservation (node, agent, engine, attempt, made_at) VALUES ('fs1', 'a', 'e', 5, '{NOW}')",
    f"INSERT INTO journal (at, who, what, recall, detail) VALUES ('{NOW}', 'fs1', 'opened', 1, '{{}}')",
    f"INSERT INTO dnc (number, note, added_by, added_at) VALUES ('+4940*', 'why', 'admin', '{NOW}')",
)


def test_what_schema_1_held_is_there_in_schema_2(empty_url: str, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as earlier:
        earlier.setattr(migrations, "STEPS", migrations.STEPS[:1])
        earlier.setattr(migrations, "LATEST", 1)
        with closing(Ledger(empty_url)) as ledger:
            assert ledger.migrate() == ["tables"]
    with closing(open_database(empty_url)) as database:
        database.write(lambda t: [t.database.execute_sql(statement) for statement in ROWS_OF_SCHEMA_1])
    with closing(Ledger(empty_url)) as ledger:
        assert ledger.migrate() == [step.name for step in migrations.STEPS[1:]]
        (due,) = ledger.due(None, 9)
        assert (due.id, due.number, due.priority, due.attempts) == (1, "+4930111111", 2, 1)
        shown = ledger.show(due.missed_id)
        assert shown["recall"]["look_at"] == shown["recall"]["due_at"] == NOON
        columns = ("id", "number", "prefix", "counts")
        assert [tuple(row[column] for column in columns) for row in shown["attempts"]] == [
            (1, "+4930111111", "+493011", True),
            (2, "+4930111111", "+493011", False),  # the agent was not there, the client never rung
            (3, "+4930111111", "+493011", True),
            (4, "+4930111111", "+493011", True),
        ]
        (held,) = ledger.held()
        assert (held.claim.number, held.claim.attempt, len(ledger.reservations())) == ("1001", 5, 1)
        assert [(entry.number, entry.note) for entry in ledger.forbidden()] == [("+4940*", "why")]
        assert ledger.settle(held.claim, RETRY, NOON)
        assert claim(ledger, due.id)


def test_a_newer_schema_is_left_alone(ledger: Ledger, newer, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as later:
        later.setattr(migrations, "STEPS", (*migrations.STEPS, NEXT))
        ledger.migrate()
    for refused in (ledger.verify, ledger.migrate):
        with pytest.raises(SchemaTooNew, match=f"schema {migrations.LATEST + 1}"):
            refused()
    assert ledger.schema_version() == migrations.LATEST + 1


def test_a_step_that_fails_changes_nothing(ledger: Ledger, ledger_url: str, newer):
    newer(BROKEN)
    with pytest.raises(peewee.PeeweeException):
        ledger.migrate()
    assert ledger.schema_version() == migrations.LATEST - 1
    assert "half" not in columns(ledger_url, "missed")


def test_the_models_are_the_tables(ledger_url: str):
    for model in models.Table.__subclasses__():
        fields = {field.column_name: field.null for field in model._meta.sorted_fields}
        assert columns(ledger_url, model._meta.table_name) == fields


@pytest.mark.parametrize(
    "foreign",
    [
        ["CREATE TABLE invoices (id INTEGER)"],
        ["PRAGMA application_id = 252006674"],
        ["CREATE TABLE missed (id INTEGER)"],
        ["PRAGMA application_id = 1", "CREATE TABLE freeswitch_callback_schema (number INTEGER)"],
    ],
)
def test_somebody_elses_sqlite_file_is_not_touched(tmp_path: Path, foreign: list[str]):
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        for statement in foreign:
            connection.execute(statement)
        connection.commit()
    _refused(path)


def test_a_text_file_is_not_touched(tmp_path: Path):
    path = tmp_path / "notes.txt"
    path.write_text("shopping: milk, bread\n" * 100)
    _refused(path)


def _refused(path: Path) -> None:
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    with closing(Ledger(f"sqlite://{path}")) as ledger:
        for call in (ledger.verify, ledger.migrate, lambda: ledger.record(missed(), opening())):
            with pytest.raises(NotOurDatabase, match=str(path)):
                call()
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before
    assert list(path.parent.iterdir()) == [path]


def test_somebody_elses_postgresql_database_is_not_touched(postgres_server):
    name = postgres_server.create()
    postgres_server.run("CREATE TABLE invoices (id INTEGER)", name)
    with closing(Ledger(postgres_server.url(name))) as ledger:
        for call in (ledger.verify, ledger.migrate):
            with pytest.raises(NotOurDatabase, match="invoices"):
                call()
    assert postgres_server.run("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", name) == [
        ("invoices",)
    ]


def test_a_schema_of_our_own_in_somebody_elses_postgresql_database(postgres_server):
    name = postgres_server.create()
    postgres_server.run("CREATE TABLE invoices (id INTEGER)", name)
    postgres_server.run("CREATE SCHEMA callback", name)
    with closing(Ledger(postgres_server.url(name) + "&options=-csearch_path%3Dcallback")) as ledger:
        assert ledger.migrate() == STEPS
        assert waiting(ledger).new


def test_a_file_that_does_not_exist_is_not_made_by_looking(tmp_path: Path):
    path = tmp_path / "new.db"
    with closing(Ledger(f"sqlite://{path}")) as ledger, pytest.raises(SchemaTooOld, match=str(path)):
        ledger.verify()
    assert not path.exists()


def test_an_empty_file_becomes_the_database(tmp_path: Path):
    path = tmp_path / "empty.db"
    path.touch()
    with closing(Ledger(f"sqlite://{path}")) as ledger:
        assert ledger.migrate() == STEPS


def test_a_missing_folder_is_named_and_made_only_if_told(tmp_path: Path):
    path = tmp_path / "var" / "lib" / "callback.db"
    with closing(Ledger(f"sqlite://{path}")) as ledger:
        with pytest.raises(DatabaseUnreachable, match=f"folder {path.parent} does not exist"):
            ledger.migrate()
        assert ledger.migrate(create_folder=True) == STEPS


def test_a_folder_in_the_place_of_the_file(tmp_path: Path):
    with (
        closing(Ledger(f"sqlite://{tmp_path}")) as ledger,
        pytest.raises(DatabaseUnreachable, match="it is a folder"),
    ):
        ledger.migrate()


def test_a_folder_that_cannot_be_made(tmp_path: Path):
    (tmp_path / "file").touch()
    with (
        closing(Ledger(f"sqlite://{tmp_path}/file/sub/x.db")) as ledger,
        pytest.raises(DatabaseUnreachable, match="cannot be made"),
    ):
        ledger.migrate(create_folder=True)


def test_a_file_name_of_any_characters(tmp_path: Path):
    path = tmp_path / "50% of #1? ü'.db"
    with closing(Ledger(f"sqlite://{path}")) as ledger:
        ledger.migrate()
        assert waiting(ledger).new
    assert path.exists()


def test_an_old_encoding_is_refused(postgres_server):
    postgres_server.run("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    with (
        closing(Ledger(postgres_server.url("latin"))) as ledger,
        pytest.raises(Exception, match="UTF8"),
    ):
        ledger.migrate()
