"""The Flask application, given all that it needs."""

from __future__ import annotations

from flask import Flask
from flask.json.provider import DefaultJSONProvider

from freeswitch_callback.operations.spreadsheet import as_text
from freeswitch_callback.web import api, board, guard, metrics, operator, pages, problems, stream
from freeswitch_callback.web.site import Site
from freeswitch_callback.web.stream import Broadcaster


class _Json(DefaultJSONProvider):
    """As `--format json` of the command line has it: times in UTC."""

    ensure_ascii = True
    sort_keys = False

    default = staticmethod(as_text)


class _App(Flask):
    json_provider_class = _Json


def make(site: Site, broadcaster: Broadcaster | None = None) -> Flask:
    """A WSGI application. Whoever adds views marks each with `guard.needs` or `guard.for_anybody`.

    The `broadcaster` stays the caller's, to be closed."""
    app = _App(__name__, static_folder=None, template_folder=None)
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    guard.install(app, site)
    problems.install(app)
    api.install(app, site)
    broadcaster = Broadcaster(site) if broadcaster is None else broadcaster
    stream.install(app, site, broadcaster)
    metrics.install(app, site, broadcaster)
    pages.install(app, site)
    operator.install(app, site)
    board.install(app, site)
    unguarded = [name for name, view in app.view_functions.items() if not hasattr(view, "needs")]
    if unguarded:
        raise AssertionError(f"views that say not who may see them: {unguarded}")
    return app
