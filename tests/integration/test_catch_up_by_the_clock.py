"""Whoever gave up just before an engine listened is caught up, whatever the engine's clock says and however
slowly it takes events in: what it has heard is told by FreeSWITCH's time alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import Mock

import pytest

from freeswitch_callback.core.capture import CaptureRules
from freeswitch_callback.core.facts import Missed
from freeswitch_callback.core.gates import GateRules
from freeswitch_callback.engine.catchup import CatchUp
from freeswitch_callback.engine.clock import Clock
from freeswitch_callback.errors import DatabaseUnreachable
from freeswitch_callback.ledger import Ledger
from freeswitch_callback.simulator import ManualClock, Simulator

POLL, SETTLE = 5.0, 1.0
CLIENT = "+12025550110"


class OurClock(Clock):
    """The simulator's, set to another time."""

    def __init__(self, clock: ManualClock, ahead: float) -> None:
        self._clock, self._ahead = clock, ahead

    def time(self) -> float:
        return self._clock.now() + self._ahead

    def monotonic(self) -> float:
        return self._clock.now()


class House:
    def __init__(self, ledger: Ledger, clock: ManualClock) -> None:
        self.ledger, self.clock, self.name = ledger, clock, "fs1"
        self.sim = Simulator(clock=clock, world_legs=False)
        self.sim.add_queue("support@default", extension="3000")
        self.table: list[tuple[float, str]] = []  # until when FreeSWITCH's table of channels shows whom

        self.talks = False  # who is in that table
        self.uuid = "8fe184f9-ea26-468e-b1aa-568e6819f56"

    def live(self) -> list[str]:
        return [number for until, number in self.table if self.clock.now() < until]

    def api(self, text: str) -> str:
        if text.strip().startswith("api uuid_exists"):
            return str(self.talks).lower()
        return self.sim.api(text.strip().removeprefix("api "))

    def engine(
        self, *, ahead: float = 0.0, reads: float = 0.0, raises: type[Exception] | None = None
    ) -> tuple[CatchUp, list[Missed]]:
        """One that is connected from now on, and whom it finds. `reads`: seconds that all takes which it does
        between reading the table of channels and the queues' lists. `raises`: what its first look does."""
        found: list[Missed] = []
        catchup = CatchUp(
            self,  # type: ignore[arg-type]
            self.ledger,
            record=found.append,
            behind=lambda: 0,
            capture=CaptureRules,
            numbers=lambda queue: GateRules().numbers,
            live=self.live,
            channels=lambda: {f"{self.uuid}{n}": number for n, number in enumerate(self.live())},
            heard=list,
            last_answer=lambda: 0,
            settle=POLL + SETTLE,
            clock=OurClock(self.clock, ahead),
        )
        catchup.came_up()
        shown = self.live()
        self.clock.advance(reads)
        self.table += [(self.clock.now() + 0.01, number) for number in shown]
        with pytest.raises(raises) if raises else nullcontext():
            catchup.run()
        return catchup, found

    def gives_up(self) -> None:
        call = self.sim.call(CLIENT, to="3000")
        self.clock.advance(3.0)
        call.hang_up()
        self.clock.advance(0.0)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    clock = ManualClock()
    url = f"sqlite://{tmp_path}/callback.db"
    with closing(Ledger(url, clock=lambda: datetime.fromtimestamp(clock.now(), UTC))) as ledger:
        ledger.migrate()
        yield House(ledger, clock)


@pytest.mark.parametrize("slow", [0.0, 0.7, 2.5])
@pytest.mark.parametrize("before", [0.0, 0.1, 0.9, 1.9])
def test_who_gave_up_just_before_is_found_by_an_engine_that_takes_events_in_slowly(house, before, slow):
    house.gives_up()
    house.clock.advance(before)
    catchup, found = house.engine()
    happened = house.clock.now()
    catchup.takes_in()
    house.clock.advance(slow)
    catchup.took_in(happened)
    house.clock.advance(POLL + SETTLE)
    catchup.run()
    assert [missed.phone for missed in found] == [CLIENT]


