"""What a supervisor does to many calls at once."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import gevent
import pytest

from freeswitch_callback.core.access import Role
from freeswitch_callback.errors import DatabaseUnreachable
from freeswitch_callback.ledger import Filter, operations
from freeswitch_callback.web.site import Site
from tests.hostile import TEXTS
from tests.integration.web.test_api import OTHER, SALES, SUPPORT, missed
from tests.web import Browser, add_user


@pytest.fixture
def eva(site: Site) -> Browser:
    """A supervisor who is limited to some queues."""
    return _supervisor(site, "eva", ("*@default",))


def _supervisor(site: Site, name: str, queues: tuple[str, ...] | None = None) -> Browser:
    add_user(site.ledger, name, role=Role.SUPERVISOR, queues=queues)
    browser = Browser(site)
    browser.log_in(name)
    return browser


def act(browser: Browser, do: str, **form: str) -> Any:
    headers = {"Origin": browser.origin, "X-CSRF-Token": browser.csrf, "HX-Request": "true"}
    return browser.http.post("/board/act", data={"do": do, "minutes": "60"} | form, headers=headers)


def did(browser: Browser, do: str, **form: str) -> None:
    """Confirms it, and waits until it is told that all is done."""
    answer = act(browser, do, all="yes", confirmed="yes", **form)
    [path] = re.findall('hx-get="(/board/act/[0-9]+)"', answer.text)
    until(lambda: "data-done" in browser.open("GET", path).text)


def until(true: Callable[[], object]) -> None:
    with gevent.Timeout(60):  # a machine may stand still for a while
        while not true():
            gevent.idle()


def test_all_that_match_is_what_the_list_shows_and_of_ones_own_queues(site: Site, eva: Browser):
    for number, queue in enumerate((SUPPORT, SUPPORT, SALES, OTHER, None)):
        missed(site.ledger, number, queue=queue)
    shown = act(eva, "close", all="yes", queue=SUPPORT).text
    assert "2 calls are closed" in shown
    assert site.ledger.open_by_state() == {"waiting": 4}, "told, and not done"
    did(eva, "close", queue=SUPPORT)
    assert site.ledger.open_by_state() == {"waiting": 2}
    did(eva, "close")
    assert site.ledger.open_by_state() == {"waiting": 1}
    [left] = site.ledger.listing(Filter(state="waiting"))
    assert left["queue"] == OTHER


def test_each_action_is_done_to_all(site: Site, eva: Browser):
    for number in range(5):
        missed(site.ledger, number, timewait=10)
    did(eva, "postpone")
    assert all(row["due_at"] > site.now() for row in site.ledger.listing(Filter()))
    did(eva, "replay")
    assert all(row["due_at"] <= site.now() for row in site.ledger.listing(Filter()))
    did(eva, "forbid", note="a test")
    assert [entry.note for entry in site.ledger.forbidden()] == ["a test"] * 5
    did(eva, "close", note="over")
    assert site.ledger.open_by_state() == {}
    assert {row["note"] for row in site.ledger.listing(Filter())} == {"over"}
    did(eva, "purge")
    assert site.ledger.count(Filter()) == 0


def test_it_is_told_how_far_it_is_and_only_to_whoever_began_it(
    site: Site, eva: Browser, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(operations, "BATCH", 2)
    for number in range(5):
        missed(site.ledger, number)
    go_on = gevent.event.Event()
    close = site.ledger.close_recalls

    def slowly(*given: Any, tell: Callable[[int], None], **named: Any) -> int:
        def told(gone_through: int) -> None:
            tell(gone_through)
            go_on.wait()

        return close(*given, tell=told, **named)

    monkeypatch.setattr(site.ledger, "close_recalls", slowly)
    act(eva, "close", all="yes", confirmed="yes")
    until(lambda: 'max="5" value="2"' in eva.open("GET", "/board/act/1").text)
    assert site.ledger.open_by_state() == {"waiting": 3}
    act(eva, "close", all="yes", confirmed="yes")
    assert act(eva, "close", all="yes", confirmed="yes").status_code == 503, "only so much at once"
    colleague = _supervisor(site, "boris")
    colleague.http.application = eva.http.application
    assert colleague.open("GET", "/board/act/1").status_code == 400
    go_on.set()
    until(lambda: "data-done" in eva.open("GET", "/board/act/1").text)
    assert site.ledger.open_by_state() == {}


def test_what_ends_before_its_end_is_said(site: Site, eva: Browser, monkeypatch: pytest.MonkeyPatch):
    missed(site.ledger, 1)

    def away(*_given: object, **_named: object) -> None:
        raise DatabaseUnreachable("away")

    monkeypatch.setattr(site.ledger, "close_recalls", away)
    act(eva, "close", all="yes", confirmed="yes")
    until(lambda: "Not all of it could be done" in eva.open("GET", "/board/act/1").text)


@pytest.mark.parametrize("text", TEXTS[::7])
def test_whatever_is_searched_for_is_told_or_refused(site: Site, eva: Browser, text: str):
    missed(site.ledger, 1)
    response = act(eva, "close", all="yes", search=text, state="waiting")
    assert response.status_code in (200, 400)
    assert "<script>alert" not in response.text
    assert site.ledger.open_by_state() == {"waiting": 1}


def test_calls_come_first(site: Site, monkeypatch: pytest.MonkeyPatch):
    """Between two portions others work, twice as long as a portion took."""
    monkeypatch.setattr(operations, "BATCH", 1)
    for number in range(3):
        missed(site.ledger, number)
    pauses: list[float] = []
    monkeypatch.setattr("freeswitch_callback.ledger.ledger.gevent.sleep", pauses.append)
    assert site.ledger.postpone(Filter(), site.now(), by="eva") == 3
    assert len(pauses) == 3
    assert all(pause > 0 for pause in pauses)
