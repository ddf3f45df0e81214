"""A connection falls silent without being closed: a proxy that stops forwarding."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from random import Random
from typing import Any

import gevent
import structlog
from gevent import socket
from gevent.event import Event as Flag
from gevent.server import StreamServer

from freeswitch_callback.errors import DatabaseUnreachable, FreeSwitchUnreachable
from freeswitch_callback.esl.node import Node
from freeswitch_callback.ledger import Ledger, postgresql
from freeswitch_callback.simulator import Simulator
from tests import postgres
from tests.chaos.suite import Counts, Given, row


class Proxy:
    """Forwards each connection to where `connect` leads, until it is to be silent."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        self.silent: set[int] = set()  # of connections, by their number
        self.all_silent = False
        self.opened = 0
        self._connect = connect
        self._ends: list[Any] = []
        self._server = StreamServer(("127.0.0.1", 0), self._handle)
        self._server.start()
        self.port = int(self._server.server_port)

    def _handle(self, client: Any, _address: object) -> None:
        number, self.opened = self.opened, self.opened + 1
        server = self._connect()
        self._ends += [client, server]
        ways = [gevent.spawn(self._pump, *way, number) for way in ((client, server), (server, client))]
        gevent.joinall(ways)

    def _pump(self, source: Any, sink: Any, number: int) -> None:
        try:
            while data := source.recv(65536):
                if not self.all_silent and number not in self.silent:
                    sink.sendall(data)
            if not self.all_silent and number not in self.silent:
                sink.shutdown(socket.SHUT_WR)
        except OSError:
            return  # closed at the other end

    def speak(self) -> None:
        """To who connects from now on; who was silenced stays so."""
        self.silent |= set(range(self.opened))
        self.all_silent = False

    def close(self) -> None:
        self._server.stop()
        for end in self._ends:
            end.close()


# --- FreeSWITCH ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Times:
    """`noticed`: within so many seconds. The first are the daemon's own."""

    noticed: float
    heartbeat: float
    options: dict[str, float]


_REAL = _Times(45.0 + 1.0, 20.0, {})
_SHORT = _Times(
    0.9 + 0.5,
    0.4,
    {"heartbeat_timeout": 0.9, "ping_interval": 0.3, "reply_timeout": 0.2, "connect_timeout": 0.2},
)


@row(
    "silent-freeswitch",
    "a connection to FreeSWITCH goes silent without closing",
    "noticed within 45 s, every command comes to an end, and it connects anew",
    full=51,  # the last one at the real figures
    short=2,
)
def freeswitch_falls_silent(given: Given) -> Counts:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    counts = Counts()
    for run in range(given.runs):
        real = run == given.runs - 1 and not given.short
        _silent_freeswitch(counts, run, _REAL if real else _SHORT, given.random)
    return counts


