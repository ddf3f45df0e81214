"""When clients may be called, by the clock on their own wall."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

import holidays
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freeswitch_callback.core.hours import (
    ALWAYS,
    Hours,
    Window,
    after,
    check_calendar,
    known_zone,
    longest_day,
    opens,
)

# the package does not know every country's holidays for every year: both sides then have none
pytestmark = pytest.mark.filterwarnings("ignore:Requested Holidays are available only:UserWarning")

DAILY = range(7)
MON, TUE, WED, THU, FRI, SAT, SUN = DAILY
HOUR = 3600.0
DAY = 24 * HOUR


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def window(begin: str, end: str, days: Sequence[int] = DAILY) -> Window:
    minutes = [int(clock[:2]) * 60 + int(clock[3:]) for clock in (begin, end)]
    return Window(frozenset(days), *minutes)


def hours(begin: str, end: str, days: Sequence[int] = DAILY, closed: tuple[str, ...] = ()) -> Hours:
    return Hours((window(begin, end, days),), closed)


OFFICE = hours("09:00", "20:00", range(5))
BERLIN, NEW_YORK, HAVANA, BEIRUT, CAIRO, APIA, LORD_HOWE = (
    ("Europe/Berlin",),
    ("America/New_York",),
    ("America/Havana",),
    ("Asia/Beirut",),
    ("Africa/Cairo",),
    ("Pacific/Apia",),
    ("Australia/Lord_Howe",),
)


# --- ordinary weeks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "offset"),
    [
        ("Europe/Berlin", "+01:00"),
        ("America/New_York", "-05:00"),
        ("Asia/Kolkata", "+05:30"),
        ("Asia/Kathmandu", "+05:45"),
        ("Australia/Lord_Howe", "+11:00"),
        ("Pacific/Kiritimati", "+14:00"),
        ("Pacific/Pago_Pago", "-11:00"),
    ],
)
@pytest.mark.parametrize(
    ("now", "open_at"),
    [
        ("2026-11-20T08:59:59", "2026-11-20T09:00:00"),
        ("2026-11-20T09:00:00", "2026-11-20T09:00:00"),
        ("2026-11-20T19:59:59.999999", "2026-11-20T19:59:59.999999"),
        ("2026-11-20T20:00:00", "2026-11-23T09:00:00"),  # Friday evening: on Monday
        ("2026-11-22T12:00:00", "2026-11-23T09:00:00"),
        ("2026-11-23T20:00:00.000001", "2026-11-24T09:00:00"),
    ],
)
def test_office_hours_are_those_of_the_wall_clock_where_the_client_is(zone, offset, now, open_at):
    assert opens(OFFICE, (zone,), None, at(now + offset)) == at(open_at + offset)


def test_times_are_told_in_utc_whatever_zone_now_came_in():
    now = at("2026-11-20T12:00+01:00")
    assert opens(OFFICE, BERLIN, None, now).tzinfo is UTC
    assert opens(ALWAYS, BERLIN, None, now).tzinfo is UTC
    assert after(OFFICE, BERLIN, None, now.astimezone(ZoneInfo("Europe/Berlin")), 60).tzinfo is UTC
    assert after(ALWAYS, BERLIN, None, at("2026-03-28T12:00+01:00"), DAY) == at("2026-03-29T12:00+01:00")


def test_lunch_is_kept_and_windows_that_touch_or_overlap_are_one():
    lunch = Hours((window("09:00", "12:00"), window("13:00", "18:00")))
    assert opens(lunch, BERLIN, None, at("2026-11-20T12:00+01:00")) == at("2026-11-20T13:00+01:00")
    overlapping = Hours((window("14:00", "18:00"), window("09:00", "12:00"), window("11:00", "14:00")))
    assert opens(overlapping, BERLIN, None, at("2026-11-20T12:00+01:00")) == at("2026-11-20T12:00+01:00")
    assert after(overlapping, BERLIN, None, at("2026-11-20T08:00+01:00"), 9 * HOUR) == at(
        "2026-11-20T18:00+01:00"
    )


def test_a_night_is_two_windows():
    night = Hours((window("22:00", "24:00", [FRI]), window("00:00", "06:00", [SAT])))
    assert opens(night, BERLIN, None, at("2026-11-20T12:00+01:00")) == at("2026-11-20T22:00+01:00")
    assert after(night, BERLIN, None, at("2026-11-20T12:00+01:00"), 8 * HOUR) == at("2026-11-21T06:00+01:00")
    assert opens(night, BERLIN, None, at("2026-11-21T06:00+01:00")) == at("2026-11-27T22:00+01:00")


def test_always_is_now_and_so_is_every_day_around_the_clock():
    now = at("2026-03-28T23:59:59.5+00:00")
    for around_the_clock in (ALWAYS, hours("00:00", "24:00"), hours("00:00", "24:00", closed=("FI",))):
        assert opens(around_the_clock, BERLIN, "DE", now) == now
        assert after(around_the_clock, BERLIN, "DE", now, 3 * DAY + 0.25) == now + timedelta(
            days=3, seconds=0.25
        )


# --- daylight saving time ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zones", "daily", "now", "open_at"),
    [
        # in Berlin 2026-03-29 has no hour from 02:00 to 03:00
        (BERLIN, ("02:00", "03:00"), "2026-03-29T01:30+01:00", "2026-03-30T02:00+02:00"),
        (BERLIN, ("02:10", "02:20"), "2026-03-28T12:00+01:00", "2026-03-30T02:10+02:00"),
        (BERLIN, ("02:30", "05:00"), "2026-03-29T01:59+01:00", "2026-03-29T03:00+02:00"),
        (BERLIN, ("01:00", "02:30"), "2026-03-29T01:59+01:00", "2026-03-29T01:59+01:00"),
        (BERLIN, ("01:00", "02:30"), "2026-03-29T03:00+02:00", "2026-03-30T01:00+02:00"),
        (BERLIN, ("03:00", "04:00"), "2026-03-29T01:59+01:00", "2026-03-29T03:00+02:00"),
        # and on 2026-10-25 it comes twice
        (BERLIN, ("02:30", "02:45"), "2026-10-25T01:00+02:00", "2026-10-25T02:30+02:00"),
        (BERLIN, ("02:30", "02:45"), "2026-10-25T02:45+02:00", "2026-10-25T02:30+01:00"),
        (BERLIN, ("02:30", "02:45"), "2026-10-25T02:45+01:00", "2026-10-26T02:30+01:00"),
        (BERLIN, ("01:00", "02:30"), "2026-10-25T02:30+02:00", "2026-10-25T02:00+01:00"),
        (BERLIN, ("02:30", "04:00"), "2026-10-25T02:00+01:00", "2026-10-25T02:30+01:00"),
        (BERLIN, ("03:00", "04:00"), "2026-10-25T02:59+02:00", "2026-10-25T03:00+01:00"),
        # New York: from 02:00 to 03:00 on 2026-03-08, from 01:00 to 02:00 on 2026-11-01
        (NEW_YORK, ("02:00", "03:00"), "2026-03-08T01:30-05:00", "2026-03-09T02:00-04:00"),
        (NEW_YORK, ("02:30", "05:00"), "2026-03-08T01:30-05:00", "2026-03-08T03:00-04:00"),
        (NEW_YORK, ("01:00", "02:30"), "2026-03-08T03:00-04:00", "2026-03-09T01:00-04:00"),
        (NEW_YORK, ("01:30", "01:45"), "2026-11-01T01:45-04:00", "2026-11-01T01:30-05:00"),
        (NEW_YORK, ("00:30", "01:30"), "2026-11-01T01:30-04:00", "2026-11-01T01:00-05:00"),
        # half an hour is skipped and repeated on Lord Howe Island
        (LORD_HOWE, ("02:00", "02:30"), "2026-10-04T01:00+10:30", "2026-10-05T02:00+11:00"),
        (LORD_HOWE, ("01:40", "01:50"), "2026-04-05T01:50+11:00", "2026-04-05T01:40+10:30"),
        # the first hour of a day is skipped, or comes twice (2025: Cuba kept its summer time in 2026)
        (HAVANA, ("00:00", "01:00"), "2026-03-07T12:00-05:00", "2026-03-09T00:00-04:00"),
        (HAVANA, ("00:30", "02:00"), "2026-03-07T12:00-05:00", "2026-03-08T01:00-04:00"),
        (HAVANA, ("00:00", "00:30"), "2025-11-02T00:30-04:00", "2025-11-02T00:00-05:00"),
        (BEIRUT, ("00:00", "01:00"), "2026-03-28T12:00+02:00", "2026-03-30T00:00+03:00"),
        (CAIRO, ("00:00", "01:00"), "2026-04-23T12:00+02:00", "2026-04-25T00:00+03:00"),
        # or the last one, which comes twice
        (BEIRUT, ("23:00", "23:30"), "2026-10-24T23:30+03:00", "2026-10-24T23:00+02:00"),
        (CAIRO, ("23:00", "23:30"), "2026-10-29T23:30+03:00", "2026-10-29T23:00+02:00"),
    ],
)
def test_an_hour_that_is_skipped_opens_nothing_and_one_that_is_repeated_opens_twice(
    zones, daily, now, open_at
):
    assert opens(hours(*daily), zones, None, at(now)) == at(open_at)


@pytest.mark.parametrize(
    ("zones", "week", "now", "open_for", "over"),
    [
        (BERLIN, ("02:30", "05:00", [SUN]), "2026-03-28T12:00+01:00", 2, "2026-03-29T05:00+02:00"),
        (BERLIN, ("01:00", "02:30", [SUN]), "2026-03-28T12:00+01:00", 1, "2026-03-29T03:00+02:00"),
        (BERLIN, ("00:00", "24:00", [SUN]), "2026-03-28T12:00+01:00", 23, "2026-03-30T00:00+02:00"),
        (BERLIN, ("02:00", "03:00", [SUN]), "2026-10-24T12:00+02:00", 2, "2026-10-25T03:00+01:00"),
        (BERLIN, ("00:00", "24:00", [SUN]), "2026-10-24T12:00+02:00", 25, "2026-10-26T00:00+01:00"),
        (NEW_YORK, ("00:00", "24:00", [SUN]), "2026-03-07T12:00-05:00", 23, "2026-03-09T00:00-04:00"),
        (NEW_YORK, ("01:00", "02:00", [SUN]), "2026-10-31T12:00-04:00", 2, "2026-11-01T02:00-05:00"),
        (LORD_HOWE, ("01:30", "02:00", [SUN]), "2026-04-04T12:00+11:00", 1, "2026-04-05T02:00+10:30"),
        (HAVANA, ("00:00", "24:00", [SUN]), "2026-03-07T12:00-05:00", 23, "2026-03-09T00:00-04:00"),
        (HAVANA, ("00:00", "01:00", [SUN]), "2025-11-01T12:00-04:00", 2, "2025-11-02T01:00-05:00"),
        (BEIRUT, ("23:00", "24:00", [SAT]), "2026-10-24T12:00+03:00", 2, "2026-10-25T00:00+02:00"),
        (CAIRO, ("00:00", "24:00", [THU]), "2026-10-28T12:00+03:00", 25, "2026-10-30T00:00+02:00"),
    ],
)
def test_a_day_with_a_change_of_the_clock_is_as_long_as_it_is(zones, week, now, open_for, over):
    open_on = hours(*week)
    assert after(open_on, zones, None, at(now), open_for * HOUR) == at(over)
    assert after(open_on, zones, None, at(now), open_for * HOUR + 1) > at(over) + timedelta(days=5)


def test_a_day_that_the_date_line_swallowed_opens_nothing():
    """Samoa went from Thursday 2011-12-29 to Saturday the 31st."""
    thursday = at("2011-12-29T12:00-10:00")
    assert opens(hours("00:00", "24:00", [FRI]), APIA, None, thursday) == at("2012-01-06T00:00+14:00")
    assert opens(hours("00:00", "24:00", [SAT]), APIA, None, thursday) == at("2011-12-31T00:00+14:00")
    both = hours("12:00", "24:00", [THU, SAT])
    assert after(both, APIA, None, thursday, 13 * HOUR) == at("2011-12-31T13:00+14:00")


# --- several zones -----------------------------------------------------------------------------------------


def test_a_number_that_may_be_in_several_zones_is_called_when_all_are_open():
    coasts = ("America/New_York", "America/Chicago", "America/Los_Angeles")
    for zones in (coasts, coasts[::-1], coasts * 2):
        assert opens(OFFICE, zones, None, at("2026-11-23T08:00-05:00")) == at("2026-11-23T12:00-05:00")
        assert opens(OFFICE, zones, None, at("2026-11-20T20:00-05:00")) == at("2026-11-23T12:00-05:00")
        assert longest_day(OFFICE, zones, None, at("2026-11-20T20:00-05:00")) == 8 * HOUR


def test_weekends_of_all_zones_are_kept():
    """When it is Monday morning in Auckland, it is Sunday in Honolulu."""
    zones = ("Pacific/Auckland", "Pacific/Honolulu")
    around_the_clock = hours("00:00", "24:00", range(5))
    monday = at("2026-11-23T09:00+13:00")
    assert opens(around_the_clock, zones, None, monday) == at("2026-11-23T00:00-10:00")
    assert opens(around_the_clock, zones, None, at("2026-11-27T23:00+13:00")) == at("2026-11-27T23:00+13:00")
    assert opens(around_the_clock, zones, None, at("2026-11-28T00:00+13:00")) == at("2026-11-30T00:00-10:00")


def test_zones_that_are_never_open_together_never_open():
    mornings, zones = hours("09:00", "12:00"), ("Europe/Berlin", "America/Los_Angeles")
    now = at("2026-11-20T10:00+01:00")
    assert opens(mornings, zones, None, now) is None
    assert after(mornings, zones, None, now, DAY) == now + timedelta(days=1)
    assert longest_day(mornings, zones, None, now) == 0


def test_without_windows_or_with_an_empty_one_it_never_opens():
    now = at("2026-11-20T10:00+01:00")
    for never in (Hours(()), Hours((Window(frozenset(), 0, 1440),)), hours("09:00", "09:00")):
        assert opens(never, BERLIN, None, now) is None
        assert after(never, BERLIN, None, now, 500 * DAY) == now + timedelta(days=500)


def test_nobody_whose_zone_is_not_known_is_called():
    assert opens(OFFICE, (), None, at("2026-11-20T10:00+01:00")) is None


# --- public holidays ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("closed", "country", "now", "open_at"),
    [
        (("client",), "DE", "2026-12-24T20:00+01:00", "2026-12-27T09:00+01:00"),
        (("client",), "US", "2026-12-24T20:00+01:00", "2026-12-26T09:00+01:00"),
        (("client",), None, "2026-12-24T20:00+01:00", "2026-12-25T09:00+01:00"),
        (("client",), "AC", "2026-12-24T20:00+01:00", "2026-12-25T09:00+01:00"),  # not known to the package
        (("client",), "001", "2026-12-24T20:00+01:00", "2026-12-25T09:00+01:00"),
        ((), "DE", "2026-12-24T20:00+01:00", "2026-12-25T09:00+01:00"),
        (("DE",), "US", "2026-12-24T20:00+01:00", "2026-12-27T09:00+01:00"),
        (
            ("DE",),
            "DE",
            "2027-01-06T08:00+01:00",
            "2027-01-06T09:00+01:00",
        ),  # Epiphany: not in all of Germany
        (("DE-BY",), "DE", "2027-01-06T08:00+01:00", "2027-01-07T09:00+01:00"),
        (("client", "DE-BY"), None, "2027-01-06T08:00+01:00", "2027-01-07T09:00+01:00"),
        (("client", "DE-BY"), "US", "2026-11-26T08:00+01:00", "2026-11-27T09:00+01:00"),  # Thanksgiving
        (("client",), "US", "2026-07-03T08:00+02:00", "2026-07-05T09:00+02:00"),  # the 4th, on a Saturday
    ],
)
def test_public_holidays_are_shut(closed, country, now, open_at):
    assert opens(hours("09:00", "20:00", closed=closed), BERLIN, country, at(now)) == at(open_at)


def test_a_holiday_is_the_clients_own_date_not_that_of_utc():
    open_on = hours("00:00", "24:00", closed=("client",))
    zone = ("America/Los_Angeles",)
    eve, new_year = at("2026-12-31T23:59-08:00"), at("2027-01-01T00:00-08:00")
    assert opens(open_on, zone, "US", eve) == eve
    assert opens(open_on, zone, "US", new_year) == at("2027-01-02T00:00-08:00")
    assert after(open_on, zone, "US", eve, 120) == at("2027-01-02T00:01-08:00")
    both = (*zone, "America/New_York")
    assert opens(open_on, both, "US", at("2027-01-01T00:00-05:00")) == at("2027-01-02T00:00-08:00")


@pytest.mark.parametrize("name", ["client", "DE", "DE-BY", "US", "GB-SCT"])
def test_calendars_that_exist_are_accepted(name):
    check_calendar(name)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("DE-XX", "no public holidays are known for 'DE-XX': .*DE.* does not have subdivision XX"),
        ("ZZ", "no public holidays are known for 'ZZ'"),
        ("germany", '"client", a country \\("DE"\\) or a part of one'),
        ("HolidayBase", "is no calendar"),
        ("NYSE", "is no calendar"),
        ("DE-", "is no calendar"),
        ("", "is no calendar"),
    ],
)
def test_a_calendar_that_does_not_exist_is_refused_with_what_to_write(name, why):
    with pytest.raises(ValueError, match=why):
        check_calendar(name)


# --- open time that passes ---------------------------------------------------------------------------------


def test_only_open_time_passes():
    friday = at("2026-11-20T19:00+01:00")
    assert after(OFFICE, BERLIN, None, friday, 0) == friday
    assert after(OFFICE, BERLIN, None, friday, 0.5) == friday + timedelta(seconds=0.5)
    assert after(OFFICE, BERLIN, None, friday, HOUR) == at("2026-11-20T20:00+01:00")
    assert after(OFFICE, BERLIN, None, friday, 2 * HOUR) == at("2026-11-23T10:00+01:00")
    assert after(OFFICE, BERLIN, None, friday + timedelta(hours=3), DAY) == at("2026-11-25T11:00+01:00")
    assert after(OFFICE, BERLIN, None, friday, -60) == friday - timedelta(minutes=1)


def test_what_takes_too_long_ends_after_400_days():
    now = at("2026-11-20T19:00+01:00")
    a_minute_a_week = hours("09:00", "09:01", [MON])
    assert after(a_minute_a_week, BERLIN, None, now, 57 * 60) == at("2027-12-20T09:01+01:00")
    assert after(a_minute_a_week, BERLIN, None, now, DAY) == now + timedelta(days=400)
    assert after(hours("20:00", "21:00", [SAT]), BERLIN, None, now, 57.5 * HOUR) == now + timedelta(days=400)
    assert after(OFFICE, BERLIN, None, now, 365 * DAY) == now + timedelta(days=400)
    assert after(OFFICE, BERLIN, None, now, 500 * DAY) == now + timedelta(days=500)


@pytest.mark.parametrize(
    ("open_on", "zones", "best"),
    [
        (OFFICE, BERLIN, 11),
        (ALWAYS, BERLIN, 24),
        (hours("10:00", "14:30", [SUN]), BERLIN, 4.5),
        (Hours((window("00:00", "06:00"), window("22:00", "24:00"))), NEW_YORK, 8),
        (Hours((window("09:00", "20:00", range(5)), window("10:00", "14:00", [SAT]))), NEW_YORK, 11),
        (OFFICE, ("America/New_York", "Pacific/Honolulu"), 6),
        (OFFICE, ("America/Halifax", "Pacific/Guam"), 1),
    ],
)
def test_the_longest_day_of_a_week(open_on, zones, best):
    assert longest_day(open_on, zones, None, at("2026-11-20T19:00+00:00")) == best * HOUR


def test_the_longest_day_does_not_depend_on_christmas():
    only_fridays = hours("09:00", "20:00", [FRI], closed=("client", "DE"))
    assert longest_day(only_fridays, BERLIN, "DE", at("2026-12-24T12:00+01:00")) == 11 * HOUR


def test_zones_are_known_by_their_exact_names():
    assert known_zone("Europe/Berlin")
    assert known_zone("Asia/Calcutta")
    for name in (
        "",
        "Etc/Unknown",
        "Europe",
        "europe/berlin",
        "../etc/passwd",
        "/etc/localtime",
        "a\0b",
        "x" * 999,
    ):
        assert not known_zone(name)
    with pytest.raises(ZoneInfoNotFoundError):
        opens(OFFICE, ("Etc/Unknown",), None, at("2026-11-20T19:00+00:00"))


# --- never outside the hours, in any zone, on any date -----------------------------------------------------


@cache
def _public_holidays(calendar: str, year: int) -> frozenset:
    country, _, part = calendar.partition("-")
    if country not in {"DE", "US", "IN"}:
        return frozenset()
    return frozenset(holidays.country_holidays(country, subdiv=part or None, years=year))


def _open(open_on: Hours, zones: tuple[str, ...], country: str | None, now: datetime) -> bool:
    """The same question, asked by looking at each wall clock and calendar."""
    for zone in zones:
        wall = now.astimezone(ZoneInfo(zone))
        minute = wall.hour * 60 + wall.minute
        if not any(wall.weekday() in w.days and w.start <= minute < w.end for w in open_on.windows):
            return False
        calendars = [country if name == "client" else name for name in open_on.holidays]
        if any(name and wall.date() in _public_holidays(name, wall.year) for name in calendars):
            return False
    return True


@cache
def _changes(zone: str, year: int) -> tuple[datetime, ...]:
    """The days of a year in which the offset changes."""
    days = [datetime(year, 1, 1, tzinfo=UTC) + timedelta(days=n) for n in range(365)]
    offsets = [day.astimezone(ZoneInfo(zone)).utcoffset() for day in days]
    return tuple(day for day, this, that in zip(days, offsets, offsets[1:], strict=False) if this != that)


@st.composite
def _moments(draw: st.DrawFn, zone: str) -> datetime:
    """Any minute, every other time around a change of the clock."""
    year = draw(st.integers(1990, 2060))
    changes = _changes(zone, year)
    if changes and draw(st.booleans()):
        return draw(st.sampled_from(changes)) + timedelta(minutes=draw(st.integers(-600, 2040)))
    return datetime(year, 1, 1, tzinfo=UTC) + timedelta(minutes=draw(st.integers(0, 365 * 1440)))


_ZONES = st.one_of(
    st.sampled_from(sorted(available_timezones())),
    st.sampled_from(sorted({*BERLIN, *NEW_YORK, *HAVANA, *BEIRUT, *CAIRO, *APIA, *LORD_HOWE})),
)
_WINDOWS = st.builds(
    lambda days, start, length: Window(frozenset(days), start, min(start + length, 1440)),
    st.sets(st.sampled_from(DAILY), min_size=1),
    st.integers(0, 1439) | st.sampled_from([0, 60, 120, 1380]),
    st.integers(1, 1440),
)
_HOURS = st.builds(
    Hours,
    st.lists(_WINDOWS, min_size=1, max_size=3).map(tuple),
    st.sampled_from([(), (), ("client",), ("DE-BY",), ("client", "DE")]),
)


@st.composite
def _questions(draw: st.DrawFn) -> tuple[Hours, tuple[str, ...], str | None, datetime]:
    zones = tuple(draw(st.lists(_ZONES, min_size=1, max_size=3)))
    country = draw(st.sampled_from([None, "DE", "US", "IN", "AC"]))
    return draw(_HOURS), zones, country, draw(_moments(zones[0]))


@settings(deadline=None, max_examples=300)
@given(_questions(), st.integers(0, 59_999_999))
def test_it_is_open_exactly_when_every_wall_clock_says_so(question, microseconds):
    open_on, zones, country, now = question
    for minutes in range(0, 1800, 11):
        moment = now + timedelta(minutes=minutes, microseconds=microseconds)
        assert (opens(open_on, zones, country, moment) == moment) is _open(open_on, zones, country, moment)


@settings(deadline=None, max_examples=150)
@given(_questions())
def test_when_it_opens_it_is_open_and_it_was_not_before(question):
    open_on, zones, country, now = question
    opening = opens(open_on, zones, country, now)
    until = min(opening or now + timedelta(days=400), now + timedelta(days=9))
    if opening is not None:
        assert opening >= now
        assert _open(open_on, zones, country, opening)
        assert opening == now or not _open(open_on, zones, country, opening - timedelta(seconds=1))
    for minutes in range(0, int((until - now) / timedelta(minutes=1)), 7):
        assert not _open(open_on, zones, country, now + timedelta(minutes=minutes))


@settings(deadline=None, max_examples=150)
@given(_questions(), st.integers(1, 600))
def test_the_open_minutes_that_pass_are_those_that_the_wall_clocks_count(question, minutes):
    open_on, zones, country, now = question
    over = after(open_on, zones, country, now, minutes * 60)
    if opens(open_on, zones, country, now) is None:
        assert over == now + timedelta(minutes=minutes)
        return
    passing = [
        now + timedelta(minutes=n) for n in range(min(int((over - now) / timedelta(minutes=1)), 10_000))
    ]
    counted = sum(_open(open_on, zones, country, moment) for moment in passing)
    if len(passing) < 10_000:
        assert counted == minutes
        assert _open(open_on, zones, country, over - timedelta(minutes=1))
    else:
        assert counted <= minutes
