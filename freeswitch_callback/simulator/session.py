"""The Event Socket's conversation with one client, without a socket: bytes in, bytes out.

As in FreeSWITCH, one thread serves a connection: while a command runs, its connection neither reads the
next one nor sends events (`api msleep 3000` holds everything behind it back), and what was received runs
even when the client has gone meanwhile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from freeswitch_callback.simulator.events import Event, header

if TYPE_CHECKING:
    from freeswitch_callback.simulator.simulator import Simulator

GOODBYE = "Disconnected, goodbye.\nSee you at ClueCon! http://www.cluecon.com/\n"
_EVENTS = """
ALL CUSTOM CLONE CHANNEL_CREATE CHANNEL_DESTROY CHANNEL_STATE CHANNEL_CALLSTATE CHANNEL_ANSWER
CHANNEL_HANGUP CHANNEL_HANGUP_COMPLETE CHANNEL_EXECUTE CHANNEL_EXECUTE_COMPLETE CHANNEL_HOLD
CHANNEL_UNHOLD CHANNEL_BRIDGE CHANNEL_UNBRIDGE CHANNEL_PROGRESS CHANNEL_PROGRESS_MEDIA
CHANNEL_OUTGOING CHANNEL_PARK CHANNEL_UNPARK CHANNEL_APPLICATION CHANNEL_ORIGINATE CHANNEL_UUID API
LOG INBOUND_CHAN OUTBOUND_CHAN STARTUP SHUTDOWN PUBLISH UNPUBLISH TALK NOTALK SESSION_CRASH
MODULE_LOAD MODULE_UNLOAD DTMF MESSAGE PRESENCE_IN PRESENCE_OUT MESSAGE_WAITING ROSTER CODEC
BACKGROUND_JOB DETECTED_SPEECH DETECTED_TONE PRIVATE_COMMAND HEARTBEAT TRAP ADD_SCHEDULE
DEL_SCHEDULE EXE_SCHEDULE RE_SCHEDULE RELOADXML NOTIFY SEND_MESSAGE RECV_MESSAGE CALL_UPDATE FAILURE
SOCKET_DATA MEDIA_BUG_START MEDIA_BUG_STOP
"""
EVENT_NAMES = frozenset(_EVENTS.split())


class Session:
    """One client. `write` gets whole frames, in order; `close` is asked for after the last one."""

    def __init__(
        self, simulator: Simulator, write: Callable[[bytes], None], close: Callable[[], None]
    ) -> None:
        self._simulator = simulator
        self._write = write
        self._close = close
        self._authenticated = False
        self._received = b""
        self._frames: deque[str] = deque()
        self._busy = False
        self._held: list[Event] = []
        self._replies: list[bytes] = []
        self._format = "plain"
        self._names: set[str] = set()
        self._subclasses: set[str] = set()
        self._filters: list[tuple[str, str]] = []
        self.gone = False
        self._frame({"Content-Type": "auth/request"})

    # Events

    def wants(self, name: str, subclass: str) -> bool:
        if "ALL" in self._names:
            return True
        return subclass in self._subclasses if name == "CUSTOM" else name in self._names

    def deliver(self, event: Event) -> None:
        if self._filters:
            headers = event.headers()
            if not any(headers.get(name) == value for name, value in self._filters):
                return
        if self._busy:
            self._held.append(event)
        elif not self.gone:
            self._write(event.frame(self._format))

    # Frames

    def _frame(self, headers: dict[str, str], body: str = "") -> None:
        raw = body.encode("utf-8", "surrogateescape")
        lines = [f"{name}: {value}" for name, value in headers.items()]
        if raw:
            lines.append(f"Content-Length: {len(raw)}")
        frame = "\n".join(lines).encode("utf-8", "surrogateescape") + b"\n\n" + raw
        if self.gone:
            return
        if self._simulator.holding_replies:
            self._replies.append(frame)
        else:
            self._write(frame)

    def release_replies(self) -> None:
        held, self._replies = self._replies, []
        for frame in held:
            self._write(frame)

    def _reply(self, text: str, **headers: str) -> None:
        self._frame({"Content-Type": "command/reply", "Reply-Text": text, **headers})

    def receive(self, data: bytes) -> None:
        """Take in what the client sent. A blank line ends a command; carriage returns do not count."""
        self._received += data.replace(b"\r", b"")
        while b"\n\n" in self._received:
            frame, _, self._received = self._received.partition(b"\n\n")
            text = frame.lstrip(b"\n").decode("utf-8", "surrogateescape")
            if text:
                self._frames.append(text)
        self._work()

    def forget(self) -> None:
        """FreeSWITCH is gone: nothing that was received will run."""
        self._frames.clear()
        self.gone = True

    def _work(self) -> None:
        while self._frames and not self._busy:
            self._run(self._frames.popleft())

    def _run(self, frame: str) -> None:
        first, *rest = frame.split("\n")
        headers = dict(line.partition(": ")[::2] for line in rest)
        name, _, arguments = first.partition(" ")
        if not self._authenticated and name not in ("auth", "exit"):
            self._reply("-ERR command not found")
            return
        if name != "auth":
            self._simulator.heard(frame)
        run = getattr(self, f"_do_{name}", None)
        if run is None:
            self._reply("-ERR command not found")
        else:
            run(arguments.strip(), headers, frame)

    # Commands of the Event Socket

    def _do_auth(self, password: str, _headers: dict[str, str], _frame: str) -> None:
        if password != self._simulator.password:
            self._reply("-ERR invalid")
            self._leave()
            return
        self._authenticated = True
        self._simulator.bus.listeners.append(self)
        self._reply("+OK accepted")
        self._simulator.changed()

    def _do_exit(self, _arguments: str, _headers: dict[str, str], _frame: str) -> None:
        self._reply("+OK bye")
        self._leave()

    def _leave(self) -> None:
        self.notice(GOODBYE)
        self.part()
        self._close()

    def notice(self, text: str) -> None:
        """`text/disconnect-notice`; here the length stands behind the type, as in `disconnect`."""
        self._frame({"Content-Type": "text/disconnect-notice"}, text)

    def part(self) -> None:
        """The client is gone: no more events; what it had already sent still runs."""
        if self in self._simulator.bus.listeners:
            self._simulator.bus.listeners.remove(self)
            self._simulator.changed()
        self.gone = True

    def _do_event(self, arguments: str, _headers: dict[str, str], _frame: str) -> None:
        words = arguments.replace(",", " ").split()
        kind = words.pop(0) if words and words[0] in ("plain", "json", "xml") else "plain"
        names, subclasses = self._keywords(words)
        if not names and not subclasses:
            self._reply("-ERR no keywords supplied")
            return
        self._format = kind
        self._names |= names
        self._subclasses |= subclasses
        self._reply(f"+OK event listener enabled {kind}")

    def _keywords(self, words: list[str]) -> tuple[set[str], set[str]]:
        """Everything behind the word CUSTOM is a subclass."""
        upper = [word.upper() for word in words]
        at = upper.index("CUSTOM") if "CUSTOM" in upper else len(words)
        return {word for word in upper[:at] if word in EVENT_NAMES}, set(words[at + 1 :])

    def _do_nixevent(self, arguments: str, _headers: dict[str, str], _frame: str) -> None:
        names, subclasses = self._keywords(arguments.split())
        if not names and not subclasses:
            self._reply("-ERR no keywords supplied")
            return
        self._names -= names
        self._subclasses -= subclasses
        self._reply("+OK nixevent")

    def _do_noevents(self, _arguments: str, _headers: dict[str, str], _frame: str) -> None:
        self._names.clear()
        self._subclasses.clear()
        self._reply("+OK no longer listening for events")

    def _do_filter(self, arguments: str, _headers: dict[str, str], _frame: str) -> None:
        words = arguments.split(" ")
        if words[0] == "delete":
            name, value = (*words[1:], "", "")[:2]
            self._filters = [one for one in self._filters if one[0] != name or (value and one[1] != value)]
            self._reply(f"+OK filter deleted. [{name}][{value}]")
        elif len(words) > 1:
            self._filters.append((words[0], " ".join(words[1:])))
            self._reply(f"+OK filter added. [{words[0]}]=[{' '.join(words[1:])}]")
        else:
            self._reply("-ERR invalid syntax")

    def _do_linger(self, _arguments: str, _headers: dict[str, str], _frame: str) -> None:
        self._reply("+OK will linger")

    def _do_nolinger(self, _arguments: str, _headers: dict[str, str], _frame: str) -> None:
        self._reply("+OK will not linger")

    def _do_api(self, arguments: str, _headers: dict[str, str], frame: str) -> None:
        self._busy = True

        def replied(text: str) -> None:
            self._frame({"Content-Type": "api/response"}, text or "-ERR no reply\n")
            self._busy = False
            held, self._held = self._held, []
            for event in held:
                if not self.gone:
                    self._write(event.frame(self._format))
            self._work()

        with self._simulator.bus.replying():
            self._simulator.commands_run(arguments, replied, text=frame)

    def _do_bgapi(self, arguments: str, headers: dict[str, str], frame: str) -> None:
        job = headers.get("Job-UUID") or self._simulator.new_uuid()
        self._reply(f"+OK Job-UUID: {job}", **{"Job-UUID": job})
        self._simulator.background(arguments, job, frame)


def background_job(job: str, command: str) -> list[str]:
    """The headers of the BACKGROUND_JOB that ends `bgapi COMMAND`."""
    name, _, arguments = command.partition(" ")
    lines = [f"Job-UUID: {job}", header("Job-Command", name)]
    return [*lines, header("Job-Command-Arg", arguments)] if arguments else lines