def _silent_freeswitch(counts: Counts, run: int, times: _Times, chance: Random) -> None:
    counts.runs += 1
    sim = Simulator(seed=run, heartbeat=times.heartbeat)
    sim.start()
    proxy = Proxy(lambda: socket.create_connection(("127.0.0.1", sim.port)))
    down = Flag()
    node = Node(
        "fs1", "127.0.0.1", proxy.port, sim.password,
        on_event=lambda event: None, on_down=lambda reason: down.set(), first_delay=0.01, longest_delay=0.05,
        **times.options,  # type: ignore[arg-type]
    )  # fmt: skip
    node.start()
    try:
        if not node.up.wait(10):
            _hangs(counts, f"run {run}: it did not connect")
            return
        gevent.sleep(chance.uniform(0, 0.3))
        # Those that listen, those that command, or both; or every later one as well.
        proxy.silent = ({0}, {1}, {0, 1})[run % 3]
        proxy.all_silent = run // 6 % 2 == 1
        began = time.monotonic()
        asked = [gevent.spawn(_ask, node) for _ in range(run // 3 % 3)]
        if not down.wait(times.noticed):
            _hangs(counts, f"run {run}: silence of {proxy.silent} was not noticed in {times.noticed:.1f} s")
        gevent.joinall(asked, timeout=max(0.1, began + times.noticed - time.monotonic()))
        if not all(asking.ready() for asking in asked):
            _hangs(counts, f"run {run}: a command hangs")
        proxy.speak()
        if not node.up.wait(10.0) or not _ask(node):
            _hangs(counts, f"run {run}: it did not connect anew")
    finally:
        node.stop()
        proxy.close()
        sim.stop()


def _ask(node: Node) -> bool:
    try:
        node.api("api uptime")
    except FreeSwitchUnreachable:
        return False
    return True


def _hangs(counts: Counts, note: str) -> None:
    counts.stuck += 1
    counts.notes.append(note)


# --- PostgreSQL ---------------------------------------------------------------------------------------------

_POOL = 8
_SHORTER = 10.0
"""All times of the short runs are divided by this."""
_SLACK = 0.3
_SITUATIONS = ("idle", "asking", "new")
"""All connections of the pool are idle, all wait for an answer, or there is none yet."""


@row(
    "silent-postgresql",
    "a connection to PostgreSQL goes silent without closing",
    "noticed within 10 s, nothing hangs, and it goes on once the server answers",
    full=51,  # the last one at the real figures
    short=2,
)
def postgresql_falls_silent(given: Given) -> Counts:
    counts = Counts()
    server = postgres.server()
    name = server.create(template=postgres.TEMPLATE)
    real = {
        key: getattr(postgresql, key)
        for key in ("CONNECT_DEADLINE", "BEGIN_DEADLINE", "STATEMENT_TIMEOUT", "SILENCE")
    }
    for run in range(given.runs):
        by = 1.0 if run == given.runs - 1 and not given.short else _SHORTER
        for key, seconds in real.items():
            setattr(postgresql, key, seconds / by)
        postgresql._Connection.silence = postgresql.SILENCE
        for situation in _SITUATIONS if by == 1.0 else (given.random.choice(_SITUATIONS),):
            _silent_postgresql(counts, f"run {run}, {situation}", server, name, situation, 10.0 / by)
    return counts


def _silent_postgresql(
    counts: Counts, what: str, server: postgres.Postgres, name: str, situation: str, within: float
) -> None:
    counts.runs += 1
    proxy = Proxy(lambda: _to(server))
    with closing(Ledger(f"postgresql://postgres@127.0.0.1:{proxy.port}/{name}", pool=_POOL)) as ledger:
        if situation != "new":  # as many connections as the pool has, all idle
            gevent.joinall([gevent.spawn(_sleep, ledger, 0.1) for _ in range(_POOL)], raise_error=True)
        takes = postgresql.STATEMENT_TIMEOUT * 0.75
        asking = [gevent.spawn(_fails, ledger, takes) for _ in range(_POOL)] if situation == "asking" else []
        while _under_way(server, name) < len(asking) and not any(one.ready() for one in asking):
            gevent.sleep(0)
        proxy.all_silent = True
        began = time.monotonic()
        asking = asking or [gevent.spawn(_fails, ledger, 0.0)]
        for one in gevent.iwait(asking, timeout=within + _SLACK):
            if not one.value:
                _hangs(counts, f"{what}: {one.exception or 'it was answered'}")
        if not all(one.ready() for one in asking):
            _hangs(counts, f"{what}: not noticed in {time.monotonic() - began:.1f} s")
        proxy.speak()
        gevent.joinall(asking, timeout=within * 4)
        ledger.now()
    proxy.close()


def _to(server: postgres.Postgres) -> Any:
    to = socket.socket(socket.AF_UNIX)
    to.connect(f"{server.folder}/.s.PGSQL.5432")
    return to


def _under_way(server: postgres.Postgres, name: str) -> int:
    query = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep%'"
    [(count,)] = server.run(f"{query} AND datname = '{name}'")
    return int(str(count))


def _sleep(ledger: Ledger, seconds: float) -> None:
    ledger._database.read(lambda t: t.database.execute_sql("SELECT pg_sleep(%s)", (seconds,)))


def _fails(ledger: Ledger, seconds: float) -> bool:
    try:
        _sleep(ledger, seconds)
    except DatabaseUnreachable:
        return True
    return False
