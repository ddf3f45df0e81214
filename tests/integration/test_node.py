"""A node keeps its connections to one FreeSWITCH, whatever becomes of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import pytest
from gevent.event import Event as Flag
from gevent.queue import Queue
from structlog.testing import capture_logs

from freeswitch_callback.errors import FreeSwitchUnreachable, NotSent
from freeswitch_callback.esl.node import Node
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
from tests.integration.test_client import ORIGINATE

pytestmark = pytest.mark.timeout(10)


class Owner:
    """Writes down what a node tells its owner."""

    def __init__(self) -> None:
        self.told: Queue[str] = Queue()

    def on_event(self, one: Any) -> None:
        self.told.put(f"event {one.get('N')}")

    def on_up(self) -> None:
        self.told.put("up")

    def on_down(self, reason: str) -> None:
        self.told.put("down")

    def hears(self) -> str:
        return self.told.get(timeout=1.5)


@contextmanager
def node_at(server: ScriptedServer, owner: Any = None, **options: Any) -> Iterator[Node]:
    owner = owner or Owner()
    callbacks: dict[str, Callable[..., None]] = {
        "on_event": owner.on_event,
        "on_up": owner.on_up,
        "on_down": owner.on_down,
    }
    quick: dict[str, Any] = {"first_delay": 0.001, "longest_delay": 0.01, "reply_timeout": 1.0}
    node = Node("fs1", server.host, server.port, "secret", **{**callbacks, **quick, **options})
    node.start()
    try:
        yield node
    finally:
        node.stop()


def healthy(client: Client) -> None:
    client.let_in()
    client.serve()


is_up = Flag()
"""The node's owner has heard so."""


def cut(client: Client) -> None:
    """Hangs up."""


class TestANodeThatIsUp:
    def test_tells_up_first_and_then_the_events_in_their_order(self) -> None:
        owner = Owner()
        frames = [event("HEARTBEAT", N=str(number)) for number in range(3)]
        with scripted(after_login(*frames), healthy) as server, node_at(server, owner) as node:
            assert [owner.hears() for _ in range(4)] == ["up", "event 0", "event 1", "event 2"]
            assert node.up.is_set()
            assert node.core_uuid == "core-1"

    def test_subscribes_to_what_it_was_told_and_to_heartbeats(self) -> None:
        heard: Queue[str] = Queue()

        def story(client: Client) -> None:
            client.let_in()
            heard.put(client.command())

        with (
            scripted(story, healthy) as server,
            node_at(server, subscribe=("CHANNEL_HANGUP",), subclasses=("callcenter::info",)),
        ):
            asked = heard.get(timeout=1)
        assert asked == "event plain HEARTBEAT CHANNEL_HANGUP CUSTOM callcenter::info"

    def test_has_one_order_under_way_at_any_time_and_nothing_before_it(self) -> None:
        """An originate behind something slow would dial later than anybody expects."""
        asked, unanswered = Flag(), 0

        def never_answers(client: Client) -> None:
            client.let_in()
            client.send(usual(client.command()))
            client.command()
            asked.set()
            client.until_closed()

        def one_by_one(client: Client) -> None:
            nonlocal unanswered
            client.let_in()
            while command := client.command():
                unanswered = max(unanswered, client._buffer.count(b"\n\n"))
                gevent.sleep(0)
                client.send(usual(command))

        with scripted(after_login(), never_answers, one_by_one) as server, node_at(server) as node:
            assert happened(node.up)
            slow = gevent.spawn(node.api, "something slow")
            assert happened(asked)
            orders = [gevent.spawn(node.api, f"echo {number}", may=lambda: True) for number in range(10)]
            orders.append(gevent.spawn(node.send_originate, ORIGINATE))
            gevent.joinall(orders, timeout=0.8, raise_error=True)
            assert orders[-1].value == "job-1"
            assert not slow.ready()
            slow.kill()
        assert unanswered == 0

    def test_commands_do_not_wait_for_each_others_answers(self) -> None:
        asked: list[str] = []

        def answers_when_all_have_come(client: Client) -> None:
            client.let_in()
            client.send(usual(client.command()))
            asked.extend(client.command() for _ in range(3))
            client.send(b"".join(answer(command.removeprefix("api ")) for command in asked))
            client.until_closed()

        with scripted(after_login(), answers_when_all_have_come, healthy) as server, node_at(server) as node:
            assert happened(node.up)
            calls = {text: gevent.spawn(node.api, text) for text in ("one", "two", "three")}
            assert {text: call.get(timeout=1) for text, call in calls.items()} == {
                text: text for text in calls
            }

    def test_an_order_that_may_not_be_sent_any_more_when_it_is_its_turn_is_not(self) -> None:
        with scripted(after_login(), healthy) as server, node_at(server) as node:
            assert happened(node.up)
            with pytest.raises(NotSent, match="its time is over"):
                node.api("uptime", may=lambda: False)

    def test_goes_on_after_an_event_that_its_owner_cannot_read(self) -> None:
        class Picky(Owner):
            def on_event(self, one: Any) -> None:
                if one.get("N") == "bad":
                    raise ValueError("no number")
                super().on_event(one)

        owner = Picky()
        frames = [event("HEARTBEAT", N=what) for what in ("bad", "good")]
        with (
            capture_logs() as logs,
            scripted(after_login(*frames), healthy) as server,
            node_at(server, owner),
        ):
            assert [owner.hears(), owner.hears()] == ["up", "event good"]
        assert any("HEARTBEAT" in str(line) and line["log_level"] == "error" for line in logs)

    def test_a_bug_of_its_owner_is_loud_and_costs_one_reconnection(self) -> None:
        class Buggy(Owner):
            def on_event(self, one: Any) -> None:
                raise TypeError("a bug")

        owner = Buggy()
        with (
            capture_logs() as logs,
            scripted(after_login(event("HEARTBEAT")), healthy, after_login(), healthy) as server,
            node_at(server, owner),
        ):
            assert [owner.hears() for _ in range(3)] == ["up", "down", "up"]
        assert any(line["event"] == "node.handler_crashed" for line in logs)

    def test_a_bug_while_it_is_told_of_the_loss_does_not_end_the_node(self) -> None:
        class Buggy(Owner):
            def on_down(self, reason: str) -> None:
                raise TypeError("a bug")

        owner = Buggy()
        with (
            scripted(after_login(then=cut), healthy, after_login(), healthy) as server,
            node_at(server, owner),
        ):
            assert [owner.hears(), owner.hears()] == ["up", "up"]


