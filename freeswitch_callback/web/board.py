"""The supervisor's board: how it goes now, the recalls, and what to do with them."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, jsonify, request
from gevent.lock import BoundedSemaphore

from freeswitch_callback.core.access import Access, Role, Scope
from freeswitch_callback.core.gates import DoNotCall
from freeswitch_callback.errors import UsageError
from freeswitch_callback.operations import times
from freeswitch_callback.web import calls, lists, words
from freeswitch_callback.web.fields import of_body, of_query
from freeswitch_callback.web.pages import line, page, render, tell
from freeswitch_callback.web.problems import Refused
from freeswitch_callback.web.routes import Route
from freeswitch_callback.web.site import Site

_PAGE = 50
_QUEUES_FOR = 30.0
"""Seconds for which the queues that are chosen among are those that there were."""
_DAYS = (1, 7, 30)
_MOST_CHOSEN = 500
_WORDS = ("state", "reason", "queue", "search", "since")

_ROUTES: dict[str, Route] = {
    route.path.rpartition("/")[2]: route for route in calls.ROUTES if route.method == "POST"
}
_ACTIONS = ("replay", "postpone", "close", "purge")
_LIST = next(route for route in calls.ROUTES if route.run is calls.list_)


def install(app: Flask, site: Site) -> None:
    for_supervisors = page(site, Scope.OPERATE, Role.SUPERVISOR, Role.ADMIN)
    kept = _Kept(lambda: site.ledger.following.newest())

    def now_of(access: Access) -> dict[str, Any]:
        since = times.midnight(site.now())
        figures = kept.get(
            ("figures", since, access.queues), lambda: site.ledger.figures(since, access.queues)
        )
        return {
            "figures": figures,
            "agents": lists.agents(site, access, {})["items"],
            "alarms": lists.alarms(site, access),
            "nodes": site.live.node_rows(),
        }

    @app.get("/board")
    @for_supervisors
    def board(access: Access) -> Response:
        queues = kept.get(
            ("queues", access.queues), lambda: site.ledger.queues_seen(access.queues), _QUEUES_FOR
        )
        return render(site, "board.html", queues=queues, days=_DAYS, **now_of(access), **_rows(site, access))

    @app.get("/board/now")
    @for_supervisors
    def board_part(access: Access) -> Response:
        return render(site, "board_now.html", **now_of(access))

    @app.get("/board/calls")
    @for_supervisors
    def board_calls(access: Access) -> Response:
        return render(site, "board_calls.html", **_rows(site, access))

    @app.get("/board/chart")
    @for_supervisors
    def chart(access: Access) -> Response:
        days = request.args.get("days", "1")
        if days not in [str(each) for each in _DAYS]:
            raise UsageError("days: " + ", ".join(map(str, _DAYS)))
        return jsonify(kept.get(("chart", days, access.queues), lambda: _chart(site, access, days)))

    @app.get("/board/calls/<int:missed>")
    @for_supervisors
    def one(access: Access, missed: int) -> Response:
        shown = calls.show(site, access, {"id": missed})
        remarks = site.ledger.remarks(shown["recall"]["id"])
        gates = calls.why(site, access, {"id": missed})["gates"]
        return render(site, "board_call.html", shown=shown, gates=gates, remarks=remarks)

    @app.post("/board/calls/<int:missed>/remark")
    @for_supervisors
    def add_remark(access: Access, missed: int) -> Response:
        shown = calls.show(site, access, {"id": missed})
        if not (text := line("text")):
            raise UsageError(tell(words._("The note is empty.")))
        site.ledger.remark(shown["recall"]["id"], access.name, text)
        return Response(status=HTTPStatus.SEE_OTHER, headers={"Location": f"/board/calls/{missed}"})

    @app.post("/board/act")
    @for_supervisors
    def act(access: Access) -> Response:
        """Told first how many it would be about; done when that was confirmed."""
        what, done = request.form.get("do", ""), request.form.get("confirmed") == "yes"
        ids = _ids()
        if what == "forbid":
            count = _forbid(site, access, ids) if done else len(ids)
        elif what in _ACTIONS:
            route = _ROUTES[what]
            if not access.may(route.scope):
                raise Refused(HTTPStatus.FORBIDDEN, tell(words._("You may not do this.")))
            said = of_body(route.body, b"{}") | {"ids": ids, "dry_run": not done} | _more(what)
            answer = route.run(site, access, said)
            count = next(value for value in answer.values() if isinstance(value, int))
        else:
            raise UsageError("do: replay, postpone, close, forbid or purge")
        asked = {key: request.form.get(key, "") for key in ("minutes", "note")}
        return render(site, "board_act.html", what=what, done=done, count=count, ids=ids, asked=asked)

    @app.get("/board/export.csv")
    @for_supervisors
    def export(access: Access) -> Any:
        given = _filter()
        return calls.export(site, access, {name: given.get(name) for name in _LIST_NAMES} | {"limit": None})

    @app.get("/board/settings")
    @for_supervisors
    def settings(access: Access) -> Response:
        queues = sorted(
            {queue for row in lists.agents(site, access, {})["items"] for queue in row["queues"].split()}
        )
        shown = [(queue, site.recall(queue), site.gates(queue)) for queue in queues]
        return render(site, "settings.html", shown=shown)


_LIST_NAMES = tuple(field.name for field in _LIST.query)


def _filter() -> dict[str, str]:
    """What the form of the list says; what is empty was not said."""
    return {name: request.args[name] for name in _WORDS if request.args.get(name, "").strip()}


def _rows(site: Site, access: Access) -> Mapping[str, Any]:
    chosen = _filter()
    asked = {name: [value] for name, value in chosen.items()}
    for name in ("sort", "cursor"):
        if request.args.get(name):
            asked[name] = [request.args[name]]
    given = of_query(_LIST.query, asked) | {"limit": _PAGE}
    found = calls.list_(site, access, given)
    return {
        "items": found["items"],
        "next": found["next"],
        "chosen": chosen,
        "sort": given["sort"],
        "further": bool(request.args.get("cursor")),
    }


def _chart(site: Site, access: Access, days: str) -> list[list[float]]:
    """Hours (epoch seconds), missed, reached; hours without calls are there too."""
    now = site.now()
    since = times.midnight(now) if days == "1" else now - timedelta(days=int(days))
    since = since.replace(minute=0, second=0, microsecond=0)
    told = {hour: (missed, reached) for hour, missed, reached in site.ledger.by_hour(since, access.queues)}
    hours = [since + timedelta(hours=each) for each in range(int((now - since).total_seconds() // 3600) + 1)]
    counts = [told.get(hour, (0, 0)) for hour in hours]
    return [[hour.timestamp() for hour in hours], [m for m, _ in counts], [r for _, r in counts]]


def _ids() -> tuple[int, ...]:
    texts = request.form.getlist("ids")
    if not texts:
        raise UsageError(tell(words._("Choose some calls first.")))
    if len(texts) > _MOST_CHOSEN or not all(t.isascii() and t.isdigit() and len(t) < 19 for t in texts):
        raise UsageError("ids: whole numbers are wanted")
    return tuple(int(text) for text in texts)


def _more(what: str) -> dict[str, Any]:
    if what == "postpone":
        minutes = request.form.get("minutes", "")
        if not (minutes.isascii() and minutes.isdigit() and len(minutes) < 6):
            raise UsageError("minutes: a whole number is wanted")
        return {"for": f"{minutes}m"}
    return {"note": line("note", 200)} if what == "close" else {}


def _forbid(site: Site, access: Access, ids: tuple[int, ...]) -> int:
    shown = [calls.show(site, access, {"id": each})["recall"]["number"] for each in ids]
    entries = [DoNotCall(number, note=line("note", 200)) for number in sorted({n for n in shown if n})]
    return site.ledger.forbid(entries, access.name) if entries else 0


@dataclass(frozen=True, slots=True)
class _Counted:
    result: Any
    at: float
    took: float
    newest: int


class _Kept:
    """What was counted, for whoever may see the same. It is counted anew when something has changed since,
    which takes a tenth of the time at most, however many look and however much changes."""

    _SHARE = 10
    _OLDEST = 60.0

    def __init__(self, newest: Callable[[], int], most: int = 500) -> None:
        self._newest = newest
        self._found: dict[Hashable, _Counted] = {}
        self._most = most
        self._one_at_a_time = BoundedSemaphore(1)

    def get(self, key: Hashable, count: Callable[[], Any], seconds: float = 0.0) -> Any:
        """`seconds`: for so long it is good enough, whatever changes."""
        newest = self._newest()
        with self._one_at_a_time:
            found = self._found.get(key)
            if found is None or self._is_old(found, newest, seconds):
                began = time.monotonic()
                result = count()
                now = time.monotonic()
                if len(self._found) >= self._most:
                    self._found.clear()
                found = self._found[key] = _Counted(result, now, now - began, newest)
            return found.result

    def _is_old(self, found: _Counted, newest: int, seconds: float) -> bool:
        age = time.monotonic() - found.at
        return age > self._OLDEST or (newest > found.newest and age > max(seconds, self._SHARE * found.took))
