"""Calls of a time in which FreeSWITCH ran and no engine did: `import-cdr` records each of them, once."""

from __future__ import annotations

import itertools
import json
import os
import re
import tracemalloc
from datetime import UTC, datetime, timedelta

import pytest

from freeswitch_callback.core.capture import CaptureRules
from freeswitch_callback.core.catchup import MEMBER
from freeswitch_callback.operations import cdr_files, cdr_import
from freeswitch_callback.simulator import Answers
from tests import cdrs, hostile
from tests.acceptance.conftest import CLIENT

OTHER = "+12025550177"


def ago(**time):
    return datetime.now(UTC) - timedelta(**time)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "json_cdr").mkdir()
    return tmp_path / "json_cdr"


def numbers(house, **wanted):
    return sorted(row["phone"] for row in house.rows() if all(row[k] == v for k, v in wanted.items()))


def test_the_calls_of_a_night_are_on_record_each_once(shell, house, folder):
    for hours, name in ((5, "abandoned"), (4, "queue_timeout"), (3, "answered"), (2, "recall_agent_first")):
        cdrs.write(folder, cdrs.record(name, ended=ago(hours=hours), phone=f"+1202555{hours}000"))
    status, out, err = shell("import-cdr", folder)
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "read: 4",
        "missed: 2 new, 2 of them to be called back; 0 on record already",
        "served: 1, recalls closed by them: 0",
        "not ours: 1",
        "not readable: 0",
    ]
    assert numbers(house, state="waiting") == ["+12025554000", "+12025555000"]
    assert "0 of them to be called back; 2 on record already" in shell("import-cdr", folder)[1]
    assert len(house.rows()) == 2


def test_the_files_stay_as_they_are(shell, folder):
    def listed():
        return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()}

    cdrs.write(folder, cdrs.record(ended=ago(hours=1)))
    (folder / "half.cdr.json").write_text('{"core-uuid":')
    before = listed()
    shell("import-cdr", folder)
    assert listed() == before


def test_a_dry_run_tells_and_changes_nothing(shell, house, folder):
    house.missed(call_uuid="known")
    cdrs.write(folder, cdrs.record(ended=ago(hours=1), uuid="known"))
    cdrs.write(folder, cdrs.record(ended=ago(hours=1)))
    cdrs.write(folder, cdrs.record("answered", ended=ago(minutes=1), phone=CLIENT))
    [told] = shell.json("import-cdr", folder, "--dry-run")
    assert told == {
        "read": 3, "missed": 1, "known": 1, "served": 1, "not_ours": 0, "too_old": 0, "unreadable": 0,
    }  # fmt: skip
    assert "1 would be new" in shell("import-cdr", folder, "--dry-run")[1]
    [row] = house.rows()
    assert (row["state"], row["hangup_cause"]) == ("waiting", "")


def test_a_client_who_was_answered_later_is_not_called(shell, house, folder):
    """The files are not in the order of the calls."""
    cdrs.write(folder, cdrs.record("answered", ended=ago(hours=1), phone=CLIENT, uuid="0"))
    cdrs.write(folder, cdrs.record(ended=ago(hours=2), phone=CLIENT, uuid="1"))
    shell("import-cdr", folder)
    [row] = house.rows()
    assert (row["closed_as"], row["recalloperator"]) == ("served_inbound", "1001@default")


def test_a_client_who_called_once_more_after_that_is(shell, house, folder):
    cdrs.write(folder, cdrs.record("answered", ended=ago(hours=1), phone=CLIENT))
    cdrs.write(folder, cdrs.record(ended=ago(hours=2), phone=CLIENT))
    cdrs.write(folder, cdrs.record(ended=ago(minutes=2), phone=CLIENT))
    for _ in range(2):
        shell("import-cdr", folder)
        assert sorted(row["state"] for row in house.rows()) == ["closed", "waiting"]


def test_a_client_whose_talk_was_imported_before_is_not_called(shell, house, folder):
    """No recall was open then, so none was closed by it."""
    cdrs.write(folder, cdrs.record("answered", ended=ago(hours=1), phone=CLIENT))
    shell("import-cdr", folder)
    assert house.rows() == []
    cdrs.write(folder, cdrs.record(ended=ago(hours=2), phone=CLIENT))
    assert "missed: 1 new, 0 of them to be called back" in shell("import-cdr", folder)[1]
    [row] = house.rows()
    assert (row["closed_as"], row["recalloperator"]) == ("served_inbound", "1001@default")


