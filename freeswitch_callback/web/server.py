"""The HTTP server: gevent's, with an end to everything that a client can draw out.

What pywsgi leaves open (gevent 26.9): a request line and headers may come in as slowly as one likes, a body
that nobody read is read to its end, a client that does not read blocks its writer for ever, and a TLS
handshake has no end either. Here each has a deadline, connections have a bound, and so have those of one
address.
"""

from __future__ import annotations

import socket
import ssl
from collections import Counter
from collections.abc import Callable
from typing import Any

import gevent
import structlog
from gevent import pywsgi
from gevent.pool import Pool

from freeswitch_callback.errors import ConfigurationError

log = structlog.get_logger(__name__)

MOST_CONNECTIONS = 2000
MOST_OF_ONE_ADDRESS = 1000

IDLE = 30.0
"""Seconds that a connection waits for a request."""
HEADERS_WITHIN = 10.0
SENT_AHEAD = 64 * 1024
"""Bytes that wait in the kernel for one client."""
WRITE_WITHIN = 20.0
"""Seconds for what is written at once, some 64 kB."""
HANDSHAKE_WITHIN = 10.0
_DISCARD, _DISCARD_WITHIN = 1 << 20, 2.0
"""Bytes, and seconds, of a body that nobody wanted: then the connection is closed."""


class _Unwanted:
    """In the place of the input, whose rest pywsgi reads once the request is answered."""

    def __init__(self, handler: _Handler, rest: pywsgi.Input) -> None:
        self._handler = handler
        self._rest = rest

    def _discard(self) -> None:
        left = self._rest.chunked_input or (self._rest.content_length or 0) - self._rest.position
        if not left:
            return
        if self._rest.chunked_input or left > _DISCARD:
            self._handler.close_connection = True
            return
        with gevent.Timeout(_DISCARD_WITHIN, False):
            self._rest._discard()
            return
        self._handler.close_connection = True


class _Handler(pywsgi.WSGIHandler):
    def handle(self) -> None:
        self.socket.settimeout(WRITE_WITHIN)
        # Headers and body are written one after the other. Without this, on a connection that is used again,
        # the body waits until the other side confirms the headers, which takes it 40 ms.
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Else the kernel takes megabytes for each that does not read, before anybody notices.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SENT_AHEAD)
        super().handle()

    def read_requestline(self) -> str:
        with gevent.Timeout(IDLE, TimeoutError("no request")):  # an OSError: the connection is closed
            return str(super().read_requestline())

    def read_request(self, raw_requestline: str) -> bool:
        with gevent.Timeout(HEADERS_WITHIN, ValueError("the headers came in too slowly")):
            return bool(super().read_request(raw_requestline))

    def get_environ(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environ()
        self.wsgi_input: Any = _Unwanted(self, self.wsgi_input)
        return environ

    def _connection_upgrade_requested(self) -> bool:
        return False

    def handle_error(self, t: Any, v: Any, tb: Any) -> None:
        if isinstance(v, OSError):  # gone, or too slow
            self.close_connection = True
            log.debug("client_gone", error=repr(v))
        else:
            super().handle_error(t, v, tb)


class _Log:
    """What pywsgi writes about wrong requests: any stranger can send as many as they like."""

    def write(self, text: str) -> None:
        log.debug("http", said=text.strip()[:500])


class Server(pywsgi.WSGIServer):
    """`start` it; `stop` closes the door and gives requests a second. Raises `ConfigurationError`."""

    def __init__(
        self,
        listen: tuple[str, int],
        app: Any,
        *,
        certificate: str | None = None,
        key: str | None = None,
        many_from: Callable[[str], bool] = lambda _address: False,
    ) -> None:
        """`many_from`: addresses that may have as many connections as they like, as proxies do."""
        tls = {"ssl_context": _tls(certificate, key)} if certificate and key else {}
        super().__init__(
            listen,
            app,
            log=None,
            error_log=_Log(),
            handler_class=_Handler,
            spawn=Pool(MOST_CONNECTIONS),
            **tls,
        )
        self._many_from = many_from
        self._of_address: Counter[str] = Counter()

    def start(self) -> None:
        try:
            super().start()
        except OSError as error:
            host, port = self.address[:2]
            raise ConfigurationError(
                f"web.listen: cannot listen on {host}:{port}: {error.strerror}"
            ) from error
        log.info("listening", address=self.server_host, port=self.server_port)

    def wrap_socket_and_handle(self, client_socket: Any, address: Any) -> Any:
        client_socket.settimeout(HANDSHAKE_WITHIN)
        try:
            with gevent.Timeout(HANDSHAKE_WITHIN, TimeoutError("the handshake takes too long")):
                client_socket = self.wrap_socket(client_socket, **self.ssl_args)
        except OSError as error:  # ssl.SSLError is one
            log.debug("no_handshake", error=str(error))
            client_socket.close()
            return None
        try:
            return self.handle(client_socket, address)
        finally:
            client_socket.close()

    def handle(self, sock: Any, address: Any) -> None:
        host = str(address[0])
        if self._of_address[host] >= MOST_OF_ONE_ADDRESS and not self._many_from(host):
            sock.close()
            return
        self._of_address[host] += 1
        try:
            super().handle(sock, address)
        finally:
            self._of_address[host] -= 1
            if not self._of_address[host]:
                del self._of_address[host]


def _tls(certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"web.tls_certificate and web.tls_key cannot be used: {error}; they are PEM files that belong "
            "together, the key without a password"
        ) from error
    return context
