"""What is particular to SQLite: one writer, somebody else's lock, a process that dies."""

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import gevent
import pytest

from freeswitch_callback.core.gates import CapRules
from freeswitch_callback.errors import DatabaseUnreachable
from freeswitch_callback.ledger import Filter, Ledger, limits, recalls
from freeswitch_callback.ledger.database import open_database
from freeswitch_callback.ledger.migrations import APPLICATION_ID
from freeswitch_callback.ledger.sqlite import Sqlite
from tests.integration.ledger.given import ANNA, waiting


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "callback.db"
    with closing(Ledger(f"sqlite://{path}")) as ledger:
        ledger.migrate()
    return path


@pytest.fixture
def lock(path: Path) -> Iterator[sqlite3.Connection]:
    """Another program that holds the write lock, until it is rolled back."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection


def test_somebody_elses_lock_stops_one_greenlet_not_the_hub(path: Path, lock: sqlite3.Connection):
    with closing(Ledger(f"sqlite://{path}")) as ledger:
        writer = gevent.spawn(waiting, ledger)
        assert ledger.count(Filter()) == 0, "readers go on"
        assert not writer.ready()
        lock.rollback()
        assert writer.get(timeout=10).new


def test_a_lock_that_does_not_go_away_is_reported(path: Path, lock: sqlite3.Connection):
    with closing(Sqlite(str(path), timeout=0.01)) as database:
        with pytest.raises(DatabaseUnreachable, match=r"locked.*fuser"):
            database.write(lambda t: None)
        lock.rollback()
        assert database.write(lambda t: 1) == 1


def test_what_counts_as_written_survives_a_power_cut(path: Path):
    asked = {}

    def look(t):
        for pragma in ("journal_mode", "synchronous", "foreign_keys", "application_id"):
            asked[pragma] = t.database.execute_sql(f"PRAGMA {pragma}").fetchone()[0]

    with closing(open_database(f"sqlite://{path}")) as database:
        database.write(look)
    full = 2
    assert asked == {
        "journal_mode": "wal",
        "synchronous": full,
        "foreign_keys": 1,
        "application_id": APPLICATION_ID,
    }


def test_what_need_not_survive_one_keeps_nobody_waiting_for_the_disk(path: Path):
    full, normal = 2, 1

    def level(transaction):
        return transaction.database.execute_sql("PRAGMA synchronous").fetchone()[0]

    with closing(open_database(f"sqlite://{path}")) as database:
        asked = [database.write(level, durable=durable) for durable in (False, False, True, False, True)]
    assert asked == [normal, normal, full, normal, full]


def test_the_reader_cannot_write(path: Path):
    with (
        closing(open_database(f"sqlite://{path}")) as database,
        pytest.raises(DatabaseUnreachable, match="readonly"),
    ):
        database.read(lambda t: t.database.execute_sql("DELETE FROM missed"))


WRITER = """
from gevent import monkey; monkey.patch_all()
import sys
from contextlib import closing
from freeswitch_callback.ledger import Ledger
from tests.integration.ledger.given import waiting
ledger = Ledger(sys.argv[1])
for number in range(100_000):
    print(waiting(ledger, f"+{number}").missed_id, flush=True)
"""


def test_whatever_was_confirmed_before_a_kill_is_there_afterwards(path: Path):
    url = f"sqlite://{path}"
    root = Path(__file__).parents[3]
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, url], stdout=subprocess.PIPE, text=True, cwd=root
    )
    assert process.stdout is not None
    confirmed = [process.stdout.readline() for _ in range(20)]
    process.send_signal(signal.SIGKILL)
    confirmed += process.stdout.readlines()
    process.wait()
    with closing(Ledger(url)) as ledger:
        stored = [row["id"] for row in ledger.listing(Filter())]
        assert {int(line) for line in confirmed if line.endswith("\n")} <= set(stored)
        assert len(ledger.due(None, 1_000_000)) == len(stored)
        assert waiting(ledger, ANNA).new
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_mistake_in_the_work_undoes_it_and_is_told(path: Path):
    with closing(open_database(f"sqlite://{path}")) as database:

        def work(t):
            t.database.execute_sql("CREATE TABLE half (id INTEGER)")
            raise DatabaseUnreachable("in the middle")

        with pytest.raises(DatabaseUnreachable, match="in the middle"):
            database.write(work)
        assert "half" not in database.read(lambda t: t.database.get_tables())


def plans(url: str, work) -> list[str]:
    """How SQLite goes about every query of `work`."""
    found = []

    def explain(t):
        execute = t.database.execute_sql

        def noted(sql, parameters=None):
            found.extend(row[-1] for row in execute(f"EXPLAIN QUERY PLAN {sql}", parameters).fetchall())
            return execute(sql, parameters)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(t.database, "execute_sql", noted)
            work(t)

    with closing(open_database(url)) as database:
        database.write(explain)
    assert not [step for step in found if "SCAN" in step and "USING" not in step]
    assert not [step for step in found if "TEMP B-TREE" in step]
    return found


def test_finding_what_is_due_is_a_walk_along_one_index(path: Path):
    """However many recalls wait: no scan, no sorting of what waits."""
    url = f"sqlite://{path}"
    with closing(Ledger(url)) as ledger:
        waiting(ledger)

    def look(t):
        recalls.due(t, ["support@default"], 10)
        recalls.due(t, None, 10)
        recalls.next_due(t)
        recalls.next_due(t, due_for=1.0)
        recalls.reconsider(t, after=0)

    of_recall = [step for step in plans(url, look) if "t1" in step]
    assert of_recall
    assert all("recall_" in step for step in of_recall), of_recall


def test_what_the_caps_ask_is_a_walk_back_along_one_index_each(path: Path):
    url = f"sqlite://{path}"
    with closing(Ledger(url)) as ledger:
        missed_id = waiting(ledger).missed_id
    caps = CapRules(per_number=5, per_prefix=5, at_once=5, per_minute=5, breaker=5)
    found = plans(url, lambda t: limits.cases(t, [missed_id], lambda queue: caps))
    assert [step.split(" USING ")[1].split(" (")[0].removeprefix("COVERING ") for step in found] == [
        *["INTEGER PRIMARY KEY"] * 2,
        *("INDEX dnc_number", "INDEX breaker_prefix"),
        *(f"INDEX attempt_{name}" for name in ("number", "prefix", "made")),
        "INDEX recall_up",
    ]