def test_nobody_is_called_because_of_last_month(shell, house, folder):
    cdrs.write(folder, cdrs.record(ended=ago(days=30)))
    assert "1 new, 0 of them to be called back" in shell("import-cdr", folder)[1]
    assert house.rows()[0]["closed_as"] == "expired"


def test_a_call_expires_a_day_after_its_end_and_not_after_its_import(shell, house, folder):
    ended = ago(hours=23).replace(microsecond=0)
    cdrs.write(folder, cdrs.record(ended=ended))
    shell("import-cdr", folder)
    expires_at = house.ledger.show(1)["recall"]["expires_at"]
    assert abs(expires_at - ended - timedelta(days=1)) < timedelta(seconds=10)


def test_since_leaves_out_what_is_older(shell, house, folder):
    cdrs.write(folder, cdrs.record(ended=ago(hours=3)))
    cdrs.write(folder, cdrs.record(ended=ago(hours=1), phone=OTHER))
    assert "older than asked for: 1" in shell("import-cdr", folder, "--since", "2h")[1]
    assert numbers(house) == [OTHER]


def test_the_row_of_the_catch_up_becomes_the_calls(shell, house, folder):
    cdr = cdrs.record(ended=ago(minutes=20), phone=CLIENT)
    member, left = (cdr["variables"][name] for name in ("cc_member_uuid", "cc_queue_canceled_epoch"))
    house.missed(call_uuid=f"{MEMBER}{member}:{left}", member_uuid=member, calldate=ago(minutes=21))
    cdrs.write(folder, cdr)
    shell("import-cdr", folder)
    [row] = house.rows()
    assert (row["id"], row["call_uuid"], row["calledid"]) == (1, cdr["variables"]["uuid"], "3000")
    assert row["calldate"] == cdrs.started(cdr)


def test_the_row_of_the_catch_up_is_taken_back_if_somebody_answered(shell, house, folder):
    """It timed out of one queue, and was answered in the next, which leaves no row there."""
    cdr = cdrs.record("overflow_answered", ended=ago(minutes=20), phone=CLIENT)
    left = cdr["variables"]["cc_queue_canceled_epoch"]
    house.missed(call_uuid=f"{MEMBER}first:{left}", member_uuid="first", calldate=ago(minutes=21))
    cdrs.write(folder, cdr)
    shell("import-cdr", folder)
    assert house.rows() == []


# --- what is wrong ------------------------------------------------------------------------------------------


def test_what_cannot_be_read_is_named_and_the_rest_is_imported(shell, house, folder):
    (folder / "half.cdr.json").write_bytes(cdrs.as_json(cdrs.record())[:500])
    (folder / "a\x1b[2J.cdr.json").write_text("")
    (folder / "secret.cdr.json").symlink_to("/proc/self/mem")
    (folder / "gone.cdr.json").symlink_to(folder / "nowhere")
    cdrs.write(folder, cdrs.record(ended=ago(hours=1)))
    status, out, err = shell("import-cdr", folder)
    assert status == 1
    assert re.search(r"half\.cdr\.json: not JSON, or cut off: ", err)
    assert "a\N{REPLACEMENT CHARACTER}[2J.cdr.json: empty" in err
    assert "secret.cdr.json: cannot be read: " in err
    assert "not readable: 3" in out
    assert len(house.rows()) == 1


def test_the_first_twenty_of_them_are_named(shell, folder):
    for number in range(25):
        (folder / f"{number}.json").write_text("{")
    status, _, err = shell("import-cdr", folder)
    assert (status, err.count("not JSON")) == (1, 20)
    assert "and 5 more that cannot be read" in err


def test_a_mistaken_path_is_a_matter_of_usage(shell, folder):
    for words in (["import-cdr"], ["import-cdr", folder / "nowhere"], ["import-cdr", "/dev/null"]):
        assert shell(*words)[0] == 2


