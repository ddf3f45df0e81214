"""Have somebody called back, or called back again."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection
from dataclasses import fields
from datetime import datetime
from typing import Any

from freeswitch_callback.core.facts import Missed, Opening, Reason
from freeswitch_callback.core.gates import GateRules, opening
from freeswitch_callback.errors import UsageError
from freeswitch_callback.ledger import Filter, Ledger, Recorded, Replayed

MANUAL_NODE = "manual"
"""The `node` of what a person has added: such a call came in at no FreeSWITCH."""

Gates = Callable[[str | None], GateRules]
"""What a queue's gates go by."""


def add(
    ledger: Ledger, phone: str, queue: str, gates: GateRules, *, now: datetime, name: str = "", by: str = ""
) -> Recorded:
    """Have a number called back that no call of it was missed from. The same gates apply.

    Raises `UsageError` if nothing of the text can ever be called: unlike a missed call, there is nothing to
    keep a record of.
    """
    fact = Missed(
        node=MANUAL_NODE,
        call_uuid=str(uuid.uuid4()),
        phone=phone,
        calldate=now,
        timewait=0,
        reason=Reason.MANUAL,
        queue=queue,
        caller_name=name,
        operator=by or None,
    )
    plan = opening(fact, gates, now)
    if plan.number is None:
        raise UsageError(
            f"{phone[:60]!r} is not a number that can be called ({plan.blocked}); write it like +12025550100"
        )
    return ledger.record(fact, plan)


def give_up_named(ledger: Ledger, chosen: Filter, nodes: Collection[str], *, by: str) -> None:
    """What is named one by one may also be with an engine that is gone, at a FreeSWITCH that is none of
    `nodes`. Never by a filter: another machine's configuration may know that FreeSWITCH, and the call be
    up."""
    if chosen.ids:
        ledger.give_up(chosen, nodes, by=by)


def replay(
    ledger: Ledger,
    chosen: Filter,
    *,
    by: str,
    gates: Gates,
    now: datetime,
    tell: Callable[[int], None] | None = None,
) -> Replayed:
    """Call back again: attempts anew, due now, a new expiry. What a gate had blocked is asked about anew.
    `tell` is told how many calls were gone through by now."""

    def today(row: dict[str, Any]) -> Opening:
        fact = Missed(
            **{f.name: row[f.name] for f in fields(Missed) if f.name not in ("reason", "settled")},
            reason=Reason(row["reason"]),
        )
        return opening(fact, gates(fact.queue), now)

    return ledger.replay(chosen, by=by, expire=gates(None).expire, opening_of=today, tell=tell)
