"""What a client can draw out: each has an end, and none holds up the others."""

from __future__ import annotations

import socket as plain
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import gevent
import pytest

from freeswitch_callback.errors import ConfigurationError
from freeswitch_callback.web import server as served
from freeswitch_callback.web.server import Server

LONG = b"x" * 200_000


def application(environ, start_response):
    match environ["PATH_INFO"]:
        case "/long":
            start_response("200 OK", [("Content-Type", "text/plain")])
            return (LONG for _ in range(1000))
        case "/read":
            body = environ["wsgi.input"].read()
            start_response("200 OK", [("Content-Length", str(len(str(len(body)))))])
            return [str(len(body)).encode()]
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    running: list[Server] = []

    def begin(**options) -> Server:
        server = Server(("127.0.0.1", 0), application, **options)
        server.start()
        running.append(server)
        return server

    yield begin
    for server in running:
        server.stop(timeout=0.1)


@pytest.fixture
def server(start, monkeypatch) -> Server:
    for name in ("IDLE", "HEADERS_WITHIN", "WRITE_WITHIN", "HANDSHAKE_WITHIN", "_DISCARD_WITHIN"):
        monkeypatch.setattr(served, name, 0.2)
    return start()


def connected(server: Server) -> plain.socket:
    client = plain.create_connection(("127.0.0.1", server.server_port), timeout=10.0)
    client.settimeout(10.0)
    return client


def ask(server: Server, path: str = "/", client: plain.socket | None = None) -> bytes:
    with closing(client or connected(server)) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return until_closed(client)


def until_closed(client: plain.socket) -> bytes:
    """All that comes; raises `TimeoutError` if the other side does not close."""
    got = b""
    while piece := client.recv(65536):
        got += piece
    return got


def one_answer(client: plain.socket) -> None:
    got = b""
    while not got.endswith(b"ok"):
        got += client.recv(65536)


@pytest.mark.parametrize(
    "sent", [b"", b"GET", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nX-Header: half of"]
)
def test_half_a_request_is_not_waited_for(server: Server, sent: bytes):
    with closing(connected(server)) as client:
        client.sendall(sent)
        assert b"200 OK" not in until_closed(client)
    assert ask(server).endswith(b"ok")


def test_headers_that_come_in_drop_by_drop_have_an_end(server: Server):
    with closing(connected(server)) as client:
        client.sendall(b"GET / HTTP/1.1\r\nA: ")

        def drip() -> None:
            while True:
                client.sendall(b"b")
                gevent.sleep(0.02)

        dripping = gevent.spawn(drip)
        try:
            assert b"200 OK" not in until_closed(client)
        except ConnectionError:
            pass
        finally:
            dripping.kill()


def test_a_connection_may_be_used_again_and_does_not_stay_for_ever(server: Server):
    with closing(connected(server)) as client:
        for _ in range(3):
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            one_answer(client)
        assert until_closed(client) == b""


def test_a_body_that_nobody_wants_is_not_waited_for(server: Server):
    with closing(connected(server)) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
        assert until_closed(client).endswith(b"ok")


@pytest.mark.parametrize("length", [b"Content-Length: 9999999999", b"Transfer-Encoding: chunked"])
def test_a_body_without_an_end_is_not_read(server: Server, length: bytes):
    with closing(connected(server)) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\n" + length + b"\r\n\r\n")
        assert until_closed(client).endswith(b"ok")


def test_a_body_that_was_not_wanted_is_not_the_next_request(server: Server):
    with closing(connected(server)) as client:
        hidden = b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n"
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(hidden) + hidden)
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert until_closed(client).count(b"200 OK") == 2


