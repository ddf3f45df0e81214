"""How much may be dialled: what was dialled lately, as the gates see it, and the breakers."""

from datetime import timedelta

import pytest

from freeswitch_callback.core.facts import Claim, ClosedAs, Outcome, Reason, Settlement
from freeswitch_callback.core.gates import CapRules, Case, Gate, Verdict
from freeswitch_callback.core.lifecycle import State
from freeswitch_callback.ledger import Breaker, Filter, Ledger
from tests.integration.ledger.given import (
    ANNA,
    BORIS,
    NOON,
    PARKED,
    QUEUE,
    Clock,
    by_caps,
    dialling,
    judged,
    missed,
    opening,
    waiting,
)

NONE = CapRules(0, 0, 0, 0, 0)
HOUR = timedelta(hours=1)


def caps(**said: int) -> CapRules:
    """Nothing is limited but what is said."""
    return CapRules(**{"per_number": 0, "per_prefix": 0, "at_once": 0, "per_minute": 0, "breaker": 0} | said)


def ended(outcome=Outcome.BUSY, counted=True, retry_in=0.0):
    return Settlement(outcome, retry_in=retry_in, counted=counted)


def tried(ledger, recall, settlement, rules=NONE):
    """One attempt from its claim to its end; the gate that refused it instead, if one did."""
    taken = judged(ledger, recall, **by_caps(rules))
    if not isinstance(taken, Claim):
        return taken
    assert ledger.dialling(taken)
    assert ledger.settle(taken, settlement, NOON)
    return taken


def case_of(ledger, recorded, rules) -> Case:
    return ledger.cases([recorded.missed_id], lambda queue: rules)[recorded.missed_id]


def test_a_case_tells_what_is_on_record(timed: Ledger):
    call = missed(reason=Reason.TIMEOUT, timewait=12)
    recorded = timed.record(call, opening(delay=60.0, expire=600.0))
    assert case_of(timed, recorded, NONE) == Case(
        number=ANNA,
        reason=Reason.TIMEOUT,
        timewait=12,
        queue=QUEUE,
        state=State.WAITING,
        attempts=0,
        due_at=NOON + timedelta(seconds=60),
        expires_at=NOON + timedelta(seconds=600),
    )


def test_the_case_of_a_call_without_a_number_shows_what_the_network_gave(ledger: Ledger):
    recorded = ledger.record(missed(phone="anonymous", queue=None), opening(None, queue=None))
    case = case_of(ledger, recorded, CapRules())
    assert (case.number, case.queue, case.state) == ("anonymous", None, State.CLOSED)


def test_cases_of_many_calls_by_their_own_queues_caps(timed: Ledger, clock: Clock):
    first = waiting(timed, ANNA, queue="a@x")
    second = timed.record(missed(reason=Reason.BUSY), opening(ANNA, queue="a@x"))
    other = waiting(timed, BORIS, queue="b@x")
    for _ in range(3):
        tried(timed, first.recall_id, ended())
        clock.forward(minutes=1)
    found = timed.cases(
        [first.missed_id, second.missed_id, other.missed_id, 999, -1, 10**30],
        lambda queue: caps(per_number=2) if queue == "a@x" else caps(per_prefix=3),
    )
    assert found.keys() == {first.missed_id, second.missed_id, other.missed_id}
    made = NOON + timedelta(minutes=2), NOON + timedelta(minutes=1)
    assert found[first.missed_id].usage.number == found[second.missed_id].usage.number == made
    assert (found[first.missed_id].reason, found[second.missed_id].reason) == ("abandoned", "busy")
    assert found[other.missed_id].usage.number == found[other.missed_id].usage.prefix == ()
    assert timed.cases([], lambda queue: CapRules()) == {}


