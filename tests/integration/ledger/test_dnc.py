"""The list of those who must not be called."""

from datetime import timedelta

import pytest

from freeswitch_callback.core import gates
from freeswitch_callback.core.facts import ClosedAs
from freeswitch_callback.core.gates import CapRules, DoNotCall, Gate, Verdict
from freeswitch_callback.ledger import Filter, Ledger
from tests.integration.ledger.given import (
    ANNA,
    BORIS,
    NOON,
    Clock,
    by_caps,
    judged,
    missed,
    opening,
    waiting,
)

ALL = Filter()
TOMORROW = NOON + timedelta(days=1)


def entry_for(ledger, number):
    """The entry that the gates see for a number that is not closed."""
    recorded = waiting(ledger, number)
    return ledger.cases([recorded.missed_id], lambda queue: CapRules())[recorded.missed_id].entry


def test_entries_are_added_replaced_listed_and_removed(timed: Ledger):
    assert timed.forbid([DoNotCall(ANNA, "asked not to"), DoNotCall("+4940*", until=TOMORROW)], "admin") == 2
    assert timed.forbid([DoNotCall(ANNA, "a lawyer wrote", added_by="legal")], "admin") == 1
    assert timed.forbidden() == [
        DoNotCall(ANNA, "a lawyer wrote", "legal", None, NOON),
        DoNotCall("+4940*", "", "admin", TOMORROW, NOON),
    ]
    assert (timed.allow(ANNA, "admin"), timed.allow(ANNA, "admin")) == (True, False)
    assert [entry.number for entry in timed.forbidden()] == ["+4940*"]


def test_one_number_told_twice_at_once_is_one_entry_the_last(ledger: Ledger):
    assert ledger.forbid([DoNotCall(ANNA, "one"), DoNotCall(ANNA, "two")], "admin") == 1
    assert [entry.note for entry in ledger.forbidden()] == ["two"]
    assert ledger.forbid([], "admin") == 0


