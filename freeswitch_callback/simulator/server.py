"""The Event Socket on TCP: one reading and one writing greenlet for each client, with bounded output."""

from __future__ import annotations

import socket
from collections import deque
from typing import TYPE_CHECKING

import gevent
from gevent.event import Event
from gevent.server import StreamServer

from freeswitch_callback.simulator.session import Session

if TYPE_CHECKING:
    from freeswitch_callback.simulator.simulator import Simulator

BACKLOG = 100_000  # frames that may wait for a client; more are lost
LOSSES = 500  # a client that lost more is thrown out (mod_event_socket)


class Connection:
    """A client's socket."""

    def __init__(self, client: socket.socket, server: Server) -> None:
        self._client = client
        self._server = server
        self._out: deque[bytes] = deque()
        self._something = Event()
        self._closing = False
        self._lost = 0
        self.session = Session(server.simulator, self.write, self.close_soon)

    def write(self, frame: bytes) -> None:
        if len(self._out) >= self._server.backlog:
            self._lost += 1
            if self._lost > LOSSES:
                self._out.clear()
                self._lost = 0
                self.session.notice("Disconnected, goodbye.\nSee you at ClueCon! http://www.cluecon.com/\n")
                self.session.part()
                self.close_soon()
            return
        self._out.append(frame)
        self._something.set()

    def close_soon(self) -> None:
        """Close when everything has been written."""
        self._closing = True
        self._something.set()

    def cut(self) -> None:
        """End of file for the client, now."""
        try:
            self._client.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it was faster
        self._client.close()

    def read(self) -> None:
        try:
            while data := self._client.recv(65536):
                self.session.receive(data)
        except OSError:
            pass  # reset, or cut by us: the same as an end of file
        self.session.part()
        self.close_soon()

    def keep_writing(self) -> None:
        try:
            while True:
                self._something.wait()
                self._something.clear()
                self._server.voice.wait()
                while self._out:
                    chunk = b"".join(self._out.popleft() for _ in range(min(64, len(self._out))))
                    self._client.sendall(chunk)
                    self._server.voice.wait()
                if self._closing:
                    break
        except OSError:
            pass  # nobody reads any more
        self.session.part()
        self.cut()


class Server:
    """Listens, and knows its clients."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.backlog = BACKLOG
        self.voice = Event()  # unset: mute
        self.voice.set()
        self.connections: set[Connection] = set()
        self._server: StreamServer | None = None

    @property
    def listening(self) -> bool:
        return self._server is not None

    def listen(self, host: str, port: int) -> int:
        """Begin to listen; the port that it became.

        Raises OSError when the address is taken.
        """
        if self._server is None:
            self._server = StreamServer((host, port), self._serve, backlog=256)
            self._server.start()
        return int(self._server.server_port)

    def stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _serve(self, client: socket.socket, _address: object) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(client, self)
        self.connections.add(connection)
        writer = gevent.spawn(connection.keep_writing)
        connection.read()
        writer.join()
        self.connections.discard(connection)

    def cut_all(self) -> None:
        for connection in list(self.connections):
            connection.cut()
