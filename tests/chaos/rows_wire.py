"""The bytes between FreeSWITCH and the client: cut anywhere, in any pieces, and damaged."""

from __future__ import annotations

import resource
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import accumulate
from random import Random

import gevent
import structlog
from gevent import socket
from gevent.event import Event as Flag

from freeswitch_callback.core.capture import Capture, CaptureRules
from freeswitch_callback.errors import ProtocolError
from freeswitch_callback.esl.client import HANDLER_ERRORS, AnyEvent
from freeswitch_callback.esl.frames import MAX_BODY, MAX_HEADERS, Event, Framer
from freeswitch_callback.esl.node import Node
from tests import recordings
from tests.chaos.arbitrary import survived
from tests.chaos.suite import Counts, Given, row
from tests.integration.scripted_server import GREETING, Client, ScriptedServer, reply, scripted, usual

STORY = "abandoned_while_ringing"
_HANGS = 10.0
"""Seconds: all of this happens within milliseconds."""
_LOGIN = (GREETING, reply("+OK accepted"), usual("event plain"))
_OTHER_LOGIN = (GREETING, reply("+OK accepted"), usual("api global_getvar core_uuid"))


def event_frames(name: str) -> list[bytes]:
    """The events of a recording, each as it stood on the wire."""
    framer = Framer()
    framer.feed(recordings.received(name))
    return [
        b"Content-Length: %d\nContent-Type: text/event-plain\n\n%s" % (len(event.raw), event.raw)
        for event in framer.frames()
        if isinstance(event, Event)
    ]


