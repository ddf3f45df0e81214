"""The operator's page: who is to be called back now, what is known of them, and what can be said to it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from flask import Flask, Response, request

from freeswitch_callback.core.access import Access, Role, Scope
from freeswitch_callback.core.facts import Decision, Mode, Result, Say
from freeswitch_callback.core.gates import DoNotCall
from freeswitch_callback.errors import NotFound, UsageError
from freeswitch_callback.ledger import Card
from freeswitch_callback.web import words
from freeswitch_callback.web.pages import line, page, render, tell, whole
from freeswitch_callback.web.problems import Refused
from freeswitch_callback.web.site import Site

_NEXT = 5
_ASKED_FOR = timedelta(minutes=30)
"""For so long after a call its result is asked for."""
_LATEST = timedelta(days=30)


def install(app: Flask, site: Site) -> None:
    for_operators = page(site, Scope.OPERATE, Role.OPERATOR)

    @app.get("/me")
    @for_operators
    def operators_page(access: Access) -> Response:
        return render(site, "operator.html", **_now(site, access))

    @app.get("/me/now")
    @for_operators
    def operators_part(access: Access) -> Response:
        return render(site, "operator_now.html", **_now(site, access))

    @app.post("/me/say")
    @for_operators
    def say(access: Access) -> Response:
        attempt, what = whole("attempt"), request.form.get("say", "")
        until = _until(site.now()) if what == Say.POSTPONE else None
        if what not in (Say.ACCEPT, Say.POSTPONE, Say.REJECT):
            raise UsageError("say: accept, postpone or reject")
        _decide(site, access, Decision(attempt, Say(what), access.name, until, line("reason", 200)))
        return render(site, "operator_now.html", **_now(site, access))

    @app.post("/me/forbid")
    @for_operators
    def forbid(access: Access) -> Response:
        attempt = _own(site, access, whole("attempt"))
        card = site.ledger.card(attempt)
        number = card.recall["number"]
        if not number:
            raise Refused(HTTPStatus.CONFLICT, tell(words._("There is no number to put on the list.")))
        note = line("reason", 200)
        site.ledger.forbid([DoNotCall(number, note=note, added_by=access.name)], access.name)
        if _said_nothing(card):
            decision = Decision(attempt, Say.REJECT, access.name, reason=note or "do not call")
            site.live.decide(access.agent or "", decision)
        return render(site, "operator_now.html", **_now(site, access))

    @app.post("/me/remark")
    @for_operators
    def remark(access: Access) -> Response:
        card = site.ledger.card(_own(site, access, whole("attempt")))
        if not (text := line("text")):
            raise UsageError(tell(words._("The note is empty.")))
        site.ledger.remark(card.recall["id"], access.name, text)
        return render(site, "operator_now.html", **_now(site, access))

    @app.post("/me/result")
    @for_operators
    def result(access: Access) -> Response:
        attempt, came_to = _own(site, access, whole("attempt")), request.form.get("result", "")
        if came_to not in list(Result):
            raise UsageError("result: " + ", ".join(Result))
        recall = site.ledger.card(attempt).recall
        retry = site.recall(recall["queue"] or "").retry
        became = site.ledger.note_result(
            attempt,
            access.agent or "",
            Result(came_to),
            access.name,
            retry_in=retry.delay("no_answer", recall["attempts"], 0.5),
            most=retry.attempts,
            expire=site.gates(recall["queue"]).expire,
        )
        site.live.wake()
        return render(site, "operator_now.html", **(_now(site, access) | {"became": became}))


def _until(now: datetime) -> datetime:
    """From a form: `minutes` from now, or a moment `at`, as the browser's clock in UTC has it."""
    if at := request.form.get("at"):
        try:
            until = datetime.fromisoformat(at.replace("Z", "+00:00"))
        except ValueError:
            until = now
        if until.tzinfo is None or not now < until < now + _LATEST:
            raise UsageError(tell(words._("Choose a time within the next 30 days.")))
        return until
    return now + timedelta(minutes=min(max(whole("minutes"), 1), 30 * 24 * 60))


def _decide(site: Site, access: Access, decision: Decision) -> None:
    if not site.live.decide(access.agent or "", decision):
        raise Refused(HTTPStatus.CONFLICT, tell(words._("It is too late for that.")))


def _own(site: Site, access: Access, attempt: int) -> int:
    """Raises `NotFound` for what is not, and was not just now, this operator's."""
    agent = access.agent or ""
    if attempt not in (site.ledger.at_hand(agent), site.ledger.latest(agent)):
        raise NotFound(tell(words._("That call is not yours any more.")))
    return attempt


def _said_nothing(card: Card) -> bool:
    """Whether its operator may still say something to it."""
    attempt = card.attempt
    ringing = attempt["sent_at"] is not None
    too_late = attempt["answered_at"] is not None or (ringing and attempt["mode"] != Mode.AGENT_FIRST)
    return attempt["said"] is None and attempt["outcome"] is None and not too_late


def _now(site: Site, access: Access) -> dict[str, Any]:
    """All that the page shows at this moment."""
    agent = access.agent or ""
    attempt = site.ledger.at_hand(agent)
    card = _card(site, attempt)
    done = None if card is not None else _to_be_told(site, agent)
    shown = card or done
    rules = site.recall(shown.recall["queue"] or "") if shown else None
    queues = access.queues or ()
    return {
        "agent": agent,
        "rows": site.live.agent_rows(agent),
        "card": card,
        "done": done,
        "may_say": card is not None and _said_nothing(card),
        "asked": rules is not None and rules.accept_within is not None,
        "most": rules.retry.attempts if rules else 0,
        "links": _links(site, shown) if shown else {},
        "due": site.ledger.due(queues, _NEXT) if queues else [],
        "results": words.RESULTS,
        "became": None,
    }


def _card(site: Site, attempt: int | None) -> Card | None:
    """None also of what was taken back since its number was asked for: nothing had been sent of it."""
    try:
        return site.ledger.card(attempt) if attempt is not None else None
    except NotFound:
        return None


def _to_be_told(site: Site, agent: str) -> Card | None:
    """The operator's last call, if it was a conversation a short while ago and nobody has said what it came
    to."""
    card = _card(site, site.ledger.latest(agent))
    if card is None:
        return None
    ended, talked = card.attempt["ended_at"], card.attempt["connected_at"]
    fresh = ended is not None and site.now() - ended < _ASKED_FOR
    return card if fresh and talked is not None and card.attempt["result"] is None else None


def _links(site: Site, card: Card) -> Mapping[str, str]:
    """The configured links with this client's values in them, each of which is one part of the address."""
    call = card.calls[0] if card.calls else {}
    values = {key: str(value) for key, value in (call.get("extra") or {}).items()}
    values |= {key: str(call.get(key) or "") for key in ("phone", "queue", "caller_name")}
    values |= {"number": card.recall["number"] or "", "missed": str(call.get("id", ""))}
    quoted = _Missing({key: quote(value, safe="") for key, value in values.items()})
    return {name: template.format_map(quoted) for name, template in site.settings.links.items()}


class _Missing(dict[str, str]):
    """What a call has not is empty."""

    def __missing__(self, key: str) -> str:
        return ""
