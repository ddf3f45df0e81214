"""Times as people write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

from freeswitch_callback.errors import UsageError


class _Local(tzinfo):
    """This machine's time zone, right before and after each change of its clocks."""

    def fromutc(self, at: datetime) -> datetime:
        return at.replace(tzinfo=UTC).astimezone().replace(tzinfo=self)

    def utcoffset(self, at: datetime | None) -> timedelta | None:
        return at.replace(tzinfo=None).astimezone().utcoffset() if at is not None else None

    def tzname(self, at: datetime | None) -> str | None:
        return at.replace(tzinfo=None).astimezone().tzname() if at is not None else None

    def dst(self, at: datetime | None) -> timedelta | None:
        return None


LOCAL = _Local()

_FURTHEST = timedelta(days=36525)


def midnight(now: datetime) -> datetime:
    """When this day began here, in UTC."""
    return now.astimezone(LOCAL).replace(hour=0, minute=0, second=0, microsecond=0).astimezone(UTC)


def moment(text: str, now: datetime) -> datetime:
    """A point in time as people write it: a date or time (local without a zone), or an age like `2h`."""
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        return ago(text, now)
    try:
        return (given if given.tzinfo else given.astimezone()).astimezone(UTC)
    except (OverflowError, ValueError):
        raise UsageError(f"not a time that there is: {text!r}") from None


def ago(text: str, now: datetime) -> datetime:
    """The point in time an age (`12h`, `30d`) before now."""
    try:
        return now - age(text)
    except OverflowError:
        raise UsageError(f"that is before the beginning of time: {text!r}") from None


def age(text: str) -> timedelta:
    """A length of time: `90s`, `15m`, `12h`, `30d`, `8w`."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
    try:
        return timedelta(seconds=float(text[:-1]) * units[text[-1:]])
    except (KeyError, ValueError, OverflowError):
        raise UsageError(
            f"not a time: {text!r}; write 2026-11-23, 2026-11-23T08:00, or an age like 12h or 30d"
        ) from None


def ahead(text: str, now: datetime) -> datetime:
    """A point in time to come: a date or time (local without a zone), or a length of time from now (`2h`)."""
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return later(text, now)
    if (at := moment(text, now)) <= now:
        raise UsageError(f"that is over already: {text!r}; name a time to come, or a length of time like 2h")
    return at


def later(text: str, now: datetime) -> datetime:
    """The point in time a length of time (`2h`, `30d`) after now."""
    length = age(text)
    try:
        if length > timedelta(0):
            return now + length
    except OverflowError:
        pass
    raise UsageError(f"not a time to come: {text!r}; write a length of time like 2h or 30d")


def due(until: str | None, length: str | None, now: datetime, what: str) -> datetime:
    """The point in time to come that is `until`, or a `length` of time from now: one of both is given.
    Otherwise `what` is said."""
    if until is not None and length is None:
        at = ahead(until, now)
    elif length is not None and until is None:
        at = later(length, now)
    else:
        raise UsageError(what)
    if at - now > _FURTHEST:
        raise UsageError(f"that is too far ahead: {until or length!r}; a hundred years at most")
    return at
