"""Whoever is to be told of calls is told: signed, again until they have it, and nobody else's business."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent import pywsgi

from freeswitch_callback.core.facts import ClosedAs
from freeswitch_callback.engine import webhooks
from freeswitch_callback.engine.webhooks import NotTold, Target, Webhooks, is_public, send, signature
from freeswitch_callback.ledger import Filter, Ledger
from tests.integration.ledger.conftest import ledger, ledger_url, postgres_server
from tests.integration.ledger.given import NOON, dialling, waiting

__all__ = ["ledger", "ledger_url", "postgres_server"]

SECRET = "0123456789abcdef"


class Receiver:
    """A target: what it was sent, and what it answers next."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[str] = []
        self.server = pywsgi.WSGIServer(("127.0.0.1", 0), self._serve, log=None)
        self.server.start()

    def _serve(self, environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
        self.got.append((environ, environ["wsgi.input"].read()))
        answer = self.answers.pop(0) if self.answers else "204 No Content"
        if answer == "never":
            gevent.sleep(30)
        start_response(answer, [("Location", f"http://127.0.0.1:{self.server.server_port}/elsewhere")])
        return []

    def target(self, *events: str, **said: Any) -> Target:
        url = f"http://127.0.0.1:{self.server.server_port}/hook?x=1"
        return Target(
            "crm", url, SECRET, events or ("recorded", "reached", "closed"), said.get("private", True)
        )

    @property
    def told(self) -> list[tuple[str, int]]:
        """Each event and its missed call."""
        bodies = [json.loads(body) for _, body in self.got]
        return [(body["event"], body["missed"]["id"]) for body in bodies]

    def is_told(self, *wanted: tuple[str, int]) -> None:
        try:
            with gevent.Timeout(10):
                while self.told != list(wanted):
                    gevent.sleep(0.005)
        except gevent.Timeout:
            pytest.fail(f"told: {self.told}")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.server.stop(timeout=0.1)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(webhooks, "FIRST_DELAY", 0.01)


@pytest.fixture
def run(ledger_url: str) -> Iterator[Callable[..., gevent.Greenlet]]:
    """Start an engine's webhooks; they have begun once it returns."""
    running: list[tuple[gevent.Greenlet, Ledger]] = []

    def begin(target: Target, engine: str = "engine-1") -> gevent.Greenlet:
        own = Ledger(ledger_url)
        own.following.hold(target.name, engine, 60.0)
        running.append((gevent.spawn(Webhooks(own, engine, (target,)).run), own))
        return running[-1][0]

    yield begin
    for greenlet, own in running:
        greenlet.kill()
        own.close()


def test_what_becomes_of_a_call_is_told_in_order_and_signed(ledger: Ledger, receiver: Receiver, run):
    waiting(ledger, "+4930999999")
    run(receiver.target())
    claim = dialling(ledger)
    ledger.connected(claim, NOON, "1001@default")
    ledger.close_recalls(Filter(ids=(1,)), "boris", ClosedAs.CANCELLED)
    receiver.is_told(("recorded", 2), ("reached", 2), ("closed", 1))
    for environ, body in receiver.got:
        timestamp = environ["HTTP_X_CALLBACK_TIMESTAMP"]
        assert environ["HTTP_X_CALLBACK_SIGNATURE"] == f"sha256={signature(SECRET, timestamp, body)}"
        assert environ["HTTP_X_CALLBACK_DELIVERY"] == str(json.loads(body)["id"])
        assert environ["QUERY_STRING"] == "x=1"
        assert signature("another secret...", timestamp, body) != signature(SECRET, timestamp, body)
        assert signature(SECRET, "1", body) != signature(SECRET, timestamp, body)
    told = json.loads(receiver.got[1][1])
    assert (told["missed"]["recalloperator"], told["missed"]["state"]) == ("1001@default", "connected")


def test_only_what_is_asked_for(ledger: Ledger, receiver: Receiver, run):
    run(receiver.target("closed"))
    waiting(ledger)
    ledger.close_recalls(Filter(), "boris", ClosedAs.CANCELLED)
    receiver.is_told(("closed", 1))


@pytest.mark.parametrize("answer", ["500 Oh", "404 No", "302 Elsewhere", "never"])
def test_what_was_not_taken_is_told_again_and_the_order_is_kept(
    ledger: Ledger, receiver: Receiver, run, monkeypatch, answer: str
):
    monkeypatch.setattr(webhooks, "ANSWER_WITHIN", 0.1)
    receiver.answers = [answer, answer]
    run(receiver.target("recorded"))
    waiting(ledger)
    waiting(ledger, "+4930222222")
    receiver.is_told(("recorded", 1), ("recorded", 1), ("recorded", 1), ("recorded", 2))
    assert {environ["PATH_INFO"] for environ, _ in receiver.got} == {"/hook"}, "it is sent nowhere else"


def test_one_event_that_is_never_taken_does_not_hold_up_the_rest_for_ever(
    ledger: Ledger, receiver: Receiver, run, monkeypatch
):
    monkeypatch.setattr(webhooks, "GIVE_UP_AFTER", -1.0)
    receiver.answers = ["500 Oh"]
    run(receiver.target("recorded"))
    waiting(ledger)
    waiting(ledger, "+4930222222")
    receiver.is_told(("recorded", 1), ("recorded", 2))


def test_the_next_engine_goes_on_where_the_last_one_ended(ledger: Ledger, receiver: Receiver, run):
    first = run(receiver.target("recorded"))
    waiting(ledger)
    receiver.is_told(("recorded", 1))
    with gevent.Timeout(5):
        while ledger.following.hold("crm", "engine-1", 60.0) != ledger.following.newest():
            gevent.sleep(0.005)
    first.kill()
    waiting(ledger, "+4930222222")
    run(receiver.target("recorded"), "engine-2")
    receiver.is_told(("recorded", 1), ("recorded", 2))


def test_of_two_engines_one_tells(ledger: Ledger, receiver: Receiver, run):
    target = receiver.target("recorded")
    run(target, "engine-1")
    run(target, "engine-2")
    for number in range(5):
        waiting(ledger, f"+493011111{number}")
    receiver.is_told(*(("recorded", number) for number in range(1, 6)))
    ledger.close_recalls(Filter(), "boris", ClosedAs.CANCELLED)
    waiting(ledger, "+4930222222")
    receiver.is_told(*(("recorded", number) for number in range(1, 7)))


def test_what_was_purged_is_not_told(ledger: Ledger, receiver: Receiver, run):
    ledger.following.hold("crm", "engine-1", 60.0)
    waiting(ledger)
    ledger.close_recalls(Filter(), "boris", ClosedAs.CANCELLED)
    ledger.purge(Filter(), "boris")
    waiting(ledger, "+4930222222")
    run(receiver.target())
    receiver.is_told(("recorded", 2))


def test_a_target_in_our_own_network_is_not_connected_to_unless_told(receiver: Receiver):
    with pytest.raises(NotTold, match="private network"):
        send(receiver.target(private=False), b"{}", 1)
    assert receiver.got == []
    send(receiver.target(), b"{}", 1)
    assert len(receiver.got) == 1


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "::1",
     "fe80::1%eth0", "fc00::1", "::ffff:127.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1", "224.0.0.1",
     "ff02::1", "255.255.255.255", "no address"],
)  # fmt: skip
def test_what_is_no_address_of_the_internet(address: str):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "64:ff9b::5db8:d822"])
def test_what_is_one(address: str):
    assert is_public(address)


def test_nobody_there_is_told_as_such():
    with pytest.raises(NotTold, match="refused"):
        send(Target("crm", "http://127.0.0.1:1/", SECRET, ("closed",), True), b"{}", 1)
