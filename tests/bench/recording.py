"""How fast missed calls are on disk: `python -m tests.bench.recording [CALLS]` prints JSON, a line for each
database.

A storm of missed calls, with ten times as many other events around them, comes from a process of its own
through a socket into an engine; the databases commit as in production (SQLite synchronous=FULL, PostgreSQL
synchronous_commit=on). Beside it, in the same run: calls recorded one by one, and the same statements with
nothing but the database's driver.

With `--switch CALLS` it is the process that sends, with `--one DATABASE CALLS` that of one database.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402
import re  # noqa: E402
import resource  # noqa: E402
import socket  # noqa: E402
import sqlite3  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from contextlib import closing, contextmanager  # noqa: E402
from dataclasses import replace  # noqa: E402
from datetime import UTC, datetime  # noqa: E402
from typing import Any  # noqa: E402
from unittest import mock  # noqa: E402

import gevent  # noqa: E402
import peewee  # noqa: E402
import psycopg2  # noqa: E402
import structlog  # noqa: E402

from freeswitch_callback.core.facts import Missed, Opening, Reason  # noqa: E402
from freeswitch_callback.engine.daemon import Engine, NodeAddress  # noqa: E402
from freeswitch_callback.esl.frames import Event, Framer  # noqa: E402
from freeswitch_callback.ledger import Ledger, Recorded, Told  # noqa: E402
from freeswitch_callback.ledger.server_side import SAID_BEFORE  # noqa: E402
from tests import recordings  # noqa: E402
from tests.bench import contact_centre  # noqa: E402
from tests.bench.floor import kept_by  # noqa: E402

STORM = 2.0
"""Seconds within which all of it is sent, if it is taken."""
TOO_LONG = 300.0
ONE_BY_ONE = 1000
IN_A_TURN = 20
GREETING = b"Content-Type: auth/request\n\n"
_NUMBER, _LEG, _MEMBER = b"12025550100", b"8fe184f9", b"9d8e6d88"


# --- the process that sends --------------------------------------------------------------------------------


def one_call() -> bytes:
    """A recorded caller who gives up in a queue: two events that tell of a missed call, among eleven."""
    framer = Framer()
    framer.feed(recordings.received("abandoned"))
    bodies = [frame.raw for frame in framer.frames() if isinstance(frame, Event)]
    return b"".join(
        b"Content-Length: %d\nContent-Type: text/event-plain\n\n%s" % (len(bodies[index]), bodies[index])
        for index in (1, 2, 3, 4, 14, 9, 10, 11, 12, 16, 18)
    )


def switch(calls: int) -> None:
    """Prints its port; lets clients in; after a line on its standard input sends `calls`, and says when the
    last was sent, by the clock of all processes."""
    call = one_call()
    listening: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)

        def accept() -> None:
            while True:
                client, _ = server.accept()
                threading.Thread(target=_serve, args=(client, listening), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        gevent.get_hub().threadpool.apply(sys.stdin.readline)
        began = time.monotonic()
        for number in range(calls):
            said = call.replace(_NUMBER, b"1212%07d" % (2_000_000 + number))
            said = said.replace(_LEG, b"%08x" % number).replace(_MEMBER, b"%08x" % number)
            listening[0].sendall(said)
            early = began + STORM * number / calls - time.monotonic()
            if early > 0.002:
                time.sleep(early)
        print(json.dumps({"began": began, "sent": time.monotonic()}), flush=True)
        gevent.get_hub().threadpool.apply(sys.stdin.readline)


def _serve(client: socket.socket, listening: list[socket.socket]) -> None:
    client.sendall(GREETING)
    pending = b""
    while data := client.recv(65536):
        *commands, pending = (pending + data).split(b"\n\n")
        for command in commands:
            if command.startswith(b"api "):
                body = b"core-1" if b"Core-UUID" in command else b"+OK\n"
                client.sendall(b"Content-Type: api/response\nContent-Length: %d\n\n%s" % (len(body), body))
            else:
                client.sendall(b"Content-Type: command/reply\nReply-Text: +OK accepted\n\n")
            if command.startswith(b"event"):
                listening.append(client)


# --- the engine --------------------------------------------------------------------------------------------


def run(database: str, calls: int) -> dict[str, Any]:
    """The figures of one database, `sqlite` or `postgresql`; in a process of its own, or the memory is that
    of everything before."""
    with contact_centre.database(database) as url, closing(Ledger(url)) as ledger:
        ours, bare = one_by_one(url, ledger)
    with contact_centre.database(database) as url:
        before = _peak()
        storm = _storm(url, calls)
    return {
        "database": database,
        "calls": calls,
        **storm,
        "one_by_one_per_second": round(ONE_BY_ONE / ours),
        "bare_per_second": round(ONE_BY_ONE / bare),
        "one_by_one_ratio": round(ours / bare, 2),
        "memory_before_mb": before,
        "memory_peak_mb": _peak(),
    }


def _storm(url: str, calls: int) -> dict[str, Any]:
    with _switch(calls) as (port, order), closing(Ledger(url)) as ledger:
        engine = Engine(
            ledger, [NodeAddress("fs1", "127.0.0.1", port, "secret")], contact_centre.engine_rules()
        )
        running = gevent.spawn(engine.run)
        if not engine.sites[0].node.up.wait(10):
            raise RuntimeError("the engine did not connect")
        cpu = time.process_time()
        sent = gevent.spawn(order)
        on_disk, settled = 0, Ledger(url)  # a view of its own
        with closing(settled), gevent.Timeout(TOO_LONG):
            while on_disk < calls:
                gevent.sleep(0.1)
                on_disk = settled._database.read(_settled)
        done, cpu = time.monotonic(), time.process_time() - cpu
        times = sent.get()
        engine.stop()
        running.get()
    return {
        "sent_in_seconds": round(times["sent"] - times["began"], 2),
        "on_disk_after_the_last_was_sent": round(done - times["sent"], 2),
        "on_disk_after_the_storm_was_due": round(done - times["began"] - STORM, 2),
        "cpu_seconds": round(cpu, 2),
        "on_disk": on_disk,
    }


def _settled(transaction: Any) -> int:
    [[count]] = transaction.database.execute_sql("SELECT count(*) FROM missed WHERE settled").fetchall()
    return int(count)


@contextmanager
def _switch(calls: int) -> Iterator[tuple[int, Callable[[], dict[str, float]]]]:
    command = [sys.executable, "-m", "tests.bench.recording", "--switch", str(calls)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        orders, answers = process.stdin, process.stdout
        port = int(answers.readline())

        def order() -> dict[str, float]:
            orders.write("\n")
            orders.flush()
            times: dict[str, float] = json.loads(answers.readline())  # gevent's: it waits in the hub
            return times

        yield port, order
        process.kill()


def _peak() -> int:
    """Megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


