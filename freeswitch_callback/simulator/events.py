"""Events as the Event Socket sends them: text, encoded once, built only when somebody listens.

Shapes and values as in the recordings of FreeSWITCH 1.10.12. A value is percent-encoded once, byte by byte,
with the set of characters that `switch_url_encode` keeps; header names are never encoded.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Protocol
from urllib.parse import unquote

# Everything else is written as %XX (libs: SWITCH_URL_UNSAFE, and whatever is not printable ASCII).
_UNSAFE = re.compile(r"""[^!$'()*,\-./0-9A-Z_a-z~]""")
_ENCODED = {byte: f"%{byte:02X}" for byte in range(256)}
VERSION = "1.10.12-release+git~20240802T210227Z~a88d069d6f~64bit"


def _encode_character(match: re.Match[str]) -> str:
    return "".join(_ENCODED[byte] for byte in match[0].encode("utf-8", "surrogateescape"))


@lru_cache(maxsize=10_000)
def encode(value: str) -> str:
    """Percent-encode a header's value as FreeSWITCH does."""
    return _UNSAFE.sub(_encode_character, value)


def header(name: str, value: object) -> str:
    """One line of an event, without its end."""
    return f"{name}: {encode(str(value))}"


class Listener(Protocol):
    """Somebody who may want events: a connection, or a test."""

    def wants(self, name: str, subclass: str) -> bool: ...

    def deliver(self, event: Event) -> None: ...


class Event:
    """An event's text (`name: encoded value` lines) and its body ("" when it has none)."""

    __slots__ = ("_json", "_plain", "body", "lines", "name", "subclass")

    def __init__(self, name: str, subclass: str, lines: list[str], body: str = "") -> None:
        self.name = name
        self.subclass = subclass
        self.lines = lines
        self.body = body
        self._plain: bytes | None = None
        self._json: bytes | None = None

    def headers(self) -> dict[str, str]:
        """The headers, decoded; the first one wins, as in FreeSWITCH."""
        found: dict[str, str] = {}
        for line in self.lines:
            for one in line.split("\n"):
                key, _, value = one.partition(": ")
                found.setdefault(key, unquote(value, errors="surrogateescape"))
        return found

    def frame(self, kind: str) -> bytes:
        """The whole frame for a listener of `plain` or `json` events."""
        return self._json_frame() if kind == "json" else self._plain_frame()

    def _plain_frame(self) -> bytes:
        if self._plain is None:
            body = self.body.encode("utf-8", "surrogateescape")
            if body:
                self.lines.append(f"Content-Length: {len(body)}")
            text = "\n".join(self.lines).encode("utf-8", "surrogateescape") + b"\n\n" + body
            self._plain = b"Content-Length: %d\nContent-Type: text/event-plain\n\n%s" % (len(text), text)
        return self._plain

    def _json_frame(self) -> bytes:
        if self._json is None:
            headers = self.headers()
            if self.body:
                headers["Content-Length"] = str(len(self.body.encode("utf-8", "surrogateescape")))
                headers["_body"] = self.body
            text = json.dumps(headers, ensure_ascii=False, separators=(",", ":")).encode(
                "utf-8", "surrogateescape"
            )
            self._json = b"Content-Length: %d\nContent-Type: text/event-json\n\n%s" % (len(text), text)
        return self._json


class Bus:
    """Gives every event to the listeners who asked for it, in one order for all."""

    def __init__(self, now: Callable[[], float], hostname: str) -> None:
        self._now = now
        self._hostname = hostname
        self._sequence = 0
        self._second = -1
        self._dates = ""
        self._identity = ""
        self.listeners: list[Listener] = []
        self._behind: list[tuple[Listener, Event]] | None = None
        self.fired = 0  # how many events there have been, listened to or not
        self.changed: Callable[[], None] = lambda: None

    def boot(self, core_uuid: str) -> None:
        """FreeSWITCH has (re)started: another Core-UUID, counting from one again."""
        host = encode(self._hostname)
        self._sequence = 0
        self._identity = (
            f"Core-UUID: {core_uuid}\nFreeSWITCH-Hostname: {host}\nFreeSWITCH-Switchname: {host}\n"
            "FreeSWITCH-IPv4: 192.0.2.2\nFreeSWITCH-IPv6: fd00%3A%3A2"
        )

    def fire(
        self,
        name: str,
        lines: Callable[[], Iterable[str]],
        *,
        subclass: str = "",
        body: str = "",
        source: str = "",
    ) -> None:
        """Send an event; `lines` is asked for its headers only when somebody wants them."""
        self._sequence += 1
        self.fired += 1
        wanting = [listener for listener in self.listeners if listener.wants(name, subclass)]
        if wanting:
            event = Event(name, subclass, [*self._preamble(name, subclass, source), *lines()], body)
            for listener in wanting:
                if self._behind is None:
                    listener.deliver(event)
                else:
                    self._behind.append((listener, event))
        self.changed()

    @contextmanager
    def replying(self) -> Iterator[None]:
        """What is fired in here is sent at its end.

        FreeSWITCH sends events in ticks of about 20 ms and a reply at once: of 60 commands that changed an
        agent's state, 59 had their reply before another connection had the event (1.10.12).
        """
        if self._behind is not None:  # the next of several commands that came together
            yield
            return
        self._behind = []
        try:
            yield
        finally:
            fired, self._behind = self._behind, None
            for listener, event in fired:
                listener.deliver(event)

    def _preamble(self, name: str, subclass: str, source: str) -> list[str]:
        micros = round(self._now() * 1_000_000)
        second = micros // 1_000_000
        if second != self._second:
            self._second = second
            local = time.strftime("%Y-%m-%d%%20%H%%3A%M%%3A%S", time.localtime(second))
            gmt = time.strftime("%a,%%20%d%%20%b%%20%Y%%20%H%%3A%M%%3A%S%%20GMT", time.gmtime(second))
            self._dates = f"Event-Date-Local: {local}\nEvent-Date-GMT: {gmt}"
        first = (
            f"Event-Subclass: {encode(subclass)}\nEvent-Name: {name}" if subclass else f"Event-Name: {name}"
        )
        return [
            first,
            self._identity,
            self._dates,
            f"Event-Date-Timestamp: {micros}",
            f"Event-Calling-File: {source or 'switch_channel.c'}",
            f"Event-Sequence: {self._sequence}",
        ]
