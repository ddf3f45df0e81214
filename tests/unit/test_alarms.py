"""Alarms by name, and loops that say when they will be heard of next."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from freeswitch_callback.engine.alarms import Alarms, Name
from freeswitch_callback.engine.clock import Clock
from freeswitch_callback.engine.loops import Loops


class ByHand(Clock):
    def __init__(self) -> None:
        self.at = 1000.0

    def monotonic(self) -> float:
        return self.at

    def time(self) -> float:
        return 1_800_000_000 + self.at


@pytest.fixture
def clock() -> ByHand:
    return ByHand()


def test_an_alarm_is_told_when_it_is_raised_and_when_it_is_cleared_and_not_in_between(clock):
    alarms = Alarms(clock)
    with capture_logs() as said:
        for times in range(3):
            alarms.raise_(Name.DATABASE_AWAY, "db", f"no route, {times}")
        [alarm] = alarms.active()
        alarms.clear(Name.DATABASE_AWAY, "db")
        alarms.clear(Name.DATABASE_AWAY, "db")
    assert said == [
        {
            "event": "alarm_raised",
            "log_level": "error",
            "alarm": "database_away",
            "where": "db",
            "text": "no route, 0",
        },
        {"event": "alarm_cleared", "log_level": "info", "alarm": "database_away", "where": "db"},
    ]
    assert (alarm.text, alarm.since, alarms.active()) == ("no route, 2", clock.now(), [])


def test_the_same_alarm_about_two_things_is_two_alarms(clock):
    alarms = Alarms(clock)
    alarms.raise_(Name.FREESWITCH_AWAY, "fs2", "refused")
    clock.at += 1
    alarms.raise_(Name.FREESWITCH_AWAY, "fs1", "refused")
    assert [alarm.where for alarm in alarms.active()] == ["fs2", "fs1"], "the oldest first"
    alarms.clear(Name.FREESWITCH_AWAY, "fs2")
    assert [alarm.where for alarm in alarms.active()] == ["fs1"]


def test_what_is_not_among_those_of_its_name_any_more_is_cleared(clock):
    alarms = Alarms(clock)
    alarms.raise_(Name.SPOOLING, "fs1", "1 fact")
    alarms.only(Name.BREAKER_OPEN, {"+4930": "50 recalls", "+1202": "9 recalls"})
    alarms.only(Name.BREAKER_OPEN, {"+1202": "9 recalls"})
    assert {(a.name, a.where) for a in alarms.active()} == {
        (Name.SPOOLING, "fs1"),
        (Name.BREAKER_OPEN, "+1202"),
    }


def test_a_loop_is_overdue_once_it_took_longer_than_it_said(clock):
    loops = Loops(clock)
    loop = loops.add("recalls")
    clock.at += 1e6
    assert loops.overdue(0.0) == {}, "it has not begun"
    loop.turns(5.0)
    clock.at += 5.0
    assert loops.overdue(0.0) == {}
    clock.at += 1.0
    assert loops.overdue(0.0) == {"recalls": 6.0}
    loop.turns(5.0)
    assert loops.overdue(0.0) == {}


def test_a_loop_that_rests_may_rest_for_ever(clock):
    loops = Loops(clock)
    loop = loops.add("spool")
    loop.turns(5.0)
    loop.rests()
    clock.at += 1e6
    assert loops.overdue(0.0) == {}


def test_a_loop_that_waits_for_what_was_tried_in_vain_just_now_is_alive(clock):
    loops = Loops(clock)
    loops.add("recalls").turns(5.0)
    clock.at += 100.0
    assert loops.overdue(clock.at - 4.0) == {}
    assert loops.overdue(clock.at - 6.0) == {"recalls": 6.0}


def test_a_loop_that_is_not_vital_is_named_and_ends_nobody(clock):
    loops = Loops(clock)
    loops.add("CDRs", vital=False).turns(5.0)
    clock.at += 6.0
    assert loops.overdue(0.0) == {"CDRs": 6.0}
    assert loops.alive(0.0)
    loops.add("recalls").turns(5.0)
    clock.at += 6.0
    assert not loops.alive(0.0)


def test_what_is_watched_rests_between_its_runs_however_they_end(clock):
    loops = Loops(clock)
    loop = loops.add("events")
    overdue = []

    def handle(seconds: float) -> None:
        clock.at += seconds
        overdue.append(loops.overdue(0.0))
        raise ValueError

    watched = loop.watched(handle, 5.0)
    for seconds in (1.0, 6.0):
        with pytest.raises(ValueError):
            watched(seconds)
        clock.at += 1e6
        assert loops.overdue(0.0) == {}
    assert overdue == [{}, {"events": 6.0}]