def _say_nothing() -> None:
    """Each of a hundred thousand losses would be told of."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))


class Listener:
    """A node, and what it told since it was last up: of each event its number by FreeSWITCH."""

    def __init__(self, server: ScriptedServer) -> None:
        self.heard: list[str] = []
        self.sessions: list[list[str]] = []
        self.changed = Flag()
        self.node = Node(
            "fs1", server.host, server.port, "secret",
            on_event=self._event, on_up=self._up, on_down=self._down,
            reply_timeout=2.0, first_delay=0.0, longest_delay=0.0,
        )  # fmt: skip

    def _event(self, event: AnyEvent) -> None:
        gevent.sleep(0)  # as who writes to a database
        self.heard.append(event.get("Event-Sequence") or "")
        self.changed.set()

    def _up(self) -> None:
        self.heard = []

    def _down(self, _reason: str) -> None:
        self.sessions.append(self.heard)
        self.changed.set()

    def until_told_of(self, losses: int) -> None:
        with gevent.Timeout(_HANGS):
            while len(self.sessions) < losses:
                self.changed.wait()
                self.changed.clear()


class Cuts:
    """A FreeSWITCH that says the same on every connection that listens, and each time cuts it elsewhere."""

    def __init__(self, said: bytes, cuts: Iterable[int]) -> None:
        self._said = said
        self._cuts = iter(cuts)

    def __call__(self, client: Client) -> None:
        client.let_in()
        command = client.command()
        cut = next(self._cuts, None) if command.startswith("event ") else None
        client.send(usual(command))
        if cut is None:
            client.serve()
        else:
            client.send(self._said[:cut])


@row(
    "cut",
    "the connection cut at every byte of a recorded conversation",
    "every whole event before the cut is handled once, the loss is told behind it, and it connects anew",
    full=sum(map(len, event_frames(STORY))) + 1,
    short=1500,
)
def cut_at_every_byte(given: Given) -> Counts:
    _say_nothing()
    counts = Counts()
    frames = event_frames(STORY)
    said, ends = b"".join(frames), list(accumulate(map(len, frames)))
    numbers = [Event(frame.partition(b"\n\n")[2]).get("Event-Sequence") or "" for frame in frames]
    cuts = list(range(len(said) + 1))
    if given.short:
        # Where a frame's head ends and its body begins is more likely to be wrong than anywhere else.
        near = {at for end in ends for at in range(max(0, end - 5), min(len(said), end + 60))}
        cuts = sorted({*near, *given.random.sample(cuts, given.runs)})
    with scripted(Cuts(said, cuts)) as server:
        listener = Listener(server)
        listener.node.start()
        for run in range(1, len(cuts) + 1):
            listener.until_told_of(run)
        listener.node.stop()
    for cut, heard in zip(cuts, listener.sessions, strict=True):
        whole = numbers[: bisect_right(ends, cut)]
        _compare(counts, f"cut at byte {cut}", whole, heard)
    for stream in range(2):
        _cut_in_the_login(counts, stream)
    return counts


def _cut_in_the_login(counts: Counts, stream: int) -> None:
    """The first (0) or the second (1) of the two connections, at every byte until both stand."""
    login = (_LOGIN, _OTHER_LOGIN)[stream]
    for cut in range(sum(map(len, login))):

        def cut_off(client: Client, cut: int = cut) -> None:
            left = cut
            for at, piece in enumerate(login):
                if at:
                    client.command()
                client.send(piece[:left])
                left -= len(piece)
                if left < 0:
                    return

        def healthy(client: Client) -> None:
            client.let_in()
            client.serve()

        with scripted(*[healthy] * stream, cut_off, healthy) as server:
            listener = Listener(server)
            listener.node.start()
            counts.runs += 1
            if not listener.node.up.wait(_HANGS):
                counts.stuck += 1
                counts.notes.append(f"cut at byte {cut} of login {stream}: it did not connect anew")
            listener.node.stop()


@row(
    "pieces",
    "the stream in 1-byte pieces",
    "every event is handled once, in its order",
    full=len(recordings.NAMES),
    short=4,
)
def in_pieces_of_one_byte(given: Given) -> Counts:
    counts = Counts()
    for name in sorted(recordings.NAMES)[: given.runs]:
        frames = event_frames(name)

        def byte_by_byte(client: Client, said: bytes = b"".join(frames)) -> None:
            _slowly(client, GREETING)
            client.command()
            _slowly(client, reply("+OK accepted"))
            while command := client.command():
                _slowly(client, usual(command) + said * command.startswith("event "))

        with scripted(byte_by_byte) as server:
            listener = Listener(server)
            listener.node.start()
            with gevent.Timeout(120.0):
                listener.node.up.wait()
                while len(listener.heard) < len(frames):
                    listener.changed.wait()
                    listener.changed.clear()
            heard = listener.heard
            listener.node.stop()
        numbers = [Event(frame.partition(b"\n\n")[2]).get("Event-Sequence") or "" for frame in frames]
        _compare(counts, name, numbers, heard)
    return counts


def _slowly(client: Client, data: bytes) -> None:
    client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else the kernel puts them together
    for at in range(len(data)):
        client.send(data[at : at + 1])
        gevent.idle()  # the client reads before there is more


def _compare(counts: Counts, what: str, told: list[str], heard: list[str]) -> None:
    counts.runs += 1
    if told == heard:
        return
    times = Counter(heard)
    counts.lost += len(set(told) - times.keys())
    counts.doubled += sum(times.values()) - len(set(told) & times.keys())
    counts.stuck += sorted(told) == sorted(heard)  # another order
    counts.notes.append(f"{what}: {len(told)} events were whole, {len(heard)} were handled")


# --- damaged bytes ------------------------------------------------------------------------------------------

_PLANTED = b"Planted: yes"
_HOSTILE = (
    b"%0A" + _PLANTED, b"%0A%0A" + _PLANTED, b"%0D%0A" + _PLANTED, b"\r" + _PLANTED, b"\x0b" + _PLANTED,
    b"\x85" + _PLANTED, "\u2028".encode() + _PLANTED, b"%250A" + _PLANTED, b"%00", b"%ff%fe", b"%", b"%u000a",
    b"\xff\xfe\x00", b"_undef_", b"-1", b"9" * 5000, b"9" * 400, b"9" * 18, b"1e999", b"nan",
    "\u0663".encode(), b"", b" ", b"A" * 70_000, b"Content-Length%3A%205",
)  # fmt: skip
_BREAKING = (
    b"\n", b"\n\n", b"\n" + b"Content-Length: 5\n", b"Content-Length: 99999999999\n", b"Content-Length: -5\n",
    b"Content-Type: text/event-plain\n\n", b"Event-Name: \n", b"\0", b"Content-Length: 33554432\n",
    b"\n\n\n\n",
)  # fmt: skip
_READ = (
    b"Event-", b"Unique-ID", b"Call-Direction", b"Caller-", b"Bridge-", b"Other-", b"CC-", b"Hangup-Cause",
    b"variable_cc_", b"variable_end_epoch", b"variable_last_bridge", b"variable_bridge_uuid",
)  # fmt: skip
"""What the capture reads, of some 200 headers."""
_FRAMES_AN_EXAMPLE = 200
_SMALL = 1500
"""Bytes of a frame that hypothesis cuts in pieces."""
_GROWTH = 64 * 1024
"""kB that the process may be larger at its end than after a tenth of the frames."""


def damaged(frame: bytes, chance: Random) -> tuple[bytes, bool]:
    """The frame with something wrong in it; True if only a header's value was touched."""
    kind = chance.random()
    if kind < 0.5:
        _, _, body = frame.partition(b"\n\n")
        lines = body.split(b"\n")
        read = [at for at, line in enumerate(lines) if line.startswith(_READ)]
        for _ in range(chance.randrange(1, 4)):
            at = chance.choice(read) if chance.random() < 0.5 else chance.randrange(len(lines))
            name, colon, value = lines[at].partition(b": ")
            if colon and name != b"Content-Length":
                hostile = chance.choice(_HOSTILE)
                lines[at] = name + colon + (value + hostile if chance.random() < 0.5 else hostile)
        body = b"\n".join(lines)
        return b"Content-Length: %d\nContent-Type: text/event-plain\n\n%s" % (len(body), body), True
    data = bytearray(frame)
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(data) + 1)
        if kind < 0.65:
            data[at : at + 1] = bytes([chance.randrange(256)])
        elif kind < 0.8:
            data[at:at] = chance.choice(_BREAKING)
        elif kind < 0.9:
            del data[at : at + chance.randrange(1, 200)]
        else:
            data[at:at] = data[chance.randrange(len(data) + 1) :][: chance.randrange(1, 200)]
    return bytes(data), False


