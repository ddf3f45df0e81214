"""Many at once: greenlets, engines, processes."""

import subprocess
import sys
from contextlib import closing

import gevent
import pytest
from gevent.event import Event
from gevent.pool import Group

from freeswitch_callback.core.facts import Claim, ClosedAs
from freeswitch_callback.core.gates import CapRules
from freeswitch_callback.ledger import Filter, Ledger
from tests.integration.ledger.given import (
    ANNA,
    NOON,
    RETRY,
    STEPS,
    by_caps,
    claim,
    claimed,
    dialling,
    judged,
    missed,
    opening,
    waiting,
)


def together(*works):
    """Runs all at the same time; their results, or the first error."""
    greenlets = [gevent.spawn(work) for work in works]
    gevent.joinall(greenlets, timeout=30, raise_error=True)
    return [greenlet.get(block=False) for greenlet in greenlets]


def test_eight_greenlets_of_two_engines_claim_200_recalls_each_once(ledger: Ledger, other_ledger: Ledger):
    for number in range(200):
        waiting(ledger, f"+49{number:04}")
    taken = []

    def engine(own: Ledger, name: str) -> None:
        while due := own.due(None, 8):
            for recall in due:
                if held := claim(own, recall.id, engine=name):
                    taken.append(held)

    works = Group()
    for own, name in ((ledger, "engine-1"), (other_ledger, "engine-2")) * 4:
        works.spawn(engine, own, name)
    works.join(timeout=30, raise_error=True)
    assert len(taken) == len({held.recall for held in taken}) == 200
    assert len(ledger.reservations()) == 200


def test_two_engines_that_want_one_agent_do_not_both_get_them(ledger: Ledger, other_ledger: Ledger):
    for turn in range(20):
        recalls = [waiting(ledger, f"+1{turn}").recall_id, waiting(ledger, f"+2{turn}").recall_id]
        got = together(
            lambda r=recalls[0]: claim(ledger, r, agent="1001"),
            lambda r=recalls[1]: claim(other_ledger, r, agent="1001", engine="engine-2"),
        )
        assert sorted(held is not None for held in got) == [False, True]
        assert sum(ledger.abort(held, released=True) for held in got if held is not None) == 1


def test_two_engines_that_record_the_same_call_write_one_row(ledger: Ledger, other_ledger: Ledger):
    for number in range(20):
        call, ask = missed(), opening(f"+49{number}")
        first, second = together(
            lambda c=call, a=ask: ledger.record(c, a), lambda c=call, a=ask: other_ledger.record(c, a)
        )
        assert (first.missed_id, first.recall_id) == (second.missed_id, second.recall_id)
        assert sorted((first.new, second.new)) == [False, True]
    assert ledger.count(Filter()) == 20


def test_many_calls_of_one_number_at_once_open_one_recall(ledger: Ledger, other_ledger: Ledger):
    told = together(*(lambda own=own: own.record(missed(), opening()) for own in (ledger, other_ledger) * 8))
    assert len({recorded.missed_id for recorded in told}) == 16
    assert len({recorded.recall_id for recorded in told}) == 1
    assert ledger.summary().by_state == {"waiting": 1}


def test_completing_and_retracting_at_once_leaves_all_of_it_or_nothing(ledger: Ledger, other_ledger: Ledger):
    for number in range(10):
        call = missed(settled=False)
        ledger.record(call, opening(f"+1{number}"))
        done = missed(call_uuid=call.call_uuid)
        together(
            lambda d=done, n=number: ledger.record(d, opening(f"+2{n}")),
            lambda c=call: other_ledger.retract("fs1", c.call_uuid),
        )
    assert sum(ledger.summary().by_state.values()) == ledger.count(Filter())


def test_claiming_and_closing_at_once_never_do_both(ledger: Ledger, other_ledger: Ledger):
    for number in range(10):
        recorded = waiting(ledger, f"+1{number}")
        held, closed = together(
            lambda r=recorded: claim(ledger, r.recall_id),
            lambda n=number: other_ledger.close_served(f"+1{n}", "default", ClosedAs.SERVED_INBOUND, "fs1"),
        )
        assert (held is not None) != bool(closed)


