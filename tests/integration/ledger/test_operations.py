"""What people see and change: lists, one call, figures; replay, close, postpone, purge."""

from datetime import timedelta

import pytest

from freeswitch_callback.core.facts import ClosedAs, Outcome, Reason, Settlement
from freeswitch_callback.errors import NotFound
from freeswitch_callback.ledger import Filter, Ledger
from tests.integration.ledger.given import (
    ANNA,
    BORIS,
    NOON,
    RETRY,
    Clock,
    claim,
    claimed,
    dialling,
    missed,
    opening,
    parked,
    seconds_until,
    waiting,
)

ALL = Filter()
RECALLED = Settlement(outcome=Outcome.CONNECTED, closed_as=ClosedAs.RECALLED)


def ids(ledger, **chosen):
    return [row["id"] for row in ledger.listing(Filter(**chosen))]


def recalled(ledger, number=ANNA):
    taken = dialling(ledger, number)
    ledger.connected(taken, NOON, "1001")
    ledger.settle(taken, RECALLED, NOON)
    return taken


def test_a_list_is_newest_first_with_the_documented_columns(ledger: Ledger):
    for minutes in (5, 1, 9):
        ledger.record(missed(calldate=NOON + timedelta(minutes=minutes)), opening())
    assert ids(ledger) == [3, 1, 2]
    assert ids(ledger, limit=2) == [3, 1]
    assert list(next(ledger.listing(ALL))) == [
        *("id", "phone", "calldate", "calledid", "timewait", "reason", "operator"),
        *("recalldate", "recalloperator", "node", "call_uuid", "member_uuid", "queue", "number"),
        *("caller_name", "hangup_cause", "extra", "recall"),
        *("state", "attempts", "due_at", "closed_as", "note"),
    ]