# --- one by one, and the same without us -------------------------------------------------------------------


def _told(number: int) -> Told:
    phone = f"+1212{3_000_000 + number}"
    missed = Missed(
        node="fs1",
        call_uuid=f"one-by-one-{number:06d}",
        member_uuid=f"member-{number:06d}",
        phone=phone,
        calldate=datetime.now(UTC),
        timewait=30,
        reason=Reason.ABANDONED,
        queue="support@default",
    )
    return Told(missed, Opening(number=phone, scope="default", queue="support@default"))


def one_by_one(url: str, ledger: Ledger) -> tuple[float, float]:
    """Seconds that it takes to record so many calls, each as it comes; and the same statements, with the
    values of other calls, by the driver alone. In turns: a machine is not as fast from one second to the
    next."""
    said, recall = _said_of_a_call(ledger)
    kept = kept_by(ledger)
    in_full = [re.sub("kept_[0-9a-f]{24}", lambda name: kept[name[0]], sql) for sql, _ in said]
    ours = bare = 0.0
    with closing(_connected(url)) as connection:
        cursor = connection.cursor()
        for text in kept.values():
            cursor.execute(text)
        for first in range(0, ONE_BY_ONE, IN_A_TURN):
            began = time.monotonic()
            for number in range(first, first + IN_A_TURN):
                ledger.take_all([_told(number)])
            between = time.monotonic()
            with _blocking():
                for number in range(first, first + IN_A_TURN):
                    _replay(cursor, said, in_full, number, recall)
            ours += between - began
            bare += time.monotonic() - between
    return ours, bare


