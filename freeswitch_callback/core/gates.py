"""The gates between a missed call and its recall: each is one reason not to call, or not yet.

A gate gives a `Verdict` that a person can read. `opening` asks those that a missed call must pass to be
called back at all; `verdicts` asks all that what is on record can answer, in the order in which people read
them, and the engine claims nothing unless every one of them is open (`first_shut`). What is known only of the
moment, the callers who wait and the agents who are free, is `dispatch`'s, in the same words.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from freeswitch_callback.core import hours, numbers
from freeswitch_callback.core.facts import Missed, Opening, Reason
from freeswitch_callback.core.hours import ALWAYS, Hours
from freeswitch_callback.core.lifecycle import State
from freeswitch_callback.core.numbers import Number, NumberRules

UNSETTLED_HOLD = 60.0
"""Seconds that a call whose last event is not in yet is left alone; that event makes it due at once."""


DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)

_ENDED_BY_CALLER = frozenset({Reason.ABANDONED, Reason.CANCELLED})


class Gate(StrEnum):
    """In the order in which they are asked."""

    NUMBER = "number"
    COUNTRY = "country"
    DO_NOT_CALL = "do not call"
    SHORT_RINGS = "short rings"
    QUEUE = "queue"
    BREAKER = "breaker"
    CAPS = "caps"
    DUE = "due"
    HOURS = "calling hours"
    SERVED = "served"
    FAIRNESS = "fairness"
    AGENT = "agent"


# When a shut gate that cannot say when it opens is looked at again.
_LOOK_AGAIN = {Gate.SERVED: timedelta(seconds=15), Gate.CAPS: timedelta(seconds=1)}
_AT_THE_LATEST = timedelta(minutes=5)


class Verdict(NamedTuple):
    """What one gate says. `opens_at`: when a shut one opens by itself, as far as that can be known.

    `for_good`: it stays shut unless the configuration or a list is changed.
    """

    gate: Gate
    open: bool
    text: str = ""
    opens_at: datetime | None = None
    for_good: bool = False

    def __str__(self) -> str:
        return f"{self.gate}: {self.text}" if self.text else f"{self.gate}: open"


@dataclass(frozen=True, slots=True)
class CapRules:
    """How much may be dialled; 0 means without limit. Times are rolling: no midnight lets a cap be had twice.

    `per_number` recalls to one number within 24 h, `per_prefix` to one prefix within an hour, `at_once`
    recalls of this queue that are up at the same time, `per_minute` recalls in all within a minute. The
    recall after `breaker` others to one prefix within `breaker_within` seconds stops all to it, until a
    person resets that. A prefix is a number without its last `block` digits: the 10,000 numbers that one
    carrier gets at once.
    """

    per_number: int = 5
    per_prefix: int = 100
    at_once: int = 0
    per_minute: int = 0
    breaker: int = 50
    breaker_within: float = 600.0
    block: int = 4

    def prefix_of(self, number: str) -> str:
        """An extension of the house is its own: they would all be one block."""
        return number[: -self.block] if self.block and number.startswith("+") else number


@dataclass(frozen=True, slots=True)
class GateRules:
    """What one queue's gates go by. `min_wait` and `expire` in seconds; `zone` is the time zone of those
    numbers that do not tell theirs.

    Only the time in which the calling hours are open counts for `expire`: who is missed on Friday evening has
    not expired on Monday morning.
    """

    numbers: NumberRules = NumberRules()
    min_wait: float = 3.0
    expire: float = 86400.0
    priority: int = 0
    hours: Hours = ALWAYS
    zone: str = "UTC"
    caps: CapRules = CapRules()


@dataclass(frozen=True, slots=True)
class DoNotCall:
    """An entry of the list. `number` is E.164, or a prefix with a star behind it: `+4930*`. `until` None: for
    good."""

    number: str
    note: str = ""
    added_by: str = ""
    until: datetime | None = None
    added_at: datetime | None = None


class Usage(NamedTuple):
    """What was dialled lately: when each attempt was made that rang a client or still may, newest first.

    `number` within 24 h, `prefix` within an hour or the breaker's time, `everything` within a minute, each
    cut off behind what its cap needs to know; `queue`: the recalls of the queue that are up now.
    """

    number: tuple[datetime, ...] = ()
    prefix: tuple[datetime, ...] = ()
    everything: tuple[datetime, ...] = ()
    queue: int = 0


class Case(NamedTuple):
    """A recall as its gates see it: what is on record, read at one moment.

    `number` is E.164 (or an extension), or what the network gave where that is no number; `reason`,
    `timewait` (seconds) and `queue` are the newest missed call's. `tripped` is when the breaker of its prefix
    stopped all recalls, None if it did not; attempts up to `counted_from` (the last reset) do not count for
    it.
    """

    number: str
    reason: Reason
    timewait: int
    queue: str | None
    state: State
    attempts: int
    due_at: datetime
    expires_at: datetime
    entry: DoNotCall | None = None
    tripped: datetime | None = None
    counted_from: datetime | None = None
    usage: Usage = Usage()


def scope_of(queue: str | None) -> str:
    """The tenant: the domain of the queue, so that two tenants' recalls of one number do not meet."""
    return (queue or "").rpartition("@")[2] if "@" in (queue or "") else ""


