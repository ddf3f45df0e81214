"""Messages between the engine and the pages' process, over a pair of sockets.

They are pickled, each behind its length. That is safe here and nowhere else: the one process has started the
other and handed it the socket, so nobody else can write to it, and whoever could read either's memory needs
no message.
"""

from __future__ import annotations

import pickle
import struct
from typing import Any

from gevent import socket
from gevent.lock import BoundedSemaphore

LARGEST = 16 << 20
"""Bytes of a message. All are made to be small, but rules are as large as a configuration."""

_LENGTH = struct.Struct("!I")


class Pipe:
    """One end. Whole messages only: whoever gives up waiting for `send` or `receive` has to close it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._writing = BoundedSemaphore()

    def send(self, message: object) -> None:
        """Waits until the kernel has all of it. Raises `OSError` once the other end is gone."""
        packed = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        if len(packed) > LARGEST:
            raise ValueError(f"a message of {len(packed):,} bytes: {type(message).__name__}")
        with self._writing:
            self._sock.sendall(_LENGTH.pack(len(packed)) + packed)

    def receive(self) -> Any:
        """The next message; None at the end."""
        head = self._read(_LENGTH.size)
        if head is None:
            return None
        (length,) = _LENGTH.unpack(head)
        if length > LARGEST:
            raise ValueError(f"a message of {length:,} bytes")
        packed = self._read(length)
        return None if packed is None else pickle.loads(packed)

    def _read(self, length: int) -> bytes | None:
        parts = []
        while length:
            try:
                part = self._sock.recv(min(length, 1 << 16))
            except OSError:  # the other end was killed, or this one closed
                return None
            if not part:
                return None
            parts.append(part)
            length -= len(part)
        return b"".join(parts)

    def close(self) -> None:
        """The other end notices, and whoever waits here too."""
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._sock.close()
