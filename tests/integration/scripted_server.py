"""A small Event Socket server whose every byte is written by the test: `port`, and what it was sent.

    def story(client: Client) -> None:
        client.let_in()
        client.expect("api uptime")
        client.answer("24\\n")

Each connection plays the next story of the list (the last one again when the list is used up). A story that
returns closes its connection.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import gevent
from gevent import socket
from gevent.event import Event as Flag
from gevent.queue import Queue

GREETING = b"Content-Type: auth/request\n\n"


def event(name: str, body: bytes = b"", **headers: str) -> bytes:
    """A text/event-plain frame; values as they are to stand on the wire (already percent-encoded)."""
    lines = [f"Event-Name: {name}", "Core-UUID: core-1", "Event-Date-Timestamp: 1795379481761554"]
    lines += [f"{key.replace('_', '-')}: {value}" for key, value in headers.items()]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    text = "\n".join(lines).encode() + b"\n\n" + body
    return b"Content-Length: %d\nContent-Type: text/event-plain\n\n" % len(text) + text


def answer(text: str) -> bytes:
    return b"Content-Type: api/response\nContent-Length: %d\n\n%s" % (len(text.encode()), text.encode())


def reply(text: str, *headers: str) -> bytes:
    return "\n".join(["Content-Type: command/reply", f"Reply-Text: {text}", *headers, "", ""]).encode()


class Client:
    """The far end of one connection, as a story sees it."""

    def __init__(self, sock: Any) -> None:
        self.sock = sock
        self._buffer = b""

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def command(self) -> str:
        """The next command, its empty line cut off; "" once the other side has closed."""
        while b"\n\n" not in self._buffer:
            try:
                data = self.sock.recv(65536)
            except OSError:
                return ""
            if not data:
                return ""
            self._buffer += data
        command, _, self._buffer = self._buffer.partition(b"\n\n")
        return command.decode()

    def let_in(self) -> None:
        self.send(GREETING)
        self.command()
        self.send(reply("+OK accepted"))

    def serve(self, answers: Callable[[str], bytes] | None = None) -> None:
        """Answers whatever comes, until the other side closes."""
        while command := self.command():
            self.send((answers or usual)(command))

    def until_closed(self) -> None:
        while self.command():
            pass

    def reset(self) -> None:
        """Closes with RST instead of an orderly end."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.sock.close()


def usual(command: str) -> bytes:
    """What a healthy FreeSWITCH says to what a node asks."""
    if command.startswith("event "):
        return reply("+OK event listener enabled plain")
    if command.startswith("bgapi "):
        job = command.partition("Job-UUID: ")[2]
        return reply(f"+OK Job-UUID: {job}", f"Job-UUID: {job}")
    if command == "api global_getvar core_uuid":
        return answer("core-1")
    return answer("+OK\n")


Story = Callable[[Client], None]


class ScriptedServer:
    def __init__(self, *stories: Story, family: int = socket.AF_INET) -> None:
        self._stories = list(stories)
        self._listener = socket.socket(family, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        self._listener.listen(64)
        self.host, self.port = self._listener.getsockname()[:2]
        self.connected: Queue[Client] = Queue()
        self.count = 0
        self.failures: list[BaseException] = []
        self._greenlets = [gevent.spawn(self._accept)]

    def _accept(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            story = self._stories[min(self.count, len(self._stories) - 1)]
            self.count += 1
            self._greenlets.append(gevent.spawn(self._play, story, Client(sock)))

    def _play(self, story: Story, client: Client) -> None:
        self.connected.put(client)
        # A client that goes away in the middle of a story is what many stories are about.
        with contextlib.closing(client.sock), contextlib.suppress(OSError):
            story(client)

    def close(self) -> None:
        gevent.killall(self._greenlets)
        self._listener.close()


@contextlib.contextmanager
def scripted(*stories: Story, family: int = socket.AF_INET) -> Iterator[ScriptedServer]:
    server = ScriptedServer(*stories, family=family)
    try:
        yield server
    finally:
        server.close()


def happened(flag: Flag, within: float = 1.5) -> bool:
    """Waits for a flag; whether it was set in time."""
    return bool(flag.wait(within))


def after_login(*frames: bytes, then: Callable[[Client], None] = Client.until_closed) -> Story:
    """Lets in, waits for one command (so that the handlers are in place), answers it, says these frames."""

    def story(client: Client) -> None:
        client.let_in()
        client.send(usual(client.command()))
        client.send(b"".join(frames))
        then(client)

    return story