class TestANodeThatLosesItsServer:
    @pytest.mark.parametrize(
        "stories",
        [
            (after_login(then=cut), healthy, healthy),
            (after_login(), lambda client: (client.let_in(), client.send(usual(client.command()))), healthy),
            (after_login(), healthy, lambda client: (client.let_in(), happened(is_up))),
        ],
        ids=["events", "commands", "orders"],
    )
    def test_any_connection_lost_is_down_once_and_then_up_again(
        self, stories: tuple[Story, Story, Story]
    ) -> None:
        owner = Owner()
        is_up.clear()
        with scripted(*stories, after_login(), healthy) as server, node_at(server, owner) as node:
            assert owner.hears() == "up"
            is_up.set()
            assert [owner.hears() for _ in range(2)] == ["down", "up"]
            assert node.up.is_set()
            assert server.count == 6  # all are made anew

    def test_what_was_received_is_handled_before_it_is_told(self) -> None:
        owner = Owner()
        frames = [event("HEARTBEAT", N=str(number)) for number in range(20)]
        with (
            scripted(after_login(*frames, then=cut), healthy, after_login(), healthy) as server,
            node_at(server, owner),
        ):
            told = [owner.hears() for _ in range(22)]
        assert told == ["up", *[f"event {number}" for number in range(20)], "down"]

    def test_it_is_told_only_when_a_slow_owner_is_done_with_what_was_received(self) -> None:
        class Slow(Owner):
            may_go_on = Flag()

            def on_event(self, one: Any) -> None:
                self.may_go_on.wait()
                super().on_event(one)

        owner = Slow()
        frames = [event("HEARTBEAT", N=str(number)) for number in range(3)]
        with (
            scripted(after_login(*frames, then=cut), healthy, after_login(), healthy) as server,
            node_at(server, owner) as node,
        ):
            assert owner.hears() == "up"
            while node.up.is_set():
                gevent.sleep(0)
            gevent.sleep(0)
            owner.may_go_on.set()
            assert [owner.hears() for _ in range(4)] == ["event 0", "event 1", "event 2", "down"]

    def test_an_owner_that_waits_for_a_reply_at_the_loss_is_freed(self) -> None:
        class Asking(Owner):
            node: Node

            def on_event(self, one: Any) -> None:
                with pytest.raises(FreeSwitchUnreachable):
                    self.node.api("uptime")
                super().on_event(one)

        def answers_once(client: Client) -> None:
            client.let_in()
            client.send(usual(client.command()))
            client.command()
            asked.set()
            client.until_closed()

        def cut_then(client: Client) -> None:
            asked.wait()

        asked = Flag()
        owner = Asking()
        with (
            scripted(after_login(event("HEARTBEAT", N="1"), then=cut_then), answers_once) as server,
            node_at(server, owner, reply_timeout=30.0) as node,
        ):
            owner.node = node
            assert [owner.hears() for _ in range(3)] == ["up", "event 1", "down"]

    def test_a_command_meanwhile_fails_at_once_and_says_it_was_not_sent(self) -> None:
        with scripted(cut) as server, node_at(server) as node:
            with pytest.raises(FreeSwitchUnreachable, match="not sent"):
                node.api("uptime")
            with pytest.raises(FreeSwitchUnreachable, match="not sent"):
                node.send_originate(ORIGINATE)

    def test_an_originate_whose_time_is_over_once_it_is_its_turn_is_not_sent(self) -> None:
        with scripted(healthy, healthy) as server, node_at(server) as node:
            node.up.wait(5)
            with pytest.raises(NotSent, match="its time is over"):
                node.send_originate(ORIGINATE, lambda: False)

    @pytest.mark.parametrize("deaf_ones", [0, 1], ids=["commands", "orders"])
    def test_its_own_ping_finds_a_server_that_stopped_answering(self, deaf_ones: int) -> None:
        owner = Owner()

        def deaf(client: Client) -> None:
            client.let_in()
            if not deaf_ones:
                client.send(usual(client.command()))
            client.until_closed()

        with (
            scripted(after_login(), *[healthy] * deaf_ones, deaf) as server,
            node_at(server, owner, ping_interval=0.02, reply_timeout=0.05),
        ):
            assert [owner.hears(), owner.hears()] == ["up", "down"]

    def test_a_wrong_password_is_tried_again_and_said_once(self) -> None:
        attempts = Queue[int]()

        def refuse(client: Client) -> None:
            client.send(GREETING)
            client.command()
            client.send(reply("-ERR invalid"))
            attempts.put(1)

        with capture_logs() as logs, scripted(refuse) as server, node_at(server):
            for _ in range(5):
                attempts.get(timeout=1)
        words = [line for line in logs if line["event"] == "node.away"]
        assert len(words) == 1
        assert "password" in words[0]["reason"]
        assert "secret" not in str(logs)

    def test_it_is_not_up_when_the_subscription_is_refused(self) -> None:
        refused = Flag()

        def refuse(client: Client) -> None:
            client.let_in()
            client.command()
            client.send(reply("-ERR no keywords supplied"))
            refused.set()

        with scripted(refuse, healthy) as server, node_at(server) as node:
            assert happened(refused)
            assert not node.up.is_set()

    def test_delays_grow_to_their_bound_and_are_jittered(self) -> None:
        node = Node("fs1", "127.0.0.1", 1, "", on_event=print, jitter=lambda: 0.5)
        assert [node._delay(attempt) for attempt in (1, 2, 3, 7, 8, 1000)] == [0.05, 0.1, 0.2, 3.2, 5.0, 5.0]

    def test_one_server_away_does_not_hurt_the_others(self) -> None:
        frames = [event("HEARTBEAT", N="1")]
        with scripted(Client.until_closed) as silent, scripted(after_login(*frames), healthy) as well:
            owner = Owner()
            with node_at(silent), node_at(silent), node_at(well, owner) as node:
                assert [owner.hears(), owner.hears()] == ["up", "event 1"]
                assert node.api("uptime") == "+OK\n"


