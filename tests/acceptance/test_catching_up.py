"""Callers who gave up while no engine listened are missed calls all the same, once; and nobody else is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from freeswitch_callback.core.facts import Mode
from freeswitch_callback.errors import DatabaseUnreachable
from freeswitch_callback.ledger import Ledger
from freeswitch_callback.simulator import Answers, Call, Simulator
from tests.acceptance.conftest import CLIENT, SUPPORT, House

OTHERS = [f"+120255502{n}" for n in range(10, 15)]
SECOND, RESUMES = "second@default", "resumes@default"
AGENT = "1001@default"


@pytest.fixture
def house(house: House, sim: Simulator) -> House:
    house.poll = 0.1
    sim.add_queue(SECOND, extension="3300")
    sim.add_tier(SECOND, "1002@default")
    sim.add_queue("first@default", extension="3200", exit_keys="9", then=(("callcenter", SECOND),))
    sim.add_queue(RESUMES, extension="3100", abandoned_resume_allowed=True)
    return house


@pytest.fixture
def caught_up(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The nodes that were caught up, one entry each time."""
    done: list[str] = []
    note = Ledger.note_heard

    def noted(self: Ledger, node: str, *args: object) -> None:
        note(self, node, *args)  # type: ignore[arg-type]
        done.append(node)

    monkeypatch.setattr(Ledger, "note_heard", noted)
    return done


