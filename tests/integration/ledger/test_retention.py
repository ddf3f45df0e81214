"""What is kept no longer: deleted, or made nobody's with the figures left; whoever is killed in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from freeswitch_callback.core.facts import ClosedAs, Decision, Outcome, Result, Say, Settlement
from freeswitch_callback.core.gates import CapRules, DoNotCall, GateRules
from freeswitch_callback.core.gates import opening as opening_by
from freeswitch_callback.ledger import Filter, Ledger
from freeswitch_callback.ledger.migrations import RECORD
from freeswitch_callback.ledger.models import ANONYMISED, TABLES
from tests.integration.ledger.given import (
    ANNA,
    BORIS,
    NOON,
    QUEUE,
    RETRY,
    Clock,
    by_caps,
    claim,
    dialling,
    missed,
    opening,
    waiting,
)

ALL = Filter()
AGENT = "meier@default"
CARLA = "+4930333333"
NAMES = ("Meier", "meier", "Anna", "crm-4711", "sip.example")
NUMBERS = ("30111111", "30222222", "30333333")
RECALLED = Settlement(outcome=Outcome.CONNECTED, closed_as=ClosedAs.RECALLED)


def everything(ledger: Ledger):
    """All rows of all tables."""
    return {
        table.__name__: ledger._database.read(
            lambda t, table=table: t.rows(table.select().order_by(table.id))
        )
        for table in TABLES
    }


def told(ledger: Ledger):
    """All that is on record, as text."""
    return "\n".join(map(str, everything(ledger).items()))


def recalled(ledger: Ledger, clock: Clock, number: str = ANNA, **said):
    """Somebody was missed, called back, and talked to: with a trace in every table."""
    call = missed(phone=number, calldate=clock.now - timedelta(seconds=60), **said)
    recorded = ledger.record(call, opening(number))
    caps = CapRules(block=0)  # a prefix is a whole number
    taken = claim(ledger, recorded.recall_id, agent=AGENT, **by_caps(caps))
    ledger.decide(AGENT, Decision(taken.attempt, Say.ACCEPT, by="meier", reason=f"Anna, {number}"))
    ledger.dialling(taken)
    ledger.answered(taken, clock.now)
    ledger.connected(taken, clock.now, AGENT)
    ledger.settle(taken, RECALLED, clock.now, released=True)
    ledger.note_result(taken.attempt, AGENT, Result.REACHED, "meier", retry_in=60.0, most=3, expire=3600.0)
    ledger.remark(taken.recall, "meier", f"Anna is at {number} in the morning")
    ledger.note_talk(number, "default", AGENT, clock.now)
    ledger.note_on_the_line("fs1", {number: clock.now})
    return recorded


def full_of_traces(ledger: Ledger, clock: Clock):
    personal = {"caller_name": "Anna Meier", "extra": {"crm": "crm-4711", "Anna": ANNA}, "operator": AGENT}
    recalled(ledger, clock, ANNA, call_uuid=f"a84b4c76e66710@sip.example;{ANNA}", **personal)
    recalled(ledger, clock, BORIS, calledid="30222222", member_uuid="30222222", **personal)
    ledger.forbid([DoNotCall(CARLA, note="Anna asked", added_by="meier", added_at=clock.now)], "meier")
    ledger.record(missed(phone=CARLA, **personal), opening(CARLA))
    waiting(ledger, ANNA)
    ledger.close_recalls(Filter(state="waiting"), "meier", ClosedAs.CANCELLED, f"Anna wrote: {ANNA}")
    until = clock.now + timedelta(days=1)
    ledger.forbid([DoNotCall(BORIS, "Anna", "meier", until, clock.now)], "meier")
    ledger.forbid([DoNotCall(f"{ANNA}*", "Anna", "meier", until, clock.now)], "meier")
    ledger.allow(f"{ANNA}*", "meier")
    caps = CapRules(breaker=1, block=0)
    for _ in range(2):
        recorded = waiting(ledger, "+4930999")
        taken = claim(ledger, recorded.recall_id, agent=AGENT, **by_caps(caps)) if _ == 0 else None
        if taken is not None:
            ledger.dialling(taken)
            ledger.settle(taken, RETRY, clock.now, released=True)


def test_every_table_is_known(ledger: Ledger):
    tables = ledger._database.read(lambda t: t.database.get_tables())
    assert {table._meta.table_name for table in TABLES} == set(tables) - {RECORD, "sqlite_sequence"}


def test_nothing_of_anybody_is_left_in_any_table(timed: Ledger, clock: Clock):
    full_of_traces(timed, clock)
    before = told(timed)
    assert all(secret in before for secret in (*NAMES, *NUMBERS))
    clock.forward(days=40)
    timed.close_recalls(ALL, "meier", ClosedAs.CANCELLED)
    clock.forward(days=2)
    assert timed.purge(ALL, "admin", anonymise=True) == 6
    rows = everything(timed)
    kept = rows.pop("Dnc")
    assert [entry["number"] for entry in kept] == [CARLA], "who asked not to be called must be known"
    left = str(rows)
    assert [secret for secret in (*NAMES, *NUMBERS) if secret in left] == []
    assert timed.purgeable(ALL, anonymise=True).total == 0
    assert timed.purge(ALL, "admin", anonymise=True) == 0


def test_the_figures_stay(timed: Ledger, clock: Clock):
    full_of_traces(timed, clock)
    clock.forward(days=42)
    period = (NOON - timedelta(days=1), clock.now)
    report, summary = timed.report(*period), timed.summary()
    assert report.recalled == 2
    assert report.median_time is not None
    assert report.closed["blocked"] == 1
    timed.purge(ALL, "admin", anonymise=True)
    assert timed.report(*period) == report
    assert timed.summary() == summary
    [blocked] = timed.listing(Filter(state="closed", ids=(3,)))
    assert (blocked["closed_as"], blocked["note"]) == ("blocked", "do not call")


def test_nothing_tells_one_client_from_another(timed: Ledger, clock: Clock):
    """No hash, no token: numbers are few enough to try them all."""
    for number in (ANNA, BORIS):
        recalled(timed, clock, number, caller_name=number)
    clock.forward(days=42)
    timed.purge(ALL, "admin", anonymise=True)
    ours = {"id", "recall", "call_uuid", "job_uuid"}  # numbers and uuids that we, or FreeSWITCH, have made up
    for table, rows in everything(timed).items():
        some = [{name: value for name, value in row.items() if name not in ours} for row in rows]
        if table in ("Missed", "Recall", "Attempt"):
            assert len(some) == 2
            assert some[0] == some[1], table


@pytest.mark.parametrize("anonymise", [True, False])
def test_what_is_open_is_spared_with_all_that_belongs_to_it(timed: Ledger, clock: Clock, anonymise: bool):
    waiting(timed, ANNA)
    taken = dialling(timed, BORIS)
    timed.note_talk(ANNA, "default", AGENT, clock.now)
    clock.forward(days=42)
    before = everything(timed)
    assert timed.purgeable(ALL, anonymise=anonymise).total == 0
    assert timed.purge(ALL, "admin", anonymise=anonymise) == 0
    assert everything(timed) == before
    assert timed.settle(taken, RETRY, clock.now)


@pytest.mark.parametrize("anonymise", [True, False])
def test_what_is_opened_again_meanwhile_is_spared(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, anonymise: bool
):
    monkeypatch.setattr("freeswitch_callback.ledger.retention.BATCH", 1)
    waiting(ledger, BORIS)
    waiting(ledger, ANNA)
    ledger.close_recalls(ALL, "admin", ClosedAs.CANCELLED)
    replayed = []

    def replay(done: int) -> None:
        if not replayed:
            replayed.append(ledger.replay(Filter(number=BORIS), "admin", 100.0))

    assert ledger.purge(ALL, "admin", anonymise=anonymise, tell=replay) == 1
    assert [due.number for due in ledger.due(None, 9)] == [BORIS]


def test_a_recall_keeps_its_number_as_long_as_one_of_its_calls_is_kept(timed: Ledger, clock: Clock):
    timed.record(missed(calldate=NOON), opening())
    timed.record(missed(calldate=NOON + timedelta(days=1)), opening())
    timed.close_recalls(ALL, "admin", ClosedAs.CANCELLED)
    old = Filter(older_than=NOON + timedelta(hours=1))
    assert (timed.purgeable(old, anonymise=True).missed, timed.purgeable(old, anonymise=True).recalls) == (
        1,
        0,
    )
    assert timed.purge(old, "admin", anonymise=True) == 1
    assert [row["phone"] for row in timed.listing(ALL)] == [ANNA, ANONYMISED]
    assert timed.show(1)["recall"]["number"] == ANNA
    assert timed.purge(ALL, "admin", anonymise=True) == 1
    assert timed.show(1)["recall"]["number"] is None


def test_how_many_there_will_be_is_how_many_there_were(timed: Ledger, clock: Clock):
    full_of_traces(timed, clock)
    timed.close_recalls(ALL, "admin", ClosedAs.CANCELLED)
    clock.forward(days=42)
    counted = timed.purgeable(ALL)
    rows = {name: len(found) for name, found in everything(timed).items()}
    assert (counted.missed, counted.recalls, counted.attempts) == (
        rows["Missed"], rows["Recall"], rows["Attempt"],
    )  # fmt: skip
    assert counted.remarks == rows["Remark"] == 2
    assert timed.purge(ALL, "admin") == counted.missed
    left = {name: found for name, found in everything(timed).items() if found}
    assert set(left) == {"Dnc", "Journal"}
    assert [line["what"] for line in left["Journal"]] == ["purged"]
    assert rows["Journal"] + rows["Dnc"] + rows["Talk"] + rows["OnTheLine"] == (
        counted.journal + counted.list_entries + counted.others + len(left["Dnc"])
    )


@pytest.mark.parametrize("anonymise", [True, False])
def test_who_talked_and_has_no_recall_is_forgotten_in_time(timed: Ledger, clock: Clock, anonymise: bool):
    timed.note_talk("+1", "default", AGENT, NOON)  # never missed
    timed.note_talk("+2", "default", AGENT, NOON + timedelta(days=9))  # younger
    waiting(timed, "+3")
    timed.note_talk("+3", "default", AGENT, NOON)
    clock.forward(days=9, minutes=1)
    old = Filter(older_than=NOON + timedelta(days=1))
    assert timed.purgeable(old, anonymise=anonymise).others == 1
    timed.purge(replace(old, queue=QUEUE), "admin", anonymise=anonymise)
    assert len(everything(timed)["Talk"]) == 3, "chosen by more than age"
    timed.purge(old, "admin", anonymise=anonymise)
    assert [row["number"] for row in everything(timed)["Talk"]] == ["+2", "+3"]
    timed.purge(ALL, "admin", anonymise=anonymise)
    assert [row["number"] for row in everything(timed)["Talk"]] == ["+2", "+3"], "a day is the least"


@pytest.mark.parametrize("anonymise", [True, False])
def test_a_recall_whose_call_turned_out_to_be_anothers_goes_too(timed: Ledger, clock: Clock, anonymise: bool):
    call = missed(settled=False)
    recorded = timed.record(call, opening(ANNA))
    taken = claim(timed, recorded.recall_id, agent=AGENT)
    timed.dialling(taken)
    timed.settle(taken, RETRY, NOON, released=True)
    timed.record(replace(call, phone=BORIS, settled=True), opening(BORIS))
    clock.forward(days=42)
    assert timed.purgeable(ALL, anonymise=anonymise).recalls == 1
    timed.purge(ALL, "admin", anonymise=anonymise)
    rows = everything(timed)
    assert ANNA not in str(rows)
    assert [row["number"] for row in rows["Recall"] if row["state"] == "waiting"] == [BORIS]
    assert timed.purgeable(ALL, anonymise=anonymise).total == 0


def test_whoever_is_told_of_again_stays_unknown_and_is_not_called(timed: Ledger, clock: Clock):
    call = missed(caller_name="Anna", extra={"crm": "crm-4711"}, operator=AGENT)
    member = missed(call_uuid="member:0b7bd1d9-8f0e-4a3c-9d5e-5f9c3a2b1c0d:1772452800", phone=BORIS)
    for each in (call, member):
        timed.record(each, opening(each.phone))
    timed.close_recalls(ALL, "admin", ClosedAs.CANCELLED)
    clock.forward(days=42)
    timed.purge(ALL, "admin", anonymise=True)
    before = everything(timed)
    again = replace(call, call_uuid=next(timed.listing(Filter(ids=(1,))))["call_uuid"])
    assert not timed.record(again, opening(ANNA)).new
    assert not timed.record_late(again, opening(ANNA), NOON).new
    its_cdr = replace(member, call_uuid="0b7bd1d9-8f0e-4a3c-9d5e-5f9c3a2b1c0e", caller_name="Boris")
    assert not timed.record_late(its_cdr, opening(BORIS), NOON, (member.call_uuid,)).new
    assert everything(timed) == before
    rules = GateRules()
    replayed = timed.replay(
        ALL, "admin", 100.0, lambda row: opening_by(missed(phone=row["phone"]), rules, clock.now)
    )
    assert (replayed.recalls, replayed.blocked) == (0, 2)


KILLED_IN_THE_MIDDLE = """
import os, signal, sys
from freeswitch_callback.ledger import Filter, Ledger, retention

