"""Who asks, and whether they may: tokens, sessions, CSRF, and the headers that browsers go by.

A view says what it needs (`needs`); one that says nothing is served to nobody. A program shows its token in
the header `Authorization`. A browser has a cookie, which other sites make it send along: so whatever changes
something by a cookie also wants the session's CSRF token, and has to come from our own pages (`Origin`).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import urlsplit

import gevent
from flask import Flask, Request, Response, g, request

from freeswitch_callback.core.access import SCOPE_OF, Access, Role, Scope
from freeswitch_callback.ledger.people import Person
from freeswitch_callback.operations import accounts
from freeswitch_callback.web.problems import Refused
from freeswitch_callback.web.site import Site

View = TypeVar("View", bound=Callable[..., Any])

LARGEST_BODY = 256 * 1024
"""Bytes of a request."""
BODY_WITHIN = 20.0
"""Seconds."""

CSRF_HEADER, CSRF_FIELD = "X-CSRF-Token", "csrf_token"

_SAFE = frozenset({"GET", "HEAD"})
_ANYBODY = "anybody"

# With `no-referrer` a browser would say `Origin: null` for the forms of our own pages.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "font-src 'self'; media-src 'self'; connect-src 'self'; manifest-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


@dataclass(frozen=True, slots=True)
class Client:
    """Who is at the other end: `secure` if nobody could listen on the way, as far as we know."""

    address: str
    secure: bool
    origin: str


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """A browser's session: `secret` is what its cookie says."""

    person: Person
    secret: str

    @property
    def csrf(self) -> str:
        """Known only to whoever can read our pages; it is as good as the session."""
        return hmac.new(self.secret.encode(), b"csrf", hashlib.sha256).hexdigest()


def needs(scope: Scope) -> Callable[[View], View]:
    """The view is for those who may do this; `access()` tells it who asks."""

    def mark(view: View) -> View:
        view.needs = scope  # type: ignore[attr-defined]
        return view

    return mark


def for_anybody(view: View) -> View:
    """The view is for whoever asks; `access_or_none()` tells it whether they are known."""
    view.needs = _ANYBODY  # type: ignore[attr-defined]
    return view


def access() -> Access:
    """Of whoever sent this request."""
    found: Access | None = g.access
    if found is None:
        raise Refused(HTTPStatus.UNAUTHORIZED, "log in, or show a token", {"WWW-Authenticate": "Bearer"})
    return found


def access_or_none() -> Access | None:
    found: Access | None = g.access
    return found


def logged_in() -> LoggedIn | None:
    """The session of this request, if it has one; not with a token."""
    found: LoggedIn | None = g.logged_in
    return found


def client() -> Client:
    found: Client = g.client
    return found