class Callers:
    """People who call while nobody listens."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.sim = house.sim

    def waits(self, number: str = CLIENT, to: str = "3000") -> Call:
        call = self.sim.call(number, to=to, hangs_up_after_talk=None)
        assert self.sim.wait_for(lambda: self.house.waits(call))
        return call

    def gives_up(self, number: str = CLIENT, to: str = "3000") -> Call:
        call = self.waits(number, to)
        self.hangs_up(call)
        return call

    def hangs_up(self, call: Call) -> None:
        call.hang_up()
        assert self.sim.wait_for(lambda: call.uuid not in self.sim.switch.channels)

    def talks(self, call: Call) -> Call:
        assert self.sim.wait_for(lambda: call.talking)
        return call


@pytest.fixture
def callers(house: House) -> Callers:
    return Callers(house)


@pytest.fixture
def catch_up(house: House, caught_up: list[str]) -> Callable[[], None]:
    """Start an engine, and wait until it has caught up."""

    def start() -> None:
        caught_up.clear()
        house.engine()
        house.until(lambda: caught_up)

    return start


def restarted(house: House) -> None:
    """An engine that has listened, and does not any more."""
    house.stop(house.engine())


def test_who_gave_up_while_the_engine_was_away_is_on_record_and_called_back(house, callers, catch_up):
    restarted(house)
    for number in [CLIENT, *OTHERS]:
        callers.gives_up(number)
    catch_up()
    rows = house.rows()
    assert sorted(row["phone"] for row in rows) == sorted([CLIENT, *OTHERS])
    assert {(row["reason"], row["queue"], row["state"]) for row in rows} == {
        ("abandoned", SUPPORT, "waiting")
    }
    house.sim.default_client(Answers(after=0.02, talks=0.1))
    house.free()
    house.until(lambda: all(row["closed_as"] == "recalled" for row in house.rows()))
    assert sorted(call.number for call in house.sim.dialled) == sorted([CLIENT, *OTHERS])


def test_who_waited_when_the_connection_was_lost_and_gave_up_before_it_was_back_is_on_record(house, callers):
    house.engine()
    call = callers.waits()
    house.sim.refuse_connections()
    house.sim.cut_connections()
    callers.hangs_up(call)
    house.sim.refuse_connections(False)
    assert house.row()["phone"] == CLIENT


def test_every_engine_that_starts_finds_the_same_calls_and_they_are_there_once(house, callers, caught_up):
    for number in [CLIENT, *OTHERS]:
        callers.gives_up(number)
    first, second = house.engine(), house.engine()
    house.until(lambda: len(caught_up) >= 2)
    house.stop(first)
    house.stop(second)
    caught_up.clear()
    house.engine()
    house.until(lambda: caught_up)
    assert sorted(row["phone"] for row in house.rows()) == sorted([CLIENT, *OTHERS])


def test_what_another_engine_heard_is_not_told_again(house, callers, catch_up):
    house.engine()
    callers.gives_up()
    house.row()
    picked_up = callers.waits(OTHERS[0])
    picked_up.intercept("agent1002")
    callers.hangs_up(callers.talks(picked_up))
    catch_up()
    assert [row["phone"] for row in house.rows()] == [CLIENT]


def test_who_came_back_and_talks_or_waits_is_not_on_record(house, callers, catch_up):
    restarted(house)
    for number in (CLIENT, OTHERS[0], OTHERS[1]):
        callers.gives_up(number, to="3100")
    house.sim.add_tier(RESUMES, AGENT)
    house.free(AGENT)
    callers.talks(house.sim.call(CLIENT, to="3100", hangs_up_after_talk=None))
    callers.waits(OTHERS[0], to="3100")
    catch_up()
    assert [row["phone"] for row in house.rows()] == [OTHERS[1]]


def test_who_came_back_and_gave_up_again_is_one_client_and_told_by_the_second_call(house, callers, catch_up):
    restarted(house)
    callers.gives_up(to="3100")
    callers.gives_up(to="3100")
    catch_up()
    [row] = house.rows()
    assert (row["phone"], row["queue"]) == (CLIENT, RESUMES)


def test_of_two_callers_without_a_number_who_share_a_member_none_is_told_who_talks(house, callers, catch_up):
    restarted(house)
    callers.gives_up("anonymous", to="3100")
    house.sim.add_tier(RESUMES, AGENT)
    house.free(AGENT)
    callers.talks(house.sim.call("anonymous", to="3100", hangs_up_after_talk=None))
    catch_up()
    assert house.rows() == []


def moved_on(house: House, callers: Callers, number: str = CLIENT) -> Call:
    """Out of the first queue, into the second."""
    call = callers.waits(number, to="3200")
    call.press("9")
    second = house.sim.callcenter.queues[SECOND]
    members = house.sim.callcenter.members
    assert house.sim.wait_for(lambda: any(m.queue is second and m.cid_number == number for m in members))
    return call


def test_who_talks_in_the_next_queue_is_not_on_record(house, callers, catch_up):
    restarted(house)
    call = moved_on(house, callers)
    house.free("1002@default")
    callers.talks(call)
    catch_up()
    assert house.rows() == []


def test_who_gave_up_in_the_next_queue_is_on_record_once(house, callers, catch_up):
    restarted(house)
    callers.hangs_up(moved_on(house, callers))
    catch_up()
    [row] = house.rows()
    assert (row["phone"], row["queue"]) == (CLIENT, SECOND)


def test_who_timed_out_and_was_answered_in_the_next_queue_is_not_on_record(house, callers, catch_up):
    """The talk is over, and the row in the next queue gone with it."""
    house.sim.callcenter.queues["first@default"].max_wait_time = 1
    restarted(house)
    house.free("1002@default")
    call = house.sim.call(CLIENT, to="3200", hangs_up_after_talk=None)
    callers.hangs_up(callers.talks(call))
    house.sim.set_status("1002@default", "Logged Out")
    catch_up()
    assert house.rows() == []


def test_who_was_picked_up_and_talks_is_not_on_record(house, callers, catch_up):
    restarted(house)
    call = callers.waits()
    call.intercept("agent1002")
    callers.talks(call)
    catch_up()
    assert house.rows() == []
    callers.hangs_up(call)
    house.gave_up(OTHERS[0])  # events are taken in one after the other
    assert [row["phone"] for row in house.rows()] == [OTHERS[0]]


def test_who_was_picked_up_and_hung_up_as_the_engine_came_back_is_not_on_record(house, callers, caught_up):
    restarted(house)
    call = callers.waits()
    call.intercept("agent1002")
    callers.talks(call)
    caught_up.clear()
    house.engine()
    callers.hangs_up(call)
    house.until(lambda: caught_up)
    assert house.rows() == []


def test_a_recall_of_ours_through_the_queue_is_no_missed_call(house, callers, catch_up):
    """The client whom we called waited for an agent, and gave up."""
    house.sim.client(CLIENT, Answers(after=0.02))
    house.missed()
    engine = house.engine(mode=Mode.QUEUE)
    house.sim.set_behaviour(AGENT, Answers(after=60))
    house.free(AGENT)
    house.row(state="dialling")
    assert house.sim.wait_for(lambda: any(m.cid_number == CLIENT for m in house.sim.callcenter.members))
    house.stop(engine)
    house.hang_up_the_recall()
    assert house.sim.wait_for(lambda: house.sim.live_calls(CLIENT) == 0)
    house.sim.set_status(AGENT, "Logged Out")
    catch_up()
    assert len(house.rows()) == 1


def test_while_the_database_is_away_the_rows_are_kept_though_freeswitch_forgets_them(
    house, callers, caught_up, monkeypatch
):
    callers.gives_up()
    asked = []
    on_record = Ledger.on_record

    def away(self, *args):
        asked.append(args)
        if len(asked) < 3:
            house.sim.callcenter.members.clear()
            raise DatabaseUnreachable("the database is away")
        return on_record(self, *args)

    monkeypatch.setattr(Ledger, "on_record", away)
    house.engine()
    house.until(lambda: caught_up)
    assert [row["phone"] for row in house.rows()] == [CLIENT]


def test_a_call_that_events_told_late_and_the_catch_up_before_is_there_once(house, callers, catch_up):
    """As by an engine whose database was away."""
    restarted(house)
    call = callers.gives_up()
    catch_up()
    [found] = house.rows()
    house.missed(call_uuid=call.uuid, member_uuid=found["member_uuid"], calldate=found["calldate"])
    [row] = house.rows()
    assert (row["id"], row["call_uuid"]) == (found["id"], call.uuid)