def opening(missed: Missed, rules: GateRules, now: datetime) -> Opening:
    """The recall that this missed call opens or joins."""
    number = numbers.read(missed.phone, rules.numbers)
    delay = 0.0 if missed.settled else UNSETTLED_HOLD
    due_at = now + timedelta(seconds=delay)
    shut = first_shut(
        (
            *_of_the_number(number),
            short_rings(missed.reason, missed.timewait, rules),
            queue(missed.queue),
        )
    )
    look_in, expire = delay, rules.expire
    if shut is None:
        open_hours = calling_hours(number.e164 or "", rules, due_at)
        if open_hours.for_good:
            shut = open_hours
        look_in = ((open_hours.opens_at or due_at) - now).total_seconds()
        place = _place(number.e164 or "", rules)
        expire = (hours.after(rules.hours, *place, due_at, rules.expire) - now).total_seconds()
    return Opening(
        number=number.e164,
        scope=scope_of(missed.queue),
        queue=missed.queue,
        blocked=str(shut) if shut is not None else None,
        delay=delay,
        look_in=look_in,
        expire=expire,
        priority=rules.priority,
    )


def verdicts(case: Case, rules: GateRules, now: datetime) -> list[Verdict]:
    """What every gate says that what is on record can answer, in order."""
    return [
        *_of_the_number(numbers.read(case.number, rules.numbers)),
        do_not_call(case.entry, now),
        short_rings(case.reason, case.timewait, rules),
        queue(case.queue),
        breaker(case, rules.caps, now),
        caps(case, rules.caps, now),
        due(case, now),
        calling_hours(case.number, rules, now),
    ]


def look_at(shut: Verdict, now: datetime) -> datetime:
    """When a shut gate is worth a look again: it says so itself, or it opens with the end of a call, or a
    person opens it, who has everything looked at anew."""
    if shut.opens_at is not None:
        return shut.opens_at
    return now + _LOOK_AGAIN.get(shut.gate, _AT_THE_LATEST)


def first_shut(told: Iterable[Verdict]) -> Verdict | None:
    return next((verdict for verdict in told if not verdict.open), None)


# --- one by one --------------------------------------------------------------------------------------------


@lru_cache(maxsize=1_000)
def _of_the_number(number: Number) -> tuple[Verdict, Verdict]:
    """The gates `number` and `country`: a refusal names the one that it is about."""
    gate, _, why = (number.refusal or "").partition(": ")
    return (
        _for_good(Gate.NUMBER, why) if gate == Gate.NUMBER else Verdict(Gate.NUMBER, True, number.e164 or ""),
        _for_good(Gate.COUNTRY, why) if gate == Gate.COUNTRY else Verdict(Gate.COUNTRY, True),
    )


def do_not_call(entry: DoNotCall | None, now: datetime) -> Verdict:
    """The list of those who must not be called."""
    if entry is None or (entry.until is not None and entry.until <= now):
        return Verdict(Gate.DO_NOT_CALL, True)
    why = f"{entry.number} is on the list"
    if entry.note:
        why = f"{entry.number} is on the list ({entry.note})"
    if entry.until is None:
        return _for_good(Gate.DO_NOT_CALL, why)
    return Verdict(Gate.DO_NOT_CALL, False, f"{why} until {_utc(entry.until)}", entry.until)


def short_rings(reason: Reason, timewait: int, rules: GateRules) -> Verdict:
    """Whoever rings for a moment and hangs up wants to be called back, for money. Every reason that the
    caller did not choose counts however short the call was."""
    if reason in _ENDED_BY_CALLER and timewait < rules.min_wait:
        return _for_good(Gate.SHORT_RINGS, f"gave up after {timewait} s, min_wait is {rules.min_wait:g} s")
    return Verdict(Gate.SHORT_RINGS, True)


@lru_cache(maxsize=1_000)
def queue(name: str | None) -> Verdict:
    if not name:
        return _for_good(Gate.QUEUE, "no queue whose agents could call back")
    return Verdict(Gate.QUEUE, True, name)


