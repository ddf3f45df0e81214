"""The API of everything but missed calls: recalls, agents, do-not-call list, breakers, figures, state."""

from __future__ import annotations

from dataclasses import asdict
from http import HTTPStatus
from typing import Any

import gevent

from freeswitch_callback import __version__
from freeswitch_callback.core.access import Access, Scope
from freeswitch_callback.core.facts import ClosedAs
from freeswitch_callback.core.gates import DoNotCall
from freeswitch_callback.core.lifecycle import State
from freeswitch_callback.errors import NotFound, UsageError
from freeswitch_callback.ledger import RecallFilter
from freeswitch_callback.ledger.models import LINE, Recall
from freeswitch_callback.operations import donotcall, times, verdicts
from freeswitch_callback.web.calls import A_TIME, LONGEST_PAGE, PAGE, gated, page_of, page_schema
from freeswitch_callback.web.fields import Field, ListOf, OneOf, Text, Whole, YesOrNo
from freeswitch_callback.web.problems import Refused
from freeswitch_callback.web.routes import (
    COUNTS,
    FLAG,
    NUMBER,
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

_LIMIT = Field("limit", Whole(1, LONGEST_PAGE), "Rows of a page.", default=PAGE)
_COUNTED_AT_ONCE = 100
"""Recalls that are only counted have their gates asked so many at a time: less work in all than a few."""
_ENTRY = ("number", "note", "until", "added_by", "added_at")

AGENT = {
    "node": TEXT, "agent": TEXT, "status": TEXT, "state": TEXT, "queues": TEXT, "contact": TEXT,
    "last_bridge_end": or_null(TIME),
}  # fmt: skip
NODE = {"node": TEXT, "up": FLAG, "why_down": TEXT, "spooled": WHOLE, "being_called": WHOLE}
ALARM = {"alarm": TEXT, "where": TEXT, "text": TEXT, "since": TIME}

SCHEMAS = {
    "ListedRecall": record({**of_table(Recall), "missed": or_null(WHOLE), "gate": or_null(TEXT)}),
    "Agent": record(AGENT),
    "Node": record(NODE),
    "Alarm": record(ALARM),
    "DoNotCall": record(
        {"number": TEXT, "note": TEXT, "until": or_null(TIME), "added_by": TEXT, "added_at": TIME}
    ),
    "Breaker": record({"prefix": TEXT, "tripped_at": TIME, "recalls": WHOLE}),
}


def recalls(site: Site, access: Access, given: Given) -> dict[str, Any]:
    now = site.now()
    moments = {name: times.moment(given[name], now) for name in ("since", "until") if given[name] is not None}
    chosen = RecallFilter(
        state=given["state"], closed_as=given["closed_as"], queue=given["queue"], number=given["number"],
        queues=access.queues, **moments,
    )  # fmt: skip
    size = given["limit"]
    rows = site.ledger.recalls(chosen, size, given["before"])
    known = [{**row, "id": row["missed"], "recall": row["id"]} for row in rows if row["missed"] is not None]
    gates = {row["recall"]: row["gate"] for row in gated(site, known, now)}
    last = str(rows[-1]["id"]) if len(rows) == size else None
    return page_of([row | {"gate": gates.get(row["id"])} for row in rows], last)


def agents(site: Site, access: Access, given: Given) -> dict[str, Any]:
    """Who is limited to queues sees the agents who serve one of them, and of their queues those."""
    rows = site.live.agent_rows()
    if access.limited:
        for row in rows:
            row["queues"] = " ".join(queue for queue in row["queues"].split() if access.sees(queue))
        rows = [row for row in rows if row["queues"]]
    return {"items": rows}


def report(site: Site, access: Access, given: Given) -> dict[str, Any]:
    now = site.now()
    start = times.moment(given["since"], now)
    end = times.moment(given["until"], now) if given["until"] is not None else now
    if start >= end:
        raise UsageError("since must be before until")
    queue = given["queue"]
    try:
        figures = site.ledger.report(start, end, queue, zone=times.LOCAL, queues=access.queues)
    except OverflowError:
        raise UsageError("until is before any call") from None
    by_gate = verdicts.open_by_gate(
        site.ledger, site.gates, now, queue, lambda _asked: gevent.sleep(0), access.queues, _COUNTED_AT_ONCE
    )
    return asdict(figures) | {"queue": queue, "open_by_gate": by_gate}


def do_not_call(site: Site, access: Access, given: Given) -> dict[str, Any]:
    _not_limited(access)
    number, size = given["number"], given["limit"]
    if number is not None:
        number = donotcall.entry_of(number, site.gates(None).numbers)
        entries = site.ledger.forbidden(number)
        return page_of([_entry(entry) for entry in entries], None)
    entries = site.ledger.forbidden_page(size, given["after"])
    last = entries[-1].number if len(entries) == size else None
    return page_of([_entry(entry) for entry in entries], last)


def _entry(entry: DoNotCall) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in _ENTRY}


