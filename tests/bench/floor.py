"""What a reaction takes without an engine, on the same commands to the same FreeSWITCH.

`least`: what anybody must do who calls nobody twice: hear, commit once, reserve, look, order the call. The
commit stops the whole process, and nothing is decided.

`same_steps`: also the statements that an engine makes, word for word, by the database's own driver, and with
other greenlets let in while they run: the look at the line, and the claim with all that the gates ask. What
comes back is not read. What an engine takes longer is its own work.
"""

from __future__ import annotations

import re
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any

import gevent
import peewee
import psycopg2
import pytest
from gevent import socket
from gevent.threadpool import ThreadPool

from freeswitch_callback.core.capture import SUBCLASSES
from freeswitch_callback.core.facts import Claim, Mode
from freeswitch_callback.core.gates import Verdict
from freeswitch_callback.engine.daemon import EVENTS
from freeswitch_callback.esl import commands
from freeswitch_callback.ledger import Ledger
from freeswitch_callback.ledger.server_side import SAID_BEFORE
from tests.bench.contact_centre import ContactCentre, as_in_its_unit, engine_rules, queue_of

Statement = tuple[str, Sequence[Any]]
Work = Callable[[str], object]
"""What is done for an agent who is free, before they are reserved."""

QUEUES = 20


def least(url: str, centre: ContactCentre, times: int, gap: float) -> dict[str, Any]:
    """Seconds, one by one: the reactions, how many were `late`, the commit alone."""
    with _one_commit(url) as commit:
        found = _reactions(centre, commit, 0, times, gap)
        return found | {"commits": [_timed(commit) for _ in range(100)]}


def same_steps(url: str, centre: ContactCentre, times: int, gap: float) -> dict[str, Any]:
    with _steps(url) as steps:
        _reactions(centre, steps, 0, 20, gap)
        return _reactions(centre, steps, 20, times, gap)


def _reactions(centre: ContactCentre, work: Work, first: int, times: int, gap: float) -> dict[str, Any]:
    as_in_its_unit("engine")
    address = centre.address
    heard = _Socket(address.host, address.port, address.password)
    told_to = _Socket(address.host, address.port, address.password)
    heard.ask(commands.event_plain(EVENTS, SUBCLASSES))
    greenlet = gevent.spawn(_bare, heard, told_to, work)
    try:
        return centre.ask("react", first=first, times=times, gap=gap)
    finally:
        greenlet.kill()
        heard.close()
        told_to.close()


def _timed(work: Work) -> float:
    begun = time.monotonic()
    work("")
    return time.monotonic() - begun


# --- FreeSWITCH --------------------------------------------------------------------------------------------


