from __future__ import annotations

from gevent.event import Event

from freeswitch_callback.simulator import ManualClock, RealClock


def test_what_is_due_happens_in_its_order_and_at_its_time() -> None:
    clock, seen = ManualClock(now=100.0), []
    clock.after(2, lambda: seen.append(("second", clock.now())))
    clock.after(1, lambda: seen.append(("first", clock.now())))
    clock.after(1, lambda: seen.append(("entered later", clock.now())))
    clock.after(9, lambda: seen.append(("not yet", clock.now())))
    clock.advance(5)
    assert seen == [("first", 101.0), ("entered later", 101.0), ("second", 102.0)]
    assert clock.now() == 105.0


def test_what_happens_may_enter_more_within_the_same_advance() -> None:
    clock, seen = ManualClock(), []
    clock.after(1, lambda: clock.after(1, lambda: seen.append(clock.now())))
    start = clock.now()
    clock.advance(2)
    assert seen == [start + 2]


def test_a_cancelled_entry_does_not_happen() -> None:
    clock, seen = ManualClock(), []
    clock.after(1, lambda: seen.append("never")).cancel()
    clock.advance(2)
    assert seen == []


def test_a_step_goes_to_the_next_moment_at_which_something_happens_and_no_further_than_told() -> None:
    clock, seen = ManualClock(now=100.0), []
    clock.after(1, lambda: seen.append("never")).cancel()
    clock.after(2, lambda: clock.after(0, lambda: seen.append("at once")))
    clock.after(5, lambda: seen.append("later"))
    assert clock.step(until=104.0)
    assert (clock.now(), seen) == (102.0, ["at once"])
    assert not clock.step(until=104.0)
    assert (clock.now(), seen) == (104.0, ["at once"])


def test_the_real_clock_runs_an_entry_that_is_due_before_one_that_it_waits_for() -> None:
    clock, done = RealClock(), Event()
    clock.start()
    clock.after(60, lambda: None)
    clock.after(0, done.set)
    assert done.wait(5)
    clock.stop()