def forbid(site: Site, access: Access, given: Given) -> dict[str, Any]:
    """Also for who is limited: it keeps somebody from being called, and shows nothing."""
    now = site.now()
    prefix = given["prefix"] or given["number"].rstrip(" ").endswith("*")
    if prefix and (access.limited or not access.may(Scope.ADMIN)):
        raise Refused(HTTPStatus.FORBIDDEN, "a prefix concerns all queues: it needs the scope admin")
    entry = DoNotCall(
        number=donotcall.entry_of(given["number"], site.gates(None).numbers, prefix=prefix),
        note=given["note"],
        added_by=access.name,
        until=times.ahead(given["until"], now) if given["until"] is not None else None,
        added_at=now,
    )
    site.ledger.forbid([entry], by=access.name)
    return _entry(entry)


def allow(site: Site, access: Access, given: Given) -> dict[str, Any]:
    _not_limited(access)
    removed = donotcall.forget(site.ledger, given["number"], site.gates(None).numbers, access.name)
    if removed is None:
        raise NotFound("that number is not on the list; GET /dnc?number= shows what forbids it")
    site.live.wake()
    others = [] if removed.endswith("*") else [entry.number for entry in site.ledger.forbidden(removed)]
    return {"removed": removed, "still_forbidden_by": others}


def breakers(site: Site, access: Access, given: Given) -> dict[str, Any]:
    _not_limited(access)
    return {"items": [asdict(breaker) for breaker in site.ledger.breakers()]}


def reset(site: Site, access: Access, given: Given) -> dict[str, Any]:
    _not_limited(access)
    prefixes, everything = given["prefixes"], given["all"]
    if bool(prefixes) == everything:
        raise UsageError("reset what? Name prefixes as GET /breakers shows them, or all")
    tripped = [breaker.prefix for breaker in site.ledger.breakers()]
    if unknown := [prefix for prefix in prefixes if prefix not in tripped]:
        raise NotFound(f"recalls to {unknown[0][:60]!r} are not stopped; GET /breakers shows which are")
    if given["dry_run"]:
        return {"breakers": len(tripped) if everything else len(set(prefixes))}
    count = site.ledger.reset_breakers(None if everything else prefixes, by=access.name)
    site.live.wake()
    return {"reset": count}


def alarms(site: Site, access: Access) -> list[dict[str, Any]]:
    told = [
        {"alarm": alarm.name, "since": alarm.since, "where": alarm.where, "text": alarm.text}
        for alarm in site.live.alarms()
    ]
    return [alarm | {"where": "", "text": ""} for alarm in told] if access.limited else told


def state(site: Site, access: Access, given: Given) -> dict[str, Any]:
    """How all is: what `check` tells of a running engine. Who is limited gets what concerns their queues, and
    of an alarm its name."""
    live = site.live
    trouble = site.ledger.trouble
    return {
        "version": __version__,
        "engine": live.engine,
        "ready": live.ready,
        "database": "" if trouble is None else "out of reach",
        "nodes": live.node_rows(),
        "alarms": alarms(site, access),
        "callers": {queue: waiting for queue, waiting in live.callers().items() if access.sees(queue)},
        "recalls": site.ledger.open_by_state(access.queues),
    }