retention.BATCH = 4
batches = {"anonymise": retention.anonymise, "purge": retention.purge}
done = []

def killed(transaction, missed):
    count = batches[sys.argv[2]](transaction, missed)
    done.append(missed)
    if len(done) == 3:  # before its commit
        os.kill(os.getpid(), signal.SIGKILL)
    return count

retention.anonymise = retention.purge = killed
Ledger(sys.argv[1]).purge(Filter(), "admin", anonymise=sys.argv[2] == "anonymise")
"""


@pytest.mark.parametrize("how", ["anonymise", "purge"])
def test_who_is_killed_in_the_middle_begins_again_where_it_ended(ledger: Ledger, ledger_url: str, how: str):
    for number in range(10):
        for _ in range(2):  # a batch ends between the two calls of a recall, or does not
            waiting(ledger, f"+49301234{number}")
    waiting(ledger, "+493099")
    ledger.close_recalls(Filter(until=NOON + timedelta(seconds=1)), "admin", ClosedAs.CANCELLED)
    waiting(ledger, "+493088")
    killed = subprocess.run(
        [sys.executable, "-c", f"from gevent import monkey; monkey.patch_all()\n{KILLED_IN_THE_MIDDLE}",
         ledger_url, how],
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL
    rows = everything(ledger)
    gone = {True: 0, False: 0}
    for row in rows["Missed"]:
        gone[row["phone"] == ANONYMISED] += 1
        whole = {row["phone"] == ANONYMISED, row["number"] is None}
        assert len(whole) == 1, "by half"
    if how == "purge":
        assert gone == {True: 0, False: 22 - 8}
    else:
        assert gone == {True: 8, False: 22 - 8}
    with_calls = {row["recall"] for row in rows["Missed"] if row["phone"] != ANONYMISED}
    for row in rows["Recall"]:
        assert (row["number"] is not None) == (row["id"] in with_calls), "a recall without its calls"
    assert ledger.purge(ALL, "admin", anonymise=how == "anonymise") == 21 - 8
    open_one = [row for row in everything(ledger)["Recall"] if row["number"] is not None]
    assert [row["number"] for row in open_one] == ["+493088"]
    assert ledger.purgeable(ALL, anonymise=how == "anonymise").total == 0


def test_how_far_it_is_is_told(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("freeswitch_callback.ledger.retention.BATCH", 2)
    for number in range(5):
        waiting(ledger, f"+{number}")
    ledger.close_recalls(ALL, "admin", ClosedAs.CANCELLED)
    seen: list[int] = []
    ledger.purge(ALL, "admin", anonymise=True, tell=seen.append)
    assert seen == [2, 4, 5]


def test_who_else_writes_to_an_sqlite_file_gets_in_between(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("freeswitch_callback.ledger.retention.BATCH", 1)
    for number in range(3):
        waiting(ledger, f"+{number}")
    ledger.close_recalls(ALL, "admin", ClosedAs.CANCELLED)
    pauses: list[float] = []
    monkeypatch.setattr("freeswitch_callback.ledger.ledger.gevent.sleep", pauses.append)
    ledger.purge(ALL, "admin")
    assert len(pauses) == (3 if ledger.path is not None else 0)
    assert all(pause > 0.1 for pause in pauses), "the longest for which SQLite sleeps before it looks again"


def test_after_a_vacuum_no_byte_of_it_is_left_in_the_files_of_sqlite(tmp_path: Path):
    path = tmp_path / "callback.db"
    with closing(Ledger(f"sqlite://{path}")) as ledger:
        ledger.migrate()
        for number in range(200):
            waiting(ledger, f"+4930555{number:04}")
            ledger.record(missed(phone=ANNA, caller_name="Anna", extra={"crm": "crm-4711" * 500}), opening())
        ledger.close_recalls(ALL, "admin", ClosedAs.CANCELLED, f"Anna {ANNA}")
        ledger.purge(ALL, "admin", anonymise=True)
        ledger.tidy(vacuum=True)
        found = b"".join(file.read_bytes() for file in tmp_path.iterdir())
        assert b"abandoned" in found
        assert [secret for secret in (b"30111111", b"4930555", b"Anna", b"crm-4711") if secret in found] == []
        assert ledger.summary().missed == 400


def test_a_vacuum_gives_the_room_back(ledger: Ledger, ledger_url: str):
    for number in range(300):
        extra = {"x": "y" * 4000, "z": os.urandom(2000).hex()}
        ledger.record(missed(phone=f"+{number}", extra=extra), opening(f"+{number}"))
    ledger.close_recalls(ALL, "admin", ClosedAs.CANCELLED)
    ledger.tidy(vacuum=False)
    before = ledger.size()
    ledger.purge(ALL, "admin")
    ledger.tidy(vacuum=False)
    kept = ledger.size()
    ledger.tidy(vacuum=True)
    assert ledger.size() < before / 2
    if ledger_url.startswith("sqlite"):
        assert kept > before / 2, "without it, it stays in the file"
        assert not list(ledger.path.parent.glob("*-wal")) or not (
            ledger.path.with_name(ledger.path.name + "-wal").stat().st_size
        )
    assert waiting(ledger).new