@row(
    "fuzz",
    "damaged frames into the client, and what hypothesis thinks of",
    "what makes no sense is a ProtocolError, no header comes out of a value, memory is bounded; in pieces "
    "the stream is the same",
    full=1_000_000,
    short=20_000,
    busy=True,
)
def fuzzed(given: Given) -> Counts:
    counts, chance = Counts(), given.random
    frames = [frame for name in recordings.NAMES for frame in event_frames(name)]
    framer, capture = Framer(), Capture("fs1", CaptureRules())
    before = 0
    for run in range(given.runs):
        if run == given.runs // 10:
            before = _peak()
        if run % 500 == 0:
            capture = Capture("fs1", CaptureRules())
        frame, values_only = damaged(chance.choice(frames), chance)
        framer.feed(frame if chance.random() < 0.9 else frame[: chance.randrange(len(frame) + 1)])
        try:
            for event in _events(framer):
                _read(counts, event, capture, values_only)
        except ProtocolError:
            framer = Framer()
        if framer._size > max(MAX_HEADERS, 1024 * 1024):
            framer = Framer()  # it waits for a body that will not come; its bound is tried below
        counts.runs += 1
    if (grown := _peak() - before) > _GROWTH:
        counts.stuck += 1
        counts.notes.append(f"{grown} kB more after the first tenth")
    _flooded(counts)
    examples = given.runs // _FRAMES_AN_EXAMPLE
    survived(examples, chance.randrange(10**9), [frame for frame in frames if len(frame) < _SMALL])
    counts.runs += examples
    return counts


def _events(framer: Framer) -> Iterator[Event]:
    for frame in framer.frames():
        if isinstance(frame, Event):
            yield frame


def _read(counts: Counts, event: Event, capture: Capture, values_only: bool) -> None:
    names = [name for name, _ in event.items()]
    if values_only and (event.get("Planted") is not None or "Planted" in names):
        counts.doubled += 1
        counts.notes.append(f"a value became a header: {event!r}")
    try:
        capture.feed(event)
        event.body  # noqa: B018 - read for what it raises
    except HANDLER_ERRORS:
        pass  # logged, and on with the next event; anything else ends the row


def _flooded(counts: Counts) -> None:
    """Heads and bodies without end: given up at the bound."""
    for flood, bound in (
        (b"A: " + b"x" * 1021, MAX_HEADERS),
        (b"A: b\n" * 200, MAX_HEADERS),
        (b"Content-Type: api/response\nContent-Length: %d\n\n" % (MAX_BODY + 1), MAX_HEADERS),
    ):
        framer, fed = Framer(), 0
        counts.runs += 1
        try:
            while fed <= bound + 2 * len(flood):
                framer.feed(flood)
                fed += len(flood)
                for _ in framer.frames():
                    pass
        except ProtocolError:
            continue
        counts.stuck += 1
        counts.notes.append(f"{fed} bytes of {flood[:20]!r} were held")


def _peak() -> int:
    """kB that this process took at most until now."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