def test_more_cases_than_one_batch(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("freeswitch_callback.ledger.limits.BATCH", 2)
    ids = [waiting(ledger, f"+49{number}").missed_id for number in range(5)]
    assert list(ledger.cases(ids, lambda queue: CapRules())) == ids


def test_a_number_is_called_only_so_often_a_day_over_all_tenants(timed: Ledger, clock: Clock):
    rules = caps(per_number=2)
    mine, other = waiting(timed, expire=1e6), waiting(timed, scope="other", expire=1e6)
    assert isinstance(tried(timed, mine.recall_id, ended(), rules), Claim)
    clock.forward(hours=1)
    assert isinstance(tried(timed, other.recall_id, ended(), rules), Claim)
    shut = tried(timed, mine.recall_id, ended(), rules)
    assert str(shut) == "caps: 2 recalls to this number within 24 h"
    assert shut.opens_at == NOON + timedelta(hours=24)
    assert timed.next_due() == 0.0, "the other tenant's waits for its own look"
    clock.forward(hours=23)
    assert isinstance(tried(timed, mine.recall_id, ended(), rules), Claim)


@pytest.mark.parametrize(
    ("settlement", "counts"),
    [
        (ended(Outcome.BUSY), True),
        (ended(Outcome.AGENT_NO_ANSWER, counted=False), False),
        (ended(Outcome.FAILED, counted=False), False),
        (PARKED, True),
    ],
)
def test_an_attempt_counts_if_the_client_was_rung_or_may_have_been(ledger: Ledger, settlement, counts):
    recorded = waiting(ledger)
    taken = tried(ledger, recorded.recall_id, settlement)
    assert ledger.show(recorded.missed_id)["attempts"][0]["counts"] == counts
    assert len(case_of(ledger, recorded, caps(per_number=5)).usage.number) == counts
    assert isinstance(taken, Claim)


def test_what_is_under_way_counts_and_what_was_never_sent_does_not(ledger: Ledger):
    first, second = waiting(ledger, "+4930000001"), waiting(ledger, "+4930000002")
    rules = by_caps(caps(per_prefix=1))
    taken = judged(ledger, first.recall_id, **rules)
    assert isinstance(taken, Claim)
    assert isinstance(judged(ledger, second.recall_id, **rules), Verdict)
    assert ledger.abort(taken)
    assert ledger.reconsider() == 1
    assert isinstance(judged(ledger, second.recall_id, **rules), Claim)


def test_usage_is_read_only_as_far_as_the_caps_need_it(timed: Ledger, clock: Clock):
    recorded = waiting(timed, expire=1e6)
    for _ in range(6):
        tried(timed, recorded.recall_id, ended())
        clock.forward(seconds=40)
    usage = case_of(timed, recorded, caps(per_number=3, per_prefix=2, per_minute=9)).usage
    assert (len(usage.number), len(usage.prefix), len(usage.everything)) == (3, 2, 1)
    assert usage.number[0] > usage.number[1] > usage.number[2]
    usage = case_of(timed, recorded, caps(breaker=4)).usage
    assert (len(usage.number), len(usage.prefix), usage.everything) == (0, 4, ())
    clock.forward(minutes=30)
    assert case_of(timed, recorded, caps(breaker=4)).usage.prefix == ()
    assert len(case_of(timed, recorded, caps(breaker=4, per_prefix=5)).usage.prefix) == 5


def test_a_queues_recalls_that_are_up_are_counted(ledger: Ledger):
    rules = by_caps(caps(at_once=2))
    told = [waiting(ledger, f"+4930{n}000000", queue="a@x") for n in range(3)]
    elsewhere = waiting(ledger, BORIS, queue="b@x")
    first = judged(ledger, told[0].recall_id, **rules)
    assert isinstance(first, Claim)
    assert isinstance(judged(ledger, told[1].recall_id, **rules), Claim)
    assert str(judged(ledger, told[2].recall_id, **rules)) == "caps: 2 recalls of a@x up now"
    assert isinstance(judged(ledger, elsewhere.recall_id, **rules), Claim)
    assert ledger.dialling(first)
    assert ledger.settle(first, ended(), NOON)
    ledger.reconsider()
    assert isinstance(judged(ledger, told[2].recall_id, **rules), Claim)


def test_attempts_are_purged_with_their_recall_and_do_not_count_any_more(ledger: Ledger):
    taken = dialling(ledger)
    ledger.settle(taken, Settlement(Outcome.BUSY, closed_as=ClosedAs.EXHAUSTED), NOON)
    recorded = waiting(ledger)
    assert len(case_of(ledger, recorded, caps(per_number=5)).usage.number) == 1
    ledger.purge(Filter(state="closed"), "admin")
    assert case_of(ledger, recorded, caps(per_number=5)).usage.number == ()


def test_one_recall_too_many_trips_the_breaker_and_a_person_resets_it(timed: Ledger, clock: Clock):
    rules = caps(breaker=2)
    told = [waiting(timed, f"+493000000{n}", expire=1e6) for n in range(5)]
    elsewhere = waiting(timed, BORIS)
    for recorded in told[:2]:
        assert isinstance(tried(timed, recorded.recall_id, ended(retry_in=9e5), rules), Claim)
    assert timed.breakers() == []
    clock.forward(minutes=5)
    shut = tried(timed, told[2].recall_id, ended(), rules)
    assert (shut.gate, shut.for_good) == (Gate.BREAKER, False)
    assert timed.breakers() == [Breaker("+493000", clock.now, 2)]
    entry = timed.show(told[2].missed_id)["journal"][-1]
    assert entry["what"] == "opened", "it is the prefix's, not this recall's"

    clock.forward(hours=2)
    case = case_of(timed, told[3], rules)
    assert (case.tripped, case.usage.prefix) == (clock.now - 2 * HOUR, ())
    assert "stopped since" in str(tried(timed, told[3].recall_id, ended(), rules))
    assert isinstance(tried(timed, elsewhere.recall_id, ended(), rules), Claim)
    assert [breaker.recalls for breaker in timed.breakers()] == [2], "tripped once"

    assert timed.reset_breakers(["+4940"], "admin") == 0
    assert timed.reset_breakers(["+493000"], "admin") == 1
    assert timed.breakers() == []
    for recorded in told[2:4]:
        assert isinstance(tried(timed, recorded.recall_id, ended(), rules), Claim)


def test_a_claim_that_began_before_a_reset_and_waited_for_it_counts(timed: Ledger, clock: Clock):
    rules = caps(breaker=1)
    recalls = [waiting(timed, f"+493000000{n}").recall_id for n in range(3)]
    assert isinstance(tried(timed, recalls[0], ended(), rules), Claim)
    assert not isinstance(tried(timed, recalls[1], ended(), rules), Claim)
    clock.forward(seconds=5)
    assert timed.reset_breakers(None, "admin") == 1
    clock.forward(seconds=-1)  # its transaction began then
    assert isinstance(tried(timed, recalls[2], ended(), rules), Claim)
    clock.forward(seconds=2)
    assert not isinstance(tried(timed, recalls[1], ended(), rules), Claim)


def test_what_was_dialled_before_a_reset_does_not_trip_the_breaker_again(timed: Ledger, clock: Clock):
    rules = caps(breaker=2)
    told = [waiting(timed, f"+493000000{n}") for n in range(6)]
    refused = [tried(timed, recorded.recall_id, ended(retry_in=9e5), rules) for recorded in told[:3]]
    assert [isinstance(claim, Claim) for claim in refused] == [True, True, False]
    clock.forward(seconds=1)
    assert timed.reset_breakers(None, "admin") == 1
    assert case_of(timed, told[2], rules).counted_from == clock.now
    clock.forward(seconds=1)
    again = [tried(timed, recorded.recall_id, ended(retry_in=9e5), rules) for recorded in told[2:5]]
    assert [isinstance(claim, Claim) for claim in again] == [True, True, False]
    assert timed.breakers() == [Breaker("+493000", clock.now, 2)]


def test_a_reset_resets_all_or_the_chosen(ledger: Ledger, ledger_url: str):
    from freeswitch_callback.ledger.database import open_database
    from freeswitch_callback.ledger.models import Journal

    for prefix in ("+491", "+492", "+493"):
        for n in range(2):
            tried(ledger, waiting(ledger, f"{prefix}000{n}").recall_id, ended(), caps(breaker=1))
    assert [breaker.prefix for breaker in ledger.breakers()] == ["+491", "+492", "+493"]
    assert ledger.reset_breakers(["+492", "+492"], "admin") == 1
    assert ledger.reset_breakers([], "admin") == 0
    assert ledger.reset_breakers(None, "boss") == 2
    rows = open_database(ledger_url).read(lambda t: t.rows(Journal.select().order_by(Journal.id)))
    told = [(row["who"], row["what"], row["detail"]["prefix"]) for row in rows if "breaker" in row["what"]]
    assert told == [
        *(("engine-1", "breaker tripped", prefix) for prefix in ("+491", "+492", "+493")),
        *(("admin", "breaker reset", "+492"), ("boss", "breaker reset", "+491")),
        ("boss", "breaker reset", "+493"),
    ]
