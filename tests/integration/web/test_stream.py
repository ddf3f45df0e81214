"""What open pages are told: of every change at least once, of nothing that is not theirs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import gevent
import pytest
from gevent import socket

from freeswitch_callback.core.access import Access, Role, Scope
from freeswitch_callback.core.facts import ClosedAs
from freeswitch_callback.ledger import Filter, Ledger
from freeswitch_callback.ledger.following import Follower
from freeswitch_callback.ledger.models import Journal
from freeswitch_callback.web import app, stream
from freeswitch_callback.web.problems import Refused
from freeswitch_callback.web.server import Server
from freeswitch_callback.web.site import Site
from freeswitch_callback.web.stream import Broadcaster, Reader
from tests.integration.ledger.given import NOON, claimed, waiting
from tests.integration.web.test_api import OTHER, SUPPORT, missed
from tests.web import Browser, Program, add_user, token

Event = dict[str, Any]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "LOOK_EVERY", 0.01)


@pytest.fixture
def broadcaster(site: Site) -> Iterator[Broadcaster]:
    made = Broadcaster(site)
    yield made
    made.close()


def parsed(text: bytes) -> Iterator[Event]:
    for block in text.decode("ascii").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines())
        if "event" in fields:
            yield {
                "id": int(fields["id"]) if "id" in fields else None,
                "event": fields["event"],
            } | json.loads(fields["data"])


class Page:
    """Reads a stream in a greenlet."""

    def __init__(
        self, broadcaster: Broadcaster, access: Access | None = None, last: int | None = None,
        still: Callable[[], bool] = lambda: True,
    ) -> None:  # fmt: skip
        self.events: list[Event] = []
        self.access = access or Access("anna", Scope.READ)
        reader = Reader(self.access.name, lambda: self.access, agent=self.access.agent)
        self._pieces = broadcaster.read(reader, last, still)
        self.reading = gevent.spawn(self._read)
        self.until(lambda: self.events)

    def _read(self) -> None:
        for piece in self._pieces:
            self.events += parsed(piece)

    def until(self, true: Callable[[], object]) -> None:
        with gevent.Timeout(10):
            while not true():
                gevent.sleep(0.002)

    def sees(self, *whats: str) -> None:
        self.until(lambda: self.whats[-len(whats) :] == list(whats))

    @property
    def whats(self) -> list[str]:
        return [event["what"] for event in self.events if event["event"] == "change"]

    def leave(self) -> int:
        self.reading.kill()
        return max(event["id"] for event in self.events if event["id"] is not None)


def test_a_page_is_told_what_becomes_of_a_recall(site: Site, broadcaster: Broadcaster):
    missed(site.ledger, 1)
    page = Page(broadcaster)
    assert [event["event"] for event in page.events] == ["hello"], "and nothing of what was before"
    missed(site.ledger, 2)
    page.sees("opened")
    missed(site.ledger, 3, phone="+12025550002")
    site.ledger.close_recalls(Filter(ids=(2,)), "boris", ClosedAs.CANCELLED)
    page.sees("opened", "called again", "closed")
    last = page.events[-1]
    assert (last["recall"], last["missed"], last["queue"], last["state"]) == (2, 2, SUPPORT, "closed")
    assert "+1202" not in json.dumps(page.events)
    assert "Name" not in json.dumps(page.events)


def test_who_comes_back_is_told_what_came_meanwhile(site: Site, broadcaster: Broadcaster):
    page = Page(broadcaster)
    missed(site.ledger, 1)
    page.sees("opened")
    last = page.leave()
    site.ledger.close_recalls(Filter(), "boris", ClosedAs.CANCELLED)
    missed(site.ledger, 2)
    again = Page(broadcaster, last=last)
    assert [event["event"] for event in again.events[:3]] == ["change", "change", "hello"]
    assert again.whats[:2] == ["closed", "opened"], "and perhaps once more"


def test_who_comes_back_to_another_process_is_told_too(site: Site):
    with closing(Broadcaster(site)) as first:
        last = Page(first).leave()
    missed(site.ledger, 1)
    with closing(Broadcaster(site)) as second:
        assert Page(second, last=last).whats[:1] == ["opened"]


def test_who_was_away_for_too_long_begins_anew(site: Site, broadcaster: Broadcaster, monkeypatch):
    monkeypatch.setattr(stream, "_CATCH_UP", 3)
    for number in range(5):
        missed(site.ledger, number)
    for last in (0, 10**18):  # the latter had another database
        assert Page(broadcaster, last=last).events[0]["event"] == "reset"


def test_each_is_told_of_their_queues_only(site: Site, broadcaster: Broadcaster):
    limited = Page(broadcaster, Access("limited", Scope.READ, ("*@tenant",)))
    whole = Page(broadcaster)
    missed(site.ledger, 1, queue=SUPPORT)
    missed(site.ledger, 2, queue=None)
    site.ledger.forbid([], "root")
    missed(site.ledger, 3, queue=OTHER)
    limited.sees("opened")
    whole.until(lambda: len(whole.whats) >= 3)
    assert [event["queue"] for event in limited.events[1:]] == [OTHER]
    again = Page(broadcaster, Access("limited", Scope.READ, ("*@tenant",)), last=0)
    assert [event["queue"] for event in again.events if event["event"] == "change"] == [OTHER]


def test_an_operator_is_told_of_nobody_elses_reservation(site: Site, broadcaster: Broadcaster):
    def operator(agent: str) -> Page:
        return Page(broadcaster, Access(agent, Scope.OPERATE, ("*",), agent, Role.OPERATOR, many=False))

    mine, other = operator("a@x"), operator("b@x")
    claimed(site.ledger, agent="a@x")
    for page in (mine, other):
        page.sees("opened", "claimed")
    assert mine.events[-1]["agent"] == "a@x"
    assert other.events[-1]["agent"] is None


def test_a_vanished_reader_costs_nothing_once_it_is_noticed(broadcaster: Broadcaster, monkeypatch):
    monkeypatch.setattr(stream, "BEAT", 0.02)
    page = Page(broadcaster)
    page.until(lambda: page.events[-1]["event"] == "beat")
    page.leave()
    assert len(broadcaster) == 0


def test_a_reader_who_does_not_read_is_let_go_and_the_others_are_told(
    site: Site, broadcaster: Broadcaster, monkeypatch
):
    monkeypatch.setattr(stream, "_PIECES", 3)
    stalled = Reader("stalled", lambda: Access("stalled", Scope.READ))
    stream_of_it = broadcaster.read(stalled, None, lambda: True)
    next(stream_of_it)
    page = Page(broadcaster)
    for number in range(8):
        missed(site.ledger, number)
        page.until(lambda wanted=number + 1: len(page.whats) == wanted)
    assert stalled.gone
    assert stalled.pieces.qsize() <= 3
    assert len(list(stream_of_it)) <= 3
    assert len(broadcaster) == 1


def test_what_waits_for_a_reader_is_bounded_in_bytes(broadcaster: Broadcaster, monkeypatch):
    monkeypatch.setattr(stream, "_BYTES", 1000)
    reader = Reader("stalled", lambda: Access("stalled", Scope.READ))
    reading = broadcaster.read(reader, None, lambda: True)
    next(reading)
    reader.give(b"x" * 900)
    assert next(reading) == b"x" * 900
    reader.give(b"x" * 600)
    assert not reader.gone, "what was read waits no more"
    reader.give(b"x" * 600)
    assert reader.gone
    assert reader.waiting == 600
    reading.close()


def test_pages_are_told_how_many_like_them_are_open(site: Site, broadcaster: Broadcaster):
    """So that hundreds do not look at once: each kind of page has a spread of its own."""

    def spread(page: Page) -> int:
        return page.events[-1]["spread"]

    boards = [Page(broadcaster, Access(f"eva{number}", Scope.READ)) for number in range(3)]
    operator = Access("anna", Scope.OPERATE, ("*",), "a@x", Role.OPERATOR, many=False)
    anna = Page(broadcaster, operator)
    missed(site.ledger, 1)
    for page in (*boards, anna):
        page.sees("opened")
    assert [spread(page) for page in boards] == [3 * 3] * 3, "milliseconds"
    assert spread(anna) == 20
    boards.pop().leave()
    missed(site.ledger, 2)
    boards[0].sees("opened", "opened")
    assert spread(boards[0]) == 2 * 3


def test_whose_page_is_open_is_on_record_while_it_is(site: Site, broadcaster: Broadcaster, monkeypatch):
    def operator(agent: str) -> Page:
        return Page(broadcaster, Access(agent, Scope.OPERATE, ("*",), agent, Role.OPERATOR, many=False))

    anna, again, boris = operator("a@x"), operator("a@x"), operator("b@x")
    Page(broadcaster, Access("eva", Scope.READ))
    with_page = site.ledger.people.with_open_page
    anna.until(lambda: with_page() == {"a@x", "b@x"})
    anna.leave()
    boris.leave()
    again.until(lambda: with_page() == {"a@x"})
    again.leave()
    again.until(lambda: with_page() == set())


def test_whose_page_was_served_by_an_engine_that_is_gone_has_none(timed: Ledger, clock):
    timed.people.pages_open(["a@x", "b@x"], lasts=45.0)
    clock.forward(seconds=40)
    timed.people.pages_open(["b@x"], lasts=45.0)
    assert timed.people.with_open_page() == {"a@x", "b@x"}
    clock.forward(seconds=10)
    assert timed.people.with_open_page() == {"b@x"}
    timed.people.pages_open([], lasts=45.0, left=["b@x"])
    assert timed.people.with_open_page() == set()


def test_so_many_may_read(broadcaster: Broadcaster, monkeypatch):
    monkeypatch.setattr(stream, "MOST_OF_ONE", 2)
    monkeypatch.setattr(stream, "MOST_READERS", 3)
    Page(broadcaster)
    Page(broadcaster)
    with pytest.raises(Refused, match="too many pages"):
        Page(broadcaster)
    boris = Page(broadcaster, Access("boris", Scope.READ))
    with pytest.raises(Refused, match="too many pages"):
        Page(broadcaster, Access("clara", Scope.READ))
    boris.leave()
    Page(broadcaster, Access("clara", Scope.READ))


def test_a_stream_ends_with_the_session(site: Site, broadcaster: Broadcaster, monkeypatch):
    monkeypatch.setattr(stream, "BEAT", 0.02)
    allowed = True
    page = Page(broadcaster, still=lambda: allowed)
    page.until(lambda: page.events[-1]["event"] == "beat")
    allowed = False
    page.reading.join(5)
    assert page.reading.ready()


def test_streams_end_when_the_engine_stops(site: Site, broadcaster: Broadcaster):
    page = Page(broadcaster)
    broadcaster.close()
    page.reading.join(5)
    assert page.reading.ready()


def test_what_commits_late_is_told_and_not_stepped_over(ledger: Ledger):
    """Ids as PostgreSQL may show them: a transaction that began first commits last."""
    for _ in range(3):
        waiting(ledger)
    ids = [change.id for change in ledger.following.changes(0)]
    follower = Follower(ids[0] - 1, patience=10.0)
    rows = ledger._database.read(lambda t: t.rows(Journal.select().where(Journal.id == ids[1])))
    ledger._database.write(lambda t: t.change(Journal.delete().where(Journal.id == ids[1])))
    assert [change.id for change in follower.look(ledger.following, 0.0)] == [ids[0], ids[2]]
    assert follower.safe == ids[0]
    ledger._database.write(lambda t: t.insert(Journal, **rows[0]))
    assert [change.id for change in follower.look(ledger.following, 5.0)] == [ids[1]]
    assert follower.safe == ids[2]
    ledger._database.write(lambda t: t.insert(Journal, **rows[0] | {"id": ids[2] + 2}))
    follower.look(ledger.following, 6.0)
    assert follower.safe == ids[2]
    follower.look(ledger.following, 17.0)
    assert follower.safe == ids[2] + 2, "what was rolled back is not waited for"


# --- by HTTP ---------------------------------------------------------------------------------------------


@pytest.fixture
def server(site: Site, broadcaster: Broadcaster) -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), app.make(site, broadcaster))
    server.start()
    yield server
    broadcaster.close()
    server.stop(timeout=0.2)


def test_a_browser_reads_it(site: Site, server: Server, broadcaster: Broadcaster):
    shown = token(site.ledger, Scope.READ)
    with closing(socket.create_connection(("127.0.0.1", server.server_port), timeout=10)) as client:
        lines = ["GET /events HTTP/1.1", "Host: x", f"Authorization: Bearer {shown}", "Last-Event-ID: x"]
        client.sendall("\r\n".join([*lines, "", ""]).encode())
        got = b""
        with gevent.Timeout(10):
            while b"event: hello" not in got:
                got += client.recv(65536)
            missed(site.ledger, 1)
            while b'"what": "opened"' not in got:
                got += client.recv(65536)
            assert len(broadcaster) == 1
            broadcaster.close()
            while not got.endswith(b"0\r\n\r\n"):
                got += client.recv(65536)
    assert b"Content-Type: text/event-stream" in got
    assert b"Cache-Control: no-store" in got


def test_a_stranger_does_not(site: Site):
    assert Program(site, None).http.get("/events").status_code == 401
    add_user(site.ledger)
    browser = Browser(site)
    browser.log_in()
    session = site.ledger.people.users()[0]
    assert session.name == "anna"
    response = browser.http.get("/events")
    assert response.status_code == 200
    response.close()


def test_looking_on_does_not_keep_a_session_alive(timed: Ledger, clock):
    timed.people.add_user("anna", "h", "admin", "root")
    anna = timed.people.user("anna")
    timed.people.begin_session(anna, "k", lifetime=10_000.0, idle=1800.0)
    assert clock() == NOON
    for _ in range(3):
        clock.forward(minutes=9)
        assert timed.people.session("k", 1800.0, seen=False) is not None
    clock.forward(minutes=9)
    assert timed.people.session("k", 1800.0, seen=False) is None