def install(app: Flask, site: Site) -> None:
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_BODY
    app.config["MAX_FORM_MEMORY_SIZE"] = LARGEST_BODY
    app.config["MAX_FORM_PARTS"] = 200

    @app.before_request
    def admit() -> None:
        g.access = g.logged_in = None
        g.client = _client(request, site)
        wanted = getattr(app.view_functions.get(request.endpoint or ""), "needs", None)
        if request.endpoint is None or request.routing_exception is not None:
            return  # to be told that there is no such page
        _read_body()
        _identify(site)
        if wanted == _ANYBODY:
            return
        if wanted is None:
            raise Refused(HTTPStatus.FORBIDDEN, "nobody may see this")
        if not access().may(wanted):
            raise Refused(
                HTTPStatus.FORBIDDEN, f"this needs the scope {wanted}, and yours is {access().scope}"
            )

    @app.after_request
    def with_headers(response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers[name] = value
        response.headers.setdefault("Cache-Control", "no-store")
        if getattr(g, "client", None) is not None and g.client.secure:
            response.headers["Strict-Transport-Security"] = "max-age=31536000"
        return response


def _read_body() -> None:
    """All of it, now: whoever sends slowly holds up nothing that has begun."""
    if request.method in _SAFE:
        return
    with gevent.Timeout(BODY_WITHIN, Refused(HTTPStatus.REQUEST_TIMEOUT, "the request took too long")):
        request.get_data()


def _client(asked: Request, site: Site) -> Client:
    """A proxy that we trust tells the client's address and protocol; nobody else does."""
    peer = asked.environ.get("REMOTE_ADDR", "")
    settings = site.settings
    secure, address, host = settings.tls, peer, asked.host
    if settings.trusts(peer):
        # Each proxy adds whom it saw: the last that is no proxy of ours is the client.
        told = [part.strip() for part in asked.headers.get("X-Forwarded-For", "").split(",") if part.strip()]
        address = next((each for each in reversed(told) if not settings.trusts(each)), peer)
        secure = asked.headers.get("X-Forwarded-Proto", "").strip().lower() == "https"
        host = asked.headers.get("X-Forwarded-Host", "").strip() or host
    elif settings.proxies and not settings.tls and not _loopback(peer):
        raise Refused(HTTPStatus.FORBIDDEN, "come by way of the proxy: this connection is not encrypted")
    return Client(address, secure, f"{'https' if secure else 'http'}://{host}".lower())


def _loopback(address: str) -> bool:
    return address == "::1" or address.startswith("127.")


def cookie_name() -> str:
    """A browser takes `__Host-` only over TLS, and lets no other host of the domain set it."""
    return "__Host-callback" if client().secure else "callback"


def _identify(site: Site) -> None:
    authorization = request.headers.get("Authorization")
    if authorization is not None:
        g.access = _of_token(authorization, site)
        return
    secret = request.cookies.get(cookie_name())
    if not secret or len(secret) > 100:
        return
    person = site.ledger.people.session(accounts.key_of(secret), site.settings.session_idle)
    if person is None:
        return
    g.logged_in = LoggedIn(person, secret)
    role = Role(person.role)
    g.access = site.seen_by(
        Access(person.name, SCOPE_OF[role], person.queues, person.agent, role, many=role is not Role.OPERATOR)
    )
    if request.method not in _SAFE:
        from_our_pages()
        _csrf(g.logged_in)


def _of_token(authorization: str, site: Site) -> Access:
    kind, _, secret = authorization.partition(" ")
    program = site.ledger.people.token(accounts.key_of(secret.strip())) if kind.lower() == "bearer" else None
    if program is None:
        raise Refused(
            HTTPStatus.UNAUTHORIZED,
            "no such token; send it as Authorization: Bearer TOKEN",
            {"WWW-Authenticate": 'Bearer error="invalid_token"'},
        )
    return Access(f"token {program.name}", Scope(program.scope), program.queues)


def from_our_pages() -> None:
    """Raises `Refused` for what another site made a browser send."""
    origin = request.headers.get("Origin")
    if origin is None:
        site_of_it = request.headers.get("Sec-Fetch-Site", "")
        ours = site_of_it == "same-origin" or (not site_of_it and _same_referrer())
    else:
        ours = origin.lower() == client().origin
    if not ours:
        raise Refused(HTTPStatus.FORBIDDEN, "this did not come from our own pages")


def _same_referrer() -> bool:
    parts = urlsplit(request.headers.get("Referer", ""))
    return f"{parts.scheme}://{parts.netloc}".lower() == client().origin


def _csrf(session: LoggedIn) -> None:
    given = request.headers.get(CSRF_HEADER) or ""
    if not given and request.mimetype == "application/x-www-form-urlencoded":
        given = request.form.get(CSRF_FIELD, "")
    if not hmac.compare_digest(given.encode("utf-8", "surrogatepass"), session.csrf.encode()):
        raise Refused(HTTPStatus.FORBIDDEN, f"the CSRF token is wrong; send it as {CSRF_HEADER}")
