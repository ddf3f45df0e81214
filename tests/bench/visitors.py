"""The people before their pages, in a process of their own: `python -m tests.bench.visitors PORT`.

It takes orders on its standard input, one JSON object a line, and answers each with one. A page is what the
scripts in `web/static` make of it: a stream of events that is read, and its part that is fetched anew when
they say so. Moments are those of the clock that all processes of a machine share (monotonic).

It stands for five hundred other machines, and is here only because there is one: it gives way to everybody
else at once (SCHED_IDLE), or a browser's work would be taken for the engine's.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402
import os  # noqa: E402
import random  # noqa: E402
import re  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from typing import Any  # noqa: E402

import gevent  # noqa: E402
from gevent import socket  # noqa: E402
from gevent.event import Event as Flag  # noqa: E402
from gevent.fileobject import FileObjectThread  # noqa: E402

from tests.bench.contact_centre import ROOT  # noqa: E402

PARTS = {"board": "/board/now", "operator": "/me/now"}
_TILE = re.compile(rb"<b>([^<]*)</b>")
_LENGTH = re.compile(rb"(?i)content-length: *(\d+)")
_STALLED_READS = 4096
"""Bytes that the kernel takes for who does not read."""
_ESTABLISHED = 1
"""Of the states in Linux' `netinet/tcp.h`."""


class Connection:
    """One that is kept open, as a browser keeps it, and opened again when the other side has closed it."""

    def __init__(self, port: int, session: str = "") -> None:
        self._port = port
        self._from = _somewhere()
        self._head = f"Host: 127.0.0.1:{port}\r\n" + (f"Cookie: callback={session}\r\n" if session else "")
        self._socket: Any = None

    def get(self, path: str) -> tuple[int, bytes]:
        return self._ask(f"GET {path} HTTP/1.1\r\n{self._head}\r\n".encode())

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, bytes]:
        text = json.dumps(body)
        head = f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n"
        return self._ask(f"POST {path} HTTP/1.1\r\n{self._head}{head}\r\n{text}".encode())

    def _ask(self, request: bytes) -> tuple[int, bytes]:
        if self._socket is not None:
            try:
                return self._exchange(request)
            except (OSError, EOFError):  # closed, because nothing was asked for a while
                self.close()
        self._socket = socket.create_connection(("127.0.0.1", self._port), source_address=self._from)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._exchange(request)

    def _exchange(self, request: bytes) -> tuple[int, bytes]:
        self._socket.sendall(request)
        got = b""
        while b"\r\n\r\n" not in got:
            got += self._received()
        head, _, body = got.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        while length is not None and len(body) < int(length[1]):
            body += self._received()
        return int(head.split(b" ", 2)[1]), body

    def _received(self) -> bytes:
        piece: bytes = self._socket.recv(65536)
        if not piece:
            raise EOFError
        return piece

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _somewhere() -> tuple[str, int]:
    """An address of this machine's: people are not all in one house, which has only so many connections."""
    return f"127.0.{random.randrange(1, 250)}.{random.randrange(1, 250)}", 0


def _stream(port: int, session: str, *, reads: bool) -> Any:
    stream = socket.socket()
    if not reads:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _STALLED_READS)
    stream.bind(_somewhere())
    stream.connect(("127.0.0.1", port))
    stream.sendall(
        f"GET /events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nCookie: callback={session}\r\n\r\n".encode()
    )
    return stream


class Page:
    """One that is open: as `live.js` does it."""

    def __init__(self, visitors: Visitors, kind: str, session: str) -> None:
        self._visitors = visitors
        self._part = PARTS[kind]
        self._session = session
        self._connection = Connection(visitors.port, session)
        self._changed = Flag()
        self._spread = 0.0
        self.tile = b""

    def read(self) -> None:
        stream = _stream(self._visitors.port, self._session, reads=True)
        left = b""
        while piece := stream.recv(65536):
            now = time.monotonic()
            *blocks, left = (left + piece).replace(b"\r\n", b"\n").split(b"\n\n")
            for block in blocks:
                self._hear(block, now)
        self._visitors.lost += 1

    def _hear(self, block: bytes, now: float) -> None:
        _, told, data = block.partition(b"data: ")
        if not told:
            return
        said = json.loads(data.partition(b"\n")[0])
        self._spread = said.get("spread", self._spread * 1000) / 1000
        if b"event: hello" in block:
            self._visitors.connected += 1
        if b"event: change" in block:
            self._visitors.heard.setdefault(f"{said['what']} {said['recall']}", []).append(now)
            self._changed.set()

    def look(self) -> None:
        """At once after a while without news; then so often that all pages together are bearable."""
        looked = 0.0
        while True:
            self._changed.wait()
            gevent.sleep(max(random.random() * self._spread, looked + 5 * self._spread - time.monotonic()))
            self._changed.clear()
            looked = time.monotonic()
            status, body = self._connection.get(self._part)
            now = time.monotonic()
            self._visitors.looks.append(now - looked)
            self._visitors.failed += status != 200
            tile = _TILE.search(body)
            if tile is not None and tile[1] != self.tile:
                self.tile = tile[1]
                self._visitors.shown.append((now, self.tile.decode()))


