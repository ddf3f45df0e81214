"""Logging in and out."""

from __future__ import annotations

import ipaddress
import math
from http import HTTPStatus

import structlog
from flask import Response, request

from freeswitch_callback.errors import UsageError
from freeswitch_callback.operations import accounts
from freeswitch_callback.web import guard
from freeswitch_callback.web.guard import LoggedIn
from freeswitch_callback.web.problems import Refused
from freeswitch_callback.web.site import Site
from freeswitch_callback.web.throttle import Throttle

log = structlog.get_logger(__name__)


def log_in(site: Site, name: str, password: str) -> LoggedIn:
    """Begins a session, for `give` to hand to the browser; raises `Refused`, and `TooBusy` in a storm.

    That a user does not exist is not told apart from a wrong password, by words or by time.
    """
    client = guard.client()
    if request.headers.get("Origin") is not None or request.headers.get("Sec-Fetch-Site") is not None:
        guard.from_our_pages()
    try:
        name = accounts.name_of(name)
    except UsageError:
        name = ""
    address = _block(client.address)
    _take(site.by_address, address)
    if name:
        _take(site.by_user, name)
    person = site.ledger.people.user(name) if name else None
    right = accounts.right_password(person, password)
    if person is None or not right:
        log.info("login_refused", address=client.address, user=person.name if person else None)
        raise _wrong()
    secret = accounts.new_secret()
    settings = site.settings
    key, idle = accounts.key_of(secret), settings.session_idle
    if not site.ledger.people.begin_session(person, key, settings.session_lifetime, idle):
        raise _wrong()  # removed, or given another password, while this one was looked at
    site.by_address.forgive(address)
    site.by_user.forgive(name)
    end_session(site)
    log.info("logged_in", address=client.address, user=person.name)
    return LoggedIn(person, secret)


def _wrong() -> Refused:
    return Refused(HTTPStatus.UNAUTHORIZED, "name or password is wrong")


def _take(throttle: Throttle, key: str) -> None:
    if (wait := throttle.take(key)) > 0:
        raise Refused(
            HTTPStatus.TOO_MANY_REQUESTS,
            "too many log-ins that failed; try again later",
            {"Retry-After": str(math.ceil(wait))},
        )


def _block(address: str) -> str:
    """One house has a whole /64 of IPv6."""
    try:
        asked = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    return str(ipaddress.ip_network((asked, 64), strict=False)) if asked.version == 6 else str(asked)


def end_session(site: Site) -> None:
    """That of this request, if it has one."""
    if (session := guard.logged_in()) is not None:
        site.ledger.people.end_session(accounts.key_of(session.secret))


def give(response: Response, session: LoggedIn) -> Response:
    """The cookie, for as long as the browser is open."""
    response.set_cookie(
        guard.cookie_name(), session.secret, path="/", secure=guard.client().secure, httponly=True,
        samesite="Strict",
    )  # fmt: skip
    return response


def take_back(response: Response) -> Response:
    response.delete_cookie(
        guard.cookie_name(), path="/", secure=guard.client().secure, httponly=True, samesite="Strict"
    )
    return response
