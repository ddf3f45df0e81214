"""The recorder while the database is away: what happens is on disk, and comes to the database in order."""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import gevent
import pytest
from gevent.event import Event as Flag
from structlog.testing import capture_logs

from freeswitch_callback.core.capture import CaptureRules
from freeswitch_callback.core.facts import Missed, Reached, Reason, Served
from freeswitch_callback.core.gates import GateRules
from freeswitch_callback.engine import recorder as module
from freeswitch_callback.engine.recorder import Recorder
from freeswitch_callback.errors import DatabaseUnreachable, SchemaTooOld
from freeswitch_callback.ledger import Filter, Ledger, Told
from freeswitch_callback.ledger.spool import Spool, encode
from tests import recordings

NOW = datetime.now(UTC)
ANNA = "+12025550100"


@pytest.fixture
def ledger(ledger_url):
    with closing(Ledger(ledger_url)) as ledger:
        yield ledger


@pytest.fixture
def path(tmp_path):
    return tmp_path / "spool" / "fs1.spool"


@pytest.fixture
def spool(path):
    with closing(Spool(path)) as spool:
        yield spool


class Away:
    """Every transaction fails while `error` is set; `lets` so many through before it does. `written`: the
    missed calls that were told to the database, and told to it again."""

    def __init__(self, monkeypatch):
        self.error = None
        self.lets = 0
        self.written = []
        take_all = Ledger.take_all

        def call(ledger, tellings):
            if self.error is not None:
                if not self.lets:
                    raise self.error
                self.lets -= 1
            outcomes = take_all(ledger, tellings)
            self.written += [telling.missed.call_uuid for telling in tellings if isinstance(telling, Told)]
            return outcomes

        monkeypatch.setattr(Ledger, "take_all", call)


@pytest.fixture
def away(monkeypatch):
    away = Away(monkeypatch)
    away.error = DatabaseUnreachable("the database is away")
    return away


def recorder(ledger, spool, woken=lambda: None, stopping=None):
    gates = GateRules(min_wait=0.0)
    return Recorder(
        "fs1", ledger, CaptureRules(), lambda queue: gates, woken, stopping or Flag(), spool=spool,
        min_talk=lambda queue: 10.0, remember_agent=lambda queue: True,
    )  # fmt: skip


def pick(monkeypatch, *refused, error=ValueError):
    """No database takes these calls, nor what it is told together with them."""
    take_all = Ledger.take_all

    def picky(self, tellings):
        if any(telling.missed.call_uuid in refused for telling in tellings):
            raise error("nobody knows why")
        return take_all(self, tellings)

    monkeypatch.setattr(Ledger, "take_all", picky)


@contextmanager
def draining(recorded):
    """With the greenlet that drains; it is over when the spool is empty, and that has been said."""
    greenlet = gevent.spawn(recorded.drain)
    try:
        yield
        with gevent.Timeout(20):
            while recorded.behind and not greenlet.ready():
                gevent.idle()
    finally:
        recorded._stopping.set()
        greenlet.get(timeout=10)


def rows(ledger):
    return sorted(ledger.listing(Filter()), key=lambda row: row["id"])


def missed(number=1, phone=ANNA, **said):
    given = {"calldate": NOW, "timewait": 30, "queue": "support@default", "reason": Reason.ABANDONED}
    return Missed(node="fs1", call_uuid=f"c{number}", phone=phone, **(given | said))


def served(number, at=NOW):
    return Served("fs1", f"c{number}", ANNA, "support@default", "1001@default", at)


def test_while_the_database_answers_the_spool_is_not_touched(ledger, spool, path):
    before = path.stat().st_mtime_ns
    recorded = recorder(ledger, spool)
    for event in recordings.events("abandoned"):
        recorded.feed(event)
    assert len(rows(ledger)) == 1
    assert (path.stat().st_mtime_ns, recorded.behind) == (before, 0)


def test_with_the_database_away_events_are_taken_in_and_their_calls_are_there_afterwards(ledger, spool, away):
    woken = []
    recorded = recorder(ledger, spool, lambda: woken.append(True))
    for name in ("abandoned", "intercepted_from_the_queue", "abandoned_while_ringing"):
        for event in recordings.events(name):
            recorded.feed(event)  # and does not wait
    assert (rows(ledger), woken) == ([], [])
    away.error = None
    with draining(recorded):
        pass
    assert [row["reason"] for row in rows(ledger)] == ["abandoned", "abandoned"]
    assert woken


def test_it_says_so(ledger, spool, away):
    recorded = recorder(ledger, spool)
    with capture_logs() as said:
        for number in range(3):
            recorded.take(missed(number))
        away.error = None
        with draining(recorded):
            pass
    told = [(entry["event"], entry["log_level"]) for entry in said if entry["event"].startswith("spool")]
    assert told == [("spooling", "info"), ("spool_drained", "info")]
    assert next(entry for entry in said if entry["event"] == "spool_drained")["facts"] == 3