def _not_limited(access: Access) -> None:
    if access.limited:
        raise Refused(HTTPStatus.FORBIDDEN, "this concerns all queues, and you are limited to some")


ROUTES = (
    Route(
        "GET", "/recalls", recalls, "Recalls, the newest first: one for each number that is called back.",
        query=(
            Field("state", OneOf(tuple(str(state) for state in State)), "What it is."),
            Field("closed_as", OneOf(tuple(str(word) for word in ClosedAs)), "Why it is over."),
            Field("queue", Text(), "Its queue, like support@default."),
            Field("number", Text(), "The number to call, in E.164."),
            Field("since", A_TIME, "Opened at or after."),
            Field("until", A_TIME, "Opened before."),
            _LIMIT,
            Field("before", Whole(0), "`next` of the page before."),
        ),
        gives=page_schema(ref("ListedRecall")),
    ),
    Route("GET", "/agents", agents, "The agents of every FreeSWITCH.",
          gives=record({"items": array(ref("Agent"))})),
    Route(
        "GET", "/report", report, "How many were missed, what became of them, and how long it took.",
        query=(
            Field("since", A_TIME, "Called at or after.", default="24h"),
            Field("until", A_TIME, "Called before; now unless told."),
            Field("queue", Text(), "One queue only."),
        ),
        gives=record({
            "since": TIME, "until": TIME, "queue": or_null(TEXT), "missed": WHOLE, "recalled": WHOLE,
            "served_inbound": WHOLE, "served_outbound": WHOLE, "open": WHOLE, "closed": COUNTS,
            "by_reason": COUNTS, "by_queue": COUNTS, "by_hour": COUNTS, "open_by_gate": COUNTS,
            "recovery_rate": or_null(NUMBER), "median_time": or_null(NUMBER), "p90_time": or_null(NUMBER),
            "answered": WHOLE, "hung_up": WHOLE, "hung_up_rate": or_null(NUMBER),
        }),
    ),
    Route(
        "GET", "/dnc", do_not_call, "Who must not be called, by number; or what forbids to call one.",
        query=(
            Field("number", Text(), "What forbids to call this one."), _LIMIT,
            Field("after", Text(), "`next` of the page before.", default=""),
        ),
        gives=page_schema(ref("DoNotCall")),
    ),
    Route(
        "POST", "/dnc", forbid, "Have a number not called, or with a star a prefix.", Scope.OPERATE,
        body=(
            Field("number", Text(shortest=1, example="+12025550100"), "As people write it.", required=True),
            Field("prefix", YesOrNo(), "It is how the numbers begin.", default=False),
            Field("note", Text(LINE), "Why.", default=""),
            Field("until", A_TIME, "Until when: a time to come, or from now, 30d; ever unless told."),
        ),
        gives=ref("DoNotCall"), status=201,
    ),
    Route(
        "DELETE", "/dnc", allow, "Take a number off the list; what it has blocked stays closed.", Scope.ADMIN,
        query=(Field("number", Text(shortest=1), "As it stands there or people write it.", required=True),),
        gives=record({"removed": TEXT, "still_forbidden_by": array(TEXT)}),
    ),
    Route("GET", "/breakers", breakers, "The prefixes to which all recalls are stopped.",
          gives=record({"items": array(ref("Breaker"))})),
    Route(
        "POST", "/breakers/reset", reset, "Let recalls to these prefixes go on.", Scope.ADMIN,
        body=(
            Field("prefixes", ListOf(Text()), "As GET /breakers shows them.", default=()),
            Field("all", YesOrNo(), "All of them.", default=False),
            Field("dry_run", YesOrNo(), "Tell how many, change nothing.", default=False),
        ),
        gives={"anyOf": [record({"reset": WHOLE}), record({"breakers": WHOLE})]},
    ),
    Route(
        "GET", "/state", state, "How engine, database and every FreeSWITCH are, with alarms.",
        gives=record({
            "version": TEXT, "engine": TEXT, "ready": FLAG, "database": TEXT, "nodes": array(ref("Node")),
            "alarms": array(ref("Alarm")), "callers": COUNTS, "recalls": COUNTS,
        }),
    ),
)  # fmt: skip
