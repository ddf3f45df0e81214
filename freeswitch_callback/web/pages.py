"""What all pages share: who may see them, how they look, and the files that belong to them.

A page is HTML that is complete when it arrives; parts of it are fetched anew when something has changed
(`static/live.js`). What a stranger wrote is escaped by the templates, and no script stands in a page.
"""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Callable, Mapping
from functools import cache, wraps
from http import HTTPStatus
from importlib.resources import files
from typing import Any

import jinja2
import structlog
from flask import Flask, Response, g, redirect, request

from freeswitch_callback.core.access import Access, Role, Scope
from freeswitch_callback.errors import CallbackError, DatabaseError, EngineAway, UsageError
from freeswitch_callback.web import guard, login, words
from freeswitch_callback.web.problems import Refused
from freeswitch_callback.web.site import Site
from freeswitch_callback.web.words import Words

log = structlog.get_logger(__name__)

View = Callable[..., Any]

THEMES = ("auto", "light", "dark")
_A_YEAR = 365 * 86400


def install(app: Flask, site: Site) -> None:
    @app.get("/")
    @guard.for_anybody
    def start() -> Any:
        access = guard.access_or_none()
        return redirect(home(access) if access is not None and guard.logged_in() else "/login")

    @app.get("/login")
    @guard.for_anybody
    def ask_who() -> Response:
        return render(site, "login.html", wrong="", name="")

    @app.post("/login")
    @guard.for_anybody
    def let_in() -> Any:
        name = request.form.get("name", "")[:1000]
        try:
            session = login.log_in(site, name, request.form.get("password", "")[:10_000])
        except Refused as error:
            wrong = _SAID.get(error.status, str(error))
            return render(site, "login.html", error.status, error.headers, wrong=wrong, name=name)
        except CallbackError as error:
            log.warning("login_failed", error=str(error))
            busy = words._("This does not work right now. Try again in a moment.")
            return render(site, "login.html", HTTPStatus.SERVICE_UNAVAILABLE, wrong=busy, name=name)
        return login.give(_see_other("/"), session)

    @app.post("/logout")
    @guard.for_anybody
    def let_out() -> Response:
        login.end_session(site)
        return login.take_back(_see_other("/login"))

    @app.post("/preferences")
    @guard.for_anybody
    def prefer() -> Response:
        """Language and looks, kept by the browser."""
        guard.from_our_pages()
        response = _see_other(_back(request.form.get("back", "/")))
        for key, known in (("language", tuple(words.LANGUAGES)), ("theme", THEMES)):
            if request.form.get(key) in known:
                secure = guard.client().secure
                response.set_cookie(
                    key, request.form[key], _A_YEAR, secure=secure, httponly=True, samesite="Strict"
                )
        return response

    @app.get("/static/<version>/<name>")
    @guard.for_anybody
    def static(version: str, name: str) -> Response:
        found = _assets().get(name)
        if found is None or found[0] != version:
            return Response("no such file", HTTPStatus.NOT_FOUND, content_type="text/plain")
        _, content, kind = found
        headers = {"Cache-Control": f"public, max-age={_A_YEAR}, immutable"}
        return Response(content, content_type=kind, headers=headers)


_SAID = {
    HTTPStatus.UNAUTHORIZED: words._("Name or password is wrong."),
    HTTPStatus.TOO_MANY_REQUESTS: words._("Too many log-ins that failed. Try again in a few minutes."),
}


def home(access: Access) -> str:
    return "/me" if access.role is Role.OPERATOR else "/board"


