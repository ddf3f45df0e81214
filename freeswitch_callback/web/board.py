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
from freeswitch_callback.core.facts import ClosedAs
from freeswitch_callback.errors import NotFound, UsageError
from freeswitch_callback.ledger import Filter
from freeswitch_callback.operations import choosing, donotcall, recalls, times
from freeswitch_callback.web import calls, lists, words
from freeswitch_callback.web.fields import of_query
from freeswitch_callback.web.pages import line, page, render, spoken, tell, whole
from freeswitch_callback.web.portions import Portions, Tell
from freeswitch_callback.web.problems import Refused
from freeswitch_callback.web.site import Site

_PAGE = 50
_PART_FOR = 0.5
"""Seconds: agents come and go without a word in the journal."""
_QUEUES_FOR = 30.0
"""Seconds for which the queues that are chosen among are those that there were."""
_DAYS = (1, 7, 30)
_MOST_CHOSEN = 500
_WORDS = ("state", "reason", "queue", "search", "since")

_SCOPES = {
    **dict.fromkeys(("replay", "postpone", "close", "forbid"), Scope.OPERATE),
    "purge": Scope.ADMIN,
}
"""What can be done to calls, and what one has to be allowed for it."""
_LONGEST = 31 * 24 * 60
"""Minutes."""
_LIST = next(route for route in calls.ROUTES if route.run is calls.list_)


def install(app: Flask, site: Site) -> None:
    for_supervisors = page(site, Scope.OPERATE, Role.SUPERVISOR, Role.ADMIN)
    portions = Portions()
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
        key = ("part", access.queues, spoken().language)
        part = kept.get(key, lambda: render(site, "board_now.html", **now_of(access)), oldest=_PART_FOR)
        return Response(part.get_data(), headers=part.headers)

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
        what, confirmed = request.form.get("do", ""), request.form.get("confirmed") == "yes"
        if what not in _SCOPES:
            raise UsageError("do: " + ", ".join(_SCOPES))
        if not access.may(_SCOPES[what]):
            raise Refused(HTTPStatus.FORBIDDEN, tell(words._("You may not do this.")))
        chosen, more = _chosen(site, access), _more(what)
        count = site.ledger.purgeable(chosen).missed if what == "purge" else site.ledger.count(chosen)
        work = None
        if confirmed:
            work = portions.begin(
                access.name, what, count, lambda told: _do(site, access, what, chosen, more, told)
            )
            if work is None:
                said = tell(words._("Something else is being done just now. Try again in a moment."))
                raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, said)
        asked = {name: request.form.get(name, "") for name in ("all", "minutes", "note", *_WORDS)}
        ids = () if asked["all"] else chosen.ids
        return render(site, "board_act.html", what=what, count=count, work=work, ids=ids, asked=asked)

    @app.get("/board/act/<int:number>")
    @for_supervisors
    def how_far(access: Access, number: int) -> Response:
        work = portions.of(number, access.name)
        if work is None:
            raise NotFound(tell(words._("Nothing is known of that any more.")))
        return render(site, "board_act.html", what=work.what, count=work.calls, work=work, ids=(), asked={})

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


def _chosen(site: Site, access: Access) -> Filter:
    """The calls that were chosen one by one, or all that the list's filter names."""
    if request.form.get("all"):
        given = {name: request.form[name] for name in _WORDS if request.form.get(name, "").strip()}
        said = of_query(_LIST.query, {name: [value] for name, value in given.items()})
        said["limit"] = None  # a page has one; all is more than the page that is shown
        return choosing.filter_of((), said, site.now(), queues=access.queues, search=said["search"])
    texts = request.form.getlist("ids")
    if not texts:
        raise UsageError(tell(words._("Choose some calls first.")))
    if len(texts) > _MOST_CHOSEN or not all(t.isascii() and t.isdigit() and len(t) < 19 for t in texts):
        raise UsageError("ids: whole numbers are wanted")
    return Filter(ids=tuple(int(text) for text in texts), queues=access.queues)


@dataclass(frozen=True, slots=True)
class _More:
    minutes: int = 0
    note: str = ""


def _more(what: str) -> _More:
    if what != "postpone":
        return _More(note=line("note", 200))
    minutes = whole("minutes")
    if not 0 < minutes <= _LONGEST:
        raise UsageError("minutes: from 1 to 44640")
    return _More(minutes)


def _do(site: Site, access: Access, what: str, chosen: Filter, more: _More, told: Tell) -> None:
    ledger, by = site.ledger, access.name
    match what:
        case "replay":
            recalls.give_up_named(ledger, chosen, site.live.nodes, by=by)
            recalls.replay(ledger, chosen, by=by, gates=site.gates, now=site.now(), tell=told)
        case "postpone":
            ledger.postpone(chosen, site.now() + timedelta(minutes=more.minutes), by=by, tell=told)
        case "close":
            recalls.give_up_named(ledger, chosen, site.live.nodes, by=by)
            ledger.close_recalls(chosen, by, ClosedAs.CANCELLED, more.note, tell=told)
        case "forbid":
            donotcall.forbid_all(ledger, chosen, more.note, by, tell=told)
        case "purge":
            ledger.purge(chosen, by=by, tell=told)
    site.live.wake()


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
        self._locks: dict[Hashable, BoundedSemaphore] = {}

    def get(
        self, key: Hashable, count: Callable[[], Any], seconds: float = 0.0, oldest: float = _OLDEST
    ) -> Any:
        """`seconds`: for so long it is good enough, whatever changes; `oldest`: then it is not, whatever does
        not."""
        newest = self._newest()
        with self._locks.setdefault(key, BoundedSemaphore(1)):
            found = self._found.get(key)
            if found is None or self._is_old(found, newest, seconds, oldest):
                began = time.monotonic()
                result = count()
                now = time.monotonic()
                if len(self._found) >= self._most:
                    self._found.clear()
                    self._locks.clear()
                found = self._found[key] = _Counted(result, now, now - began, newest)
            return found.result

    def _is_old(self, found: _Counted, newest: int, seconds: float, oldest: float) -> bool:
        age = time.monotonic() - found.at
        return age > oldest or (newest > found.newest and age > max(seconds, self._SHARE * found.took))
