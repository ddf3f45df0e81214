"""What went wrong, as programs read it: problem details (RFC 9457), and nothing of what is inside."""

from __future__ import annotations

import json
from http import HTTPStatus

import structlog
from flask import Flask, Response
from werkzeug.exceptions import HTTPException

from freeswitch_callback.errors import (
    CallbackError,
    DatabaseError,
    EngineAway,
    FreeSwitchError,
    IllegalMove,
    NotFound,
    UnsafeValue,
    UsageError,
)
from freeswitch_callback.operations.accounts import TooBusy

log = structlog.get_logger(__name__)

_STATUS: tuple[tuple[type[CallbackError], HTTPStatus], ...] = (
    (UsageError, HTTPStatus.BAD_REQUEST),
    (UnsafeValue, HTTPStatus.BAD_REQUEST),
    (NotFound, HTTPStatus.NOT_FOUND),
    (IllegalMove, HTTPStatus.CONFLICT),
    (TooBusy, HTTPStatus.SERVICE_UNAVAILABLE),
    (DatabaseError, HTTPStatus.SERVICE_UNAVAILABLE),
    (EngineAway, HTTPStatus.SERVICE_UNAVAILABLE),
    (FreeSwitchError, HTTPStatus.SERVICE_UNAVAILABLE),
)

TYPE = "application/problem+json"


class Refused(Exception):
    """Ends a request with this status. `headers` are ours, never a stranger's text."""

    def __init__(self, status: HTTPStatus, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}


def problem(status: HTTPStatus, detail: str, headers: dict[str, str] | None = None) -> Response:
    body = {"type": "about:blank", "title": status.phrase, "status": int(status), "detail": detail}
    return Response(json.dumps(body), status, {"Content-Type": TYPE, **(headers or {})})


def install(app: Flask) -> None:
    """Every error of a request ends here."""

    @app.errorhandler(Refused)
    def refused(error: Refused) -> Response:
        return problem(error.status, error.detail, error.headers)

    @app.errorhandler(CallbackError)
    def expected(error: CallbackError) -> Response:
        status = next((status for kind, status in _STATUS if isinstance(error, kind)), None)
        if status is None:
            return unexpected(error)
        if isinstance(error, DatabaseError):
            return problem(status, "the database is out of reach; try again", {"Retry-After": "5"})
        return problem(status, str(error))

    @app.errorhandler(HTTPException)
    def of_http(error: HTTPException) -> Response:
        status = HTTPStatus(error.code or 500)
        allow = {"Allow": ", ".join(sorted(getattr(error, "valid_methods", None) or ()))}
        headers = allow if status is HTTPStatus.METHOD_NOT_ALLOWED else {}
        return problem(status, error.description or status.phrase, headers)

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> Response:
        log.error("request_failed", error=repr(error), exc_info=error)
        return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "something went wrong here; the log tells what")
