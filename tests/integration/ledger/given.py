"""What the stories begin with: missed calls, openings, claims; only what matters is said."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import peewee
import pytest

from freeswitch_callback.core import gates
from freeswitch_callback.core.facts import Claim, Missed, Mode, Opening, Outcome, Reason, Settlement
from freeswitch_callback.core.gates import CapRules, Case, Verdict
from freeswitch_callback.ledger import Ledger, Recorded, migrations

ANNA, BORIS = "+4930111111", "+4930222222"
NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
QUEUE = "support@default"

STEPS = [step.name for step in migrations.STEPS]
"""What a new database goes through."""

RETRY = Settlement(outcome=Outcome.BUSY, hangup_cause="USER_BUSY", retry_in=0.0)
PARKED = Settlement(outcome=Outcome.UNKNOWN)

_numbers = itertools.count(1)
_process = os.getpid()  # two processes of one test tell of different calls


class Clock:
    """Stands still until somebody moves it."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **by: float) -> datetime:
        self.now += timedelta(**by)
        return self.now


def missed(**said: Any) -> Missed:
    call = Missed(
        node="fs1",
        call_uuid=f"call-{_process}-{next(_numbers)}",
        phone=ANNA,
        calldate=NOON,
        timewait=30,
        reason=Reason.ABANDONED,
        queue=QUEUE,
    )
    return replace(call, **said)


def opening(number: str | None = ANNA, **said: Any) -> Opening:
    """Looked at as soon as it is due."""
    look = {"look_in": said.get("delay", 0.0)}
    return replace(Opening(number=number, scope="default", queue=QUEUE), **look | said)


def waiting(ledger: Ledger, number: str = ANNA, **said: Any) -> Recorded:
    """A missed call whose recall is due."""
    return ledger.record(missed(phone=number), opening(number, **said))


def claim(ledger: Ledger, recall: int, **said: Any) -> Claim | None:
    """A claim that no gate refuses."""
    taken = judged(ledger, recall, **said)
    assert not isinstance(taken, Verdict), taken
    return taken


def judged(ledger: Ledger, recall: int, **said: Any) -> Claim | Verdict | None:
    number = next(_numbers)
    asked: dict[str, Any] = {
        "engine": "engine-1",
        "lease": 30.0,
        "node": "fs1",
        "agent": f"agent-{number}",
        "mode": Mode.AGENT_FIRST,
        "call_uuid": f"recall-{number}",
        "job_uuid": f"job-{number}",
    }
    return ledger.claim(recall, **asked | said)


def by_caps(caps: CapRules) -> dict[str, Any]:
    """A claim's judge who asks the list, the breaker and the caps."""

    def judge(case: Case, now: datetime) -> Verdict | None:
        return gates.first_shut(
            (
                gates.do_not_call(case.entry, now),
                gates.breaker(case, caps, now),
                gates.caps(case, caps, now),
            )
        )

    return {"judge": judge, "caps": caps}


def claimed(ledger: Ledger, number: str = ANNA, **said: Any) -> Claim:
    taken = claim(ledger, waiting(ledger, number).recall_id, **said)
    assert taken is not None
    return taken


def dialling(ledger: Ledger, number: str = ANNA, **said: Any) -> Claim:
    taken = claimed(ledger, number, **said)
    assert ledger.dialling(taken)
    return taken


def parked(ledger: Ledger, number: str = ANNA) -> Claim:
    taken = dialling(ledger, number)
    assert ledger.settle(taken, PARKED, NOON)
    return taken


def seconds_until(moment: datetime) -> float:
    return (moment - datetime.now(UTC)) / timedelta(seconds=1)


@contextmanager
def statements() -> Iterator[list[str]]:
    """What is asked, message by message."""
    asked: list[str] = []
    execute = peewee.Database.execute_sql

    def noted(database: Any, sql: str, *arguments: Any, **options: Any) -> Any:
        asked.append(sql)
        return execute(database, sql, *arguments, **options)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(peewee.Database, "execute_sql", noted)
        yield asked


MANY_RECALLS = (
    "INSERT INTO recall (number, scope, queue, state, priority, due_at, look_at, expires_at, attempts,"
    " failures, claim, note, created_at) SELECT '+49' || n, 'x', 'queue ' || n % 2, 'waiting', n % 3,"
    " now(), now() + (n - 1000) * interval '1 second', now() + interval '1 day', 0, 0, 0, '', now()"
    " FROM generate_series(1, 20000) AS n",
    "INSERT INTO missed (phone, calldate, calledid, timewait, reason, node, call_uuid, caller_name,"
    " hangup_cause, extra, recall, settled, recorded_at) SELECT '', now(), '', 9, 'busy', 'fs1', id, '',"
    " '', '{}', id, TRUE, now() FROM recall",
)
"""In PostgreSQL: 20,000 that wait, of two queues and three priorities, a thousand of them due."""