class Visitors:
    """What can be asked for."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.connected = self.lost = self.failed = self.log_ins = self.refused = self.dropped = 0
        self.heard: dict[str, list[float]] = {}
        self.looks: list[float] = []
        self.shown: list[tuple[float, str]] = []
        self._stalled: list[gevent.Greenlet] = []

    def open(self, kind: str, sessions: list[str], pages: int) -> dict[str, Any]:
        """So many pages for each session; back when all of them are told of what comes."""
        wanted, lost = self.connected + len(sessions) * pages, self.lost
        for session in sessions * pages:
            page = Page(self, kind, session)
            gevent.spawn(page.read)
            gevent.spawn(page.look)
        while self.connected < wanted:
            if self.lost > lost:
                raise RuntimeError(f"a page of {len(sessions) * pages} was refused, or its stream ended")
            gevent.sleep(0.05)
        return {}

    def stall(self, sessions: list[str]) -> dict[str, Any]:
        """A stream for each that nobody reads; another one whenever it was ended."""

        def stalled(session: str) -> None:
            while True:
                stream = _stream(self.port, session, reads=False)
                while _open(stream):
                    gevent.sleep(0.5)
                stream.close()
                self.dropped += 1

        self._stalled += [gevent.spawn(stalled, session) for session in sessions]
        return {}

    def storm(self, users: list[str], password: str) -> dict[str, Any]:
        """All of these log in, again and again."""

        def log_in(user: str) -> None:
            connection = Connection(self.port)
            while True:
                status, _ = connection.post("/api/v1/session", {"user": user, "password": password})
                self.log_ins += status == 200
                self.refused += status != 200

        for user in users:
            gevent.spawn(log_in, user)
        return {}

    def ask(self, session: str, path: str, times: int) -> dict[str, Any]:
        """Seconds that each of so many requests took, one after the other."""
        connection = Connection(self.port, session)
        took, length = [], 0
        for _ in range(times):
            began = time.monotonic()
            status, body = connection.get(path)
            took.append(time.monotonic() - began)
            if status != 200:
                raise RuntimeError(f"{path}: {status} {body[:300]!r}")
            length = len(body)
        return {"took": took, "bytes": length}

    def told(self) -> dict[str, Any]:
        """What has come to the pages since this was last asked."""
        answer = {
            "heard": self.heard, "looks": self.looks, "shown": self.shown, "failed": self.failed,
            "lost": self.lost, "log_ins": self.log_ins, "refused": self.refused, "dropped": self.dropped,
        }  # fmt: skip
        self.heard, self.looks, self.shown = {}, [], []
        self.failed = self.log_ins = self.refused = self.dropped = 0
        return answer


def _open(stream: Any) -> bool:
    """Whether the other side has not ended it yet; what it sent is left unread."""
    state: int = stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    return state == _ESTABLISHED


class Abroad:
    """The visitors' process, seen from the benchmark, whose other greenlets work while it waits."""

    def __init__(self, port: int) -> None:
        words = [sys.executable, "-W", "ignore", "-m", "tests.bench.visitors", str(port)]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)

    def ask(self, do: str, **order: Any) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps({"do": do, **order}).encode() + b"\n")
        stdin.flush()
        answer: dict[str, Any] = json.loads(stdout.readline())
        return answer

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def _serve(port: int) -> None:
    visitors = Visitors(port)
    with FileObjectThread(sys.stdin.buffer) as orders:
        for line in orders:
            order = json.loads(line)
            print(json.dumps(getattr(visitors, order.pop("do"))(**order)), flush=True)


if __name__ == "__main__":
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    _serve(int(sys.argv[1]))
