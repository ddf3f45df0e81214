"""The API of missed calls: look at them, and change what becomes of them.

Each takes what `choosing` takes at the command line, and gives the same rows. Who is limited to queues sees
and changes nothing else.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import gevent
from flask import Response

from freeswitch_callback.core.access import Access, Scope
from freeswitch_callback.core.facts import ClosedAs, Reason
from freeswitch_callback.core.lifecycle import State
from freeswitch_callback.errors import UsageError
from freeswitch_callback.ledger import Filter, Listed, Order
from freeswitch_callback.ledger.filters import SORTED_BY
from freeswitch_callback.ledger.models import LINE, Attempt, Journal, Recall, Remark
from freeswitch_callback.ledger.models import Missed as MissedTable
from freeswitch_callback.ledger.views import LISTED
from freeswitch_callback.operations import choosing, recalls, spreadsheet, times, verdicts
from freeswitch_callback.web.fields import Field, Kind, ListOf, OneOf, Text, Whole, YesOrNo
from freeswitch_callback.web.problems import Refused
from freeswitch_callback.web.routes import (
    FLAG,
    TEXT,
    TIME,
    WHOLE,
    Given,
    Route,
    array,
    of_table,
    or_null,
    record,
    ref,
)
from freeswitch_callback.web.site import Site

PAGE, LONGEST_PAGE = 50, 500

AT_ONCE = 20
"""Rows whose gates are asked at once, some milliseconds' work; then an engine that has calls to make comes
first."""

A_TIME = Text(64, example="2026-11-23T08:00Z")
_FILTERS: tuple[Field, ...] = (
    Field("state", OneOf(tuple(str(state) for state in State)), "What the recall is."),
    Field("reason", OneOf(tuple(str(reason) for reason in Reason)), "Why the call was missed."),
    Field("queue", Text(), "The queue, like support@default."),
    Field("number", Text(), "The caller's number, in E.164 or as the network gave it."),
    Field("since", A_TIME, "Called at or after: 2026-11-23, 2026-11-23T08:00Z, 2h."),
    Field("until", A_TIME, "Called before."),
    Field("older_than", Text(64, example="30d"), "Called longer ago than: 30d, 12h."),
)
_SEARCH = Field("search", Text(100), "A part of the phone, the number or the name.")
_CHOICE: tuple[Field, ...] = (
    Field("ids", ListOf(Whole()), "The missed calls, one by one.", default=()),
    *_FILTERS,
    Field("limit", Whole(1), "At most so many, the newest first."),
    Field("all", YesOrNo(), "All that it can be done with.", default=False),
    Field("dry_run", YesOrNo(), "Tell how many, change nothing.", default=False),
)
_ID: dict[str, Kind] = {"id": Whole()}

LISTED_CALL = {
    **of_table(MissedTable, *LISTED),
    **of_table(Recall, "state", "attempts", "due_at", "closed_as", "note"),
}
GATE = {"gate": TEXT, "open": or_null(FLAG), "text": TEXT, "opens_at": or_null(TIME), "for_good": FLAG}

SCHEMAS = {
    "ListedCall": record(LISTED_CALL),
    "MissedCall": record(LISTED_CALL | {"gate": or_null(TEXT)}),
    "Recall": record(of_table(Recall)),
    "Attempt": record(of_table(Attempt)),
    "JournalEntry": record(of_table(Journal)),
    "Remark": record(of_table(Remark)),
    "Gate": record(GATE),
}


def page_of(items: Sequence[Any], cursor: str | None) -> dict[str, Any]:
    return {"items": items, "next": cursor}


def page_schema(items: dict[str, Any]) -> dict[str, Any]:
    return record({"items": array(items), "next": or_null(TEXT)})


def list_(site: Site, access: Access, given: Given) -> dict[str, Any]:
    now = site.now()
    sort = given["sort"]
    order = Order(sort.removeprefix("-"), sort.startswith("-"))
    chosen = choosing.filter_of((), given, now, queues=access.queues, search=given["search"])
    size = given["limit"]
    rows = site.ledger.page(chosen, size, _place(given["cursor"], order), order)
    cursor = _cursor(order, rows[-1]) if len(rows) == size else None
    return page_of(list(gated(site, rows, now)), cursor)


def gated(site: Site, rows: Iterable[Listed], now: datetime) -> Iterator[Listed]:
    """As `verdicts.with_gates`; lets others work in between."""
    for number, row in enumerate(verdicts.with_gates(site.ledger, rows, site.gates, now, AT_ONCE)):
        if number % AT_ONCE == 0:
            gevent.sleep(0)
        yield row


def _cursor(order: Order, row: dict[str, Any]) -> str:
    """Where a page ended, as the next request hands it back; nobody else has to read it."""
    value, last = order.place(row)
    text = json.dumps([value.isoformat() if isinstance(value, datetime) else value, last])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _place(cursor: str | None, order: Order) -> tuple[Any, int] | None:
    if cursor is None:
        return None
    try:
        value, last = json.loads(base64.urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4)))
        last = Whole(0).of_json(last)
        if order.by in ("calldate", "due_at"):
            return datetime.fromisoformat(value).astimezone(UTC), last
        return (Text(1000) if order.by == "queue" else Whole(-(2**31), 2**31)).of_json(value), last
    except (ValueError, TypeError, OverflowError, RecursionError, binascii.Error, UsageError):
        raise UsageError("cursor: take what `next` says, with the same sort") from None


def export(site: Site, access: Access, given: Given) -> Response:
    now = site.now()
    chosen = choosing.filter_of((), given, now, queues=access.queues, search=given["search"])
    rows = gated(site, site.ledger.listing(chosen), now)
    lines = spreadsheet.lines(rows, spreadsheet.EXPORTED)
    headers = {"Content-Disposition": 'attachment; filename="missed.csv"'}
    return Response(lines, content_type="text/csv; charset=utf-8", headers=headers)


def show(site: Site, access: Access, given: Given) -> Any:
    return site.ledger.show(given["id"], access.queues)


def why(site: Site, access: Access, given: Given) -> dict[str, Any]:
    now = site.now()
    asked = verdicts.ask(site.ledger, given["id"], site.gates, now, access.queues)
    live, not_asked = site.live.verdicts(site.ledger, asked.recall["id"], now)
    return verdicts.recall_row(asked) | {"gates": verdicts.gate_rows([*asked.verdicts, *live], not_asked)}


def add(site: Site, access: Access, given: Given) -> dict[str, Any]:
    queue = given["queue"]
    if not access.sees(queue):
        raise Refused(HTTPStatus.FORBIDDEN, "that queue is none of yours")
    recorded = recalls.add(
        site.ledger, given["number"], queue, site.gates(queue), now=site.now(), name=given["name"],
        by=access.name,
    )  # fmt: skip
    site.live.wake()
    return {"id": recorded.missed_id, "recall": recorded.recall_id, "blocked": recorded.blocked}


def remark(site: Site, access: Access, given: Given) -> dict[str, Any]:
    recall = site.ledger.show(given["id"], access.queues)["recall"]["id"]
    return {"id": site.ledger.remark(recall, access.name, given["text"])}


def _chosen(site: Site, access: Access, given: Given, verb: str) -> Filter:
    ids = given["ids"]
    if not access.many and (not ids or given["all"]):
        raise Refused(HTTPStatus.FORBIDDEN, "an operator names each call: ids")
    what = f"{verb} what? Name ids, a filter such as state or older_than, or all"
    chosen = choosing.chosen(ids, given["all"], given, what, site.now(), queues=access.queues)
    choosing.exist(site.ledger, ids, access.queues)
    return chosen


def replay(site: Site, access: Access, given: Given) -> dict[str, Any]:
    chosen = _chosen(site, access, given, "replay")
    if given["dry_run"]:
        return {"calls": site.ledger.count(chosen)}
    recalls.give_up_named(site.ledger, chosen, site.live.nodes, by=access.name)
    replayed = recalls.replay(site.ledger, chosen, by=access.name, gates=site.gates, now=site.now())
    site.live.wake()
    return {"replayed": replayed.recalls, "blocked": replayed.blocked}


def postpone(site: Site, access: Access, given: Given) -> dict[str, Any]:
    due = times.due(given["to"], given["for"], site.now(), "until when? Name either to or for")
    chosen = _chosen(site, access, given, "postpone")
    if given["dry_run"]:
        return {"calls": site.ledger.count(chosen)}
    return {"postponed": site.ledger.postpone(chosen, due, by=access.name), "due_at": due}


def close(site: Site, access: Access, given: Given) -> dict[str, Any]:
    chosen = _chosen(site, access, given, "close")
    if given["dry_run"]:
        return {"calls": site.ledger.count(chosen)}
    recalls.give_up_named(site.ledger, chosen, site.live.nodes, by=access.name)
    closed_as = ClosedAs(given["as"])
    return {"closed": site.ledger.close_recalls(chosen, access.name, closed_as, given["note"])}


def purge(site: Site, access: Access, given: Given) -> dict[str, Any]:
    chosen = _chosen(site, access, given, "purge")
    if given["dry_run"]:
        return {"calls": site.ledger.purgeable(chosen, anonymise=given["anonymise"]).missed}
    return {"purged": site.ledger.purge(chosen, by=access.name, anonymise=given["anonymise"])}


def _changed(**counts: Any) -> dict[str, Any]:
    """What is told after a change, or how many calls it would be about."""
    return {"anyOf": [record(counts), record({"calls": WHOLE})]}


_SORTS = OneOf(tuple(f"{sign}{by}" for by in SORTED_BY for sign in ("-", "")))

ROUTES = (
    Route(
        "GET", "/missed", list_, "Missed calls, the newest first, with what became of their recall.",
        query=(
            *_FILTERS, _SEARCH,
            Field("limit", Whole(1, LONGEST_PAGE), "Rows of a page.", default=PAGE),
            Field("sort", _SORTS, "By which column; with a minus the largest first.", default="-calldate"),
            Field("cursor", Text(2000), "`next` of the page before."),
        ),
        gives=page_schema(ref("MissedCall")),
    ),
    Route(
        "POST", "/missed", add, "Have a number called back, though no call of it was missed.", Scope.OPERATE,
        body=(
            Field("number", Text(shortest=1, example="+12025550100"), "Whom to call.", required=True),
            Field("queue", Text(shortest=1, example="support@default"), "Whose agents call.", required=True),
            Field("name", Text(LINE), "What the client is called.", default=""),
        ),
        gives=record({"id": WHOLE, "recall": WHOLE, "blocked": or_null(TEXT)}), status=201,
    ),
    Route(
        "GET", "/export", export, "All missed calls that match, as CSV.",
        query=(*_FILTERS, _SEARCH, Field("limit", Whole(1), "At most so many, the newest first.")),
        media="text/csv", gives=TEXT,
    ),
    Route(
        "GET", "/missed/{id}", show, "Everything about one missed call.", path_fields=_ID,
        gives=record({
            "missed": ref("ListedCall"), "recall": ref("Recall"), "others": array(ref("ListedCall")),
            "attempts": array(ref("Attempt")), "journal": array(ref("JournalEntry")),
            "remarks": array(ref("Remark")),
        }),
    ),
    Route(
        "GET", "/missed/{id}/why", why, "Why it is not called back (yet): every gate in order.",
        path_fields=_ID,
        gives=record({
            "id": WHOLE, "recall": WHOLE,
            **of_table(Recall, "state", "attempts", "due_at", "expires_at", "closed_as", "closed_at"),
            **of_table(Recall, "closed_by", "claimed_by", "note"),
            "replayed": FLAG, "gates": array(ref("Gate")),
        }),
    ),
    Route(
        "POST", "/missed/{id}/remarks", remark, "What whoever calls next is to know.", Scope.OPERATE,
        path_fields=_ID, body=(Field("text", Text(LINE, 1), "What to remember.", required=True),),
        gives=record({"id": WHOLE}), status=201,
    ),
    Route(
        "POST", "/missed/replay", replay, "Call back again: attempts start anew, due now.", Scope.OPERATE,
        body=_CHOICE, gives=_changed(replayed=WHOLE, blocked=WHOLE),
    ),
    Route(
        "POST", "/missed/postpone", postpone, "Call back later; takes recalls that wait.", Scope.OPERATE,
        body=(
            *_CHOICE,
            Field("to", A_TIME, "When they are due: 2026-11-23T15:00Z, or a time from now, 2h."),
            Field("for", Text(64, example="2h"), "How long from now: 30m, 2h, 1d."),
        ),
        gives=_changed(postponed=WHOLE, due_at=TIME),
    ),
    Route(
        "POST", "/missed/close", close, "Call nobody back; takes recalls that wait or are unknown.",
        Scope.OPERATE,
        body=(
            *_CHOICE,
            Field("note", Text(LINE), "Why; kept with it.", default=""),
            Field("as", OneOf(("cancelled", "rejected")), "What it is closed as.", default="cancelled"),
        ),
        gives=_changed(closed=WHOLE),
    ),
    Route(
        "POST", "/missed/purge", purge, "Delete for good; open recalls are spared.", Scope.ADMIN,
        body=(
            *_CHOICE,
            Field("anonymise", YesOrNo(), "Keep the figures; numbers and names are gone.", default=False),
        ),
        gives=_changed(purged=WHOLE),
    ),
)  # fmt: skip
