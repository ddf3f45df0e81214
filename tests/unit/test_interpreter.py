"""A process in which calls are made stands still neither for the collector of garbage nor for its threads."""

import gc
import sys
from collections.abc import Iterator

import gevent
import pytest

from freeswitch_callback.engine.interpreter import do_not_stand_still


@pytest.fixture(autouse=True)
def _as_python_begins() -> Iterator[None]:
    interval = sys.getswitchinterval()
    gc.unfreeze()
    sys.setswitchinterval(0.005)
    gevent.config.track_greenlet_tree = True
    yield
    sys.setswitchinterval(interval)
    gc.unfreeze()
    gevent.config.track_greenlet_tree = True


class Cycle:
    def __init__(self) -> None:
        self.itself = self


def test_what_is_there_is_not_looked_at_again() -> None:
    modules = [module for module in gc.get_objects() if module is gc]
    assert modules == [gc]
    do_not_stand_still()
    assert not any(known is gc for known in gc.get_objects())
    assert gc.get_freeze_count() > 10_000


def test_what_comes_later_is_collected() -> None:
    do_not_stand_still()
    Cycle()
    assert gc.collect() >= 1


def test_a_thread_that_has_work_gets_its_turn_soon() -> None:
    assert sys.getswitchinterval() > 0.001
    do_not_stand_still()
    assert sys.getswitchinterval() < 0.001


def test_a_greenlet_does_not_note_where_it_was_begun() -> None:
    assert gevent.spawn(int).spawning_stack
    do_not_stand_still()
    assert not gevent.spawn(int).spawning_stack