@pytest.mark.parametrize("reads", [0.0, 2.7])
@pytest.mark.parametrize("past_the_second", [0.0, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("before", [0.0, 0.1, 0.5])
def test_who_gave_up_just_before_is_found_though_the_table_of_channels_shows_them(
    house, before, past_the_second, reads
):
    """FreeSWITCH writes that table behind its events."""
    now = house.clock.now()
    house.clock.advance(int(now) + 1 + past_the_second - now)
    house.gives_up()
    house.table.append((house.clock.now() + 0.6, CLIENT))
    house.clock.advance(before)
    catchup, found = house.engine(reads=reads)
    house.clock.advance(POLL + SETTLE)
    catchup.run()
    assert [missed.phone for missed in found] == [CLIENT]


def test_a_channel_whose_uuid_fits_in_no_command_stops_nobody(house):
    """A dialplan can give any: such a caller is taken for one who talks, as the table says."""
    house.gives_up()
    house.table.append((house.clock.now() + 60.0, CLIENT))
    house.uuid = "spoken to; uuid_kill"
    catchup, found = house.engine()
    house.clock.advance(POLL + SETTLE)
    catchup.run()
    assert found == []


@pytest.mark.parametrize("before", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_who_talks_when_the_connection_is_lost_again_is_not_taken_for_one_who_gave_up(house, before):
    house.gives_up()  # so the queue's list says of those who were picked up, too
    house.clock.advance(before)
    house.table.append((house.clock.now() + 3.0, CLIENT))
    house.talks = True
    catchup, found = house.engine()
    house.clock.advance(4.0)
    catchup.came_up()
    catchup.run()
    house.clock.advance(POLL + SETTLE)
    catchup.run()
    assert found == []


def test_who_calls_twice_at_once_may_wait_with_one_and_talk_with_the_other(house):
    house.gives_up()
    house.sim.call(CLIENT, to="3000")
    house.clock.advance(0.5)
    house.table += [(house.clock.now() + 3.0, CLIENT)] * 2
    house.talks = True
    house.engine()
    house.clock.advance(4.0)
    catchup, found = house.engine()
    house.clock.advance(POLL + SETTLE)
    catchup.run()
    assert found == []


@pytest.mark.parametrize("looks", [1, 2])
@pytest.mark.parametrize("before", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_who_talks_when_the_engine_ends_at_once_is_not_taken_by_the_next_for_one_who_gave_up(
    house, before, looks
):
    house.gives_up()  # as above
    house.clock.advance(before)
    house.table.append((house.clock.now() + 3.0, CLIENT))
    house.talks = True
    for _ in range(looks):
        catchup, _ = house.engine()
        catchup.finish()
        house.clock.advance(0.4)
    house.clock.advance(4.0)
    catchup, found = house.engine()
    house.clock.advance(POLL + SETTLE)
    catchup.run()
    assert found == []


def test_who_talked_when_an_engine_ended_at_once_and_gives_up_later_is_found(house):
    house.table.append((house.clock.now() + 8.0, CLIENT))
    house.talks = True
    house.gives_up()
    house.engine()
    house.clock.advance(6.0)
    house.talks = False
    house.gives_up()
    house.clock.advance(1.0)
    catchup, found = house.engine()
    house.clock.advance(POLL + SETTLE)
    catchup.run()
    assert [missed.phone for missed in found] == [CLIENT]


def test_who_was_on_the_line_is_on_record_though_the_database_was_away_for_a_moment(house, monkeypatch):
    house.gives_up()
    house.table.append((house.clock.now() + 3.0, CLIENT))
    house.talks = True
    note = house.ledger.note_on_the_line
    away = DatabaseUnreachable("gone")
    monkeypatch.setattr(house.ledger, "note_on_the_line", Mock(side_effect=away))
    catchup, _ = house.engine(raises=DatabaseUnreachable)
    house.clock.advance(4.0)
    monkeypatch.setattr(house.ledger, "note_on_the_line", note)
    catchup.run()
    catchup, found = house.engine()
    house.clock.advance(POLL + SETTLE)
    catchup.run()
    assert found == []


@pytest.mark.parametrize("ahead", [-90.0, -30.0, 0.0, 30.0, 90.0])
def test_who_gave_up_after_an_engine_had_gone_is_found_by_the_next_whatever_their_clocks_say(house, ahead):
    first, _ = house.engine(ahead=ahead)
    house.clock.advance(POLL + SETTLE)
    first.run()
    house.clock.advance(60.0)
    first.run()
    first.finish()
    house.gives_up()
    _, found = second = house.engine(ahead=-ahead)
    house.clock.advance(POLL + SETTLE)
    second[0].run()
    assert [missed.phone for missed in found] == [CLIENT]


def test_who_gave_up_while_an_engine_listened_is_the_events_business(house):
    first, _ = house.engine()
    house.clock.advance(POLL + SETTLE)
    first.run()
    house.gives_up()
    house.clock.advance(60.0)
    first.run()
    second, found = house.engine()
    house.clock.advance(POLL + SETTLE)
    second.run()
    assert found == []