def breaker(case: Case, rules: CapRules, now: datetime) -> Verdict:
    """Stops all recalls to a prefix once there were too many, until a person has looked at it."""
    if case.tripped is None and not trips(case, rules, now):
        return Verdict(Gate.BREAKER, True)
    prefix = rules.prefix_of(case.number)
    if case.tripped is not None:
        why = f"all recalls to {prefix}… are stopped since {_utc(case.tripped)}"
    else:
        why = f"{_recalls(rules.breaker)} to {prefix}… within {rules.breaker_within:g} s"
    return Verdict(Gate.BREAKER, False, f"{why}; opens by `breaker reset`")


def trips(case: Case, rules: CapRules, now: datetime) -> bool:
    """Whether one recall more to this prefix would be the one too many."""
    if not rules.breaker or len(case.usage.prefix) < rules.breaker:  # nearly always
        return False
    return counted_for_breaker(case, rules, now) >= rules.breaker


def counted_for_breaker(case: Case, rules: CapRules, now: datetime) -> int:
    """How many recalls to this prefix there were lately, after the last reset."""
    since = now - timedelta(seconds=rules.breaker_within)
    if case.counted_from is not None:
        since = max(since, case.counted_from)
    return sum(at > since for at in case.usage.prefix)


def caps(case: Case, rules: CapRules, now: datetime) -> Verdict:
    """How much may be dialled: of several that are reached, the one that opens last is told."""
    usage = case.usage
    shut = [
        Verdict(Gate.CAPS, False, f"{_recalls(cap)} to {what} within {window}", full_until)
        for times, cap, span, what, window in (
            (usage.number, rules.per_number, DAY, "this number", "24 h"),
            (usage.prefix, rules.per_prefix, HOUR, f"{rules.prefix_of(case.number)}…", "an hour"),
            (usage.everything, rules.per_minute, MINUTE, "anybody", "a minute"),
        )
        if (full_until := _full_until(times, cap, span)) is not None and full_until > now
    ]
    if shut:
        return max(shut, key=lambda verdict: verdict.opens_at or now)
    if rules.at_once and usage.queue >= rules.at_once:
        return Verdict(Gate.CAPS, False, f"{_recalls(usage.queue)} of {case.queue} up now")
    return Verdict(Gate.CAPS, True)


def _recalls(number: int) -> str:
    return f"{number} recall" if number == 1 else f"{number} recalls"


def _full_until(times: tuple[datetime, ...], cap: int, span: timedelta) -> datetime | None:
    """When the oldest of the `cap` newest leaves the window."""
    return times[cap - 1] + span if cap and len(times) >= cap else None


def due(case: Case, now: datetime) -> Verdict:
    if case.state is not State.WAITING:
        return Verdict(Gate.DUE, False, f"the recall is {case.state}")
    if case.expires_at <= now:
        return Verdict(Gate.DUE, False, f"expired at {_utc(case.expires_at)}")
    if case.due_at > now:
        return Verdict(Gate.DUE, False, f"from {_utc(case.due_at)} on", case.due_at)
    return Verdict(Gate.DUE, True, f"since {_utc(case.due_at)}")


def calling_hours(number: str, rules: GateRules, now: datetime) -> Verdict:
    """The hours in the client's own time zone; where a number may be in several, in all of them."""
    zones, country = _place(number, rules)
    where = zones[0] if len(zones) == 1 else f"{zones[0]} (open in all {len(zones)} time zones of the number)"
    opens = hours.opens(rules.hours, zones, country, now)
    if opens is None:
        return _for_good(Gate.HOURS, f"never open in {where}")
    if opens <= now:
        return Verdict(Gate.HOURS, True, where)
    local = opens.astimezone(ZoneInfo(zones[0]))
    day = f"{local:%a}" if opens - now < timedelta(days=6) else f"{local:%a %Y-%m-%d}"
    return Verdict(Gate.HOURS, False, f"opens {day} {local:%H:%M} {where}", opens)


def served(on_the_line: bool) -> Verdict:
    """Nobody is called who talks to us, or waits for us, this moment."""
    return Verdict(Gate.SERVED, not on_the_line, "on a call or in a queue right now" if on_the_line else "")


def _place(number: str, rules: GateRules) -> tuple[tuple[str, ...], str | None]:
    """The time zones a number may be in, and its country."""
    return numbers.zones_of(number, rules.numbers) or (rules.zone,), numbers.country_of(number)


def _for_good(gate: Gate, text: str) -> Verdict:
    return Verdict(gate, False, text, for_good=True)


def _utc(at: datetime) -> str:
    return f"{at.astimezone(UTC).isoformat(' ')[:16]} UTC"