def test_who_does_not_read_is_let_go_and_holds_up_nobody(server: Server):
    with closing(connected(server)) as client:
        client.setsockopt(plain.SOL_SOCKET, plain.SO_RCVBUF, 4096)
        client.sendall(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n")
        assert ask(server).endswith(b"ok")
        with gevent.Timeout(5.0):
            while server.pool.free_count() < served.MOST_CONNECTIONS:
                gevent.sleep(0.01)


def test_little_is_sent_ahead_to_who_does_not_read(monkeypatch):
    """The kernel would take megabytes for each before anybody notices."""
    monkeypatch.setattr(served, "WRITE_WITHIN", 0.2)
    made = 0

    def endless(environ, start_response):
        nonlocal made
        start_response("200 OK", [("Content-Type", "text/plain")])
        while True:
            made += 8192
            yield b"x" * 8192

    server = Server(("127.0.0.1", 0), endless)
    server.start()
    with closing(connected(server)) as client, gevent.Timeout(10.0):
        client.setsockopt(plain.SOL_SOCKET, plain.SO_RCVBUF, 4096)
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        while not made or server.pool.free_count() < served.MOST_CONNECTIONS:
            gevent.idle()
    server.stop(timeout=0.1)
    assert made < 600_000


def test_an_answer_on_a_used_connection_waits_for_no_confirmation(start, monkeypatch):
    """What is written in two parts is held up by 40 ms otherwise (Nagle and late confirmations)."""
    serving = []
    handle = served._Handler.handle
    monkeypatch.setattr(
        served._Handler, "handle", lambda self: (serving.append(self.socket), handle(self))[1]
    )
    server = start()
    with closing(connected(server)) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        one_answer(client)
        assert serving[0].getsockopt(plain.IPPROTO_TCP, plain.TCP_NODELAY)


def test_one_address_has_only_so_many_connections(start, monkeypatch):
    monkeypatch.setattr(served, "MOST_OF_ONE_ADDRESS", 3)
    server = start()
    held = [connected(server) for _ in range(3)]
    for client in held:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        one_answer(client)
    with closing(connected(server)) as one_more:
        assert until_closed(one_more) == b""
    held.pop().close()
    with gevent.Timeout(5.0):
        while not answered(server):
            gevent.sleep(0.01)
    for client in held:
        client.close()


def answered(server: Server) -> bool:
    try:
        return ask(server).endswith(b"ok")
    except ConnectionError:
        return False


def test_a_proxy_may_have_more(start, monkeypatch):
    monkeypatch.setattr(served, "MOST_OF_ONE_ADDRESS", 0)
    assert ask(start(many_from=lambda address: address == "127.0.0.1")).endswith(b"ok")


def test_an_address_that_is_taken_is_told(start):
    port = start().server_port
    with pytest.raises(ConfigurationError, match=rf"web.listen: cannot listen on 127.0.0.1:{port}"):
        Server(("127.0.0.1", port), application).start()


@pytest.fixture
def certificate(tmp_path: Path) -> dict[str, str]:
    made = {"certificate": str(tmp_path / "cert.pem"), "key": str(tmp_path / "key.pem")}
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-days", "1", "-subj", "/CN=localhost", "-keyout", made["key"], "-out", made["certificate"]],
        check=True, capture_output=True,
    )  # fmt: skip
    return made


def test_over_tls(start, certificate, monkeypatch):
    monkeypatch.setattr(served, "HANDSHAKE_WITHIN", 0.2)
    server = start(**certificate)
    context = ssl.create_default_context(cafile=certificate["certificate"])
    context.check_hostname = False
    with closing(connected(server)) as half_open:
        client = context.wrap_socket(connected(server), server_hostname="localhost")
        assert ask(server, client=client).endswith(b"ok")
        assert until_closed(half_open) == b""
    with closing(connected(server)) as clear:
        clear.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            assert b"200 OK" not in until_closed(clear)
        except ConnectionError:
            pass


def test_files_that_are_no_certificate_are_told(tmp_path: Path):
    path = tmp_path / "no.pem"
    path.write_text("no")
    with pytest.raises(ConfigurationError, match=r"web.tls_certificate and web.tls_key cannot be used"):
        Server(("127.0.0.1", 0), application, certificate=str(path), key=str(path))
