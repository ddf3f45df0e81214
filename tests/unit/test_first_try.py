"""Several engines at a node: exactly one of them has the first try, whoever has overtaken whom."""

from __future__ import annotations

import pytest

from freeswitch_callback.engine.clock import Clock
from freeswitch_callback.engine.first_try import FirstTry


class Hours(Clock):
    """A clock that stands still unless it is moved on."""

    at = 1000.0

    def monotonic(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Hours:
    return Hours()


def test_who_is_alone_has_it(clock: Hours) -> None:
    alone = FirstTry("a", clock)
    assert alone.ours
    assert alone.head_start() == 0.0
    assert alone.most is None


def test_who_was_overtaken_leaves_it_to_the_other_for_a_while(clock: Hours) -> None:
    second = FirstTry("b", clock)
    second.lost(to=["a", "b"])
    assert not second.ours
    assert 0.1 <= second.head_start() <= 0.3
    clock.at += 0.3
    assert second.head_start() == 0.0  # whoever is left now, is left to us
    clock.at += 10.0
    assert second.ours


@pytest.mark.parametrize("others", [["a"], ["a", "c"], []])
def test_who_has_it_when_one_of_several_was_quicker(clock: Hours, others: list[str]) -> None:
    """Not known which, of a recall through the queue: then anybody may have it but us."""
    second = FirstTry("b", clock)
    second.lost(to=others)
    assert not second.ours


def test_two_who_have_overtaken_each_other_do_not_both_leave_it(clock: Hours) -> None:
    engines = {name: FirstTry(name, clock) for name in ("a", "b", "c")}
    for name, engine in engines.items():
        engine.lost(to=engines.keys() - {name})
    assert [name for name, engine in engines.items() if engine.ours] == ["a"]


def test_what_is_left_to_the_second_gives_it_the_first_try_in_the_end(clock: Hours) -> None:
    second = FirstTry("b", clock)
    second.lost(to=["a"])
    for taken in range(5):
        assert second.most == 1 + taken
        assert not second.ours
        second.left_to_us()
    assert second.ours