def test_what_comes_while_something_waits_goes_behind_it(ledger, spool, away):
    recorded = recorder(ledger, spool)
    recorded.take(missed(1))
    away.error = None
    recorded.take(missed(2))  # the database is there again, and may not be asked before the first is in it
    assert (away.written, recorded.behind) == ([], 2)
    with draining(recorded):
        pass
    recorded.take(missed(3))
    assert away.written == ["c1", "c2", "c3"]


def test_a_second_time_away_is_as_the_first(ledger, spool, away):
    recorded = recorder(ledger, spool)
    with draining(recorded):
        for number in range(2):
            away.error = DatabaseUnreachable("the database is away")
            gevent.idle()  # who drains has nothing to do, and waits
            recorded.take(missed(number))
            away.error = None
            with gevent.Timeout(10):
                while recorded.behind:
                    gevent.idle()
    assert [row["call_uuid"] for row in rows(ledger)] == ["c0", "c1"]


def test_what_goes_on_coming_while_it_drains_keeps_its_order(ledger, spool, away):
    recorded = recorder(ledger, spool)
    for number in range(40):
        recorded.take(missed(number))
    away.error = None
    with draining(recorded):
        for number in range(40, 80):
            recorded.take(missed(number))
            gevent.idle()
    assert away.written == [f"c{number}" for number in range(80)]


def test_when_the_database_goes_away_in_mid_drain_nothing_is_lost_or_told_twice(
    ledger, spool, path, away, monkeypatch
):
    monkeypatch.setattr(module, "_BATCH", 4)
    recorded = recorder(ledger, spool)
    for number in range(11):
        recorded.take(missed(number))
    for lets in (1, 0, 1):
        away.lets = lets
        recorded.finish()
    assert recorded.behind == 3
    away.error = None
    recorded.finish()
    assert away.written == [f"c{number}" for number in range(11)]


def test_what_an_earlier_run_left_is_drained_first(ledger, path, away):
    with closing(Spool(path)) as earlier:
        recorder(ledger, earlier).take(missed(1))
    away.error = None
    with closing(Spool(path)) as spool:
        recorded = recorder(ledger, spool)
        recorded.take(missed(2))
        with draining(recorded):
            pass
    assert [row["call_uuid"] for row in rows(ledger)] == ["c1", "c2"]


def test_a_crash_in_mid_drain_repeats_what_was_read_last_and_changes_nothing_by_it(ledger, path, away):
    story = [
        missed(1, settled=False), missed(1), missed(2, reason=Reason.TIMEOUT), served(3),
        missed(4, calldate=NOW + timedelta(minutes=5)), missed(5, settled=False), served(5),
    ]  # fmt: skip
    away.error = None
    for repeated in range(len(story) + 1):
        for row in rows(ledger):
            ledger.retract("fs1", row["call_uuid"])
        with closing(Spool(path)) as spool:
            spool.append(*story)
            recorded = recorder(ledger, spool)
            for fact in story[:repeated]:
                recorded._write([fact])  # in the database, and the crash comes before the spool knows
            recorded.finish()
        told = [(row["call_uuid"], row["state"], row["closed_as"]) for row in rows(ledger)]
        assert told == [("c1", "closed", "served_inbound"), ("c2", "closed", "served_inbound"),
                        ("c4", "waiting", None)]  # fmt: skip
        ledger.close_recalls(Filter(), "test", "cancelled")
        ledger.purge(Filter(), "test")


def test_a_database_that_is_not_ours_yet_is_away_too(ledger, spool, away):
    """While an engine starts, before the tables are there."""
    away.error = SchemaTooOld("migrate")
    recorded = recorder(ledger, spool)
    recorded.take(missed(1))
    recorded.finish()
    assert recorded.behind == 1


def test_one_fact_that_no_database_will_ever_take_does_not_hold_up_the_others(
    ledger, spool, path, away, monkeypatch
):
    recorded = recorder(ledger, spool)
    for number in range(3):
        recorded.take(missed(number))
    away.error = None
    pick(monkeypatch, "c1")
    with capture_logs() as said:
        recorded.finish()
    assert [row["call_uuid"] for row in rows(ledger)] == ["c0", "c2"]
    assert path.with_name("fs1.spool.damaged").read_bytes() == encode(missed(1))
    assert [entry["call_uuid"] for entry in said if entry["event"] == "spool_fact_refused"] == ["c1"]


def test_with_the_spool_full_it_waits_and_loses_nothing(ledger, path, away):
    with closing(Spool(path, limit_bytes=2 * len(encode(missed(0))))) as spool:
        recorded = recorder(ledger, spool)
        recorded.take(missed(0))
        recorded.take(missed(1))
        waiting = gevent.spawn(recorded.take, missed(2))
        gevent.idle()
        assert not waiting.ready()
        away.error = None
        with draining(recorded):
            waiting.get(timeout=10)
    assert [row["call_uuid"] for row in rows(ledger)] == ["c0", "c1", "c2"]


