"""Time that passes only when everything is done: for an engine, its ledger and a simulator in one process.

The engine talks to the simulator over a real socket and to a real database; only the clock is not the
computer's. It stands still while anything happens (a command on its way, a query, a greenlet that could run),
and then jumps to the next moment for which somebody has entered something.
"""

from __future__ import annotations

import functools
from datetime import UTC, datetime
from typing import Any

import gevent
import pytest
from gevent.event import Event as Flag

from freeswitch_callback.engine.clock import Clock
from freeswitch_callback.esl import client
from freeswitch_callback.ledger import Ledger
from freeswitch_callback.simulator import ManualClock, server

STUCK = 30.0
"""Real seconds without an end of the work at one moment: something waits for what cannot come."""


class SharedClock(Clock):
    """The simulator's clock as an engine's; what the engine waits for is in the same agenda."""

    def __init__(self, manual: ManualClock) -> None:
        self._manual = manual

    def time(self) -> float:
        return self._manual.now()

    def monotonic(self) -> float:
        return self._manual.now()

    def wait(self, flag: Flag, seconds: float | None = None) -> bool:
        if seconds is None or flag.is_set():
            return bool(flag.wait())
        woken = Flag()

        def wake(_: object = None) -> None:
            woken.set()

        timer = self._manual.after(max(0.0, seconds), wake)
        flag.rawlink(wake)
        try:
            woken.wait()
        finally:
            flag.unlink(wake)
            timer.cancel()
        return flag.is_set()

    def sleep(self, seconds: float) -> None:
        self.wait(Flag(), seconds)


class Traffic:
    """What is under way: bytes in sockets, calls of the ledger. `seen` grows with everything that happens."""

    def __init__(self) -> None:
        self.seen = 0
        self.bytes_under_way = 0
        self.queries = 0
        self.answered = Flag()

    def sent(self, data: bytes) -> None:
        self.seen += 1
        self.bytes_under_way += len(data)

    def received(self, data: bytes) -> None:
        self.seen += 1
        self.bytes_under_way -= len(data)


class Tapped:
    """A socket of which both ends are in this process."""

    def __init__(self, sock: Any, traffic: Traffic) -> None:
        self._sock = sock
        self._traffic = traffic

    def sendall(self, data: bytes) -> None:
        self._traffic.sent(data)
        self._sock.sendall(data)

    def send(self, data: bytes, **options: Any) -> int:
        taken: int = self._sock.send(data, **options)
        self._traffic.sent(data[:taken])
        return taken

    def recv(self, size: int) -> bytes:
        data: bytes = self._sock.recv(size)
        self._traffic.received(data)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class WatchedLedger:
    """A ledger whose calls are counted while they last: SQLite works in a thread that gevent does not see."""

    def __init__(self, ledger: Any, traffic: Traffic) -> None:
        self._ledger = ledger
        self._traffic = traffic

    def __getattr__(self, name: str) -> Any:
        method, traffic = getattr(self._ledger, name), self._traffic
        if name == "listen":  # lasts as long as the engine
            return method
        if not callable(method):  # a part of it
            return WatchedLedger(method, traffic)

        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            traffic.seen += 1
            traffic.queries += 1
            try:
                return method(*args, **kwargs)
            finally:
                traffic.queries -= 1
                if not traffic.queries:
                    traffic.answered.set()

        setattr(self, name, call)
        return call


class Time:
    """The one clock of all, and who lets it go on."""

    def __init__(self, begin: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
        self.manual = ManualClock(begin.timestamp())
        self.engine = SharedClock(self.manual)
        self.traffic = Traffic()
        connect, serve = client.socket.create_connection, server.Server._serve

        def tapped_connect(address: tuple[str, int]) -> Tapped:
            return Tapped(connect(address), self.traffic)

        def tapped_serve(one: server.Server, sock: Any, address: object) -> None:
            serve(one, Tapped(sock, self.traffic), address)  # type: ignore[arg-type]

        monkeypatch.setattr(client.socket, "create_connection", tapped_connect)
        monkeypatch.setattr(server.Server, "_serve", tapped_serve)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.manual.now(), UTC)

    def ledger(self, url: str) -> tuple[Ledger, Any]:
        """A ledger that goes by this clock; plain, and as the engine is to get it."""
        ledger = Ledger(url, clock=self.now)
        return ledger, WatchedLedger(ledger, self.traffic)

    def pass_until(self, end: datetime) -> None:
        """Let the time pass, each moment to its end."""
        while self.manual.step(end.timestamp()):
            self.settle()
        self.settle()

    def settle(self) -> None:
        """Return when nothing happens any more unless time passes.

        `gevent.idle` returns once no greenlet can run and no socket has anything to read. If nothing was
        sent, read or asked for meanwhile, nothing will be.
        """
        traffic = self.traffic
        with gevent.Timeout(STUCK, AssertionError(f"something hangs at {self.now()}")):
            seen = -1
            while traffic.seen != seen or traffic.bytes_under_way or traffic.queries:
                seen = traffic.seen
                if traffic.queries:
                    traffic.answered.clear()
                    traffic.answered.wait()
                gevent.idle()