def test_a_long_list_is_written_batch_by_batch(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("freeswitch_callback.ledger.dnc.BATCH", 2)
    assert ledger.forbid([DoNotCall(f"+49{number}") for number in range(5)], "admin") == 5
    assert len(ledger.forbidden()) == 5


def test_who_is_on_the_list_is_blocked_when_they_call(ledger: Ledger):
    ledger.forbid([DoNotCall(ANNA, "asked not to")], "admin")
    recorded = ledger.record(missed(), opening())
    assert recorded.blocked == f"do not call: {ANNA} is on the list (asked not to)"
    assert ledger.due(None, 9) == []
    assert ledger.record(missed(), opening(BORIS)).blocked is None


def test_completing_a_call_of_somebody_on_the_list_keeps_it_blocked(ledger: Ledger):
    ledger.forbid([DoNotCall(ANNA)], "admin")
    first = missed(settled=False)
    before = ledger.record(first, opening())
    after = ledger.record(missed(call_uuid=first.call_uuid), opening())
    assert (after.recall_id, after.blocked) == (before.recall_id, before.blocked)


@pytest.mark.parametrize("prefix", ["+*", "+49*", "+493011111*", "+4930111111*"])
def test_a_prefix_stands_for_all_that_begin_with_it(ledger: Ledger, prefix: str):
    ledger.forbid([DoNotCall(prefix)], "admin")
    assert ledger.record(missed(), opening(ANNA)).blocked == f"do not call: {prefix} is on the list"


@pytest.mark.parametrize("other", ["+49301111112*", "+48*", "+493011111", "+49301111111", "4930111111", "*"])
def test_what_looks_like_it_does_not_stand_for_it(ledger: Ledger, other: str):
    ledger.forbid([DoNotCall(other)], "admin")
    assert ledger.record(missed(), opening(ANNA)).blocked is None
    assert ledger.forbidden(ANNA) == []


def test_an_entry_with_an_end_holds_and_does_not_close(timed: Ledger, clock: Clock):
    timed.forbid([DoNotCall(ANNA, until=TOMORROW)], "admin")
    recorded = waiting(timed, expire=7 * 86400.0)
    shut = judged(timed, recorded.recall_id, **by_caps(CapRules()))
    assert isinstance(shut, Verdict)
    assert (shut.gate, shut.opens_at, timed.next_due()) == (Gate.DO_NOT_CALL, TOMORROW, 86400.0)
    clock.forward(days=1)
    assert not isinstance(judged(timed, recorded.recall_id, **by_caps(CapRules())), Verdict)


def test_of_several_that_fit_the_one_that_lasts_longest_counts(timed: Ledger, clock: Clock):
    timed.forbid(
        [
            DoNotCall(ANNA, "exact", until=NOON + timedelta(hours=1)),
            DoNotCall("+4930*", "city", until=NOON + timedelta(hours=2)),
        ],
        "admin",
    )
    assert (entry_for(timed, ANNA) or DoNotCall("")).note == "city"
    assert [entry.note for entry in timed.forbidden(ANNA)] == ["city", "exact"]
    clock.forward(hours=2)
    assert entry_for(timed, ANNA) is None
    timed.forbid(
        [DoNotCall("+4930*", "for good"), DoNotCall("+49*", until=clock.now + timedelta(5))], "admin"
    )
    assert (entry_for(timed, ANNA) or DoNotCall("")).note == "for good"


def test_removing_an_entry_has_those_looked_at_whom_it_kept_back(timed: Ledger):
    timed.forbid([DoNotCall("+4930*", until=TOMORROW)], "admin")
    recalls = {number: waiting(timed, number).recall_id for number in (ANNA, "+4940333")}
    held = Verdict(Gate.DO_NOT_CALL, False, opens_at=TOMORROW)
    timed.hold([(recall, held) for recall in recalls.values()], "engine-1")
    assert timed.allow("+4930*", "admin")
    assert [due.number for due in timed.due(None, 9)] == [ANNA]


def test_an_entry_that_ends_sooner_than_before_has_them_looked_at_too(timed: Ledger, clock: Clock):
    timed.forbid([DoNotCall(ANNA, until=TOMORROW)], "admin")
    recall = waiting(timed).recall_id
    timed.hold([(recall, Verdict(Gate.DO_NOT_CALL, False, opens_at=TOMORROW))], "engine-1")
    timed.forbid([DoNotCall(ANNA, until=NOON + timedelta(minutes=1))], "admin")
    assert timed.next_due() == 0.0


def test_replay_does_not_put_back_who_is_on_the_list_by_now(ledger: Ledger):
    waiting(ledger, ANNA)
    waiting(ledger, BORIS)
    ledger.close_recalls(ALL, "admin", ClosedAs.EXHAUSTED)
    ledger.forbid([DoNotCall(ANNA)], "admin")
    for opening_of in (None, lambda call: opening(call["number"])):
        replayed = ledger.replay(ALL, "admin", 100.0, opening_of)
        assert (replayed.recalls, replayed.blocked) == (1, 1)
    assert [due.number for due in ledger.due(None, 9)] == [BORIS]
    assert ledger.summary().by_closed_as == {"exhausted": 1}


def test_replay_puts_back_who_is_on_the_list_no_more(ledger: Ledger):
    ledger.forbid([DoNotCall(ANNA)], "admin")
    ledger.record(missed(), opening())
    ledger.allow(ANNA, "admin")
    assert ledger.replay(ALL, "admin", 100.0, lambda call: opening(call["number"])).recalls == 1
    assert [due.number for due in ledger.due(None, 9)] == [ANNA]


def test_the_journal_tells_who_changed_the_list_and_no_number(ledger: Ledger, ledger_url: str):
    from freeswitch_callback.ledger.database import open_database
    from freeswitch_callback.ledger.models import Journal

    ledger.forbid([DoNotCall(ANNA), DoNotCall("+4930*")], "admin")
    ledger.allow(ANNA, "boss")
    ledger.allow("+4930*", "boss")
    rows = open_database(ledger_url).read(lambda t: t.rows(Journal.select().order_by(Journal.id)))
    assert [(row["who"], row["what"], row["detail"]) for row in rows] == [
        ("admin", "do not call", {"entries": 2}),
        ("boss", "may be called again", {}),
        ("boss", "may be called again", {"prefix": "+4930*"}),
    ]


def test_a_thousand_numbers_are_looked_up_together(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("freeswitch_callback.ledger.dnc.KEYS", 7)
    ledger.forbid([DoNotCall("+1*"), DoNotCall(BORIS)], "admin")
    told = [ledger.record(missed(phone=n), opening(n, blocked="x")) for n in ("+12", "+13", ANNA, BORIS)]
    cases = ledger.cases([recorded.missed_id for recorded in told], lambda queue: CapRules())
    listed = [case.entry.number if case.entry else None for case in cases.values()]
    assert listed == ["+1*", "+1*", None, BORIS]
    assert all(gates.do_not_call(case.entry, NOON).open == (case.number == ANNA) for case in cases.values())
