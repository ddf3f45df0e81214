"""Bytes from the Event Socket become frames, and frames become events that decode nothing until asked.

A frame is a block of headers that ends with an empty line, and behind it as many bytes as its
Content-Length says. The body of a `text/event-plain` frame is itself a block of headers, each value
percent-encoded once, with an optional body of its own (the result of a background job).

Two rules hold everything up:

* Lines are split before values are decoded. A caller whose SIP From holds `%0A` reaches us as a value with
  a newline in it (recording `odd_caller_id`); whoever decodes first lets that caller write headers.
* What nobody reads is not parsed. A channel event has 4 to 13 kB and some 200 headers; we read about ten.

No socket and no clock in here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from freeswitch_callback.errors import ProtocolError

MAX_HEADERS = 64 * 1024
"""Bytes in a frame's own header block: FreeSWITCH sends two or three lines."""

MAX_BODY = 32 * 1024 * 1024
"""Bytes in a body: `show channels as json` takes about 900 a channel."""

WITHOUT_BODY = frozenset({"auth/request", "command/reply"})
"""Only these come without a Content-Length; of any other the end could not be told."""

_NO_HEADERS: Mapping[bytes, bytes] = MappingProxyType({})
_OFTEN = 64
"""Bytes at most of a value that may come again and is kept."""
_EMPTY_LINE = re.compile(rb"\n\n").search
"""Takes a third of the time that `bytes.find` takes for two bytes."""
_VARIABLE = b"\nvariable_"
_PLAIN = "text/event-plain"
_PIECES = 64
"""So many are joined at once."""
_EMPTY = b"_undef_"
"""How FreeSWITCH writes an empty value (switch_event_serialize); encoded text may say it too."""
_EVENT_NAME, _CUSTOM = b"Event-Name: ", b"\nEvent-Name: CUSTOM\n"
_PLAIN_EVENT = re.compile(rb"Content-Length: (\d{1,7})\nContent-Type: text/event-plain\n\n")
"""The one head that comes by the thousand: a third of the cost of a frame is saved by knowing it."""


class Frame(NamedTuple):
    """One frame that is no plain event; `headers` by name, as they came."""

    content_type: str
    headers: Mapping[bytes, bytes]
    body: bytes

    @property
    def reply(self) -> str:
        """`Reply-Text` of a command/reply, such as `+OK accepted`; "" if it has none."""
        return _text(self.headers.get(b"Reply-Text", b""))


