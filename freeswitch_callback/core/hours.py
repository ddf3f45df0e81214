"""When clients may be called: days and hours by the clock on their own wall, and public holidays.

Everything is exact over changes of daylight saving time: an hour that does not exist opens nothing, an hour
that comes twice counts twice. For that, each day of UTC is cut where a zone's offset changes; within a piece
the wall clock is plain arithmetic. The open stretches of a day are the same for all who are called under the
same rules in the same zones, and are kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

CLIENT = "client"
"""The calendar of the client's own country, whichever that is."""

HORIZON = timedelta(days=400)
"""What does not open within this never does."""

_DAY = 86400
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ONE_DAY = timedelta(days=1)
_NOTHING = timedelta()


@dataclass(frozen=True, slots=True)
class Window:
    """A part of the day, on some days. `days`: 0 is Monday; `start` (inclusive) and `end` (exclusive) are
    minutes from midnight, `end` 1440 at most."""

    days: frozenset[int]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Hours:
    """`holidays`: whose public holidays are shut: "client" for those of the client's own country, "DE" or
    "DE-BY" for those of a country or a part of one, whoever is called."""

    windows: tuple[Window, ...]
    holidays: tuple[str, ...] = ()


ALWAYS = Hours((Window(frozenset(range(7)), 0, 1440),))


def known_zone(name: str) -> bool:
    """Whether it is the name of an IANA time zone, as `Europe/Berlin` is."""
    return name in _known_zones()


def check_calendar(name: str) -> None:
    """Raise ValueError, which says what to write, unless `name` can stand in `Hours.holidays`."""
    if name == CLIENT:
        return
    if not re.fullmatch(r"[A-Z]{2}(-.+)?", name):
        raise ValueError(
            f'{name!r} is no calendar: write "{CLIENT}", a country ("DE") or a part of one ("DE-BY")'
        )
    try:
        _calendar(name)
    except NotImplementedError as error:
        raise ValueError(f"no public holidays are known for {name!r}: {error}") from error


def opens(hours: Hours, zones: tuple[str, ...], country: str | None, now: datetime) -> datetime | None:
    """When it is next open in all the `zones` at once: `now` if it is, None if it never is (within 400 days).

    `zones` are known names, one at least; another raises zoneinfo's own error. `country` is the client's ISO
    code; None has no holidays, nor has a country whose holidays are not known. Gives UTC.
    """
    now = now.astimezone(UTC)
    if hours == ALWAYS:
        return now
    hours, today = _for_country(hours, country), (now - _EPOCH).days
    for start, end in _open_on(hours, zones, today):
        if now < end:
            return max(start, now)
    return _first_after(hours, zones, today)


def after(
    hours: Hours, zones: tuple[str, ...], country: str | None, now: datetime, seconds: float
) -> datetime:
    """When `seconds` in which it was open have passed since `now`; where it never opens, plain seconds later.

    No later than 400 days from now, or the plain `seconds` if those are more. Gives UTC.
    """
    now = now.astimezone(UTC)
    left = timedelta(seconds=seconds)
    if hours == ALWAYS or left <= _NOTHING or opens(hours, zones, country, now) is None:
        return now + left
    hours, today, latest = _for_country(hours, country), (now - _EPOCH).days, now + max(left, HORIZON)
    for day in range(today, today + HORIZON.days + 1):
        for start, end in _open_on(hours, zones, day):
            start = max(start, now)
            if left <= end - start:
                return min(start + left, latest)
            left -= max(end - start, _NOTHING)
    return latest


def longest_day(hours: Hours, zones: tuple[str, ...], country: str | None, now: datetime) -> float:
    """Seconds for which it is open on the best of the coming seven days.

    A day is the 24 hours from a midnight of the first zone on, today's being the first. Public holidays are
    left out: what a week usually gives must not depend on Christmas.
    """
    zone = ZoneInfo(zones[0])
    today = now.astimezone(zone).date()
    midnights = (datetime.combine(today + n * _ONE_DAY, datetime.min.time(), zone) for n in range(7))
    usual = replace(hours, holidays=())
    return max(_open_from(usual, zones, midnight.astimezone(UTC)) for midnight in midnights)


def _open_from(hours: Hours, zones: tuple[str, ...], begin: datetime) -> float:
    """Seconds for which it is open in the 24 hours that begin there."""
    first = (begin - _EPOCH).days
    stretches = (*_open_on(hours, zones, first), *_open_on(hours, zones, first + 1))
    lengths = (min(end, begin + _ONE_DAY) - max(start, begin) for start, end in stretches)
    return sum(max(length, _NOTHING).total_seconds() for length in lengths)