class TestAside:
    """Questions with long answers have a connection of their own."""

    def test_no_command_waits_behind_them(self) -> None:
        asked, go_on = Flag(), Flag()

        def slow(client: Client) -> None:
            client.let_in()
            client.command()
            asked.set()
            go_on.wait()
            client.send(answer("a thousand agents"))
            client.until_closed()

        with scripted(after_login(), healthy, healthy, slow) as server, node_at(server) as node:
            assert happened(node.up)
            assert server.count == 3  # it is made when it is first used
            question = gevent.spawn(node.aside.api, "agents")
            assert happened(asked)
            assert node.api("uptime") == "+OK\n"
            assert not question.ready()
            go_on.set()
            assert question.get(timeout=1) == "a thousand agents"

    def test_lost_alone_it_is_made_anew_and_the_node_stays_up(self) -> None:
        owner = Owner()

        def one_answer(client: Client) -> None:
            client.let_in()
            client.command()

        stories = after_login(), healthy, healthy, one_answer, healthy
        with scripted(*stories) as server, node_at(server, owner) as node:
            assert owner.hears() == "up"
            with pytest.raises(FreeSwitchUnreachable):
                node.aside.api("agents")
            assert node.aside.api("agents") == "+OK\n"
            assert server.count == 5
            assert node.up.is_set()
            assert owner.told.empty()

    def test_it_is_not_made_while_the_node_is_away(self) -> None:
        with scripted(cut) as server, node_at(server) as node, pytest.raises(NotSent, match="is away"):
            node.aside.api("agents")

    def test_it_ends_with_the_node(self) -> None:
        closed: Queue[str] = Queue()

        def story(client: Client) -> None:
            healthy(client)
            closed.put("closed")

        with scripted(story) as server, node_at(server) as node:
            assert happened(node.up)
            node.aside.api("agents")
            node.stop()
            assert [closed.get(timeout=1) for _ in range(4)] == ["closed"] * 4

    def test_that_the_node_was_lost_while_it_was_made_leaves_none_behind(self) -> None:
        made, lose, closed = Flag(), Flag(), Flag()

        def lost_when_told(client: Client) -> None:
            client.let_in()
            client.send(usual(client.command()))
            lose.wait()

        def slow_to_let_in(client: Client) -> None:
            made.set()
            lose.set()
            assert happened(away)
            client.let_in()
            client.until_closed()
            closed.set()

        away = Flag()
        owner = Owner()
        owner.on_down = lambda reason: away.set()  # type: ignore[method-assign]
        with (
            scripted(lost_when_told, healthy, healthy, slow_to_let_in, healthy) as server,
            node_at(server, owner) as node,
        ):
            assert owner.hears() == "up"
            with pytest.raises(NotSent, match="went away"):
                node.aside.api("agents")
            assert happened(closed)