class Framer:
    """Cuts a byte stream into frames, in time linear in its length however it was sliced.

    What came in one piece is not copied: an event knows where in its piece it begins and ends.
    """

    def __init__(self) -> None:
        self._long = bytearray()  # what belongs to no frame yet; then the newest pieces of it
        self._pieces: list[bytes] = []
        self._size = 0
        self._wanted = 0  # bytes without which there is no frame
        self._scanned = 0  # no end of the header block before this offset
        self._looked_at = False  # the first line of this block
        self._head: tuple[str, Mapping[bytes, bytes], int] | None = None  # its body is still on the way

    def feed(self, data: bytes) -> None:
        if len(self._pieces) == _PIECES:
            self._long += b"".join(self._pieces)
            self._pieces.clear()
        self._pieces.append(data)
        self._size += len(data)

    def frames(self) -> Iterator[Frame | Event]:
        """The frames that are complete by now, plain events as such; `ProtocolError` where the stream stops
        making sense.

        After the error nothing in the stream can be trusted: drop the connection.
        """
        if self._size < self._wanted or not self._size:
            return
        self._wanted = 0
        begun, start = self._begun()
        one = begun is not None or (not self._long and len(self._pieces) == 1)
        buffer = self._pieces[-1] if one else b"".join((self._long, *self._pieces))
        size = len(buffer)
        try:
            if begun is not None:
                yield begun
            while True:
                if self._head is None and (head := _PLAIN_EVENT.match(buffer, start)):
                    begins = head.end()
                    ends = begins + int(head[1])
                    self._scanned, self._looked_at = 0, False
                    if ends <= size:
                        start = ends
                        yield Event(buffer, begins, ends)
                        continue
                    self._head, start = (_PLAIN, _NO_HEADERS, ends - begins), begins
                elif self._head is None:
                    while start < size and buffer[start] == 0x0A:
                        start += 1
                    end = buffer.find(b"\n\n", max(start, self._scanned), start + MAX_HEADERS + 2)
                    if end < 0:
                        self._check_unfinished(buffer, start)
                        return
                    self._head = _headers(buffer[start:end])
                    start = end + 2
                    self._scanned, self._looked_at = 0, False
                content_type, headers, length = self._head
                if size - start < length:
                    self._wanted = length
                    return
                body = buffer[start : start + length]
                start += length
                self._head = None
                yield _frame(content_type, headers, body)
        finally:
            # Also when the reader of this generator stops early: what was given out is gone.
            self._long, self._pieces = bytearray(), [buffer[start:]]
            self._size = size - start
            self._scanned = max(0, self._scanned - start)

    def _begun(self) -> tuple[Frame | Event | None, int]:
        """The frame whose body has begun in earlier pieces and ends in the newest, and where: nothing else is
        joined. None if there is no such."""
        newest = self._pieces[-1]
        if self._head is None or (newest is self._pieces[0] and not self._long):
            return None, 0
        content_type, headers, length = self._head
        ends = len(newest) - (self._size - length)
        if ends <= 0:
            return None, 0
        body = b"".join((self._long, *self._pieces[:-1], newest[:ends]))
        self._head = None
        return _frame(content_type, headers, body), ends

    def _check_unfinished(self, buffer: bytes, start: int) -> None:
        if len(buffer) - start > MAX_HEADERS:
            raise ProtocolError(
                f"a header block of more than {MAX_HEADERS} bytes: {_excerpt(buffer[start : start + 80])}"
            )
        if not self._looked_at and (line_end := buffer.find(b"\n", max(start, self._scanned))) >= 0:
            # Somebody who is no FreeSWITCH (a web server, say) shows it in the first line.
            _header(buffer[start:line_end])
            self._looked_at = True
        self._scanned = max(self._scanned, len(buffer) - 1)


def _frame(content_type: str, headers: Mapping[bytes, bytes], body: bytes) -> Frame | Event:
    return Event(body) if content_type == _PLAIN else Frame(content_type, headers, body)


def _header(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b": ")
    if not colon or not name:
        raise ProtocolError(f"a header line without ': ': {_excerpt(line)}")
    return name, value


def _headers(block: bytes) -> tuple[str, Mapping[bytes, bytes], int]:
    headers: dict[bytes, bytes] = {}
    for line in block.split(b"\n"):
        name, value = _header(line)
        if headers.setdefault(name, value) != value and name == b"Content-Length":
            raise ProtocolError(f"two different Content-Lengths: {_excerpt(block)}")
    content_type = _text(headers.get(b"Content-Type", b""))
    if not content_type:
        raise ProtocolError(f"a frame without Content-Type: {_excerpt(block)}")
    digits = headers.get(b"Content-Length")
    if digits is None:
        if content_type not in WITHOUT_BODY:
            raise ProtocolError(f"a {content_type} without Content-Length: {_excerpt(block)}")
        return content_type, headers, 0
    told = _NO_HEADERS if content_type == _PLAIN else headers
    return content_type, told, _length(digits)


def _length(digits: bytes) -> int:
    if not digits.isdigit():  # of bytes: ASCII digits only
        raise ProtocolError(f"Content-Length is no number: {_excerpt(digits)}")
    if len(digits) > 12 or int(digits) > MAX_BODY:
        raise ProtocolError(f"Content-Length is above {MAX_BODY} bytes: {_excerpt(digits)}")
    return int(digits)