# --- the open stretches of a day ---------------------------------------------------------------------------
# A day is one of UTC's, counted from 1970-01-01; offsets and what comes in between are seconds from then on.


@lru_cache(maxsize=4096)
def _first_after(hours: Hours, zones: tuple[str, ...], day: int) -> datetime | None:
    """When it first opens after that day."""
    for later in range(day + 1, day + HORIZON.days + 1):
        for start, _ in _open_on(hours, zones, later):
            return start
    return None


@lru_cache(maxsize=16384)
def _open_on(hours: Hours, zones: tuple[str, ...], day: int) -> tuple[tuple[datetime, datetime], ...]:
    """When it is open in all the zones that day, in order. Zones that have one clock are asked once."""
    common = [(day * _DAY, (day + 1) * _DAY)] if zones else []
    seen = set()
    for zone in zones:
        clock = _clock(zone, day)
        if clock not in seen:
            seen.add(clock)
            common = _common(common, list(_open_by(clock, hours)))
        if not common:
            break
    return tuple(
        (_EPOCH + timedelta(seconds=start), _EPOCH + timedelta(seconds=end)) for start, end in common
    )


def _open_by(clock: tuple[tuple[int, int, int], ...], hours: Hours) -> Iterator[tuple[int, int]]:
    """What each window opens by one clock."""
    for start, end, offset in clock:
        for local_day in range((start + offset) // _DAY, (end - 1 + offset) // _DAY + 1):
            local_date = date(1970, 1, 1) + local_day * _ONE_DAY
            if any(local_date in _public_holidays(name, local_date.year) for name in hours.holidays):
                continue
            midnight = local_day * _DAY - offset
            for window in hours.windows:
                if local_date.weekday() in window.days:
                    yield max(start, midnight + window.start * 60), min(end, midnight + window.end * 60)


def _common(these: list[tuple[int, int]], those: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """What is in both, in order; stretches that touch or overlap become one."""
    common: list[tuple[int, int]] = []
    for start, end in sorted((max(a, c), min(b, d)) for a, b in these for c, d in those):
        if common and start <= common[-1][1]:
            common[-1] = common[-1][0], max(end, common[-1][1])
        elif start < end:
            common.append((start, end))
    return common


@lru_cache(maxsize=16384)
def _clock(zone: str, day: int) -> tuple[tuple[int, int, int], ...]:
    """A zone's day as pieces of one offset each: (start, end, offset)."""
    return tuple(_pieces(ZoneInfo(zone), day * _DAY, (day + 1) * _DAY))


def _pieces(zone: ZoneInfo, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Halved until the offset is the same at both ends, down to a second. No zone of the tz database (2026f)
    changes and changes back within a day, which this would not see."""
    offset = _offset(zone, start)
    if offset == _offset(zone, end - 1):
        yield start, end, offset
    else:
        middle = (start + end) // 2
        yield from _pieces(zone, start, middle)
        yield from _pieces(zone, middle, end)


def _offset(zone: ZoneInfo, at: int) -> int:
    return (datetime.fromtimestamp(at, zone).utcoffset() or _NOTHING) // timedelta(seconds=1)


# --- what zones and calendars there are --------------------------------------------------------------------


@lru_cache(maxsize=1024)
def _for_country(hours: Hours, country: str | None) -> Hours:
    """With the name of the client's calendar instead of `client`."""
    named = (country if name == CLIENT else name for name in hours.holidays)
    return replace(hours, holidays=tuple(name for name in named if name))


@lru_cache(maxsize=1024)
def _public_holidays(calendar: str, year: int) -> frozenset[date]:
    try:
        return _calendar(calendar, year)
    except NotImplementedError:  # the client's country is one that the package does not know
        return frozenset()


def _calendar(name: str, year: int | None = None) -> frozenset[date]:
    """The public holidays of a year, the days on which they are made up for too; NotImplementedError where
    none are known."""
    import holidays  # here, because it costs a tenth of a second

    country, _, part = name.partition("-")
    return frozenset(
        holidays.country_holidays(country, subdiv=part or None, years=year, categories=("public",))
    )


@lru_cache(maxsize=1)
def _known_zones() -> frozenset[str]:
    return frozenset(available_timezones())