def test_with_the_spool_full_as_well_a_stopping_engine_says_that_it_could_not(ledger, path, away):
    stopping = Flag()
    stopping.set()
    with closing(Spool(path, limit_bytes=10)) as spool:
        recorded = recorder(ledger, spool, stopping=stopping)
        with pytest.raises(DatabaseUnreachable, match=r"the database is away; and the spool .* is full"):
            recorded.take(missed(1))


# --- told late ---------------------------------------------------------------------------------------------


def test_whoever_was_served_before_they_called_again_is_called_back(ledger):
    """The talk is told late, or again: the call that came after it is not what it was about."""
    recorded = recorder(ledger, None)
    recorded.take(missed(1, calldate=NOW))
    recorded.take(served(2, NOW - timedelta(seconds=1)))
    assert [row["state"] for row in rows(ledger)] == ["waiting"]
    recorded.take(served(2, NOW + timedelta(seconds=1)))
    assert [row["closed_as"] for row in rows(ledger)] == ["served_inbound"]


def test_whoever_was_reached_before_they_called_again_is_called_back(ledger):
    recorded = recorder(ledger, None)
    recorded.take(missed(1, calldate=NOW))
    recorded.take(missed(2, calldate=NOW - timedelta(minutes=1)))
    talk = Reached("fs1", "c3", ANNA, "1001@default", "default", NOW - timedelta(seconds=1), 60.0)
    recorded.take(talk)
    assert [row["state"] for row in rows(ledger)] == ["waiting", "waiting"]
    recorded.take(replace(talk, at=NOW + timedelta(seconds=1)))
    assert {row["closed_as"] for row in rows(ledger)} == {"served_outbound"}


def test_of_two_talks_the_later_one_is_remembered_however_late_the_other_is_told(ledger):
    recorded = recorder(ledger, None)
    recorded.take(replace(served(1, NOW), operator="1002@default"))
    recorded.take(served(2, NOW - timedelta(minutes=1)))
    recorded.take(missed(3))
    [due] = ledger.due(None, 10)
    assert due.last_agent == "1002@default"


# --- a burst -----------------------------------------------------------------------------------------------


def heard(recorded, *facts):
    recorded._told += facts


def test_what_a_burst_told_is_written_in_one_transaction_and_a_call_that_was_told_twice_once(ledger, away):
    away.error = None
    recorded = recorder(ledger, None)
    heard(recorded, missed(1, settled=False, operator="1001"), missed(2), missed(1, timewait=31), served(3))
    recorded.put()
    assert away.written == ["c1", "c2"]
    assert [(row["operator"], row["timewait"]) for row in rows(ledger)] == [("1001", 31), (None, 30)]


def test_what_was_taken_back_in_between_is_told_again(ledger):
    recorded = recorder(ledger, None)
    heard(recorded, missed(1, settled=False), served(1, NOW - timedelta(minutes=1)), missed(1))
    recorded.put()
    assert [(row["call_uuid"], row["state"]) for row in rows(ledger)] == [("c1", "waiting")]


def test_one_fact_that_no_database_takes_is_left_out_of_a_burst(ledger, monkeypatch):
    pick(monkeypatch, "c1")
    recorded = recorder(ledger, None)
    heard(recorded, *map(missed, range(4)))
    with capture_logs() as said:
        recorded.put()
        recorded.feed(recordings.events("abandoned")[0])
    assert [row["call_uuid"] for row in rows(ledger)] == ["c0", "c2", "c3"]
    assert [entry["call_uuid"] for entry in said if entry["event"] == "not_recorded"] == ["c1"]


def test_a_bug_of_ours_costs_the_fact_that_shows_it_and_no_other(ledger, monkeypatch):
    pick(monkeypatch, "c1", error=TypeError)
    recorded = recorder(ledger, None)
    heard(recorded, *map(missed, range(4)))
    for _ in range(2):
        with pytest.raises(TypeError):
            recorded.put()
    recorded.put()  # as after the next event
    assert [row["call_uuid"] for row in rows(ledger)] == ["c0", "c2", "c3"]


def test_with_the_database_away_a_burst_goes_to_the_spool_whole_and_in_order(ledger, spool, away):
    recorded = recorder(ledger, spool)
    heard(recorded, *map(missed, range(150)))
    recorded.put()
    assert recorded.behind == 150
    assert [fact.call_uuid for fact in spool.oldest(200)] == [f"c{number}" for number in range(150)]


def test_what_was_heard_before_the_end_is_put_on_disk(ledger):
    recorded = recorder(ledger, None)
    heard(recorded, missed(1))
    recorded.finish()
    assert [row["call_uuid"] for row in rows(ledger)] == ["c1"]
