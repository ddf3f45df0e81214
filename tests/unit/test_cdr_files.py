"""The files of mod_json_cdr: all that its settings can make of a record, and all that is none."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as some

from freeswitch_callback.core.capture import CaptureRules
from freeswitch_callback.core.facts import Missed, Reason
from freeswitch_callback.core.gates import GateRules, opening
from freeswitch_callback.core.hours import Hours, Window
from freeswitch_callback.core.numbers import NumberRules
from freeswitch_callback.errors import ProtocolError, UsageError
from freeswitch_callback.operations import cdr_files, cdr_import
from freeswitch_callback.operations.cdr_files import Call, Unreadable
from tests import cdrs, hostile, recordings

RULES = CaptureRules(variables=("sip_Remote-Party-ID", "crm_id"))


def call_in(raw: bytes, folder: Path) -> Call | None:
    path = folder / "a.cdr.json"
    path.write_bytes(raw)
    return cdr_files.read(str(path), "fs1", RULES)


def as_it_is(cdr: dict[str, Any]) -> dict[str, Any]:
    """As without `encode-values`."""
    return cdr | {"variables": {name: unquote(value) for name, value in cdr["variables"].items()}}


@pytest.mark.parametrize("form", [cdrs.as_json, cdrs.as_base64, cdrs.as_form, cdrs.as_post])
@pytest.mark.parametrize("values", [dict, as_it_is])
@pytest.mark.parametrize("name", recordings.CDRS)
def test_whatever_the_settings_a_record_tells_the_same(name, values, form, tmp_path):
    cdr = recordings.cdr(name)
    assert call_in(form(values(cdr)), tmp_path) == call_in(cdrs.as_json(cdr), tmp_path)


def test_a_percent_sign_that_was_not_encoded_is_one(tmp_path):
    cdr = as_it_is(cdrs.record()) | {}
    cdr["variables"]["crm_id"] = "100%25 of %41"
    assert call_in(cdrs.as_json(cdr), tmp_path).fact.extra["crm_id"] == "100%25 of %41"
    cdr = cdrs.record(crm_id="100%25")
    assert call_in(cdrs.as_json(cdr), tmp_path).fact.extra["crm_id"] == "100%"


def test_a_quote_in_a_value_is_no_quote_around_one(tmp_path):
    cdr = cdrs.record(crm_id=cdrs.escaped('say "hi", "you"'))
    assert call_in(cdrs.as_form(cdr), tmp_path).fact.extra["crm_id"] == 'say "hi", "you"'


@pytest.mark.parametrize("name", ["uuid", "cc_queue_joined_epoch", "end_epoch"])
def test_a_caller_cannot_replace_a_variable_by_what_they_send(name, tmp_path):
    for value in (f'x","{name}":"1', f'x"y","{name}":"1'):
        cdr = cdrs.record()
        for variable, was in cdr["variables"].items():  # nothing else that makes it look broken
            cdr["variables"][variable] = was.replace("%22", "").replace("%5C", "")
        cdr["variables"]["crm_id"] = cdrs.escaped(value)
        with pytest.raises(ProtocolError, match="twice"):
            call_in(cdrs.as_form(cdr), tmp_path)


@pytest.mark.parametrize("form", [cdrs.as_json, cdrs.as_base64, cdrs.as_post])
def test_half_a_record_is_none(form, tmp_path):
    whole = form(cdrs.record())
    for length in range(0, len(whole.rstrip()), 97):
        with pytest.raises(ProtocolError):
            cdr_files.decode(whole[:length])


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "empty"),
        (b"\n\x00", "empty"),
        (b"hello, world", "neither JSON"),
        (b"\xff\xd8\xff\xe0 a picture", "neither JSON"),
        ("{}".encode("utf-16"), "neither JSON"),
        (b"eyJ", "neither JSON"),
        (b"[" * 100_000, "neither JSON"),
        (b'{"a":' * 100_000, "not JSON, or cut off"),
        (b'{"a":' + b"9" * 5000 + b"}", "not JSON, or cut off"),
        (b"{} {}", "not JSON, or cut off"),
        (b"e30=", "not a record"),
        (b"{}", "not a record"),
        (b'{"variables":[],"callflow":{}}', "not a record"),
        (b'{"variables":{"uuid":"1"},"callflow":[{}]}', "not a record"),
        (b"%7B%7D", "not a record"),
        (b"cdr=", "empty"),
        (b" " * (cdr_files.LARGEST + 1), "larger than 2 MB"),
    ],
)
def test_what_is_no_record_is_said_in_one_line(raw, why, tmp_path):
    with pytest.raises(ProtocolError, match=why) as told:
        call_in(raw, tmp_path)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("end", ["1e300", "nan", "-1e300"])
@pytest.mark.parametrize("name", ["abandoned", "answered"])
def test_an_end_that_no_clock_can_show_is_none(name, end, tmp_path):
    with pytest.raises(ProtocolError, match="not a record"):
        call_in(cdrs.as_json(cdrs.record(name, end_epoch=end)), tmp_path)


@pytest.mark.parametrize("value", hostile.EVERYTHING)
def test_what_strangers_send_is_kept_as_it_came(value, tmp_path):
    cdr = cdrs.record(phone=value)
    cdr["callflow"][-1]["caller_profile"]["caller_id_name"] = value
    if value == "\ud800":
        value = "\udced\udca0\udc80"  # no text has that; these are the bytes of it
        cdr = json.loads(json.dumps(cdr).replace(json.dumps("\ud800"), json.dumps(value)))
    fact = call_in(cdrs.as_json(cdr), tmp_path).fact
    assert (fact.phone, fact.caller_name) == (value, value)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inside:
        yield from leaves(item, (*path, key))


RECORD = recordings.cdr("overflow_answered")
ODD = some.sampled_from(
    [
        None,
        True,
        0,
        -1,
        10**400,
        1e308,
        "",
        "x",
        "-1",
        "nan",
        "inf",
        "1e400",
        "9" * 30,
        "9" * 5000,
        [],
        {},
        ["x"],
    ]
)


@given(some.lists(some.tuples(some.sampled_from(sorted(leaves(RECORD), key=str)[1:]), ODD), max_size=3))
def test_odd_values_at_any_place_give_a_call_or_are_refused(tmp_path_factory, changes):
    cdr = copy.deepcopy(RECORD)
    for path, odd in changes:
        place: Any = cdr
        try:
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = odd
        except (KeyError, TypeError, IndexError):
            continue  # gone with an earlier change
    try:
        call_in(cdrs.as_json(cdr), tmp_path_factory.getbasetemp())
    except ProtocolError:
        pass


# --- where the files are ------------------------------------------------------------------------------------


def test_folders_are_read_with_all_below_and_files_whatever_they_are_called(tmp_path):
    (tmp_path / "2026-11-22" / "b").mkdir(parents=True)
    (tmp_path / "2026-11-22" / "b" / "loop").symlink_to(tmp_path)
    for name in ("1.cdr.json", "2026-11-22/a_2.cdr.json", "2026-11-22/b/3.json", "4.xml", "5.json.part"):
        (tmp_path / name).touch()
    os.mkfifo(tmp_path / "fifo.json")
    found = sorted(cdr_files.find([str(tmp_path), str(tmp_path / "4.xml")]))
    assert found == sorted(
        str(tmp_path / name)
        for name in ("1.cdr.json", "2026-11-22/a_2.cdr.json", "2026-11-22/b/3.json", "4.xml")
    )


def test_a_path_that_is_not_there_is_a_mistake_of_who_typed_it(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "nowhere", tmp_path / "fifo", "a\0b"):
        with pytest.raises(UsageError):
            cdr_files.find([str(path)])


def test_a_file_that_goes_away_meanwhile_is_told(tmp_path):
    with pytest.raises(ProtocolError, match="cannot be read: No such file"):
        cdr_files.read(str(tmp_path / "gone.json"), "fs1", RULES)


def test_a_folder_that_cannot_be_listed_is_told(tmp_path):
    [told] = cdr_files.walk([str(tmp_path / "nowhere")])
    assert told == Unreadable(str(tmp_path / "nowhere"), "cannot be listed: No such file or directory")


# --- in order -----------------------------------------------------------------------------------------------


def some_call(hour: float) -> Call:
    start = cdrs.started(recordings.cdr("abandoned"))
    at = start.replace(hour=0, minute=0) + (start - start.replace(hour=int(hour)))
    fact = Missed("fs1", f"call-{hour}", "+1", at, 1, None)  # type: ignore[arg-type]
    return Call(fact, at, at, ())


@pytest.mark.parametrize("in_memory", [1, 1000, 1 << 20])
def test_calls_come_in_the_order_in_which_they_began(in_memory):
    calls = [some_call(hour) for hour in (5, 1, 20, 3, 4, 23, 2, 1, 0, 9) * 5]
    before = len(os.listdir("/proc/self/fd"))
    ordered = list(cdr_import.by_start(iter(calls), in_memory))
    assert ordered == sorted(calls, key=lambda call: call.started)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_call_that_is_still_to_come_is_none(tmp_path):
    ended = cdrs.started(recordings.cdr("abandoned"))
    path = cdrs.write(tmp_path, cdrs.record(ended=ended.replace(year=2999)))
    reader = cdr_import.Reader("fs1", RULES, ended)
    [told] = reader.calls([str(path)])
    assert told.why == "a call of 2999-11-22, which is still to come"
    assert reader.counted.unreadable == 1


def test_a_call_expires_as_if_it_had_been_recorded_at_its_end():
    """On a Friday evening, an hour before the calling hours end, and imported on Monday morning."""
    hours = Hours((Window(frozenset(range(5)), 9 * 60, 20 * 60),))
    rules = GateRules(hours=hours, zone="UTC", numbers=NumberRules(zones=(("US", "UTC"),)))
    ended = datetime(2026, 11, 20, 19, 0, tzinfo=UTC)
    now = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
    call = Missed("fs1", "u", "+12025550100", ended, 60, Reason.ABANDONED, queue="support@default")
    plan = cdr_import.opening_of(call, ended, rules, now)
    assert (plan.blocked, plan.delay, plan.look_in) == (None, 0.0, 0.0)
    assert now + timedelta(seconds=plan.expire) == datetime(2026, 11, 25, 10, 0, tzinfo=UTC)
    assert plan == replace(opening(call, rules, now), expire=plan.expire)
    later = cdr_import.opening_of(call, ended, rules, now + timedelta(days=30))
    assert later.expire < 0