def test_adopting_and_settling_at_once_give_one_result(ledger: Ledger, other_ledger: Ledger):
    for number in range(10):
        lost = dialling(ledger, f"+1{number}", lease=-1.0)
        settled, adopted = together(
            lambda c=lost: ledger.settle(c, RETRY, NOON),
            lambda c=lost: other_ledger.adopt(c, "engine-2", 30.0),
        )
        assert settled != (adopted is not None)


def test_two_replays_at_once_open_one_recall(ledger: Ledger, other_ledger: Ledger):
    for _ in range(3):
        waiting(ledger)
        ledger.close_recalls(Filter(), "admin", ClosedAs.CANCELLED)
    together(lambda: ledger.replay(Filter(), "a", 99.0), lambda: other_ledger.replay(Filter(), "b", 99.0))
    assert ledger.summary().by_state == {"waiting": 1}
    assert ledger.count(Filter(state="waiting")) == 3


@pytest.mark.parametrize(
    ("caps", "numbers"),
    [
        (CapRules(0, 3, 0, 0, 0), [f"+4930{number:06}" for number in range(16)]),
        (CapRules(0, 0, 3, 0, 0), [f"+49{number}00000000" for number in range(16)]),
        (CapRules(0, 0, 0, 3, 0), [f"+49{number}00000000" for number in range(16)]),
        (CapRules(0, 0, 0, 0, 3), [f"+4930{number:06}" for number in range(16)]),
        (CapRules(3, 0, 0, 0, 0), [ANNA] * 16),
    ],
    ids=["per_prefix", "at_once", "per_minute", "breaker", "per_number"],
)
def test_engines_that_claim_at_once_do_not_exceed_a_cap_together(
    ledger: Ledger, other_ledger: Ledger, caps: CapRules, numbers: list[str]
):
    told = [waiting(ledger, number, scope=f"tenant {n}") for n, number in enumerate(numbers)]
    got = together(
        *(
            lambda own=own, r=recorded: judged(own, r.recall_id, **by_caps(caps))
            for own, recorded in zip((ledger, other_ledger) * 8, told, strict=True)
        )
    )
    assert [isinstance(held, Claim) for held in got].count(True) == 3
    assert len(ledger.held()) == 3
    assert [breaker.recalls for breaker in ledger.breakers()] == ([3] if caps.breaker else [])


def test_a_greenlet_that_is_killed_while_it_writes_leaves_the_ledger_usable(ledger: Ledger):
    started = Event()

    def work() -> None:
        started.set()
        waiting(ledger)

    for _ in range(20):
        started.clear()
        greenlet = gevent.spawn(work)
        assert started.wait(5)
        greenlet.kill()
        assert isinstance(greenlet.value, gevent.GreenletExit)
    assert waiting(ledger, "+2").new
    assert claimed(ledger, "+3")


PROCESS = """
from gevent import monkey; monkey.patch_all()
import sys
from freeswitch_callback.ledger import Ledger
ledger = Ledger(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
print(ledger.migrate())
ledger.verify()
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite://{tmp_path}/new.db"
    postgres = request.getfixturevalue("postgres_server")
    return postgres.url(postgres.create())


def test_processes_that_migrate_at_once_take_each_step_once(empty_url: str):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, empty_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [process.communicate(timeout=30) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], told
    assert sorted(out for out, _ in told) == [f"{STEPS}\n", "[]\n", "[]\n"]


def test_greenlets_that_migrate_at_once_take_each_step_once(empty_url: str):
    ledgers = [Ledger(empty_url) for _ in range(8)]
    assert sorted(together(*(own.migrate for own in ledgers))) == [[]] * 7 + [STEPS]
    for own in ledgers:
        own.close()


def test_the_first_users_of_a_new_file_do_not_meet(tmp_path):
    for turn in range(10):
        ledgers = [Ledger(f"sqlite://{tmp_path}/{turn}.db") for _ in range(8)]
        assert sum(map(len, together(*(own.migrate for own in ledgers)))) == len(STEPS)
        for own in ledgers:
            own.close()


def test_a_closed_ledger_opens_again(ledger_url: str):
    with closing(Ledger(ledger_url)) as opened:
        waiting(opened, ANNA)
        opened.close()
        assert opened.count(Filter()) == 1