class _Socket:
    """The Event Socket with nothing around it."""

    def __init__(self, host: str, port: int, password: str) -> None:
        self.socket = socket.create_connection((host, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.read = self.socket.makefile("rb")
        self.frame()
        self.ask(commands.auth(password))

    def frame(self) -> bytes:
        length = 0
        while (line := self.read.readline()) != b"\n":
            if not line:
                raise EOFError
            if line.startswith(b"Content-Length:"):
                length = int(line[15:])
        return self.read.read(length)

    def ask(self, command: str) -> bytes:
        self.socket.sendall(command.encode())
        return self.frame()

    def close(self) -> None:
        self.socket.close()


def _bare(heard: _Socket, told_to: _Socket, work: Work) -> None:
    while True:
        event = heard.frame()
        if b"agent-state-change" not in event or b"CC-Agent-State: Waiting" not in event:
            continue
        agent = event.partition(b"CC-Agent: ")[2].partition(b"\n")[0].decode().replace("%40", "@")
        work(agent)
        told_to.ask(commands.reserve(agent) + commands.agent_row(agent))  # in one piece
        told_to.frame()
        told_to.ask(_order(agent).command)


def _order(agent: str) -> commands.Originate:
    return commands.Originate(
        job_uuid=str(uuid.uuid4()), call_uuid=str(uuid.uuid4()), entry=1, mode="agent-first",
        number="+12025550100", dial_string="sofia/gateway/main/{number}", caller_id_number="+12025559999",
        contact=f"sofia/internal/{agent.partition('@')[0]}@127.0.0.1:5090", queue="", ring_timeout=5, wait=30,
        reason="abandoned", missed_id=1,
    )  # fmt: skip


# --- the least ---------------------------------------------------------------------------------------------


@contextmanager
def _one_commit(url: str) -> Iterator[Work]:
    """One durable commit of rows like a claim's: a recall changed; an attempt, a reservation, a note."""
    insert = (
        "INSERT INTO attempt (recall, node, agent, mode, call_uuid, job_uuid, made_at, number, prefix,"
        " counts, outcome, hangup_cause) VALUES (1, 'fs1', '1001@default', 'agent-first', {m}, {m}, {m}, '',"
        " '', {no}, 'failed', '')"
    )
    rows = (
        "UPDATE recall SET note = 'floor' WHERE id = 1",
        insert,
        "INSERT INTO journal (at, who, what, recall, detail) VALUES ({m}, 'floor', 'claimed', 1, '{{}}')",
        "DELETE FROM reservation WHERE node = 'floor'",
        "INSERT INTO reservation (node, agent, engine, made_at) VALUES ('floor', '1001@default', 'e', {m})",
    )
    mark = "?" if url.startswith("sqlite") else "%s"
    texts = [row.format(m=mark, no="0" if mark == "?" else "false") for row in rows]
    with closing(_connection(url)) as connection:

        def commit(_: str) -> None:
            cursor = connection.cursor()
            cursor.execute("BEGIN")
            for text in texts:
                given = [str(uuid.uuid4())] * 2 if "call_uuid" in text else []
                given += [datetime.now(UTC).isoformat()] * (text.count(mark) - len(given))
                cursor.execute(text, given)
            cursor.execute("COMMIT")

        yield commit
        connection.cursor().execute("DELETE FROM attempt WHERE mode = 'agent-first' AND number = ''")
        connection.cursor().execute("DELETE FROM reservation WHERE node = 'floor'")


def _connection(url: str) -> Any:
    if url.startswith("sqlite"):
        path = url.removeprefix("sqlite://")
        file = sqlite3.connect(path, isolation_level=None, timeout=10, check_same_thread=False)
        file.execute("PRAGMA synchronous = FULL")
        file.execute("PRAGMA foreign_keys = 1")
        return file
    connection = psycopg2.connect(url)
    connection.autocommit = True
    return connection


# --- the same steps ----------------------------------------------------------------------------------------

_FLOOR = {"engine": "floor", "agent": "floor's agent", "call_uuid": "floor's call", "job_uuid": "floor's job"}
_UNLIKE_OTHERS = 7_000_000
"""The attempts of here have greater ids: no other value in the statements is like one."""


@contextmanager
def _steps(url: str) -> Iterator[Work]:
    look, claim, taken, kept = _said_by_an_engine(url)
    thread = ThreadPool(1) if url.startswith("sqlite") else None  # psycopg2 lets others in by itself
    with closing(_connection(url)) as connection:
        for text in kept:
            connection.cursor().execute(text)

        def run(statements: Sequence[Statement], values: dict[Any, Any]) -> list[Any]:
            cursor = connection.cursor()
            answer: list[Any] = []
            for text, given in statements:
                cursor.execute(text, [values.get(value, value) for value in given] or ())
                columns = [column[0] for column in cursor.description or ()]
                rows = cursor.fetchall() if columns else []
                if rows and "next_id" in columns:
                    values[taken.attempt] = rows[0][columns.index("next_id")]
                elif rows and text.startswith('INSERT INTO "attempt"'):
                    values[taken.attempt] = rows[0][0]
                answer = rows or answer
            return answer

        def step(statements: Sequence[Statement], values: dict[Any, Any]) -> list[Any]:
            return run(statements, values) if thread is None else thread.spawn(run, statements, values).get()

        def work(agent: str) -> None:
            queue = queue_of(int(agent.partition("@")[0]) % QUEUES, QUEUES)
            recall, number, *_ = step(look, {taken.queue: queue})[0]
            step(claim, {
                taken.recall: recall, taken.number: number, taken.queue: queue, taken.agent: agent,
                taken.call_uuid: str(uuid.uuid4()), taken.job_uuid: str(uuid.uuid4()),
            })  # fmt: skip

        yield work
        cursor = connection.cursor()
        cursor.execute("DELETE FROM reservation WHERE engine LIKE 'floor%'")
        cursor.execute(
            "DELETE FROM attempt WHERE recall IN (SELECT id FROM recall WHERE claimed_by LIKE 'floor%')"
        )
        cursor.execute(
            "UPDATE recall SET state = 'waiting', claimed_by = NULL, lease_until = NULL"
            " WHERE claimed_by LIKE 'floor%'"
        )
    if thread is not None:
        thread.kill()


def _said_by_an_engine(url: str) -> tuple[list[Statement], list[Statement], Claim, list[str]]:
    """What is said to the database for one look and one claim; the claim, whose values stand in it; and what
    PostgreSQL was asked to keep before."""
    with closing(_connection(url)) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT MAX(id) FROM attempt")
        before = max(_UNLIKE_OTHERS, cursor.fetchone()[0] or 0)
        if url.startswith("sqlite"):
            cursor.execute("DELETE FROM sqlite_sequence WHERE name = 'attempt'")
            cursor.execute("INSERT INTO sqlite_sequence VALUES ('attempt', ?)", [before])
        else:
            cursor.execute(f"SELECT setval(pg_get_serial_sequence('attempt', 'id'), {before})")
    queue = queue_of(0, QUEUES)
    caps = engine_rules().gates(queue).caps

    def claim(ledger: Ledger, recall: int, of: str) -> Claim | Verdict | None:
        names = {name: value.replace("floor", of) for name, value in _FLOOR.items()}
        return ledger.claim(
            recall, lease=30.0, node="fs1", mode=Mode.AGENT_FIRST, judge=lambda *_: None, caps=caps,
            sent_to="core", **names,
        )  # fmt: skip

    with closing(Ledger(url)) as ledger:
        for number in range(SAID_BEFORE + 1):  # connected, and what it says is kept
            claim(ledger, ledger.due([queue], 4)[0].id, f"floor {number}")
        with _listening() as look:
            [first, *_] = ledger.due([queue], 4)
        with _listening() as said:
            taken = claim(ledger, first.id, "floor")
        kept = kept_by(ledger)
    assert isinstance(taken, Claim)
    return look, said, taken, list(kept.values())


def kept_by(ledger: Ledger) -> dict[str, str]:
    """By their names the statements with which another connection keeps what this ledger's last one does."""
    if ledger.path is not None:
        return {}
    [*_, last] = ledger._database._database._idle  # type: ignore[attr-defined]
    asked = last.execute_sql("SELECT name, statement FROM pg_prepared_statements WHERE from_sql")
    found = {}
    for name, message in asked.fetchall():  # all that was said together
        text = re.search(f"PREPARE {name} AS .*?(?=; EXECUTE {name} )", message, re.DOTALL)
        found[name] = text[0] if text else message
    return found


@contextmanager
def _listening() -> Iterator[list[Statement]]:
    said: list[Statement] = []
    execute = peewee.Database.execute_sql

    def listen(database: Any, sql: str, params: Any = None, **options: Any) -> Any:
        said.append((sql, params or ()))
        return execute(database, sql, params, **options)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(peewee.Database, "execute_sql", listen)
        yield said
