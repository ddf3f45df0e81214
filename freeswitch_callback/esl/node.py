"""One FreeSWITCH server, kept connected for as long as the program runs.

A node holds three connections. One listens: a single greenlet takes its events in order. One is for commands,
of which many may be under way. The third is for orders, what is to be done now or not at all: one at a time,
because FreeSWITCH goes on working on what stands before a command even when the connection is gone, and an
originate behind something slow would dial at a moment nobody can know. Lose one and all are closed; then
connect again, after a delay that grows and is jittered so that many engines do not come back at the same
instant. A fourth one, made when it is first used, is for questions with long answers (`aside`): no agent
waits behind a table of all agents.

Order for the owner: `on_up`, then events, then `on_down`, each in its turn and never two at once per node.
"""

import random
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import gevent
import structlog
from gevent.event import Event as Flag
from gevent.lock import RLock

from freeswitch_callback.errors import FreeSwitchError, FreeSwitchUnreachable, NotSent
from freeswitch_callback.esl import commands
from freeswitch_callback.esl.client import HANDLER_ERRORS, AnyEvent, Connection
from freeswitch_callback.esl.commands import Originate, succeeded

log = structlog.get_logger(__name__)

SAY_AGAIN = 60.0
"""Seconds between two words in the log about the same trouble."""

STEADY = 10.0
"""Seconds a connection has to hold before the delays start small again."""


