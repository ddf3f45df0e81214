"""How often somebody may try."""

from __future__ import annotations

from freeswitch_callback.web.throttle import Throttle


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_after_so_many_tries_one_has_to_wait():
    time = Time()
    throttle = Throttle(3, within=60.0, clock=time)
    assert [throttle.take("a") for _ in range(3)] == [0.0] * 3
    time.now += 10
    assert throttle.take("a") == 50.0
    assert throttle.take("b") == 0.0, "another one does not"
    time.now += 50
    assert [throttle.take("a") for _ in range(3)] == [0.0] * 3
    assert throttle.take("a") == 60.0


def test_who_is_made_to_wait_does_not_wait_longer_for_asking():
    time = Time()
    throttle = Throttle(1, within=60.0, clock=time)
    throttle.take("a")
    for _ in range(59):
        time.now += 1
        assert throttle.take("a") > 0
    time.now += 1
    assert throttle.take("a") == 0.0


def test_what_was_right_does_not_count():
    throttle = Throttle(2, within=60.0, clock=Time())
    for _ in range(10):
        assert throttle.take("a") == 0.0
        throttle.forgive("a")
    throttle.forgive("nobody")


def test_a_million_keys_cost_no_more_than_some():
    throttle = Throttle(1, within=60.0, keys=100)
    for number in range(10_000):
        throttle.take(str(number))
    assert len(throttle) == 100