class TestStopping:
    def test_closes_its_connections_and_says_nothing(self) -> None:
        owner = Owner()
        closed: Queue[str] = Queue()

        def story(client: Client) -> None:
            healthy(client)
            closed.put("closed")

        with scripted(story) as server, node_at(server, owner) as node:
            assert owner.hears() == "up"
            node.stop()
            assert [closed.get(timeout=1) for _ in range(3)] == ["closed"] * 3
            assert not node.up.is_set()
            assert owner.told.empty()

    def test_with_a_reply_outstanding_it_does_not_wait_for_it(self) -> None:
        asked = Flag()

        def slow(client: Client) -> None:
            client.let_in()
            client.send(answer("core-1") if client.command() else b"")
            client.command()
            asked.set()
            client.until_closed()

        with scripted(after_login(), slow) as server, node_at(server, reply_timeout=30) as node:
            assert happened(node.up)
            call = gevent.spawn(node.api, "msleep 3000")
            assert happened(asked)
            node.stop(timeout=1)
            call.join(timeout=1)
            assert isinstance(call.exception, FreeSwitchUnreachable)

    def test_while_the_server_does_not_greet(self) -> None:
        with scripted(Client.until_closed) as server, node_at(server, connect_timeout=60.0) as node:
            assert server.connected.get(timeout=1)
            with gevent.Timeout(1):
                node.stop(timeout=30)

    def test_with_a_ping_outstanding(self) -> None:
        pinged = Flag()

        def deaf(client: Client) -> None:
            client.let_in()
            client.command()
            client.send(answer("core-1"))
            client.command()
            pinged.set()
            client.until_closed()

        owner = Owner()
        with (
            scripted(after_login(), deaf) as server,
            node_at(server, owner, ping_interval=0.01, reply_timeout=30) as node,
        ):
            assert happened(pinged)
            with gevent.Timeout(1):
                node.stop(timeout=30)
            assert [owner.hears(), owner.told.empty()] == ["up", True]

    def test_while_it_waits_to_try_again(self) -> None:
        with scripted(cut) as server, node_at(server, first_delay=60.0, longest_delay=60.0) as node:
            assert server.connected.get(timeout=1)
            node.stop(timeout=1)
            assert node._greenlet is not None
            assert node._greenlet.dead
