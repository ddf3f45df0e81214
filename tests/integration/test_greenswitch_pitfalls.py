"""What greenswitch 0.0.19 does badly, one test a defect: ours passes, its own class is expected to fail.

The line numbers are those of `greenswitch/esl.py`. Every wait has a deadline of its own, so that a hang is a
failed assertion; the one defect that stops the whole hub is shown in a process of its own.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.event import Event as Flag
from greenswitch.esl import InboundESL

from freeswitch_callback.esl.client import Connection
from tests.integration.scripted_server import (
    GREETING,
    Client,
    ScriptedServer,
    Story,
    after_login,
    answer,
    event,
    happened,
    reply,
    scripted,
    usual,
)

DEADLINE = 3.0
"""Seconds for what must happen; stock greenswitch, which is known to fail, is waited for less."""


@pytest.fixture(autouse=True)
def _not_long_for_what_will_not_come(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("stock"):
        monkeypatch.setattr(sys.modules[__name__], "DEADLINE", 0.4)


class Ours:
    """The face that the tests see."""

    def __init__(self, host: str, port: int) -> None:
        self.esl: Any = Connection(
            host,
            port,
            "secret",
            connect_timeout=0.2,
            reply_timeout=0.2,
            maxsize=10,
            handler_errors=(ValueError,),
        )
        self.consumer: Any = None

    def connect(self) -> None:
        self.esl.connect()

    def api(self, text: str) -> str:
        return self.esl.api(text)

    def on_event(self, handler: Callable[[Any], None]) -> None:
        self.esl.register_handle("*", handler)

    def listen(self) -> None:
        self.consumer = gevent.spawn(self.esl.process_events)

    def on_loss(self, told: Callable[[], None]) -> None:
        gevent.spawn(self.esl.ended.wait).link(lambda _: told())

    def header(self, one: Any, name: str) -> str | None:
        return one.get(name)

    def close(self) -> None:
        self.esl.close()
        gevent.killall([self.consumer] if self.consumer else [], timeout=1)


class Stock(Ours):
    def __init__(self, host: str, port: int) -> None:
        self.esl = InboundESL(host, port, "secret", timeout=0.2)
        self.consumer = None

    def api(self, text: str) -> str:
        return self.esl.send("api " + text).data

    def listen(self) -> None:
        self.consumer = self.esl._process_events_greenlet

    def on_loss(self, told: Callable[[], None]) -> None:
        self.esl.register_handle("DISCONNECT", lambda one: told())

    def header(self, one: Any, name: str) -> str | None:
        return one.headers.get(name)

    def close(self) -> None:
        self.esl._run = False
        greenlets = (self.esl._receive_events_greenlet, self.esl._process_events_greenlet)
        gevent.killall([greenlet for greenlet in greenlets if greenlet], block=False)
        if hasattr(self.esl, "sock"):
            self.esl.sock.close()


known_defect = [
    pytest.mark.stock,
    pytest.mark.xfail(strict=True, raises=AssertionError, reason="known defect"),
]
both = pytest.mark.parametrize("client", [Ours, pytest.param(Stock, marks=known_defect)])


@contextmanager
def soon(what: str) -> Iterator[None]:
    """What hangs inside is a failed assertion."""
    seconds = DEADLINE
    with gevent.Timeout(seconds, AssertionError(f"{what}: still waiting after {seconds} s")):
        yield


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + DEADLINE
    while not condition() and time.monotonic() < deadline:
        gevent.sleep(0)
    return condition()


@contextmanager
def talking(client: type[Ours], *stories: Story, seen: list[Any] | None = None) -> Iterator[Any]:
    """A client that is let in; what it hears goes to `seen`, if that is given."""
    with scripted(*stories) as server:
        ours = client(server.host, server.port)
        try:
            with soon("connecting"):
                ours.connect()
            if seen is not None:
                ours.on_event(seen.append)
                ours.listen()
            yield ours
        finally:
            ours.close()


def cut(client: Client) -> None:
    """Hangs up."""


def hears(client: Client) -> None:
    """Takes a command and hangs up."""
    client.command()


def go(client: Any) -> None:
    with soon("the first command"):
        client.api("uptime")


@pytest.mark.parametrize("client", [Ours, Stock])
def test_a_healthy_conversation_works_with_both(client: type[Ours]) -> None:
    """So that the failures below are the class's own and not the adapter's."""
    seen: list[Any] = []
    with talking(client, after_login(event("HEARTBEAT", A="1"), then=Client.serve), seen=seen) as one:
        go(one)
        assert eventually(lambda: len(seen) == 1)
        assert one.header(seen[0], "A") == "1"
        with soon("a command"):
            assert one.api("uptime") == "+OK\n"


@both
def test_line_31_a_caller_cannot_write_headers(client: type[Ours]) -> None:
    seen: list[Any] = []
    forged = event("CHANNEL_CREATE", Caller="Bob%0AUnique-ID: forged")
    with talking(client, after_login(forged), seen=seen) as one:
        go(one)
        assert eventually(lambda: len(seen) == 1)
        assert one.header(seen[0], "Unique-ID") is None


@both
def test_line_30_the_result_of_a_job_is_no_header(client: type[Ours]) -> None:
    seen: list[Any] = []
    job = event("BACKGROUND_JOB", b"+OK done\nJob-UUID: other\n", Job_UUID="mine")
    with talking(client, after_login(job), seen=seen) as one:
        go(one)
        assert eventually(lambda: len(seen) == 1)
        assert one.header(seen[0], "Job-UUID") == "mine"


@both
def test_line_108_the_end_inside_a_body_does_not_stop_the_hub(client: type[Ours]) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.integration.test_greenswitch_pitfalls", client.__name__],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "connected\n"
        with soon("the end of file"):
            assert child.stdout.readline() == "lost\n"
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def in_a_process_of_its_own(client: type[Ours]) -> None:
    half = b"Content-Length: 1000\nContent-Type: text/event-plain\n\nEvent-Name: HEARTBEAT\n"
    with talking(client, after_login(half, then=cut)) as one:
        print("connected", flush=True)
        go(one)
        if eventually(lambda: not one.esl.connected):
            print("lost", flush=True)


@both
@pytest.mark.parametrize(
    "garbage",
    [
        b"Content-Length: 5\n\nhello",
        b"Content-Type: text/event-plain\n\n",
        b"Content-Type: text/event-plain\nContent-Length: many\n\n",
        reply("+OK nobody asked"),
    ],
    ids=["no Content-Type", "no Content-Length", "bad Content-Length", "unsolicited reply"],
)
def test_line_124_garbage_ends_the_connection_visibly(client: type[Ours], garbage: bytes) -> None:
    with talking(client, after_login(garbage)) as one:
        go(one)
        assert eventually(lambda: not one.esl.connected)


@both
@pytest.mark.parametrize("where", ["header", "body"])
def test_line_83_one_byte_that_is_no_utf8_stops_nothing(client: type[Ours], where: str) -> None:
    seen: list[Any] = []
    odd = {
        "header": b"Content-Type: log/data\nUser-Data: \xff\nContent-Length: 0\n\n",
        "body": event("CHANNEL_CREATE", A="x").replace(b"A: x", b"A: \xff"),
    }[where]
    with talking(client, after_login(odd, event("HEARTBEAT")), seen=seen) as one:
        go(one)
        assert eventually(lambda: any(one.header(it, "Event-Name") == "HEARTBEAT" for it in seen))


@both
def test_line_91_the_end_is_told(client: type[Ours]) -> None:
    told = Flag()
    with talking(client, after_login(then=cut), seen=[]) as one:
        one.on_loss(told.set)
        go(one)
        assert happened(told, DEADLINE)


@both
def test_line_91_commands_that_wait_at_the_end_wait_no_longer(client: type[Ours]) -> None:
    with talking(client, after_login(then=hears)) as one:
        go(one)
        waiting = gevent.spawn(one.api, "uptime")
        waiting.join(DEADLINE)
        ended = waiting.ready()
        waiting.kill(block=False)
        assert ended


@both
def test_line_91_connecting_a_second_time_does_not_hang(client: type[Ours]) -> None:
    with talking(client, after_login(then=cut), Client.serve) as one:
        go(one)
        assert eventually(lambda: not one.esl.connected)
        again = gevent.spawn(one.connect)
        again.join(DEADLINE)
        ended = again.ready()
        again.kill(block=False)
        assert ended


@both
def test_line_170_events_that_were_received_are_handled_though_the_line_is_cut(client: type[Ours]) -> None:
    seen: list[Any] = []
    frames = [event("HEARTBEAT", N=str(number)) for number in range(50)]

    def slow(one: Any) -> None:
        gevent.sleep(0)
        seen.append(one)

    with talking(client, after_login(*frames, then=cut)) as one:
        one.on_event(slow)
        one.listen()
        go(one)
        assert eventually(lambda: not one.esl.connected)
        assert eventually(lambda: len(seen) == 50)


@both
@pytest.mark.parametrize("text", ["uptime\n\napi system x", "uptime\nJob-UUID: forged"])
def test_line_211_text_that_is_two_commands_is_not_sent(client: type[Ours], text: str) -> None:
    heard: list[str] = []

    def write_down(far_end: Client) -> None:
        while command := far_end.command():
            heard.append(command)
            far_end.send(usual(command))

    with talking(client, after_login(then=write_down)) as one:
        go(one)
        asked = gevent.spawn(one.api, text)
        asked.join(DEADLINE)
        assert not eventually(lambda: bool(heard))


@both
def test_line_214_a_long_command_arrives_whole(client: type[Ours]) -> None:
    class ShortSends:
        """A socket that takes ten bytes at a time, as a socket may."""

        def __init__(self, sock: Any) -> None:
            self._sock = sock

        def send(self, data: bytes, **options: Any) -> int:
            taken: int = self._sock.send(data[:10], **options)
            return taken

        def __getattr__(self, name: str) -> Any:
            return getattr(self._sock, name)

    with talking(client, after_login(then=lambda far: far.serve(lambda command: answer(command)))) as one:
        go(one)
        one.esl.sock = ShortSends(one.esl.sock)
        with soon("the answer"):
            assert one.api("echo " + "x" * 1000) == "api echo " + "x" * 1000


@both
def test_line_215_a_reply_that_never_comes_is_not_awaited_for_ever(client: type[Ours]) -> None:
    with talking(client, after_login()) as one:
        go(one)
        waiting = gevent.spawn(one.api, "uptime")
        waiting.join(DEADLINE)
        ended = waiting.ready()
        waiting.kill(block=False)
        assert ended


@both
def test_line_127_one_reply_that_is_lost_does_not_shift_the_others(client: type[Ours]) -> None:
    gave_up = Flag()

    def forgetful(far_end: Client) -> None:
        far_end.command()
        gave_up.wait()
        far_end.send(answer(far_end.command()))
        far_end.until_closed()

    with talking(client, after_login(then=forgetful)) as one:
        go(one)
        first = gevent.spawn(one.api, "first")
        first.join(0.02)
        first.kill()
        gave_up.set()
        second = gevent.spawn(one.api, "second")
        second.join(DEADLINE)
        ended, value = second.ready(), second.value
        second.kill(block=False)
        assert ended  # with its own answer, or told that the connection is gone
        assert value in (None, "api second")


@both
def test_line_54_what_is_not_handled_yet_does_not_pile_up(client: type[Ours]) -> None:
    frames = [event("HEARTBEAT", N=str(number)) for number in range(300)]
    release = Flag()
    with talking(client, after_login(*frames)) as one:
        one.on_event(lambda _: release.wait())
        one.listen()
        go(one)
        try:
            assert not eventually(lambda: one.esl._esl_event_queue.qsize() > 50)
        finally:
            release.set()


@both
def test_line_164_a_handler_can_be_killed(client: type[Ours]) -> None:
    entered = Flag()

    def handler(_: Any) -> None:
        entered.set()
        Flag().wait()

    with talking(client, after_login(event("HEARTBEAT"))) as one:
        one.on_event(handler)
        one.listen()
        go(one)
        assert happened(entered)
        one.consumer.kill(block=False)
        one.consumer.join(DEADLINE)
        assert one.consumer.dead


@both
def test_line_166_a_partial_that_fails_does_not_end_the_handling(client: type[Ours]) -> None:
    seen: list[Any] = []

    def handler(into: list[Any], one: Any) -> None:
        into.append(one)
        raise ValueError("this event makes no sense")

    with talking(client, after_login(event("HEARTBEAT"), event("HEARTBEAT"))) as one:
        one.on_event(partial(handler, seen))
        one.listen()
        go(one)
        assert eventually(lambda: len(seen) == 2)


def ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@both
@pytest.mark.skipif(not ipv6(), reason="no IPv6 here")
def test_line_243_ipv6_is_an_address(client: type[Ours]) -> None:
    with scripted(Client.let_in, family=socket.AF_INET6) as server:
        connecting = gevent.spawn(_connect, client, server)
        connecting.join(DEADLINE)
        assert connecting.value == "connected"


def _connect(client: type[Ours], server: ScriptedServer) -> str:
    one = client(server.host, server.port)
    try:
        one.connect()
    finally:
        one.close()
    return "connected"


@both
def test_line_243_a_line_that_died_silently_is_found_by_tcp(client: type[Ours]) -> None:
    with talking(client, after_login()) as one:
        assert one.esl.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


@both
@pytest.mark.parametrize(
    "story",
    [Client.until_closed, lambda far: (far.send(GREETING), far.until_closed())],
    ids=["no greeting", "no answer to the password"],
)
def test_line_254_a_silent_server_does_not_hold_us(client: type[Ours], story: Story) -> None:
    with scripted(story) as server:
        connecting = gevent.spawn(_connect, client, server)
        connecting.join(DEADLINE)
        ended = connecting.ready()
        connecting.kill(block=False)
        assert ended


@both
def test_line_158_an_event_in_json_is_an_event(client: type[Ours]) -> None:
    seen: list[Any] = []
    body = b'{"Event-Name":"HEARTBEAT","Core-UUID":"core-1"}'
    frame = b"Content-Length: %d\nContent-Type: text/event-json\n\n" % len(body) + body
    with talking(client, after_login(frame), seen=seen) as one:
        go(one)
        assert eventually(lambda: len(seen) == 1)
        assert one.header(seen[0], "Core-UUID") == "core-1"


if __name__ == "__main__":
    in_a_process_of_its_own({"Ours": Ours, "Stock": Stock}[sys.argv[1]])