def test_a_long_list_comes_in_pages_that_leave_nothing_out(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("freeswitch_callback.ledger.views.PAGE", 3)
    for number in range(10):  # four calls share each second: the page's edge falls between equals
        ledger.record(missed(calldate=NOON + timedelta(seconds=number // 4)), opening())
    assert ids(ledger) == [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]
    assert ids(ledger, limit=7) == [10, 9, 8, 7, 6, 5, 4]
    assert ids(ledger, limit=0) == []


def test_every_filter_chooses(ledger: Ledger):
    ledger.record(missed(calldate=NOON, queue="a", reason=Reason.BUSY), opening(ANNA))
    ledger.record(missed(calldate=NOON + timedelta(hours=1), queue="b", phone="030 222"), opening(BORIS))
    ledger.record(missed(calldate=NOON + timedelta(hours=2), phone="anonymous"), opening(None))
    assert ids(ledger, ids=(1, 3)) == [3, 1]
    assert ids(ledger, ids=(10**30, -1)) == []
    assert ids(ledger, state="closed") == [3]
    assert ids(ledger, reason="busy") == [1]
    assert ids(ledger, queue="b") == [2]
    assert ids(ledger, number=BORIS) == ids(ledger, number="030 222") == [2]
    assert ids(ledger, since=NOON + timedelta(hours=1)) == [3, 2]
    assert ids(ledger, until=NOON + timedelta(hours=1)) == [1]
    assert ids(ledger, older_than=NOON + timedelta(hours=2)) == [2, 1]
    assert ids(ledger, queue="nobody's") == []
    assert (ledger.count(ALL), ledger.count(Filter(limit=2)), ledger.count(Filter(reason="busy"))) == (
        3,
        2,
        1,
    )


def test_one_call_with_all_that_led_to_it(ledger: Ledger):
    first = ledger.record(missed(caller_name="Anna"), opening())
    second = waiting(ledger)
    taken = claim(ledger, first.recall_id)
    assert taken is not None
    shown = ledger.show(first.missed_id)
    assert shown["missed"]["caller_name"] == "Anna"
    assert [other["id"] for other in shown["others"]] == [second.missed_id]
    assert [attempt["call_uuid"] for attempt in shown["attempts"]] == [taken.call_uuid]
    assert [(entry["who"], entry["what"]) for entry in shown["journal"]] == [
        ("fs1", "opened"),
        ("fs1", "called again"),
        ("engine-1", "claimed"),
    ]


@pytest.mark.parametrize("missing", [7, 0, -1, 10**30])
def test_a_call_that_does_not_exist(ledger: Ledger, missing: int):
    with pytest.raises(NotFound, match=str(missing)):
        ledger.show(missing)


def test_replay_starts_over(ledger: Ledger):
    recalled(ledger, ANNA)
    parked(ledger, BORIS)
    replayed = ledger.replay(ALL, "admin", 100.0)
    assert (replayed.recalls, replayed.blocked) == (2, 0)
    assert [(due.number, due.attempts, due.failures) for due in ledger.due(None, 9)] == [
        (ANNA, 0, 0),
        (BORIS, 0, 0),
    ]
    shown = ledger.show(1)
    assert seconds_until(shown["recall"]["expires_at"]) == pytest.approx(100, abs=20)
    assert (shown["recall"]["closed_as"], shown["recall"]["closed_by"]) == (None, None)
    last = shown["journal"][-1]
    assert (last["who"], last["what"], last["detail"]["closed_as"]) == ("admin", "replayed", "recalled")


def test_replaying_what_waits_makes_it_due_now(ledger: Ledger):
    recorded = waiting(ledger, delay=600.0)
    assert ledger.replay(Filter(ids=(recorded.missed_id,)), "admin", 100.0).recalls == 1
    assert len(ledger.due(None, 9)) == 1


def test_replay_leaves_alone_what_an_engine_holds(ledger: Ledger):
    taken = dialling(ledger)
    assert ledger.replay(ALL, "admin", 100.0).recalls == 0
    assert ledger.settle(taken, RETRY, NOON)


def test_replaying_joins_the_numbers_open_recall_and_brings_its_history_along(ledger: Ledger):
    old = recalled(ledger)
    new = waiting(ledger, delay=600.0)
    assert ledger.replay(Filter(ids=(1,)), "admin", 100.0).recalls == 1
    shown = ledger.show(1)
    assert shown["recall"]["id"] == new.recall_id
    assert [other["id"] for other in shown["others"]] == [new.missed_id]
    assert [attempt["id"] for attempt in shown["attempts"]] == [old.attempt]
    assert "joined" in [entry["what"] for entry in shown["journal"]]
    assert ledger.summary().by_state == {"waiting": 1}
    assert len(ledger.due(None, 9)) == 1


def test_replaying_two_closed_recalls_of_one_number_opens_one(ledger: Ledger):
    recalled(ledger)
    recalled(ledger)
    assert ledger.replay(ALL, "admin", 100.0).recalls == 2
    (due,) = ledger.due(None, 9)
    assert len(ledger.show(due.missed_id)["attempts"]) == 2


def test_a_recall_without_a_number_stays_blocked(ledger: Ledger):
    ledger.record(missed(phone="anonymous"), opening(None))
    ledger.record(missed(), opening(blocked="min_wait"))
    replayed = ledger.replay(ALL, "admin", 100.0)
    assert (replayed.recalls, replayed.blocked) == (1, 1)
    assert [due.number for due in ledger.due(None, 9)] == [ANNA]


def test_replay_can_ask_todays_gates_about_what_was_blocked(ledger: Ledger):
    ledger.record(missed(phone="030 111111"), opening(None))
    ledger.record(missed(phone="+1876"), opening("+18765551234", blocked="country"))
    asked = []

    def opening_of(call):
        asked.append(call["phone"])
        return (
            opening(ANNA) if call["phone"].startswith("030") else opening("+18765551234", blocked="country")
        )

    replayed = ledger.replay(ALL, "admin", 100.0, opening_of)
    assert (replayed.recalls, replayed.blocked, sorted(asked)) == (1, 1, ["+1876", "030 111111"])
    assert ids(ledger, number=ANNA) == [1]
    assert [due.number for due in ledger.due(None, 9)] == [ANNA]


def test_replay_goes_by_todays_opening(timed: Ledger, clock: Clock):
    taken = dialling(timed)
    timed.settle(taken, Settlement(Outcome.BUSY, closed_as=ClosedAs.EXHAUSTED), NOON)
    today = opening(ANNA, look_in=3600.0, expire=7200.0, priority=7)
    assert timed.replay(ALL, "admin", 100.0, lambda call: today).recalls == 1
    recall = timed.show(1)["recall"]
    assert (recall["due_at"], recall["look_at"]) == (NOON, NOON + timedelta(hours=1))
    assert (recall["expires_at"], recall["priority"]) == (NOON + timedelta(hours=2), 7)


@pytest.mark.parametrize("state", ["exhausted", "waiting", "unknown"])
def test_replay_does_not_put_back_what_todays_gates_refuse(ledger: Ledger, state: str):
    if state == "waiting":
        waiting(ledger)
    elif state == "unknown":
        parked(ledger)
    else:
        ledger.settle(dialling(ledger), Settlement(Outcome.BUSY, closed_as=ClosedAs.EXHAUSTED), NOON)
    before = ledger.show(1)
    replayed = ledger.replay(ALL, "admin", 100.0, lambda call: opening(ANNA, blocked="country: no more"))
    assert (replayed.recalls, replayed.blocked) == (0, 1)
    assert ledger.show(1) == before


def test_replaying_into_an_open_recall_keeps_the_higher_priority(timed: Ledger, clock: Clock):
    waiting(timed)
    timed.close_recalls(ALL, "admin", ClosedAs.CANCELLED)
    waiting(timed, priority=5)
    replayed = timed.replay(Filter(state="closed"), "admin", 100.0, lambda call: opening(look_in=60.0))
    assert replayed.recalls == 1
    (recall,) = {row["recall"] for row in timed.listing(ALL)}
    shown = timed.show(1)["recall"]
    assert (shown["id"], shown["priority"], shown["state"]) == (recall, 5, "waiting")
    assert shown["look_at"] == NOON + timedelta(seconds=60)


def test_close_settles_what_waits_and_what_is_unknown(ledger: Ledger):
    waiting(ledger, "+1")
    parked(ledger, "+2")
    live = dialling(ledger, "+3")
    assert ledger.close_recalls(ALL, "admin", ClosedAs.CANCELLED, "asked not to") == 2
    shown = ledger.show(1)
    assert (shown["recall"]["closed_by"], shown["recall"]["note"]) == ("admin", "asked not to")
    assert shown["journal"][-1]["detail"]["was"] == "waiting"
    assert ledger.close_recalls(ALL, "admin", ClosedAs.CANCELLED) == 0
    assert ledger.settle(live, RETRY, NOON)


def test_what_is_postponed_is_due_later_and_expires_later(ledger: Ledger):
    recorded = waiting(ledger, expire=600.0)
    before = ledger.show(recorded.missed_id)["recall"]
    until = before["due_at"] + timedelta(hours=2)
    assert ledger.postpone(ALL, until, "admin") == 1
    after = ledger.show(recorded.missed_id)["recall"]
    assert after["due_at"] == until
    assert after["expires_at"] == before["expires_at"] + timedelta(hours=2)
    assert ledger.due(None, 9) == []
    earlier = before["due_at"] - timedelta(hours=1)
    assert ledger.postpone(ALL, earlier, "admin") == 1
    assert ledger.show(recorded.missed_id)["recall"]["expires_at"] == after["expires_at"]


def test_only_what_waits_can_be_postponed(ledger: Ledger):
    claimed(ledger)
    assert ledger.postpone(ALL, NOON, "admin") == 0


def test_purge_takes_all_that_belongs_to_a_closed_recall_and_spares_open_ones(ledger: Ledger):
    waiting(ledger, BORIS)
    recalled(ledger, ANNA)
    parked(ledger, "+3")
    assert ledger.purge(ALL, "admin") == 1
    assert [row["number"] for row in ledger.listing(ALL)] == ["+3", BORIS]
    assert ledger.summary().by_state == {"unknown": 1, "waiting": 1}
    assert ledger.summary().by_outcome == {"unknown": 1}
    with pytest.raises(NotFound):
        ledger.show(2)
    assert [kept.attempt for kept in ledger.reservations() if kept.attempt is None] == [None], (
        "still to be released"
    )


def test_a_recall_is_purged_with_the_last_of_its_calls(ledger: Ledger):
    ledger.record(missed(calldate=NOON), opening())
    ledger.record(missed(calldate=NOON + timedelta(days=1)), opening())
    ledger.close_recalls(ALL, "admin", ClosedAs.CANCELLED)
    assert ledger.purge(Filter(older_than=NOON + timedelta(hours=1)), "admin") == 1
    assert ledger.summary().by_closed_as == {"cancelled": 1}
    assert ledger.purge(ALL, "admin") == 1
    assert ledger.summary().by_closed_as == {}


def test_many_are_changed_batch_by_batch(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("freeswitch_callback.ledger.operations.BATCH", 2)
    for number in range(5):
        waiting(ledger, f"+{number}")
    assert ledger.close_recalls(Filter(limit=3), "admin", ClosedAs.CANCELLED) == 3
    assert ledger.close_recalls(ALL, "admin", ClosedAs.CANCELLED) == 2
    assert ledger.replay(ALL, "admin", 100.0).recalls == 5
    assert ledger.postpone(ALL, NOON, "admin") == 5
    assert ledger.close_recalls(ALL, "admin", ClosedAs.CANCELLED) == 5
    assert ledger.purge(Filter(limit=3), "admin") == 3
    assert ledger.purge(ALL, "admin") == 2


def test_the_figures(ledger: Ledger):
    assert ledger.summary().median_wait is None
    recorded = waiting(ledger, BORIS)
    recalled(ledger, ANNA)
    ledger.record(missed(reason=Reason.BUSY), opening(None))
    figures = ledger.summary()
    assert (figures.missed, figures.called_back) == (3, 1)
    assert figures.by_reason == {"abandoned": 2, "busy": 1}
    assert figures.by_state == {"closed": 2, "waiting": 1}
    assert figures.by_closed_as == {"recalled": 1, "blocked": 1}
    assert figures.by_outcome == {"connected": 1}
    sent = ledger.show(recorded.missed_id + 1)["attempts"][0]["sent_at"]
    assert figures.median_wait == (sent - NOON - timedelta(seconds=30)).total_seconds()