class Node:
    """A FreeSWITCH server. Times in seconds.

    `on_event(event)`, `on_pause()`, `on_up()` and `on_down(reason)` are called one after another; `on_pause`
    whenever nothing more has been received, and in a burst every now and then. What they raise: an error
    among `handler_errors` out of `on_event` or `on_pause` is logged, and on with the next event. Anything
    else is a bug: it is logged with its traceback, the connections are dropped and made anew, so that whoever
    reconciles on `on_up` gets the chance to repair what the bug left behind.

    `up` is set while the connections stand and `on_up` may use them.
    """

    def __init__(
        self,
        name: str,
        host: str,
        port: int,
        password: str,
        *,
        on_event: Callable[[AnyEvent], None],
        on_pause: Callable[[], None] = lambda: None,
        on_up: Callable[[], None] = lambda: None,
        on_down: Callable[[str], None] = lambda reason: None,
        subscribe: Iterable[str] = (),
        subclasses: Iterable[str] = (),
        connect_timeout: float = 5.0,
        reply_timeout: float = 10.0,
        heartbeat_timeout: float = 45.0,
        ping_interval: float = 15.0,
        maxsize: int = 5_000,
        first_delay: float = 0.1,
        longest_delay: float = 10.0,
        jitter: Callable[[], float] = random.random,
        handler_errors: tuple[type[Exception], ...] = HANDLER_ERRORS,
    ) -> None:
        self.name = name
        self.up = Flag()
        self.core_uuid = ""
        self._on_event, self._on_pause = on_event, on_pause
        self._on_up, self._on_down = on_up, on_down
        self._subscription = commands.event_plain(("HEARTBEAT", *subscribe), subclasses)
        self._server = (host, port, password)
        self._options: dict[str, Any] = {
            "connect_timeout": connect_timeout,
            "reply_timeout": reply_timeout,
            "maxsize": maxsize,
            "handler_errors": handler_errors,
        }
        self._heartbeat_timeout = heartbeat_timeout
        self._ping_interval = ping_interval
        self._delays = (first_delay, longest_delay, jitter)
        self._commands: Connection | None = None
        self._orders: Connection | None = None
        self._one_at_a_time = RLock()
        self.aside = Aside(self)
        self._handler_errors = handler_errors
        self.tried = False
        """Whether connecting has succeeded or failed once."""
        self._why_down = "not connected yet"
        self._up_at: float | None = None
        self._stopping = Flag()
        self._greenlet: gevent.Greenlet | None = None
        self._consumer: gevent.Greenlet | None = None
        self._log = log.bind(node=name, host=host, port=port)

    def __repr__(self) -> str:
        return f"<Node {self.name} {'up' if self.up.is_set() else 'down'}>"

    @property
    def why_down(self) -> str:
        """Why it was lost, or the last try to connect failed."""
        return self._why_down

    # --- commands -----------------------------------------------------------------------------------------
    def api(self, text: str, may: Callable[[], bool] | None = None) -> str:
        """The answer to an API command; `FreeSwitchUnreachable` while down. If it `may` not be sent at any
        time it is an order, which waits for its turn: `NotSent` if it may not when that has come."""
        return self.apis(text, may=may)[0]

    def apis(
        self,
        *texts: str,
        may: Callable[[], bool] | None = None,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> list[str]:
        """The answers to several API commands, which take one round trip; `meanwhile` is called in its
        course, and neither waits nor raises."""
        if may is None:
            return self._connected(self._commands, texts[0]).apis(*texts, meanwhile=meanwhile)
        with self._one_at_a_time:
            return self._connected(self._orders, texts[0]).apis(*texts, may=may, meanwhile=meanwhile)

    def send_originate(self, originate: Originate, may: Callable[[], bool] = lambda: True) -> str:
        """Sends it with nothing pending before it, if it still `may` be sent then; its Job-UUID.

        `CommandFailed`: FreeSWITCH refused, nothing is dialled. `FreeSwitchUnreachable`: it may dial or not;
        only FreeSWITCH knows (the marks in its database, and `uuid_exists`).
        """
        with self._one_at_a_time:
            return self._connected(self._orders, "bgapi originate").bgapi(originate, may)

    def _connected(self, connection: Connection | None, text: str) -> Connection:
        if connection is None or not self.up.is_set():
            what = text.strip()[:80]
            raise NotSent(f"{what!r} was not sent: {self.name} is away ({self._why_down})")
        return connection

    def another_connection(self, text: str) -> Connection:
        """One more, for `text` to be sent on, while the node is up; who asks for it closes it."""
        up = self._connected(self._commands, text)
        another = Connection(*self._server, **self._options)
        another.connect()
        if up is not self._commands:  # lost meanwhile, and perhaps up again: whoever closes then has closed
            another.close()
            raise NotSent(f"{text.strip()[:80]!r} was not sent: {self.name} went away")
        return another

    # --- its life -----------------------------------------------------------------------------------------

    def start(self) -> None:
        if self._greenlet is None:
            self._greenlet = gevent.spawn(self._run)

    def stop(self, timeout: float = 5.0) -> None:
        """Closes all connections; events that were taken in are still handled, within `timeout`.

        `on_down` is not called: nothing went away. Not to be called out of `on_event`, which it waits for.
        """
        self._stopping.set()
        if self._greenlet is not None:
            for connection in (self._commands, self._orders):
                if connection is not None:
                    connection.close()  # whoever waits for a reply, our own ping too, waits no longer
            if self._consumer is not None and not self._consumer.dead:
                self._greenlet.join(timeout)
            gevent.killall(
                [greenlet for greenlet in (self._greenlet, self._consumer) if greenlet is not None]
            )

    def _run(self) -> None:
        attempt, said_at, trouble = 0, 0.0, ""
        while not self._stopping.is_set():
            self._up_at = None
            try:
                self._session()
            except FreeSwitchError as error:
                now = time.monotonic()
                self.tried = True
                steady = self._up_at is not None and now - self._up_at >= STEADY
                attempt = 1 if steady else attempt + 1
                self._why_down = str(error)
                kind = type(error).__name__
                if self._up_at is not None or kind != trouble or now - said_at >= SAY_AGAIN:
                    said_at, trouble = now, kind
                    self._log.warning("node.away", reason=str(error), attempt=attempt)
                self._stopping.wait(self._delay(attempt))

    def _delay(self, attempt: int) -> float:
        """Anything between 0 and a bound that doubles: "full jitter" spreads those who lost it together."""
        first, longest, jitter = self._delays
        bound: float = min(longest, first * 2.0 ** min(attempt - 1, 30))
        return jitter() * bound

    def _session(self) -> None:
        """From connecting to the loss, which it raises; returns when the node is to stop."""
        host, port, password = self._server
        events = Connection(host, port, password, heartbeat_timeout=self._heartbeat_timeout, **self._options)
        control, orders = (Connection(host, port, password, **self._options) for _ in range(2))
        try:
            for connection in (events, control, orders):
                connection.connect()
            succeeded(events.send(self._subscription).reply, self._subscription)
            self.core_uuid = succeeded(control.api(commands.core_uuid()), commands.core_uuid())
            self._serve(events, control, orders)
        finally:
            for connection in (events, control, orders):
                connection.close()

    def _serve(self, events: Connection, control: Connection, orders: Connection) -> None:
        events.register_handle("*", self._on_event)
        events.on_pause = self._on_pause
        self._commands, self._orders = control, orders
        self._up_at = time.monotonic()
        self.tried = True
        self.up.set()
        self._log.info("node.up", core_uuid=self.core_uuid)
        self._consumer = consumer = gevent.spawn(self._consume, events)
        try:
            reason = self._watch((events, control, orders), consumer)
        finally:
            self.up.clear()
            self._commands = self._orders = None
            for connection in (events, control, orders):
                connection.close()
            self.aside.close()
        consumer.join()  # what was received is handled before the loss is told
        if reason is not None and not self._stopping.is_set():
            self._why_down = str(reason)
            self._tell_down(str(reason))
            raise reason

    def _consume(self, events: Connection) -> None:
        try:
            self._on_up()
        except self._handler_errors as error:
            self._log.error("node.on_up_failed", error=repr(error))
        else:
            events.process_events()

    def _watch(self, connections: Sequence[Connection], consumer: gevent.Greenlet) -> FreeSwitchError | None:
        """Pings until something ends; why, or None when the node is to stop."""
        ends = [*(connection.ended for connection in connections), consumer, self._stopping]
        while not gevent.wait(ends, timeout=self._ping_interval, count=1):
            try:
                self.api(commands.core_uuid())
                self.api(commands.core_uuid(), may=lambda: True)
            except FreeSwitchError as error:
                return error
        if self._stopping.is_set():
            return None
        for connection in connections:
            if connection.lost is not None:
                return connection.lost
        if consumer.exc_info[1] is not None:
            self._log.critical("node.handler_crashed", exc_info=consumer.exc_info)
        return FreeSwitchUnreachable(f"{self.name}: our own handler failed (see the log); connecting anew")

    def _tell_down(self, reason: str) -> None:
        # In a greenlet of its own: whatever is wrong in there, the node goes on connecting.
        telling = gevent.spawn(self._on_down, reason)
        telling.join()
        if telling.exception is not None:
            self._log.critical("node.handler_crashed", exc_info=telling.exc_info)


class Aside:
    """A connection of a node's for what may take FreeSWITCH a while to answer, and changes nothing. It takes
    part in no order: what it answers may be older than what was commanded meanwhile.

    Lost alone, it is made anew by the next question.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._connection: Connection | None = None
        self._one_at_a_time = RLock()

    def api(self, text: str) -> str:
        """As `Node.api`."""
        with self._one_at_a_time:
            if self._connection is None or self._connection.lost is not None:
                self._connection = self._node.another_connection(text)
            return self._connection.api(text)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
