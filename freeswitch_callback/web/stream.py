"""Server-sent events: what has changed, to every page that is open.

One greenlet follows the journal for all. A reader has a queue of a few pieces; who does not read them in time
is let go, and comes back with `Last-Event-ID` to be told what came meanwhile. An event says which recall has
changed, and how; no number, no name: the page asks for what it shows.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from itertools import count

import gevent
import structlog
from flask import Flask, Response, request
from gevent.event import Event as Flag
from gevent.queue import Empty, Queue

from freeswitch_callback.core.access import Access, Role, Scope
from freeswitch_callback.errors import DatabaseError
from freeswitch_callback.ledger.following import MOST, Change, Follower
from freeswitch_callback.operations import accounts
from freeswitch_callback.operations.spreadsheet import as_text
from freeswitch_callback.web import guard
from freeswitch_callback.web.problems import Refused
from freeswitch_callback.web.site import Site

log = structlog.get_logger(__name__)

LOOK_EVERY = 0.05
"""Seconds between two looks at the journal, while anybody reads."""

BEAT = 10.0
"""Seconds without an event after which a sign of life is sent: a reader who is gone is noticed by it."""

PATIENCE = 10.0
"""Seconds within which a transaction commits, or never."""

MOST_READERS, MOST_OF_ONE = 1000, 20
_PIECES, _BYTES = 50, 256 * 1024
"""That wait for one reader at most; each piece is what was new at one look."""
_AT_ONCE, _PAUSE = 10, 0.001
"""Readers who are told at once, and seconds for others' work before the next are: an engine has calls to make
meanwhile."""
_ROOM = {"board": 0.003, "operator": 0.02}
"""Seconds, for each page of a kind, over which they spread their looks at a change: some times as long as a
look takes the engine (boards show much the same). A page that looks at once shows at once what has changed;
five hundred that did would keep the engine from its calls for seconds."""
_SAY_EVERY, _LASTS = 20.0, 45.0
"""Seconds after which it is said again that a page is open, and for which that holds."""
_SHARE = 9
"""Times as long as it takes to tell all readers is the pause behind it."""
_CATCH_UP = 2 * MOST
"""Entries that a reader is told later; of one who was away for longer the page is as good as new."""


class Reader:
    """One open stream. `access` tells at each event anew what it may see; `agent`: of an operator."""

    def __init__(self, name: str, access: Callable[[], Access], *, agent: str | None = None) -> None:
        self.name = name
        self.access = access
        self.agent = agent
        self.kind = "board" if agent is None else "operator"
        self.pieces: Queue[bytes | None] = Queue(_PIECES)
        self.waiting = 0  # bytes
        self.gone = False

    def give(self, piece: bytes | None) -> None:
        size = len(piece or b"")
        if self.pieces.full() or (self.waiting and self.waiting + size > _BYTES):
            self.gone = True
        else:
            self.waiting += size
            self.pieces.put_nowait(piece)

    def take(self) -> bytes | None:
        """The next piece, None at the end. Raises `Empty` where nothing comes."""
        piece = self.pieces.get(timeout=BEAT)
        self.waiting -= len(piece or b"")
        return piece


class Broadcaster:
    """Of one site. Its greenlet works only while somebody reads."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._readers: dict[int, Reader] = {}
        self._there: set[str] = set()  # agents of whom it is on record that their page is open
        self._said_at = 0.0
        self._alike: Counter[str] = Counter()  # readers by the kind of their page
        self._numbers = count()
        self._somebody = Flag()
        self._follower: Follower | None = None
        self._work: gevent.Greenlet | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._readers)

    def close(self) -> None:
        """All streams end."""
        self._closed = True
        if self._work is not None:
            self._work.kill()
        for reader in self._readers.values():
            reader.gone = True
            reader.give(None)

    def read(self, reader: Reader, last: int | None, still: Callable[[], bool]) -> Iterator[bytes]:
        """What `reader` is sent, until it is gone. `last`: the last id that it had; `still`: whether it may
        still read, asked at each sign of life."""
        of_name = Counter(other.name for other in self._readers.values())
        if self._closed or len(self._readers) >= MOST_READERS or of_name[reader.name] >= MOST_OF_ONE:
            raise Refused(
                HTTPStatus.SERVICE_UNAVAILABLE, "too many pages are open; try again", {"Retry-After": "10"}
            )
        return self._pieces(reader, last, still)

    def _followed(self) -> Follower:
        """Up to date for as long as there are readers."""
        if self._follower is None:
            self._follower = Follower(self._site.ledger.following.newest(), PATIENCE)
        if self._work is None:
            self._work = gevent.spawn(self._follow)
        self._somebody.set()
        return self._follower

    def _pieces(self, reader: Reader, last: int | None, still: Callable[[], bool]) -> Iterator[bytes]:
        number = next(self._numbers)
        self._alike[reader.kind] += 1
        self._readers[number] = reader  # first: what comes while it catches up is not to be lost
        try:
            follower = self._followed()
            yield b"retry: 2000\n\n" + self._caught_up(reader, follower, last)
            while not reader.gone:
                try:
                    piece = reader.take()
                except Empty:
                    if not still():
                        return
                    piece = b"event: beat\ndata: {}\n\n"
                if piece is None:
                    return
                yield piece
        finally:
            self._alike[reader.kind] -= 1
            self._readers.pop(number, None)

    def _caught_up(self, reader: Reader, follower: Follower, last: int | None) -> bytes:
        """What a reader has missed who was here before; the first thing that any is told. It is in the line
        already: what is told twice does no harm."""
        spread = {"spread": self._spread(reader.access())}
        hello = _event("hello", spread, follower.safe)
        if last is None:
            return hello
        if last > follower.safe + MOST or follower.safe - last > _CATCH_UP:
            return _event("reset", spread, follower.safe)
        missed: list[Change] = []
        while changes := self._site.ledger.following.changes(last):
            missed += changes
            if len(missed) > _CATCH_UP:
                return _event("reset", spread, follower.safe)
            last = changes[-1].id
        return self._told(reader, _Texts(missed, follower.safe)) + hello

    def _follow(self) -> None:
        while True:
            self._somebody.wait()
            self._say_who_is_there()
            if not self._readers:
                self._somebody.clear()
                self._follower = None  # whoever comes next begins with what is new then
                continue
            began = time.monotonic()
            try:
                self._tell(self._follower)
            except DatabaseError as error:
                log.debug("stream_waits", error=str(error))
            gevent.sleep(max(LOOK_EVERY, _SHARE * (time.monotonic() - began)))

    def _say_who_is_there(self) -> None:
        """Recalls that are accepted on the page are offered to those who have it open."""
        there = {reader.agent for reader in self._readers.values() if reader.agent is not None}
        now = time.monotonic()
        if there == self._there and (not there or now - self._said_at < _SAY_EVERY):
            return
        try:
            self._site.ledger.people.pages_open(there, _LASTS, left=self._there - there)
            changed, self._there, self._said_at = there != self._there, there, now
            if changed:
                self._site.live.look_who_has_a_page()
        except DatabaseError as error:
            log.debug("pages_not_said", error=str(error))

    def _tell(self, follower: Follower | None) -> None:
        if follower is None:
            return
        changes = follower.look(self._site.ledger.following, gevent.get_hub().loop.now())
        if not changes:
            return
        texts = _Texts(changes, follower.safe)
        for number, reader in enumerate(list(self._readers.values()), 1):
            if piece := self._told(reader, texts):
                reader.give(piece)
            if number % _AT_ONCE == 0:
                gevent.sleep(_PAUSE)

    def _told(self, reader: Reader, texts: _Texts) -> bytes:
        access = reader.access()
        return texts.of(access, self._spread(access))

    def _spread(self, access: Access) -> int:
        """Milliseconds over which pages like this one's spread their looks at what has changed."""
        kind = "operator" if access.role is Role.OPERATOR else "board"
        return round(self._alike[kind] * _ROOM[kind] * 1000)


