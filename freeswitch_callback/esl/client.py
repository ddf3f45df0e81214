"""One TCP connection to FreeSWITCH: greenswitch's InboundESL with the parts that hang or lose replaced.

Theory of operation. One greenlet reads; it alone touches the framer. A reply goes to the oldest command that
waits (the protocol has nothing better than the order), an event goes into a queue that one consumer empties.

* Every wait has an end: connecting, sending, a reply, silence. Where the end comes, the connection is
  dropped, because after it the order of replies or the place in the stream is no longer known. That is also
  why a command whose sender was killed or ran into a timeout of its own takes the connection with it.
* With the queue full the reader stops reading and TCP holds FreeSWITCH back; nothing is dropped. While it
  stands still, so do the deadlines: what is late may be waiting behind our own backlog.
* The loss is reported behind the last event that was received, never before it, and once.
* A lost connection stays lost. A new one is a new object (`freeswitch_callback.esl.node`).
"""

import socket as _socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import gevent
import structlog
from gevent import socket
from gevent.event import AsyncResult
from gevent.event import Event as Flag
from gevent.lock import BoundedSemaphore
from greenswitch.esl import InboundESL

from freeswitch_callback.errors import (
    CallbackError,
    CommandFailed,
    FreeSwitchError,
    FreeSwitchRefused,
    FreeSwitchUnreachable,
    NotSent,
    ProtocolError,
)
from freeswitch_callback.esl import commands
from freeswitch_callback.esl.commands import Command, Originate
from freeswitch_callback.esl.frames import Event, Frame, Framer, JsonEvent

log = structlog.get_logger(__name__)

AnyEvent = Event | JsonEvent

HANDLER_ERRORS: tuple[type[Exception], ...] = (CallbackError, ValueError, LookupError)
"""What a handler may raise about an event that makes no sense to it: logged, and on with the next event."""

PIECE = 120 * 1024
"""Bytes that are asked for at once. Each piece costs as much as an event or two, and cuts one in two; from
128 kB on malloc asks the kernel for each, however little comes."""

_WARM = 128
"""Events after which the reader lets them be handled: half a megabyte, which the processor's cache still
holds. To read ahead as far as the socket gives makes every event half as dear again."""

_LONG = 131_072
"""Bytes of an answer after which the reader lets others go on."""

LONGEST_RUN = 1_000
"""Events that are handled in one go: the more, the fewer transactions, and the later they are on disk."""

_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}


@dataclass(slots=True, eq=False)
class _Waiting:
    """A command that was sent and has no reply yet."""

    command: Command
    result: AsyncResult = field(default_factory=AsyncResult)