def test_whose_files_they_are_is_asked_if_it_is_not_clear(shell, house, folder):
    cdrs.write(folder, cdrs.record(ended=ago(hours=1)))
    shell.path.write_text(
        shell.path.read_text().replace(
            "freeswitch = [{ ", 'freeswitch = [{ name = "fs2", password = "x" }, { '
        )
    )
    status, _, err = shell("import-cdr", folder)
    assert status == 2
    assert "--node; there are fs2, fs1" in err
    assert shell("import-cdr", folder, "--node", "fs3")[0] == 2
    assert shell("import-cdr", folder, "--node", "fs2")[0] == 0
    assert [row["node"] for row in house.rows()] == ["fs2"]


def test_what_strangers_send_is_recorded_and_never_called(shell, house, folder):
    values = [value for value in hostile.EVERYTHING if value != "\ud800"]
    for value in values:
        cdr = cdrs.record(ended=ago(hours=1), phone=value)
        cdr["callflow"][-1]["caller_profile"]["caller_id_name"] = value
        cdrs.write(folder, cdr)
    assert shell("import-cdr", folder)[0] == 0
    rows = house.rows()
    assert len(rows) == len(values)
    assert {row["number"] for row in rows if row["state"] == "waiting"} <= {
        "+493012345", "+4930123456", hostile.OWN, None,
    }  # fmt: skip


# --- stopped, and run again ---------------------------------------------------------------------------------


def test_an_import_that_was_stopped_at_any_call_is_made_good_by_the_next(shell, house, folder, monkeypatch):
    cdrs.write(folder, cdrs.record("answered", ended=ago(hours=2), phone="+12025550101"))
    for number in range(5):
        cdrs.write(folder, cdrs.record(ended=ago(hours=3, minutes=number), phone=f"+1202555010{number}"))
    take_in = cdr_import.take_in
    for stop_after in range(7):
        done = []

        def stopped(*words, done=done, stop_after=stop_after):
            if len(done) == stop_after:
                raise KeyboardInterrupt
            done.append(take_in(*words))

        monkeypatch.setattr(cdr_import, "take_in", stopped)
        assert shell("import-cdr", folder)[0] == (1 if stop_after < 6 else 0)
    assert numbers(house) == [f"+1202555010{number}" for number in range(5)]
    assert numbers(house, closed_as="served_inbound") == ["+12025550101"]


def test_many_calls_cost_no_memory(folder):
    call = cdr_files.read(str(cdrs.write(folder, cdrs.record())), "fs1", CaptureRules())
    tracemalloc.start()
    assert sum(1 for _ in cdr_import.by_start(itertools.repeat(call, 30_000), in_memory=1 << 20)) == 30_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 << 20  # they take 20 MB


def test_a_large_file_is_not_read_to_its_end(folder, shell):
    with (folder / "huge.json").open("wb") as file:
        os.truncate(file.fileno(), 1 << 40)
    tracemalloc.start()
    status, _, err = shell("import-cdr", folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (status, "larger than 2 MB" in err) == (1, True)
    assert peak < 10 * cdr_files.LARGEST


def test_the_summary_is_for_programs_too(shell, folder):
    cdrs.write(folder, cdrs.record(ended=ago(hours=1)))
    status, out, _ = shell("import-cdr", folder, "--format", "csv")
    assert status == 0
    assert out.splitlines()[0] == ("read,missed,to_call,known,served,closed,not_ours,too_old,unreadable")
    assert json.loads(shell("import-cdr", folder, "--format", "json")[1])["known"] == 1


# --- the engine watches -------------------------------------------------------------------------------------


def test_engines_call_back_whom_only_a_cdr_tells_of_and_once(house, folder):
    house.sim.client(OTHER, Answers(after=0.02, talks=0.1))
    house.missed(phone=OTHER, call_uuid="heard")
    cdrs.write(folder, cdrs.record(ended=ago(minutes=5), phone=CLIENT))
    cdrs.write(folder, cdrs.record(ended=ago(minutes=5), phone=OTHER, uuid="heard"))
    house.cdr_folders = {"fs1": (str(folder),)}
    house.engine()
    house.engine()
    house.until(lambda: len(house.rows()) == 2 and all(row["hangup_cause"] for row in house.rows()))
    house.free()
    house.until(lambda: all(row["closed_as"] == "recalled" for row in house.rows()))
    assert sorted(dialled.number for dialled in house.sim.dialled) == sorted([CLIENT, OTHER])
