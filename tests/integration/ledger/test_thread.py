"""What greenlets ask of a native thread."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import gevent
import pytest
from gevent import monkey

from freeswitch_callback.ledger.thread import Thread

Lock = monkey.get_original("threading", "Lock")
ident = monkey.get_original("threading", "get_ident")


@pytest.fixture
def thread() -> Iterator[Thread]:
    thread = Thread()
    yield thread
    thread.end()


@contextmanager
def busy(thread: Thread) -> Iterator[gevent.Greenlet]:
    """It does not come to an end with its work before this does."""
    until = Lock()
    until.acquire()
    working = gevent.spawn(thread.run, until.acquire)
    gevent.sleep(0)
    try:
        yield working
    finally:
        until.release()


def test_all_is_done_by_one_thread_that_is_not_ours(thread: Thread) -> None:
    [there] = {thread.run(ident) for _ in range(5)}
    assert there != ident()


def test_others_go_on_meanwhile_and_all_is_done_in_the_order_of_asking(thread: Thread) -> None:
    done: list[int] = []
    with busy(thread) as working:
        asked = [gevent.spawn(thread.run, lambda number=number: done.append(number)) for number in range(50)]
        gevent.sleep(0)
        assert not working.ready()
    gevent.joinall(asked, raise_error=True)
    assert done == list(range(50))


def test_what_it_raises_is_raised_to_whoever_asked(thread: Thread) -> None:
    with pytest.raises(ZeroDivisionError):
        thread.run(lambda: 1 // 0)
    with pytest.raises(SystemExit):
        thread.run(sys.exit)
    assert thread.run(lambda: 1) == 1


def test_who_gives_up_waiting_hears_nothing_more_and_it_is_done_all_the_same(thread: Thread) -> None:
    done: list[str] = []
    with busy(thread):
        impatient = gevent.spawn(thread.run, lambda: done.append("it"))
        gevent.sleep(0)
        impatient.kill()
        assert done == []
    assert thread.run(lambda: list(done)) == ["it"]


def test_it_ends_behind_what_was_asked_and_begins_anew(thread: Thread) -> None:
    first = thread.run(ident)
    with busy(thread) as working:
        thread.end()
        assert not working.ready()
        assert thread.run(ident) != first
    assert working.get()


def test_it_ends_when_nobody_can_ask_any_more() -> None:
    thread = Thread()
    native = thread.run(ident)
    del thread
    with gevent.Timeout(10.0):
        while native in sys._current_frames():
            gevent.sleep(0.001)


def test_a_program_that_waits_for_nothing_else_waits_for_it() -> None:
    """Without a greenlet, a timer or a socket beside it, gevent's hub would say that nobody ever comes."""
    program = "import time; from freeswitch_callback.ledger.thread import Thread; "
    program += "print(Thread().run(lambda: time.sleep(0.1) or 'done'))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == ("done\n", "")