class Connection(InboundESL):
    """One connection, for one `connect`. Times in seconds.

    `heartbeat_timeout`: how long FreeSWITCH may say nothing at all (subscribe to HEARTBEAT, which comes every
    20 s unless configured otherwise); None on a connection without events. `maxsize`: events held at once.

    `on_pause` is called by `process_events` when all that was received has been handled, and in a burst after
    `LONGEST_RUN` events at the latest.

    `lost` is None, or why the connection is over.
    """

    def __init__(
        self,
        host: str,
        port: int,
        password: str,
        *,
        connect_timeout: float = 5.0,
        reply_timeout: float = 10.0,
        heartbeat_timeout: float | None = None,
        maxsize: int = 5_000,
        handler_errors: tuple[type[Exception], ...] = HANDLER_ERRORS,
        on_pause: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(host, port, password, timeout=connect_timeout)
        self.lost: FreeSwitchError | None = None
        self.reply_timeout = reply_timeout
        self.heartbeat_timeout = heartbeat_timeout
        self.maxsize = maxsize
        self.handler_errors = handler_errors
        self.on_pause = on_pause
        self.sock: Any = None
        self.ended = Flag()
        """Set once it is over, for whoever watches it."""
        self._authenticated = False
        self._commands_sent: deque[_Waiting] = deque()
        self._sending = BoundedSemaphore(1)
        self._received: deque[AnyEvent] = deque()
        self._arrived = Flag()  # there are events, or there will be no more
        self._over = False  # the last event was received
        self._flowing = Flag()  # not set while the reader stands still before a full queue
        self._flowing.set()
        self._stood_still = 0.0
        self._stopped_at = 0.0
        self._heard = 0.0  # when something came last, by `_clock`

    def __repr__(self) -> str:
        return f"<Connection {self.host}:{self.port}>"

    # --- its life -----------------------------------------------------------------------------------------

    def connect(self) -> None:
        """TCP, the greeting and the password, all within `connect_timeout`; then commands may be sent.

        `FreeSwitchUnreachable`, `FreeSwitchRefused` (password, ACL) or `ProtocolError` (no FreeSWITCH there).
        """
        if self.sock is not None or self.lost is not None:
            raise RuntimeError("a Connection connects once; make a new one")
        slow = FreeSwitchUnreachable(f"{self._where} did not let us in within {self.timeout:g} s")
        try:
            with gevent.Timeout(self.timeout, slow):
                self._open()
                self._auth_request_event.wait()
                if self.lost is not None:
                    raise self._lost_again()
                self.authenticate()
        finally:
            if not self._authenticated:
                self.close()

    @property
    def _where(self) -> str:
        return f"FreeSWITCH at {self.host}:{self.port}"

    def _open(self) -> None:
        try:
            self.sock = socket.create_connection((self.host, self.port))  # any family, IPv6 too
            self.sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_KEEPALIVE, 1)
            self.sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
            for option, seconds in _KEEPALIVE.items():
                if hasattr(_socket, option):
                    self.sock.setsockopt(_socket.IPPROTO_TCP, getattr(_socket, option), seconds)
        except (OSError, UnicodeError) as error:  # a host name that is none is the latter
            raise FreeSwitchUnreachable(f"{self._where}: {error}") from error
        self.connected = True
        self.start_event_handlers()

    def authenticate(self) -> None:
        reply = self.send(commands.auth(self.password))
        if not reply.reply.startswith("+OK"):
            raise FreeSwitchRefused(
                f"{self._where} refused the password ({reply.reply}); compare it with event_socket.conf.xml"
            )
        self._authenticated = True

    def start_event_handlers(self) -> None:
        self._heard = self._clock()
        self._receive_events_greenlet = gevent.spawn(self.receive_events)
        if self.heartbeat_timeout is not None:
            gevent.spawn(self._watch_for_silence, self.heartbeat_timeout)

    def close(self) -> None:
        """Ends it at once; idempotent. Events that were taken in can still be read."""
        self._lose(FreeSwitchUnreachable(f"{self._where}: we closed the connection"))
        reader = self._receive_events_greenlet
        if reader is not None and reader is not gevent.getcurrent():
            reader.kill()

    def stop(self) -> None:
        self.close()

    def _lose(self, reason: FreeSwitchError) -> None:
        if self.lost is not None:
            return
        self.lost = reason
        self.connected = self._run = False
        self.ended.set()
        self._auth_request_event.set()
        self._flow()
        if self.sock is not None:
            self.sock.close()  # wakes the reader
        while self._commands_sent:
            waiting = self._commands_sent.popleft()
            waiting.result.set_exception(
                FreeSwitchUnreachable(f"no reply to {waiting.command.label!r}: {reason}")
            )

    def _lost_again(self) -> FreeSwitchError:
        """The reason as a new exception: one object raised in two greenlets would mix tracebacks."""
        return type(self.lost)(str(self.lost)) if self.lost else FreeSwitchUnreachable("not connected")

    # --- the reader ---------------------------------------------------------------------------------------

    def receive_events(self) -> None:
        reason: FreeSwitchError = FreeSwitchUnreachable(f"{self._where}: the reading greenlet was ended")
        framer, received, answered = Framer(), self._received, 0
        try:
            while True:
                data = self.sock.recv(PIECE)
                if not data:
                    # A restart, a shutdown and a cut line all look like this (recording `shutdown`).
                    reason = FreeSwitchUnreachable(f"{self._where} closed the connection")
                    return
                self._heard = self._clock()
                framer.feed(data)
                for frame in framer.frames():
                    if isinstance(frame, Event):  # nearly all of them: as `_deliver`, without a call
                        received.append(frame)
                        if len(received) >= self.maxsize:
                            self._stand_still()
                    else:
                        self.handle_event(frame)
                if received:
                    self._arrived.set()
                    if len(received) >= _WARM:
                        gevent.sleep(0)
                elif (answered := answered + len(data)) > _LONG:
                    answered = 0
                    gevent.sleep(0)
        except OSError as error:
            reason = FreeSwitchUnreachable(f"{self._where}: {error}")
        except FreeSwitchError as error:
            reason = type(error)(f"{self._where}: {error}")
        finally:
            self._lose(reason)
            self._over = True
            self._arrived.set()

    def _watch_for_silence(self, longest: float) -> None:
        """Not by a timeout of the socket: to set that for each piece took as long as to receive it."""
        left = longest
        while not self.ended.wait(left):
            self._flowing.wait()  # else that clock stands still
            # If this process was stopped, what came meanwhile is read by now: sockets go before timers.
            left = self._heard + longest - self._clock()
            if left <= 0.0:
                self._lose(FreeSwitchUnreachable(f"{self._where} was silent for {longest:g} s"))
                return

    def handle_event(self, frame: Frame) -> None:
        """Takes in what is no plain event."""
        kind = frame.content_type
        if kind in ("command/reply", "api/response"):
            self._reply(frame)
        elif kind == "auth/request":
            self._auth_request_event.set()
        elif kind == "text/event-json":
            self._deliver(JsonEvent(frame.body))
        elif kind == "text/rude-rejection":
            raise FreeSwitchRefused("not let in by its ACL (apply-inbound-acl in event_socket.conf.xml)")
        elif kind == "text/disconnect-notice":
            raise FreeSwitchUnreachable(f"it said goodbye: {frame.body[:80].decode('utf-8', 'replace')!r}")
        else:
            log.debug("esl.frame_ignored", content_type=kind, host=self.host)

    def _reply(self, frame: Frame) -> None:
        if not self._commands_sent:
            raise ProtocolError(f"a {frame.content_type} that nobody asked for: {frame.reply!r:.80}")
        waiting = self._commands_sent.popleft()
        is_api = waiting.command.startswith("api ")
        # A user who may not run a command gets its -ERR as command/reply (source).
        if is_api != (frame.content_type == "api/response") and not frame.reply.startswith("-ERR"):
            waiting.result.set_exception(
                FreeSwitchUnreachable(f"the reply to {waiting.command.label!r} is another's")
            )
            raise ProtocolError(f"{frame.content_type} came as the reply to {waiting.command.label!r}")
        waiting.result.set(frame)

    def _deliver(self, event: AnyEvent) -> None:
        self._received.append(event)
        self._arrived.set()
        if len(self._received) >= self.maxsize:
            self._stand_still()

    def _stand_still(self) -> None:
        if self.lost is None:
            self._arrived.set()
            self._stopped_at = time.monotonic()
            self._flowing.clear()
            self._flowing.wait()

    def _flow(self) -> None:
        if not self._flowing.is_set():
            self._stood_still += time.monotonic() - self._stopped_at
            self._flowing.set()

    def _clock(self) -> float:
        """Seconds that pass only while we read."""
        now = time.monotonic() if self._flowing.is_set() else self._stopped_at
        return now - self._stood_still

    # --- events -------------------------------------------------------------------------------------------

    def next_event(self, timeout: float | None = None) -> AnyEvent | None:
        """The next event; None if none comes in time; raises `lost` once all that was received is read."""
        if self._received or self._wait_for_one(timeout):
            return self._take()
        if self._over:
            raise self._lost_again()
        return None

    def _wait_for_one(self, timeout: float | None = None) -> bool:
        """False if none came in time, or none comes any more."""
        while not self._received:
            if self._over:
                return False
            self._arrived.clear()
            if not self._arrived.wait(timeout):
                return False
        return True

    def _take(self) -> AnyEvent:
        if len(self._received) == self.maxsize:
            self._flow()
        return self._received.popleft()

    def events(self) -> Iterator[AnyEvent]:
        """All events; ends when the connection is lost (`lost` says why) and everything that was received is
        read."""
        while self._received or self._wait_for_one():
            yield self._take()

    def process_events(self) -> None:
        """Calls the registered handlers for each event, in order, and `on_pause` behind the last of a burst,
        until the connection is lost.

        An error among `handler_errors` is logged. Any other is a bug: it ends this loop and shows itself.
        """
        received, handlers = self._received, self.event_handlers
        for_all = handlers.get("*", ())
        by_name = bool(handlers.keys() - {"*"})
        handled = 0
        while received or self._wait_for_one():
            for _ in range(min(len(received), LONGEST_RUN - handled)):
                event = received.popleft()
                chosen = for_all
                if by_name:
                    key = event.name if event.name != "CUSTOM" else event.subclass or ""
                    chosen = handlers.get(key) or for_all
                for handler in chosen:
                    try:
                        handler(event)
                    except self.handler_errors as error:
                        log.error(
                            "esl.event_not_handled", event_name=repr(event), error=repr(error), exc_info=True
                        )
                handled += 1
            self._flow()
            if not received or handled == LONGEST_RUN:
                handled = 0
                self._pause()

    def _pause(self) -> None:
        try:
            self.on_pause()
        except self.handler_errors as error:
            log.error("esl.pause_not_handled", error=repr(error), exc_info=True)

    # --- commands -----------------------------------------------------------------------------------------

    def send(self, command: str) -> Frame:
        """Sends one command and waits for its reply.

        Takes what `commands` renders; any other text is one line (`UnsafeValue` if it is more).
        `FreeSwitchUnreachable`: lost before or while it waited; whether the command was run is not known.
        """
        ready = command if isinstance(command, Command) else commands.command(command)
        return self._send_all([ready])[0]

    def _send_all(
        self,
        ready: Sequence[Command],
        may: Callable[[], bool] = lambda: True,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> list[Frame]:
        """Sends commands in one piece. FreeSWITCH runs one after the other, whatever the first ones do."""
        if self.lost is not None or not self.connected:
            raise NotSent(f"{ready[0].label!r} was not sent: {self._lost_again()}")
        pending = [_Waiting(command) for command in ready]
        try:
            with self._sending:
                self._transmit(pending, may)
            due = self._clock() + self.reply_timeout
            meanwhile()
            for waiting in pending:
                self._await(waiting, due)
        finally:
            for waiting in pending:
                if waiting in self._commands_sent:
                    # Late, or its sender was killed or ran out of time: the order of replies is lost.
                    label = waiting.command.label
                    self._lose(FreeSwitchUnreachable(f"{self._where} did not answer {label!r} in time"))
        return [waiting.result.get() for waiting in pending]

    def _transmit(self, pending: Sequence[_Waiting], may: Callable[[], bool]) -> None:
        if self.lost is not None:  # while we waited for our turn
            raise NotSent(f"{pending[0].command.label!r} was not sent: {self.lost}")
        data = "".join(waiting.command for waiting in pending).encode()
        if not may():  # asked last: this process may be stopped between any two lines
            raise NotSent(f"{pending[0].command.label!r} was not sent: its time is over")
        self._commands_sent.extend(pending)
        try:
            if left := data[self._taken_at_once(data) :]:
                late = FreeSwitchUnreachable(f"{self._where} took no command for {self.reply_timeout:g} s")
                with gevent.Timeout(self.reply_timeout, late):
                    self.sock.sendall(left)
        except OSError as error:
            self._lose(FreeSwitchUnreachable(f"{self._where}: {error}"))

    def _taken_at_once(self, data: bytes) -> int:
        """How much of it the network takes: nearly always all. A timeout takes longer than that."""
        try:
            taken: int = self.sock.send(data, timeout=0.0)
        except BlockingIOError:
            return 0
        return taken

    def _await(self, waiting: _Waiting, due: float) -> None:
        while not waiting.result.ready() and (left := due - self._clock()) > 0:
            if self._flowing.is_set():
                waiting.result.wait(timeout=left)
            else:
                self._flowing.wait()

    def api(self, command: str, may: Callable[[], bool] = lambda: True) -> str:
        """The answer of an API command, as it came (`+OK`, `-ERR …`, a table, JSON …). `NotSent` if it `may`
        not be sent any more when all is ready."""
        return self.apis(command, may=may)[0]

    def apis(
        self,
        *texts: str,
        may: Callable[[], bool] = lambda: True,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> list[str]:
        """The answers of several, sent in one piece. All are run, whatever the first ones answer. `meanwhile`
        is called while FreeSWITCH answers; it neither waits nor raises."""
        ready = [text if isinstance(text, Command) else commands.api(text) for text in texts]
        frames = self._send_all(ready, may, meanwhile)
        for command, frame in zip(ready, frames, strict=True):
            if frame.content_type != "api/response":
                raise CommandFailed(f"FreeSWITCH refused {command.label!r}: {frame.reply}")
        # JSON stays JSON, whatever bytes a caller sent.
        return [frame.body.decode("utf-8", "replace") for frame in frames]

    def bgapi(self, originate: Originate, may: Callable[[], bool] = lambda: True) -> str:
        """Starts the call if it still `may` be started when all is ready to be sent, else `NotSent`; its
        Job-UUID, which comes back in BACKGROUND_JOB. `CommandFailed`: not dialled."""
        [frame] = self._send_all([originate.command], may)
        if not frame.reply.startswith("+OK"):
            raise CommandFailed(f"FreeSWITCH refused to originate: {frame.reply}")
        job_uuid = frame.headers.get(b"Job-UUID", b"").decode("ascii", "replace")
        if job_uuid != originate.job_uuid:
            reason = f"{self._where} answered for job {job_uuid!r} instead of {originate.job_uuid!r}"
            self._lose(ProtocolError(reason))
            raise FreeSwitchUnreachable(reason)
        return job_uuid