class Event:
    r"""One `text/event-plain` body, from `start` to `end` of some bytes. Header values are percent-decoded
    when asked for, each one alone.

    Bytes that are no UTF-8 (a SIP header may hold any) come out as `\xff`, so a value is always text.
    """

    __slots__ = ("_begins", "_checked", "_end", "_raw", "_stop", "_timestamp", "_variables", "name")

    def __init__(self, raw: bytes, start: int = 0, end: int | None = None) -> None:
        if start == 0 or end is None:
            raw = b"\n" + raw[start:end]
            start, end = 1, len(raw)
        # From the end of the line before: so begins every header, the first one too.
        self._begins = begins = start - 1
        self._raw = raw
        # Looking for the empty line that ends the headers costs more than all the rest: it is looked for
        # only as far as somebody reads. No empty line before `_checked`; the headers end at or before `_end`.
        self._checked = start
        self._end = self._stop = end
        # The name is the first line, or the second of CUSTOM events, which begin with Event-Subclass.
        stop = raw.find(b"\n", start, end)
        line = raw[start : stop if stop >= 0 else end]
        name = _name_in(line) if len(line) <= _OFTEN else ""
        if not name and line:
            custom = stop >= 0 and raw.startswith(_CUSTOM, stop, end)
            name = "CUSTOM" if custom else self.get("Event-Name") or ""
        if not name:
            raise ProtocolError(f"an event without Event-Name: {_excerpt(raw[begins + 1 : end])}")
        self.name = name

    def __repr__(self) -> str:
        return f"<Event {self.name} {self.subclass}>" if self.subclass else f"<Event {self.name}>"

    @property
    def subclass(self) -> str | None:
        """`Event-Subclass` of a CUSTOM event, such as `callcenter::info`; no other event has one."""
        return self.get("Event-Subclass") if self.name == "CUSTOM" else None

    def get(self, header: str, default: str | None = None) -> str | None:
        """One header's value, its first if it is there twice; never out of a value or of the inner body."""
        key, is_variable = _KEYS[header]
        raw = self._raw
        at = raw.find(key, self._where_variables_begin() if is_variable else self._begins, self._end)
        if at < 0:
            return default
        if at > self._checked:  # as `_is_header`; a call costs as much as the rest
            if (empty := _EMPTY_LINE(raw, self._checked, at + 1)) is not None:
                self._checked = self._end = empty.start()
                return default
            self._checked = at
        at += len(key)
        stop = raw.find(b"\n", at, self._end)
        value = raw[at : stop if stop >= 0 else self._end]
        if b"%" in value:
            return _often_decoded(value) if len(value) <= _OFTEN else _decoded(value)
        return "" if value == _EMPTY else value.decode("utf-8", "backslashreplace")

    def _where_variables_begin(self) -> int:
        """Behind some 2 kB of other headers; at the end, if there are none."""
        try:
            return self._variables
        except AttributeError:
            found = self._raw.find(_VARIABLE, self._begins, self._end)
            self._variables: int = found if found >= 0 else self._end
            return self._variables

    def _is_header(self, at: int) -> bool:
        """Whether no empty line comes before this offset."""
        if at > self._checked:
            if (empty := _EMPTY_LINE(self._raw, self._checked, at + 1)) is not None:
                self._checked = self._end = empty.start()
                return False
            self._checked = at
        return True

    def items(self) -> Iterator[tuple[str, str]]:
        """All headers in their order; decodes everything, so for `extra` and debugging only."""
        self._is_header(self._end)
        for line in self._raw[self._begins + 1 : self._end].split(b"\n"):
            name, colon, value = line.partition(b": ")
            if colon:
                yield _text(name), _decoded(value)

    @property
    def raw(self) -> bytes:
        """As it came."""
        return self._raw[self._begins + 1 : self._stop]

    @property
    def timestamp(self) -> float:
        """`Event-Date-Timestamp` in seconds since 1970, UTC, to the microsecond."""
        try:
            return self._timestamp
        except AttributeError:
            self._timestamp: float = _seconds(self.get("Event-Date-Timestamp"), self.name)
            return self._timestamp

    @property
    def body(self) -> bytes:
        """What stands behind the headers (the result of a BACKGROUND_JOB), by its own Content-Length."""
        digits = self.get("Content-Length")
        if digits is None:
            return b""
        length = _length(digits.encode())
        self._is_header(self._end)
        start = self._end + 2
        if start + length > self._stop:
            raise ProtocolError(f"the body of {self.name} is shorter than its Content-Length {length}")
        return self._raw[start : start + length]


