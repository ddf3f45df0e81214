"""One client that takes events in and counts its CPU: `python -m tests.bench.readers WHICH PORT EVENTS`.

`ours`: the client; its handler reads of each event what every handler reads first, its name and channel.
`daemon`: the client as the daemon uses it, with all that the daemon makes of an event short of writing.
`greenswitch`: stock greenswitch 0.0.19 with the handler of `ours`.
`bare`: a greenswitch whose reader cuts frames and parses nothing, as little as can be done: the floor.
`standing`: the client, whose handler stands still.

It says `ready`, and at its end prints JSON: seconds of CPU, and of time, from the first event to the last; kB
of memory at most.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402
import logging  # noqa: E402
import resource  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections import deque  # noqa: E402
from collections.abc import Callable  # noqa: E402
from typing import Any  # noqa: E402

import gevent  # noqa: E402
import structlog  # noqa: E402
from gevent import socket  # noqa: E402
from gevent.event import Event as Flag  # noqa: E402
from gevent.queue import Queue  # noqa: E402
from greenswitch.esl import InboundESL  # noqa: E402

from freeswitch_callback.core.capture import Capture, CaptureRules  # noqa: E402
from freeswitch_callback.engine.switchboard import Switchboard  # noqa: E402
from freeswitch_callback.esl.client import PIECE, Connection  # noqa: E402

PASSWORD = "ClueCon"
STANDS = 3.0
"""Seconds for which the memory of a client that stands still is looked at, once it reads no more."""


class Counted:
    """Counts events; from the first to the last of them its process uses so much CPU."""

    def __init__(self, events: int, look: Callable[[Any], object]) -> None:
        self._left = events
        self._look = look
        self.done = Flag()

    def __call__(self, event: Any) -> None:
        self._look(event)
        self._left -= 1
        if not self._left:
            self.cpu, self.time = time.process_time(), time.monotonic()
            self.done.set()


def _first_headers(event: Any) -> None:
    event.name  # noqa: B018  as the daemon does
    event.get("Unique-ID")


def _first_headers_of_greenswitch(event: Any) -> None:
    event.headers.get("Event-Name")
    event.headers.get("Unique-ID")


def _daemon() -> Callable[[Any], object]:
    capture, switchboard = Capture("fs1", CaptureRules()), Switchboard()

    def look(event: Any) -> None:
        switchboard.feed(event)
        capture.feed(event)

    return look


def _ours(port: int, handler: Callable[[Any], object]) -> Connection:
    connection = Connection("127.0.0.1", port, PASSWORD)
    connection.connect()
    connection.register_handle("*", handler)
    connection.send("event plain ALL")
    gevent.spawn(connection.process_events)
    return connection


def _greenswitch(port: int, handler: Callable[[Any], object]) -> InboundESL:
    connection = InboundESL("127.0.0.1", port, PASSWORD)
    connection.connect()
    connection.register_handle("*", handler)
    connection.send("event plain ALL")
    gevent.spawn(connection.process_events)
    return connection


class _Bare(InboundESL):
    """Frames by their Content-Length, a queue, the handler; nothing is checked, and no headers made."""

    def receive_events(self) -> None:
        pending = b""
        arrived, received = self.arrived, self.received
        while data := self.sock.recv(PIECE):
            pending += data
            start = 0
            while (end := pending.find(b"\n\n", start)) >= 0:
                head = pending[start:end]
                at = head.find(b"Content-Length: ")
                length = int(head[at + 16 :].split(b"\n", 1)[0]) if at >= 0 else 0
                if end + 2 + length > len(pending):
                    break
                start = end + 2 + length
                if at < 0:  # the greeting, and the replies to what is sent
                    self.replied(head)
                else:
                    received.append(_BareEvent(pending[end + 2 : start]))
            pending = pending[start:]
            arrived.set()
            if len(received) >= 128:
                gevent.sleep(0)

    def connect(self) -> None:
        self.arrived, self.received, self.heads = Flag(), deque[_BareEvent](), Queue[bytes]()
        self.replied = self.heads.put
        self.sock = socket.create_connection((self.host, self.port))
        gevent.spawn(self.receive_events)
        self.heads.get()
        self.say(f"auth {self.password}")

    def say(self, command: str) -> None:
        self.sock.sendall(f"{command}\n\n".encode())
        self.heads.get()

    def process_events(self) -> None:
        [handler] = self.event_handlers["*"]
        while True:
            self.arrived.wait()
            self.arrived.clear()
            while self.received:
                handler(self.received.popleft())


class _BareEvent:
    __slots__ = ("raw",)

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    def get(self, key: bytes) -> str:
        at = self.raw.find(key)
        if at < 0:
            return ""
        at += len(key)
        return self.raw[at : self.raw.find(b"\n", at)].decode()


def _first_headers_of_bare(event: _BareEvent) -> None:
    event.get(b"Event-Name: ")
    event.get(b"\nUnique-ID: ")


def _bare(port: int, handler: Callable[[Any], object]) -> _Bare:
    connection = _Bare("127.0.0.1", port, PASSWORD)
    connection.connect()
    connection.register_handle("*", handler)
    connection.say("event plain ALL")
    gevent.spawn(connection.process_events)
    return connection


def _stands_still(port: int) -> None:
    forever = Flag()
    connection = _ours(port, lambda event: forever.wait())
    print("ready", flush=True)
    while connection._flowing.is_set():  # it reads
        gevent.sleep(0.1)
    gevent.sleep(STANDS)
    print(json.dumps({"kB": _peak()}), flush=True)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    which, port, events = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    if which == "standing":
        _stands_still(port)
        return
    connect, look = {
        "ours": (_ours, _first_headers),
        "daemon": (_ours, _daemon()),
        "greenswitch": (_greenswitch, _first_headers_of_greenswitch),
        "bare": (_bare, _first_headers_of_bare),
    }[which]
    counted = Counted(events, look)
    connect(port, counted)
    cpu, began = time.process_time(), time.monotonic()
    print("ready", flush=True)
    counted.done.wait()
    print(json.dumps({"cpu": counted.cpu - cpu, "seconds": counted.time - began, "kB": _peak()}), flush=True)


if __name__ == "__main__":
    main()
