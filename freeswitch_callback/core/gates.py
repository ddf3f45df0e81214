"""What a missed call asks for: a recall that is open, or one that is closed at once with the gate's name."""

from __future__ import annotations

from dataclasses import dataclass

from freeswitch_callback.core import numbers
from freeswitch_callback.core.facts import Missed, Opening, Reason
from freeswitch_callback.core.numbers import NumberRules

UNSETTLED_HOLD = 60.0
"""Seconds that a call whose last event is not in yet is left alone; that event makes it due at once."""

_ENDED_BY_CALLER = frozenset({Reason.ABANDONED, Reason.CANCELLED})


@dataclass(frozen=True, slots=True)
class GateRules:
    """`min_wait`: seconds below which a call that the caller ended is recorded and not recalled."""

    numbers: NumberRules = NumberRules()
    min_wait: float = 3.0
    expire: float = 86400.0


def scope_of(queue: str | None) -> str:
    """The tenant: the domain of the queue, so that two tenants' recalls of one number do not meet."""
    return (queue or "").rpartition("@")[2] if "@" in (queue or "") else ""


def opening(missed: Missed, rules: GateRules) -> Opening:
    """The recall that this missed call opens or joins."""
    number = numbers.read(missed.phone, rules.numbers)
    blocked = number.refusal
    if blocked is None and missed.reason in _ENDED_BY_CALLER and missed.timewait < rules.min_wait:
        blocked = f"short rings: gave up after {missed.timewait} s, min_wait is {rules.min_wait:g} s"
    if blocked is None and not missed.queue:
        blocked = "queue: no queue whose agents could call back"
    return Opening(
        number=number.e164,
        scope=scope_of(missed.queue),
        queue=missed.queue,
        blocked=blocked,
        delay=0.0 if missed.settled else UNSETTLED_HOLD,
        expire=rules.expire,
    )
