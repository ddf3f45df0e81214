"""Each gate between a missed call and its recall, with the time given."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freeswitch_callback.core import gates
from freeswitch_callback.core.facts import Missed, Reason
from freeswitch_callback.core.gates import (
    UNSETTLED_HOLD,
    CapRules,
    Case,
    DoNotCall,
    Gate,
    GateRules,
    Usage,
    first_shut,
    opening,
    scope_of,
    verdicts,
)
from freeswitch_callback.core.hours import ALWAYS, Hours, Window
from freeswitch_callback.core.lifecycle import State
from freeswitch_callback.core.numbers import NumberRules

NOON = datetime(2026, 11, 23, 17, 0, tzinfo=UTC)  # a Monday; noon in New York
BERLIN, MOSCOW = ZoneInfo("Europe/Berlin"), ZoneInfo("Europe/Moscow")
WEEKDAYS = Hours((Window(frozenset(range(5)), 9 * 60, 20 * 60),))
HALF_THE_WORLD = NumberRules(
    default_region="DE", allow=frozenset({"DE", "US", "RU"}), zones=(("RU", "Europe/Moscow"),)
)
RULES = GateRules(numbers=HALF_THE_WORLD, hours=WEEKDAYS, zone="America/New_York")

CALL = Missed("fs1", "u1", "+12025550100", NOON, 30, Reason.ABANDONED, queue="s@acme")
CASE = Case(
    number="+12025550100",
    reason=Reason.ABANDONED,
    timewait=30,
    queue="s@acme",
    state=State.WAITING,
    attempts=0,
    due_at=NOON - timedelta(minutes=1),
    expires_at=NOON + timedelta(days=1),
)


def ago(**length):
    return NOON - timedelta(**length)


def shut(case=CASE, rules=RULES, now=NOON):
    """The first gate that is shut, as text; None if all are open."""
    verdict = first_shut(verdicts(case, rules, now))
    return None if verdict is None else str(verdict)


# --- what a missed call opens -------------------------------------------------------------------------------


def test_a_missed_call_opens_a_recall_for_its_number_in_its_tenant():
    plan = opening(CALL, RULES, NOON)
    assert (plan.number, plan.scope, plan.queue, plan.blocked) == ("+12025550100", "acme", "s@acme", None)
    assert (plan.delay, plan.look_in) == (0, 0)


@pytest.mark.parametrize(
    ("changes", "gate"),
    [
        ({"phone": "anonymous"}, "number: withheld"),
        ({"phone": "+18765551234"}, "country: JM is not in numbers.allow"),
        ({"timewait": 2}, "short rings: gave up after 2 s, min_wait is 3 s"),
        ({"timewait": 2, "reason": Reason.CANCELLED}, "short rings: gave up after 2 s"),
        ({"queue": None}, "queue: no queue"),
        ({"timewait": 3}, None),
        *(
            ({"timewait": 0, "reason": reason}, None)
            for reason in Reason
            if reason not in (Reason.ABANDONED, Reason.CANCELLED)
        ),
    ],
)
def test_a_gate_that_stays_shut_is_named(changes, gate):
    blocked = opening(replace(CALL, **changes), RULES, NOON).blocked
    assert blocked is None if gate is None else blocked.startswith(gate)


def test_a_call_whose_last_event_is_not_in_is_left_alone_for_a_while():
    plan = opening(replace(CALL, settled=False), RULES, NOON)
    assert (plan.delay, plan.look_in) == (UNSETTLED_HOLD, UNSETTLED_HOLD)


@pytest.mark.parametrize(("queue", "scope"), [("s@acme", "acme"), ("plain", ""), (None, ""), ("a@b@c", "c")])
def test_the_scope_is_the_queues_domain(queue, scope):
    assert scope_of(queue) == scope


def test_a_call_outside_calling_hours_is_looked_at_when_they_open():
    friday_night = datetime(2026, 11, 20, 21, 0, tzinfo=BERLIN)
    plan = opening(replace(CALL, phone="+4930123456"), RULES, friday_night)
    assert friday_night + timedelta(seconds=plan.look_in) == datetime(2026, 11, 23, 9, 0, tzinfo=BERLIN)
    assert plan.delay == 0


def test_who_is_missed_on_friday_evening_has_not_expired_on_monday_morning():
    last_minute = datetime(2026, 11, 20, 19, 50, tzinfo=BERLIN)
    plan = opening(replace(CALL, phone="+4930123456"), replace(RULES, expire=3600.0), last_minute)
    expires = last_minute + timedelta(seconds=plan.expire)
    assert expires == datetime(2026, 11, 23, 9, 50, tzinfo=BERLIN)


# --- gate by gate -------------------------------------------------------------------------------------------


def test_with_every_gate_open_it_may_be_called():
    told = verdicts(CASE, RULES, NOON)
    assert all(verdict.open for verdict in told)
    recorded = [gate for gate in Gate if gate not in (Gate.SERVED, Gate.FAIRNESS, Gate.AGENT)]
    assert [verdict.gate for verdict in told] == recorded


def test_a_country_that_is_not_allowed_any_more_is_not_called_any_more():
    narrower = replace(RULES, numbers=replace(HALF_THE_WORLD, allow=frozenset({"DE"})))
    assert shut(rules=narrower) == "country: US is not in numbers.allow"


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (DoNotCall("+12025550100", "asked us to"), "do not call: +12025550100 is on the list (asked us to)"),
        (DoNotCall("+1202*"), "do not call: +1202* is on the list"),
        (
            DoNotCall("+12025550100", until=NOON + timedelta(days=1)),
            "do not call: +12025550100 is on the list until 2026-11-24 17:00 UTC",
        ),
        (DoNotCall("+12025550100", until=NOON), None),
    ],
)
def test_the_do_not_call_list(entry, told):
    assert shut(CASE._replace(entry=entry)) == told


def test_an_entry_without_an_end_shuts_for_good_and_one_with_an_end_until_then():
    assert gates.do_not_call(DoNotCall("+1"), NOON).for_good
    passing = gates.do_not_call(DoNotCall("+1", until=NOON + timedelta(hours=1)), NOON)
    assert (passing.for_good, passing.opens_at) == (False, NOON + timedelta(hours=1))


@pytest.mark.parametrize(
    ("caps", "usage", "told", "opens_at"),
    [
        (
            CapRules(per_number=2),
            Usage(number=(ago(hours=1), ago(hours=20))),
            "2 recalls to this number within 24 h",
            ago(hours=20) + timedelta(days=1),
        ),
        (CapRules(per_number=2), Usage(number=(ago(hours=1), ago(hours=24))), None, None),
        (CapRules(per_number=2), Usage(number=(ago(hours=1),)), None, None),
        (
            CapRules(per_number=2),  # three, from before the cap was lowered: the second newest has to leave
            Usage(number=(ago(hours=1), ago(hours=2), ago(hours=3))),
            "2 recalls to this number within 24 h",
            ago(hours=2) + timedelta(days=1),
        ),
        (
            CapRules(per_prefix=1, breaker=0),
            Usage(prefix=(ago(minutes=10),)),
            "1 recall to +1202555… within an hour",
            ago(minutes=10) + timedelta(hours=1),
        ),
        (
            CapRules(per_minute=1),
            Usage(everything=(ago(seconds=10),)),
            "1 recall to anybody within a minute",
            ago(seconds=10) + timedelta(minutes=1),
        ),
        (CapRules(at_once=3), Usage(queue=3), "3 recalls of s@acme up now", None),
        (CapRules(at_once=3), Usage(queue=2), None, None),
        (
            CapRules(0, 0, 0, 0, 0),
            Usage((NOON,) * 999, (NOON,) * 999, (NOON,) * 999, 999),
            None,
            None,
        ),
        (
            CapRules(per_number=1, per_minute=1),  # both are reached: the one that opens last is told
            Usage(number=(ago(seconds=5),), everything=(ago(seconds=5),)),
            "1 recall to this number within 24 h",
            ago(seconds=5) + timedelta(days=1),
        ),
    ],
)
def test_the_caps(caps, usage, told, opens_at):
    verdict = gates.caps(CASE._replace(usage=usage), caps, NOON)
    assert (verdict.open, verdict.text or None, verdict.opens_at) == (told is None, told, opens_at)


@given(st.lists(st.integers(0, 3 * 86400), min_size=1, max_size=60), st.integers(1, 5))
def test_never_more_than_the_cap_in_any_window(moments, cap):
    """Whoever asks the gate each time, at whatever moments, stays within the cap, and is told right when."""
    rules, dialled = CapRules(per_number=cap, breaker=0), []
    for moment in sorted(moments):
        now = NOON + timedelta(seconds=moment)
        case = CASE._replace(usage=Usage(number=tuple(reversed(dialled))))
        verdict = gates.caps(case, rules, now)
        if verdict.open:
            dialled.append(now)
        else:
            assert verdict.opens_at > now
            assert gates.caps(case, rules, verdict.opens_at).open
    for end in dialled:
        assert sum(end - timedelta(days=1) < at <= end for at in dialled) <= cap


def test_the_breaker_stops_the_recall_after_too_many_and_no_time_opens_it():
    rules = CapRules(breaker=2, breaker_within=600, per_prefix=0)
    two = CASE._replace(usage=Usage(prefix=(ago(minutes=1), ago(minutes=9))))
    verdict = gates.breaker(two, rules, NOON)
    assert str(verdict) == "breaker: 2 recalls to +1202555… within 600 s; opens by `breaker reset`"
    assert (verdict.opens_at, verdict.for_good) == (None, False)
    assert gates.trips(two, rules, NOON)
    one = CASE._replace(usage=Usage(prefix=(ago(minutes=1), ago(minutes=10))))
    assert gates.breaker(one, rules, NOON).open


def test_a_breaker_that_is_open_stays_so_until_it_is_reset():
    tripped = CASE._replace(tripped=ago(days=3))
    assert not gates.breaker(tripped, CapRules(), NOON).open
    two = Usage(prefix=(ago(minutes=1), ago(minutes=2)))
    assert not gates.breaker(CASE._replace(usage=two), CapRules(breaker=2), NOON).open
    reset = CASE._replace(counted_from=ago(minutes=1), usage=two)
    assert gates.breaker(reset, CapRules(breaker=2), NOON).open


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, None),
        ({"due_at": NOON}, None),
        ({"due_at": NOON + timedelta(minutes=5)}, "due: from 2026-11-23 17:05 UTC on"),
        ({"expires_at": NOON}, "due: expired at 2026-11-23 17:00 UTC"),
        ({"state": State.CLOSED}, "due: the recall is closed"),
        ({"state": State.UNKNOWN}, "due: the recall is unknown"),
    ],
)
def test_due(changes, told):
    assert shut(CASE._replace(**changes)) == told


@pytest.mark.parametrize(
    ("number", "now", "told"),
    [
        ("+4930123456", datetime(2026, 11, 23, 9, 0, tzinfo=BERLIN), None),
        (
            "+4930123456",
            datetime(2026, 11, 23, 8, 59, tzinfo=BERLIN),
            "calling hours: opens Mon 09:00 Europe/Berlin",
        ),
        (
            "+4930123456",
            datetime(2026, 11, 20, 20, 0, tzinfo=BERLIN),
            "calling hours: opens Mon 09:00 Europe/Berlin",
        ),
        ("+74951234567", datetime(2026, 11, 23, 9, 0, tzinfo=MOSCOW), None),
        ("+79161234567", datetime(2026, 11, 23, 9, 0, tzinfo=MOSCOW), None),
    ],
)
def test_calling_hours_are_the_clients(number, now, told):
    forever = {"number": number, "due_at": ago(days=30), "expires_at": NOON + timedelta(days=30)}
    assert shut(CASE._replace(**forever), now=now) == told


def test_a_number_that_may_be_in_many_time_zones_is_called_when_it_is_day_in_all_of_them():
    anywhere = replace(RULES, numbers=replace(HALF_THE_WORLD, zones=()))
    verdict = gates.calling_hours("+79161234567", anywhere, NOON)
    assert str(verdict) == (
        "calling hours: opens Tue 12:00 Asia/Almaty (open in all 16 time zones of the number)"
    )
    one_hour_is_all = [
        hour
        for hour in range(24)
        if gates.calling_hours("+79161234567", anywhere, NOON.replace(day=24, hour=hour)).open
    ]
    assert one_hour_is_all == [7]


def test_hours_that_never_open_for_a_number_shut_for_good():
    mornings = Hours((Window(frozenset(range(5)), 9 * 60, 12 * 60),))
    anywhere = replace(RULES, hours=mornings, numbers=replace(HALF_THE_WORLD, zones=()))
    plan = opening(replace(CALL, phone="+79161234567"), anywhere, NOON)
    assert plan.blocked == (
        "calling hours: never open in Asia/Almaty (open in all 16 time zones of the number)"
    )


def test_a_number_that_tells_no_time_zone_is_called_by_the_configured_one():
    house = replace(RULES, numbers=replace(HALF_THE_WORLD, zones=()), zone="Asia/Tokyo")
    assert gates.calling_hours("1001", house, NOON).text == "opens Tue 09:00 Asia/Tokyo"


def test_days_that_are_far_away_are_told_with_their_date():
    mondays = replace(RULES, hours=Hours((Window(frozenset({0}), 9 * 60, 20 * 60),)))
    tuesday = datetime(2026, 11, 24, 9, 0, tzinfo=BERLIN)
    assert gates.calling_hours("+4930123456", mondays, tuesday).text == (
        "opens Mon 2026-11-30 09:00 Europe/Berlin"
    )


def test_who_is_on_a_call_is_not_called():
    assert str(gates.served(True)) == "served: on a call or in a queue right now"
    assert gates.served(False).open


numbers_of_the_world = st.sampled_from(
    ["+12025550100", "+18085550100", "+4930123456", "+74951234567", "+79161234567", "+18765551234", "1001"]
)


@given(
    numbers_of_the_world,
    st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC)),
    st.integers(0, 23),
    st.integers(1, 24),
)
def test_never_outside_hours_and_never_a_refused_country(number, now, start, length):
    hours = Hours((Window(frozenset(range(5)), start * 60, min(24, start + length) * 60),))
    rules = replace(RULES, hours=hours)
    forever = {"due_at": datetime(2000, 1, 1, tzinfo=UTC), "expires_at": datetime(2100, 1, 1, tzinfo=UTC)}
    if shut(CASE._replace(number=number, **forever), rules, now) is None:
        assert not number.startswith("+1876")
        zones = {"+1202": "America/New_York", "+1808": "Pacific/Honolulu", "+4930": "Europe/Berlin"}
        local = now.astimezone(ZoneInfo(zones.get(number[:5], "Europe/Moscow")))
        assert local.weekday() < 5
        assert start <= local.hour < start + length


@given(st.sets(st.sampled_from([*Gate]), max_size=12))
def test_the_first_shut_gate_is_the_first_in_their_order(shut_ones):
    told = [gates.Verdict(gate, gate not in shut_ones) for gate in Gate]
    first = first_shut(told)
    assert (first.gate if first else None) == next((gate for gate in Gate if gate in shut_ones), None)


def test_always_is_always():
    rules = replace(RULES, hours=ALWAYS)
    assert gates.calling_hours("+79161234567", replace(rules, numbers=NumberRules()), NOON).open