def _said_of_a_call(ledger: Ledger) -> tuple[list[tuple[str, list[Any]]], int]:
    """The statements, with CALL and MEMBER in them, and the id of the recall that they opened."""
    said: list[tuple[str, list[Any]]] = []
    execute = peewee.Database.execute_sql

    def listen(database: peewee.Database, sql: str, params: Any = None) -> Any:
        said.append((sql, list(params or ())))
        return execute(database, sql, params)

    for number in range(SAID_BEFORE + 1):  # from here on PostgreSQL keeps them
        ledger.take_all([_told(ONE_BY_ONE + number)])
    sample = replace(_told(1), missed=replace(_told(1).missed, call_uuid="CALL", member_uuid="MEMBER"))
    sample = replace(sample, missed=replace(sample.missed, phone="+12125550100"))
    sample = replace(sample, opening=replace(sample.opening, number="+12125550100"))
    with mock.patch.object(peewee.Database, "execute_sql", listen):
        [outcome] = ledger.take_all([sample])
    assert isinstance(outcome, Recorded)
    return said, outcome.recall_id


@contextmanager
def _blocking() -> Iterator[None]:
    """psycopg2 waits as it does by itself, and not as the ledger has it wait."""
    waiting = psycopg2.extensions.get_wait_callback()
    psycopg2.extensions.set_wait_callback(None)
    try:
        yield
    finally:
        psycopg2.extensions.set_wait_callback(waiting)


def _replay(
    cursor: Any, said: list[tuple[str, list[Any]]], in_full: list[str], number: int, recall: int
) -> None:
    new_recall = recall
    for (sql, params), full in zip(said, in_full, strict=True):
        values = [
            value.replace("CALL", f"bare-{number}")
            .replace("MEMBER", f"bare-{number}")
            .replace("2125550100", f"212{4_000_000 + number}")
            if isinstance(value, str)
            else new_recall
            if type(value) is int and value == recall and "INSERT" in full
            else value
            for value in params
        ]
        cursor.execute(sql, values)
        if 'INSERT INTO "recall"' in full:
            new_recall = cursor.fetchall()[0][0]
        elif cursor.description:
            cursor.fetchall()


def _connected(url: str) -> Any:
    if url.startswith("sqlite"):
        file = sqlite3.connect(url.removeprefix("sqlite://"), isolation_level=None)
        file.execute("PRAGMA synchronous = FULL")
        file.execute("PRAGMA foreign_keys = 1")
        return file
    connection = psycopg2.connect(url)
    connection.autocommit = True  # BEGIN and COMMIT are among the statements
    return connection


def main(words: list[str]) -> None:
    match words:
        case ["--switch", calls]:
            switch(int(calls))
        case ["--one", database, calls]:
            structlog.configure(
                processors=[structlog.processors.JSONRenderer()], logger_factory=lambda *_: _Mute()
            )
            print(json.dumps(run(database, int(calls))))
        case [] | [_]:
            for database in ("sqlite", "postgresql"):
                command = [
                    sys.executable,
                    "-m",
                    "tests.bench.recording",
                    "--one",
                    database,
                    *(words or ["10000"]),
                ]
                subprocess.run(command, check=True)
        case _:
            raise SystemExit("python -m tests.bench.recording [CALLS]")


class _Mute:
    """A log that goes nowhere; what it costs to write it does not."""

    def msg(self, message: str) -> None: ...

    log = debug = info = warning = error = critical = msg


if __name__ == "__main__":
    main(sys.argv[1:])
