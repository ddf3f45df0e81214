"""One connection and one node against a server that misbehaves on purpose."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import gevent
import pytest
from gevent import monkey, socket
from gevent.event import Event as Flag
from gevent.queue import Queue

from freeswitch_callback.errors import (
    CommandFailed,
    FreeSwitchRefused,
    FreeSwitchUnreachable,
    ProtocolError,
    UnsafeValue,
)
from freeswitch_callback.esl.client import Connection
from freeswitch_callback.esl.commands import Originate
from tests.integration.scripted_server import (
    GREETING,
    Client,
    Story,
    answer,
    event,
    happened,
    reply,
    scripted,
    usual,
)

pytestmark = pytest.mark.timeout(10)


@contextmanager
def connected(*stories: Story, **options: Any) -> Iterator[Connection]:
    with scripted(*stories) as server:
        connection = Connection(server.host, server.port, "secret", **{"reply_timeout": 1.0, **options})
        connection.connect()
        try:
            yield connection
        finally:
            connection.close()


def after_login(*steps: Callable[[Client], None]) -> Story:
    def story(client: Client) -> None:
        client.let_in()
        for step in steps:
            step(client)

    return story


def says(data: bytes) -> Callable[[Client], None]:
    return lambda client: client.send(data)


def hears(client: Client) -> None:
    client.command()


def stays(client: Client) -> None:
    client.until_closed()


ORIGINATE = Originate(
    job_uuid="job-1",
    call_uuid="call-1",
    entry=7,
    mode="agent-first",
    number="+12025550206",
    dial_string="sofia/gateway/main/{number}",
    caller_id_number="+12025559999",
    contact="user/1001@default",
    queue="support@default",
    ring_timeout=30,
    wait=157,
    reason="abandoned",
    missed_id=12,
)


class TestConnecting:
    def test_the_password_goes_out_once_and_lets_us_in(self) -> None:
        heard: Queue[str] = Queue()

        def story(client: Client) -> None:
            client.send(GREETING)
            heard.put(client.command())
            client.send(reply("+OK accepted"))
            client.serve()

        with connected(story) as connection:
            assert connection.api("uptime") == "+OK\n"
        assert heard.get(timeout=1) == "auth secret"

    def test_a_wrong_password_is_said_without_showing_it(self) -> None:
        def story(client: Client) -> None:
            client.send(GREETING)
            client.command()
            client.send(reply("-ERR invalid"))

        with pytest.raises(FreeSwitchRefused, match="password") as refused, connected(story):
            pass
        assert "secret" not in str(refused.value)

    def test_an_acl_that_does_not_let_us_in_is_named(self) -> None:
        rude = b"Content-Type: text/rude-rejection\nContent-Length: 24\n\nAccess Denied, go away.\n"
        with pytest.raises(FreeSwitchRefused, match="ACL"), connected(says(rude)):
            pass

    def test_nobody_listening_is_unreachable(self) -> None:
        with scripted(stays) as server:
            port = server.port
        with pytest.raises(FreeSwitchUnreachable, match=f"127.0.0.1:{port}"):
            Connection("127.0.0.1", port, "secret").connect()

    @pytest.mark.parametrize("story", [stays, hears, lambda client: client.send(GREETING + b"x")])
    def test_a_server_that_is_silent_or_hangs_up_has_one_deadline(self, story: Story) -> None:
        began = time.monotonic()
        with scripted(story) as server:
            connection = Connection(server.host, server.port, "secret", connect_timeout=0.1)
            with pytest.raises(FreeSwitchUnreachable):
                connection.connect()
        assert time.monotonic() - began < 1

    def test_a_web_server_is_told_from_freeswitch_at_its_first_line(self) -> None:
        page = b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n"
        with pytest.raises(ProtocolError, match=r"HTTP/1\.1 400"), connected(says(page)):
            pass

    def test_ipv6_and_keepalive(self) -> None:
        try:
            socket.socket(socket.AF_INET6).bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 here")
        with scripted(after_login(Client.serve), family=socket.AF_INET6) as server:
            connection = Connection("::1", server.port, "secret")
            connection.connect()
            assert connection.api("uptime") == "+OK\n"
            assert connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            connection.close()

    def test_a_connection_that_was_not_let_in_is_closed(self) -> None:
        closed = Flag()

        def silent(client: Client) -> None:
            client.until_closed()
            closed.set()

        with scripted(silent) as server:
            connection = Connection(server.host, server.port, "secret", connect_timeout=0.02)
            with pytest.raises(FreeSwitchUnreachable):
                connection.connect()
            assert happened(closed)

    def test_one_object_connects_once(self) -> None:
        with connected(after_login(stays)) as connection, pytest.raises(RuntimeError):
            connection.connect()


class TestCommands:
    def test_replies_go_to_their_commands_in_order(self) -> None:
        with connected(
            after_login(lambda client: client.serve(lambda command: answer(command)))
        ) as connection:
            asked = [f"echo {number}" for number in range(20)]
            waiting = [gevent.spawn(connection.api, text) for text in asked]
            gevent.joinall(waiting, timeout=1)
            assert [greenlet.value for greenlet in waiting] == [f"api {text}" for text in asked]

    def test_text_with_a_second_command_in_it_is_never_sent(self) -> None:
        heard: Queue[str] = Queue()

        def echo(client: Client) -> None:
            while command := client.command():
                heard.put(command)
                client.send(usual(command))

        with connected(after_login(echo)) as connection:
            for text in ("uptime\n\napi system x", "uptime\nJob-UUID: forged", "a\rb", "a\x00b"):
                with pytest.raises(UnsafeValue):
                    connection.api(text)
                with pytest.raises(UnsafeValue):
                    connection.send("api " + text)
            connection.api("uptime")
            assert heard.get(timeout=1) == "api uptime"
            assert heard.empty()

    def test_a_late_reply_drops_the_connection(self) -> None:
        with connected(after_login(stays), reply_timeout=0.05) as connection:
            with pytest.raises(FreeSwitchUnreachable, match="in time"):
                connection.api("uptime")
            with pytest.raises(FreeSwitchUnreachable, match="not sent"):
                connection.api("uptime")

    def test_replies_that_are_awaited_when_the_line_is_cut_raise_at_once(self) -> None:
        with connected(after_login(hears, hears), reply_timeout=30) as connection:
            waiting = [gevent.spawn(self._unreachable, connection) for _ in range(2)]
            assert len(gevent.joinall(waiting, timeout=1)) == 2
            assert all(greenlet.value for greenlet in waiting)

    @staticmethod
    def _unreachable(connection: Connection) -> bool:
        with pytest.raises(FreeSwitchUnreachable):
            connection.api("uptime")
        return True

    def test_a_sender_that_is_killed_takes_the_connection_with_it(self) -> None:
        sent = Flag()

        def story(client: Client) -> None:
            client.let_in()
            client.command()
            sent.set()
            client.until_closed()

        with connected(story, reply_timeout=30) as connection:
            sender = gevent.spawn(connection.api, "msleep 3000")
            assert happened(sent)
            sender.kill()
            assert "did not answer" in str(connection.lost)

    def test_a_reply_that_nobody_asked_for_drops_the_connection(self) -> None:
        with connected(after_login(says(answer("24\n")), stays)) as connection:
            assert list(connection.events()) == []
            assert isinstance(connection.lost, ProtocolError)
            assert "nobody asked" in str(connection.lost)

    def test_a_reply_that_came_while_the_hub_stood_still_is_not_late(self) -> None:
        def busy(client: Client) -> None:
            until = time.monotonic() + 0.1
            while time.monotonic() < until:
                pass

        with connected(
            after_login(hears, says(answer("24\n")), busy, stays), reply_timeout=0.05
        ) as connection:
            assert connection.api("uptime") == "24\n"

    def test_two_senders_do_not_write_into_each_others_commands(self) -> None:
        class SlowSocket:
            def __init__(self, sock: Any) -> None:
                self._sock = sock

            def send(self, data: bytes, timeout: float) -> int:
                taken: int = self._sock.send(data[:1], timeout=timeout)
                return taken

            def sendall(self, data: bytes) -> None:
                for at in range(len(data)):
                    self._sock.sendall(data[at : at + 1])
                    gevent.sleep(0)

            def __getattr__(self, name: str) -> Any:
                return getattr(self._sock, name)

        with connected(after_login(lambda client: client.serve(answer))) as connection:
            connection.sock = SlowSocket(connection.sock)
            waiting = [gevent.spawn(connection.api, text) for text in ("first", "second")]
            gevent.joinall(waiting, timeout=1)
            assert [greenlet.value for greenlet in waiting] == ["api first", "api second"]

    def test_a_server_that_takes_no_command_is_not_waited_for(self) -> None:
        class FullSocket:
            def __init__(self, sock: Any) -> None:
                self._sock = sock

            def send(self, data: bytes, timeout: float) -> int:
                raise BlockingIOError

            def sendall(self, data: bytes) -> None:
                Flag().wait()

            def __getattr__(self, name: str) -> Any:
                return getattr(self._sock, name)

        with connected(after_login(stays), reply_timeout=0.05) as connection:
            connection.sock = FullSocket(connection.sock)
            with gevent.Timeout(1), pytest.raises(FreeSwitchUnreachable, match="took no command"):
                connection.api("uptime")
            assert connection.lost is not None

    def test_an_answer_of_the_wrong_kind_drops_the_connection(self) -> None:
        with connected(after_login(hears, says(reply("+OK whatever")), stays)) as connection:
            with pytest.raises(FreeSwitchUnreachable):
                connection.api("uptime")
            assert isinstance(connection.lost, ProtocolError)

    def test_a_command_that_may_not_be_run_fails_alone(self) -> None:
        denied = reply("-ERR permission denied")
        with connected(after_login(hears, says(denied), Client.serve)) as connection:
            with pytest.raises(CommandFailed, match="permission denied"):
                connection.api("show channels")
            assert connection.api("uptime") == "+OK\n"

    def test_an_originate_gives_its_job_back(self) -> None:
        with connected(after_login(Client.serve)) as connection:
            assert connection.bgapi(ORIGINATE) == "job-1"

    def test_an_originate_that_is_refused_is_not_dialled(self) -> None:
        with (
            connected(after_login(hears, says(reply("-ERR command not found")), stays)) as connection,
            pytest.raises(CommandFailed),
        ):
            connection.bgapi(ORIGINATE)

    def test_the_reply_to_another_originate_drops_the_connection(self) -> None:
        other = reply("+OK Job-UUID: job-0", "Job-UUID: job-0")
        with connected(after_login(hears, says(other), stays)) as connection:
            with pytest.raises(FreeSwitchUnreachable, match="job-0"):
                connection.bgapi(ORIGINATE)
            assert connection.lost is not None

    def test_bytes_that_are_no_utf8_do_not_stop_an_answer(self) -> None:
        odd = b"Content-Type: api/response\nContent-Length: 3\n\n\xff\xfex"
        with connected(after_login(hears, says(odd), stays)) as connection:
            assert connection.api("show channels") == "\ufffd\ufffdx"


class TestEvents:
    def test_what_was_received_is_read_before_the_loss_is_told(self) -> None:
        stream = b"".join(event("HEARTBEAT", N=str(number)) for number in range(50))
        with connected(after_login(says(stream))) as connection:
            assert [one.get("N") for one in connection.events()] == [str(number) for number in range(50)]
            assert isinstance(connection.lost, FreeSwitchUnreachable)
            with pytest.raises(FreeSwitchUnreachable, match="closed the connection"):
                connection.next_event()

    def test_nothing_within_the_time_is_none(self) -> None:
        with connected(after_login(stays)) as connection:
            assert connection.next_event(timeout=0.001) is None

    def test_a_full_queue_stops_the_reading_and_loses_nothing(self) -> None:
        count = 3000
        stream = b"".join(event("HEARTBEAT", N=str(number), Pad="x" * 4000) for number in range(count))
        all_sent = Flag()

        def story(client: Client) -> None:
            client.let_in()
            client.send(stream)
            all_sent.set()
            client.until_closed()

        with connected(story, maxsize=10) as connection:
            assert not all_sent.wait(0.2)  # TCP holds the server back
            assert len(connection._received) == 10
            got = [connection.next_event(timeout=1).get("N") for _ in range(count)]  # type: ignore[union-attr]
            assert got == [str(number) for number in range(count)]
            assert happened(all_sent)

    def test_deadlines_stand_still_while_we_do_not_read(self) -> None:
        backlog = b"".join(event("HEARTBEAT", N=str(number)) for number in range(4))
        with connected(
            after_login(says(backlog), hears, says(answer("24\n")), stays),
            maxsize=2,
            reply_timeout=0.1,
            heartbeat_timeout=0.1,
        ) as connection:
            asked = gevent.spawn(connection.api, "uptime")
            asked.join(0.3)
            assert not asked.ready()  # three times its deadline, and the reply is behind our own backlog
            assert connection.lost is None
            for _ in range(4):
                assert connection.next_event(timeout=1) is not None
            assert asked.get(timeout=1) == "24\n"

    def test_silence_ends_the_connection(self) -> None:
        with connected(after_login(stays), heartbeat_timeout=0.05) as connection:
            assert list(connection.events()) == []
            assert "silent for 0.05 s" in str(connection.lost)

    def test_silence_is_noticed_in_time_whenever_the_last_word_was_heard(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = 0.0

        class Passes(Flag):
            """Nothing happens while it is waited for, but that time passes."""

            def wait(self, timeout: float | None = None) -> bool:
                nonlocal now
                assert timeout is not None
                now += timeout
                return self.is_set()

        monkeypatch.setattr("freeswitch_callback.esl.client.time.monotonic", lambda: now)
        connection = Connection("127.0.0.1", 8021, "secret")
        connection.ended = Passes()
        connection._heard = 0.3
        connection._watch_for_silence(45.0)
        assert "silent for 45 s" in str(connection.lost)
        assert now == pytest.approx(45.3)

    def test_what_came_while_this_process_was_stopped_is_no_silence(self) -> None:
        clients: Queue[Client] = Queue()

        def story(client: Client) -> None:
            client.let_in()
            clients.put(client)
            client.until_closed()

        with connected(story, heartbeat_timeout=0.3) as connection:
            client = clients.get(timeout=1)
            monkey.get_original("time", "sleep")(0.4)  # nobody else's turn until it has come
            os.write(client.sock.fileno(), event("HEARTBEAT"))
            assert connection.next_event(timeout=1) is not None
            assert connection.lost is None

    def test_something_is_done_while_freeswitch_answers(self) -> None:
        prepared = Flag()

        def answers_behind_it(client: Client) -> None:
            client.command()
            assert prepared.wait(1)
            client.send(answer("24\n"))

        with connected(after_login(answers_behind_it, stays)) as connection:
            assert connection.apis("uptime", meanwhile=prepared.set) == ["24\n"]

    def test_garbage_ends_the_connection_behind_the_last_good_event(self) -> None:
        stream = event("HEARTBEAT") + b"Content-Type: text/event-plain\nContent-Length: many\n\n"
        with connected(after_login(says(stream), stays)) as connection:
            assert [one.name for one in connection.events()] == ["HEARTBEAT"]
            assert isinstance(connection.lost, ProtocolError)

    def test_a_reset_line_ends_the_connection(self) -> None:
        with connected(after_login(Client.reset)) as connection:
            assert list(connection.events()) == []
            assert connection.lost is not None

    def test_an_error_of_a_handler_concerns_one_event_only(self) -> None:
        seen = []

        def handler(prefix: str, one: Any) -> None:
            seen.append(prefix + one.get("N"))
            raise ValueError("this event makes no sense")

        stream = event("HEARTBEAT", N="1") + event("HEARTBEAT", N="2")
        with connected(after_login(says(stream))) as connection:
            connection.register_handle("HEARTBEAT", partial(handler, "n"))
            connection.process_events()
        assert seen == ["n1", "n2"]

    def test_it_says_when_all_that_was_received_is_handled(self) -> None:
        said: list[str] = []
        stream = b"".join(event("HEARTBEAT", N=str(number)) for number in range(5))
        with connected(after_login(says(stream))) as connection:
            assert happened(connection.ended)  # so all five wait
            connection.register_handle("*", lambda one: said.append(one.get("N")))
            connection.on_pause = lambda: said.append("pause")
            connection.process_events()
        assert said == ["0", "1", "2", "3", "4", "pause"]

    def test_it_says_so_after_each_event_when_they_come_one_by_one(self) -> None:
        said: list[str] = []
        paused = Queue()

        def one_by_one(client: Client) -> None:
            for number in range(3):
                client.send(event("HEARTBEAT", N=str(number)))
                paused.get(timeout=5)

        with connected(after_login(one_by_one)) as connection:
            connection.register_handle("*", lambda one: said.append(one.get("N")))
            connection.on_pause = lambda: said.append("pause") or paused.put(True)
            connection.process_events()
        assert said == ["0", "pause", "1", "pause", "2", "pause"]

    def test_a_long_burst_is_interrupted_every_now_and_then(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("freeswitch_callback.esl.client.LONGEST_RUN", 2)
        said: list[str] = []
        stream = b"".join(event("HEARTBEAT", N=str(number)) for number in range(5))
        with connected(after_login(says(stream))) as connection:
            assert happened(connection.ended)
            connection.register_handle("*", lambda one: said.append(one.get("N")))
            connection.on_pause = lambda: said.append("pause")
            connection.process_events()
        assert said == ["0", "1", "pause", "2", "3", "pause", "4", "pause"]

    def test_events_are_handled_as_they_are_read_and_not_piled_up_first(self) -> None:
        waiting: list[int] = []
        listens = Flag()
        stream = b"".join(event("HEARTBEAT", Filler="x" * 4000) for _ in range(2000))
        with connected(after_login(lambda _: listens.wait(5), says(stream))) as connection:
            connection.register_handle("*", lambda _: waiting.append(len(connection._received)))
            handling = gevent.spawn(connection.process_events)
            listens.set()
            handling.get(timeout=5)
        assert len(waiting) == 2000
        assert max(waiting) < 256

    def test_an_error_in_a_pause_does_not_end_the_events(self) -> None:
        paused = []

        def pause() -> None:
            paused.append(True)
            raise ValueError("this burst makes no sense")

        with connected(after_login(says(event("HEARTBEAT")))) as connection:
            connection.on_pause = pause
            connection.process_events()
        assert paused

    def test_a_killed_consumer_dies(self) -> None:
        entered = Flag()

        def handler(one: Any) -> None:
            entered.set()
            Flag().wait()

        with connected(after_login(says(event("HEARTBEAT")), stays)) as connection:
            connection.register_handle("*", handler)
            consumer = gevent.spawn(connection.process_events)
            assert happened(entered)
            consumer.kill(timeout=1)
            assert consumer.dead
