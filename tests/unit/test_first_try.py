"""Several engines at a node: exactly one of them has the first try, whoever has overtaken whom."""

from __future__ import annotations

import pytest

from freeswitch_callback.engine.clock import Clock
from freeswitch_callback.engine.first_try import SOME_MORE_IN, FirstTry


class Hours(Clock):
    """A clock that stands still unless it is moved on."""

    at = 1000.0

    def monotonic(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Hours:
    return Hours()


@pytest.fixture
def second(clock: Hours) -> FirstTry:
    second = FirstTry("b", clock)
    second.lost(to=["a", "b"])
    return second


def test_who_is_alone_has_it(clock: Hours) -> None:
    alone = FirstTry("a", clock)
    assert alone.ours
    assert alone.most is None


def test_who_was_overtaken_leaves_it_to_the_other_for_a_while(clock: Hours, second: FirstTry) -> None:
    assert not second.ours
    clock.at += 10.0
    assert second.ours


def test_who_was_overtaken_rests_between_two_tries(clock: Hours, second: FirstTry) -> None:
    assert second.rest == 0.0
    second.tries()
    assert second.rest == pytest.approx(SOME_MORE_IN)
    clock.at += SOME_MORE_IN
    assert second.rest == 0.0


def test_who_has_the_first_try_does_not_rest(clock: Hours) -> None:
    alone = FirstTry("a", clock)
    alone.tries()
    assert alone.rest == 0.0


def test_an_agent_is_left_to_the_other_and_if_it_does_not_come_to_us(clock: Hours, second: FirstTry) -> None:
    free = {"1001": 5.0}
    assert 0.1 <= second.left(free)["1001"] <= 0.3
    clock.at += 0.2
    assert second.left(free | {"1002": 6.0})["1002"] >= 0.1, "each from when they became free"
    clock.at += 0.1
    assert "1001" not in second.left(free)


def test_an_agent_whom_the_other_has_had_meanwhile_is_left_to_it_anew(clock: Hours, second: FirstTry) -> None:
    second.left({"1001": 5.0})
    clock.at += 0.3
    assert second.left({"1001": 9.0}).keys() == {"1001"}


def test_who_takes_one_agent_after_the_other_will_come_to_this_one_but_not_at_any_time(
    clock: Hours, second: FirstTry
) -> None:
    """Behind sixty others who became free in the same moment."""
    free = {"1001": 5.0}
    second.left(free)
    for _ in range(9):
        clock.at += 0.1
        second.others_at_work()
        assert second.left(free)
    clock.at += 0.1
    second.others_at_work()
    assert not second.left(free)


def test_the_next_recall_is_left_to_the_other_though_the_agent_has_been_free_for_long(
    clock: Hours, second: FirstTry
) -> None:
    free = {"1001": 5.0}
    second.left(free)
    clock.at += 5.0
    assert not second.left(free)
    second.nothing_is_due()
    assert second.left(free)


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


def test_what_is_left_to_the_second_gives_it_the_first_try_in_the_end(second: FirstTry) -> None:
    for taken in range(5):
        assert second.most == 1 + taken
        assert not second.ours
        second.left_to_us()
    assert second.ours
