"""Why somebody is not called back (yet): what the gates say of what is on record.

The verdicts are those that the engine claims by; what only the moment knows, the callers who wait and the
agents who are free, is asked of a running FreeSWITCH and not here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from freeswitch_callback.core.facts import ClosedAs
from freeswitch_callback.core.gates import Case, Gate, Verdict, first_shut, verdicts
from freeswitch_callback.core.lifecycle import State
from freeswitch_callback.errors import NotFound
from freeswitch_callback.ledger import Filter, Ledger, Listed
from freeswitch_callback.operations.recalls import Gates

_PAGE = 500

LIVE = (Gate.SERVED, Gate.FAIRNESS, Gate.AGENT)
"""The gates that only a running FreeSWITCH can answer."""

COLUMNS = ("gate", "open", "text", "opens_at", "for_good")

NONE_SHUT = "none (waits for an agent)"


@dataclass(frozen=True, slots=True)
class Asked:
    """One missed call, its recall and its last attempt as they are on record, and what the gates say.

    `case` is what they were asked about: the recall as it is, or, where it is closed or its outcome unknown
    (`anew`), as it would be if it was replayed now.
    """

    missed: Listed
    recall: dict[str, Any]
    attempt: dict[str, Any] | None
    case: Case
    anew: bool
    verdicts: list[Verdict]


def ask(
    ledger: Ledger, missed_id: int, gates: Gates, now: datetime, queues: tuple[str, ...] | None = None
) -> Asked:
    """Raises `NotFound`, also for a call of another queue than these patterns name."""
    shown = ledger.show(missed_id, queues)
    case = ledger.cases([missed_id], lambda queue: gates(queue).caps).get(missed_id)
    if case is None:
        raise NotFound(f"missed call {missed_id} was purged just now")
    rules = gates(case.queue)
    anew = case.state in (State.CLOSED, State.UNKNOWN)
    if anew:
        lives = timedelta(seconds=rules.expire)
        case = case._replace(state=State.WAITING, attempts=0, due_at=now, expires_at=now + lives)
    return Asked(
        missed=shown["missed"],
        recall=shown["recall"],
        attempt=shown["attempts"][-1] if shown["attempts"] else None,
        case=case,
        anew=anew,
        verdicts=verdicts(case, rules, now),
    )


def gate_rows(said: Iterable[Verdict], not_asked: str = "") -> list[dict[str, Any]]:
    """Verdicts as programs get them; with `not_asked`, the live ones are unknown, and that is why."""
    gates = [{name: getattr(verdict, name) for name in COLUMNS} for verdict in said]
    if not_asked:
        unknown = {"open": None, "text": f"not asked: {not_asked}", "opens_at": None, "for_good": False}
        gates += [{"gate": gate} | unknown for gate in LIVE]
    return gates


def recall_row(asked: Asked) -> dict[str, Any]:
    """The recall as programs get it."""
    names = ("state", "attempts", "due_at", "expires_at", "closed_as", "closed_at", "closed_by", "claimed_by")
    ids = {"id": asked.missed["id"], "recall": asked.recall["id"]}
    recall = {name: asked.recall[name] for name in (*names, "note")}
    return ids | recall | {"replayed": asked.anew}


def with_gates(
    ledger: Ledger, rows: Iterable[Listed], gates: Gates, now: datetime, size: int = _PAGE
) -> Iterator[Listed]:
    """The rows with a `gate` more: the first shut one of a recall that waits (None: all are open), what has
    blocked a blocked one. A page of `size` at a time, so that a long list costs no memory; its gates are
    asked in one go."""
    for page in _pages(rows, size):
        shut = _first_shut(ledger, page, gates, now)
        for row in page:
            gate = str(shut[row["id"]]) if row["id"] in shut else None
            yield row | {"gate": row["note"] if row["closed_as"] == ClosedAs.BLOCKED else gate}


def open_by_gate(
    ledger: Ledger,
    gates: Gates,
    now: datetime,
    queue: str | None,
    tell: Callable[[int], None],
    queues: tuple[str, ...] | None = None,
    size: int = _PAGE,
) -> dict[str, int]:
    """How many recalls wait at which gate, the most first. `tell` is told how many were asked so far, after
    each page of `size`."""
    counted: Counter[str] = Counter()
    seen: set[int] = set()
    waiting = ledger.listing(Filter(state=State.WAITING, queue=queue, queues=queues))
    for page in _pages((row for row in waiting if row["recall"] not in seen), size):
        newest = list({row["recall"]: row for row in reversed(page)}.values())
        seen |= {row["recall"] for row in newest}
        shut = _first_shut(ledger, newest, gates, now)
        tell(len(seen))
        counted.update(str(shut[row["id"]].gate) if row["id"] in shut else NONE_SHUT for row in newest)
    return dict(counted.most_common())


def _first_shut(ledger: Ledger, page: list[Listed], gates: Gates, now: datetime) -> dict[int, Verdict]:
    """By missed call, of those whose recall waits at one."""
    waiting = [row["id"] for row in page if row["state"] == State.WAITING]
    cases = ledger.cases(waiting, lambda queue: gates(queue).caps) if waiting else {}
    told = ((id_, first_shut(verdicts(case, gates(case.queue), now))) for id_, case in cases.items())
    return {id_: verdict for id_, verdict in told if verdict is not None}


def _pages(rows: Iterable[Listed], size: int) -> Iterator[list[Listed]]:
    left = iter(rows)
    while page := list(islice(left, size)):
        yield page