class _Texts:
    """What is told of these changes. Hundreds of readers are told the same: each text is made once."""

    def __init__(self, changes: Sequence[Change], safe: int) -> None:
        self._changes = changes
        self._safe = safe
        self._made: dict[tuple[int, bool, int], bytes] = {}

    def of(self, access: Access, spread: int) -> bytes:
        """An operator is told of nobody else's reservation."""
        everything = access.role is not Role.OPERATOR
        return b"".join(
            self._text(number, change, everything or change.agent == access.agent, spread)
            for number, change in enumerate(self._changes)
            if access.sees(change.queue)
        )

    def _text(self, number: int, change: Change, mine: bool, spread: int) -> bytes:
        key = (number, mine, spread)
        if key not in self._made:
            self._made[key] = _event("change", _shown(change, mine) | {"spread": spread}, self._safe)
        return self._made[key]


def _shown(change: Change, mine: bool) -> dict[str, object]:
    return {
        "at": as_text(change.at),
        "what": change.what,
        "recall": change.recall,
        "missed": change.missed,
        "queue": change.queue,
        "state": change.state,
        "agent": change.agent if mine else None,
    }


def _event(name: str, data: Mapping[str, object], id_: int) -> bytes:
    # JSON in ASCII has no line end of a stranger's.
    return f"id: {id_}\nevent: {name}\ndata: {json.dumps(data)}\n\n".encode("ascii")


def install(app: Flask, site: Site, broadcaster: Broadcaster) -> None:
    @app.get("/events")
    @guard.needs(Scope.READ)
    def events() -> Response:
        access = guard.access()
        reader = Reader(access.name, lambda: site.seen_by(access), agent=access.agent)
        pieces = broadcaster.read(reader, _last(), _still(site))
        headers = {"X-Accel-Buffering": "no"}  # nginx hands on at once what it would else collect
        return Response(pieces, content_type="text/event-stream; charset=utf-8", headers=headers)


def _last() -> int | None:
    """A browser sends it by itself when it connects again; 0 for what is none: then all is told anew."""
    given = request.headers.get("Last-Event-ID", "")
    if not given:
        return None
    return int(given) if given.isascii() and given.isdigit() and len(given) < 19 else 0


def _still(site: Site) -> Callable[[], bool]:
    """Whether whoever opened this is still let in: a session may end meanwhile, a token be revoked. To look
    on does not keep a session alive."""
    session, authorization = guard.logged_in(), request.headers.get("Authorization", "")
    people = site.ledger.people

    def still() -> bool:
        try:
            if session is not None:
                key = accounts.key_of(session.secret)
                return people.session(key, site.settings.session_idle, seen=False) is not None
            return people.token(accounts.key_of(authorization.partition(" ")[2].strip())) is not None
        except DatabaseError:
            return True  # to be asked again

    return still