def page(site: Site, scope: Scope, *roles: Role) -> Callable[[View], View]:
    """A view for people of these roles who are logged in; it is given their `Access`. Whoever is not logged
    in is asked to; what goes wrong is told in words, to a script as plain text."""

    def decorate(view: View) -> View:
        @guard.for_anybody
        @wraps(view)
        def guarded(**path: Any) -> Any:
            if guard.logged_in() is None:
                return _log_in_first()
            access = guard.access()
            try:
                if access.role not in roles or not access.may(scope):
                    raise Refused(HTTPStatus.FORBIDDEN, tell(words._("This page is not for you.")))
                return view(access, **path)
            except Refused as error:
                return failed(site, error.status, str(error))
            except DatabaseError as error:
                log.warning("page_failed", error=str(error))
                said = tell(words._("The database is out of reach. Try again in a moment."))
                return failed(site, HTTPStatus.SERVICE_UNAVAILABLE, said)
            except EngineAway as error:
                log.warning("page_failed", error=str(error))
                said = tell(
                    words._("No answer. It may have been heard all the same: look before you repeat it.")
                )
                return failed(site, HTTPStatus.SERVICE_UNAVAILABLE, said)
            except CallbackError as error:
                return failed(site, HTTPStatus.BAD_REQUEST, str(error))

        return guarded

    return decorate


def _log_in_first() -> Response:
    if "HX-Request" in request.headers:
        return Response(status=HTTPStatus.NO_CONTENT, headers={"HX-Redirect": "/login"})
    return _see_other("/login")


def failed(site: Site, status: HTTPStatus, said: str) -> Response:
    if "HX-Request" in request.headers:
        return Response(said, status, content_type="text/plain; charset=utf-8")
    return render(site, "error.html", status, said=said)


def _see_other(path: str) -> Response:
    return Response(status=HTTPStatus.SEE_OTHER, headers={"Location": path})


def _back(path: str) -> str:
    """A path of ours: no other host's, whatever a form says."""
    ours = path.startswith("/") and not path.startswith(("//", "/\\"))
    return path if ours and path.isascii() and path.isprintable() and len(path) < 500 else "/"


# --- what a form says ----------------------------------------------------------------------------------


def whole(name: str) -> int:
    text = request.form.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise UsageError(f"{name}: a whole number is wanted")
    return int(text)


def line(name: str, longest: int = 1000) -> str:
    """One line of text, without what cannot be stored or shown."""
    text = " ".join(request.form.get(name, "").split())
    return "".join(c for c in text if c.isprintable()).encode("utf-8", "replace").decode()[:longest]


# --- looks ---------------------------------------------------------------------------------------------


def spoken() -> Words:
    """The reader's language."""
    if "words" not in g:
        accepted = request.accept_languages.best_match
        g.words = words.words(words.language_of(request.cookies.get("language"), accepted))
    found: Words = g.words
    return found


def tell(text: str) -> str:
    return spoken().text(text)


def render(
    site: Site,
    template: str,
    status: int = HTTPStatus.OK,
    headers: Mapping[str, str] | None = None,
    **values: Any,
) -> Response:
    said, session, access = spoken(), guard.logged_in(), guard.access_or_none()
    theme = request.cookies.get("theme", "")
    html = (
        _environment()
        .get_template(template)
        .render(
            **values,
            _=said.text,
            n_=said.texts,
            words=said,
            tables=words,
            phone=words.phone,
            now=site.now(),
            csrf=session.csrf if session else "",
            who=access if session else None,
            theme=theme if theme in THEMES else "auto",
            themes=THEMES,
            languages=words.LANGUAGES,
            path=request.path,
            agent_name=lambda name: site.settings.agents.get(name or "", name or ""),
            queue_name=lambda name: site.settings.queues.get(name or "", name or ""),
            asset=_address,
        )
    )
    response = Response(html, status, content_type="text/html; charset=utf-8", headers=dict(headers or {}))
    response.headers["Vary"] = "Cookie, Accept-Language"
    return response


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader(__package__, "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _assets() -> dict[str, tuple[str, bytes, str]]:
    """By name: a version that changes with the content, the content, and its type."""
    found = {}
    for file in files(__package__).joinpath("static").iterdir():
        content = file.read_bytes()
        kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        charset = "; charset=utf-8" if kind.startswith("text/") else ""
        found[file.name] = hashlib.sha256(content).hexdigest()[:12], content, kind + charset
    return found


def _address(name: str) -> str:
    return f"/static/{_assets()[name][0]}/{name}"
