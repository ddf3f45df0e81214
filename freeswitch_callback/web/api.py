"""The API under `/api/v1`: its table of routes, served."""

from __future__ import annotations

import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, jsonify, request

from freeswitch_callback.core.access import Access, Scope
from freeswitch_callback.errors import UsageError
from freeswitch_callback.web import calls, guard, lists, login, openapi
from freeswitch_callback.web.fields import Field, Text, of_body, of_query
from freeswitch_callback.web.problems import Refused
from freeswitch_callback.web.routes import TEXT, Given, Route, or_null, record
from freeswitch_callback.web.site import Site

PREFIX = "/api/v1"

_SESSION = record({"name": TEXT, "role": or_null(TEXT), "agent": or_null(TEXT), "scope": TEXT, "csrf": TEXT})


def _me(site: Site, access: Access, given: Given) -> dict[str, Any]:
    """Who asks. `csrf` is '' for a token, which needs none."""
    session = guard.logged_in()
    return {
        "name": access.name,
        "role": access.role,
        "agent": access.agent,
        "scope": access.scope,
        "csrf": "" if session is None else session.csrf,
    }


ROUTES: tuple[Route, ...] = (
    *calls.ROUTES,
    *lists.ROUTES,
    Route("GET", "/session", _me, "Who asks, and what they may do.", gives=_SESSION),
)

_LOG_IN = (
    Field("user", Text(1000), "The name.", required=True),
    Field("password", Text(10_000), "The password.", required=True),
)


def install(app: Flask, site: Site) -> None:
    for route in ROUTES:
        rule = PREFIX + re.sub(r"\{(\w+)\}", r"<\1>", route.path)
        name = f"api {route.method} {route.path}"
        app.add_url_rule(rule, name, _view(route, site), methods=[route.method])
    schemas = calls.SCHEMAS | lists.SCHEMAS
    document = openapi.document(ROUTES, schemas, PREFIX)

    @app.get(f"{PREFIX}/openapi.json")
    @guard.for_anybody
    def openapi_json() -> Response:
        return jsonify(document)

    @app.post(f"{PREFIX}/session")
    @guard.for_anybody
    def log_in() -> Response:
        said = of_body(_LOG_IN, _json_body())
        session = login.log_in(site, said["user"], said["password"])
        person = session.person
        body = {"name": person.name, "role": person.role, "agent": person.agent, "csrf": session.csrf}
        return login.give(jsonify(body), session)

    @app.delete(f"{PREFIX}/session")
    @guard.needs(Scope.READ)
    def log_out() -> Response:
        login.end_session(site)
        return login.take_back(Response(status=HTTPStatus.NO_CONTENT))


def _view(route: Route, site: Site) -> Callable[..., Response]:
    @guard.needs(route.scope)
    def view(**path: str) -> Response:
        given = {name: _of_path(route, name, text) for name, text in path.items()}
        given |= of_query(route.query, {name: request.args.getlist(name) for name in request.args})
        if route.method == "POST":
            given |= of_body(route.body, _json_body())
        result = route.run(site, guard.access(), given)
        response = result if isinstance(result, Response) else jsonify(result)
        response.status_code = route.status
        return response

    return view


def _of_path(route: Route, name: str, text: str) -> Any:
    try:
        return route.path_fields[name].of_text(text)
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from error


def _json_body() -> bytes:
    raw = request.get_data()
    if raw and request.mimetype != "application/json":
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send the body as Content-Type: application/json")
    return raw