class JsonEvent:
    """One `text/event-json` body, with the same face as `Event`.

    We subscribe to plain events, which are read without parsing them; this is for a listener who must.
    """

    __slots__ = ("_values", "name")

    def __init__(self, body: bytes) -> None:
        self._values: dict[str, Any] = json_object(body)
        name = self.get("Event-Name")
        if not name:
            raise ProtocolError(f"an event without Event-Name: {_excerpt(body)}")
        self.name = name

    def __repr__(self) -> str:
        return f"<JsonEvent {self.name}>"

    @property
    def subclass(self) -> str | None:
        return self.get("Event-Subclass")

    def get(self, header: str, default: str | None = None) -> str | None:
        value = self._values.get(header)
        if isinstance(value, list):  # a header that was pushed several times
            value = value[0] if value else None
        return default if value is None else clean(str(value))

    def items(self) -> Iterator[tuple[str, str]]:
        for name in self._values:
            if name != "_body":
                yield clean(name), self.get(name) or ""

    @property
    def timestamp(self) -> float:
        return _seconds(self.get("Event-Date-Timestamp"), self.name)

    @property
    def body(self) -> bytes:
        return (self.get("_body") or "").encode()


def json_object(data: bytes) -> dict[str, Any]:
    """A JSON object as FreeSWITCH writes it, which may hold invalid UTF-8 and raw control characters."""
    text = data.decode("utf-8", "replace")
    try:
        value = json.loads(text, strict=False)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"no JSON ({error}): {_excerpt(data)}") from error
    if not isinstance(value, dict):
        raise ProtocolError(f"JSON, but no object: {_excerpt(data)}")
    return value


_SURROGATES = re.compile("[\ud800-\udfff]")


def clean(text: str) -> str:
    r"""The text with lone surrogates (`"\ud800"` is valid JSON) written out: they cannot be encoded again."""
    if text.isascii():
        return text
    return _SURROGATES.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


@lru_cache(maxsize=4096)
def _often_decoded(value: bytes) -> str:
    """Queues, agents and callers come again and again."""
    return _decoded(value)


@lru_cache(maxsize=256)
def _name_in(line: bytes) -> str:
    """The name of an event that begins with this line; "" if it begins with something else."""
    return _decoded(line[len(_EVENT_NAME) :]) if line.startswith(_EVENT_NAME) else ""


class _Keys(dict[str, tuple[bytes, bool]]):
    """How a header begins, with the end of the line before it; and whether it is a channel's variable.

    By the headers that the program and its configuration name: what strangers send is never asked for.
    """

    def __missing__(self, header: str) -> tuple[bytes, bool]:
        key = b"\n" + header.encode() + b": "
        self[header] = found = (key, key.startswith(_VARIABLE))
        return found


_KEYS = _Keys()


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


def _decoded(value: bytes) -> str:
    if b"%" in value:
        value = unquote_to_bytes(value)
    elif value == _EMPTY:
        return ""
    return value.decode("utf-8", "backslashreplace")


def _seconds(microseconds: str | None, name: str) -> float:
    if not microseconds or not (microseconds.isascii() and microseconds.isdigit()) or len(microseconds) > 16:
        raise ProtocolError(f"{name} without a usable Event-Date-Timestamp: {microseconds!r:.40}")
    return int(microseconds) / 1e6


def _excerpt(data: bytes | bytearray) -> str:
    return repr(bytes(data[:80])) + ("…" if len(data) > 80 else "")
