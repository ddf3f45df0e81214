"""A FreeSWITCH that says recorded events as fast as they are taken: `python -m tests.bench.wire EVENTS`.

It prints its port, lets one client in, says +OK to whatever that sends, and begins at a line on its standard
input. A process of its own, so that its work is not counted as the client's.
"""

from __future__ import annotations

import socket
import sys
import threading
from contextlib import suppress

from freeswitch_callback.esl.frames import Event, Framer
from tests import recordings

GREETING = b"Content-Type: auth/request\n\n"
OK = b"Content-Type: command/reply\nReply-Text: +OK accepted\n\n"


def recorded_events() -> list[bytes]:
    """The events of all recordings, each as it stood on the wire, story after story."""
    found: list[bytes] = []
    for name in recordings.NAMES:
        framer = Framer()
        framer.feed(recordings.received(name))
        for body in (frame.raw for frame in framer.frames() if isinstance(frame, Event)):
            found.append(b"Content-Length: %d\nContent-Type: text/event-plain\n\n%s" % (len(body), body))
    return found


def main() -> None:
    count = int(sys.argv[1])
    events = recorded_events()
    said = b"".join((events * (-(-count // len(events))))[:count])
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        client, _ = server.accept()
        client.sendall(GREETING)
        threading.Thread(target=_answer, args=(client,), daemon=True).start()
        sys.stdin.readline()
        with suppress(ConnectionError):  # the reader has all that it wanted
            client.sendall(said)
        sys.stdin.readline()  # who asks closes it


def _answer(client: socket.socket) -> None:
    pending = b""
    with suppress(ConnectionError):
        while data := client.recv(65536):
            *whole, pending = (pending + data).split(b"\n\n")
            for _ in whole:
                client.sendall(OK)


if __name__ == "__main__":
    main()
