"""What comes next in each queue is known before an agent is free, and forgotten when it may be wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from math import inf

import gevent
import pytest
from gevent.event import Event as Flag

from freeswitch_callback.core.facts import Due, Reason
from freeswitch_callback.engine.clock import Clock
from freeswitch_callback.engine.line import Line
from freeswitch_callback.engine.loops import Loop
from freeswitch_callback.errors import DatabaseUnreachable
from freeswitch_callback.ledger.recalls import Ahead

POLL = 5.0
SUPPORT, SALES = "support@default", "sales@default"
NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


class StandsStill(Clock):
    """Moved by hand; whoever waits is woken by a flag only."""

    def __init__(self) -> None:
        self.at = 1000.0

    def monotonic(self) -> float:
        return self.at

    def wait(self, flag: Flag, seconds: float | None = None) -> bool:
        return bool(flag.wait())

    def sleep(self, seconds: float) -> None:
        gevent.sleep(0)


class Record:
    """A ledger with these lines; `meanwhile` happens while it is read, when its answer is settled."""

    def __init__(self, **lines: list[Due]) -> None:
        self.lines = {f"{queue}@default": line for queue, line in lines.items()}
        self.good_for = inf
        self.asked: list[tuple[str, int]] = []
        self.meanwhile: Callable[[], object] = lambda: None
        self.away = False

    def ahead(self, queue: str, limit: int) -> Ahead:
        if self.away:
            raise DatabaseUnreachable("away")
        self.asked.append((queue, limit))
        answer = list(self.lines.get(queue, []))[:limit]
        self.meanwhile()
        return Ahead(answer, self.good_for)


class Read:
    """A line that is kept, its record and its clock; what was prepared."""

    def __init__(self, record: Record) -> None:
        self.record, self.clock = record, StandsStill()
        self.prepared: list[int] = []
        self.line = Line(
            record,  # type: ignore[arg-type]
            lambda: POLL,
            lambda recall: self.prepared.append(recall.id),
            lambda: None,
            self.clock,
        )

    def next(self, *queues: str, limit: int = 100) -> list[int]:
        return [recall.id for recall in self.line.first(queues or (SUPPORT,), limit)]

    def until(self, true: Callable[[], object]) -> None:
        with gevent.Timeout(5.0):
            while not true():
                gevent.sleep(0)

    def at_rest(self) -> None:
        """Whatever was to be read is."""
        for _ in range(20):
            gevent.sleep(0)

    def take(self, id_: int) -> Due:
        taken = next(r for line in self.record.lines.values() for r in line if r.id == id_)
        self.line.taken(taken)
        return taken


@contextmanager
def kept(**lines: list[Due]) -> Iterator[Read]:
    read = Read(Record(**lines))
    stopping = Flag()
    keeper = gevent.spawn(read.line.keep, stopping, Loop(read.clock), 60.0)
    try:
        yield read
    finally:
        stopping.set()
        read.line.sent()
        keeper.get(timeout=5)


def recall(id_: int, queue: str = SUPPORT, priority: int = 0) -> Due:
    """The one with the smaller id has been due for longer."""
    since = NOON + timedelta(seconds=id_)
    return Due(
        id=id_, number=f"+1202555{id_:04}", scope="default", queue=queue, priority=priority, attempts=0,
        failures=0, due_at=since, missed_id=id_, timewait=30, reason=Reason.ABANDONED, called_at=since,
        open_since=since,
    )  # fmt: skip


@pytest.fixture
def support() -> Iterator[Read]:
    """Five wait, and are known."""
    with kept(support=[recall(id_) for id_ in range(1, 6)]) as read:
        read.line.wanted({SUPPORT})
        read.until(read.next)
        read.at_rest()
        read.record.asked.clear()
        yield read


def test_nothing_is_known_of_a_queue_that_nobody_became_free_for() -> None:
    with kept(support=[recall(1)]) as read:
        read.at_rest()
        assert (read.next(), read.record.asked) == ([], [])


def test_what_was_read_is_told_without_asking_and_the_first_are_prepared(support: Read) -> None:
    assert support.next() == [1, 2, 3, 4, 5]
    assert support.next(limit=2) == [1, 2]
    assert (support.record.asked, support.prepared) == ([], [1, 2, 3])


def test_what_is_taken_comes_no_second_time_and_the_next_is_prepared(support: Read) -> None:
    support.take(1)
    support.line.sent()
    support.at_rest()
    assert support.next() == [2, 3, 4, 5]
    assert support.prepared == [1, 2, 3, 4]


def test_what_is_taken_while_it_is_read_again_does_not_come_back(support: Read) -> None:
    support.record.meanwhile = lambda: support.take(2)
    support.take(1)
    support.line.changed(SUPPORT)
    support.until(support.next)
    assert support.next() == [3, 4, 5]


def test_it_comes_back_when_it_waits_again_and_not_when_it_is_closed(support: Read) -> None:
    first, second = support.take(1), support.take(2)
    support.line.is_over(first, closed=True)
    support.at_rest()
    assert support.next() == [3, 4, 5]
    support.record.lines[SUPPORT].remove(first)
    support.line.is_over(second, closed=False)
    support.until(lambda: support.next() == [2, 3, 4, 5])


def test_a_change_in_a_queue_is_read(support: Read) -> None:
    support.record.lines[SUPPORT].insert(0, recall(9, priority=3))
    support.line.changed(SUPPORT)
    assert support.next() == []
    support.until(lambda: support.next() == [9, 1, 2, 3, 4, 5])


def test_a_change_while_it_is_read_is_not_overlooked(support: Read) -> None:
    more_urgent = recall(9, priority=3)

    def one_more() -> None:
        support.record.meanwhile = lambda: None
        support.record.lines[SUPPORT].insert(0, more_urgent)
        support.line.changed(SUPPORT)

    support.record.meanwhile = one_more
    support.line.changed(SUPPORT)
    support.until(support.next)
    assert support.next()[0] == 9


def test_a_recall_that_changed_is_found_in_whatever_queue_it_stands() -> None:
    with kept(support=[recall(1)], sales=[recall(2, SALES)]) as read:
        read.line.wanted({SUPPORT, SALES})
        read.until(lambda: read.next(SUPPORT) and read.next(SALES))
        read.record.away = True
        read.line.changed(SUPPORT, 2)
        assert (read.next(SUPPORT), read.next(SALES)) == ([], [])


def test_of_several_queues_the_most_urgent_first_as_far_as_all_are_known() -> None:
    support, sales = [recall(1), recall(5)], [recall(2, SALES), recall(3, SALES), recall(9, SALES)]
    with kept(support=support, sales=sales) as read:
        read.line.wanted({SUPPORT, SALES})
        read.until(lambda: read.next(SUPPORT, SALES))
        assert read.next(SUPPORT, SALES) == [1, 2, 3, 5]  # behind 5 another of support may be, before 9
        assert read.next(SUPPORT, "unknown@default") == []


def test_a_queue_in_which_nobody_waits_does_not_hide_the_others() -> None:
    with kept(support=[], sales=[recall(2, SALES)]) as read:
        read.line.wanted({SUPPORT, SALES})
        read.until(lambda: read.next(SUPPORT, SALES) == [2])


def test_it_is_known_for_one_poll(support: Read) -> None:
    support.clock.at += POLL - 0.1
    assert support.next() == [1, 2, 3, 4, 5]
    support.clock.at += 0.2
    assert support.next() == []
    support.line.sent()
    support.until(support.next)


def test_and_until_something_comes_due_before_it(support: Read) -> None:
    support.record.good_for = 2.0
    support.line.changed(SUPPORT)
    support.until(support.next)
    support.clock.at += 2.0
    assert support.next() == []


def test_before_a_long_line_is_used_up_the_next_are_read_and_twice_as_many_if_it_was() -> None:
    with kept(support=[recall(id_) for id_ in range(1, 200)]) as read:
        read.line.wanted({SUPPORT})
        read.until(read.next)
        for id_ in range(1, 14):
            read.record.lines[SUPPORT].remove(read.take(id_))
        read.line.sent()
        read.until(lambda: len(read.next()) > 3)
        assert read.next()[0] == 14
        for id_ in range(14, 30):
            read.record.lines[SUPPORT].remove(read.take(id_))
        assert read.next() == []
        read.line.sent()
        read.until(read.next)
        assert [limit for _, limit in read.record.asked] == [16, 16, 32]


def test_a_database_that_is_away_is_asked_again(support: Read) -> None:
    support.record.away = True
    support.line.changed()
    support.at_rest()
    assert support.next() == []
    support.record.away = False
    support.line.sent()
    support.until(support.next)


def test_a_queue_that_nobody_became_free_for_in_a_while_is_kept_no_longer(support: Read) -> None:
    support.clock.at += 61.0
    support.line.sent()
    support.at_rest()
    assert (support.next(), support.record.asked) == ([], [])
