"""Work is done by greenlets that wait for it."""

from __future__ import annotations

import gevent
import pytest
from gevent.event import Event as Flag

from freeswitch_callback.engine.crew import Crew


@pytest.fixture
def at_work() -> list[gevent.Greenlet]:
    """Who did the work, one entry for each."""
    return []


def test_who_has_done_its_work_does_the_next(at_work: list[gevent.Greenlet]) -> None:
    crew = Crew(10)

    for _ in range(3):
        crew.spawn(lambda: at_work.append(gevent.getcurrent()))
        gevent.idle()

    assert len(at_work) == 3
    assert len(set(at_work)) == 1


def test_work_that_waits_holds_up_no_other(at_work: list[gevent.Greenlet]) -> None:
    crew, go_on = Crew(10), Flag()

    for _ in range(3):
        crew.spawn(lambda: (at_work.append(gevent.getcurrent()), go_on.wait()))
    gevent.idle()

    assert len(set(at_work)) == 3
    assert crew.free_count() == 7
    go_on.set()
    gevent.idle()
    assert crew.free_count() == 10


def test_with_as_many_at_work_as_may_be_the_next_waits_for_one_to_end() -> None:
    crew, go_on, told = Crew(1), Flag(), []
    crew.spawn(lambda: (go_on.wait(), told.append("first")))
    gevent.idle()

    second = gevent.spawn(crew.spawn, told.append, "second")
    gevent.idle()
    assert not second.ready()

    go_on.set()
    second.join()
    gevent.idle()
    assert told == ["first", "second"]


def test_an_error_shows_itself_and_costs_no_place(
    at_work: list[gevent.Greenlet], monkeypatch: pytest.MonkeyPatch
) -> None:
    crew, shown = Crew(2), []
    monkeypatch.setattr(gevent.get_hub(), "handle_error", lambda *error: shown.append(error[1]))

    def fail() -> None:
        at_work.append(gevent.getcurrent())
        raise ZeroDivisionError

    for work in (fail, fail, lambda: at_work.append(gevent.getcurrent())):
        crew.spawn(work)
        gevent.idle()

    assert shown == [ZeroDivisionError, ZeroDivisionError]
    assert len(set(at_work)) == 3  # who has failed waits for nothing more
    assert crew.free_count() == 2


def test_of_many_only_some_wait_for_more(at_work: list[gevent.Greenlet]) -> None:
    crew, go_on = Crew(10, idle=2), Flag()
    for _ in range(5):
        crew.spawn(lambda: (at_work.append(gevent.getcurrent()), go_on.wait()))
    gevent.idle()

    go_on.set()
    gevent.idle()

    assert sum(not greenlet.dead for greenlet in at_work) == 2


def test_one_that_was_ended_while_it_waited_is_given_nothing(at_work: list[gevent.Greenlet]) -> None:
    crew = Crew(10)
    crew.spawn(lambda: at_work.append(gevent.getcurrent()))
    gevent.idle()
    at_work[0].kill()

    crew.spawn(lambda: at_work.append(gevent.getcurrent()))
    gevent.idle()

    assert len(set(at_work)) == 2
