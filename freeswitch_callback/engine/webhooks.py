"""Tells others by HTTP what becomes of calls: recorded, reached, closed.

The journal is the queue, and a row for each target says how far it was told: so nothing is kept twice, no
call waits for it, and a target that is away for a day is told everything once it is back. One engine tells
one target, in order; what it did not answer is told again, later and later. A crash tells the last again: at
least once, never less, but for what is purged meanwhile.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import ipaddress
import json
import random
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import gevent
import structlog

from freeswitch_callback.errors import DatabaseError, NotFound
from freeswitch_callback.ledger import Ledger
from freeswitch_callback.ledger.following import MOST, Change, Follower
from freeswitch_callback.operations.spreadsheet import as_text

log = structlog.get_logger(__name__)

LOOK_EVERY = 1.0
LEASE = 60.0
ANSWER_WITHIN = 10.0
FIRST_DELAY, LONGEST_DELAY = 2.0, 300.0
"""Seconds between two tries, doubled each time."""
GIVE_UP_AFTER = 24 * 3600.0
"""Seconds for which one event is tried: a target that takes all but one is not to wait for that for ever."""
PATIENCE = 10.0

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

EVENTS: Mapping[str, str] = {
    "opened": "recorded",
    "called again": "recorded",
    "blocked": "recorded",
    "connected": "reached",
    "closed": "closed",
}
"""From what the journal says to what a target is told."""

SIGNATURE, TIMESTAMP, DELIVERY = "X-Callback-Signature", "X-Callback-Timestamp", "X-Callback-Delivery"


@dataclass(frozen=True, slots=True)
class Target:
    """`private`: it may be in our own network; otherwise only addresses of the internet are connected to."""

    name: str
    url: str
    secret: str
    events: tuple[str, ...]
    private: bool = False


class NotTold(Exception):
    """It did not say that it has it."""


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """What a target compares: the timestamp is signed too, so that what somebody overheard is of no use
    later."""
    return hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


class Webhooks:
    """Of one engine, as long as its greenlet lives."""

    def __init__(self, ledger: Ledger, engine: str, targets: tuple[Target, ...]) -> None:
        self._ledger = ledger
        self._engine = engine
        self._targets = targets

    def run(self) -> None:
        """Until it is killed."""
        telling = [gevent.spawn(self._tell, target) for target in self._targets]
        try:
            gevent.joinall(telling)
        finally:
            gevent.killall(telling)

    def _tell(self, target: Target) -> None:
        while True:
            try:
                told = self._ledger.following.hold(target.name, self._engine, LEASE)
                if told is not None:
                    self._tell_while_held(target, Follower(told, PATIENCE))
            except DatabaseError as error:
                log.debug("webhook_waits", target=target.name, error=str(error))
            gevent.sleep(LOOK_EVERY)

    def _tell_while_held(self, target: Target, follower: Follower) -> None:
        """Until another engine has taken it over."""
        following = self._ledger.following
        told = follower.safe
        held_until = time.monotonic() + LEASE
        try:
            while True:
                if time.monotonic() > held_until - LEASE / 2:
                    if following.hold(target.name, self._engine, LEASE) is None:
                        return
                    held_until = time.monotonic() + LEASE
                changes = follower.look(following, time.monotonic())
                for change in changes:
                    if EVENTS.get(change.what) not in target.events:
                        continue
                    if not self._insist(target, change):
                        return
                    told = max(told, min(change.id, follower.safe))
                    following.told(target.name, self._engine, told)
                if follower.safe > told:
                    told = follower.safe
                    following.told(target.name, self._engine, told)
                if len(changes) < MOST:
                    gevent.sleep(LOOK_EVERY)
        finally:
            with gevent.Timeout(0.5, False), suppress(DatabaseError):
                following.let_go(target.name, self._engine)

    def _insist(self, target: Target, change: Change) -> bool:
        """Tell it until it is taken; False if another engine has taken the target over meanwhile."""
        body = self._body(change)
        if body is None:
            return True
        delay, began = FIRST_DELAY, time.monotonic()
        while True:
            try:
                send(target, body, change.id)
            except NotTold as error:
                log.info("webhook_not_taken", target=target.name, error=str(error), again_in=delay)
            else:
                return True
            if time.monotonic() - began > GIVE_UP_AFTER:
                log.error("webhook_given_up", target=target.name, delivery=change.id)
                return True
            wait = delay * random.uniform(0.5, 1.0)
            delay = min(delay * 2, LONGEST_DELAY)
            if not self._wait(target, wait):
                return False

    def _wait(self, target: Target, seconds: float) -> bool:
        """Keeps the target ours meanwhile."""
        until = time.monotonic() + seconds
        while True:
            if self._ledger.following.hold(target.name, self._engine, LEASE) is None:
                return False
            left = until - time.monotonic()
            if left <= 0:
                return True
            gevent.sleep(min(left, LEASE / 3))

    def _body(self, change: Change) -> bytes | None:
        """The call as it is by now; None if it was purged."""
        if change.missed is None:
            return None
        try:
            missed = self._ledger.show(change.missed)["missed"]
        except NotFound:
            return None
        event = {"event": EVENTS[change.what], "id": change.id, "at": change.at, "missed": missed}
        return json.dumps(event, default=as_text).encode("ascii")


def send(target: Target, body: bytes, delivery: int) -> None:
    """One try. Raises `NotTold` unless it answers with 2xx in time; nobody is sent elsewhere by it."""
    try:
        with gevent.Timeout(ANSWER_WITHIN, NotTold("no answer in time")):
            status = _post(target, body, delivery)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NotTold(f"{type(error).__name__}: {error}") from error
    if not 200 <= status < 300:
        raise NotTold(f"it answered {status}")


def _post(target: Target, body: bytes, delivery: int) -> int:
    parts = urlsplit(target.url)
    host, tls = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if tls else 80)
    # To the address that was looked at, and no other: a name may mean another one a moment later.
    connection = http.client.HTTPConnection(host, port, timeout=ANSWER_WITHIN)
    plain = socket.create_connection(_address(host, port, private=target.private), timeout=ANSWER_WITHIN)
    try:
        connection.sock = (
            ssl.create_default_context().wrap_socket(plain, server_hostname=host) if tls else plain
        )
        timestamp = str(int(time.time()))
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request(
            "POST",
            path,
            body,
            {
                "Content-Type": "application/json",
                "User-Agent": "freeswitch-callback",
                TIMESTAMP: timestamp,
                SIGNATURE: f"sha256={signature(target.secret, timestamp, body)}",
                DELIVERY: str(delivery),
            },
        )
        return connection.getresponse().status
    finally:
        connection.close()
        plain.close()


def _address(host: str, port: int, *, private: bool) -> tuple[str, int]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for *_, address in found:
        if private or is_public(str(address[0])):
            return str(address[0]), port
    raise NotTold(f"{host} is in a private network; `private = true` allows that")


def is_public(address: str) -> bool:
    """Whether it is of the internet: not of this machine, of a private network, or of none."""
    try:
        asked = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    inner: ipaddress.IPv4Address | ipaddress.IPv6Address = asked
    if isinstance(asked, ipaddress.IPv6Address):
        in_it = ipaddress.IPv4Address(int(asked) & 0xFFFFFFFF) if asked in _NAT64 else None
        inner = asked.ipv4_mapped or asked.sixtofour or in_it or asked
    return inner.is_global and not inner.is_multicast
